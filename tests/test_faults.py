"""A few faults of each kind: nothing is lost silently, restored wrongly or told unclearly.

``python -m tests.faults`` injects thousands.
"""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnnlab.training import CheckpointError, Checkpoints, fit, trees
from rnnlab.training.metrics import JsonLines, TensorBoard
from tests.faults import tiny
from tests.faults.__main__ import kinds, tried
from tests.faults.table import Count, is_sentence, show

PROCESSES = "killed commands"
"""Processes that take seconds to start: those are left to the long form."""


@pytest.mark.parametrize("kind", [name for name in kinds() if name != PROCESSES])
def test_no_fault_is_lost_restored_wrongly_or_unclear(kind):
    counts = tried(kind, short=True)
    assert not any(count.faults for count in counts), show(counts)
    untried = [count.remark for count in counts if count.remark.startswith("not tried")]
    if untried:
        pytest.skip(untried[0])
    assert all(count.injected for count in counts), show(counts)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["kills", PROCESSES])
def test_a_killed_run_goes_on_as_if_it_had_not_been(kind):
    """In a process of its own: one that has computed with JAX cannot fork."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--short", "--only", kind],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
        env=environment,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "total" in ran.stdout


def test_the_table_counts_what_should_not_be():
    count = Count("a kind of fault")
    count.add("recovered")
    count.add("wrong_restores", "step 3")
    count.add_error(ValueError("not told; as a user is told"))
    count.add_told(True, "one is wrong; give two", "wrong")
    assert (count.injected, count.refused, count.faults) == (4, 1, 2)
    lines = show([count, count]).splitlines()
    assert lines[3].split() == ["total", "8", "2", "2", "0", "0", "2", "2"]
    assert "wrong_restores: step 3" in lines[4]


@pytest.mark.parametrize("text", ["a\nb; c", "It is wrong. Give two; or three", "wrong.", "", "x"])
def test_what_is_not_one_sentence(text):
    assert not is_sentence(text)


def test_a_checkpoint_outlives_a_damaged_later_one(tmp_path):
    """The run went back to before step 5; with one kept, it is the new one."""
    state = {"w": np.arange(3.0)}
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(5, state, {})
        checkpoints.wait()
        (tmp_path / "step_00000005" / "SHA256SUMS").unlink()
        checkpoints.save(4, state, {})
        checkpoints.wait()
        assert checkpoints.steps() == [4]


def test_a_damaged_checkpoint_takes_no_place(tmp_path):
    """Of two that are kept, both are whole."""
    state = {"w": np.arange(3.0)}
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (4, 5):
            checkpoints.save(step, state, {})
        checkpoints.wait()
        (tmp_path / "step_00000005" / "SHA256SUMS").unlink()
        with pytest.warns(UserWarning, match="step 4 is used instead"):
            assert checkpoints.restore(state).step == 4
        checkpoints.save(6, state, {})
        checkpoints.wait()
        assert checkpoints.steps() == [4, 6]


def test_metrics_that_cannot_be_written_end_the_run():
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no device that is always full")
    lines = JsonLines(full)
    lines.write(1, {"loss": 1.0})
    with pytest.raises(CheckpointError) as caught:
        lines.flush()
    assert "No space left" in str(caught.value)
    assert is_sentence(str(caught.value))
    with pytest.raises(CheckpointError, match="No space left"):
        assert lines.position
    lines.close()


def test_an_optimiser_may_begin_with_numbers_of_python(tmp_path):
    def init(params):
        del params
        return {"count": 0, "rate": 0.1}

    def update(gradient, state, params=None):
        del params
        scaled = jax.tree.map(lambda leaf: -state["rate"] * leaf, gradient)
        return scaled, {"count": state["count"] + 1, "rate": 0.9 * state["rate"]}

    optimiser = optax.GradientTransformation(init, update)
    tiny.train(tmp_path, optimiser=optimiser, steps=2)
    run = tiny.train(tmp_path, optimiser=optimiser, steps=4, resume=True)
    whole = tiny.train(None, optimiser=optimiser, steps=4)
    assert trees.fingerprint(run.state) == trees.fingerprint(whole.state)
    assert int(run.state.optimiser["count"]) == 4


def test_an_optimiser_that_overflows_is_not_saved(tmp_path):
    """The squares of Adam exceed float16, while loss, gradient and parameters are finite."""

    def steep(params, batch, key):
        del batch, key
        return jnp.sum(1000 * params.astype(jnp.float32)), {}

    params = jnp.ones(3, jnp.float16)
    with pytest.raises(CheckpointError, match=r"nu is not finite after step 1") as caught:
        fit(None, tiny.Data(), optax.adam(1e-3), steps=1, loss=steep, params=params,
            out=tmp_path, progress=False)  # fmt: skip
    assert is_sentence(str(caught.value).replace(", so", "; so"))
    assert Checkpoints(tmp_path / "checkpoints").steps() == []


def test_an_optimiser_may_begin_with_infinity(tmp_path):
    """Such as the lowest loss so far of a rate that is lowered on a plateau."""
    optimiser = optax.chain(
        optax.sgd(0.1), optax.contrib.reduce_on_plateau(patience=2, accumulation_size=5)
    )
    run = tiny.train(tmp_path, optimiser=optimiser, steps=2)
    assert trees.not_finite(run.state)
    again = tiny.train(tmp_path, optimiser=optimiser, steps=2, resume=True)
    assert trees.fingerprint(again.state) == trees.fingerprint(run.state)


def test_tensorboard_does_not_write_before_the_run_has_its_directory(tmp_path):
    """A run refuses a directory that is not empty."""
    pytest.importorskip("tensorboardX")
    writer = TensorBoard(tmp_path / "run" / "tensorboard")
    writer.close()
    assert not (tmp_path / "run").exists()
    tiny.train(tmp_path / "run", steps=2, writers=[writer])
    writer.close()
    assert list((tmp_path / "run" / "tensorboard").iterdir())
