"""Tables of numbers with times, and the lengths of time between them."""

import datetime
import re
from typing import Any, NamedTuple

import numpy as np

from rnnlab import _check
from rnnlab.data.checks import as_array
from rnnlab.data.series import Series

_UNITS = {"us": "us", "ms": "ms", "s": "s", "min": "m", "h": "h", "d": "D", "w": "W"}
"""Those of a step, and NumPy's names for them."""

_OTHER_UNITS = ("Y", "M", "generic")


class TimeTable(NamedTuple):
    """N rows of C numbers at rising times.

    >>> times = np.array(["2024-05-01T00:00", "2024-05-01T01:00"], "datetime64[s]")
    >>> table = TimeTable(times, np.array([[3.5], [np.nan]]), ("kW",))
    >>> table.series("kW").values.tolist()
    [3.5, nan]

    Attributes:
        times: ``[N]``, datetime64 in seconds, or in microseconds where seconds have decimals.
        values: ``[N, C]``, float64; NaN where a number is missing.
        columns: the C names.
    """

    times: np.ndarray
    values: np.ndarray
    columns: tuple[str, ...]

    def series(self, column: str) -> Series:
        """One column; ValueError for an unknown name."""
        if column not in self.columns:
            raise ValueError(
                f"the table has no column {column!r}; give one of {', '.join(self.columns)}"
            )
        return Series(self.values[:, self.columns.index(column)], self.times, column)


def as_step(name: str, step: Any) -> np.timedelta64:
    """A length of time from text such as "15min", a datetime.timedelta or a NumPy timedelta64.

    >>> as_step("step", "15min")
    np.timedelta64(900000000,'us')
    """
    if isinstance(step, str):
        match = re.fullmatch(r"(\d*) ?([a-z]+)", step.strip().lower())
        if match and match[2] in _UNITS:
            step = np.timedelta64(int(match[1] or 1), _UNITS[match[2]])
    if isinstance(step, datetime.timedelta):
        step = np.timedelta64(step)
    # Years and months have no fixed length.
    if isinstance(step, np.timedelta64) and np.datetime_data(step.dtype)[0] not in _OTHER_UNITS:
        length = step.astype("timedelta64[us]")
        if length > np.timedelta64(0, "us"):
            return length
    raise ValueError(
        f'{name} is {_check.brief(step)}; give a length of time above 0 such as "15min", "1h", '
        '"1d" or "1w"'
    )


def smallest_step(times: np.ndarray) -> np.timedelta64:
    """The least difference between neighbouring times."""
    if times.size < 2:
        raise ValueError(
            f"the table has {times.size} times, between which there is no step; give at least 2"
        )
    return np.diff(times).min()


def check_table(table: Any) -> tuple[np.ndarray, np.ndarray]:
    """Times and values of a table; ValueError where they do not fit each other."""
    if not isinstance(table, TimeTable):
        raise ValueError(
            f"table is {_check.brief(table)}; give rnnlab.data.TimeTable(times, values, columns), "
            "such as that of read_time_table"
        )
    times, values = np.asarray(table.times), as_array("values", table.values)
    if times.dtype.kind != "M" or np.datetime_data(times.dtype)[0] == "generic":
        raise ValueError(f"times are {times.dtype}; give datetime64, such as datetime64[s]")
    if times.ndim != 1 or values.ndim != 2 or len(times) != len(values):
        raise ValueError(
            f"times has shape {times.shape} and values {values.shape}; give [N] and [N, C]"
        )
    if values.shape[1] != len(table.columns):
        raise ValueError(
            f"values has {values.shape[1]} columns, but columns has {len(table.columns)} names; "
            "give one for each"
        )
    # Not by differences: NaT is not above anything.
    drops = np.flatnonzero(~(times[1:] > times[:-1]))
    if drops.size:
        place = int(drops[0]) + 1
        raise ValueError(
            f"times[{place}] is {times[place]} after {times[place - 1]}; times must rise"
        )
    if times.size and np.isnat(times[0]):
        raise ValueError("times[0] is NaT; give the time of every row")
    return times, values.astype(float)
