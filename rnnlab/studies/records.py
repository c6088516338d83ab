"""Records as JSON and CSV files, each written whole or not at all."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rnnlab._files import write_text
from rnnlab._json import as_json, without_nan

Records = dict[str, list[dict[str, Any]]]
"""Lists of records by kind, which is their key in a JSON file."""


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


def write_csv(path: Path, columns: Sequence[str], tables: Records) -> None:
    """Writes records of several kinds as one table, whose column ``record`` holds the kind.

    A missing value is an empty field.
    """
    out = io.StringIO()
    table: csv.DictWriter[str] = csv.DictWriter(out, ("record", *columns), lineterminator="\n")
    table.writeheader()
    for kind, rows in tables.items():
        for row in rows:
            table.writerow({"record": kind, **without_nan(row)})
    write_text(path, out.getvalue())
