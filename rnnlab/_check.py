"""Trace-time checks: every fault is one sentence that names the fault and the fix."""

import inspect
import math
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import export

from rnnlab.typing import Array, Dtype, PyTree


class ForeignCellError(ValueError):
    """Raised by the ``init`` of a cell whose parameters come from elsewhere."""


def hashable(cell: object) -> None:
    """ValueError unless ``cell`` can be a static argument of a compiled program."""
    if isinstance(cell, type) or not callable(getattr(cell, "initial_state", None)):
        raise ValueError(
            f"{brief(cell)} is not a cell; give one such as rnnlab.LSTM(128), or wrap a step in "
            "rnnlab.Step"
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
        raise ValueError(f"{name} is {brief(value)}; it must be a whole number of at least {least}")
    return int(value)


def number(name: str, value: object) -> None:
    """ValueError unless ``value`` is a finite real number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ValueError(f"{name} is {brief(value)}; it must be a finite number such as 1.0")


def flag(name: str, value: object) -> None:
    """ValueError unless ``value`` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} is {brief(value)}; it must be True or False")


def key(name: str, value: Any) -> None:
    """ValueError unless ``value`` is one key for JAX's random numbers, of either kind."""
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        if value.shape:
            raise ValueError(
                f"{name} is an array of keys of shape {value.shape}; give one of them, or use jax.vmap"
            )
        return
    raw = isinstance(value, jax.Array | np.ndarray) and value.dtype == np.uint32
    if raw and value.ndim == 1:
        return
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    seed = int(value) if whole else 0
    raise ValueError(
        f"{name} is {brief(value)}, not a JAX key; make one with jax.random.key({seed})"
    )


def to_init(key_given: object, input_size: object) -> None:
    """ValueError unless these are what the ``init`` of a cell needs."""
    key("key", key_given)
    positive_int("input_size", input_size)


def batch_shape(value: Any) -> tuple[int, ...]:
    """``value`` as a tuple; ValueError unless it holds sizes of axes."""
    whole = isinstance(value, tuple | list) and all(map(_is_size, value))
    if not whole:
        raise ValueError(
            f"batch_shape is {brief(value)}; it must be a tuple of whole numbers such as (32,)"
        )
    return tuple(value)


def _is_size(value: Any) -> bool:
    """Whether ``value`` is the size of an axis, a symbolic one too."""
    if isinstance(value, numbers.Integral):
        return not isinstance(value, bool) and int(value) >= 0
    return export.is_symbolic_dim(value)


def fraction(name: str, value: float, *, closed: bool) -> float:
    """``value``; ValueError unless it lies in [0, 1), or in (0, 1] where ``closed``."""
    if not isinstance(value, numbers.Real) or not (0 < value <= 1 if closed else 0 <= value < 1):
        span = "above 0 and at most 1" if closed else "at least 0 and below 1"
        raise ValueError(f"{name} is {brief(value)}; it must be {span}")
    return value


def function(name: str, value: object) -> None:
    if not callable(value):
        raise ValueError(
            f"{name} is {brief(value)}; it must be a function, such as one of rnnlab.initializers"
        )


