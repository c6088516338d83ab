"""A diagonal linear recurrence whose eigenvalues depend on the input."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

import rnnlab
from rnnlab.typing import Array, Key

RANGES = {"[0, 1]": jax.nn.sigmoid, "[-1, 1]": jnp.tanh}
"""The function that maps W_a x + b_a to the eigenvalues, by their range."""


class DiagonalParams(NamedTuple):
    """w_x ``[I, 2H]`` and b ``[2H]``, of a and u; w_y ``[H, H]`` and b_y ``[H]``."""

    w_x: Array
    b: Array
    w_y: Array
    b_y: Array


class DiagonalState(NamedTuple):
    """h ``[..., H]``."""

    h: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagonal(rnnlab.Recurrent):
    """A linear recurrence with a diagonal matrix (Grazzi et al. 2024, arXiv 2411.12537).

    aₜ = α(W_a xₜ + b_a)        hₜ = aₜ ⊙ hₜ₋₁ + W_u xₜ + b_u        yₜ = relu(W_y hₜ + b_y)

    The eigenvalues of ∂hₜ/∂hₜ₋₁ are the elements of aₜ, in (0, 1) for α = σ and in (−1, 1) for
    α = tanh; units are mixed by the output alone. Shapes: x ``[..., I]``, h and the output
    ``[..., H]``. Raises ValueError for an unknown range.

    >>> cell = Diagonal(4, eigenvalues="[-1, 1]")
    >>> params = cell.init(jax.random.key(0), input_size=2)
    >>> rnnlab.unroll(cell, params, jnp.ones((10, 3, 2)))[1].shape
    (10, 3, 4)

    Attributes:
        eigenvalues: their range, "[0, 1]" or "[-1, 1]".
    """

    eigenvalues: str = "[0, 1]"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eigenvalues not in RANGES:
            names = " or ".join(map(repr, RANGES))
            raise ValueError(f"eigenvalues is {self.eigenvalues!r}; use {names}")

    def init(self, key: Key, input_size: int) -> DiagonalParams:
        """Initial parameters for inputs of ``input_size`` features."""
        k_in, k_out, k_bias = jax.random.split(key, 3)
        return DiagonalParams(
            w_x=self.draw_weights(self.kernel_init, k_in, input_size, 2),
            b=self.draw_biases(k_bias, 2),
            w_y=self.draw_weights(self.kernel_init, k_out, self.hidden_size, 1),
            b_y=jnp.zeros(self.hidden_size, self.param_dtype),
        )

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> DiagonalState:
        return DiagonalState(self.zeros(batch_shape))

    def mix(self, params: DiagonalParams, state: DiagonalState) -> Array:
        """h itself: what multiplies it depends on the input."""
        return state.h

    def gate(
        self, params: DiagonalParams, state: DiagonalState, z: Array, a: Array
    ) -> tuple[DiagonalState, Array]:
        z_a, u = jnp.split(z, 2, axis=-1)
        h = RANGES[self.eigenvalues](z_a) * a + u  # hₜ = aₜ ⊙ hₜ₋₁ + uₜ
        y = jax.nn.relu(h @ params.w_y + params.b_y)
        return DiagonalState(h), y


def solution(dtype: rnnlab.typing.Dtype = jnp.float32) -> DiagonalParams:
    """Weights with which one unit computes parity, exactly and at any length.

    x ``[..., 1]`` holds bits. A zero keeps h (a = 1, u = 0); a one maps h to 1 − h (a = −1, u = 1).
    tanh(±20) rounds to ±1 in float32 and float64, so that h is 0 or 1 and the output is the parity.
    """
    return DiagonalParams(
        w_x=jnp.array([[-40.0, 1.0]], dtype),
        b=jnp.array([20.0, 0.0], dtype),
        w_y=jnp.ones((1, 1), dtype),
        b_y=jnp.zeros(1, dtype),
    )
