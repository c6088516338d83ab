"""The directory of a training run: configuration, metrics and checkpoints."""

import contextlib
import hashlib
import importlib.metadata
import json
import platform
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnnlab import _files
from rnnlab._json import as_json
from rnnlab._version import __version__
from rnnlab._wording import counted
from rnnlab.training.checkpoints import Checkpoints, Restored
from rnnlab.training.faults import RunFolderError
from rnnlab.training.metrics import JsonLines
from rnnlab.typing import PyTree

RUN, METRICS, CHECKPOINTS = "run.json", "metrics.jsonl", "checkpoints"

DIGEST = "sha256"
"""The entry of ``run.json`` with the SHA-256 of the others: otherwise a changed digit would be
another setting."""


COMMAND = {"settings", "texts", "alphabet"}
"""The entries of ``config`` by which a run of ``rnnlab train`` is known."""


def is_of_command(config: Any) -> bool:
    """Whether a run with this ``config`` is one of ``rnnlab train``, of any version."""
    if not isinstance(config, Mapping) or not config.keys() >= COMMAND:
        return False
    return isinstance(config["settings"], Mapping)


def way_to_resume(folder: Path, config: Any) -> str:
    """How a run goes on: the command, or the arguments of ``fit``."""
    if is_of_command(config):
        return f"resume the run with: rnnlab resume {shlex.quote(str(folder))}"
    return f"resume the run with fit(..., out={str(folder)!r}, resume=True)"


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
        try:
            self.about = json.loads(as_json(dict(about)))
        except TypeError as fault:
            raise RunFolderError(
                f"config cannot be written as JSON ({fault}); give numbers, strings, lists and "
                "dictionaries"
            ) from None
        self.options = dict(options)
        self.resume = resume
        self.checkpoints = Checkpoints(folder / CHECKPOINTS, keep=keep)
        self.metrics: JsonLines
        # run.json of a run that is resumed.
        self._before: dict[str, Any] | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "RunFolder":
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(_files.locked(self.folder))
                self._claim()
                self.metrics = JsonLines(self.folder / METRICS)
                stack.callback(self.metrics.close)
                _files.sync(self.folder)
            except BlockingIOError:
                raise RunFolderError(
                    f"another process is training in {self.folder}; wait for it, or choose "
                    "another directory"
                ) from None
            except OSError as fault:
                raise RunFolderError(
                    f"{self.folder} cannot be written ({fault.strerror}); choose another directory"
                ) from None
            self.checkpoints.clean()
            stack.enter_context(self.checkpoints)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *fault: Any) -> None:
        self._stack.__exit__(*fault)

    def _claim(self) -> None:
        """Writes ``run.json``, or compares it; ValueError for a directory of another run."""
        path = self.folder / RUN
        # A process that was killed while it wrote run.json leaves such a file.
        for part in self.folder.glob(f"{RUN}*{_files.PART}"):
            part.unlink()
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
                f"{self.folder} holds a run already; choose another directory, or "
                f"{self._way_to_resume()}"
            )
        self._before = read_run(self.folder)
        self._compare(self._before)

    def _way_to_resume(self) -> str:
        # A damaged run.json is an error of its own, which those who resume the run are told.
        with contextlib.suppress(RunFolderError):
            return way_to_resume(self.folder, read_run(self.folder)["config"])
        return way_to_resume(self.folder, self.about["config"])

    def _write(self, versions: Mapping[str, str]) -> None:
        content = {**self.about, "options": self.options, "versions": versions}
        content[DIGEST] = _digest(content)
        _files.write_text(self.folder / RUN, as_json(content, indent=1) + "\n")
        _files.sync(self.folder)

    def _compare(self, before: Mapping[str, Any]) -> None:
        kept = {name: before.get(name) for name in self.about}
        names = _differences(kept, self.about)
        if names:
            raise RunFolderError(
                f"{self.folder} holds a run with another {', '.join(names)}; give what it "
                "began with, or choose another directory"
            )
        now = versions()
        changed = [
            f"{package} {version}, now {now.get(package)}"
            for package, version in before["versions"].items()
            if version != now.get(package)
        ]
        if changed:
            self.checkpoints.warn(
                f"the run began with {'; '.join(changed)}: what follows may differ in the last bits"
            )

    def restore(self, template: PyTree) -> Restored | None:
        """The last whole checkpoint; the metrics go back to it.

        Raises:
            MismatchError: for a checkpoint of another structure, shape or dtype.
            RunFolderError: for a checkpoint of another run, or of more steps than the run shall
                have.
            CheckpointError: where no checkpoint is whole, or the metrics before it were changed.
        """
        restored = self.checkpoints.restore(template) if self.resume else None
        if restored is not None:
            check_owner(self.folder, restored.about, self.about)
            self._check_steps(restored.step)
        elif self.resume and (self.folder / METRICS).stat().st_size:
            self.checkpoints.warn(
                f"{self.folder} has metrics, but no checkpoint; the run begins anew"
            )
        self.metrics.return_to(None if restored is None else restored.about["metrics"])
        if self._before is not None and self._before.get("options") != self.options:
            # Only now, since options that are refused must not be those of the next attempt.
            self._write(self._before["versions"])
        return restored

    def _check_steps(self, done: int) -> None:
        steps = self.options.get("steps", done)
        if steps < done:
            raise RunFolderError(
                f"steps is {steps}, but {self.folder} holds a run of {counted(done, 'step')} "
                "already; give that number or a larger one"
            )

    def save(self, step: int, state: PyTree, about: Mapping[str, Any]) -> None:
        """Starts to save a checkpoint; the metrics so far are on the disk before it counts."""
        content = {**about, "metrics": self.metrics.position, "run": self.about}
        self.checkpoints.save(step, state, content)


def read_run(folder: Path) -> dict[str, Any]:
    """``run.json`` of a run; RunFolderError where there is none, or it was changed."""
    path = folder / RUN
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(f"{folder} holds no training run; give the --out of one") from None
    except (OSError, ValueError):
        content = None
    if isinstance(content, dict):
        digest = content.pop(DIGEST, None)
        if digest == _digest(content):
            return content
    raise RunFolderError(
        f"{path} is damaged or was edited; restore it from a copy, or start a new run"
    )


def _digest(content: Mapping[str, Any]) -> str:
    """The SHA-256 of values, however the file spells them."""
    return hashlib.sha256(as_json(dict(content)).encode()).hexdigest()


def check_owner(folder: Path, saved: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """RunFolderError if a checkpoint, by what was saved beside it, belongs to another run."""
    for name, value in saved["run"].items():
        if name not in run or run[name] != value:
            raise RunFolderError(
                f"the checkpoints in {folder} are those of a run with another {name}; restore its "
                "files from a copy, or start a new run"
            )


def _differences(old: Any, new: Any, path: tuple[str, ...] = ()) -> list[str]:
    """The names of the entries that differ, such as ``settings.learning_rate``."""
    if old == new:
        return []
    if not isinstance(old, dict) or not isinstance(new, dict):
        return [".".join(path)]
    names = []
    for key in sorted(old.keys() | new.keys()):
        # What the user gave as config is named as they named it.
        inner = () if (*path, key) == ("config",) else (*path, key)
        names += _differences(old.get(key), new.get(key), inner)
    return names or [".".join(path)]


def versions() -> dict[str, str]:
    """The versions on which the last bits of a result depend."""
    found = {"python": platform.python_version(), "rnnlab": __version__}
    for package in ("jax", "jaxlib", "numpy", "optax", "orbax-checkpoint"):
        found[package] = importlib.metadata.version(package)
    return found
