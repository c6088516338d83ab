"""Time series: values at rising times, and their standardisation."""

from typing import Any, NamedTuple

import numpy as np

from rnnlab import _check
from rnnlab.data.checks import as_array, check_finite


class Series(NamedTuple):
    """A series of numbers, values and times ``[N]``; the times rise.

    Attributes:
        values: one number for each time.
        times: such as years.
        name: what is measured, with its unit.
    """

    values: np.ndarray
    times: np.ndarray
    name: str = "series"


class Standardizer(NamedTuple):
    """z = (x − mean) / scale.

    >>> standardizer = Standardizer(mean=5.0, scale=2.0)
    >>> standardizer.standardize(9.0), standardizer.restore(2.0)
    (2.0, 9.0)
    """

    mean: float
    scale: float

    def standardize(self, values: Any) -> Any:
        """Values in units of the standard deviation, from those in units of the data."""
        return (values - self.mean) / self.scale

    def restore(self, values: Any) -> Any:
        """Values in units of the data, from standardised ones."""
        return values * self.scale + self.mean


def sunspots() -> Series:
    """The yearly mean number of sunspots from 1700 to 2008, 309 values, from statsmodels.

    Raises:
        ImportError: where statsmodels is not installed.
    """
    try:
        from statsmodels.datasets import sunspots as dataset
    except ImportError:
        raise ImportError(
            "sunspots() reads a data set of statsmodels, which is not installed; run "
            "pip install statsmodels"
        ) from None
    loaded: Any = dataset.load_pandas()
    frame = loaded.data
    years = frame["YEAR"].to_numpy().astype(int)
    activity = frame["SUNACTIVITY"].to_numpy().astype(float)
    return Series(activity, years, "yearly mean sunspot number")


def check_series(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """Values and times; ValueError where they do not fit each other."""
    if not isinstance(series, Series):
        raise ValueError(
            f"series is {_check.brief(series)}; give rnnlab.data.Series(values, times)"
        )
    values, times = as_array("values", series.values), np.asarray(series.times)
    if values.ndim != 1 or values.shape != times.shape:
        raise ValueError(
            f"values has shape {values.shape} and times {times.shape}; both must be [N]"
        )
    check_finite("values", values)
    if times.dtype.kind in "OUS":
        raise ValueError(f"times are {times.dtype}; give numbers or datetime64")
    # Not by differences, which wrap in unsigned integers; and NaN is not above anything.
    drops = np.flatnonzero(~(times[1:] > times[:-1]))
    if drops.size:
        place = int(drops[0]) + 1
        raise ValueError(
            f"times[{place}] is {times[place]} after {times[place - 1]}; times must rise"
        )
    return values.astype(float), times
