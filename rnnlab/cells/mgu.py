"""The minimal gated unit: a GRU with one gate in place of two."""

import dataclasses
from typing import Literal, NamedTuple

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
from rnnlab.typing import Array, Key


class MGUParams(NamedTuple):
    """w_x ``[I, 2H]``, w_h ``[H, 2H]``, b ``[2H]``, gates in the order f, n.

    c is the bias of the recurrent product: ``[H]``, for n alone, or ``[2H]`` with
    ``recurrent_bias``. What the cell does not have is None.
    """

    w_x: Array
    w_h: Array
    b: Array | None = None
    c: Array | None = None


class MGUState(NamedTuple):
    """h ``[..., H]``."""

    h: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class MGU(Recurrent):
    """Minimal gated unit (Zhou et al. 2016, arXiv 1603.09420).

    fₜ = σ(W_xf xₜ + W_hf hₜ₋₁ + b_f)
    ``reset="after"`` (Flax):        nₜ = tanh(W_xn xₜ + b_n + fₜ ⊙ (W_hn hₜ₋₁ + c_n))
    ``reset="before"`` (the paper):  nₜ = tanh(W_xn xₜ + b_n + W_hn (fₜ ⊙ hₜ₋₁))
    ``reset=None``:                  nₜ = tanh(W_xn xₜ + b_n + W_hn hₜ₋₁)
    hₜ = (1 − fₜ) ⊙ nₜ + fₜ ⊙ hₜ₋₁

    It is a GRU whose one gate f both resets and updates, with two thirds of the weights. Here f
    *keeps*, as in Flax and as z in :class:`GRU`: f = 1 copies the old state. The paper has
    hₜ = (1 − fₜ) ⊙ hₜ₋₁ + fₜ ⊙ nₜ, where the gate that resets is the one that writes: with a reset
    the two are different networks, without one they differ only in the sign of f's weights.
    Shapes: x ``[..., I]``, h and the output ``[..., H]``.
    Raises ValueError for a ``hidden_size`` below 1, an unknown ``reset``, ``recurrent_bias`` with
    "before", and a ``forget_bias`` beside ``bias_init``.

    >>> cell = MGU(8)
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> params.w_h.shape
    (8, 16)

    Attributes:
        reset: whether f acts after or before the recurrent product of n, or None for not at all.
        forget_bias: initial value of b_f, which is part of ``params.b``; None is 1, or the value
            that ``bias_init`` draws.
        bias_init: draws all of b as ``(2, H)``, rows f, n.
    """

    reset: Literal["after", "before"] | None = "after"
    forget_bias: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.initial_bias(self, "forget_bias")
        if self.reset is not None:
            _check.one_of("reset", self.reset, ("after", "before"))
        if self.recurrent_bias and self.reset == "before":
            raise ValueError(
                'with reset="before" there is no second bias; leave recurrent_bias False'
            )

    def init(self, key: Key, input_size: int) -> MGUParams:
        """Initial parameters for inputs of ``input_size`` features."""
        _check.to_init(key, input_size)
        k_in, k_rec, k_bias = jax.random.split(key, 3)
        c = None
        if self.recurrent_bias:
            c = self.draw_recurrent_biases(k_bias, 2)
        elif self.bias and self.reset == "after":
            c = jnp.zeros(self.hidden_size, self.param_dtype)
        return MGUParams(
            w_x=self.draw_weights(self.kernel_init, k_in, input_size, 2),
            w_h=self.draw_weights(self.recurrent_init, k_rec, self.hidden_size, 2),
            b=self.draw_biases(k_bias, 2) if self.bias else None,
            c=c,
        )

    def draw_biases(self, key: Key, gates: int) -> Array:
        biases = super().draw_biases(key, gates)
        if self.bias_init is not None:
            return biases
        forget_bias = 1.0 if self.forget_bias is None else self.forget_bias
        return biases.at[: self.hidden_size].set(forget_bias)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> MGUState:
        return MGUState(h=self.zeros(batch_shape))

    def mix(self, params: MGUParams, state: MGUState) -> Array:
        """W_h h + c ``[..., 2H]``; with ``reset="before"`` only f, ``[..., H]``."""
        if self.reset == "before":
            # The product of n needs f, so gate computes it.
            return affine(state.h, params.w_h[:, : self.hidden_size], None, self.dtype)
        a = affine(state.h, params.w_h, None, self.dtype)
        if params.c is None:
            return a
        # c may be that of n alone: zeros in front leave f without a second bias.
        c = jnp.pad(params.c, (2 * self.hidden_size - params.c.size, 0))
        return a + spread(c.astype(a.dtype), a)

    def gate(
        self,
        params: MGUParams,
        state: MGUState,
        z: Array,
        a: Array,
    ) -> tuple[MGUState, Array]:
        size = self.hidden_size
        f = jax.nn.sigmoid(z[..., :size] + a[..., :size])
        if self.reset == "before":
            reset_h = lift(f, state.h) * state.h
            from_h = affine(reset_h, params.w_h[:, size:], None, self.dtype)
        elif self.reset == "after":
            from_h = f * a[..., size:]
        else:
            from_h = a[..., size:]
        n = jnp.tanh(z[..., size:] + from_h)
        written = lift((1 - f) * n, state.h)
        h = written + lift(f, state.h) * state.h  # hₜ = (1 − fₜ) ⊙ nₜ + fₜ ⊙ hₜ₋₁
        state = keep_precision(MGUState(h), state)
        return state, state.h

    def maps(self, params: MGUParams) -> Maps | None:
        # A gate with a product inside of it is not element by element.
        if self.reset == "before":
            return None
        joint = self.hidden_size if self.reset == "after" else 2 * self.hidden_size
        return Maps(params.w_x, params.w_h, params.b, params.c, joint)

    def gate_residuals(
        self,
        params: MGUParams,
        state: MGUState,
        z: Array,
        a: Array,
    ) -> tuple[MGUState, Blocks]:
        z_f, z_n = jnp.split(z, 2, axis=-1)
        a_f, a_n = jnp.split(a, 2, axis=-1)
        f = jax.nn.sigmoid(z_f + a_f)
        resets = self.reset == "after"
        n = jnp.tanh(z_n + (f * a_n if resets else a_n))
        written = lift((1 - f) * n, state.h)
        h = written + lift(f, state.h) * state.h
        residuals = (f, n, a_n) if resets else (f, n)
        return keep_precision(MGUState(h), state), residuals

    def gate_adjoint(
        self,
        params: MGUParams,
        old: MGUState,
        new: MGUState,
        residuals: Blocks,
        d_new: MGUState,
    ) -> Adjoint:
        f, n, *rest = (lift(part, new.h) for part in residuals)
        d_n = d_new.h * (1 - f) * (1 - n * n)
        d_f = d_new.h * (old.h - n)
        kept = MGUState(d_new.h * f)
        if not rest:
            return Adjoint(old=kept, joint=(d_f * f * (1 - f), d_n), z=(), a=())
        (a_n,) = rest
        d_f = (d_f + d_n * a_n) * f * (1 - f)
        # n reads f · a_n: its z and a have different derivatives, so n is not in the joint columns.
        return Adjoint(old=kept, joint=(d_f,), z=(d_n,), a=(d_n * f,))
