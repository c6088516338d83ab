"""Trace-time checks: every fault is one sentence that names the fault and the mend."""

import inspect
import numbers
from collections.abc import Callable, Sequence

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from rnnlab.typing import Array, Dtype, PyTree


class ForeignCellError(ValueError):
    """Raised by the ``init`` of a cell whose parameters come from elsewhere."""


def hashable(cell: object) -> None:
    """ValueError unless ``cell`` can be a static argument of a compiled program."""
    if isinstance(cell, type) or not callable(getattr(cell, "initial_state", None)):
        raise ValueError(
            f"{cell!r} is not a cell; give one such as rnnlab.LSTM(128), or wrap a step in rnnlab.Step"
        )
    try:
        hash(cell)
    except TypeError:
        name = type(cell).__name__
        raise ValueError(
            f"{name} cannot be hashed; make it a frozen dataclass without arrays in its fields"
        ) from None


def positive_int(name: str, value: object) -> int:
    """``value`` as an ``int``; ValueError unless it is a whole number of at least 1."""
    return _whole(name, value, 1)


def natural(name: str, value: object) -> int:
    """``value`` as an ``int``; ValueError unless it is a whole number of at least 0."""
    return _whole(name, value, 0)


def _whole(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name} is {value!r}; it must be a whole number of at least {least}")
    return int(value)


def fraction(name: str, value: float, *, closed: bool) -> float:
    """``value``; ValueError unless it lies in [0, 1), or in (0, 1] where ``closed``."""
    if not isinstance(value, numbers.Real) or not (0 < value <= 1 if closed else 0 <= value < 1):
        span = "above 0 and at most 1" if closed else "at least 0 and below 1"
        raise ValueError(f"{name} is {value!r}; it must be {span}")
    return value


def function(name: str, value: object) -> None:
    if not callable(value):
        raise ValueError(
            f"{name} is {value!r}; it must be a function, such as one of rnnlab.initializers"
        )


def one_of(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(repr, choices))}")


def float_dtype(name: str, dtype: Dtype) -> np.dtype:
    try:
        known = None if dtype is None else jnp.dtype(dtype)
    except TypeError:
        known = None
    if known is None or not jnp.issubdtype(known, jnp.floating):
        raise ValueError(
            f"{name} is {repr(dtype) if known is None else known}; it must be a floating dtype such as float32"
        )
    return known


def array(name: str, value: object) -> Array:
    """``value`` as an array; ValueError where it cannot be one."""
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} cannot be read as an array of numbers; give a jax or numpy array"
        ) from None


def sequence(xs: Array) -> None:
    """ValueError unless ``xs`` is a non-empty floating ``[T, ..., I]``."""
    if not hasattr(xs, "shape") or xs.ndim < 2:
        raise ValueError(
            f"xs has shape {np.shape(xs)}; it must be [T, ..., I] with time first and features last"
        )
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        raise ValueError(
            f"xs are {xs.dtype}, but a recurrent cell needs floats; use jax.nn.one_hot or an embedding, or cast them"
        )
    if xs.shape[0] == 0:
        raise ValueError("xs has no time steps (T = 0); give at least one")
    if 0 in xs.shape[1:-1]:
        raise ValueError(f"xs has an empty batch (shape {xs.shape}); give at least one example")
    if xs.shape[-1] == 0:
        raise ValueError(
            f"xs has no features (shape {xs.shape}); the last axis must hold at least one"
        )


def lengths(lengths: Array, steps: int, batch_shape: tuple[int, ...], least: int = 0) -> Array:
    """``lengths`` as an integer array ``[...]``; ValueError unless all lie in least..T (if they are known yet)."""
    lengths = array("lengths", lengths)
    if lengths.shape != batch_shape:
        raise ValueError(
            f"lengths has shape {lengths.shape}, but the batch has {batch_shape}; give one for each example"
        )
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"lengths are {lengths.dtype}; they must be whole numbers of steps")
    if not isinstance(lengths, jax.core.Tracer):
        values = np.asarray(lengths)
        if values.min() < least or values.max() > steps:
            raise ValueError(
                f"lengths run from {values.min()} to {values.max()}; each must lie in {least}..{steps}"
            )
    return lengths


def resets(resets: Array, shape: tuple[int, ...]) -> Array:
    """``resets`` as a boolean array ``[T, ...]``."""
    resets = array("resets", resets)
    if resets.dtype != jnp.bool_:
        raise ValueError(
            f"resets are {resets.dtype}; they must be booleans, True where the state starts afresh"
        )
    if resets.shape != shape:
        raise ValueError(
            f"resets has shape {resets.shape}; it must be {shape}, one flag for each step and example"
        )
    return resets


