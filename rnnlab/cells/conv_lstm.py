"""The convolutional LSTM."""

import dataclasses

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.cells.base import keep_precision, lift, spread
from rnnlab.cells.conv import Convolutional, ConvParams, as_vector
from rnnlab.cells.lstm import LSTMState
from rnnlab.typing import Array, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvLSTM(Convolutional):
    """Convolutional LSTM (Shi et al. 2015, arXiv 1506.04214), with ∗ for a convolution.

    iₜ = σ(W_xi ∗ xₜ + W_hi ∗ hₜ₋₁ + b_i)        fₜ = σ(W_xf ∗ xₜ + W_hf ∗ hₜ₋₁ + b_f)
    gₜ = tanh(W_xg ∗ xₜ + W_hg ∗ hₜ₋₁ + b_g)     oₜ = σ(W_xo ∗ xₜ + W_ho ∗ hₜ₋₁ + b_o)
    cₜ = fₜ ⊙ cₜ₋₁ + iₜ ⊙ gₜ                     hₜ = oₜ ⊙ tanh(cₜ)

    ``peephole``: i and f also read p ⊙ cₜ₋₁, and o reads p ⊙ cₜ, with a p for each pixel, as in the
    paper; Flax's ConvLSTMCell has none. Of Flax's cell, b is the sum of both biases, plus 1 for f,
    and the order of gates is i, g, f, o.
    Images are vectors, as :class:`Convolutional` says: x ``[..., P · channels]``, c, h and the
    output ``[..., P · C]`` for P pixels. The state is an :class:`LSTMState`.
    Raises ValueError for sizes below 1, a ``kernel_size`` with other axes than ``shape``,
    ``recurrent_bias``, a ``forget_bias`` beside ``bias_init``, and inputs that are not images of
    ``shape``.

    >>> cell = ConvLSTM(8, shape=(6, 5))
    >>> params = cell.init(jax.random.key(0), input_size=6 * 5 * 3)
    >>> state, y = cell.step(params, cell.initial_state(), jnp.ones(6 * 5 * 3))
    >>> cell.images(y).shape
    (6, 5, 8)

    Attributes:
        forget_bias: initial value of b_f; None is 1, or the value that ``bias_init`` draws.
        peephole: whether the gates read the cell state.
        bias_init: draws b as ``(4, C)``, rows i, f, g, o.
    """

    forget_bias: float | None = None
    peephole: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.initial_bias(self, "forget_bias")

    def init(self, key: Key, input_size: int) -> ConvParams:
        """Initial parameters for images of ``input_size`` numbers."""
        _check.to_init(key, input_size)
        k_in, k_rec, k_bias = jax.random.split(key, 3)
        peephole = None
        if self.peephole:
            peephole = jnp.zeros((3, self.pixels, self.hidden_size), self.param_dtype)
        return ConvParams(
            w_x=self.draw_kernel(self.kernel_init, k_in, self.channels(input_size), 4),
            w_h=self.draw_kernel(self.recurrent_init, k_rec, self.hidden_size, 4),
            b=self.draw_biases(k_bias, 4) if self.bias else None,
            peephole=peephole,
        )

    def draw_biases(self, key: Key, gates: int) -> Array:
        biases = super().draw_biases(key, gates)
        if self.bias_init is not None:
            return biases
        forget_bias = 1.0 if self.forget_bias is None else self.forget_bias
        return biases.at[self.hidden_size : 2 * self.hidden_size].set(forget_bias)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> LSTMState:
        return LSTMState(c=self.zeros(batch_shape), h=self.zeros(batch_shape))

    def gate(
        self,
        params: ConvParams,
        state: LSTMState,
        z: Array,
        a: Array,
    ) -> tuple[LSTMState, Array]:
        i, f, g, o = jnp.split(self.by_pixel(z + a), 4, axis=-1)
        old = self.by_pixel(state.c)
        rows = () if params.peephole is None else params.peephole
        peepholes = [spread(row, old) for row in rows]
        if peepholes:
            i = lift(i, old) + peepholes[0] * old
            f = lift(f, old) + peepholes[1] * old
        written = jax.nn.sigmoid(i) * lift(jnp.tanh(g), i)
        kept = lift(jax.nn.sigmoid(f), old) * old
        c = kept + lift(written, old)  # cₜ = fₜ ⊙ cₜ₋₁ + iₜ ⊙ gₜ
        if peepholes:
            o = lift(o, c) + peepholes[2] * c
        h = lift(jax.nn.sigmoid(o), c) * jnp.tanh(c)  # hₜ = oₜ ⊙ tanh(cₜ)
        state = keep_precision(LSTMState(as_vector(c), as_vector(h)), state)
        return state, state.h
