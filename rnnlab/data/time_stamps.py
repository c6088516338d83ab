"""Dates and times of day as text, in microseconds."""

import datetime
import functools
import re

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_YEAR_FIRST = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})")
_YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,6}))?)?(?: ?(Z|[+-]\d{2}:?\d{2}))?")
_EPOCH = datetime.date(1970, 1, 1)


# A file has few dates and few times of day beside its number of rows.
@functools.lru_cache(maxsize=100_000)
def date_microseconds(text: str, day_first: bool) -> int:
    """The midnight of a date such as "2006-12-16" or, by ``day_first``, "16/12/2006".

    >>> date_microseconds("2/1/1970", day_first=True) == DAY
    True
    """
    if match := _YEAR_FIRST.fullmatch(text.strip()):
        year, month, day = match[1], match[3], match[4]
    elif match := _YEAR_LAST.fullmatch(text.strip()):
        year, month, day = match[4], match[1], match[3]
        if day_first:
            month, day = day, month
    else:
        raise ValueError(f"{text!r} is not a date; give one such as 2006-12-16 or 16/12/2006")
    try:
        days = datetime.date(int(year), int(month), int(day)).toordinal()
    except ValueError:
        hint = "give a date that exists"
        if match.re is _YEAR_LAST and int(month) > 12:
            hint = f"give day_first={not day_first}, or correct it"
        raise ValueError(
            f"{text!r} is not a date, with day {int(day)} of month {int(month)}; {hint}"
        ) from None
    return (days - _EPOCH.toordinal()) * DAY


@functools.lru_cache(maxsize=100_000)
def clock_microseconds(text: str) -> int:
    """The time of day, such as "17:24" or "17:24:00.5"; in UTC if it has an offset, "17:24+01:00".

    >>> clock_microseconds("01:30") // MINUTE, clock_microseconds("01:30:00+02:00") // MINUTE
    (90, -30)
    """
    match = _CLOCK.fullmatch(text.strip())
    if not match or int(match[1]) > 23 or int(match[2]) > 59 or int(match[3] or 0) > 59:
        raise ValueError(f"{text!r} is not a time of day; give one such as 17:24 or 17:24:00")
    hours, minutes, seconds, decimals, offset = match.groups()
    time = int(hours) * HOUR + int(minutes) * MINUTE + int(seconds or 0) * SECOND
    time += int((decimals or "").ljust(6, "0"))
    if offset and offset != "Z":
        ahead = int(offset[1:3]) * HOUR + int(offset[-2:]) * MINUTE
        time += ahead if offset[0] == "-" else -ahead
    return time


def has_offset(text: str) -> bool:
    """Whether a time of day says how far it is from UTC."""
    return text.strip()[5:].rstrip("0123456789:").endswith(("Z", "+", "-"))


def split_stamp(text: str) -> tuple[str, str]:
    """The date and the time of day of "2006-12-16 17:24" or "2006-12-16T17:24".

    >>> split_stamp("2006-12-16T17:24"), split_stamp("2006-12-16")
    (('2006-12-16', '17:24'), ('2006-12-16', '00:00'))
    """
    date, _, clock = text.strip().replace("T", " ", 1).partition(" ")
    return date, clock or "00:00"


def is_date(text: str) -> bool:
    """Whether a cell is or begins with a date, right or wrong, such as 31/2/2007."""
    date, _ = split_stamp(text)
    return any(form.fullmatch(date) for form in (_YEAR_FIRST, _YEAR_LAST))
