"""Losses and metrics over the targets that count, and "count", their number.

Where no target counts, all of them are 0.
"""

import math

import jax.numpy as jnp
import numpy as np

from rnnlab import _check
from rnnlab.cells.base import within
from rnnlab.training.losses import masked_cross_entropy, masked_logits, masked_mean
from rnnlab.typing import Array

Scored = tuple[Array, dict[str, Array]]
"""A loss, and metrics by name; all are scalars."""


def counted(mask: Array | None, lengths: Array | None, shape: tuple[int, ...]) -> Array | None:
    """Which targets count: those in ``mask`` that lie within ``lengths``; None where all do."""
    if mask is not None:
        each = "sequence" if len(shape) == 1 else "step and example"
        if len(shape) == 1 and np.ndim(mask) == 2:
            each += " (where sequences end is said by lengths)"
        mask = _check.flags("mask", mask, shape, each)
    if lengths is None:
        return mask
    valid = within(_check.lengths(lengths, shape[0], shape[1:]), shape[0])
    return valid if mask is None else valid & mask


def classification(logits: Array, labels: Array, counts: Array | None) -> Scored:
    """The mean cross-entropy, in nats, and the accuracy, a fraction.

    Args:
        logits: ``[..., V]``.
        labels: ``[...]`` whole numbers in 0..V−1; any other gives NaN.
        counts: ``[...]``, which labels count; None for all.

    Raises:
        ValueError: for labels that are not whole numbers or have another shape.
    """
    check_labels(labels, logits.shape)
    labels = _check.codes("targets", labels)
    # Masked once for both, so that they share the largest logit.
    logits = masked_logits(logits, counts)
    value = masked_cross_entropy(logits, labels, counts)
    is_right = (_first_largest(logits) == labels).astype(value.dtype)
    metrics = {"accuracy": masked_mean(is_right, counts), "count": _count(counts, labels)}
    return value, metrics


def check_labels(labels: Array, shape: tuple[int, ...]) -> None:
    """ValueError unless labels are whole numbers, one for each of the outputs ``[..., V]``."""
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"targets are {labels.dtype}, but classes are whole numbers; cast them, or use a "
            "regressor for numbers"
        )
    if labels.shape != shape[:-1]:
        raise ValueError(
            f"targets has shape {labels.shape}, but the outputs {shape} need a label for each "
            f"position; give {shape[:-1]}"
        )


def _first_largest(logits: Array) -> Array:
    """``argmax(logits, -1)``, in two reductions that XLA vectorises on a CPU; argmax is not."""
    classes = jnp.arange(logits.shape[-1])
    is_largest = logits == jnp.max(logits, axis=-1, keepdims=True)
    # Where a logit is NaN none is the largest, and no class is right.
    return jnp.min(jnp.where(is_largest, classes, classes.size), axis=-1)


def _count(counts: Array | None, targets: Array) -> Array:
    """How many targets count, so that batches are averaged by it."""
    return jnp.asarray(targets.size) if counts is None else jnp.sum(counts)


def symbols(logits: Array, labels: Array, counts: Array | None) -> Scored:
    """As :func:`classification`, with the cross-entropy in bits as well: nats / ln 2."""
    value, metrics = classification(logits, labels, counts)
    return value, metrics | {"bits_per_symbol": value / math.log(2)}


def squared_error(predictions: Array, numbers: Array, counts: Array | None) -> Scored:
    """The mean of (ŷ − y)² over targets that count and over features, and that of |ŷ − y|, "mae".

    Args:
        predictions: ŷ, ``[..., O]``.
        numbers: y, ``[..., O]``, or ``[...]`` where O is 1; NaN is allowed where they do not count.
        counts: ``[...]``, which targets count; None for all.

    Raises:
        ValueError: for targets of another shape.
    """
    if predictions.shape == (*numbers.shape, 1):
        numbers = numbers[..., None]
    # The shapes must be equal: [B] beside [B, 1] would broadcast to [B, B].
    if numbers.shape != predictions.shape:
        raise ValueError(
            f"targets has shape {numbers.shape}, but the predictions are {predictions.shape}; give "
            "a number for each of them"
        )
    errors = predictions - numbers
    where = None
    if counts is not None:
        where = jnp.broadcast_to(counts[..., None], errors.shape)
        # The mean ignores a masked NaN, but its gradient would still be NaN.
        errors = jnp.where(where, errors, 0)
    mae = masked_mean(jnp.abs(errors), where)
    return masked_mean(errors**2, where), {"mae": mae, "count": _count(where, errors)}
