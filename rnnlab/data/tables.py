"""Tables of numbers from CSV files."""

import csv
import io
import math
import numbers
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rnnlab._wording import counted
from rnnlab.data.text import as_path, decode_utf8, read_bytes


class Table(NamedTuple):
    """Numbers in rows.

    Attributes:
        values: ``[N, C]``, float64.
        columns: the C names of the header; None where the file has no header.
    """

    values: np.ndarray
    columns: tuple[str, ...] | None


def read_table(
    path: str | Path, *, columns: Sequence[str | int] | None = None, delimiter: str = ","
) -> Table:
    """The numbers of a CSV file (RFC 4180) with an optional header.

    The first row is a header if none of its cells is a number. Blank lines are skipped.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "rain.csv")
    >>> _ = path.write_text("year,rain\\n1990,3.5\\n1991,2.25\\n")
    >>> table = read_table(path, columns=["rain"])
    >>> table.values.ravel().tolist(), table.columns
    ([3.5, 2.25], ('rain',))

    Args:
        path: a UTF-8 file.
        columns: the names or indices of the columns to read, in this order; all by default.
        delimiter: the character between cells.

    Raises:
        ValueError: with file and line for a cell that is not a finite number and a row of another
            width; for a file that is unreadable, no UTF-8 or without numbers; for unknown
            columns, and a delimiter that is not one character.
    """
    path = as_path(path)
    check_delimiter(delimiter)
    rows = _read_rows(path, delimiter)
    if not rows:
        raise ValueError(f"{path} is empty; give a file with at least one row of numbers")
    _, first = rows[0]
    header = None
    if not any(map(is_number, first)):
        header = [cell.strip() for cell in first]
        rows = rows[1:]
    if not rows:
        raise ValueError(f"{path} holds only a header; give at least one row of numbers")
    chosen = chosen_columns(path, columns, header, len(first))
    values = np.empty((len(rows), len(chosen)))
    for place, (line, cells) in enumerate(rows):
        if len(cells) != len(first):
            raise ValueError(
                f"{path}:{line} has {counted(len(cells), 'column')}, but the first row has "
                f"{len(first)}; give every row the same number"
            )
        values[place] = _numbers(path, line, cells, chosen)
    names = None if header is None else tuple(header[index] for index in chosen)
    return Table(values, names)


def check_delimiter(delimiter: Any) -> None:
    """ValueError unless ``delimiter`` is one character that can stand between cells."""
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n':
        raise ValueError(f"delimiter is {delimiter!r}; give one character, such as ';'")


def other_delimiter(cell: str, delimiter: str) -> str | None:
    """The delimiter that the file probably has, if a cell holds another than the given one."""
    for other in (";", "\t", "|", ","):
        if other != delimiter and other in cell:
            return other
    return None


def _read_rows(path: Path, delimiter: str) -> list[tuple[int, list[str]]]:
    """The rows that are not blank, each with the number of its (last) line."""
    text = decode_utf8(path, read_bytes(path, "a CSV file"))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise ValueError(
            f"{path}:{reader.line_num} is not CSV ({error}); correct that line"
        ) from None
    return [(line, cells) for line, cells in rows if "".join(cells).strip()]


def is_number(cell: str) -> bool:
    """Whether a cell is a number, "nan" and "inf" among them."""
    # Python's own literals may hold underscores, which in a file are rather a slip.
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _numbers(path: Path, line: int, cells: list[str], chosen: list[int]) -> list[float]:
    values = []
    for index in chosen:
        cell = cells[index]
        if not is_number(cell) or not math.isfinite(float(cell)):
            raise ValueError(
                f"{path}:{line} has {cell!r} in column {index}; give a finite number, or read "
                "other columns"
            )
        values.append(float(cell))
    return values


def chosen_columns(
    path: Path, columns: Sequence[str | int] | None, header: list[str] | None, width: int
) -> list[int]:
    """The indices of columns that are given by name or index; ValueError for unknown ones."""
    if columns is None:
        return list(range(width))
    columns = [] if isinstance(columns, str | int) else list(columns)
    if not columns:
        raise ValueError("columns is empty or no list; give a list of names or indices")
    chosen = []
    for column in columns:
        if isinstance(column, str):
            if header is None:
                raise ValueError(f"{path} has no header, so {column!r} is unknown; give indices")
            if header.count(column) != 1:
                raise ValueError(
                    f"{path} has {counted(header.count(column), 'column')} named {column!r}; give "
                    f"one of {', '.join(header)}, or an index"
                )
            chosen.append(header.index(column))
            continue
        is_index = isinstance(column, numbers.Integral) and not isinstance(column, bool)
        if not is_index or not 0 <= column < width:
            raise ValueError(f"{path} has no column {column!r}; give an index in 0..{width - 1}")
        chosen.append(int(column))
    return chosen
