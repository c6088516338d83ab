"""Tables of numbers with times from delimited text files."""

import contextlib
import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnnlab import _check
from rnnlab.data.tables import check_delimiter, chosen_columns, is_number, other_delimiter
from rnnlab.data.text import as_path
from rnnlab.data.time_order import at_rising_times, in_utc
from rnnlab.data.time_rows import Layout, Rows, blocks, is_blank, read_text
from rnnlab.data.time_stamps import SECOND, is_date
from rnnlab.data.time_tables import TimeTable
from rnnlab.data.time_zones import time_zone

MISSING = ("", "?", "NA", "N/A", "NaN", "nan", "null")
"""What stands for a missing number, by default."""


def read_time_table(
    path: str | Path,
    *,
    time: str | int | Sequence[str | int] = 0,
    columns: Sequence[str | int] | None = None,
    delimiter: str = ",",
    decimal: str = ".",
    day_first: bool = False,
    missing: Sequence[str] = MISSING,
    zone: str | None = None,
    duplicates: str = "refuse",
) -> TimeTable:
    """The times and numbers of a delimited text file, such as a log of measurements.

    Dates are yyyy-mm-dd, m/d/yyyy or, with ``day_first``, d/m/yyyy (with -, / or .); times of day
    hh:mm, hh:mm:ss or hh:mm:ss.ffffff. Times with an offset (ISO 8601: "Z" or "+01:00") become UTC.
    The first row is a header if none of its cells is a number or a date. Blank lines are skipped.

    The text is read in blocks of 4 MB. Memory holds 8 bytes for each number, and as many for the
    time and the line of each row, twice while blocks are joined: some 0.4 GB for two million rows
    of seven numbers.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "power.txt")
    >>> _ = path.write_text(
    ...     "Date;Time;kW;V\\n16/12/2006;17:24:00;4.216;?\\n16/12/2006;17:25:00;5.36;233.63\\n"
    ... )
    >>> table = read_time_table(path, time=("Date", "Time"), delimiter=";", day_first=True)
    >>> table.columns, table.values.tolist(), str(table.times[0])
    (('kW', 'V'), [[4.216, nan], [5.36, 233.63]], '2006-12-16T17:24:00')

    Args:
        path: a UTF-8 file; one whose name ends in .gz is decompressed.
        time: the name or index of the column with the times, or of those with date and time of day.
        columns: the names or indices of the columns of numbers, in this order; all others by
            default.
        delimiter: the character between cells.
        decimal: the decimal sign, "." or ",".
        day_first: whether 1/2/2007 is the first of February.
        missing: what stands for a missing number, which becomes NaN.
        zone: the time zone of the file's clock, such as "Europe/Paris"; times become UTC. In the
            hour that comes twice, the second begins where times fall.
        duplicates: "refuse" a time that follows itself, or keep the "first" or the "last" of them.

    Raises:
        ValueError: with file and line for a date, a time or a number that is none, a row of another
            width, times that do not rise, a time that comes twice or, with a zone, never came; for
            a file that is unreadable, no UTF-8 or without rows; for unknown columns and options.
    """
    path = as_path(path)
    _check.flag("day_first", day_first)
    _check.one_of("decimal", decimal, (".", ","))
    _check.one_of("duplicates", duplicates, ("refuse", "first", "last"))
    _check_marks(delimiter, decimal, missing)
    known_zone = None if zone is None else time_zone(zone)
    with _opened(path) as file:
        first, line = _first_row(path, file, delimiter)
        layout = _layout(path, first, time, columns, delimiter)
        layout = layout._replace(decimal=decimal, day_first=day_first, missing=frozenset(missing))
        parts = []
        if not layout.has_header:
            parts.append(read_text([first], [line], layout))
        parts.extend(blocks(file, line, layout))
    if not parts:
        raise ValueError(f"{path} holds only a header; give at least one row of numbers")
    rows = Rows(*map(np.concatenate, zip(*parts, strict=True)))
    rows = at_rising_times(path, in_utc(path, rows, known_zone), duplicates)
    times = rows.times.astype("datetime64[us]")
    if not (rows.times % SECOND).any():
        times = times.astype("datetime64[s]")
    return TimeTable(times, rows.values, layout.names)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A file of bytes; ValueError where it cannot be read."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{path} cannot be read ({reason}); give the path of a CSV file") from None


def _check_marks(delimiter: Any, decimal: str, missing: Any) -> None:
    check_delimiter(delimiter)
    if not delimiter.isascii() or delimiter == decimal:
        raise ValueError(
            f"delimiter is {delimiter!r}; give one character of ASCII, such as ';', that is not "
            "the decimal sign"
        )
    is_list = isinstance(missing, list | tuple | set | frozenset)
    if not is_list or not all(isinstance(mark, str) for mark in missing):
        raise ValueError(f"missing is {_check.brief(missing)}; give a list of texts such as ['?']")


def _first_row(path: Path, file: Iterable[bytes], delimiter: str) -> tuple[list[str], int]:
    """The first row that is not blank, and its (last) line."""
    lines = (line.decode("utf-8-sig") for line in file)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if not is_blank(cells):
                return cells, reader.line_num
    except csv.Error as error:
        raise ValueError(
            f"{path}:{reader.line_num} is not CSV ({error}); correct that line"
        ) from None
    except UnicodeDecodeError:
        raise ValueError(
            f"{path}:{reader.line_num + 1} is not UTF-8; convert it, for example with iconv"
        ) from None
    raise ValueError(f"{path} is empty; give a file with at least one row")


def _layout(
    path: Path,
    first: list[str],
    time: str | int | Sequence[str | int],
    columns: Sequence[str | int] | None,
    delimiter: str,
) -> Layout:
    """Which cells of a row are read, by the first row."""
    times = [time] if isinstance(time, str | int) else list(time)
    if len(times) not in (1, 2):
        raise ValueError(
            f"time is {_check.brief(time)}; give one column, or those of date and time of day"
        )
    is_header = not any(is_number(cell) or is_date(cell) for cell in first)
    header = [cell.strip() for cell in first] if is_header else None
    time_indices = chosen_columns(path, times, header, len(first))
    others = [index for index in range(len(first)) if index not in time_indices]
    chosen = others if columns is None else chosen_columns(path, columns, header, len(first))
    if not chosen:
        raise ValueError(f"{path} has no column beside the time; {_hint(first, delimiter)}")
    return Layout(
        path=path,
        has_header=is_header,
        width=len(first),
        time=tuple(time_indices),
        columns=tuple(chosen),
        names=tuple(header[index] if header else str(index) for index in chosen),
        delimiter=delimiter,
    )


def _hint(first: list[str], delimiter: str) -> str:
    """What to give where the first row has one cell."""
    if other := other_delimiter(first[0], delimiter):
        return f"give delimiter={other!r}"
    return "give a file with numbers"
