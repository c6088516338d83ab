"""Weights from and to the recurrent cells of Flax, linen and NNX."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab import _check
from rnnlab.cells import GRU, LSTM, RNN, GRUParams, LSTMParams, RNNParams
from rnnlab.cells.base import activation_function
from rnnlab.interop._shared import blank, one_dtype, own_params, plain
from rnnlab.typing import Cell, PyTree


class _Layout(NamedTuple):
    """Which of a Flax cell's dense layers hold what; more than one name where each gate has its own."""

    kind: type
    w_x: tuple[str, ...]
    w_h: tuple[str, ...]
    b: tuple[str, ...]
    c: tuple[str, ...] = ()


_IFGO = ("hi", "hf", "hg", "ho")
_LAYOUTS = {
    "linen": {
        "SimpleCell": _Layout(RNN, ("i",), ("h",), b=("i",)),
        "LSTMCell": _Layout(LSTM, ("ii", "if", "ig", "io"), _IFGO, b=_IFGO),
        "OptimizedLSTMCell": _Layout(LSTM, ("ii", "if", "ig", "io"), _IFGO, b=_IFGO),
        "GRUCell": _Layout(
            GRU, ("ir", "iz", "in"), ("hr", "hz", "hn"), b=("ir", "iz", "in"), c=("hn",)
        ),
    },
    "nnx": {
        "SimpleCell": _Layout(RNN, ("dense_i",), ("dense_h",), b=("dense_i",)),
        "LSTMCell": _Layout(LSTM, ("ii", "if_", "ig", "io"), _IFGO, b=_IFGO),
        "OptimizedLSTMCell": _Layout(LSTM, ("dense_i",), ("dense_h",), b=("dense_h",)),
        "GRUCell": _Layout(
            GRU, ("dense_i",), ("dense_h",), b=("dense_i",)
        ),  # has no b_hn, whatever its docstring says
    },
}
_PARAMS = {RNN: RNNParams, LSTM: LSTMParams, GRU: GRUParams}
_PEERS = {RNN: "SimpleCell", LSTM: "LSTMCell", GRU: "GRUCell"}


