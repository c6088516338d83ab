"""Losses over sequences, from optax where it has them."""

import jax.numpy as jnp
import optax

from rnnlab.typing import Array


def cross_entropy(logits: Array, labels: Array, mask: Array | None = None) -> Array:
    """The mean of −ln softmax(logits)[label], in nats, over all positions or those in ``mask``.

    A label outside 0..V−1 makes the loss NaN (optax would take −1 for the last class).

    Args:
        logits: ``[..., V]``.
        labels: ``[...]`` whole numbers in 0..V−1.
        mask: ``[...]`` booleans; at least one True. Logits where it is False may be NaN.

    Raises:
        ValueError: for labels whose shape is not that of the logits without the last axis.

    >>> import jax.numpy as jnp
    >>> logits = jnp.zeros((60, 8, 4))
    >>> round(float(cross_entropy(logits, jnp.zeros((60, 8), int))), 4)
    1.3863
    """
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels has shape {labels.shape}, but logits {logits.shape} need {logits.shape[:-1]}"
        )
    is_legal = (labels >= 0) & (labels < logits.shape[-1])
    if mask is not None:
        # The mean ignores a masked NaN, but its gradient would still be NaN.
        logits = jnp.where(mask[..., None], logits, 0)
    legal_labels = jnp.where(is_legal, labels, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, legal_labels)
    losses = jnp.where(is_legal, losses, jnp.nan)
    return jnp.mean(losses, where=mask)
