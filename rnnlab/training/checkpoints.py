"""Checkpoints on disk by orbax, each verified by digests before anything of it is used.

A checkpoint is the directory ``step_00000100``. It is written beside its final name, and moved
there once all files and the list of their digests are on the disk; so a directory with such a name
is complete, whatever killed the process.

* ``arrays/``: every array of the state, in orbax's format;
* ``checkpoint.json``: what the run says about itself, and shape, dtype and SHA-256 of each array;
* ``SHA256SUMS``: the digest of every file, as ``sha256sum --check`` reads it.
"""

import contextlib
import errno
import json
import logging
import os
import re
import shutil
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from rnnlab import _check, _files
from rnnlab._json import as_json
from rnnlab.training import trees
from rnnlab.training.faults import CheckpointError
from rnnlab.training.trees import Leaf
from rnnlab.typing import PyTree

ARRAYS, ABOUT, SUMS = "arrays", "checkpoint.json", "SHA256SUMS"

SAVING, REMOVING = ".saving_", ".removing_"
"""Prefixes of directories that are not complete; a killed process leaves them behind."""

_STEP = re.compile(r"step_(\d{8,})")


class Restored(NamedTuple):
    """A checkpoint that was read and verified.

    Attributes:
        step: the number of steps.
        state: like the template.
        about: what was saved beside it.
    """

    step: int
    state: PyTree
    about: dict[str, Any]


class DamagedError(CheckpointError):
    """A checkpoint whose files are not those that were saved."""


class Checkpoints:
    """The checkpoints of one run, of which the last ``keep`` are kept.

    A save removes the checkpoints that were passed over because they are damaged, and those of
    later steps: the run went back to before them.

    Use it as a context: leaving it waits for the save in progress.

    >>> import tempfile
    >>> state = {"w": jnp.arange(3.0)}
    >>> with tempfile.TemporaryDirectory() as folder, Checkpoints(folder) as checkpoints:
    ...     checkpoints.save(10, state, {"seed": 0})
    ...     checkpoints.wait()
    ...     restored = checkpoints.restore(state)
    >>> restored.step, restored.about, restored.state["w"].tolist()
    (10, {'seed': 0}, [0.0, 1.0, 2.0])
    """

    def __init__(
        self, folder: str | Path, *, keep: int = 3, warn: Callable[[str], None] | None = None
    ) -> None:
        self.folder = Path(folder).absolute()
        self.keep = _check.positive_int("keep", keep)
        self.warn = warnings.warn if warn is None else warn
        self._thread: threading.Thread | None = None
        self._fault: BaseException | None = None
        self._damaged: set[int] = set()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.wait()
            return
        # The error that ends the block matters more than a save that failed meanwhile.
        with contextlib.suppress(CheckpointError):
            self.wait()

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, first to last."""
        if not self.folder.is_dir():
            return []
        found = []
        for path in self.folder.iterdir():
            match = _STEP.fullmatch(path.name)
            if match and path.is_dir():
                found.append(int(match[1]))
        return sorted(found)

    def save(self, step: int, state: PyTree, about: Mapping[str, Any]) -> None:
        """Copies ``state``, and saves it while the caller goes on.

        Waits for the save before it. The checkpoint counts once it is complete on the disk.

        Args:
            step: the number of steps; a checkpoint of that step is replaced.
            state: any tree of arrays and PRNG keys.
            about: what JSON can hold.

        Raises:
            CheckpointError: where the save before this one failed.
        """
        self.wait()
        leaves = trees.to_leaves(state)
        content = {"step": step, "about": dict(about)}
        self._thread = threading.Thread(target=self._write, args=(step, leaves, content))
        self._thread.start()

    def wait(self) -> None:
        """Returns when the last save is complete; CheckpointError if it failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """CheckpointError if a save failed; does not wait."""
        fault = self._fault
        if fault is None:
            return
        # Only now: the thread may set it at any time, and a fault must not be overwritten.
        self._fault = None
        path = getattr(fault, "filename", None)
        where = f" ({path})" if path else ""
        reason = getattr(fault, "strerror", None) or _first_line(fault)
        raise CheckpointError(
            f"the checkpoint in {self.folder} could not be saved: {reason}{where}; the run "
            "stops, since what follows would be lost"
        ) from fault

    def _write(self, *arguments: Any) -> None:
        try:
            write(self.folder, *arguments)
            self._prune(arguments[0])
        except BaseException as fault:
            self._fault = fault

    def _prune(self, last: int) -> None:
        """Keeps the newest checkpoints up to the one just saved, and no damaged one."""
        self._damaged.discard(last)
        saved = self.steps()
        whole = [step for step in saved if step <= last and step not in self._damaged]
        for step in saved:
            if step not in whole[-self.keep :]:
                _remove(_path(self.folder, step))

    def restore(self, template: PyTree, step: int | None = None) -> Restored | None:
        """The last checkpoint that is whole, as a tree like ``template``; None without any.

        A damaged checkpoint is passed over, with a warning that names its file.

        Args:
            template: a tree with the structure, shapes and dtypes to restore; nothing is cast.
            step: the checkpoint to restore; by default the last one.

        Raises:
            CheckpointError: where no checkpoint is whole.
            ValueError: for a checkpoint of another structure, shape or dtype.
        """
        found = self.read(step)
        if found is None:
            return None
        step, leaves, about = found
        return Restored(step, trees.from_leaves(template, leaves), about)

    def read(self, step: int | None = None) -> tuple[int, dict[str, Leaf], dict[str, Any]] | None:
        """As :meth:`restore`, but the arrays by name, without a template."""
        self.wait()
        steps = self.steps()
        if step is not None:
            if step not in steps:
                known = ", ".join(map(str, steps)) or "none"
                raise CheckpointError(
                    f"{self.folder} has no checkpoint of step {step}; there are: {known}"
                )
            steps = [step]
        faults: dict[int, str] = {}
        while steps:
            candidate = steps.pop()
            try:
                leaves, about = read(_path(self.folder, candidate))
            except DamagedError as fault:
                faults[candidate] = str(fault)
            else:
                for damaged, sentence in faults.items():
                    # A run that goes on may have removed it while it was read.
                    if _path(self.folder, damaged).exists():
                        self.warn(f"{sentence}; step {candidate} is used instead")
                self._damaged.update(faults)
                return candidate, leaves, about
            if not steps and step is None:
                # The run may have removed these, after it saved others.
                steps = [new for new in self.steps() if new not in faults]
        if faults:
            last = faults[max(faults)]
            raise CheckpointError(
                f"no checkpoint in {self.folder} is whole: {last}; restore its files from a copy, "
                "or start a new run"
            )
        return None

    def clean(self) -> None:
        """Removes what a killed process left unfinished; call it with the run's lock held."""
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if path.name.startswith((SAVING, REMOVING)):
                shutil.rmtree(path, ignore_errors=True)


