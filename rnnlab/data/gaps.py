"""Missing values in series: filled, interpolated, or told to a model."""

from typing import Any, NamedTuple

import numpy as np

from rnnlab import _check
from rnnlab.data.checks import as_array


def forward_fill(values: Any, limit: int | None = None) -> np.ndarray:
    """The last number before each gap in place of NaN.

    >>> forward_fill([1.0, np.nan, np.nan, 4.0], limit=1)
    array([ 1.,  1., nan,  4.])

    Args:
        values: ``[T, ...]``, time first.
        limit: the number of steps of a gap that are filled; all by default. What comes before the
            first number stays NaN.

    Raises:
        ValueError: for what is not an array of numbers, and a limit below 1.
    """
    values = _checked(values, limit)
    filled, since = _last(values)
    if limit is None:
        return filled
    return np.where(since <= limit, filled, np.nan)


def interpolate(values: Any, limit: int | None = None, *, times: Any = None) -> np.ndarray:
    """A straight line over each gap, in place of NaN.

    >>> interpolate([1.0, np.nan, np.nan, 4.0])
    array([1., 2., 3., 4.])

    Args:
        values: ``[T, ...]``, time first.
        limit: the longest gap that is filled; longer ones stay NaN altogether, as do those at both
            ends. All others by default.
        times: ``[T]``, numbers or datetime64 that rise; equal steps by default.

    Raises:
        ValueError: as :func:`forward_fill`, and for times that do not fit or rise.
    """
    values = _checked(values, limit)
    places = _places(values, times)
    is_there = ~np.isnan(values)
    lines = np.full(values.shape, np.nan)
    for index in np.ndindex(values.shape[1:]):
        column = (slice(None), *index)
        known = is_there[column]
        if known.any():
            numbers = values[column][known]
            lines[column] = np.interp(places, places[known], numbers, left=np.nan, right=np.nan)
    if limit is None:
        return lines
    before = _last_place(is_there)
    after = len(values) - 1 - _last_place(is_there[::-1])[::-1]
    return np.where(after - before - 1 <= limit, lines, np.nan)


class Observations(NamedTuple):
    """A series as a model that is told what is missing reads it; ``[T, ...]`` each.

    Attributes:
        values: the last number before in place of a missing one, 0 before the first.
        observed: 1 where a number was there, else 0.
        since: the time since the number before this step; 0 at the first step.
    """

    values: np.ndarray
    observed: np.ndarray
    since: np.ndarray

    def stacked(self) -> np.ndarray:
        """The three as features, ``[T, ..., 3 C]``; ``[T, 3]`` from a series ``[T]``."""
        parts = [part if part.ndim > 1 else part[:, None] for part in self]
        return np.concatenate(parts, axis=-1)


def observations(values: Any, *, times: Any = None) -> Observations:
    """Values, mask and time since the last observation: the inputs of GRU-D.

    sₜ is the time of step t, mₜ whether its number is there, and the time since the last one is
    δₜ = sₜ − sₜ₋₁ + (0 if mₜ₋₁ else δₜ₋₁), δ₁ = 0 (Che et al. 2018, "Recurrent neural networks for
    multivariate time series with missing values", arXiv 1606.01865).

    >>> told = observations([5.0, np.nan, np.nan, 8.0])
    >>> told.values.tolist(), told.observed.tolist(), told.since.tolist()
    ([5.0, 5.0, 5.0, 8.0], [1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 2.0, 3.0])

    Args:
        values: ``[T, ...]``, time first, NaN where a number is missing. Standardise them before:
            the 0 before the first number is then the mean.
        times: ``[T]``, numbers that rise, in the unit that ``since`` is to have; datetime64 counts
            seconds. Equal steps of 1 by default.

    Raises:
        ValueError: for what is not an array of numbers, and for times that do not fit or rise.
    """
    values = _checked(values, None)
    places = _places(values, times)
    is_there = ~np.isnan(values)
    filled, _ = _last(values)
    seen = _last_place(is_there)
    before = np.concatenate([np.zeros_like(seen[:1]), seen[:-1]])
    # Before the first number time counts from the first step.
    since = places.reshape(-1, *[1] * (values.ndim - 1)) - places[before.clip(min=0)]
    return Observations(np.nan_to_num(filled, nan=0.0), is_there.astype(float), since)


def _last(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The last number at each step, NaN before the first, and the steps since it."""
    seen = _last_place(~np.isnan(values))
    filled = np.take_along_axis(values, seen.clip(min=0), axis=0)
    steps = np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1))
    return np.where(seen < 0, np.nan, filled), steps - seen


def _last_place(is_there: np.ndarray) -> np.ndarray:
    """The last step up to each at which a number is there; −1 where there was none."""
    steps = np.arange(len(is_there)).reshape(-1, *[1] * (is_there.ndim - 1))
    return np.maximum.accumulate(np.where(is_there, steps, -1), axis=0)


def _checked(values: Any, limit: int | None) -> np.ndarray:
    array = as_array("values", values)
    if array.ndim == 0 or not array.size:
        raise ValueError(f"values has shape {array.shape}; give at least one step, time first")
    if np.issubdtype(array.dtype, np.complexfloating):
        raise ValueError(f"values is {array.dtype}; give real numbers")
    if limit is not None:
        _check.positive_int("limit", limit)
    return array.astype(float)


def _places(values: np.ndarray, times: Any) -> np.ndarray:
    """The times as floats, ``[T]``."""
    if times is None:
        return np.arange(len(values), dtype=float)
    times = np.asarray(times)
    if times.shape != (len(values),):
        raise ValueError(f"times has shape {times.shape}, but there are {len(values)} steps")
    if times.dtype.kind == "M":
        times = (times - times[0]) / np.timedelta64(1, "s")
    if times.dtype.kind not in "fiu" or not (times[1:] > times[:-1]).all():
        raise ValueError("times do not rise; give numbers or datetime64 in their order")
    return times.astype(float)
