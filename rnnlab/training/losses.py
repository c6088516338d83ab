"""Losses over sequences; optax's own where it has them."""

import jax.numpy as jnp
import optax

from rnnlab.typing import Array


def cross_entropy(logits: Array, labels: Array, mask: Array | None = None) -> Array:
    """The mean of −ln softmax(logits)[label], in nats, over all positions or those where ``mask`` is True.

    A label outside 0..V−1 (optax would take −1 for the last class) makes the loss NaN.

    Args:
        logits: ``[..., V]``.
        labels: ``[...]`` whole numbers in 0..V−1.
        mask: ``[...]`` booleans; at least one True. What it hides may be NaN.

    Raises:
        ValueError: for labels whose shape is not that of the logits without the last axis.
    """
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels has shape {labels.shape}, but logits {logits.shape} need {logits.shape[:-1]}"
        )
    legal = (labels >= 0) & (labels < logits.shape[-1])
    if mask is not None:
        logits = jnp.where(mask[..., None], logits, 0)
    each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(legal, labels, 0))
    each = jnp.where(legal, each, jnp.nan)
    return jnp.mean(each, where=mask)
