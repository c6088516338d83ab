"""Sequences of different lengths: checks, and padding to one length."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rnnlab import _check
from rnnlab.data.checks import as_array, check_codes, check_finite


class Sequences(NamedTuple):
    """N checked sequences with their targets.

    Attributes:
        xs: N arrays, codes ``[T_n]`` or vectors ``[T_n, I]``, all of one dtype.
        targets: N arrays, all of one dtype: ``[T_n]`` or ``[T_n, O]`` for each step, scalars or
            ``[O]`` for each sequence.
        lengths: ``[N]``, T_n.
        per_step: whether there is a target for each step.
    """

    xs: list[np.ndarray]
    targets: list[np.ndarray]
    lengths: np.ndarray
    per_step: bool

    def __repr__(self) -> str:
        steps = int(self.lengths.sum())
        return _check.summary(self, count=len(self.xs), steps=steps, per_step=self.per_step)


def read_sequences(
    sequences: Sequence[Any],
    targets: Sequence[Any],
    vocabulary_size: int | None = None,
    classes: int | None = None,
) -> Sequences:
    """Checks sequences and targets; ValueError names the first bad one.

    Targets with one axis are read as one for each step where they are as long as their sequences,
    and as vectors for each sequence otherwise.
    """
    sequences = listed("sequences", sequences, "one entry for each sequence")
    targets = listed("targets", targets, "one entry for each sequence")
    if not sequences:
        raise ValueError("sequences is empty; give at least one")
    if len(sequences) != len(targets):
        raise ValueError(
            f"there are {len(sequences)} sequences, but {len(targets)} targets; give one target "
            "or one array of targets for each sequence"
        )
    xs = _as_arrays("sequences", sequences)
    for index, x in enumerate(xs):
        if x.ndim not in (1, 2) or x.size == 0:
            raise ValueError(
                f"sequences[{index}] has shape {x.shape}; it must be codes [T] or vectors [T, I], "
                "with at least one step"
            )
    _check_alike("sequences", xs)
    lengths = np.array(list(map(len, xs)))
    ys = _as_arrays("targets", targets)
    per_step = _per_step(ys, lengths)
    _check_alike("targets", ys, has_time=per_step)
    _check_values("sequences", xs, "a code" if xs[0].ndim == 1 else None, vocabulary_size)
    is_label = ys[0].ndim == int(per_step) and np.issubdtype(ys[0].dtype, np.integer)
    if classes is not None and not is_label:
        raise ValueError(f"targets hold {ys[0].dtype}, no labels; leave out classes")
    _check_values("targets", ys, "a label" if is_label else None, classes)
    return Sequences(xs, ys, lengths, per_step)


def pad(arrays: Sequence[np.ndarray], steps: int) -> np.ndarray:
    """Arrays ``[T_n, ...]`` side by side with zeros beyond their ends, ``[steps, B, ...]``."""
    features = arrays[0].shape[1:]
    padded = np.zeros((steps, len(arrays), *features), arrays[0].dtype)
    for column, array in enumerate(arrays):
        padded[: len(array), column] = array
    return padded


def listed(name: str, values: Any, entries: str) -> list[Any]:
    """``values`` as a list; ValueError, which names the ``entries``, for anything else."""
    try:
        return list(values)
    except TypeError:
        raise ValueError(f"{name} is {_check.brief(values)}; give a list with {entries}") from None


def _as_arrays(name: str, values: Sequence[Any]) -> list[np.ndarray]:
    arrays = [as_array(f"{name}[{index}]", value) for index, value in enumerate(values)]
    dtype = np.result_type(*{array.dtype for array in arrays})
    if dtype.kind not in "biuf":
        raise ValueError(f"{name} hold {dtype}; give arrays of real numbers")
    return [array.astype(dtype) for array in arrays]


def _per_step(targets: list[np.ndarray], lengths: np.ndarray) -> bool:
    """Whether the targets have a time axis."""
    if targets[0].ndim == 0:
        return False
    others = []
    for index, (target, length) in enumerate(zip(targets, lengths, strict=True)):
        if target.ndim == 0 or len(target) != length:
            others.append(index)
    if not others:
        return True
    if targets[0].ndim == 1 and len({target.shape for target in targets}) == 1:
        return False
    first = others[0]
    raise ValueError(
        f"targets[{first}] has shape {targets[first].shape}, but sequences[{first}] has "
        f"{lengths[first]} steps; give one target for each step, or one of equal shape for each "
        "sequence"
    )


def _check_alike(name: str, arrays: list[np.ndarray], has_time: bool = True) -> None:
    """ValueError for the first array whose features are not those of the first."""
    start = int(has_time)
    for index, array in enumerate(arrays):
        if array.ndim != arrays[0].ndim or array.shape[start:] != arrays[0].shape[start:]:
            raise ValueError(
                f"{name}[{index}] has shape {array.shape}, but {name}[0] has {arrays[0].shape}; "
                "all must have the same features"
            )


def _check_values(name: str, arrays: list[np.ndarray], kind: str | None, size: int | None) -> None:
    """Checks codes or labels of a ``kind``; numbers where it is None."""
    for index, array in enumerate(arrays):
        where = f"{name}[{index}]"
        if kind is None:
            check_finite(where, array)
        else:
            check_codes(where, array, size, kind=kind)
