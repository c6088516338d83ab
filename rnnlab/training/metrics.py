"""Metrics of a run: lines of JSON, which are the source of truth, and other writers."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np

from rnnlab import _check
from rnnlab._json import as_json, number, without_nan
from rnnlab._wording import counted
from rnnlab.training.faults import CheckpointError
from rnnlab.training.step import OWN


class MetricsWriter(Protocol):
    """Where metrics go, beside the lines of JSON."""

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Takes the metrics of a step; None stands for a number that is not finite."""
        ...

    def close(self) -> None: ...


class History:
    """The metrics of a run in memory: one list of records, in the order of the steps.

    It is read like a dictionary: iteration, ``len`` and ``in`` are those of the names.

    >>> history = History([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5}])
    >>> history["loss"].tolist(), history.steps("loss").tolist()
    ([2.0, 1.5], [1, 2])
    >>> history, list(history)
    (History(2 records, steps 1 to 2: loss), ['loss'])
    """

    def __init__(self, records: list[dict[str, Any]]) -> None:
        self.records = records

    def __repr__(self) -> str:
        count = counted(len(self.records), "record")
        if not self.records:
            return f"History({count})"
        first, last = self.records[0]["step"], self.records[-1]["step"]
        return f"History({count}, steps {first} to {last}: {', '.join(self)})"

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.names()))

    def __len__(self) -> int:
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __getitem__(self, name: str) -> np.ndarray:
        """The values of a metric, NaN where it was not finite; KeyError if there are none."""
        values = [record[name] for record in self.records if name in record]
        if not values:
            known = ", ".join(sorted(self.names()))
            raise KeyError(f"no metric {name!r} was recorded; there are: {known or 'none'}")
        return np.array([np.nan if value is None else value for value in values])

    def steps(self, name: str) -> np.ndarray:
        """The steps at which the metric was recorded."""
        return np.array([record["step"] for record in self.records if name in record], int)

    def names(self) -> set[str]:
        """The names of all metrics."""
        return {name for record in self.records for name in record} - {"step"}


class JsonLines:
    """A file with one JSON object for each record, which a checkpoint can return to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[dict[str, Any]] = []
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._file = path.open("ab")

    @property
    def position(self) -> dict[str, Any]:
        """Length and digest of the file, once all lines so far are on the disk."""
        with self._using():
            self._file.flush()
            os.fsync(self._file.fileno())
        return {"bytes": self._bytes, "sha256": self._digest.hexdigest()}

    def return_to(self, position: Mapping[str, Any] | None) -> None:
        """Cuts off all lines after ``position``, by default all lines.

        Raises:
            CheckpointError: where the lines before it are not those that were written.
        """
        length = 0 if position is None else position["bytes"]
        with self._using():
            self._file.flush()
            content = self.path.read_bytes()[:length]
        digest = hashlib.sha256(content)
        if position is not None and digest.hexdigest() != position["sha256"]:
            raise CheckpointError(
                f"{self.path} is not the file that the checkpoint belongs to: its first {length} "
                "bytes were changed or are missing; restore it from a copy, or start a new run"
            )
        with self._using():
            self._file.truncate(length)
        self.records = list(_parsed(content))
        self._digest, self._bytes = digest, length

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends a record."""
        record = {"step": step, **values}
        line = f"{as_json(record)}\n".encode()
        with self._using():
            self._file.write(line)
        self._digest.update(line)
        self._bytes += len(line)
        self.records.append(record)

    def flush(self) -> None:
        """Hands the lines to the operating system, for those who read along."""
        with self._using():
            self._file.flush()

    def close(self) -> None:
        """Closes the file; what a checkpoint counts on is on the disk already."""
        with contextlib.suppress(OSError):
            self._file.close()

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        """CheckpointError where the file cannot be used, such as on a full disk."""
        try:
            yield
        except OSError as fault:
            raise CheckpointError(
                f"{self.path} cannot be read or written: {fault.strerror}; the run stops, since "
                "its metrics would be lost"
            ) from fault


