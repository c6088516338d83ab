"""Losses over sequences, from optax where it has them, and means over the targets that count."""

import jax.numpy as jnp
import optax

from rnnlab import _check
from rnnlab.typing import Array


def cross_entropy(logits: Array, labels: Array, mask: Array | None = None) -> Array:
    """The mean of −ln softmax(logits)[label], in nats, over all positions or those in ``mask``.

    A label outside 0..V−1 makes the loss NaN (optax would take −1 for the last class). The loss and
    its gradient are 0 where the mask is False everywhere.

    Args:
        logits: ``[..., V]``.
        labels: ``[...]`` whole numbers in 0..V−1.
        mask: ``[...]`` booleans. Logits where it is False may be NaN.

    Raises:
        ValueError: for labels that are not whole numbers, and for labels or a mask whose shape is
            not that of the logits without the last axis.

    >>> import jax.numpy as jnp
    >>> logits = jnp.zeros((60, 8, 4))
    >>> round(float(cross_entropy(logits, jnp.zeros((60, 8), int))), 4)
    1.3863
    """
    logits = _check.array("logits", logits)
    labels = _check.codes("labels", labels)
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels has shape {labels.shape}, but logits {logits.shape} need {logits.shape[:-1]}"
        )
    is_legal = (labels >= 0) & (labels < logits.shape[-1])
    if mask is not None:
        mask = _check.flags("mask", mask, labels.shape, "label")
        # The mean ignores a masked NaN, but its gradient would still be NaN.
        logits = jnp.where(mask[..., None], logits, 0)
    legal_labels = jnp.where(is_legal, labels, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, legal_labels)
    losses = jnp.where(is_legal, losses, jnp.nan)
    return masked_mean(losses, mask)


def masked_mean(values: Array, mask: Array | None, axis: int | None = None) -> Array:
    """The mean over an axis, by default over all, of the entries in ``mask``; 0 over no entries.

    >>> masked_mean(jnp.array([1.0, 2.0, 9.0]), jnp.array([True, True, False])).item()
    1.5
    >>> masked_mean(jnp.array([1.0, 2.0, 9.0]), jnp.zeros(3, bool)).item()
    0.0
    """
    if mask is None:
        return jnp.mean(values, axis=axis)
    # The mean over no entries is 0/0: it is taken over all of them instead, which are then 0.
    values = jnp.where(mask, values, 0)
    nothing = ~jnp.any(mask, axis=axis, keepdims=True)
    return jnp.mean(values, axis=axis, where=mask | nothing)
