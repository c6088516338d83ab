"""The directory of a run: safe writing, resuming, and checks that its files belong together."""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rnnlab import _files
from rnnlab._files import PART, write_text
from rnnlab.studies.records import Records, write_json

CONFIG = "config.json"
PAGE = "report.html"

UNFINISHED = "unfinished"
"""The subdirectory that holds a run until it is finished."""

CHECKSUMS = "SHA256SUMS"
"""The list of a finished run's files, in the form that ``sha256sum --check`` reads."""

SHARE = 10
"""The time between two saves is at least this many times the duration of a save."""


class Run:
    """The directory of a run: its configuration, its records by kind, and the missing units.

    The directory holds a finished run: ``config.json``, ``NAME.json`` (the configuration, each kind
    of records and a summary), the figures and tables drawn from them, and ``SHA256SUMS``, which
    lists these files. A run in progress writes them into ``unfinished``, the list last; then they
    are moved, the list last again. If the process is killed

    * before the list is written, an earlier run is whole, and ``unfinished`` holds all
      measurements so far;
    * after it, the list in ``unfinished`` names the files still to be moved, and ``settle`` moves
      them.

    On leaving the context the directory is released, and removed if it is empty.
    """

    def __init__(self, folder: Path, name: str, kinds: Iterable[str]) -> None:
        self.folder = folder
        self.unfinished = folder / UNFINISHED
        self.name = name
        self.config: dict[str, Any] = {}
        self.records: Records = {kind: [] for kind in kinds}
        self.summary: list[dict[str, Any]] = []
        self.missing: list[Any] = []
        self.is_whole = False
        self._before: list[dict[str, Any]] = []
        self._made: list[Path] = []
        self._stack = contextlib.ExitStack()
        self._admitted = False
        self._unsaved = False
        self._next_save = 0.0

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        # Before admission the files may belong to another process.
        if self._admitted and not _results(self.unfinished):
            with contextlib.suppress(OSError):
                _remove_rest(self.unfinished)
        for folder in self._made:
            with contextlib.suppress(OSError, ValueError):
                folder.rmdir()
        self._stack.close()

    def admit(self, settings: dict[str, Any]) -> None:
        """Claims the directory; ValueError if it cannot be written or holds something else."""
        try:
            self._make(self.folder)
            self._lock_folder()
            settle(self.folder)
            self._compare(settings)
            self._make(self.unfinished)
            _try_to_write(self.unfinished)
            self._admitted = True
        except OSError as fault:
            path, reason = self.folder, fault.strerror
            # Where a file is in the way, mkdir says only that it exists.
            if isinstance(fault, FileExistsError):
                path, reason = fault.filename, "Not a directory"
            raise ValueError(f"{path} cannot be written ({reason}); choose another --out") from None

    def open(
        self,
        config: dict[str, Any],
        resume: bool,
        units: Iterable[Any],
        finished: Callable[[Records], set[Any]],
        summarise: Callable[[Records], list[dict[str, Any]]],
    ) -> None:
        """Starts a run, or resumes one: ``missing`` then lacks the units that are ``finished``.

        ValueError for a run that must not be overwritten or continued, and for damaged records,
        which cannot be summarised.
        """
        self.config = config
        self.missing = list(units)
        for before in self._before:
            if before.get("data") != config.get("data"):
                raise ValueError(f"{self.folder} holds a run on other data; choose another --out")
            # A network from a training run is another one after more training.
            if before.get("network") != config.get("network"):
                raise ValueError(
                    f"{self.folder} holds a run on the network after other training "
                    f"({_trained(before)}, now {_trained(config)}); choose another --out"
                )
        partial = self.unfinished / f"{self.name}.json"
        whole = self.folder / f"{self.name}.json"
        if partial.exists() and not resume:
            raise ValueError(
                f"{self.folder} holds an unfinished run; add --resume to go on, or remove "
                f"{self.unfinished}"
            )
        source = partial if partial.exists() else whole
        if resume and source.exists():
            self._load(source, finished, summarise)
            self.is_whole = source == whole and not self.missing and not faults(self.folder)
            # Records of a finished run are not in ``unfinished`` yet, where a new run needs them.
            self._unsaved = source == whole
        if not self.is_whole:
            write_json(self.unfinished / CONFIG, self.config)

    def add(self, unit: Any, records: Records) -> None:
        """Adds the records of a unit that was missing."""
        for kind, rows in records.items():
            self.records[kind] += rows
        self.missing.remove(unit)
        self._unsaved = True

    def save(self, summarise: Callable[[Records], list[dict[str, Any]]], when_due: bool) -> None:
        """Writes all records so far, if there are new ones; ``when_due`` only now and then.

        Saving then takes at most a tenth of the time: all records are written anew each time.
        """
        start = time.monotonic()
        if not self._unsaved or (when_due and start < self._next_save):
            return
        self.summary = summarise(self.records)
        content: dict[str, Any] = {"config": self.config}
        if self.missing:
            content["missing"] = list(map(list, self.missing))
        content |= self.records
        content["summary"] = self.summary
        write_json(self.unfinished / f"{self.name}.json", content)
        self._unsaved = False
        end = time.monotonic()
        self._next_save = end + SHARE * (end - start)

    def finish(self) -> None:
        """Replaces an earlier run by this one, with its figures and tables."""
        lines = ""
        for path in sorted(self.unfinished.iterdir()):
            # A directory is nothing of a run's; it stays where it is.
            if path.is_file() and not _is_rest(path):
                lines += f"{_files.digest(path)}  {path.name}\n"
        # From the moment at which the list is written, this run is the one to keep.
        write_text(self.unfinished / CHECKSUMS, lines)
        settle(self.folder)

    def _make(self, folder: Path) -> None:
        absent = [path for path in (folder, *folder.parents) if not path.exists()]
        self._made = absent + self._made
        folder.mkdir(parents=True, exist_ok=True)

    def _lock_folder(self) -> None:
        """Locks the directory until the process ends; ValueError if another process holds it."""
        try:
            self._stack.enter_context(_files.locked(self.folder))
        except BlockingIOError:
            raise ValueError(
                f"another rnnlab is writing {self.folder}; wait for it, or choose another --out"
            ) from None

    def _compare(self, settings: dict[str, Any]) -> None:
        """ValueError unless the directory is empty or holds a run with these settings."""
        # Through JSON, which turns tuples into lists, as in the files.
        wanted = json.loads(json.dumps(settings))
        holds_run = (self.folder / CONFIG).exists()
        holds_results = bool(_results(self.unfinished))
        holds_others = {path.name for path in self.folder.iterdir()} - {UNFINISHED}
        if holds_others and not holds_run and not holds_results:
            raise ValueError(
                f"{self.folder} holds files that do not belong to a run of this study; "
                "choose another --out"
            )
        if holds_run:
            self._before.append(self._compared(self.folder / CONFIG, wanted))
        if holds_results:
            self._before.append(self._compared(self.unfinished / CONFIG, wanted))

    def _compared(self, path: Path, wanted: dict[str, Any]) -> dict[str, Any]:
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            before = config["settings"]
        except (OSError, ValueError, KeyError, TypeError):
            raise ValueError(
                f"{self.folder} holds files that do not belong to a run of this study; "
                "choose another --out"
            ) from None
        if not isinstance(before, dict) or wanted.keys() != before.keys():
            raise ValueError(
                f"{self.folder} holds a run of another study or version; choose another --out"
            )
        changed = sorted(name for name in wanted if wanted[name] != before[name])
        if changed:
            raise ValueError(
                f"{self.folder} holds a run with other settings ({', '.join(changed)}); choose "
                "another --out"
            )
        return config

    def _load(
        self,
        path: Path,
        finished: Callable[[Records], set[Any]],
        summarise: Callable[[Records], list[dict[str, Any]]],
    ) -> None:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            self.config, self.summary = content["config"], content["summary"]
            for kind in self.records:
                self.records[kind] = list(content[kind])
            done = finished(self.records)
            # Hours of work would otherwise end in an error at the first summary.
            summarise(self.records)
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, OSError):
            raise ValueError(f"{path} is damaged; remove it, or choose another --out") from None
        self.missing = [unit for unit in self.missing if unit not in done]


