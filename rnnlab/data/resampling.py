"""Tables at regular times: a grid with gaps, and means and sums over longer steps."""

from typing import Any

import numpy as np

from rnnlab import _check
from rnnlab.data.time_tables import TimeTable, as_step, check_table, smallest_step

MONDAY = np.datetime64("1970-01-05")
"""A midnight at which hours, days and weeks begin."""


def regular_grid(table: TimeTable, step: Any = None) -> TimeTable:
    """A table with a row for each step from the first time to the last; NaN where there was none.

    >>> times = np.array(["2024-05-01T00:00", "2024-05-01T02:00"], "datetime64[s]")
    >>> regular = regular_grid(TimeTable(times, np.array([[1.0], [3.0]]), ("kW",)), "1h")
    >>> regular.values[:, 0].tolist()
    [1.0, nan, 3.0]

    Args:
        table: N rows at rising times.
        step: the length of a step, such as "15min"; the smallest that occurs by default.

    Raises:
        ValueError: for a time that lies between two steps, and for a bad table or step.
    """
    times, values = check_table(table)
    length = smallest_step(times) if step is None else as_step("step", step)
    length = length.astype("timedelta64[us]").astype(int)
    since = (times - times[:1]).astype("timedelta64[us]").astype(int)
    off = np.flatnonzero(since % length)
    if off.size:
        place = int(off[0])
        raise ValueError(
            f"times[{place}] is {times[place]}, between two steps of {_shown(length)} from "
            f"{times[0]}; give a step that fits, or use resample"
        )
    places = since // length
    rows = int(places[-1]) + 1 if places.size else 0
    grid = np.full((rows, values.shape[1]), np.nan)
    grid[places] = values
    return TimeTable(_times(times[0], np.arange(rows) * length), grid, table.columns)


def resample(table: TimeTable, step: Any, how: str = "mean", *, at_least: float = 1.0) -> TimeTable:
    """Means or sums over each hour, day, week or other step, at the times when they begin.

    Steps are counted from Monday, midnight. A result is NaN where fewer than the share ``at_least``
    of its numbers are there, of those that the table's smallest step puts into it. A sum is that
    of the numbers that are there, so that missing ones count as 0; the mean times their number has
    them at the mean of the others.

    >>> times = np.datetime64("2024-05-01T00:00", "s") + 1800 * np.arange(4)
    >>> table = TimeTable(times, np.array([[1.0], [3.0], [5.0], [np.nan]]), ("kW",))
    >>> resample(table, "1h").values[:, 0].tolist()
    [2.0, nan]
    >>> resample(table, "1h", at_least=0.5).values[:, 0].tolist()
    [2.0, 5.0]

    Args:
        table: N rows at rising times.
        step: the length of a step, such as "1h" or "1d", at least that of the table.
        how: "mean" or "sum".
        at_least: a share above 0 and at most 1.

    Raises:
        ValueError: for a bad table, a step below that of the table, and unknown options.
    """
    times, values = check_table(table)
    _check.one_of("how", how, ("mean", "sum"))
    share = _check.fraction("at_least", at_least, closed=True)
    length = as_step("step", step).astype(int)
    smallest = smallest_step(times).astype("timedelta64[us]").astype(int)
    if length < smallest:
        raise ValueError(
            f"step is {_shown(length)}, but the table has a row every {_shown(smallest)} at best; "
            "give a step of at least that"
        )
    since = (times - MONDAY).astype("timedelta64[us]").astype(int)
    steps = since // length
    steps -= steps[0]
    rows = int(steps[-1]) + 1
    needed = max(1.0, share * (length / smallest))
    results = np.full((rows, values.shape[1]), np.nan)
    for column, numbers in enumerate(values.T):
        is_there = np.isfinite(numbers)
        counts = np.bincount(steps[is_there], minlength=rows)
        sums = np.bincount(steps[is_there], numbers[is_there], minlength=rows)
        # A whole number of rows may be above a product with rounding errors.
        is_enough = counts >= needed - 1e-9
        results[is_enough, column] = sums[is_enough]
        if how == "mean":
            results[is_enough, column] /= counts[is_enough]
    first = MONDAY + np.timedelta64(int(since[0] // length * length), "us")
    return TimeTable(_times(first, np.arange(rows) * length), results, table.columns)


def _times(first: np.datetime64, since: np.ndarray) -> np.ndarray:
    """Times in seconds, or in microseconds where seconds have decimals."""
    times = first.astype("datetime64[us]") + since.astype("timedelta64[us]")
    seconds = times.astype("datetime64[s]")
    return seconds if (seconds == times).all() else times


def _shown(length: int) -> str:
    """A length of time, which is given in microseconds."""
    for unit, size in (("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000)):
        if length % size == 0:
            return f"{length // size} {unit}"
    return f"{length / 1e6:g} s"
