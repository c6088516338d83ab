"""Long short-term memory."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.cells.base import (
    Adjoint,
    Blocks,
    Maps,
    Recurrent,
    affine,
    keep_precision,
    lift,
    spread,
)
from rnnlab.cells.norm import layer_norm
from rnnlab.typing import Array, Key


class LSTMNorm(NamedTuple):
    """Layer-norm gains x and h of the two products, ``[4H]``, and gain and bias of c, ``[H]``."""

    x: Array
    h: Array
    c: Array
    c_bias: Array


class LSTMParams(NamedTuple):
    """w_x ``[I, 4H]``, w_h ``[H, 4H]``, b and c ``[4H]``, gates in the order i, f, g, o.

    On the concatenation [h, x] these are the one matrix ``[w_h; w_x]`` that textbooks write.
    peephole ``[3, H]`` has a row each for i, f and o. The projection w_p is ``[H, P]``, and w_h is
    then ``[P, 4H]``. What the cell does not have is None.
    """

    w_x: Array
    w_h: Array
    b: Array | None = None
    c: Array | None = None
    peephole: Array | None = None
    norm: LSTMNorm | None = None
    w_p: Array | None = None


class LSTMState(NamedTuple):
    """The cell state ``[..., H]`` and the hidden state ``[..., H]``, or ``[..., P]``."""

    c: Array  # cell state, the long-term memory
    h: Array  # hidden state, the short-term memory and the output


@dataclasses.dataclass(frozen=True, kw_only=True)
class LSTM(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997).

    iₜ = σ(W_xi xₜ + W_hi hₜ₋₁ + b_i)        fₜ = σ(W_xf xₜ + W_hf hₜ₋₁ + b_f)
    gₜ = tanh(W_xg xₜ + W_hg hₜ₋₁ + b_g)     oₜ = σ(W_xo xₜ + W_ho hₜ₋₁ + b_o)
    cₜ = fₜ ⊙ cₜ₋₁ + iₜ ⊙ gₜ                 hₜ = oₜ ⊙ tanh(cₜ)

    The forget gate f is that of Gers, Schmidhuber & Cummins 2000.
    ``peephole``: i and f also read p ⊙ cₜ₋₁, and o reads p ⊙ cₜ (Gers & Schmidhuber 2000).
    ``layer_norm``: LN(W_x x) + LN(W_h h) + b, and hₜ = oₜ ⊙ tanh(LN(cₜ)) (Ba, Kiros & Hinton 2016,
    eq. 20–22).
    ``proj_size``: hₜ = W_p (oₜ ⊙ tanh(cₜ)), with P < H numbers, so that W_h has 4HP in place of 4H²
    (Sak, Senior & Beaufays 2014, arXiv 1402.1128).
    Shapes: x ``[..., I]``, c ``[..., H]``, h and the output ``[..., H]``, or ``[..., P]``.
    Raises ValueError for a ``hidden_size`` below 1, a ``proj_size`` outside 1 … H − 1, and for a
    ``forget_bias`` beside ``bias_init``.

    >>> cell = LSTM(8)
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> params.w_h.shape
    (8, 32)

    Attributes:
        forget_bias: initial value of b_f, which is part of ``params.b``; None is 1 (Jozefowicz,
            Zaremba & Sutskever 2015), or the value that ``bias_init`` draws.
        peephole: whether the gates read the cell state.
        layer_norm: whether the products and the cell state are normalised.
        proj_size: P, the size of the projected hidden state; None for no projection.
        bias_init: draws all of b as ``(4, H)``, rows i, f, g, o.
    """

    forget_bias: float | None = None
    peephole: bool = False
    layer_norm: bool = False
    proj_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.proj_size is not None:
            proj_size = _check.positive_int("proj_size", self.proj_size)
            if proj_size >= self.hidden_size:
                raise ValueError(
                    f"proj_size is {proj_size}, but hidden_size is {self.hidden_size}; a "
                    "projection needs a smaller size, or None for no projection"
                )
            object.__setattr__(self, "proj_size", proj_size)
        _check.initial_bias(self, "forget_bias")

    @property
    def output_size(self) -> int:
        return self.proj_size or self.hidden_size

    def init(self, key: Key, input_size: int) -> LSTMParams:
        """Initial parameters for inputs of ``input_size`` features."""
        _check.to_init(key, input_size)
        k_in, k_rec, k_bias = jax.random.split(key, 3)
        size, dtype = self.hidden_size, self.param_dtype
        norm = None
        if self.layer_norm:
            ones = jnp.ones(size, dtype)
            norm = LSTMNorm(
                x=jnp.ones(4 * size, dtype),
                h=jnp.ones(4 * size, dtype),
                c=ones,
                c_bias=jnp.zeros(size, dtype),
            )
        w_p = None
        if self.proj_size is not None:
            # w_x is drawn with k_in itself, so without this both could repeat each other's values.
            k_proj = jax.random.fold_in(k_in, 1)
            w_p = self.draw_matrix(self.kernel_init, k_proj, (size, self.proj_size))
        return LSTMParams(
            w_x=self.draw_weights(self.kernel_init, k_in, input_size, 4),
            w_h=self.draw_weights(self.recurrent_init, k_rec, self.output_size, 4),
            b=self.draw_biases(k_bias, 4) if self.bias else None,
            c=self.draw_recurrent_biases(k_bias, 4) if self.recurrent_bias else None,
            peephole=jnp.zeros((3, size), dtype) if self.peephole else None,
            norm=norm,
            w_p=w_p,
        )

    def draw_biases(self, key: Key, gates: int) -> Array:
        biases = super().draw_biases(key, gates)
        if self.bias_init is not None:
            return biases
        size = self.hidden_size
        # 1 by default, thus f ≈ 0.73 at first. With f = 0.5 a gradient halves at every step.
        forget_bias = 1.0 if self.forget_bias is None else self.forget_bias
        return biases.at[size : 2 * size].set(forget_bias)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> LSTMState:
        return LSTMState(c=self.zeros(batch_shape), h=self.zeros(batch_shape, self.output_size))

    def project(self, params: LSTMParams, xs: Array) -> Array:
        if params.norm is None:
            return super().project(params, xs)
        product = affine(xs, params.w_x, None, self.dtype)
        z = layer_norm(product, params.norm.x)
        if params.b is None:
            return z
        return z + spread(params.b.astype(z.dtype), z)

    def mix(self, params: LSTMParams, state: LSTMState) -> Array:
        if params.norm is None:
            return super().mix(params, state)
        product = affine(state.h, params.w_h, None, self.dtype)
        a = layer_norm(product, params.norm.h)
        if params.c is None:
            return a
        return a + spread(params.c.astype(a.dtype), a)

    def gate(
        self,
        params: LSTMParams,
        state: LSTMState,
        z: Array,
        a: Array,
    ) -> tuple[LSTMState, Array]:
        i, f, g, o = jnp.split(z + a, 4, axis=-1)
        rows = () if params.peephole is None else params.peephole
        peepholes = [spread(row, state.c) for row in rows]
        if peepholes:
            i = lift(i, state.c) + peepholes[0] * state.c
            f = lift(f, state.c) + peepholes[1] * state.c
        written = jax.nn.sigmoid(i) * lift(jnp.tanh(g), i)
        kept = lift(jax.nn.sigmoid(f), state.c) * state.c
        c = kept + lift(written, state.c)  # cₜ = fₜ ⊙ cₜ₋₁ + iₜ ⊙ gₜ
        if peepholes:
            o = lift(o, c) + peepholes[2] * c
        # Only the output reads the normalised c. The carried c stays as it is: normalised at each
        # step it could not accumulate.
        read = c if params.norm is None else layer_norm(c, params.norm.c, params.norm.c_bias)
        h = lift(jax.nn.sigmoid(o), c) * jnp.tanh(read)  # hₜ = oₜ ⊙ tanh(cₜ)
        if params.w_p is not None:
            h = affine(h, params.w_p, None, self.dtype)
        state = keep_precision(LSTMState(c, h), state)
        return state, state.h

    def maps(self, params: LSTMParams) -> Maps | None:
        # gate_adjoint below is that of the plain gate only.
        if self.peephole or self.layer_norm or self.proj_size is not None:
            return None
        return Maps(params.w_x, params.w_h, params.b, params.c, 4 * self.hidden_size)

    def gate_residuals(
        self,
        params: LSTMParams,
        state: LSTMState,
        z: Array,
        a: Array,
    ) -> tuple[LSTMState, Blocks]:
        i, f, g, o = jnp.split(z + a, 4, axis=-1)
        i = jax.nn.sigmoid(i)
        f = jax.nn.sigmoid(f)
        g = jnp.tanh(g)
        o = jax.nn.sigmoid(o)
        c = lift(f, state.c) * state.c + lift(i * g, state.c)
        h = lift(o, c) * jnp.tanh(c)
        return keep_precision(LSTMState(c, h), state), (i, f, g, o)

    def gate_adjoint(
        self,
        params: LSTMParams,
        old: LSTMState,
        new: LSTMState,
        residuals: Blocks,
        d_new: LSTMState,
    ) -> Adjoint:
        i, f, g, o = (lift(gate, new.c) for gate in residuals)
        tanh_c = jnp.tanh(new.c)
        d_c = d_new.c + d_new.h * o * (1 - tanh_c * tanh_c)
        d_i = d_c * g * i * (1 - i)
        d_f = d_c * old.c * f * (1 - f)
        d_g = d_c * i * (1 - g * g)
        d_o = d_new.h * tanh_c * o * (1 - o)
        # hₜ₋₁ enters through mix alone, so this part of its derivative is zero.
        d_old = LSTMState(c=d_c * f, h=jnp.zeros_like(d_new.h))
        return Adjoint(old=d_old, joint=(d_i, d_f, d_g, d_o), z=(), a=())