def read_metrics(path: str | Path) -> History:
    """The metrics in ``metrics.jsonl``; a last line that is cut short is left out.

    ValueError, naming file and line, for a line that is not a record.
    """
    path = Path(path)
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    records = []
    for index, line in enumerate(whole.split(b"\n")[:-1], 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            raise ValueError(f"{path}, line {index} is not JSON; restore the file") from None
        if not isinstance(record, dict) or "step" not in record:
            raise ValueError(f"{path}, line {index} is not a record with a step; restore the file")
        records.append(record)
    return History(records)


def _parsed(content: bytes) -> Iterator[dict[str, Any]]:
    return map(json.loads, content.splitlines())


def numbers(metrics: Mapping[str, Any]) -> dict[str, int | float | None]:
    """Scalars as numbers for JSON: whole ones exactly, others as float32 distinguishes them."""
    return {name: _number(value) for name, value in metrics.items()}


def _number(value: Any) -> int | float | None:
    if np.issubdtype(np.asarray(value).dtype, np.integer):
        return int(value)
    return number(value)


def measurements(measured: Any) -> dict[str, Any]:
    """What a :class:`rnnlab.training.Watch` measured, as values for JSON.

    Raises:
        ValueError: for anything but a dictionary, values that JSON cannot hold, and names that the
            loop gives itself.
    """
    if not isinstance(measured, Mapping):
        raise ValueError(
            f"watch.measure returned {_check.brief(measured)}; return a dictionary of numbers"
        )
    values = {}
    for name, value in measured.items():
        if not isinstance(name, str) or name in OWN:
            raise ValueError(
                f"watch.measure returned a metric {name!r}; give it a name of its own, as text"
            )
        values[name] = _measurement(name, value)
    return values


def _measurement(name: str, value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return without_nan(value)
    if isinstance(value, list | tuple):
        return [_measurement(name, part) for part in value]
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        # The floats of JAX with 16 bits are not floats of NumPy.
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(
                f"watch.measure returned {_check.brief(value)} as {name!r}; give a number or an "
                "array of numbers"
            )
        array = array.astype(np.float32)
    if array.ndim:
        return [_measurement(name, part) for part in array]
    return array.item() if array.dtype.kind in "biu" else number(array.item())


class TensorBoard:
    """Metrics as TensorBoard events, by the package tensorboardX."""

    def __init__(self, folder: str | Path) -> None:
        try:
            from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise ValueError(
                "TensorBoard needs the package tensorboardX; pip install 'rnnlab[tensorboard]'"
            ) from None
        # Begun with the first metrics: a run refuses a directory that holds anything before it.
        # A run that goes on replaces the events after the checkpoint.
        # The package names its files by the second; two of one second would be one file.
        suffix = f".{time.time_ns()}"
        self._begin = lambda step: SummaryWriter(
            str(folder), purge_step=step, filename_suffix=suffix
        )
        self._writer: Any = None

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        self._writer = self._writer or self._begin(step)
        for name, value in values.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class WeightsAndBiases:
    """Metrics for Weights & Biases, offline unless another mode is given."""

    def __init__(self, folder: str | Path, project: str = "rnnlab", mode: str = "offline") -> None:
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise ValueError(
                "Weights & Biases needs the package wandb; pip install 'rnnlab[wandb]'"
            ) from None
        # Begun with the first metrics: a run refuses a directory that holds anything before it.
        self._begin = lambda: wandb.init(project=project, mode=mode, dir=str(folder))
        self._run: Any = None

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        self._run = self._run or self._begin()
        shown = {name: value for name, value in values.items() if value is not None}
        self._run.log(shown, step=step)

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()


__all__ = [
    "History",
    "JsonLines",
    "MetricsWriter",
    "TensorBoard",
    "WeightsAndBiases",
    "measurements",
    "numbers",
    "read_metrics",
]