def _trained(config: dict[str, Any]) -> str:
    network = config.get("network")
    return "not trained" if network is None else f"{network['step']} steps"


def settle(folder: Path) -> None:
    """Moves a complete run from ``unfinished`` to ``folder``; ends a move that was cut short."""
    new = folder / UNFINISHED
    names = list(_listed(new))
    if not names:
        return
    # Files of the earlier run alone, such as its page, would otherwise stay beside the new ones.
    for name in {*_listed(folder), PAGE} - set(names):
        (folder / name).unlink(missing_ok=True)
    # The list goes last: as long as it is in ``unfinished``, a move that is cut short can go on.
    for name in (*names, CHECKSUMS):
        # A file that is not found was moved before.
        with contextlib.suppress(FileNotFoundError):
            (new / name).replace(folder / name)
    with contextlib.suppress(OSError):
        _remove_rest(new)


def faults(folder: Path) -> list[str]:
    """The faults of the directory of a run, missing or foreign files, one sentence each."""
    sentences = []
    listed = _listed(folder)
    if not listed:
        sentences.append(
            f"The run is not finished: {CHECKSUMS}, the list of its files, is missing."
        )
        missing = sum(map(_count_missing, _results(folder)))
        if missing:
            sentences.append(f"Measurements still missing: {missing}.")
    for name, digest in listed.items():
        path = folder / name
        if not path.exists():
            sentences.append(f"{name} is missing.")
        elif digest != _files.digest(path):
            sentences.append(f"{name} does not belong to this run: its checksum differs.")
    if _results(folder / UNFINISHED):
        sentences.append(f"A later run is not finished: it is in {UNFINISHED}.")
    return sentences


def _count_missing(path: Path) -> int:
    """The number of measurements that a file of results still lacks."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return len(content.get("missing", []))
    except (OSError, ValueError, AttributeError, TypeError):
        return 0


def _listed(folder: Path) -> dict[str, str]:
    """The checksums of a finished run's files by name; empty without a list."""
    try:
        lines = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    checksums = {}
    for line in lines:
        digest, separator, name = line.partition("  ")
        # A damaged or forged list must not reach files outside of the directory.
        if separator and Path(name).name == name:
            checksums[name] = digest
    return checksums


def _results(unfinished: Path) -> list[Path]:
    """The files in ``unfinished`` that hold measurements; without any, no run is in progress."""
    return [path for path in unfinished.glob("*.json") if path.name != CONFIG]


def _is_rest(path: Path) -> bool:
    """Whether a file may be removed: the list, a page, or one that was only half written."""
    return path.name in (CHECKSUMS, PAGE) or path.name.endswith(PART)


def _remove_rest(unfinished: Path) -> None:
    """Removes the directory and the remains of a killed process; OSError if more is in it."""
    for path in unfinished.iterdir():
        if _is_rest(path) or path.name == CONFIG:
            path.unlink()
    unfinished.rmdir()


def _try_to_write(folder: Path) -> None:
    """OSError if nothing can be written, or the disk is full."""
    # 64 KiB and fsync: an empty or buffered file would not show that the disk is full.
    with tempfile.NamedTemporaryFile(dir=folder, suffix=PART) as file:
        file.write(bytes(2**16))
        file.flush()
        os.fsync(file.fileno())
