"""The independently recurrent network, whose units are connected only to themselves."""

import dataclasses
from typing import NamedTuple

import jax

from rnnlab import _check, initializers
from rnnlab.cells.base import (
    Activation,
    Recurrent,
    activation,
    activation_function,
    keep_precision,
    spread,
)
from rnnlab.typing import Array, Initializer, Key


class IndRNNParams(NamedTuple):
    """w_x ``[I, H]``, u ``[H]``, and b ``[H]`` (None where the cell has none)."""

    w_x: Array
    u: Array
    b: Array | None = None


class IndRNNState(NamedTuple):
    """h ``[..., H]``."""

    h: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndRNN(Recurrent):
    """Independently recurrent network (Li et al. 2018, arXiv 1803.04831).

    hₜ = φ(W_x xₜ + u ⊙ hₜ₋₁ + b)

    Its recurrent matrix is diagonal, so that ∂h_T/∂hₜ is the product of u φ′ for each unit alone:
    with ReLU a unit passes a gradient back by the factor u at each step. Units are mixed by the
    next layer of a stack. The paper draws u from U[0, 2^(1/T)) for sequences of T steps, thus
    ``recurrent_init=rnnlab.initializers.uniform(2 ** (1 / T))``, and keeps |u| ≤ 2^(1/T) in
    training: after each step of an optimiser, ``params._replace(u=jnp.clip(params.u, -m, m))``.
    Shapes: x ``[..., I]``, h and the output ``[..., H]``.
    Raises ValueError for a ``hidden_size`` below 1, an unknown activation and ``recurrent_bias``.

    >>> cell = IndRNN(8)
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> params.u.shape
    (8,)

    Attributes:
        activation: φ: "relu", "tanh", "sigmoid", "identity", or any elementwise function.
        recurrent_init: draws u as ``(1, H)``; from U[0, 1) by default.
    """

    activation: Activation = "relu"
    recurrent_init: Initializer = initializers.uniform(1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recurrent_bias:
            raise ValueError("IndRNN has one bias; leave recurrent_bias False")
        object.__setattr__(self, "activation", activation(self.activation))

    def init(self, key: Key, input_size: int) -> IndRNNParams:
        """Initial parameters for inputs of ``input_size`` features."""
        _check.to_init(key, input_size)
        k_in, k_rec, k_bias = jax.random.split(key, 3)
        row = self.draw_matrix(self.recurrent_init, k_rec, (1, self.hidden_size))
        return IndRNNParams(
            w_x=self.draw_weights(self.kernel_init, k_in, input_size, 1),
            u=row[0],
            b=self.draw_biases(k_bias, 1) if self.bias else None,
        )

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> IndRNNState:
        return IndRNNState(h=self.zeros(batch_shape))

    def mix(self, params: IndRNNParams, state: IndRNNState) -> Array:
        """u ⊙ h: ``[..., H]``."""
        u = params.u
        h = state.h
        if self.dtype is not None:
            u = u.astype(self.dtype)
            h = h.astype(self.dtype)
        return spread(u, h) * h

    def gate(
        self,
        params: IndRNNParams,
        state: IndRNNState,
        z: Array,
        a: Array,
    ) -> tuple[IndRNNState, Array]:
        h = activation_function(self.activation)(z + a)  # hₜ = φ(W_x xₜ + u ⊙ hₜ₋₁ + b)
        state = keep_precision(IndRNNState(h), state)
        return state, state.h
