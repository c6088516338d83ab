"""Dates in texts, rewritten in ISO 8601 or replaced by a placeholder."""

import datetime
import re
from collections.abc import Callable

from rnnlab import _check
from rnnlab.text.tokens import as_text

# Not those of the module calendar, which are in the user's language.
_MONTHS = ("january", "february", "march", "april", "may", "june")
_MONTHS += ("july", "august", "september", "october", "november", "december")
# Letters of ASCII alone: without regard to case, the long s would pass for an s.
_MONTH = r"(?P<month>(?a:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec"
_MONTH += "|" + "|".join(_MONTHS) + r"))\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>\d{4})"
_WRITTEN = (
    re.compile(rf"\b{_DAY}(?: of)? {_MONTH},? {_YEAR}\b", re.IGNORECASE),
    re.compile(rf"\b{_MONTH} {_DAY},? {_YEAR}\b", re.IGNORECASE),
)
_ISO = re.compile(r"\b(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})\b")
_NUMERIC = re.compile(
    r"\b(?P<first>\d{1,2})(?P<mark>[/.-])(?P<second>\d{1,2})(?P=mark)(?P<year>\d{4})\b"
)


def normalize_dates(text: str, *, day_first: bool | None = None) -> str:
    """English dates in ISO 8601: "3 March 2024", "March 3rd, 2024" and "13/3/2024".

    Anything that is not a valid date is left unchanged.

    >>> normalize_dates("from March 3, 2024 to 31/12/2024 or 4/5/2025")
    'from 2024-03-03 to 2024-12-31 or 4/5/2025'
    >>> normalize_dates("4/5/2025", day_first=True)
    '2025-05-04'

    Args:
        text: any text.
        day_first: True reads numbers as day and month, False as month and day; None leaves a date
            that could be either unchanged.

    Raises:
        ValueError: for a text that is not a string, and any other ``day_first``.
    """
    if day_first is not None:
        _check.flag("day_first", day_first)
        day_first = bool(day_first)
    return _replaced(text, day_first, lambda date: date.isoformat())


def replace_dates(text: str, token: str = "<date>") -> str:
    """``token`` in place of each date that :func:`normalize_dates` reads, and of ISO dates.

    >>> replace_dates("due 4/5/2025 or 2025-06-30")
    'due <date> or <date>'
    """
    token = as_text(token)
    # Which of the numbers is the day makes no difference to the placeholder.
    return _replaced(_replaced(text, None, lambda _: token), True, lambda _: token)


def _replaced(text: str, day_first: bool | None, write: Callable[[datetime.date], str]) -> str:
    """``text`` with ``write(date)`` in place of each date."""

    def numbers(match: re.Match[str]) -> datetime.date | None:
        first, second = int(match["first"]), int(match["second"])
        readings = {True: (first, second), False: (second, first)}
        if day_first is not None:
            readings = {day_first: readings[day_first]}
        dates = [_date(match["year"], month, day) for day, month in readings.values()]
        known = {date for date in dates if date is not None}
        return known.pop() if len(known) == 1 else None

    def named(match: re.Match[str]) -> datetime.date | None:
        month = match["month"]
        if not month.isdigit():
            month = [name[:3] for name in _MONTHS].index(month[:3].lower()) + 1
        return _date(match["year"], month, match["day"])

    text = as_text(text)
    for pattern, read in (
        (_ISO, named),
        *((form, named) for form in _WRITTEN),
        (_NUMERIC, numbers),
    ):
        text = pattern.sub(lambda match, read=read: _written(match, read(match), write), text)
    return text


def _date(year: str, month: str | int, day: str | int) -> datetime.date | None:
    try:
        return datetime.date(int(year), int(month), int(day))
    except ValueError:
        return None


def _written(
    match: re.Match[str], date: datetime.date | None, write: Callable[[datetime.date], str]
) -> str:
    return match[0] if date is None else write(date)