def batched(name: str, tree: PyTree, batch_shape: tuple[int, ...]) -> None:
    """ValueError unless every leaf of ``tree`` starts with the batch axes."""
    if any(np.shape(leaf)[: len(batch_shape)] != batch_shape for leaf in jax.tree.leaves(tree)):
        raise ValueError(
            f"{name} lacks the batch axes {batch_shape}, so it cannot be told apart by example; "
            "give every leaf of it these leading axes"
        )


def shapes(tree: PyTree) -> PyTree:
    """``tree`` with every leaf replaced by its shape and dtype."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(leaf)), tree
    )


def same_tree(name: str, given: PyTree, wanted: PyTree, mend: str) -> None:
    """ValueError unless ``given`` has the structure and the shapes of ``wanted``; ``mend`` says what to do."""
    given_leaves, given_def = jax.tree_util.tree_flatten_with_path(given)
    wanted_leaves, wanted_def = jax.tree_util.tree_flatten_with_path(wanted)
    if given_def != wanted_def:
        raise ValueError(
            f"{name} has the structure {outline(given)}, but {outline(wanted)} is needed; {mend}"
        )
    for (path, leaf), (_, want) in zip(given_leaves, wanted_leaves, strict=True):
        where = name + jax.tree_util.keystr(path)
        if np.shape(leaf) != want.shape:
            raise ValueError(
                f"{where} has shape {np.shape(leaf)}, but {want.shape} is needed; {mend}"
            )
        if jnp.issubdtype(want.dtype, jnp.floating) and not jnp.issubdtype(
            jnp.result_type(leaf), jnp.floating
        ):
            raise ValueError(f"{where} is {jnp.result_type(leaf)}, but floats are needed; {mend}")


def differentiable(name: str, tree: PyTree) -> None:
    """ValueError unless every leaf of ``tree`` is a real float."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        where, dtype = jax.tree_util.keystr(path), jnp.result_type(leaf)
        if jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(
                f"{name}{where} is {dtype}, but must be real; keep real and imaginary parts as two arrays"
            )
        if not jnp.issubdtype(dtype, jnp.floating):
            mend = "make it a float, or keep it in the step function instead"
            raise ValueError(f"{name}{where} is {dtype}, which has no gradient; {mend}")


def loss_function(loss: object, loss_args: tuple[object, ...]) -> None:
    """ValueError unless ``loss`` can be called as ``loss(ys, *loss_args)``."""
    function("loss", loss)
    try:
        signature = inspect.signature(loss)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):  # of some built-in functions it is not known
        return
    try:
        signature.bind(None, *loss_args)
    except TypeError:
        count = len(loss_args)
        raise ValueError(
            f"loss{signature} cannot be called with ys and {count} of loss_args; give it ys and whatever "
            "else it takes, and options such as initial_state by name"
        ) from None


def scalar_loss(loss: Callable[..., Array], ys: Array, *loss_args: object) -> None:
    """ValueError unless ``loss(ys, *loss_args)`` is a scalar."""
    shape = jax.eval_shape(loss, ys, *loss_args)
    if getattr(shape, "shape", None) != ():
        raise ValueError(
            f"loss(ys) must be a scalar, not {shape}; reduce it, for example with jnp.mean"
        )


def finite(name: str, tree: PyTree) -> None:
    """ValueError for NaN or infinity in ``tree``, as far as its values are known yet."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.core.Tracer) or not jnp.issubdtype(
            jnp.result_type(leaf), jnp.inexact
        ):
            continue
        sound = np.isfinite(
            np.asarray(leaf)
        )  # not JAX's, which would be traced where the array is closed over
        if not sound.all():
            where = name + jax.tree_util.keystr(path)
            place = list(map(int, np.argwhere(~sound)[0]))
            raise ValueError(
                f"{where} holds NaN or infinity, first at {place}; leave it out or mend it first"
            )


def linear_adjoint(cell: object) -> None:
    """ValueError for a cell, or a cell inside of one, that changes derivatives on their way back."""
    if not getattr(cell, "linear_adjoint", True):
        name = type(cell).__name__
        raise ValueError(
            f"the way back of {name} is not that of its derivative; give the cell inside it"
        )
    named = (getattr(cell, name, None) for name in ("forward", "backward", "stack"))
    for inner in (*getattr(cell, "cells", ()), *named):
        if inner is not None:
            linear_adjoint(inner)


def outline(tree: PyTree) -> str:
    """The structure of ``tree`` in a few words: type and field names, without the arrays."""
    if hasattr(tree, "_fields"):
        inner = ", ".join(
            f"{k}={outline(v)}" for k, v in zip(tree._fields, tree, strict=True) if v is not None
        )
        return f"{type(tree).__name__}({inner})"
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{k}: {outline(v)}" for k, v in tree.items()) + "}"
    if isinstance(tree, tuple | list):
        return "(" + ", ".join(map(outline, tree)) + ")"
    if hasattr(tree, "shape"):
        return f"array{list(tree.shape)}"
    return type(tree).__name__
