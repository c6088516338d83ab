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
"""The place of rnnlab's gates among Keras's, by their number: Keras's GRU has z, r, h."""


def from_keras(layer: Any) -> tuple[Cell, PyTree]:
    """A cell and its parameters from a Keras ``SimpleRNN``, ``GRU``, ``LSTM`` or ``Bidirectional``.

    Keras writes  x W + h U + b  with W ``[I, gates · H]`` and U ``[H, gates · H]``, which are w_x
    and w_h with the gates in the order i, f, g, o and z, r, h (here r, z, n). A GRU has two biases
    where ``reset_after=True``, its default; it is then ``GRU(reset="after")``, otherwise
    ``GRU(reset="before")``.

    >>> import keras
    >>> layer = keras.layers.LSTM(5)
    >>> layer.build((None, None, 3))
    >>> cell, params = from_keras(layer)
    >>> type(cell).__name__, params.w_x.shape
    ('LSTM', (3, 20))

    Args:
        layer: a layer that is built, so that it has weights.

    Returns:
        The cell, and its parameters. Initialisers, dropout and ``go_backwards`` are not among the
        weights.

    Raises:
        ValueError: for other layers, one without weights, and activations that rnnlab's cells do
            not have.
    """
    kind = type(layer).__name__
    if kind == "Bidirectional":
        if layer.merge_mode != "concat":
            raise ValueError(
                f"merge_mode is {layer.merge_mode!r}; "
                "rnnlab sets both directions side by side, as 'concat' does"
            )
        forward, forward_params = from_keras(layer.forward_layer)
        backward, backward_params = from_keras(layer.backward_layer)
        params = BidirectionalParams(forward_params, backward_params)
        return bidirectional(forward, backward), params
    # PyTorch's modules have the same names.
    if kind not in _GATES or not hasattr(layer, "get_weights"):
        raise ValueError(
            f"a {type(layer).__module__}.{kind} is not a recurrent layer of Keras; give a "
            "SimpleRNN, a GRU, an LSTM, or a Bidirectional of one"
        )
    weights = [np.asarray(weight) for weight in layer.get_weights()]
    if not weights:
        raise ValueError(
            f"the {kind} has no weights yet; call layer.build((None, None, input_size))"
        )
    return _cell(kind, layer.get_config(), weights), _params(kind, weights)


def _cell(kind: str, config: dict[str, Any], weights: list[np.ndarray]) -> Cell:
    """The cell with the equations of the layer."""
    size = weights[1].shape[0]
    named_weights = {f"weight {index}": weight for index, weight in enumerate(weights)}
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
    has_two = c is not None and c.size > size
    return GRU(size, reset=reset, recurrent_bias=has_two, **options)


def _params(kind: str, weights: list[np.ndarray]) -> PyTree:
    gates = _GATES[kind]
    size = weights[1].shape[0]

    def reordered(array: np.ndarray | None) -> Array | None:
        return None if array is None else _reordered(array, gates, size)

    named_params = {"SimpleRNN": RNNParams, "GRU": GRUParams, "LSTM": LSTMParams}[kind]
    arrays = weights[0], weights[1], *_biases(weights)
    return named_params(*map(reordered, arrays))


def to_keras(cell: Cell, params: PyTree) -> list[np.ndarray]:
    """The weights for the Keras layer with the same outputs, in the order of ``set_weights``.

    The layer is a ``SimpleRNN``, a ``GRU`` (``reset_after`` as the cell's ``reset``) or an ``LSTM``
    of the same size, or a ``Bidirectional`` of one; ``use_bias`` is the cell's ``bias``.

    >>> import jax
    >>> cell = LSTM(5)
    >>> weights = to_keras(cell, cell.init(jax.random.key(0), 3))
    >>> [weight.shape for weight in weights]  # for layer.set_weights(weights)
    [(3, 20), (5, 20), (20,)]

    Raises:
        ValueError: for other cells, a second bias of an RNN or an LSTM, and parameters that are not
            those of the cell.
    """
    own_params(cell, params)
    if isinstance(cell, Bidirectional):
        forward = to_keras(cell.forward, params.forward)
        backward = to_keras(cell.backward, params.backward)
        return forward + backward
    cell = plain(cell, "Keras", besides=("reset",))
    gates = {RNN: 1, GRU: 3, LSTM: 4}[type(cell)]
    size = cell.hidden_size
    w_x = _reordered(params.w_x, gates, size)
    w_h = _reordered(params.w_h, gates, size)
    if isinstance(cell, GRU) and cell.reset == "after" and params.b is not None:
        # Keras has a second bias for every gate; rnnlab may have one for n alone, the last gate.
        missing = params.b.size - params.c.size
        b = _reordered(params.b, gates, size)
        c = _reordered(jnp.pad(params.c, (missing, 0)), gates, size)
        return _numpy([w_x, w_h, jnp.stack([b, c])])
    if params.c is not None:
        raise ValueError(
            f"Keras's {type(cell).__name__} has one bias; "
            "add c to b, and give a cell with recurrent_bias=False"
        )
    if params.b is None:
        return _numpy([w_x, w_h])
    return _numpy([w_x, w_h, _reordered(params.b, gates, size)])


def _biases(weights: Sequence[np.ndarray]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """b and c: Keras has one row, or one for the inputs and one for the state."""
    if len(weights) < 3:
        return None, None
    bias = weights[2]
    size = weights[1].shape[0]
    if bias.ndim == 1:
        return bias, None
    b, c = bias
    # For z and r, c only adds to b; for the candidate it acts inside of r ⊙ (…). So rnnlab's GRU
    # has by default a c of the candidate alone, which is enough where the rest is zero.
    if blank(c[:-size]):
        c = c[-size:]
    return b, c


def _reordered(array: Any, gates: int, size: int) -> Array:
    """An array ``[..., gates · H]`` with the gates in the other library's order.

    Reordering twice gives the first order back, so that one function serves both directions.
    """
    # A GRU's c of the candidate alone, [H], needs no reordering: its gate is last in both orders.
    if array.shape[-1] != gates * size:
        return jnp.asarray(array)
    blocks = jnp.split(jnp.asarray(array), gates, axis=-1)
    ordered = [blocks[index] for index in _ORDER[gates]]
    return jnp.concatenate(ordered, axis=-1)


def _known_activation(name: Any) -> Activation:
    if name not in _ACTIVATIONS:
        raise ValueError(
            f"the layer has the activation {name!r}; rnnlab's cells have {', '.join(_ACTIVATIONS)}"
        )
    return named(_ACTIVATIONS[name])


def _standard_activations(kind: str, config: dict[str, Any]) -> None:
    activations = config["activation"], config["recurrent_activation"]
    if activations != ("tanh", "sigmoid"):
        raise ValueError(
            f"the {kind} has the activations {activations}; rnnlab's {kind} has tanh and sigmoid"
        )


def _numpy(arrays: Sequence[Any]) -> list[np.ndarray]:
    return [np.asarray(array) for array in arrays]
