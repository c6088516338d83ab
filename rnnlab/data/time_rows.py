"""Rows of text as times and numbers, a block at a time."""

import csv
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from rnnlab._wording import counted
from rnnlab.data.decimals import Cells, cells_of, plain_decimals
from rnnlab.data.tables import is_number
from rnnlab.data.time_stamps import (
    clock_microseconds,
    date_microseconds,
    has_offset,
    split_stamp,
)

BLOCK = 4_000_000
"""Bytes of the file that are in memory at a time."""

ROWS = 50_000
"""Rows of a file with quotes that are in memory at a time."""


class Layout(NamedTuple):
    """How the rows of a file are read.

    Attributes:
        path: the file.
        has_header: whether its first row has names.
        width: the cells of a row.
        time: the index of the cell with the time, or those of date and time of day.
        columns: the indices of the C numbers.
        names: theirs.
        delimiter: the character between cells.
        decimal: the decimal sign.
        day_first: whether 1/2/2007 is the first of February.
        missing: what stands for a missing number.
    """

    path: Path
    has_header: bool
    width: int
    time: tuple[int, ...]
    columns: tuple[int, ...]
    names: tuple[str, ...]
    delimiter: str
    decimal: str = "."
    day_first: bool = False
    missing: frozenset[str] = frozenset()


class Rows(NamedTuple):
    """N rows.

    Attributes:
        times: ``[N]``, microseconds since 1970.
        values: ``[N, C]``.
        lines: ``[N]``, where they are in the file.
        offsets: ``[N]``, whether a time says how far it is from UTC.
    """

    times: np.ndarray
    values: np.ndarray
    lines: np.ndarray
    offsets: np.ndarray


def blocks(file: IO[bytes], line: int, layout: Layout) -> Iterator[Rows]:
    """All rows of the lines that follow ``line``."""
    while block := file.read(BLOCK):
        block += file.readline()
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        if not block.endswith(b"\n"):
            block += b"\n"
        if b'"' in block:
            # A cell with quotes may go on in the next block.
            lines = itertools.chain(block.splitlines(keepends=True), file)
            yield from _by_csv(lines, line, layout)
            return
        count = block.count(b"\n")
        columns = _columns(block, count, layout)
        if columns is None:
            yield from _by_csv(block.splitlines(keepends=True), line, layout)
        else:
            yield read(columns, np.arange(line + 1, line + 1 + count), layout)
        line += count


def _columns(block: bytes, count: int, layout: Layout) -> list[Cells] | None:
    """The cells of each column; None unless each line has as many cells as the first row."""
    data = np.frombuffer(block, np.uint8)
    is_end = data == ord("\n")
    ends = np.flatnonzero(is_end | (data == ord(layout.delimiter)))
    width = layout.width
    if ends.size != count * width or not is_end[ends[width - 1 :: width]].all():
        return None
    starts = np.concatenate([[0], ends[:-1] + 1])
    return [Cells(block, starts[index::width], ends[index::width]) for index in range(width)]


def _by_csv(lines: Iterable[bytes], line: int, layout: Layout) -> Iterator[Rows]:
    """Rows in any form that RFC 4180 allows; ValueError for one of another width."""
    texts = (text.decode(errors="replace") for text in lines)
    reader = csv.reader(texts, delimiter=layout.delimiter, strict=True)
    rows, numbers = [], []
    try:
        for cells in reader:
            if is_blank(cells):
                continue
            if len(cells) != layout.width:
                raise ValueError(
                    f"{layout.path}:{line + reader.line_num} has {counted(len(cells), 'column')}, "
                    f"but the first row has {layout.width}; give every row the same number"
                )
            rows.append(cells)
            numbers.append(line + reader.line_num)
            if len(rows) == ROWS:
                yield read_text(rows, numbers, layout)
                rows, numbers = [], []
    except csv.Error as error:
        raise ValueError(
            f"{layout.path}:{line + reader.line_num} is not CSV ({error}); correct that line"
        ) from None
    if rows:
        yield read_text(rows, numbers, layout)


def is_blank(cells: list[str]) -> bool:
    """Whether a line holds nothing but white space."""
    return len(cells) < 2 and not "".join(cells).strip()


def read_text(rows: list[list[str]], lines: list[int], layout: Layout) -> Rows:
    """N rows of text, and where they are in the file."""
    columns = [cells_of(list(texts)) for texts in zip(*rows, strict=True)]
    return read(columns, np.array(lines), layout)


def read(columns: list[Cells], lines: np.ndarray, layout: Layout) -> Rows:
    """N rows from the cells of each column."""
    stamps = [columns[index].ascii() for index in layout.time]
    if len(stamps) == 1:
        stamps = zip(*map(split_stamp, stamps[0]), strict=True)
    dates, clocks = stamps
    date = functools.partial(date_microseconds, day_first=layout.day_first)
    times = _parsed(date, dates, lines, layout) + _parsed(clock_microseconds, clocks, lines, layout)
    values = np.empty((len(lines), len(layout.columns)))
    for place, index in enumerate(layout.columns):
        values[:, place] = _numbers(columns[index], lines, layout, layout.names[place])
    # The few different texts of a block say it for all.
    offset = {text: has_offset(text) for text in set(clocks)}
    offsets = np.fromiter(map(offset.__getitem__, clocks), bool, len(lines))
    return Rows(times, values, lines, offsets)


def _parsed(
    parse: Callable[[str], int], texts: Sequence[str], lines: np.ndarray, layout: Layout
) -> np.ndarray:
    """The result of ``parse`` for each text, ``[N]``; its ValueError with the line."""
    try:
        return np.fromiter(map(parse, texts), np.int64, len(texts))
    except ValueError:
        pass
    for text, line in zip(texts, lines, strict=True):
        try:
            parse(text)
        except ValueError as error:
            raise ValueError(f"{layout.path}:{line} has {error}") from None
    raise AssertionError("one of the texts was refused")


def _numbers(cells: Cells, lines: np.ndarray, layout: Layout, name: str) -> np.ndarray:
    """The numbers of a column, ``[N]``, NaN where they are missing."""
    numbers, is_plain = plain_decimals(cells, layout.decimal)
    for place in np.flatnonzero(~is_plain).tolist():
        text = cells.text(place)
        if text.strip() in layout.missing:
            continue
        numbers[place] = _number(text, layout.decimal)
        if not math.isfinite(numbers[place]):
            raise ValueError(
                f"{layout.path}:{lines[place]} has {text!r} in column {name!r}; give a finite "
                "number, or name the mark in missing"
            )
    return numbers


def _number(text: str, decimal: str) -> float:
    """A number in any form; NaN for anything else."""
    if decimal == ",":
        text = text.replace(".", "?").replace(",", ".")
    return float(text) if is_number(text) else math.nan
