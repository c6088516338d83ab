"""Weekly CO2 with its missing weeks, as windows that a network reads."""

from typing import Any, NamedTuple

import numpy as np

from rnnlab.data import interpolate, observations

CONTEXT, LEADS = 40, 8
"""Weeks that are read, and weeks that are forecast."""
YEAR = 365.2425 / 7
"""Weeks."""
TOLD, LINE, HELD = "told what is missing", "linear interpolation", "last value held"
INPUTS = (TOLD, LINE, HELD)
"""What stands in the place of missing weeks, for one and the same network."""


class Weeks(NamedTuple):
    """T weeks.

    Attributes:
        ppm: ``[T]``, the CO2 in parts per million; NaN where it is missing.
        dates: ``[T]``, datetime64.
    """

    ppm: np.ndarray
    dates: np.ndarray

    def before(self, date: str) -> int:
        """The number of weeks before a date."""
        return int(np.searchsorted(self.dates, np.datetime64(date)))


def mauna_loa() -> Weeks:
    """2284 weeks from March 1958 to December 2001, of which 59 are missing; from statsmodels.

    Raises:
        ImportError: where statsmodels is not installed.
    """
    try:
        from statsmodels.datasets import co2
    except ImportError:
        raise ImportError(
            "the weekly CO2 is a data set of statsmodels, which is not installed; run "
            "pip install statsmodels, or add --quick"
        ) from None
    loaded: Any = co2.load_pandas()
    frame = loaded.data
    return Weeks(frame["co2"].to_numpy(float), frame.index.to_numpy("datetime64[D]"))


def generated(count: int = 2284) -> Weeks:
    """A trend, a season, slow noise and gaps, for quick runs without statsmodels."""
    rng = np.random.default_rng(0)
    week = np.arange(count)
    slow = np.cumsum(rng.normal(0, 0.1, count))
    ppm = 316 + 0.025 * week + 3 * np.sin(2 * np.pi * week / YEAR) + slow
    ppm += rng.normal(0, 0.3, count)
    ppm[rng.random(count) < 0.025] = np.nan
    return Weeks(ppm, np.datetime64("1958-03-29") + 7 * week)


def removed(ppm: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The series without further weeks, drawn at random."""
    rng = np.random.default_rng((seed, round(100 * share)))
    return np.where(rng.random(ppm.size) < share, np.nan, ppm)


class Windows(NamedTuple):
    """N windows; the forecast begins after the last step of each.

    Attributes:
        xs: ``[40, N, 5]``, from the series that is left.
        targets: ``[8, N]``, the series less the anchor, NaN where a week is missing.
        anchors: ``[N]``, the last number that is there, in ppm; NaN where none is.
        origins: ``[N]``, the place of the first week that is forecast.
    """

    xs: np.ndarray
    targets: np.ndarray
    anchors: np.ndarray
    origins: np.ndarray


def windows(left: np.ndarray, targets: np.ndarray, inputs: str, first: int, last: int) -> Windows:
    """The windows whose first forecast is for first ≤ week ≤ last − 8.

    Args:
        left: ``[T]``, the series of which further weeks were removed; only this is read.
        targets: ``[T]``, the series that is to be forecast.
        inputs: one of :data:`INPUTS`.
        first, last: places of weeks.
    """
    origins = np.arange(first, last - LEADS + 1)
    steps = origins + np.arange(-CONTEXT, 0)[:, None]
    seen = left[steps]
    # No window reads a number behind its end: a gap there is not interpolated but held.
    told = observations(seen)
    begins = np.cumsum(told.observed, axis=0) > 0
    held = np.where(begins, told.values, np.nan)
    anchors = held[-1]
    if inputs == LINE:
        line = interpolate(seen)
        values = np.where(np.isnan(line), held, line)
    else:
        values = held
    is_told = inputs == TOLD
    angle = 2 * np.pi * steps / YEAR
    features = [
        np.nan_to_num(values - anchors),
        told.observed if is_told else np.ones_like(seen),
        told.since / 4 if is_told else np.full_like(seen, 0.25),
        np.sin(angle),
        np.cos(angle),
    ]
    ahead = targets[origins + np.arange(LEADS)[:, None]]
    return Windows(np.stack(features, axis=-1), ahead - anchors, anchors, origins)
