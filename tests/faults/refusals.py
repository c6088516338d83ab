"""Checkpoints and runs that do not fit: refused without a cast."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rnnlab._usage import checking
from rnnlab.studies import training
from rnnlab.studies.train_settings import from_mapping
from rnnlab.training import fit
from rnnlab.training.run_folder import CHECKPOINTS
from rnnlab.training.trees import fingerprint
from tests.faults import tiny
from tests.faults.table import Count

OTHERS: dict[str, dict[str, Any]] = {
    "shape": {"params": {"w": jnp.ones((3, 3, 1), jnp.float32)}},
    "dtype": {"params": {"w": 0.1 * jnp.ones((3, 3), jnp.float16)}},
    "['v']": {"params": {"v": jnp.ones((3, 3), jnp.float32)}},
    "optimiser": {"optimiser": optax.sgd(0.1)},
    "seed": {"seed": 8},
    "accumulate": {"accumulate": 2},
    "clip": {"clip": 1.0},
    "average": {"average": 0.5},
    "compute_dtype": {"compute_dtype": jnp.bfloat16},
    "model": {"model": "another"},
    "settings.learning_rate": {
        "config": {**tiny.CONFIG, "settings": {**tiny.CONFIG["settings"], "learning_rate": 0.1}}
    },
    "texts": {"config": {**tiny.CONFIG, "texts": ["a", "b"]}},
}
"""What differs, as the error must name it, and the options that make it differ."""


def refusals(place: Path, short: bool) -> Count:
    """Each difference is named; the run is as it was."""
    del short
    count = Count("another shape, dtype, key, model or setting")
    folder = place / "run"
    before = tiny.outcome(folder, tiny.train(folder, steps=4))
    for word, changes in OTHERS.items():
        _judge(count, lambda changes=changes: _train(folder, **changes), word)
    with jax.default_prng_impl("rbg"):
        _judge(count, lambda: _train(folder), "kind of key threefry2x32")
    _judge(count, lambda: _train(folder, resume=False), "resume the run with fit(")
    run = _train(folder)
    assert tiny.outcome(folder, run) == before
    return count


def _train(folder: Path, *, model: Any = None, resume: bool = True, **changes: Any) -> Any:
    if model is None:
        return tiny.train(folder, steps=4, resume=resume, **changes)
    with_model = {"seed": tiny.SEED, "average": 0.9, "config": tiny.CONFIG, "carry": jnp.ones(1)}
    return fit(model, tiny.Data(), optax.adam(1e-2), steps=4, out=folder, resume=True,
               loss=tiny.loss, params={"w": jnp.ones((3, 3))}, progress=False,
               **with_model)  # fmt: skip


def _judge(count: Count, attempt: Callable[[], Any], *words: str) -> None:
    try:
        attempt()
    except Exception as fault:
        count.add_error(fault, *words)
    else:
        count.add("wrong_restores", f"accepted, though {words} differs")


SETTINGS = {"hidden_size": 4, "embedding_size": 3, "length": 5, "batch_size": 2, "steps": 2}


def commands(place: Path, short: bool) -> Count:
    """Runs of ``rnnlab train``: another text, other checkpoints, another cell."""
    count = Count("another text, cell or run's checkpoint")
    text = place / "text"
    words = "abcdefgh ijkl\n" * 40
    text.write_text(words)
    folders = {}
    others = (("rnn", 1),) if short else (("rnn", 1), ("lstm", 0), ("gru", 0))
    for cell, seed in (("rnn", 0), *others):
        settings = from_mapping({**SETTINGS, "data": str(text), "cell": cell, "seed": seed})
        folders[cell, seed] = place / f"{cell} {seed}"
        training.train(training.prepare(settings), folders[cell, seed], progress=False)
    first = folders["rnn", 0]
    print_before = fingerprint(training.read(first).params)
    for other in others:
        mixed = place / f"mixed {other}"
        shutil.copytree(first, mixed)
        shutil.rmtree(mixed / CHECKPOINTS)
        shutil.copytree(folders[other] / CHECKPOINTS, mixed / CHECKPOINTS)
        _judge(count, lambda mixed=mixed: _read(mixed), "run with")
        _judge(count, lambda mixed=mixed: _resumed(mixed))
    text.write_text(words.replace("k", "h"))
    _judge(count, lambda: _read(first), str(text))
    _judge(count, lambda: _resumed(first), str(text))
    text.write_text(words)
    assert fingerprint(training.read(first).params) == print_before
    return count


def _resumed(folder: Path) -> Any:
    """As ``rnnlab resume`` does it."""
    with checking():
        settings = training.settings_of(folder, {"steps": 3})
        setup = training.prepare_again(folder, settings)
    return training.train(setup, folder, resume=True, progress=False)


def _read(folder: Path) -> Any:
    """As ``rnnlab evaluate`` does it."""
    with checking():
        return training.read(folder)
