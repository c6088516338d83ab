"""Layer normalisation inside a cell."""

import jax.numpy as jnp
from jax import lax

from rnnlab.cells.base import spread, widest
from rnnlab.typing import Array


def layer_norm(
    x: Array,
    gain: Array,
    bias: Array | None = None,
    epsilon: float = 1e-5,
) -> Array:
    """gain · (x − mean)/√(variance + ε) (+ bias) over the last axis.

    Ba, Kiros & Hinton 2016, arXiv 1607.06450. Mean and variance are computed in no less than
    float32, since sums over many features lose digits in half precision.
    """
    dtype = x.dtype
    x = x.astype(widest(dtype, jnp.float32))
    # Two passes over x: the mean of x² minus the squared mean would cancel where |mean| is large.
    mean = jnp.mean(x, axis=-1, keepdims=True)
    centred = x - mean
    gain = spread(gain.astype(x.dtype), x)
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    scale = gain * lax.rsqrt(variance + epsilon)
    y = centred * scale
    if bias is not None:
        y = y + spread(bias.astype(x.dtype), x)
    return y.astype(dtype)
