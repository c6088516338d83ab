"""The times of a file's rows in UTC, and in their order."""

import zoneinfo
from pathlib import Path

import numpy as np

from rnnlab.data.time_rows import Rows
from rnnlab.data.time_stamps import HOUR
from rnnlab.data.time_zones import NoSuchTimeError, to_utc


def in_utc(path: Path, rows: Rows, zone: zoneinfo.ZoneInfo | None) -> Rows:
    """Rows whose times are all in UTC, or all by a clock of an unknown zone."""
    differs = np.flatnonzero(rows.offsets != rows.offsets[0])
    if differs.size:
        line = rows.lines[differs[0]]
        raise ValueError(
            f"{path}:{line} has a time {'with' if rows.offsets[differs[0]] else 'without'} an "
            "offset from UTC, in contrast to the first; write all times alike"
        )
    if zone is None:
        return rows
    if rows.offsets[0]:
        raise ValueError(f"{path} has times with an offset from UTC; leave zone out")
    try:
        return rows._replace(times=to_utc(rows.times, zone))
    except NoSuchTimeError as error:
        raise ValueError(
            f"{path}:{rows.lines[error.place]} has {_shown(rows.times[error.place])}, an hour that "
            f"the clocks of {zone} leave out; correct it, or leave zone out"
        ) from None


def at_rising_times(path: Path, rows: Rows, duplicates: str) -> Rows:
    """Rows without the duplicates that are to be left out; ValueError where times do not rise."""
    times = rows.times
    if duplicates != "refuse":
        changes = times[1:] != times[:-1]
        edge = [True]
        is_kept = np.concatenate([edge, changes] if duplicates == "first" else [changes, edge])
        rows = Rows(*(array[is_kept] for array in rows))
        times = rows.times
    falls = np.flatnonzero(times[1:] <= times[:-1])
    if not falls.size:
        return rows
    place = int(falls[0]) + 1
    where = f"{path}:{rows.lines[place]}"
    before = f"line {rows.lines[place - 1]}"
    if times[place] == times[place - 1]:
        raise ValueError(
            f"{where} has {_shown(times[place])} again, after {before}; choose duplicates='first' "
            "or 'last', or give the zone of a clock that was set back"
        )
    hint = "sort the rows by time"
    if times[place - 1] - times[place] <= HOUR:
        hint = "if a clock was set back, give its zone, such as zone='Europe/Paris'"
    raise ValueError(
        f"{where} has {_shown(times[place])} after the {_shown(times[place - 1])} of {before}; "
        f"{hint}"
    )


def _shown(time: int) -> str:
    """A time without decimals that are 0."""
    shown = str(np.datetime64(int(time), "us"))
    return shown.removesuffix(".000000").replace("T", " ")
