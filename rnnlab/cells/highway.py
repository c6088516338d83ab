"""The recurrent highway network: several layers within each step."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.cells.base import Recurrent, affine, keep_precision, lift
from rnnlab.typing import Array, Key


class HighwayParams(NamedTuple):
    """Candidate h and transform gate t side by side, in this order.

    w_x ``[I, 2H]``; w_h ``[H, 2H]`` and b ``[2H]`` of the first layer of a step; deep_w
    ``[L − 1, H, 2H]`` and deep_b ``[L − 1, 2H]`` of the others. What the cell does not have is
    None.
    """

    w_x: Array
    w_h: Array
    b: Array | None = None
    deep_w: Array | None = None
    deep_b: Array | None = None


class HighwayState(NamedTuple):
    """h ``[..., H]``, the output of the last layer of a step."""

    h: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Highway(Recurrent):
    """Recurrent highway network with coupled gates (Zilly et al. 2017, arXiv 1607.03474).

    Each step has L layers, from s⁰ = hₜ₋₁ to hₜ = s^L; only the first reads the inputs:

    ĥ^ℓ = tanh(W_xh xₜ [ℓ = 1] + R_h^ℓ s^(ℓ−1) + b_h^ℓ)
    t^ℓ = σ(W_xt xₜ [ℓ = 1] + R_t^ℓ s^(ℓ−1) + b_t^ℓ)
    s^ℓ = t^ℓ ⊙ ĥ^ℓ + (1 − t^ℓ) ⊙ s^(ℓ−1)

    The carry gate is 1 − t. A gradient passes T·L layers in T steps.
    Shapes: x ``[..., I]``, h and the output ``[..., H]``.
    Raises ValueError for a ``hidden_size`` or a ``depth`` below 1, ``recurrent_bias``, and for a
    ``transform_bias`` beside ``bias_init``.

    >>> cell = Highway(8, depth=3)
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> params.deep_w.shape
    (2, 8, 16)

    Attributes:
        depth: L, the layers of a step.
        transform_bias: initial value of b_t in every layer; None is −2, so that layers mostly carry
            at first, or the value that ``bias_init`` draws.
        bias_init: draws the biases of each layer as ``(2, H)``, rows h, t.
    """

    depth: int = 2
    transform_bias: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "depth", _check.positive_int("depth", self.depth))
        if self.recurrent_bias:
            raise ValueError("Highway has one bias for each layer; leave recurrent_bias False")
        _check.initial_bias(self, "transform_bias")

    def init(self, key: Key, input_size: int) -> HighwayParams:
        """Initial parameters for inputs of ``input_size`` features."""
        _check.to_init(key, input_size)
        k_in, k_rec, k_bias = jax.random.split(key, 3)
        weights = []
        biases = []
        for layer in range(self.depth):
            k_weights, k_biases = (jax.random.fold_in(k, layer) for k in (k_rec, k_bias))
            weights.append(self.draw_weights(self.recurrent_init, k_weights, self.hidden_size, 2))
            biases.append(self.draw_biases(k_biases, 2) if self.bias else None)
        is_deep = self.depth > 1
        return HighwayParams(
            w_x=self.draw_weights(self.kernel_init, k_in, input_size, 2),
            w_h=weights[0],
            b=biases[0],
            deep_w=jnp.stack(weights[1:]) if is_deep else None,
            deep_b=jnp.stack(biases[1:]) if is_deep and self.bias else None,
        )

    def draw_biases(self, key: Key, gates: int) -> Array:
        biases = super().draw_biases(key, gates)
        if self.bias_init is not None:
            return biases
        transform_bias = -2.0 if self.transform_bias is None else self.transform_bias
        return biases.at[self.hidden_size :].set(transform_bias)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> HighwayState:
        return HighwayState(h=self.zeros(batch_shape))

    def mix(self, params: HighwayParams, state: HighwayState) -> Array:
        """The first layer's product with h, ``[..., 2H]``."""
        return affine(state.h, params.w_h, None, self.dtype)

    def gate(
        self,
        params: HighwayParams,
        state: HighwayState,
        z: Array,
        a: Array,
    ) -> tuple[HighwayState, Array]:
        s = _layer(z + a, state.h)
        for layer in range(self.depth - 1):
            assert params.deep_w is not None
            b = None if params.deep_b is None else params.deep_b[layer]
            s = _layer(affine(s, params.deep_w[layer], b, self.dtype), s)
        state = keep_precision(HighwayState(s), state)
        return state, state.h


def _layer(sums: Array, s: Array) -> Array:
    """t ⊙ ĥ + (1 − t) ⊙ s, from what enters both nonlinearities, ``[..., 2H]``."""
    candidate, transform = jnp.split(sums, 2, axis=-1)
    t = jax.nn.sigmoid(transform)
    written = t * jnp.tanh(candidate)
    return lift(written, s) + lift(1 - t, s) * s