def write(folder: Path, step: int, leaves: Mapping[str, Leaf], content: dict[str, Any]) -> None:
    """Writes a complete checkpoint, or leaves nothing under its name."""
    import orbax.checkpoint as ocp

    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_is_worth_showing)
    final = _path(folder, step)
    work = folder / f"{SAVING}{final.name}"
    folder.mkdir(parents=True, exist_ok=True)
    _files.sync(folder.parent)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    _check_space(work, leaves)
    keys, arrays = {}, {}
    for index, (name, leaf) in enumerate(leaves.items()):
        keys[name] = _file_name(index, name)
        # Orbax refuses arrays without elements; shape and dtype say all about them.
        if leaf.value.size:
            arrays[keys[name]] = leaf.value
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)) as checkpointer:
        checkpointer.save(work / ARRAYS, arrays)
    about = {name: {"file": keys[name], **leaf.about} for name, leaf in leaves.items()}
    (work / ABOUT).write_text(as_json({**content, "arrays": about}, indent=1), encoding="utf-8")
    _seal(work)
    if final.exists():
        _remove(final)
    work.rename(final)
    _files.sync(folder)


def _check_space(folder: Path, leaves: Mapping[str, Leaf]) -> None:
    """OSError unless there is room for the arrays.

    On a full disk the threads of orbax print pages of tracebacks, which nothing can catch.
    """
    needed = sum(leaf.value.nbytes for leaf in leaves.values())
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _first_line(fault: BaseException) -> str:
    """What orbax tells, whose errors may have many lines; by its type where it tells nothing."""
    text = str(fault).partition("\n")[0]
    # Of the errors of the operating system, the part that is not about orbax.
    code = re.search(r"\[os_error_code='(\d+)'\]", text)
    if code:
        return os.strerror(int(code[1]))
    return text or type(fault).__name__


def _is_worth_showing(record: logging.LogRecord) -> bool:
    """False for what orbax logs in vain: nothing to merge, at every save, and what it raises too.

    The records of other users of the same loggers pass.
    """
    text = record.getMessage()
    is_raised = "_SignalingThread.run() raised an exception" in text
    # asyncio names the coroutine and its file.
    is_raised |= "Task exception was never retrieved" in text and "orbax" in text
    return not is_raised and "Skipping merge of OCDBT" not in text


