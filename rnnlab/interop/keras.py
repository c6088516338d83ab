"""Weights from and to Keras's recurrent layers."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from rnnlab.cells import GRU, LSTM, RNN, GRUParams, LSTMParams, RNNParams
from rnnlab.cells.base import Activation
from rnnlab.cells.base import activation as named
from rnnlab.interop._shared import blank, one_dtype, own_params, plain
from rnnlab.layers import Bidirectional, BidirectionalParams, bidirectional
from rnnlab.typing import Array, Cell, PyTree

_GATES = {"SimpleRNN": 1, "GRU": 3, "LSTM": 4}
_ACTIVATIONS = {"tanh": "tanh", "relu": "relu", "sigmoid": "sigmoid", "linear": "identity"}

_ORDER = {1: (0,), 3: (1, 0, 2), 4: (0, 1, 2, 3)}
"""Where rnnlab's gates are among Keras's, which has a GRU's in the order z, r, h."""


def from_keras(layer: Any) -> tuple[Cell, PyTree]:
    """A cell and its parameters from a Keras ``SimpleRNN``, ``GRU``, ``LSTM``, or ``Bidirectional`` of one.

    Keras writes  x W + h U + b  with W ``[I, gates · H]`` and U ``[H, gates · H]``, which are w_x and w_h with the
    gates in the order i, f, g, o and z, r, h (here r, z, n). A GRU has two biases where ``reset_after=True``, its
    default; it is then ``GRU(reset="after")``, else ``GRU(reset="before")``.

    Args:
        layer: a layer that is built, so that it has weights.

    Returns:
        The cell, and its parameters. Initialisers, dropout and ``go_backwards`` are not among the weights.

    Raises:
        ValueError: for other layers, one without weights, and activations that rnnlab's cells do not have.
    """
    kind = type(layer).__name__
    if kind == "Bidirectional":
        if layer.merge_mode != "concat":
            raise ValueError(
                f"merge_mode is {layer.merge_mode!r}; rnnlab sets both directions side by side, as 'concat' does"
            )
        cell, forward = from_keras(layer.forward_layer)
        turned, backward = from_keras(layer.backward_layer)
        return bidirectional(cell, turned), BidirectionalParams(forward, backward)
    # PyTorch's modules have the same names.
    if kind not in _GATES or not hasattr(layer, "get_weights"):
        raise ValueError(
            f"a {type(layer).__module__}.{kind} is no recurrent layer of Keras; give a SimpleRNN, "
            "a GRU, an LSTM, or a Bidirectional of one"
        )
    weights = [np.asarray(weight) for weight in layer.get_weights()]
    if not weights:
        raise ValueError(
            f"the {kind} has no weights yet; call layer.build((None, None, input_size))"
        )
    return _cell(kind, layer.get_config(), weights), _params(kind, weights)


def _cell(kind: str, config: dict[str, Any], weights: list[np.ndarray]) -> Cell:
    """The cell that computes what the layer does."""
    size = weights[1].shape[0]
    named_weights = {f"weight {place}": weight for place, weight in enumerate(weights)}
    options: dict[str, Any] = {
        "param_dtype": one_dtype("the layer", named_weights),
        "bias": len(weights) == 3,
    }
    if kind == "SimpleRNN":
        return RNN(size, activation=_known_activation(config["activation"]), **options)
    _standard_activations(kind, config)
    if kind == "LSTM":
        return LSTM(size, **options)
    reset = "after" if config["reset_after"] else "before"
    _, c = _biases(weights)
    twice = c is not None and c.size > size
    return GRU(size, reset=reset, recurrent_bias=twice, **options)


def _params(kind: str, weights: list[np.ndarray]) -> PyTree:
    gates, size = _GATES[kind], weights[1].shape[0]
    w_x, w_h = (_reordered(weight, gates, size) for weight in weights[:2])
    b, c = (None if bias is None else _reordered(bias, gates, size) for bias in _biases(weights))
    make = {"SimpleRNN": RNNParams, "GRU": GRUParams, "LSTM": LSTMParams}[kind]
    return make(w_x, w_h, b, c)


def to_keras(cell: Cell, params: PyTree) -> list[np.ndarray]:
    """The weights of the Keras layer that computes the same: ``layer.set_weights(to_keras(cell, params))``.

    The layer is a ``SimpleRNN``, a ``GRU`` (with ``reset_after`` as the cell's ``reset`` says) or an ``LSTM`` of the
    same size, or a ``Bidirectional`` of one; ``use_bias`` is the cell's ``bias``.

    Raises:
        ValueError: for other cells, a second bias of an RNN or an LSTM, and parameters that are not the cell's.
    """
    if isinstance(cell, Bidirectional):
        own_params(cell, params)
        return to_keras(cell.forward, params.forward) + to_keras(cell.backward, params.backward)
    own_params(cell, params)
    cell = plain(cell, "Keras", besides=("reset",))
    gates = {RNN: 1, GRU: 3, LSTM: 4}[type(cell)]
    size = cell.hidden_size
    weights = [_reordered(array, gates, size) for array in (params.w_x, params.w_h)]
    if isinstance(cell, GRU) and cell.reset == "after" and params.b is not None:
        c = jnp.pad(params.c, (params.b.size - params.c.size, 0))
        return _numpy([*weights, jnp.stack([_reordered(b, gates, size) for b in (params.b, c)])])
    if params.c is not None:
        raise ValueError(
            f"Keras's {type(cell).__name__} has one bias; add c to b, and give a cell with recurrent_bias=False"
        )
    return _numpy(weights if params.b is None else [*weights, _reordered(params.b, gates, size)])


def _biases(weights: Sequence[np.ndarray]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """b and c: one row, or one for the inputs and one for the state."""
    if len(weights) < 3:
        return None, None
    bias, size = weights[2], weights[1].shape[0]
    if bias.ndim == 1:
        return bias, None
    b, c = bias
    # A GRU's c acts within r ⊙ (…) for the candidate alone; for z and r it adds to b.
    return b, c[-size:] if blank(c[:-size]) else c


def _reordered(array: Any, gates: int, size: int) -> Array:
    """An array ``[..., gates · H]`` with the gates in the other library's order, which is its own inverse.

    A GRU's c of the candidate alone, ``[H]``, stays what it is: its gate is the last in both orders.
    """
    if array.shape[-1] != gates * size:
        return jnp.asarray(array)
    blocks = jnp.split(jnp.asarray(array), gates, axis=-1)
    return jnp.concatenate([blocks[place] for place in _ORDER[gates]], axis=-1)


def _known_activation(name: Any) -> Activation:
    if name not in _ACTIVATIONS:
        raise ValueError(
            f"the layer has the activation {name!r}; rnnlab's cells have {', '.join(_ACTIVATIONS)}"
        )
    return named(_ACTIVATIONS[name])


def _standard_activations(kind: str, config: dict[str, Any]) -> None:
    found = config["activation"], config["recurrent_activation"]
    if found != ("tanh", "sigmoid"):
        raise ValueError(
            f"the {kind} has the activations {found}; rnnlab's {kind} has tanh and sigmoid"
        )


def _numpy(arrays: Sequence[Any]) -> list[np.ndarray]:
    return [np.asarray(array) for array in arrays]
