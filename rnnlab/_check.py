"""Checks at trace time: each error is one sentence with the fault and the fix."""

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
    """``value`` as an ``int``; ValueError unless it is an integer of at least 1."""
    return _whole(name, value, 1)


def natural(name: str, value: object) -> int:
    """``value`` as an ``int``; ValueError unless it is an integer of at least 0."""
    return _whole(name, value, 0)


def at_least(name: str, value: object, least: int) -> int:
    """``value`` as an ``int``; ValueError unless it is an integer of at least ``least``."""
    return _whole(name, value, least)


def _whole(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name} is {brief(value)}; it must be an integer of at least {least}")
    return int(value)


def number(name: str, value: object) -> None:
    """ValueError unless ``value`` is a finite real number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ValueError(f"{name} is {brief(value)}; it must be a finite number such as 1.0")


def initial_bias(cell: Any, name: str) -> None:
    """ValueError where the initial value ``cell.<name>`` of a gate's bias cannot be used."""
    value = getattr(cell, name)
    if value is None:
        return
    number(name, value)
    if cell.bias_init is not None:
        raise ValueError(
            f"bias_init draws every bias, also that of this gate; give it or {name}, not both"
        )
    if not cell.bias:
        raise ValueError(
            f"{name} is given, but bias=False leaves no bias; leave one of the two out"
        )


def flag(name: str, value: object) -> None:
    """ValueError unless ``value`` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} is {brief(value)}; it must be True or False")


def key(name: str, value: Any) -> None:
    """ValueError unless ``value`` is one key for JAX's random numbers, of either kind."""
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        if value.shape:
            raise ValueError(
                f"{name} is an array of keys of shape {value.shape}; "
                "give one of them, or use jax.vmap"
            )
        return
    # The older kind of key is a plain array: jax.random.PRNGKey makes it.
    raw = isinstance(value, jax.Array | np.ndarray) and value.dtype == np.uint32
    if raw and value.ndim == 1:
        return
    is_seed = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    seed = int(value) if is_seed else 0
    raise ValueError(
        f"{name} is {brief(value)}, not a JAX key; make one with jax.random.key({seed})"
    )


def to_init(init_key: object, input_size: object) -> None:
    """ValueError unless these are what the ``init`` of a cell needs."""
    key("key", init_key)
    positive_int("input_size", input_size)


def batch_shape(value: Any) -> tuple[int, ...]:
    """``value`` as a tuple; ValueError unless it holds sizes of axes."""
    if not isinstance(value, tuple | list) or not all(map(_is_size, value)):
        raise ValueError(
            f"batch_shape is {brief(value)}; it must be a tuple of integers such as (32,)"
        )
    return tuple(value)


def _is_size(value: Any) -> bool:
    """Whether ``value`` is the size of an axis, a symbolic one too."""
    if isinstance(value, numbers.Integral):
        return not isinstance(value, bool) and int(value) >= 0
    return export.is_symbolic_dim(value)


def fraction(name: str, value: float, *, closed: bool) -> float:
    """``value``; ValueError unless it lies in [0, 1), or in (0, 1] where ``closed``."""
    if closed:
        span = "above 0 and at most 1"
        inside = isinstance(value, numbers.Real) and 0 < value <= 1
    else:
        span = "at least 0 and below 1"
        inside = isinstance(value, numbers.Real) and 0 <= value < 1
    if not inside:
        raise ValueError(f"{name} is {brief(value)}; it must be {span}")
    return value


def function(name: str, value: object, example: str = "") -> None:
    """ValueError, with an ``example`` where there is one, unless ``value`` can be called."""
    if not callable(value):
        such_as = f", such as {example}" if example else ""
        raise ValueError(f"{name} is {brief(value)}; it must be a function{such_as}")


def initializer(name: str, value: object) -> None:
    """ValueError unless ``value`` can be called."""
    function(name, value, "one of rnnlab.initializers")