def _file_name(index: int, name: str) -> str:
    """A name for the files of an array: the index makes it unique, the rest is for people."""
    safe = re.sub(r"[^A-Za-z0-9_.\[\]-]", "_", name)
    return f"{index:04}.{safe[:80]}"


def _seal(work: Path) -> None:
    """Brings all files to the disk, then the list of their digests."""
    lines = ""
    files = _list(work)
    for path in files:
        lines += f"{_files.digest(path)}  {path.relative_to(work).as_posix()}\n"
        _files.sync(path)
    for folder in {path.parent for path in files}:
        _files.sync(folder)
    sums = work / SUMS
    sums.write_text(lines, encoding="utf-8")
    _files.sync(sums)
    _files.sync(work)


def _list(folder: Path) -> list[Path]:
    """All files below ``folder`` but the list of digests, sorted."""
    sums = folder / SUMS
    return sorted(path for path in folder.rglob("*") if path.is_file() and path != sums)


def read(folder: Path) -> tuple[dict[str, Leaf], dict[str, Any]]:
    """The arrays of a checkpoint by name, and what was saved beside them.

    Raises:
        DamagedError: for a file that is missing, was added or changed, and for a directory that
            has the name of another step.
    """
    verify(folder)
    try:
        content = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if _path(folder.parent, content["step"]) != folder:
            raise DamagedError(f"{folder / ABOUT} is that of step {content['step']}")
        arrays = _restore_arrays(folder / ARRAYS)
        leaves = {}
        for name, about in content["arrays"].items():
            leaves[name] = _leaf(about, arrays.get(about["file"]))
            if leaves[name].about != {key: about[key] for key in leaves[name].about}:
                raise DamagedError(
                    f"{folder / ARRAYS / about['file']} is not the array that was saved"
                )
        return leaves, content["about"]
    except DamagedError:
        raise
    except Exception as fault:
        # The digests are right, so a reader of another version does not understand the files.
        raise DamagedError(f"{folder} cannot be read ({_first_line(fault)})") from fault


def _restore_arrays(folder: Path) -> dict[str, Any]:
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)) as checkpointer:
        metadata = checkpointer.metadata(folder).item_metadata
        arguments = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in metadata.tree}
        return checkpointer.restore(folder, ocp.args.PyTreeRestore(restore_args=arguments))


def _leaf(about: Mapping[str, Any], value: Any) -> Leaf:
    if value is None:
        value = np.zeros(about["shape"], jnp.dtype(about["dtype"]))
    return Leaf(np.asarray(value), about["key"])


def verify(folder: Path) -> None:
    """DamagedError unless the directory holds exactly the files that were saved, unchanged."""
    try:
        listed = _listed(folder / SUMS)
        present = {path.relative_to(folder).as_posix(): path for path in _list(folder)}
        # A list that is cut or changed names other files than those that are there.
        for name in [*listed, *present]:
            if name not in present:
                raise DamagedError(f"{folder / name} is missing, which {SUMS} lists")
            if name not in listed:
                raise DamagedError(f"{folder / name} is not listed in {SUMS}")
            if _files.digest(present[name]) != listed[name]:
                raise DamagedError(f"{folder / name} is damaged: its SHA-256 is not that in {SUMS}")
    except OSError as fault:
        # Such as a disk with a bad block, or a run that removes the checkpoint meanwhile.
        raise DamagedError(
            f"{fault.filename or folder} cannot be read ({fault.strerror})"
        ) from fault


def _listed(sums: Path) -> dict[str, str]:
    """The digests of all files by name; DamagedError for a list that is not one."""
    try:
        lines = sums.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise DamagedError(f"{sums} is missing") from None
    except UnicodeDecodeError:
        lines = [""]
    listed = {}
    for line in lines[:-1]:
        digest, _, name = line.partition("  ")
        listed[name] = digest
    names_are_whole = all(name and name.isprintable() for name in listed)
    if not listed or not names_are_whole or lines[-1]:
        raise DamagedError(f"{sums} is damaged")
    return listed


def _path(folder: Path, step: int) -> Path:
    return folder / f"step_{step:08}"


def _remove(path: Path) -> None:
    """Removes a checkpoint; a process killed meanwhile leaves none under its name."""
    doomed = path.with_name(f"{REMOVING}{path.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
