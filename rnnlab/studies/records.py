"""Records as JSON and CSV files, each written whole or not at all."""

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rnnlab._files import write_text

Records = dict[str, list[dict[str, Any]]]
"""Lists of records by kind, which is their key in a JSON file."""


def number(value: float) -> float | None:
    """A number for JSON, as short as float32 distinguishes it; None for NaN and infinity.

    >>> number(1 / 3)
    0.33333334
    """
    # Not at the top: the command line prints help without waiting for NumPy.
    import numpy as np

    with np.errstate(over="ignore"):
        short = np.float32(value)
    return float(str(short)) if np.isfinite(short) else None


def select(records: Iterable[dict[str, Any]], **values: Any) -> list[dict[str, Any]]:
    """The records that have all these values.

    >>> select([{"cell": "rnn", "seed": 0}, {"cell": "gru", "seed": 0}], cell="gru")
    [{'cell': 'gru', 'seed': 0}]
    """

    def matches(record: dict[str, Any]) -> bool:
        return all(record[name] == value for name, value in values.items())

    return list(filter(matches, records))


def column(records: Iterable[dict[str, Any]], name: str) -> list[Any]:
    """The values of ``name`` in all records."""
    return [record[name] for record in records]


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes ``content`` as JSON, one record of a list per line; NaN and infinity become null."""
    parts = []
    for key, value in content.items():
        if isinstance(value, list) and value:
            lines = ",\n  ".join(map(as_json, value))
            parts.append(f"{json.dumps(key)}: [\n  {lines}\n]")
        else:
            parts.append(f"{json.dumps(key)}: {as_json(value, indent=1)}")
    write_text(path, "{\n" + ",\n".join(parts) + "\n}\n")


def as_json(value: Any, indent: int | None = None) -> str:
    """``value`` as JSON, with null for NaN and infinity, which JSON does not have."""
    # NaN is rare: only then is the whole value copied.
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_without_nan(value), indent=indent, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return value


def write_csv(path: Path, columns: Sequence[str], tables: Records) -> None:
    """Writes records of several kinds as one table, whose column ``record`` holds the kind.

    A missing value is an empty field.
    """
    out = io.StringIO()
    table: csv.DictWriter[str] = csv.DictWriter(out, ("record", *columns), lineterminator="\n")
    table.writeheader()
    for kind, rows in tables.items():
        for row in rows:
            table.writerow({"record": kind, **_without_nan(row)})
    write_text(path, out.getvalue())
