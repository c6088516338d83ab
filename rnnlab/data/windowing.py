"""Windows of a series for forecasting, and a split in time without leakage."""

from typing import Any, NamedTuple

import numpy as np

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.data.batching import Batches, batches
from rnnlab.data.series import Series, Standardizer, check_series


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
        ValueError: for values that are not finite, times that do not rise, a ``start`` or ``stop``
            that is no such time, a scale that is not above 0, and where no window fits.
    """
    _check.positive_int("context", context)
    _check.positive_int("horizon", horizon)
    values, times = check_series(series)
    if standardizer is not None:
        if not isinstance(standardizer, Standardizer) or not standardizer.scale > 0:
            raise ValueError(
                f"standardizer is {_check.brief(standardizer)}; give a Standardizer(mean, scale) "
                "with a scale above 0"
            )
        values = standardizer.standardize(values)
    length = context + horizon
    starts = np.arange(max(values.size - length + 1, 0))
    if start is not None:
        _check_time("start", start, times)
        starts = starts[times[starts + context] >= start]
    if stop is not None:
        _check_time("stop", stop, times)
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

    >>> series = Series(np.sin(np.arange(300.0)), np.arange(1700, 2000))
    >>> split = forecasting(series, 20, 5, 16, held_out_from=1950)
    >>> split.training.batches_per_epoch, split.held_out.batches_per_epoch
    (14, 3)

    Raises:
        ValueError: as :func:`windows`, and where the values before ``held_out_from`` are equal.
    """
    values, times = check_series(series)
    _check_time("held_out_from", held_out_from, times)
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


def _check_time(name: str, value: Any, times: np.ndarray) -> None:
    """ValueError for what cannot be compared to the times of a series."""
    try:
        is_time = np.shape(times[:1] >= value) == (1,)
    except TypeError:
        is_time = False
    if not is_time:
        raise ValueError(f"{name} is {_check.brief(value)}; give a time such as {times[0]}")