def drawn(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    """``value``; ValueError unless the initialiser ``name`` has drawn an array of that shape."""
    if np.shape(value) != shape:
        raise ValueError(
            f"{name} returned an array of shape {np.shape(value)}; it must return one of the shape "
            f"{shape} that it is given"
        )
    return value


def one_of(name: str, value: object, choices: Sequence[str]) -> None:
    """ValueError unless ``value`` is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ValueError(f"{name} is {brief(value)}; choose one of {listed}")


def float_dtype(name: str, dtype: Dtype) -> np.dtype:
    """``dtype`` as NumPy's; ValueError unless JAX computes with it in floats."""
    try:
        # NumPy reads None as float64, which is hardly meant.
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
    """Whether JAX computes with ``dtype``: a real float with 16 bits at least.

    The floats with 8 bits and fewer are formats for storage.
    """
    return jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits >= 16


def array(name: str, value: Any) -> Array:
    """``value`` as an array; ValueError where it cannot be one."""
    if _is_tensor(value):
        # NumPy, and so JAX, reads no tensor that has a gradient or is on a GPU.
        value = value.detach().cpu()
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        # RuntimeError: a tensor without memory.
        raise ValueError(
            f"{name} cannot be read as an array of numbers; give a jax or numpy array"
        ) from None


def codes(name: str, value: Any) -> Array:
    """``value`` as an array of whole numbers; ValueError for any other numbers.

    They have 32 bits at least: the size of a vocabulary, to which codes are compared, may not fit
    into the 8 bits of the codes themselves.
    """
    codes = array(name, value)
    if not jnp.issubdtype(codes.dtype, jnp.integer):
        raise ValueError(f"{name} are {codes.dtype}; they must be whole numbers, so cast them")
    return codes if codes.dtype.itemsize >= 4 else codes.astype(jnp.int32)


def sequence(xs: Array) -> None:
    """ValueError unless ``xs`` is a non-empty floating ``[T, ..., I]``."""
    if not hasattr(xs, "shape") or xs.ndim < 2:
        raise ValueError(
            f"xs has shape {np.shape(xs)}; it must be [T, ..., I] with time first and features last"
        )
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        raise ValueError(
            f"xs are {xs.dtype}, but a recurrent cell needs floats; "
            "use jax.nn.one_hot or an embedding, or cast them"
        )
    if not _computes(xs.dtype):
        raise ValueError(
            f"xs are {xs.dtype}, a storage format without arithmetic; cast them, for example to "
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
    """``lengths`` as an integer array ``[...]``; ValueError unless all lie in least..T.

    Traced values are not known yet, and pass.
    """
    original = lengths
    lengths = array("lengths", original)
    if lengths.shape != batch_shape:
        hint = ", and xs with time as its first axis" if lengths.shape == (steps,) else ""
        raise ValueError(
            f"lengths has shape {lengths.shape}, but the batch has {batch_shape}; "
            f"give one for each example{hint}"
        )
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"lengths are {lengths.dtype}; they must be integers")
    if not isinstance(original, jax.core.Tracer):
        # The original: under jit even a constant becomes a tracer above, which has no values.
        values = np.asarray(original)
        if values.min() < least or values.max() > steps:
            raise ValueError(
                f"lengths run from {values.min()} to {values.max()}; "
                f"each must lie in {least}..{steps}"
            )
    return lengths


def flags(name: str, value: Array, shape: tuple[int, ...], each: str = "step and example") -> Array:
    """``value`` as a boolean array ``[T, ...]``; ValueError for numbers other than 0 and 1.

    ``each`` is what there is a flag for. Traced values are not known yet, and pass.
    """
    flags = array(name, value)
    if flags.shape != shape:
        raise ValueError(
            f"{name} has shape {flags.shape}; it must be {shape}, one flag for each {each}"
        )
    if flags.dtype == jnp.bool_:
        return flags
    fault = ""
    if jnp.issubdtype(flags.dtype, jnp.complexfloating):
        fault = f"{name} is {flags.dtype}"
    elif not isinstance(value, jax.core.Tracer):
        # Inside of jax.jit even a constant becomes a tracer once it is an array of JAX.
        values = np.asarray(value)
        others = values[(values != 0) & (values != 1)]
        if others.size:
            fault = f"{name} holds {others.flat[0]:g}"
    if fault:
        raise ValueError(f"{fault}; give booleans, or numbers that are 0 or 1")
    return flags != 0


def batched(name: str, tree: PyTree, batch_shape: tuple[int, ...]) -> None:
    """ValueError unless every leaf of ``tree`` starts with the batch axes."""
    if any(np.shape(leaf)[: len(batch_shape)] != batch_shape for leaf in jax.tree.leaves(tree)):
        raise ValueError(
            f"{name} lacks the batch axes {batch_shape}, so its examples cannot be separated; "
            "give every leaf of it these leading axes"
        )


def shapes(tree: PyTree) -> PyTree:
    """``tree`` with every leaf replaced by its shape and dtype."""

    def shape(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(leaf))

    return jax.tree.map(shape, tree)


def same_tree(name: str, tree: PyTree, wanted: PyTree, fix: str) -> None:
    """ValueError unless ``tree`` has the structure and shapes of ``wanted``.

    ``fix`` is the second half of the message.

    Where floats are wanted any float will do: parameters may have a narrower dtype than the cell
    would draw.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    wanted_leaves, wanted_structure = jax.tree_util.tree_flatten_with_path(wanted)
    if structure != wanted_structure:
        _refuse_structure(name, tree, wanted, fix)
    for (path, leaf), (_, want) in zip(leaves, wanted_leaves, strict=True):
        where = name + jax.tree_util.keystr(path)
        dtype = _dtype(where, leaf)
        if np.shape(leaf) != want.shape:
            raise ValueError(
                f"{where} has shape {np.shape(leaf)}, but {want.shape} is needed; {fix}"
            )
        if not jnp.issubdtype(want.dtype, jnp.floating):
            continue
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(f"{where} is {dtype}, but floats are needed; {fix}")
        if not _computes(dtype):
            raise ValueError(
                f"{where} is {dtype}, a storage format without arithmetic; cast it, for example to "
                "bfloat16"
            )


def arrays(name: str, tree: PyTree) -> None:
    """ValueError unless every leaf of ``tree`` is an array or a number."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        _dtype(name + jax.tree_util.keystr(path), leaf)


def _refuse_structure(name: str, tree: PyTree, wanted: PyTree, fix: str) -> None:
    structure, needed = outline(tree), outline(wanted)
    if structure == needed:
        structure += " of another class of the same name"
    if isinstance(tree, Mapping) and hasattr(wanted, "_fields"):
        # A checkpoint that is restored without a target has dicts in place of NamedTuples.
        fix += f", and restore a checkpoint with such {type(wanted).__name__} as its target"
    raise ValueError(f"{name} has the structure {structure}, but {needed} is needed; {fix}")


def _dtype(where: str, leaf: Any) -> np.dtype:
    """The dtype of ``leaf``; ValueError where it is not an array."""
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
        where = name + jax.tree_util.keystr(path)
        dtype = jnp.result_type(leaf)
        if jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(
                f"{where} is {dtype}, but must be real; keep real and imaginary parts as two arrays"
            )
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                f"{where} is {dtype}, which has no gradient; "
                "make it a float, or keep it in the step function instead"
            )


