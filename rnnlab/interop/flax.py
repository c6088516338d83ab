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
    """The dense layers of a Flax cell that hold each array; several where each gate has its own."""

    kind: type
    w_x: tuple[str, ...]
    w_h: tuple[str, ...]
    b: tuple[str, ...]
    c: tuple[str, ...] = ()


# The gates are in rnnlab's order, so that setting the layers side by side gives w_x and w_h.
_IFGO = ("hi", "hf", "hg", "ho")
_LINEN = {
    "SimpleCell": _Layout(RNN, ("i",), ("h",), b=("i",)),
    "LSTMCell": _Layout(LSTM, ("ii", "if", "ig", "io"), _IFGO, b=_IFGO),
    "OptimizedLSTMCell": _Layout(LSTM, ("ii", "if", "ig", "io"), _IFGO, b=_IFGO),
    "GRUCell": _Layout(
        GRU, ("ir", "iz", "in"), ("hr", "hz", "hn"), b=("ir", "iz", "in"), c=("hn",)
    ),
}
_NNX = {
    "SimpleCell": _Layout(RNN, ("dense_i",), ("dense_h",), b=("dense_i",)),
    "LSTMCell": _Layout(LSTM, ("ii", "if_", "ig", "io"), _IFGO, b=_IFGO),
    "OptimizedLSTMCell": _Layout(LSTM, ("dense_i",), ("dense_h",), b=("dense_h",)),
    # Unlike linen's, and whatever its docstring says, this cell has no b_hn.
    "GRUCell": _Layout(GRU, ("dense_i",), ("dense_h",), b=("dense_i",)),
}
_LAYOUTS = {"linen": _LINEN, "nnx": _NNX}
_PARAMS = {RNN: RNNParams, LSTM: LSTMParams, GRU: GRUParams}
_PEERS = {RNN: "SimpleCell", LSTM: "LSTMCell", GRU: "GRUCell"}


def from_flax(module: Any, variables: Any = None) -> tuple[Cell, PyTree]:
    """A cell and its parameters from a Flax SimpleCell, LSTMCell, OptimizedLSTMCell or GRUCell.

    Linen: ``from_flax(module, variables)``, with ``{"params": …}`` or its contents.
    NNX: ``from_flax(module)``, or ``from_flax(graphdef, state)`` as ``nnx.split`` returns them.

    >>> from flax import nnx
    >>> cell, params = from_flax(nnx.LSTMCell(3, 5, rngs=nnx.Rngs(0)))
    >>> type(cell).__name__, params.w_x.shape
    ('LSTM', (3, 20))

    Flax keeps b beside the input product in SimpleCell and GRUCell, and beside the recurrent one in
    the LSTMs, where it gives the same sum. Linen's GRUCell has rnnlab's c (for n alone); NNX's has
    none, and c becomes zero: once c is trained, NNX's cell cannot hold it.
    ``activation_fn`` of a SimpleCell, ``dtype`` and the dtype of the weights are kept.
    Initialisers, also that of the carry, are not kept: the cell has the defaults.

    Raises:
        ValueError: for other modules, for options that rnnlab's cells do not have (``gate_fn``,
            ``residual``, …), for variables that are not those of the module, mixed dtypes, or
            float64 while ``jax_enable_x64`` is off.
    """
    module, api, tree = _open(module, variables)
    name = type(module).__name__
    layout = _LAYOUTS[api].get(name)
    # A subclass of the same name may have other equations.
    if layout is None or type(module) is not getattr(_library(api), name):
        known = ", ".join(_LAYOUTS[api])
        raise ValueError(
            f"rnnlab has no counterpart of Flax's {name}; give the bare cell, one of {known}"
        )
    _check_options(module, layout)

    options = {"activation": module.activation_fn} if layout.kind is RNN else {}
    size = module.features if api == "linen" else module.hidden_features
    cell = layout.kind(size, dtype=module.dtype, **options)
    _check_tree(cell, layout, tree, name)

    leaves = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        leaves[jax.tree_util.keystr(path)] = leaf
    cell = dataclasses.replace(cell, param_dtype=one_dtype("variables", leaves))
    return cell, _read(layout, tree)


def _check_tree(cell: Any, layout: _Layout, tree: Mapping[str, Any], name: str) -> None:
    """ValueError unless ``tree`` has the names and shapes of the module's parameters."""
    inputs = 1
    # The number of inputs is known from the weights alone. Anything but a matrix there has the
    # wrong shape for every number of inputs.
    for leaf in jax.tree.leaves(tree.get(layout.w_x[0])):
        if np.ndim(leaf) == 2:
            inputs = leaf.shape[0]
            break
    wanted = jax.eval_shape(lambda key: _write(layout, cell.init(key, inputs)), jax.random.key(0))
    advice = f"give those of the {name}, without a name around them"
    _check.same_tree("variables", tree, wanted, advice)


