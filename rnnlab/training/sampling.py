"""Scheduled sampling: how often a decoder reads its own output in training."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from rnnlab import _check
from rnnlab.training.step import Loss
from rnnlab.typing import Array, Key, PyTree


def scheduled_sampling(model: Any, schedule: Callable[[Array], Array]) -> Loss:
    """A carried loss in which ``schedule(step)`` is the probability of reading the own output.

    Bengio et al. 2015 (arXiv 1506.03099): a decoder that always reads the targets in training never
    learns to go on after a mistake of its own. The carry is the number of steps; begin with
    ``carry=jnp.int32(0)``. Without a key, in evaluation, the loss is that of the model.

    Args:
        model: with ``loss(params, batch, key, sampling=...)``, such as
            :func:`rnnlab.models.encoder_decoder`.
        schedule: a function of the step, such as :func:`inverse_sigmoid` or one of optax.

    Returns:
        ``loss(params, batch, key, carry) -> (value, (metrics, carry))``; the metric "sampling" is
        the probability.

    >>> schedule = inverse_sigmoid(10.0)
    >>> round(float(schedule(jnp.int32(0))), 3), round(float(schedule(jnp.int32(100))), 3)
    (0.091, 1.0)
    """

    def loss(
        params: PyTree, batch: Any, key: Key | None, carry: Array
    ) -> tuple[Array, tuple[dict[str, Array], Array]]:
        if key is None:
            value, metrics = model.loss(params, batch)
            return value, (metrics, carry)
        sampling = schedule(carry)
        value, metrics = model.loss(params, batch, key, sampling=sampling)
        return value, (metrics | {"sampling": sampling}, carry + 1)

    return loss


def inverse_sigmoid(k: float) -> Callable[[Array], Array]:
    """1 − k/(k + exp(i/k)) at step i (Bengio et al. 2015): from nearly 0 to 1 around step k ln k.

    ValueError unless k is at least 1.
    """
    _check.number("k", k)
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")

    def schedule(step: Array) -> Array:
        # exp(i/k) overflows for large i; its inverse does not.
        decay = jnp.exp(-step / k)
        return 1 - k * decay / (k * decay + 1)

    return schedule