def loss_function(loss: Any, loss_args: tuple[Any, ...]) -> tuple[Any, ...]:
    """``loss_args`` as arrays; ValueError unless ``loss`` takes ``(ys, *loss_args)``."""
    if not callable(loss):
        raise ValueError(
            f"loss is {brief(loss)}; "
            "give a function of the outputs, such as lambda ys: ys[-1].sum()"
        )
    try:
        signature = inspect.signature(loss)
    except (TypeError, ValueError):
        # Some built-in functions have no signature.
        signature = None
    try:
        if signature:
            signature.bind(None, *loss_args)
    except TypeError:
        count = "1 more argument" if len(loss_args) == 1 else f"{len(loss_args)} more arguments"
        raise ValueError(
            f"loss{signature} cannot be called with ys and {count}; pass its other arguments "
            "after the loss, and options such as initial_state by name"
        ) from None
    leaves, tree = jax.tree.flatten(loss_args)
    return jax.tree.unflatten(tree, list(map(_loss_argument, leaves)))


def _loss_argument(leaf: Any) -> Any:
    """A tensor as an array; anything else, such as a key for dropout or a number, as it is."""
    if not _is_tensor(leaf):
        return leaf
    return array("an argument of the loss", leaf)


def _is_tensor(value: Any) -> bool:
    """Whether ``value`` is a tensor of PyTorch, which is not imported to find out."""
    package = type(value).__module__.split(".")[0]
    return package == "torch" and hasattr(value, "detach")


