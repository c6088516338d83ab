"""Time series for forecasting: windows, and a split in time without leakage."""

from typing import Any, NamedTuple

import numpy as np

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.data.checks import check_finite
from rnnlab.data.order import Batches, batches


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
    """z = (x − mean) / scale."""

    mean: float
    scale: float

    def standardize(self, values: Any) -> Any:
        """Values in units of the standard deviation, from those in units of the data."""
        return (values - self.mean) / self.scale

    def restore(self, values: Any) -> Any:
        """Values in units of the data, from standardised ones."""
        return values * self.scale + self.mean


class Forecasting(NamedTuple):
    """Two parts of a series in time, and the standardisation of both.

    Attributes:
        training: windows that lie before ``held_out_from``.
        held_out: windows whose targets lie at or after it, each once an epoch, in their order.
        standardizer: mean and standard deviation of the values before it.
    """

    training: Batches
    held_out: Batches
    standardizer: Standardizer


def sunspots() -> Series:
    """The yearly number of sunspots from 1700 to 2008, 309 values, from statsmodels.

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
    return Series(activity, years, "sunspots a year")


def windows(
    series: Series,
    context: int,
    horizon: int,
    batch_size: int,
    *,
    start: float | None = None,
    stop: float | None = None,
    standardizer: Standardizer | None = None,
    seed: int = 0,
    shuffle: bool = True,
    drop_remainder: bool = True,
) -> Batches:
    """Every stretch of ``context`` values with the ``horizon`` values that follow it.

    >>> import numpy as np
    >>> series = Series(np.arange(50.0), np.arange(1950, 2000))
    >>> batch = windows(series, 10, 2, 4, stop=1980, shuffle=False)[0]
    >>> batch.xs.shape, batch.targets.shape, batch.targets[:, 0, 0]
    ((10, 4, 1), (2, 4, 1), array([10., 11.]))

    Args:
        series: values at rising times.
        context: the number of values that a forecaster sees.
        horizon: the number of values that it forecasts.
        batch_size: B.
        start: the least time of a target; what a forecaster sees may lie before it.
        stop: all times of a window lie below it.
        standardizer: applied to inputs and targets, if given.
        seed, shuffle, drop_remainder: as in :func:`rnnlab.data.batches`.

    Returns:
        Data of batches with xs ``[context, B, 1]`` and targets ``[horizon, B, 1]``.

    Raises:
        ValueError: for values that are not finite, times that do not rise, and where no window
            fits.
    """
    _check.positive_int("context", context)
    _check.positive_int("horizon", horizon)
    values, times = _checked(series)
    if standardizer is not None:
        values = standardizer.standardize(values)
    length = context + horizon
    starts = np.arange(max(values.size - length + 1, 0))
    if start is not None:
        starts = starts[times[starts + context] >= start]
    if stop is not None:
        starts = starts[times[starts + length - 1] < stop]
    if starts.size == 0:
        raise ValueError(
            f"no window of {context} + {horizon} values fits into the {values.size} values from "
            f"{start if start is not None else 'the first'} to "
            f"{stop if stop is not None else 'the last'}; give a shorter context or horizon"
        )
    examples = values[np.arange(length)[:, None] + starts][..., None]  # [length, n, 1]
    return batches(
        Batch(xs=examples[:context], targets=examples[context:]),
        batch_size,
        seed=seed,
        shuffle=shuffle,
        drop_remainder=drop_remainder,
    )


def forecasting(
    series: Series,
    context: int,
    horizon: int,
    batch_size: int,
    *,
    held_out_from: float,
    seed: int = 0,
) -> Forecasting:
    """Divides a series in time: training before ``held_out_from``, judgement at and after it.

    Nothing at or after ``held_out_from`` reaches training: neither a window nor the mean and the
    standard deviation, which are those of the values before it. What a forecaster sees of a
    held-out window may begin before it, as it would in use.

    >>> import numpy as np
    >>> series = Series(np.sin(np.arange(300.0)), np.arange(1700, 2000))
    >>> split = forecasting(series, 20, 5, 16, held_out_from=1950)
    >>> split.training.batches_per_epoch, split.held_out.batches_per_epoch
    (14, 3)

    Raises:
        ValueError: as :func:`windows`, and where the values before ``held_out_from`` are equal.
    """
    values, times = _checked(series)
    known = values[times < held_out_from]
    if known.size == 0 or known.std() == 0:
        raise ValueError(
            f"the {known.size} values before {held_out_from} have no spread to standardise by; "
            "give a later held_out_from"
        )
    standardizer = Standardizer(float(known.mean()), float(known.std()))
    training = windows(
        series,
        context,
        horizon,
        batch_size,
        stop=held_out_from,
        standardizer=standardizer,
        seed=seed,
    )
    held_out = windows(
        series,
        context,
        horizon,
        batch_size,
        start=held_out_from,
        standardizer=standardizer,
        shuffle=False,
        drop_remainder=False,
    )
    return Forecasting(training, held_out, standardizer)


def _checked(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """Values and times; ValueError where they do not fit each other."""
    values, times = np.asarray(series.values), np.asarray(series.times)
    if values.ndim != 1 or values.shape != times.shape:
        raise ValueError(
            f"values has shape {values.shape} and times {times.shape}; both must be [N]"
        )
    check_finite("values", values)
    drops = np.flatnonzero(np.diff(times) <= 0)
    if drops.size:
        place = int(drops[0]) + 1
        raise ValueError(
            f"times[{place}] is {times[place]} after {times[place - 1]}; times must rise"
        )
    return values.astype(float), times