def from_flax(module: Any, variables: Any = None) -> tuple[Cell, PyTree]:
    """A cell and its parameters from a Flax cell: SimpleCell, LSTMCell, OptimizedLSTMCell or GRUCell.

    Linen: ``from_flax(module, variables)``, with ``{"params": …}`` or what is in it.
    NNX: ``from_flax(module)``, or ``from_flax(graphdef, state)`` as ``nnx.split`` returns them.

    Flax keeps b beside the input product in SimpleCell and GRUCell, and beside the recurrent one in the LSTMs, where
    it makes the same sum. Linen's GRUCell has rnnlab's c (for n alone); NNX's has none, and c becomes zero: once it is
    trained to something else, NNX's cell cannot hold it.
    ``activation_fn`` of a SimpleCell, ``dtype`` and the dtype of the weights are kept; initialisers, also that of the
    carry, are the defaults: they are no weights.

    Raises:
        ValueError: for other modules, for options that rnnlab's cells do not have (``gate_fn``, ``residual``, …), for
            variables that are not the module's, mixed dtypes, or float64 while ``jax_enable_x64`` is off.
    """
    module, api, tree = _open(module, variables)
    name = type(module).__name__
    layout = _LAYOUTS[api].get(name)
    if layout is None or type(module) is not getattr(_library(api), name):
        known = ", ".join(_LAYOUTS[api])
        raise ValueError(
            f"rnnlab has no counterpart of Flax's {name}; give the bare cell, one of {known}"
        )
    _check_options(module, layout)

    options = {"activation": module.activation_fn} if layout.kind is RNN else {}
    cell = layout.kind(
        module.features if api == "linen" else module.hidden_features, dtype=module.dtype, **options
    )
    kernels = [leaf for leaf in jax.tree.leaves(tree.get(layout.w_x[0])) if np.ndim(leaf) == 2]
    inputs = kernels[0].shape[0] if kernels else 1
    wanted = jax.eval_shape(lambda key: _write(layout, cell.init(key, inputs)), jax.random.key(0))
    _check.same_tree(
        "variables", tree, wanted, f"give those of the {name}, without a name around them"
    )
    leaves = {
        jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    return dataclasses.replace(cell, param_dtype=one_dtype("variables", leaves)), _read(
        layout, tree
    )


def to_flax(
    cell: Cell, params: PyTree, *, api: Literal["linen", "nnx"] = "linen", optimized: bool = False
) -> tuple[Any, Any]:
    """The Flax cell that computes the same, and its arrays: the inverse of :func:`from_flax`, bit for bit.

    ``api="linen"`` gives ``(module, {"params": …})`` for ``module.apply``; ``api="nnx"`` gives ``(graphdef, state)``,
    and ``nnx.merge(*to_flax(cell, params, api="nnx"))`` is the module. Both are what :func:`from_flax` takes.

    Args:
        cell: a plain RNN, LSTM or GRU; of layers, convert each on its own.
        params: its parameters.
        api: which of Flax's two libraries.
        optimized: makes an OptimizedLSTMCell of an LSTM, in place of an LSTMCell.

    Raises:
        ValueError: for what Flax's cells cannot express (each message says the mend): other cells, layers,
            ``bias=False``, a second bias; for parameters that are not the cell's.
    """
    _check.one_of("api", api, tuple(_LAYOUTS))
    known = plain(cell, "Flax")
    _check_biases(known)
    own_params(known, params)
    if optimized and type(known) is not LSTM:
        raise ValueError(f"Flax has no optimized {type(known).__name__}; leave optimized=False")
    name = "Optimized" * optimized + _PEERS[type(known)]
    layout = _LAYOUTS[api][name]
    one_dtype("params", {key: leaf for key, leaf in params._asdict().items() if leaf is not None})
    if params.c is not None and not layout.c and not blank(params.c):
        raise ValueError(
            'an NNX GRUCell has no bias beside the recurrent product of n; give api="linen", or a zero c'
        )

    options: dict[str, Any] = {"dtype": known.dtype, "param_dtype": known.param_dtype}
    if isinstance(known, RNN):
        options["activation_fn"] = activation_function(known.activation)
    make = getattr(_library(api), name)
    tree = _write(layout, jax.tree.map(jnp.array, params))
    if api == "linen":
        return make(features=known.hidden_size, **options), {"params": tree}
    from flax import nnx

    inputs = params.w_x.shape[0]
    module = nnx.eval_shape(lambda: make(inputs, known.hidden_size, rngs=nnx.Rngs(0), **options))
    graphdef, state = nnx.split(module)
    nnx.replace_by_pure_dict(state, tree)
    return graphdef, state


def _open(module: Any, variables: Any) -> tuple[Any, str, dict[str, Any]]:
    """The module, whether it is "linen" or "nnx", and its parameters as nested dictionaries of arrays."""
    from flax import core, linen, nnx

    if isinstance(module, linen.Module):
        if not isinstance(variables, Mapping):
            raise ValueError(
                "a linen module holds no arrays; give its variables too, from_flax(module, variables)"
            )
        return module, "linen", core.unfreeze(variables.get("params", variables))
    if isinstance(module, nnx.GraphDef):
        if variables is None:
            raise ValueError(
                "a graphdef holds no arrays; give its state too, from_flax(graphdef, state)"
            )
        module, variables = nnx.merge(module, variables), None
    if not isinstance(module, nnx.Module):
        raise ValueError(f"{type(module).__name__} is no Flax module; give a linen or an NNX cell")
    if variables is not None:
        raise ValueError(
            "an NNX module holds its own arrays; leave variables out, or give (graphdef, state)"
        )
    return module, "nnx", nnx.to_pure_dict(nnx.state(module, nnx.Param))


def _library(api: str) -> Any:
    from flax import linen, nnx

    return linen if api == "linen" else nnx


def _check_options(module: Any, layout: _Layout) -> None:
    """ValueError for an option of Flax's that changes the equations of the cell."""
    options = inspect.signature(type(module).__init__).parameters
    for name in (
        "gate_fn",
        "residual",
        "promote_dtype",
        *(() if layout.kind is RNN else ("activation_fn",)),
    ):
        if name in options and getattr(module, name) is not options[name].default:
            kind, value = type(module).__name__, getattr(module, name)
            raise ValueError(
                f"rnnlab has no counterpart of a {kind} with {name}={value!r}; give one with the default"
            )


def _check_biases(cell: Any) -> None:
    if not cell.bias:
        raise ValueError(
            "Flax's cells have a bias; give a cell with bias=True, whose b (and c) is zero"
        )
    if cell.recurrent_bias:
        mend = (
            "add params.c to params.b"
            if type(cell) is not GRU
            else "add the r and z rows of params.c to params.b"
        )
        raise ValueError(
            f"Flax has no second bias; {mend} and give the cell with recurrent_bias=False"
        )


def _read(layout: _Layout, tree: Mapping[str, Any]) -> PyTree:
    def gather(names: tuple[str, ...], leaf: str) -> Any:
        return jnp.concatenate([jnp.array(tree[name][leaf]) for name in names], axis=-1)

    w_x, w_h, b = (
        gather(layout.w_x, "kernel"),
        gather(layout.w_h, "kernel"),
        gather(layout.b, "bias"),
    )
    if layout.c:
        return _PARAMS[layout.kind](w_x, w_h, b, gather(layout.c, "bias"))
    return _PARAMS[layout.kind](
        w_x, w_h, b, jnp.zeros(w_h.shape[:1], w_h.dtype) if layout.kind is GRU else None
    )


def _write(layout: _Layout, params: Any) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for field, leaf in (("w_x", "kernel"), ("w_h", "kernel"), ("b", "bias"), ("c", "bias")):
        names = getattr(layout, field)
        if names:
            pieces = jnp.split(getattr(params, field), len(names), axis=-1)
            for name, piece in zip(names, pieces, strict=True):
                tree.setdefault(name, {})[leaf] = piece
    return tree
