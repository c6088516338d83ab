"""Scaled dot-product attention as a function."""

import math

import jax.numpy as jnp

from rnnlab import _check
from rnnlab.models.pooling import masked_softmax
from rnnlab.typing import Array


def attention(
    q: Array, k: Array, v: Array, *, causal: bool = False, mask: Array | None = None
) -> Array:
    """softmax(Q Kᵀ / √D) V, over the keys that a query may see (Vaswani et al. 2017).

    The equation of arXiv 1706.03762, which ``jax.nn.dot_product_attention`` and
    ``flax.linen.dot_product_attention`` compute with axes ``[B, T, heads, D]``. A query that may
    see no key gets 0.

    >>> import jax, jax.numpy as jnp
    >>> from rnnlab.models import attention
    >>> x = jax.random.normal(jax.random.key(0), (4, 20, 8))
    >>> attention(x, x, x, causal=True).shape
    (4, 20, 8)

    Args:
        q: queries, ``[..., T, D]``.
        k: keys, ``[..., S, D]``.
        v: values, ``[..., S, E]``.
        causal: whether query t sees keys 1 … t only; for T = S.
        mask: ``[..., T, S]``, or a shape that broadcasts to it: True where a query may see a key.

    Returns:
        ``[..., T, E]``.

    Raises:
        ValueError: for shapes that do not fit, and a mask that is not boolean.
    """
    q, k, v = (_check.array(name, value) for name, value in (("q", q), ("k", k), ("v", v)))
    _check_shapes(q, k, v)
    _check.flag("causal", causal)
    scores = q @ jnp.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])  # Q Kᵀ / √D
    seen = _seen(scores, causal, mask)
    return masked_softmax(scores, seen, axis=-1) @ v


def _check_shapes(q: Array, k: Array, v: Array) -> None:
    has_axes = min(q.ndim, k.ndim, v.ndim) >= 2
    if not has_axes or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ValueError(
            f"q, k and v have the shapes {q.shape}, {k.shape} and {v.shape}; give [..., T, D], "
            "[..., S, D] and [..., S, E]"
        )


def _seen(scores: Array, causal: bool, mask: Array | None) -> Array | None:
    """Which keys each query may see, broadcast to ``scores [..., T, S]``; None for all."""
    queries, keys = scores.shape[-2:]
    seen = None
    if mask is not None:
        seen = _check.array("mask", mask)
        if seen.dtype != jnp.bool_:
            raise ValueError(f"mask is {seen.dtype}; it must be boolean, True where a key is seen")
        try:
            seen = jnp.broadcast_to(seen, scores.shape)
        except ValueError:
            raise ValueError(
                f"mask has shape {seen.shape}; it must broadcast to {scores.shape}, a flag for "
                "each query and key"
            ) from None
    if causal:
        if queries != keys:
            raise ValueError(
                f"causal is True, but there are {queries} queries and {keys} keys; give as many of "
                "both, or a mask"
            )
        past = jnp.tri(queries, dtype=bool)
        seen = jnp.broadcast_to(past, scores.shape) if seen is None else seen & past
    return seen
