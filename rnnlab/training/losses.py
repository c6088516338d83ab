"""Losses over sequences, from optax where it has them, and means over the targets that count."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
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
    if mask is not None:
        mask = _check.flags("mask", mask, labels.shape, "label")
    return masked_cross_entropy(masked_logits(logits, mask), labels, mask)


def masked_logits(logits: Array, mask: Array | None) -> Array:
    """Zeros where the mask is False: a mean ignores a NaN there, but its gradient would be NaN."""
    return logits if mask is None else jnp.where(mask[..., None], logits, 0)


def masked_cross_entropy(logits: Array, labels: Array, mask: Array | None) -> Array:
    """:func:`cross_entropy` without its checks, for logits from :func:`masked_logits`."""
    is_legal = (labels >= 0) & (labels < logits.shape[-1])
    legal_labels = jnp.where(is_legal, labels, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, legal_labels)
    losses = jnp.where(is_legal, losses, jnp.nan)
    return masked_mean(losses, mask)


def pinball(
    forecasts: Array, targets: Array, quantiles: Sequence[float], mask: Array | None = None
) -> Array:
    """The mean of max(q e, (q − 1) e), e = y − ŷ, over all targets and quantiles q.

    Its minimum is at the quantiles of the targets (Koenker & Bassett 1978, "Regression quantiles");
    at q = 0.5, the median, it is half of the mean absolute error. Two quantiles make a band: 0.05
    and 0.95 one that holds nine targets of ten.

    >>> round(float(pinball(jnp.array([[1.0, 3.0]]), jnp.array([2.0]), (0.1, 0.9))), 3)
    0.1

    Args:
        forecasts: ``[..., Q]``, one for each quantile, in the unit of the targets.
        targets: ``[...]``.
        quantiles: Q numbers between 0 and 1.
        mask: ``[...]`` booleans, which targets count. Others may be NaN.

    Raises:
        ValueError: for quantiles that do not lie between 0 and 1, and for shapes that do not fit.
    """
    levels = np.asarray(quantiles, float)
    if levels.ndim != 1 or not levels.size or not ((levels > 0) & (levels < 1)).all():
        raise ValueError(
            f"quantiles is {_check.brief(quantiles)}; give numbers between 0 and 1 such as (0.1, "
            "0.5, 0.9)"
        )
    forecasts, targets = _check.array("forecasts", forecasts), _check.array("targets", targets)
    if forecasts.shape != (*targets.shape, levels.size):
        raise ValueError(
            f"forecasts has shape {forecasts.shape}, but {(*targets.shape, levels.size)} is "
            f"needed; give one for each of {levels.size} quantiles on the last axis"
        )
    mask = None if mask is None else _check.flags("mask", mask, targets.shape, "target")
    errors = _counted(targets[..., None] - forecasts, mask)
    levels = levels.astype(errors.dtype)
    losses = jnp.maximum(levels * errors, (levels - 1) * errors)
    return masked_mean(losses.mean(axis=-1), mask)


def gaussian_nll(
    means: Array, log_scales: Array, targets: Array, mask: Array | None = None
) -> Array:
    """The mean of −ln N(y; μ, σ²) = ½ ((y − μ)/σ)² + ln σ + ½ ln 2π, in nats.

    >>> round(float(gaussian_nll(jnp.zeros(3), jnp.zeros(3), jnp.zeros(3))), 4)
    0.9189

    Args:
        means: μ, ``[...]``.
        log_scales: ln σ, ``[...]``.
        targets: y, ``[...]``.
        mask: ``[...]`` booleans, which targets count. Others may be NaN.

    Raises:
        ValueError: for shapes that differ.
    """
    means, targets = _check.array("means", means), _check.array("targets", targets)
    log_scales = _check.array("log_scales", log_scales)
    if not means.shape == log_scales.shape == targets.shape:
        raise ValueError(
            f"means has shape {means.shape}, log_scales {log_scales.shape} and targets "
            f"{targets.shape}; give all the same"
        )
    mask = None if mask is None else _check.flags("mask", mask, targets.shape, "target")
    errors = _counted(targets - means, mask)
    log_scales = _counted(log_scales, mask)
    losses = 0.5 * (errors * jnp.exp(-log_scales)) ** 2 + log_scales
    return masked_mean(losses + 0.5 * math.log(2 * math.pi), mask)


def _counted(values: Array, mask: Array | None) -> Array:
    """``values [..., F]`` or ``[...]`` with 0 where ``mask [...]`` is False.

    A mean ignores a masked NaN, but its gradient would still be NaN.
    """
    if mask is None:
        return values
    return jnp.where(jnp.expand_dims(mask, tuple(range(mask.ndim, values.ndim))), values, 0)


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
