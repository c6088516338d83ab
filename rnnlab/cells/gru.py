"""The gated recurrent unit."""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.cells.base import Adjoint, Blocks, Maps, Recurrent, affine, keep_precision, lift, spread
from rnnlab.cells.norm import layer_norm
from rnnlab.typing import Array, Key


class GRUNorm(NamedTuple):
    """Layer-norm gains of the two products, ``[3H]`` each.

    r and z are normalised together, n separately.
    """

    x: Array
    h: Array


class GRUParams(NamedTuple):
    """w_x ``[I, 3H]``, w_h ``[H, 3H]``, b ``[3H]``, gates in the order r, z, n.

    c is the bias of the recurrent product: ``[H]``, for n alone, or ``[3H]`` with
    ``recurrent_bias``. What the cell does not have is None.
    """

    w_x: Array
    w_h: Array
    b: Array | None = None
    c: Array | None = None
    norm: GRUNorm | None = None


class GRUState(NamedTuple):
    """h ``[..., H]``."""

    h: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class GRU(Recurrent):
    """Gated recurrent unit (Cho et al. 2014, arXiv 1406.1078).

    rₜ = σ(W_xr xₜ + W_hr hₜ₋₁ + b_r)        zₜ = σ(W_xz xₜ + W_hz hₜ₋₁ + b_z)
    ``reset="after"`` (cuDNN, PyTorch):       nₜ = tanh(W_xn xₜ + b_n + rₜ ⊙ (W_hn hₜ₋₁ + c_n))
    ``reset="before"`` (the papers):          nₜ = tanh(W_xn xₜ + b_n + W_hn (rₜ ⊙ hₜ₋₁))
    hₜ = (1 − zₜ) ⊙ nₜ + zₜ ⊙ hₜ₋₁

    Here z *keeps*, as in Cho et al., cuDNN and PyTorch: z = 1 copies the old state. Texts with
    hₜ = (1 − zₜ) hₜ₋₁ + zₜ nₜ mean the same network with the weights and bias of z negated, since
    σ(−a) = 1 − σ(a).
    ``layer_norm``: every product is normalised, r and z together and n separately (Ba, Kiros &
    Hinton 2016, eq. 23–26).
    Shapes: x ``[..., I]``, h and the output ``[..., H]``.
    Raises ValueError for a ``hidden_size`` below 1, an unknown ``reset``, and ``recurrent_bias``
    with "before".

    >>> cell = GRU(8)
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> params.w_h.shape
    (8, 24)

    Attributes:
        reset: whether r acts after or before the recurrent product.
        layer_norm: whether the products are normalised.
        bias_init: draws b as ``(3, H)``, rows r, z, n; None for zeros.
    """

    reset: Literal["after", "before"] = "after"
    layer_norm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.one_of("reset", self.reset, ("after", "before"))
        if self.recurrent_bias and self.reset == "before":
            raise ValueError(
                'recurrent_bias is PyTorch\'s second bias; with reset="before" leave it False'
            )

    def init(self, key: Key, input_size: int) -> GRUParams:
        """Initial parameters for inputs of ``input_size`` features."""
        _check.to_init(key, input_size)
        k_in, k_rec, k_bias = jax.random.split(key, 3)
        size, dtype = self.hidden_size, self.param_dtype
        c = None
        if self.recurrent_bias:
            c = self.draw_recurrent_biases(k_bias, 3)
        elif self.bias and self.reset == "after":
            c = jnp.zeros(size, dtype)
        norm = None
        if self.layer_norm:
            norm = GRUNorm(x=jnp.ones(3 * size, dtype), h=jnp.ones(3 * size, dtype))
        return GRUParams(
            w_x=self.draw_weights(self.kernel_init, k_in, input_size, 3),
            w_h=self.draw_weights(self.recurrent_init, k_rec, size, 3),
            b=self.draw_biases(k_bias, 3) if self.bias else None,
            c=c,
            norm=norm,
        )

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> GRUState:
        return GRUState(h=self.zeros(batch_shape))

    def project(self, params: GRUParams, xs: Array) -> Array:
        if params.norm is None:
            return super().project(params, xs)
        product = affine(xs, params.w_x, None, self.dtype)
        z = self._norm(product, params.norm.x)
        if params.b is None:
            return z
        return z + spread(params.b.astype(z.dtype), z)

    def mix(self, params: GRUParams, state: GRUState) -> Array:
        """W_h h + c ``[..., 3H]``; with ``reset="before"`` only r and z, ``[..., 2H]``."""
        cut = 2 * self.hidden_size
        if self.reset == "before":
            # The product of n needs r, so gate computes it.
            a = affine(state.h, params.w_h[:, :cut], None, self.dtype)
            return a if params.norm is None else layer_norm(a, params.norm.h[:cut])
        a = affine(state.h, params.w_h, None, self.dtype)
        if params.norm is not None:
            a = self._norm(a, params.norm.h)
        if params.c is None:
            return a
        # c may be that of n alone: zeros in front leave r and z without a second bias.
        c = jnp.pad(params.c, (3 * self.hidden_size - params.c.size, 0))
        return a + spread(c.astype(a.dtype), a)

    def gate(
        self,
        params: GRUParams,
        state: GRUState,
        z: Array,
        a: Array,
    ) -> tuple[GRUState, Array]:
        # The gate z of the equations is u here, since z is the projection of the inputs.
        cut = 2 * self.hidden_size
        r, u = jnp.split(jax.nn.sigmoid(z[..., :cut] + a[..., :cut]), 2, axis=-1)
        if self.reset == "before":
            reset_h = lift(r, state.h) * state.h
            m = affine(reset_h, params.w_h[:, cut:], None, self.dtype)
            n = z[..., cut:] + (m if params.norm is None else layer_norm(m, params.norm.h[cut:]))
        else:
            n = z[..., cut:] + r * a[..., cut:]
        written = (1 - u) * jnp.tanh(n)
        h = lift(written, state.h) + lift(u, state.h) * state.h  # hₜ = (1 − zₜ) ⊙ nₜ + zₜ ⊙ hₜ₋₁
        state = keep_precision(GRUState(h), state)
        return state, state.h

    def maps(self, params: GRUParams) -> Maps | None:
        # A gate with a product inside of it, or with a norm over H, is not element by element.
        if self.reset == "before" or self.layer_norm:
            return None
        return Maps(params.w_x, params.w_h, params.b, params.c, 2 * self.hidden_size)

    def gate_residuals(
        self,
        params: GRUParams,
        state: GRUState,
        z: Array,
        a: Array,
    ) -> tuple[GRUState, Blocks]:
        z_r, z_u, z_n = jnp.split(z, 3, axis=-1)
        a_r, a_u, a_n = jnp.split(a, 3, axis=-1)
        r = jax.nn.sigmoid(z_r + a_r)
        u = jax.nn.sigmoid(z_u + a_u)
        n = jnp.tanh(z_n + r * a_n)
        written = lift((1 - u) * n, state.h)
        h = written + lift(u, state.h) * state.h
        return keep_precision(GRUState(h), state), (r, u, n, a_n)

    def gate_adjoint(
        self,
        params: GRUParams,
        old: GRUState,
        new: GRUState,
        residuals: Blocks,
        d_new: GRUState,
    ) -> Adjoint:
        r, u, n, a_n = (lift(part, new.h) for part in residuals)
        d_n = d_new.h * (1 - u) * (1 - n * n)
        d_u = d_new.h * (old.h - n) * u * (1 - u)
        d_r = d_n * a_n * r * (1 - r)
        # n reads r · a_n: its z and a have different derivatives, so n is not in the joint columns.
        return Adjoint(old=GRUState(d_new.h * u), joint=(d_r, d_u), z=(d_n,), a=(d_n * r,))

    def _norm(self, x: Array, gain: Array) -> Array:
        cut = 2 * self.hidden_size
        gates = layer_norm(x[..., :cut], gain[:cut])
        candidate = layer_norm(x[..., cut:], gain[cut:])
        return jnp.concatenate([gates, candidate], axis=-1)
