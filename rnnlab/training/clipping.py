"""The range in which a threshold for clipping is worth a try."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike

from rnnlab import _check
from rnnlab._results import result
from rnnlab.typing import Array


@result
class ThresholdRange(NamedTuple):
    """Thresholds worth a try; scalars, in units of the gradient.

    Attributes:
        low: half the average.
        average: the average norm.
        high: ten times the average.
    """

    low: Array
    average: Array
    high: Array


def threshold_range(norms: ArrayLike) -> ThresholdRange:
    """Half to ten times the average norm of gradients, within which training hardly depends on τ.

    Pascanu, Mikolov & Bengio 2013, §3.2. ``norms`` are those of many updates, of any shape; leave out those at a wall,
    one of which may outweigh all others. ValueError for none, NaN and infinity.
    """
    norms = _check.array("norms", norms)
    if not norms.size:
        raise ValueError("norms holds no number; give the gradient norms of some updates")
    _check.finite("norms", norms)
    average = jnp.mean(norms)
    return ThresholdRange(average / 2, average, 10 * average)
