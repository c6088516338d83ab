"""The directory of a training run: configuration, metrics and checkpoints."""

import contextlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnnlab import _files
from rnnlab._json import as_json
from rnnlab._version import __version__
from rnnlab.training.checkpoints import Checkpoints, Restored
from rnnlab.training.faults import RunFolderError
from rnnlab.training.metrics import JsonLines
from rnnlab.typing import PyTree

RUN, METRICS, CHECKPOINTS = "run.json", "metrics.jsonl", "checkpoints"


class RunFolder:
    """The files of a run, held by one process at a time.

    * ``run.json``: what the run is, and the versions it began with;
    * ``metrics.jsonl``: one line for each record;
    * ``checkpoints/``: the last checkpoints, see :mod:`rnnlab.training.checkpoints`.

    Args:
        folder: the directory, which may be missing.
        about: what the run is, as JSON; a run of something else is refused.
        options: with what it goes on, as JSON; those of a run that is resumed are replaced.
        resume: goes on with the run in the directory.
        keep: the number of checkpoints that are kept.

    Raises:
        RunFolderError: for a directory that cannot be written, is in use, or holds something else.
    """

    def __init__(
        self,
        folder: Path,
        about: Mapping[str, Any],
        options: Mapping[str, Any],
        *,
        resume: bool,
        keep: int,
    ) -> None:
        self.folder = folder
        # Through JSON, which turns tuples into lists, as in the file.
        self.about = json.loads(as_json(dict(about)))
        self.options = dict(options)
        self.resume = resume
        self.checkpoints = Checkpoints(folder / CHECKPOINTS, keep=keep)
        self.metrics: JsonLines
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "RunFolder":
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(_files.locked(self.folder))
                self._claim()
                self.metrics = JsonLines(self.folder / METRICS)
            except BlockingIOError:
                raise RunFolderError(
                    f"another process is training in {self.folder}; wait for it, or choose "
                    "another directory"
                ) from None
            except OSError as fault:
                raise RunFolderError(
                    f"{self.folder} cannot be written ({fault.strerror}); choose another directory"
                ) from None
            stack.callback(self.metrics.close)
            self.checkpoints.clean()
            stack.enter_context(self.checkpoints)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *fault: Any) -> None:
        self._stack.__exit__(*fault)

    def _claim(self) -> None:
        """Writes ``run.json``, or compares it; ValueError for a directory of another run."""
        path = self.folder / RUN
        if not path.exists():
            if any(self.folder.iterdir()):
                raise RunFolderError(
                    f"{self.folder} holds files that do not belong to a run; choose another "
                    "directory"
                )
            self._write(versions())
            return
        if not self.resume:
            raise RunFolderError(
                f"{self.folder} holds a run already; resume it, or choose another directory"
            )
        before = read_run(self.folder)
        self._compare(before)
        if before.get("options") != self.options:
            self._write(before["versions"])

    def _write(self, versions: Mapping[str, str]) -> None:
        content = {**self.about, "options": self.options, "versions": versions}
        _files.write_text(self.folder / RUN, as_json(content, indent=1) + "\n")
        _files.sync(self.folder)

    def _compare(self, before: Mapping[str, Any]) -> None:
        for name, value in self.about.items():
            old = before.get(name)
            if old == value:
                continue
            if isinstance(old, dict) and isinstance(value, dict):
                keys = sorted(old.keys() | value.keys())
                name = ", ".join(key for key in keys if old.get(key) != value.get(key))
            raise RunFolderError(
                f"{self.folder} holds a run with another {name}; choose another directory"
            )
        changed = [
            f"{package} {version}, now {versions().get(package)}"
            for package, version in before["versions"].items()
            if version != versions().get(package)
        ]
        if changed:
            self.checkpoints.warn(
                f"the run began with {'; '.join(changed)}: what follows may differ in the last bits"
            )

    def restore(self, template: PyTree) -> Restored | None:
        """The last whole checkpoint; the metrics go back to it."""
        restored = self.checkpoints.restore(template) if self.resume else None
        self.metrics.return_to(None if restored is None else restored.about["metrics"])
        return restored

    def save(self, step: int, state: PyTree, about: Mapping[str, Any]) -> None:
        """Starts to save a checkpoint; the metrics so far are on the disk before it counts."""
        content = {**about, "metrics": self.metrics.position, "run": self.about}
        self.checkpoints.save(step, state, content)


def read_run(folder: Path) -> dict[str, Any]:
    """``run.json`` of a run; ValueError where there is none that can be read."""
    path = folder / RUN
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and isinstance(content.get("versions"), dict):
            return content
    except FileNotFoundError:
        raise ValueError(f"{folder} holds no training run; give the --out of one") from None
    except (OSError, ValueError):
        pass
    raise ValueError(f"{path} is damaged; restore it from a copy, or start a new run")


def versions() -> dict[str, str]:
    """The versions on which the last bits of a result depend."""
    found = {"python": platform.python_version(), "rnnlab": __version__}
    for package in ("jax", "jaxlib", "numpy", "optax", "orbax-checkpoint"):
        found[package] = importlib.metadata.version(package)
    return found
