"""Forecasts of weekly CO2 without a network."""

import numpy as np

from experiments.co2.data import LEADS, YEAR
from rnnlab.data import interpolate

RATES = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
"""Of exponential smoothing, from which one is chosen on validation weeks."""


def last_year(left: np.ndarray, origins: np.ndarray) -> np.ndarray:
    """The number a year before, plus the rise of the yearly mean; ``[8, N]``, in ppm."""
    year = round(YEAR)
    forecasts = np.empty((LEADS, origins.size))
    for place, origin in enumerate(origins.tolist()):
        # Two years are enough, and nothing behind the origin is read.
        past = interpolate(left[origin - 2 * year - LEADS : origin])
        rise = np.nanmean(past[-year:]) - np.nanmean(past[-2 * year : -year])
        known = np.flatnonzero(~np.isnan(past))
        past = np.interp(np.arange(past.size), known, past[known])
        forecasts[:, place] = past[-year : past.size - year + LEADS] + rise
    return forecasts


def smoothed(left: np.ndarray, origins: np.ndarray, fitted: int, rate: float) -> np.ndarray:
    """A season and a rise by least squares, and a level by exponential smoothing; ``[8, N]``.

    lₜ = lₜ₋₁ + r (yₜ − sₜ − lₜ₋₁) where week t is there, else lₜ = lₜ₋₁; the forecast of week t + k
    is lₜ + sₜ₊ₖ, where s is the season with the rise.

    Args:
        left: ``[T]``, the series that is read.
        origins: the first week of each forecast.
        fitted: s is fitted to the weeks before.
        rate: r.
    """
    weeks = np.arange(left.size + LEADS)
    curve = _columns(weeks, left.size) @ _weights(left[:fitted], left.size)
    rest = left - curve[: left.size]
    level, levels = rest[~np.isnan(rest)][0], []
    for value in rest:
        levels.append(level)  # what is known before this week
        if not np.isnan(value):
            level += rate * (value - level)
    ahead = origins + np.arange(LEADS)[:, None]
    return curve[ahead] + np.array(levels)[origins]


def _columns(weeks: np.ndarray, scale: int) -> np.ndarray:
    """A constant, a rise, its change, and three harmonics of the year."""
    angles = 2 * np.pi * weeks[:, None] * np.arange(1, 4) / YEAR
    trend = (weeks[:, None] / scale) ** np.arange(3)
    return np.concatenate([trend, np.sin(angles), np.cos(angles)], axis=1)


def _weights(known: np.ndarray, scale: int) -> np.ndarray:
    is_there = ~np.isnan(known)
    columns = _columns(np.arange(known.size), scale)[is_there]
    return np.linalg.lstsq(columns, known[is_there], rcond=None)[0]
