"""Dates in English words, generated: all that is learned from and all that is tested."""

import datetime
import itertools
import re
from typing import NamedTuple

import numpy as np

ONES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")
ONES += ("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen")
ONES += ("nineteen",)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
IRREGULAR = {"one": "first", "two": "second", "three": "third", "five": "fifth"}
IRREGULAR |= {"eight": "eighth", "nine": "ninth", "twelve": "twelfth"}
MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september")
MONTHS += ("october", "november", "december")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
FIRST, LAST = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)

DAYS = ("words", "ordinal", "plain")
MONTH_STYLES = ("full", "short")
YEARS = ("pair", "long", "digits")
DAY_FIRST, MONTH_FIRST = "{day} of {month} {year}", "{month} {day}, {year}"
YEAR_FIRST = "{year}, {month} {day}"
SEEN, COMBINED, REORDERED = "seen formats", "new combinations", "new order"


class Style(NamedTuple):
    """How a date is written."""

    order: str
    day: str
    month: str
    year: str
    weekday: bool


def styles() -> dict[str, list[Style]]:
    """Those that are learned from, new combinations of their parts, and those with a new order."""
    known = itertools.product((DAY_FIRST, MONTH_FIRST), DAYS, MONTH_STYLES, YEARS, (False, True))
    split: dict[str, list[Style]] = {SEEN: [], COMBINED: []}
    for style in itertools.starmap(Style, known):
        # Days in words are never learned with short months or with years in digits.
        is_new = style.day == "words" and (style.month == "short" or style.year == "digits")
        split[COMBINED if is_new else SEEN].append(style)
    reordered = {style._replace(order=YEAR_FIRST, weekday=False) for style in split[SEEN]}
    return split | {REORDERED: sorted(reordered)}


def cardinal(number: int) -> str:
    """A number below 100 in words.

    >>> cardinal(84)
    'eighty-four'
    """
    if number < 20:
        return ONES[number - 1]
    tens, ones = divmod(number, 10)
    return TENS[tens - 2] + (f"-{ONES[ones - 1]}" if ones else "")


def ordinal(number: int) -> str:
    """An ordinal number below 100 in words.

    >>> ordinal(23), ordinal(30)
    ('twenty-third', 'thirtieth')
    """
    words = cardinal(number)
    start, mark, last = words.rpartition("-")
    if last.endswith("y"):
        return start + mark + last[:-1] + "ieth"
    return start + mark + IRREGULAR.get(last, last.removesuffix("t") + "th")


def year_in_words(year: int, style: str) -> str:
    """A year from 1900 to 2099.

    >>> year_in_words(1984, "pair"), year_in_words(2005, "long")
    ('nineteen eighty-four', 'two thousand and five')
    """
    if style == "digits":
        return str(year)
    century, rest = divmod(year, 100)
    if century == 20 and (style == "long" or rest < 10):
        return "two thousand" + (f" and {cardinal(rest)}" if rest else "")
    start = cardinal(century)
    if rest == 0:
        return f"{start} hundred"
    if style == "long":
        return f"{start} hundred and {cardinal(rest)}"
    return f"{start} oh {cardinal(rest)}" if rest < 10 else f"{start} {cardinal(rest)}"


def written(date: datetime.date, style: Style) -> str:
    """A date as a text.

    >>> written(datetime.date(1984, 3, 23), Style(DAY_FIRST, "words", "full", "pair", True))
    'friday, the twenty-third of march nineteen eighty-four'
    """
    ending = {1: "st", 2: "nd", 3: "rd"}.get(0 if date.day in (11, 12, 13) else date.day % 10, "th")
    days = {"words": ordinal(date.day), "ordinal": f"{date.day}{ending}", "plain": str(date.day)}
    name = MONTHS[date.month - 1]
    day = days[style.day]
    if style.order == DAY_FIRST and style.day != "plain":
        day = f"the {day}"
    text = style.order.format(
        day=day,
        month=name if style.month == "full" else name[:3],
        year=year_in_words(date.year, style.year),
    )
    if style.day == "plain":
        text = text.replace(" of ", " ")
    return f"{WEEKDAYS[date.weekday()]}, {text}" if style.weekday else text


def tokens(text: str) -> list[str]:
    """Words, single digits and marks.

    >>> tokens("march 23rd, 1984")
    ['march', '2', '3', 'rd', ',', '1', '9', '8', '4']
    """
    return re.findall(r"[a-z]+|\d|[^\w\s]", text)


class Dated(NamedTuple):
    """N texts and the dates in them, in ISO 8601."""

    texts: tuple[str, ...]
    iso: tuple[str, ...]


def days(counts: tuple[int, int, int]) -> list[np.ndarray]:
    """So many random dates of each part, none in two, as numbers of days from 1900."""
    order = np.random.default_rng(0).permutation((LAST - FIRST).days + 1)
    return np.split(order[: sum(counts)], np.cumsum(counts)[:-1])


def texts(numbers: np.ndarray, allowed: list[Style], together: int) -> Dated:
    """Texts with ``together`` dates each, in random formats."""
    random = np.random.default_rng(int(numbers[0]))
    spelled, iso = [], []
    for number in numbers.tolist():
        date = FIRST + datetime.timedelta(days=number)
        spelled.append(written(date, allowed[random.integers(len(allowed))]))
        iso.append(date.isoformat())
    starts = range(0, len(numbers) - together + 1, together)
    return Dated(
        tuple("; ".join(spelled[start : start + together]) for start in starts),
        tuple(" ".join(iso[start : start + together]) for start in starts),
    )


def by_rule(text: str) -> str | None:
    """The date by a rule that knows how days, months and years are spelled; None for no date."""
    months = [name[:3] for name in MONTHS]
    ordinals = {ordinal(number): number for number in range(1, 32)}
    found: dict[str, int] = {}
    year: list[str] = []
    for word in re.findall(r"[a-z]+(?:-[a-z]+)?|\d+", text):
        if word[:3] in months:
            found["month"] = months.index(word[:3]) + 1
        elif word.isdigit():
            found["year" if len(word) == 4 else "day"] = int(word)
        elif word in ordinals:
            found["day"] = ordinals[word]
        else:
            year.append(word)
    if "year" not in found:
        found["year"] = value(year)
    try:
        return datetime.date(**found).isoformat()
    except (TypeError, ValueError):
        return None


def value(words: list[str]) -> int:
    """The year that words spell; those that are not numbers are skipped.

    >>> value(["nineteen", "oh", "four"]), value(["two", "thousand", "and", "five"])
    (1904, 2005)
    """
    numbers = {cardinal(number): number for number in range(1, 100)}
    known = [numbers[word] for word in words if word in numbers]
    if not known:
        return 0
    start = known[0] * (1000 if "thousand" in words else 100)
    return start + sum(known[1:])
