"""Records as JSON and CSV files, each written whole or not at all."""

import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Records = dict[str, list[dict[str, Any]]]
"""Lists of records under the names that they have in a JSON file."""

PART = ".part"
"""The end of the name of a file that is being written."""


def number(value: float) -> float | None:
    """A number for JSON, in the shortest form that float32 distinguishes; None for NaN and what is infinite there."""
    import numpy as np  # only here, so that the command line answers without it

    with np.errstate(over="ignore"):
        short = np.float32(value)
    return float(str(short)) if np.isfinite(short) else None


def write_text(path: Path, text: str) -> None:
    """Puts ``text`` in the place of ``path`` in one move."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=PART)
    except OSError as fault:
        fault.filename = str(path)
        raise
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, content: dict[str, Any]) -> None:
    """``content`` as JSON, with null for NaN and infinity; each record of a list stands on a line of its own."""
    parts = []
    for key, value in content.items():
        if isinstance(value, list) and value:
            lines = ",\n".join("  " + as_json(record) for record in value)
            parts.append(f"{json.dumps(key)}: [\n{lines}\n]")
        else:
            parts.append(f"{json.dumps(key)}: {as_json(value, indent=1)}")
    write_text(path, "{\n" + ",\n".join(parts) + "\n}\n")


def as_json(value: Any, indent: int | None = None) -> str:
    """``value`` as JSON, with null for NaN and infinity, which JSON does not have."""
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
    """Records of several kinds in one table, told apart by the column ``record``: the name of their list.

    A missing value is an empty field.
    """
    out = io.StringIO()
    table: csv.DictWriter[str] = csv.DictWriter(out, ("record", *columns), lineterminator="\n")
    table.writeheader()
    for kind, rows in tables.items():
        table.writerows({"record": kind, **_without_nan(row)} for row in rows)
    write_text(path, out.getvalue())
