"""Checks of batches: the first bad position, in one sentence."""

from typing import Any

import numpy as np

from rnnlab import _check
from rnnlab.data.batch import Batch


def check_batch(
    batch: Batch, *, vocabulary_size: int | None = None, classes: int | None = None
) -> None:
    """ValueError for the first fault of ``batch``: its place, what is there, and what must be.

    Steps beyond an example's length and targets that the mask leaves out may hold anything.

    >>> import numpy as np
    >>> check_batch(Batch(np.array([[3], [9]]), np.array([0])), vocabulary_size=9)
    Traceback (most recent call last):
        ...
    ValueError: xs[1, 0] is 9; a code must lie in 0..8

    Args:
        batch: arrays of NumPy or JAX, not traced.
        vocabulary_size: V, where xs are codes 0..V−1; None leaves their upper end open.
        classes: the number of labels, where targets are labels; None leaves their upper end open.

    Raises:
        ValueError: for anything but a batch; shapes that do not fit; codes and labels that are
            negative or too large; NaN and infinity; lengths outside of 0..T; marks that are not 0
            or 1; and a mask that leaves out every target.
    """
    check_is_batch(batch)
    xs = as_array("xs", batch.xs)
    if xs.ndim not in (2, 3) or 0 in xs.shape:
        raise ValueError(
            f"xs has shape {xs.shape}; it must be codes [T, B] or vectors [T, B, I], none of them 0"
        )
    steps, count = xs.shape[:2]
    valid = np.ones((steps, count), bool)
    if batch.lengths is not None:
        lengths = as_array("lengths", batch.lengths)
        _check_shape("lengths", lengths, (count,))
        check_codes("lengths", lengths, steps + 1, kind="a length")
        valid = np.arange(steps)[:, None] < lengths
    if batch.resets is not None:
        _flags("resets", batch.resets, (steps, count))
    if xs.ndim == 2:
        check_codes("xs", xs, vocabulary_size, valid)
    else:
        check_finite("xs", xs, valid)
    _check_targets(batch, count, classes)


def check_ranges(batch: Batch, *, codes: int | None = None, labels: int | None = None) -> None:
    """ValueError for the first code, label or length of ``batch`` that is out of range.

    Shapes and numbers are not checked, and neither is what lengths or mask leave out.

    Args:
        batch: arrays of NumPy or JAX, not traced.
        codes: the number of symbols, where xs are codes; None for vectors.
        labels: the number of labels, where targets are labels; None for numbers.
    """
    xs = as_array("xs", batch.xs)
    valid = None
    if batch.lengths is not None:
        lengths = as_array("lengths", batch.lengths)
        check_codes("lengths", lengths, len(xs) + 1, kind="a length")
        valid = np.arange(len(xs))[:, None] < lengths
    if codes is not None:
        check_codes("xs", xs, codes, valid)
    if labels is None:
        return
    targets = as_array("targets", batch.targets)
    counts = None
    for counted in (valid, batch.mask):
        if counted is not None and np.shape(counted) == targets.shape:
            counted = np.asarray(counted).astype(bool)
            counts = counted if counts is None else counts & counted
    check_codes("targets", targets, labels, counts, kind="a label")


def check_is_batch(batch: Any) -> None:
    """ValueError for anything but a :class:`Batch`."""
    if not isinstance(batch, Batch):
        raise ValueError(
            f"batch is {_check.outline(batch)}; give rnnlab.data.Batch(xs, targets) with time first"
        )


def _check_targets(batch: Batch, count: int, classes: int | None) -> None:
    if batch.targets is None:
        raise ValueError("targets is None; give an array, of zeros where a loss needs none")
    targets = as_array("targets", batch.targets)
    per_sequence = targets.shape[:1] == (count,)
    per_step = targets.ndim >= 2 and targets.shape[1] == count
    check_time_first(np.shape(batch.xs), targets.shape)
    if not (per_sequence or per_step) or targets.ndim > 3 or 0 in targets.shape:
        raise ValueError(
            f"targets has shape {targets.shape}; it must be [T, {count}] or [T, {count}, O] for "
            f"each step, [{count}] or [{count}, O] for each sequence"
        )
    shape = targets.shape[: 2 if per_step else 1]
    counts = np.ones(shape, bool)
    if batch.mask is not None:
        if per_step and per_sequence:
            # Only the mask tells [T, B] from [B, O] where all are equal.
            shape = targets.shape[: np.ndim(batch.mask)]
        counts = _flags("mask", batch.mask, shape)
        if not counts.any():
            raise ValueError("mask leaves out every target; at least one must count")
    has_features = targets.ndim > counts.ndim
    is_label = np.issubdtype(targets.dtype, np.integer) and not has_features
    if classes is not None and not is_label:
        raise ValueError(
            f"targets is {targets.dtype}{list(targets.shape)}, but labels are integers without a "
            "last axis of features; leave out classes"
        )
    if is_label:
        check_codes("targets", targets, classes, counts, kind="a label")
    else:
        check_finite("targets", targets, counts)