def scalar_loss(loss: Callable[..., Array], ys: Array, *loss_args: Any) -> None:
    """ValueError unless ``loss(ys, *loss_args)`` is a real floating scalar."""
    try:
        value = jax.eval_shape(loss, ys, *loss_args)
    except TypeError as fault:
        # Any other TypeError is a fault of the user's own, whose message says more than ours could.
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
    """ValueError for NaN or infinity in ``tree``; traced values are not known yet, and pass."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.core.Tracer):
            continue
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            continue
        # JAX's isfinite would be traced where the array is closed over, and have no value.
        is_finite = np.isfinite(np.asarray(leaf))
        if not is_finite.all():
            where = name + jax.tree_util.keystr(path)
            index = list(map(int, np.argwhere(~is_finite)[0]))
            raise ValueError(
                f"{where} holds NaN or infinity, first at {index}; remove or replace it first"
            )


def independent_examples(cell: object) -> None:
    """ValueError for a cell in which an example's outputs depend on the others of its batch."""
    if getattr(cell, "couples_examples", False):
        raise ValueError(
            "batch normalisation in training couples the examples, so that none has a gradient of "
            "its own; give the cell of rnnlab.cells.population_statistics"
        )


def linear_adjoint(cell: object) -> None:
    """ValueError for a cell, or a cell inside it, that instruments of single examples cannot take.

    Its backward pass changes the derivatives, or its examples depend on one another.
    """
    independent_examples(cell)
    if not getattr(cell, "linear_adjoint", True):
        name = type(cell).__name__
        raise ValueError(
            f"the backward pass of {name} is not its true derivative; give the inner cell"
        )
    for inner in getattr(cell, "cells", ()):
        linear_adjoint(inner)
    for name in ("forward", "backward", "stack"):
        inner = getattr(cell, name, None)
        if inner is not None:
            linear_adjoint(inner)


def outline(tree: PyTree) -> str:
    """The structure of ``tree`` in short: type and field names, without the arrays.

    >>> outline({"w": np.zeros((2, 3)), "b": [1.0]})
    '{w: array[2, 3], b: [float]}'
    """
    if hasattr(tree, "_fields"):
        entries = []
        for name, value in zip(tree._fields, tree, strict=True):
            if value is not None:
                entries.append(f"{name}={outline(value)}")
        return f"{type(tree).__name__}({', '.join(entries)})"
    if isinstance(tree, Mapping):
        kind = "" if type(tree) is dict else type(tree).__name__
        entries = [f"{name}: {outline(value)}" for name, value in tree.items()]
        return f"{kind}{{{', '.join(entries)}}}"
    if isinstance(tree, tuple | list):
        entries = list(map(outline, tree[:MOST]))
        if len(tree) > MOST:
            entries.append(f"... {len(tree)} entries")
        inner = ", ".join(entries)
        return f"[{inner}]" if isinstance(tree, list) else f"({inner})"
    if hasattr(tree, "shape"):
        return f"array{list(tree.shape)}"
    return type(tree).__name__


MOST = 6
"""How many entries of a list an error shows."""


def summary(source: object, **facts: object) -> str:
    """The ``repr`` of an object that holds large arrays, by a few facts about them.

    >>> summary([], codes=1000, length=20)
    'list(codes=1000, length=20)'
    """
    told = [f"{name}={value!r}" for name, value in facts.items()]
    return f"{type(source).__name__}({', '.join(told)})"


def brief(value: object) -> str:
    """``value`` as an error shows it: in one line; arrays and long values by their type."""
    if isinstance(value, jax.Array | np.ndarray):
        return f"an array of {value.dtype}{list(value.shape)}"
    text = repr(value)
    # The default form of an object shows its address in memory, which says nothing.
    has_address = re.search(r"\b0x[0-9a-fA-F]{6}", text)
    if "\n" in text or len(text) > 100 or has_address:
        return f"an object of type {_kind(value)}"
    return text


def _kind(value: object) -> str:
    """The type of ``value`` with its module."""
    kind = type(value)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"
