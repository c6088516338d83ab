"""Mean and variance of a batch, and normalisation by them."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from rnnlab.cells.base import spread, widest
from rnnlab.typing import Array


class Moments(NamedTuple):
    """Mean and variance of each feature, ``[..., F]``."""

    mean: Array
    variance: Array


class LSTMMoments(NamedTuple):
    """The moments of W_x x and W_h h, F = 4H, and of c, F = H."""

    x: Moments
    h: Moments
    c: Moments


def batch_moments(x: Array, counts: Array | None) -> Moments:
    """Mean and variance over all axes but the last, of the examples that count.

    In no less than float32, since sums over many examples lose digits in half precision.
    """
    x = x.astype(widest(x.dtype, jnp.float32))
    weights = jnp.ones((*x.shape[:-1], 1), x.dtype) if counts is None else counts.astype(x.dtype)
    weights = weights / jnp.maximum(weights.sum(), 1)
    axes = tuple(range(x.ndim - 1))
    mean = jnp.sum(weights * x, axis=axes)
    centred = x - spread(mean, x)
    return Moments(mean, jnp.sum(weights * centred * centred, axis=axes))


def standardise(
    x: Array,
    moments: Moments,
    gain: Array,
    bias: Array | None,
    epsilon: float,
) -> Array:
    """γ ⊙ (x − mean)/√(variance + ε) (+ β); the moments are ``[F]``, or one for each example."""
    dtype = x.dtype
    x = x.astype(widest(dtype, jnp.float32))
    mean, variance = (spread(moment.astype(x.dtype), x) for moment in moments)
    scale = spread(gain.astype(x.dtype), x) * lax.rsqrt(variance + epsilon)
    y = (x - mean) * scale
    if bias is not None:
        y = y + spread(bias.astype(x.dtype), x)
    return y.astype(dtype)
