"""Records in files: written whole or not at all, so that an interruption leaves what was finished."""

import csv
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

COLUMNS = ("record", "cell", "seed", "length", "phase", "parameter", "lag", "log_norm")


def write_text(path: Path, text: str) -> None:
    """Puts ``text`` in the place of ``path`` in one move."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
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
    """``content`` as JSON; each record of a list stands on a line of its own."""
    parts = []
    for key, value in content.items():
        if isinstance(value, list) and value:
            lines = ",\n".join("  " + json.dumps(record, allow_nan=False) for record in value)
            parts.append(f"{json.dumps(key)}: [\n{lines}\n]")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value, indent=1, allow_nan=False)}")
    write_text(path, "{\n" + ",\n".join(parts) + "\n}\n")


def write_csv(path: Path, norms: list[dict[str, Any]], flow: list[dict[str, Any]]) -> None:
    """Both kinds of records in one table, told apart by the column ``record``."""
    out = io.StringIO()
    table: csv.DictWriter[str] = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    table.writeheader()
    for kind, records in (("norm", norms), ("flow", flow)):
        table.writerows({"record": kind, **record} for record in records)
    write_text(path, out.getvalue())
