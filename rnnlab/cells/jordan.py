"""Jordan's network, which feeds back its output and not its hidden layer."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.cells.base import (
    Activation,
    Recurrent,
    activation,
    activation_function,
    affine,
    keep_precision,
)
from rnnlab.typing import Array, Key


class JordanParams(NamedTuple):
    """w_x ``[I, H]``, w_h ``[O, H]`` (from the fed-back output), b ``[H]``, and the readout.

    The readout has w_y ``[H, O]`` and b_y ``[O]``. A bias that the cell does not have is None.
    """

    w_x: Array
    w_h: Array
    b: Array | None
    w_y: Array
    b_y: Array | None


class JordanState(NamedTuple):
    """h ``[..., O]``: the last output, which is all that the network carries."""

    h: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class JordanRNN(Recurrent):
    """Jordan's network with output feedback (Jordan 1986).

    sₜ = φ(W_x xₜ + W_h yₜ₋₁ + b),  yₜ = ψ(W_y sₜ + b_y).
    The state is y, ``[..., O]``; s is not carried.
    ``recurrent_init`` must allow a matrix ``[O, H]``. Raises ValueError for sizes below 1 and
    unknown activations.

    >>> cell = JordanRNN(8, feedback_size=2)
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> params.w_h.shape
    (2, 8)

    Attributes:
        feedback_size: O, the number of outputs, all of which are fed back; H by default.
        activation: φ, of the hidden layer.
        output_activation: ψ, of the output.
    """

    feedback_size: int | None = None
    activation: Activation = "tanh"
    output_activation: Activation = "identity"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.feedback_size is not None:
            _check.positive_int("feedback_size", self.feedback_size)
        if self.recurrent_bias:
            raise ValueError("JordanRNN has one bias per layer; leave recurrent_bias False")
        object.__setattr__(self, "activation", activation(self.activation))
        object.__setattr__(self, "output_activation", activation(self.output_activation))

    @property
    def output_size(self) -> int:
        return self.feedback_size or self.hidden_size

    def init(self, key: Key, input_size: int) -> JordanParams:
        """Initial parameters for inputs of ``input_size`` features."""
        _check.to_init(key, input_size)
        k_in, k_rec, k_bias, k_out = jax.random.split(key, 4)
        readout_shape = self.hidden_size, self.output_size
        return JordanParams(
            w_x=self.draw_weights(self.kernel_init, k_in, input_size, 1),
            w_h=self.draw_weights(self.recurrent_init, k_rec, self.output_size, 1),
            b=self.draw_biases(k_bias, 1) if self.bias else None,
            w_y=_check.drawn(
                "kernel_init",
                self.kernel_init(k_out, readout_shape, self.param_dtype),
                readout_shape,
            ),
            b_y=jnp.zeros(self.output_size, self.param_dtype) if self.bias else None,
        )

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> JordanState:
        # The state is the output, whose size may differ from that of the hidden layer.
        return JordanState(h=self.zeros(batch_shape, self.output_size))

    def mix(self, params: JordanParams, state: JordanState) -> Array:
        return affine(state.h, params.w_h, None, self.dtype)

    def gate(
        self,
        params: JordanParams,
        state: JordanState,
        z: Array,
        a: Array,
    ) -> tuple[JordanState, Array]:
        s = activation_function(self.activation)(z + a)  # sₜ = φ(W_x xₜ + W_h yₜ₋₁ + b)
        y = affine(s, params.w_y, params.b_y, self.dtype)
        y = activation_function(self.output_activation)(y)  # yₜ = ψ(W_y sₜ + b_y)
        state = keep_precision(JordanState(y), state)
        return state, state.h
