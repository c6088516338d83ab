"""Local times in UTC."""

import datetime
import zoneinfo
from typing import Any

import numpy as np

from rnnlab import _check
from rnnlab.data.time_stamps import MINUTE

_EPOCH = datetime.datetime(1970, 1, 1)


class NoSuchTimeError(ValueError):
    """A local time that the clocks left out; ``place`` is its index."""

    def __init__(self, place: int) -> None:
        super().__init__(f"the time at {place} does not exist")
        self.place = place


def to_utc(local: np.ndarray, zone: zoneinfo.ZoneInfo) -> np.ndarray:
    """UTC from local times, ``[N]`` in microseconds, in the order of their measurement.

    When clocks are set back an hour comes twice. A time in it that does not rise, and those that
    follow it, are of the second time; where none falls, all are of the first.
    """
    # Clocks change at quarters of an hour, so that one offset holds from one to the next.
    quarter = 15 * MINUTE
    quarters, place = np.unique(local // quarter, return_inverse=True)
    offsets = np.array([_offsets(int(start) * quarter, zone) for start in quarters])
    first, second = offsets[place].T
    # PEP 495: in a gap of the clock the two offsets are in the order of their size.
    gaps = np.flatnonzero(first < second)
    if gaps.size:
        raise NoSuchTimeError(int(gaps[0]))
    is_twice = first > second
    was_twice = np.concatenate([[False], is_twice[:-1]])
    falls = np.concatenate([[False], local[1:] <= local[:-1]]) & is_twice & was_twice
    begins = np.flatnonzero(is_twice & ~was_twice)
    fallen = np.cumsum(falls)
    # The falls before a stretch of such times belong to earlier years.
    stretch = np.searchsorted(begins, np.arange(local.size), side="right") - 1
    earlier = fallen[begins][stretch] if begins.size else fallen
    return local - np.where(is_twice & (fallen > earlier), second, first)


def _offsets(time: int, zone: zoneinfo.ZoneInfo) -> tuple[int, int]:
    """The offsets from UTC at a local time, the first and the second time that it comes."""
    moment = _EPOCH + datetime.timedelta(microseconds=time)
    offsets = []
    for fold in (0, 1):
        offset = moment.replace(tzinfo=zone, fold=fold).utcoffset() or datetime.timedelta()
        offsets.append(offset // datetime.timedelta(microseconds=1))
    return offsets[0], offsets[1]


def time_zone(zone: Any) -> zoneinfo.ZoneInfo:
    """The time zone of a name; ValueError for an unknown one."""
    try:
        return zoneinfo.ZoneInfo(zone)
    except (OSError, ValueError, TypeError, KeyError):
        raise ValueError(
            f"zone is {_check.brief(zone)}; give the name of a time zone, such as 'Europe/Paris' "
            "(on a system that has no list of them: pip install tzdata)"
        ) from None