def drawn(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    """``value``; ValueError unless the initialiser ``name`` has drawn an array of that shape."""
    if np.shape(value) != shape:
        raise ValueError(
            f"{name} returned an array of shape {np.shape(value)}; it must return one of the shape "
            f"{shape} that it is given"
        )
    return value


def one_of(name: str, value: object, choices: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ValueError(f"{name} is {brief(value)}; choose one of {listed}")


def float_dtype(name: str, dtype: Dtype) -> np.dtype:
    try:
        known = None if dtype is None else jnp.dtype(dtype)
    except TypeError:
        known = None
    if known is None or not _computes(known):
        raise ValueError(
            f"{name} is {brief(dtype) if known is None else known}; it must be a floating dtype "
            "such as float32, with 16 bits at least"
        )
    return known


def _computes(dtype: Dtype) -> bool:
    """Whether JAX computes with ``dtype``: a real float, but not one of the formats for storage."""
    return jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits >= 16


def array(name: str, value: Any) -> Array:
    """``value`` as an array; ValueError where it cannot be one."""
    if _is_tensor(value):
        value = value.detach().cpu()
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # the last from a tensor without memory
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
    if not _computes(xs.dtype):
        raise ValueError(
            f"xs are {xs.dtype}, a format in which nothing is computed; cast them, for example to "
            "bfloat16"
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
    given = lengths
    lengths = array("lengths", given)
    if lengths.shape != batch_shape:
        raise ValueError(
            f"lengths has shape {lengths.shape}, but the batch has {batch_shape}; give one for each example"
        )
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"lengths are {lengths.dtype}; they must be whole numbers of steps")
    if not isinstance(given, jax.core.Tracer):
        values = np.asarray(given)
        if values.min() < least or values.max() > steps:
            raise ValueError(
                f"lengths run from {values.min()} to {values.max()}; each must lie in {least}..{steps}"
            )
    return lengths


def flags(name: str, given: Array, shape: tuple[int, ...]) -> Array:
    """``given`` as a boolean array ``[T, ...]``; ValueError for numbers other than 0 and 1 (if they are known yet)."""
    flags = array(name, given)
    if flags.shape != shape:
        raise ValueError(
            f"{name} has shape {flags.shape}; it must be {shape}, one flag for each step and example"
        )
    if flags.dtype == jnp.bool_:
        return flags
    fault = ""
    if jnp.issubdtype(flags.dtype, jnp.complexfloating):
        fault = f"{name} is {flags.dtype}"
    elif not isinstance(given, jax.core.Tracer):
        values = np.asarray(given)
        if ((values != 0) & (values != 1)).any():
            fault = f"{name} holds {values[(values != 0) & (values != 1)].flat[0]:g}"
    if fault:
        raise ValueError(f"{fault}; give booleans, or numbers that are 0 or 1")
    return flags != 0


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
        _refuse_structure(name, given, wanted, mend)
    for (path, leaf), (_, want) in zip(given_leaves, wanted_leaves, strict=True):
        where = name + jax.tree_util.keystr(path)
        dtype = _dtype(where, leaf)
        if np.shape(leaf) != want.shape:
            raise ValueError(
                f"{where} has shape {np.shape(leaf)}, but {want.shape} is needed; {mend}"
            )
        if not jnp.issubdtype(want.dtype, jnp.floating):
            continue
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(f"{where} is {dtype}, but floats are needed; {mend}")
        if not _computes(dtype):
            raise ValueError(
                f"{where} is {dtype}, a format in which nothing is computed; cast it, for example "
                "to bfloat16"
            )


def arrays(name: str, tree: PyTree) -> None:
    """ValueError unless every leaf of ``tree`` is an array or a number."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        _dtype(name + jax.tree_util.keystr(path), leaf)


def _refuse_structure(name: str, given: PyTree, wanted: PyTree, mend: str) -> None:
    found, needed = outline(given), outline(wanted)
    if found == needed:
        found += " of another class of the same name"
    if isinstance(given, Mapping) and hasattr(wanted, "_fields"):
        # As checkpoints are restored where nothing says which types were saved.
        mend += f", and restore a checkpoint with such {type(wanted).__name__} as its target"
    raise ValueError(f"{name} has the structure {found}, but {needed} is needed; {mend}")


def _dtype(where: str, leaf: Any) -> np.dtype:
    """The dtype of ``leaf``; ValueError where it is no array."""
    try:
        return jnp.result_type(leaf)
    except (TypeError, ValueError):
        raise ValueError(
            f"{where} is an object of type {_kind(leaf)}; make it a jax or numpy array, or import "
            "weights of PyTorch with rnnlab.interop.from_torch"
        ) from None


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


def loss_function(loss: Any, loss_args: tuple[Any, ...]) -> tuple[Any, ...]:
    """``loss_args`` as arrays; ValueError unless ``loss`` can be called as ``loss(ys, *loss_args)``."""
    if not callable(loss):
        raise ValueError(
            f"loss is {brief(loss)}; give a function of the outputs, such as lambda ys: ys[-1].sum()"
        )
    try:
        signature = inspect.signature(loss)
    except (TypeError, ValueError):  # of some built-in functions it is not known
        signature = None
    try:
        if signature:
            signature.bind(None, *loss_args)
    except TypeError:
        count = "1 more argument" if len(loss_args) == 1 else f"{len(loss_args)} more arguments"
        raise ValueError(
            f"loss{signature} cannot be called with ys and {count}; give what it takes beside ys "
            "after the loss, and options such as initial_state by name"
        ) from None
    leaves, tree = jax.tree.flatten(loss_args)
    return jax.tree.unflatten(tree, [_of_loss(leaf) for leaf in leaves])


def _of_loss(leaf: Any) -> Any:
    # A key for dropout, or a number, is left as it is.
    return array("what the loss is given", leaf) if _is_tensor(leaf) else leaf


def _is_tensor(value: Any) -> bool:
    """Whether ``value`` is an array of PyTorch."""
    return type(value).__module__.split(".")[0] == "torch" and hasattr(value, "detach")


def scalar_loss(loss: Callable[..., Array], ys: Array, *loss_args: Any) -> None:
    """ValueError unless ``loss(ys, *loss_args)`` is a real floating scalar."""
    try:
        value = jax.eval_shape(loss, ys, *loss_args)
    except TypeError as fault:
        if "Tensor" not in str(fault):
            raise
        raise ValueError(
            "the loss mixes JAX's arrays with PyTorch's; write it with jnp, and give it tensors as "
            "arguments after the loss"
        ) from fault
    if getattr(value, "shape", None) != ():
        raise ValueError(
            f"loss(ys) must be a scalar, not {outline(value)}; reduce it, for example with jnp.mean"
        )
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        raise ValueError(
            f"loss(ys) is {value.dtype}, but must be real; take its jnp.real or jnp.abs"
        )
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(
            f"loss(ys) is {value.dtype}, which has no gradient; count with floats, such as "
            "probabilities, in place of whole numbers or comparisons"
        )


def one_output(ys: Any, batch: tuple[int, ...], lead: int, purpose: str) -> None:
    """ValueError unless a step's outputs are one array with the batch axes behind ``lead`` others.

    A :class:`rnnlab.Step` may return anything else, such as a dict, where nothing but ``unroll``
    looks at it; ``purpose`` is what does.
    """
    if not hasattr(ys, "shape"):
        raise ValueError(
            f"the step's output is {outline(ys)}, but {purpose} one array; return an array, for "
            "example the parts side by side with jnp.concatenate"
        )
    if ys.shape[lead : lead + len(batch)] != batch:
        raise ValueError(
            f"the step's output has shape {ys.shape[lead:]} and lacks the batch axes {batch}, but "
            f"{purpose} an output for each example; return one"
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
    if isinstance(tree, Mapping):
        name = "" if type(tree) is dict else type(tree).__name__
        return name + "{" + ", ".join(f"{k}: {outline(v)}" for k, v in tree.items()) + "}"
    if isinstance(tree, tuple | list):
        shown = [outline(entry) for entry in tree[:MOST]]
        if len(tree) > MOST:
            shown.append(f"... {len(tree)} entries")
        inner = ", ".join(shown)
        return f"[{inner}]" if isinstance(tree, list) else f"({inner})"
    if hasattr(tree, "shape"):
        return f"array{list(tree.shape)}"
    return type(tree).__name__


MOST = 6
"""How many entries of a list an error shows."""


def brief(value: object) -> str:
    """``value`` as an error shows it: in one line, and arrays and long things by what they are."""
    if isinstance(value, jax.Array | np.ndarray):
        return f"an array of {value.dtype}{list(value.shape)}"
    text = repr(value)
    if "\n" in text or len(text) > 100 or re.search(r"\b0x[0-9a-fA-F]{6}", text):
        return f"an object of type {_kind(value)}"
    return text


def _kind(value: object) -> str:
    """The type of ``value`` with its module."""
    kind = type(value)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"