def to_flax(
    cell: Cell, params: PyTree, *, api: Literal["linen", "nnx"] = "linen", optimized: bool = False
) -> tuple[Any, Any]:
    """The Flax cell with the same outputs, and its arrays: the exact inverse of :func:`from_flax`.

    ``api="linen"`` gives ``(module, {"params": …})`` for ``module.apply``; ``api="nnx"`` gives
    ``(graphdef, state)``, and ``nnx.merge(*to_flax(cell, params, api="nnx"))`` is the module. Both
    are valid arguments of :func:`from_flax`.

    >>> cell = LSTM(5)
    >>> module, variables = to_flax(cell, cell.init(jax.random.key(0), 3))
    >>> type(module).__name__, variables["params"]["hi"]["kernel"].shape
    ('LSTMCell', (5, 5))

    Args:
        cell: a plain RNN, LSTM or GRU; convert layers one by one.
        params: its parameters.
        api: which of Flax's two libraries.
        optimized: gives an OptimizedLSTMCell instead of an LSTMCell.

    Raises:
        ValueError: for cells that Flax cannot express (each message says the fix): other cells,
            layers, ``bias=False``, a second bias; for parameters that are not those of the cell.
    """
    _check.one_of("api", api, tuple(_LAYOUTS))
    known = plain(cell, "Flax")
    _check_biases(known)
    own_params(known, params)
    name = _PEERS[type(known)]
    if optimized:
        if type(known) is not LSTM:
            raise ValueError(f"Flax has no optimized {type(known).__name__}; leave optimized=False")
        name = f"Optimized{name}"
    layout = _LAYOUTS[api][name]
    one_dtype("params", {key: leaf for key, leaf in params._asdict().items() if leaf is not None})
    if params.c is not None and not layout.c and not blank(params.c):
        raise ValueError(
            "an NNX GRUCell has no bias beside the recurrent product of n; "
            'give api="linen", or a zero c'
        )

    options: dict[str, Any] = {"dtype": known.dtype, "param_dtype": known.param_dtype}
    if isinstance(known, RNN):
        options["activation_fn"] = activation_function(known.activation)
    flax_cell = getattr(_library(api), name)
    # Copies, so that donating one side's arrays does not delete the other's.
    tree = _write(layout, jax.tree.map(jnp.array, params))
    if api == "linen":
        return flax_cell(features=known.hidden_size, **options), {"params": tree}
    from flax import nnx

    inputs = params.w_x.shape[0]

    def build() -> Any:
        return flax_cell(inputs, known.hidden_size, rngs=nnx.Rngs(0), **options)

    # eval_shape builds the module without drawing weights that would be thrown away.
    try:
        built = nnx.eval_shape(build)
    except TypeError:
        # Flax draws orthogonal weights, which newer releases of JAX refuse in half precision.
        from flax.nnx.nn.linear import default_kernel_init

        options["recurrent_kernel_init"] = default_kernel_init
        built = nnx.eval_shape(build)
    graphdef, state = nnx.split(built)
    nnx.replace_by_pure_dict(state, tree)
    return graphdef, state


def _open(module: Any, variables: Any) -> tuple[Any, str, dict[str, Any]]:
    """The module, "linen" or "nnx", and the parameters as nested dictionaries of arrays."""
    from flax import core, linen, nnx

    if isinstance(module, linen.Module):
        if not isinstance(variables, Mapping):
            raise ValueError(
                "a linen module holds no arrays; "
                "give its variables too, from_flax(module, variables)"
            )
        params = variables.get("params", variables)
        return module, "linen", core.unfreeze(params)
    if isinstance(module, nnx.GraphDef):
        if variables is None:
            raise ValueError(
                "a graphdef holds no arrays; give its state too, from_flax(graphdef, state)"
            )
        module, variables = nnx.merge(module, variables), None
    if not isinstance(module, nnx.Module):
        raise ValueError(
            f"{type(module).__name__} is not a Flax module; give a linen or an NNX cell"
        )
    if variables is not None:
        raise ValueError(
            "an NNX module holds its own arrays; leave variables out, or give (graphdef, state)"
        )
    state = nnx.state(module, nnx.Param)
    return module, "nnx", nnx.to_pure_dict(state)


def _library(api: str) -> Any:
    from flax import linen, nnx

    return linen if api == "linen" else nnx


def _check_options(module: Any, layout: _Layout) -> None:
    """ValueError for an option of Flax's that changes the equations of the cell."""
    names = ["gate_fn", "residual", "promote_dtype"]
    if layout.kind is not RNN:
        names.append("activation_fn")
    parameters = inspect.signature(type(module).__init__).parameters
    kind = type(module).__name__
    for name in names:
        if name not in parameters:
            continue
        value = getattr(module, name)
        if value is not parameters[name].default:
            raise ValueError(
                f"rnnlab has no counterpart of a {kind} with {name}={value!r}; "
                "give one with the default"
            )


def _check_biases(cell: Any) -> None:
    if not cell.bias:
        raise ValueError(
            "Flax's cells have a bias; give a cell with bias=True, whose b (and c) is zero"
        )
    if cell.recurrent_bias:
        # The n row of a GRU's c acts inside of r ⊙ (…), so that it cannot be added to b.
        rows = "the r and z rows of params.c" if type(cell) is GRU else "params.c"
        raise ValueError(
            f"Flax has no second bias; add {rows} to params.b "
            "and give the cell with recurrent_bias=False"
        )


def _read(layout: _Layout, tree: Mapping[str, Any]) -> PyTree:
    def gather(names: tuple[str, ...], leaf: str) -> Any:
        pieces = [jnp.array(tree[name][leaf]) for name in names]
        return jnp.concatenate(pieces, axis=-1)

    w_x = gather(layout.w_x, "kernel")
    w_h = gather(layout.w_h, "kernel")
    b = gather(layout.b, "bias")
    if layout.c:
        c = gather(layout.c, "bias")
    elif layout.kind is GRU:
        # rnnlab's GRU always has the c of n; a zero one leaves the values as they are in NNX.
        c = jnp.zeros(w_h.shape[:1], w_h.dtype)
    else:
        c = None
    return _PARAMS[layout.kind](w_x, w_h, b, c)


def _write(layout: _Layout, params: Any) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for field, leaf in (("w_x", "kernel"), ("w_h", "kernel"), ("b", "bias"), ("c", "bias")):
        names = getattr(layout, field)
        # A field without names is one that Flax's cell does not have.
        if not names:
            continue
        pieces = jnp.split(getattr(params, field), len(names), axis=-1)
        for name, piece in zip(names, pieces, strict=True):
            tree.setdefault(name, {})[leaf] = piece
    return tree
