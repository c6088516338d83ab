"""Records in files: written whole or not at all, so that an interruption leaves what was finished."""

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Records = dict[str, list[dict[str, Any]]]
"""Lists of records under the names that they have in a JSON file."""


def number(value: float) -> float | None:
    """A number for JSON, in the shortest form that float32 distinguishes; None for NaN and what is infinite there."""
    import numpy as np  # only here, so that the command line answers without it

    with np.errstate(over="ignore"):
        short = np.float32(value)
    return float(str(short)) if np.isfinite(short) else None


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


def write_csv(path: Path, columns: Sequence[str], tables: Records) -> None:
    """Records of several kinds in one table, told apart by the column ``record``: the name of their list."""
    out = io.StringIO()
    table: csv.DictWriter[str] = csv.DictWriter(out, ("record", *columns), lineterminator="\n")
    table.writeheader()
    for kind, rows in tables.items():
        table.writerows({"record": kind, **row} for row in rows)
    write_text(path, out.getvalue())


class Run:
    """A run's directory: its configuration, its records by kind, and what is still missing.

    Its files are ``config.json`` and ``NAME.json``, which holds the configuration, each kind of records, and a summary.
    """

    def __init__(self, folder: Path, name: str, kinds: Iterable[str]) -> None:
        self.folder = folder
        self.name = name
        self.config: dict[str, Any] = {}
        self.records: Records = {kind: [] for kind in kinds}
        self.summary: list[dict[str, Any]] = []
        self.missing: list[Any] = []

    def admit(self, settings: dict[str, Any]) -> None:
        """ValueError for a directory that holds something else or cannot be written."""
        folder = self.folder
        above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise ValueError(
                f"{folder} cannot be written, since {above} is not a writable directory; choose another --out"
            )
        if not folder.exists() or not any(folder.iterdir()):
            return
        try:
            before = json.loads((folder / "config.json").read_text(encoding="utf-8"))["settings"]
        except (OSError, ValueError, KeyError, TypeError):
            raise ValueError(
                f"{folder} holds files that are no run of this study; choose another --out"
            ) from None
        wanted = json.loads(json.dumps(settings))
        if not isinstance(before, dict) or wanted.keys() != before.keys():
            raise ValueError(
                f"{folder} holds a run of another study or version; choose another --out"
            )
        other = sorted(name for name in wanted if wanted[name] != before[name])
        if other:
            raise ValueError(
                f"{folder} holds a run with another {', '.join(other)}; choose another --out"
            )

    def open(
        self,
        config: dict[str, Any],
        resume: bool,
        units: list[Any],
        finished: Callable[[Records], set[Any]],
    ) -> None:
        """Takes the directory and what is ``finished`` in it, as its records tell.

        ValueError for what must not be overwritten or continued.
        """
        self.config, self.missing = config, units
        results = self.folder / f"{self.name}.json"
        if results.exists():
            try:
                found = json.loads(results.read_text(encoding="utf-8"))
                records, summary = {kind: found[kind] for kind in self.records}, found["summary"]
                done = finished(records)
                other_data = found["config"]["data"] != config["data"]
            except (ValueError, KeyError, TypeError):
                raise ValueError(
                    f"{results} is damaged; remove it, or choose another --out"
                ) from None
            if other_data:
                raise ValueError(f"{self.folder} holds a run on other data; choose another --out")
            missing = [unit for unit in units if unit not in done]
            if missing and not resume:
                raise ValueError(
                    f"{self.folder} holds an unfinished run; add --resume to go on, or choose another --out"
                )
            if resume:
                self.config, self.records, self.summary, self.missing = (
                    found["config"],
                    records,
                    summary,
                    missing,
                )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "config.json", self.config)

    def add(self, records: Records) -> None:
        for kind, rows in records.items():
            self.records[kind] += rows

    def save(self, summary: list[dict[str, Any]]) -> None:
        """Writes all records so far, so that an interruption loses no finished measurement."""
        self.summary = summary
        content = {"config": self.config, **self.records, "summary": summary}
        write_json(self.folder / f"{self.name}.json", content)
