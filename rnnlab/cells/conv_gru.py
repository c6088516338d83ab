"""The convolutional GRU."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.cells.base import keep_precision, lift, spread
from rnnlab.cells.conv import Convolutional, ConvParams, as_vector, convolve
from rnnlab.cells.gru import GRUState
from rnnlab.typing import Array, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvGRU(Convolutional):
    """Convolutional GRU (Ballas et al. 2016, arXiv 1511.06432), with ∗ for a convolution.

    rₜ = σ(W_xr ∗ xₜ + W_hr ∗ hₜ₋₁ + b_r)        zₜ = σ(W_xz ∗ xₜ + W_hz ∗ hₜ₋₁ + b_z)
    ``reset="after"``:             nₜ = tanh(W_xn ∗ xₜ + b_n + rₜ ⊙ (W_hn ∗ hₜ₋₁ + c_n))
    ``reset="before"`` (the paper): nₜ = tanh(W_xn ∗ xₜ + b_n + W_hn ∗ (rₜ ⊙ hₜ₋₁))
    hₜ = (1 − zₜ) ⊙ nₜ + zₜ ⊙ hₜ₋₁

    As in :class:`GRU` z *keeps*; the paper has hₜ = (1 − zₜ) hₜ₋₁ + zₜ nₜ, the same network with
    the weights and bias of z negated.
    Images are vectors, as :class:`Convolutional` says: x ``[..., P · channels]``, h and the output
    ``[..., P · C]`` for P pixels. The state is a :class:`GRUState`.
    Raises ValueError for sizes below 1, a ``kernel_size`` with other axes than ``shape``, an
    unknown ``reset``, ``recurrent_bias``, and inputs that are not images of ``shape``.

    >>> cell = ConvGRU(8, shape=(6, 5))
    >>> params = cell.init(jax.random.key(0), input_size=6 * 5 * 3)
    >>> params.w_h.shape
    (3, 3, 8, 24)

    Attributes:
        reset: whether r acts after or before the recurrent product.
        bias_init: draws b as ``(3, C)``, rows r, z, n; None for zeros.
    """

    reset: Literal["after", "before"] = "after"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.one_of("reset", self.reset, ("after", "before"))

    def init(self, key: Key, input_size: int) -> ConvParams:
        """Initial parameters for images of ``input_size`` numbers."""
        _check.to_init(key, input_size)
        k_in, k_rec, k_bias = jax.random.split(key, 3)
        has_c = self.bias and self.reset == "after"
        return ConvParams(
            w_x=self.draw_kernel(self.kernel_init, k_in, self.channels(input_size), 3),
            w_h=self.draw_kernel(self.recurrent_init, k_rec, self.hidden_size, 3),
            b=self.draw_biases(k_bias, 3) if self.bias else None,
            c=jnp.zeros(self.hidden_size, self.param_dtype) if has_c else None,
        )

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> GRUState:
        return GRUState(h=self.zeros(batch_shape))

    def mix(self, params: ConvParams, state: GRUState) -> Array:
        """W_h ∗ h of r, z and n; with ``reset="before"`` only of r and z."""
        kernel = params.w_h
        if self.reset == "before":
            # The product of n needs r, so gate computes it.
            kernel = kernel[..., : 2 * self.hidden_size]
        return convolve(state.h, kernel, None, self.shape, self.dtype)

    def gate(
        self,
        params: ConvParams,
        state: GRUState,
        z: Array,
        a: Array,
    ) -> tuple[GRUState, Array]:
        # The gate z of the equations is u here, since z is the projection of the inputs.
        cut = 2 * self.hidden_size
        z, a, old = map(self.by_pixel, (z, a, state.h))
        r, u = jnp.split(jax.nn.sigmoid(z[..., :cut] + a[..., :cut]), 2, axis=-1)
        if self.reset == "before":
            reset_h = as_vector(lift(r, old) * old)
            kernel = params.w_h[..., cut:]
            from_h = self.by_pixel(convolve(reset_h, kernel, None, self.shape, self.dtype))
        else:
            from_h = a[..., cut:]
            if params.c is not None:
                from_h = from_h + spread(params.c.astype(from_h.dtype), from_h)
            from_h = r * from_h
        n = jnp.tanh(z[..., cut:] + from_h)
        h = lift((1 - u) * n, old) + lift(u, old) * old  # hₜ = (1 − zₜ) ⊙ nₜ + zₜ ⊙ hₜ₋₁
        state = keep_precision(GRUState(as_vector(h)), state)
        return state, state.h