def check_time_first(xs: tuple[int, ...], targets: tuple[int, ...]) -> None:
    """ValueError where the shapes show that the first axis of xs is that of the examples.

    So it is where there are as many targets as xs have steps, and not as many as examples.
    """
    if len(xs) < 2 or not targets:
        return
    steps, count = xs[:2]
    if targets[0] == steps != count and targets[1:2] != (count,):
        raise ValueError(
            f"xs has shape {xs}, which is {count} sequences of {steps} steps, since time is the "
            f"first axis, but targets has shape {targets}; if there are {steps} sequences, give "
            "xs.swapaxes(0, 1)"
        )


def check_codes(
    name: str,
    codes: np.ndarray,
    size: int | None = None,
    counts: np.ndarray | None = None,
    kind: str = "a code",
) -> None:
    """ValueError for the first of ``codes`` outside of 0..size − 1 where ``counts``."""
    if not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(f"{name} is {codes.dtype}; {kind} must be an integer")
    if size is not None:
        _check.positive_int("the number of codes", size)
    is_bad = codes < 0
    if size is not None:
        is_bad = is_bad | (codes >= size)
    if counts is not None:
        is_bad = is_bad & counts
    if is_bad.any():
        place = _first(is_bad)
        span = "be at least 0" if size is None else f"lie in 0..{size - 1}"
        raise ValueError(f"{name}{_at(place)} is {codes[place]}; {kind} must {span}")


def check_finite(name: str, values: np.ndarray, counts: np.ndarray | None = None) -> None:
    """ValueError for the first NaN or infinity of ``values [..., F]`` where ``counts [...]``."""
    if np.issubdtype(values.dtype, np.complexfloating):
        raise ValueError(f"{name} is {values.dtype}; give real numbers")
    is_bad = ~np.isfinite(values)
    if counts is not None:
        missing_axes = tuple(range(counts.ndim, values.ndim))
        is_bad = is_bad & np.expand_dims(counts, missing_axes)
    if is_bad.any():
        place = _first(is_bad)
        raise ValueError(
            f"{name}{_at(place)} is {values[place]}; replace it by a number, or leave it out with "
            "lengths or mask"
        )


def _first(is_bad: np.ndarray) -> tuple[int, ...]:
    return tuple(map(int, np.argwhere(is_bad)[0]))


def _at(place: tuple[int, ...]) -> str:
    """``place`` as an index, nothing for that of a scalar."""
    return str(list(place)) if place else ""


def as_array(name: str, value: Any) -> np.ndarray:
    """``value`` as an array of NumPy; ValueError where it holds no numbers."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} is not an array of numbers; give one of NumPy or JAX") from None
    if array.dtype.kind in "US":
        raise ValueError(
            f"{name} is text; give numbers, such as the codes of a rnnlab.text.Vocabulary or of "
            "rnnlab.data.encode(text, {}, size=128), and 0, 1, ... for labels"
        )
    # By kind, since bfloat16 is not a subtype of NumPy's numbers.
    if array.dtype.kind in "OUSM":
        raise ValueError(f"{name} is {array.dtype}; give numbers")
    return array


def _check_shape(name: str, value: np.ndarray, shape: tuple[int, ...]) -> None:
    if value.shape != shape:
        raise ValueError(f"{name} has shape {value.shape}; it must be {shape}")


def _flags(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    flags = as_array(name, value)
    _check_shape(name, flags, shape)
    is_bad = (flags != 0) & (flags != 1)
    if is_bad.any():
        place = _first(is_bad)
        raise ValueError(f"{name}{list(place)} is {flags[place]}; give booleans, or 0 and 1")
    return flags != 0
