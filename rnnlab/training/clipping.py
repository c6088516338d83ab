"""The range of useful thresholds for gradient clipping."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike

from rnnlab import _check
from rnnlab._results import result
from rnnlab.typing import Array


@result
class ThresholdRange(NamedTuple):
    """Thresholds worth trying; scalars, in units of the gradient.

    Attributes:
        low: half the average.
        average: the average norm.
        high: ten times the average.
    """

    low: Array
    average: Array
    high: Array


def threshold_range(norms: ArrayLike) -> ThresholdRange:
    """Half to ten times the average gradient norm, where training hardly depends on the threshold.

    Pascanu, Mikolov & Bengio 2013, §3.2.

    Args:
        norms: the norms of many updates, of any shape; leave out those at a wall, one of which may
            outweigh all others.

    Returns:
        The :class:`ThresholdRange`.

    Raises:
        ValueError: for no norms, NaN and infinity.

    >>> thresholds = threshold_range([1.0, 2.0, 3.0])
    >>> float(thresholds.low), float(thresholds.high)
    (1.0, 20.0)
    """
    norms = _check.array("norms", norms)
    if not norms.size:
        raise ValueError("norms holds no number; give the gradient norms of some updates")
    _check.finite("norms", norms)
    average = jnp.mean(norms)
    return ThresholdRange(low=average / 2, average=average, high=10 * average)
