"""A run of few and small steps that uses all that a checkpoint holds."""

import contextlib
import functools
import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnnlab.startup import kept_programs
from rnnlab.training import TrainingRun, Validation, Watch, fit, program
from rnnlab.training.checkpoints import Checkpoints, Restored
from rnnlab.training.loop import Content
from rnnlab.training.run_folder import CHECKPOINTS
from rnnlab.training.trees import fingerprint

STEPS, EVERY, WATCH_EVERY, KEEP, SEED = 20, 2, 5, 2, 7

CONFIG = {"settings": {"cell": "tiny", "learning_rate": 0.01, "clip": None}, "texts": ["a", "ä"]}


def nothing(index: int) -> None:
    """Does not look."""
    del index


class Data:
    """Batches that follow from their index; ``look`` is told of each that is asked for."""

    def __init__(self, look: Callable[[int], Any] = nothing, offset: int = 0) -> None:
        self.look = look
        self.offset = offset

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        self.look(index)
        random = np.random.default_rng(index + self.offset)
        return tuple(random.standard_normal((2, 4, 3)).astype(np.float32))


HELD_OUT = Data(offset=1000)


def loss(params: Any, batch: Any, key: Any, carry: Any) -> Any:
    """Regression with dropout, and a state that is carried on."""
    xs, targets = batch
    if key is not None:
        xs = xs * jax.random.bernoulli(key, 0.8, xs.shape)
    h = jnp.tanh(xs @ params["w"] + 0.5 * carry)
    return jnp.mean((h - targets) ** 2), ({"largest": jnp.max(jnp.abs(h))}, h)


def measure(params: Any, batch: Any) -> dict[str, float]:
    """A watch."""
    return {"norm": float(np.linalg.norm(params["w"])), "mean": float(np.mean(batch[0]))}


def train(folder: Path | None, *, data: Any = None, **changes: Any) -> TrainingRun:
    """The run, with other options of ``fit`` where they are given."""
    carry = jnp.zeros((4, 3), jnp.float32)
    options = {
        "optimiser": optax.adam(1e-2),
        "steps": STEPS,
        "seed": SEED,
        "loss": loss,
        "params": {"w": 0.1 * jnp.ones((3, 3), jnp.float32)},
        "carry": carry,
        "average": 0.9,
        "validation": Validation(HELD_OUT, every=EVERY, batches=2, carry=carry),
        "watch": [Watch(WATCH_EVERY, measure)],
        "config": CONFIG,
        "checkpoint_every": EVERY,
        "keep": KEEP,
        "most_skipped": 3,
        "progress": False,
    }
    with contextlib.ExitStack() as stack:
        if not changes.keys() & OF_THE_PROGRAM:
            stack.enter_context(mock.patch.object(program, "compiled", _compiled_once))
        return fit(None, Data() if data is None else data, out=folder, **(options | changes))


OF_THE_PROGRAM = {"optimiser", "loss", "params", "carry", "average", "accumulate", "compute_dtype"}
"""The options that make another program of a run."""

_programs: list[Any] = []

_compiled = program.compiled


def _compiled_once(step: Any) -> Any:
    """The program of a run, which is traced once in a process: all runs have the same one."""
    if not _programs:
        _programs.append(_compiled(step))
    return _programs[0]


def outcome(folder: Path, run: TrainingRun) -> dict[str, Any]:
    """Everything that must not depend on how often the run was interrupted."""
    saved, _ = restored(folder, content(run))
    return {
        "state": fingerprint(run.state),
        "best": fingerprint(run.best_params),
        "best_step": run.best_step,
        "records": len(run.metrics.records),
        "metrics": hashlib.sha256((folder / "metrics.jsonl").read_bytes()).hexdigest(),
        "saved": None if saved is None else fingerprint(saved.state),
    }


@functools.cache
def expected(steps: int = STEPS) -> dict[str, Any]:
    """The outcome of the run that nothing disturbs."""
    with workplace() as place:
        folder = place / "whole"
        return outcome(folder, train(folder, steps=steps))


def content(run: TrainingRun) -> Content:
    """What a checkpoint of the run holds."""
    return Content(run.state, run.best_params)


def restored(folder: Path, template: Content) -> tuple[Restored | None, list[str]]:
    """The last whole checkpoint of a run, and the warnings."""
    said: list[str] = []
    with Checkpoints(folder / CHECKPOINTS, keep=KEEP, warn=said.append) as saved:
        return saved.restore(template), said


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """A new directory, in memory where there is such a place: a run waits for its disk."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="rnnlab-faults-", dir=place) as name:
        yield Path(name)


@contextlib.contextmanager
def programs(folder: Path) -> Iterator[None]:
    """Compiled programs are kept in ``folder``: all runs compile the same ones."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    try:
        with kept_programs():
            yield
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    """The texts of the warnings of the block, once it has ended."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
    said += [str(warning.message) for warning in caught]
