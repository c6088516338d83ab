"""Runs that are interrupted after each step, and steps whose numbers are not finite."""

import signal
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from rnnlab.training import Interrupted, NonFiniteError, loop, trees
from rnnlab.training.checkpoints import Checkpoints
from rnnlab.training.run_folder import CHECKPOINTS
from tests.faults import tiny
from tests.faults.table import Count


def every_step(place: Path, short: bool) -> Count:
    """A run of 20 steps, interrupted after each of them, against the one that was not."""
    count = Count("interrupted after each of 20 steps")
    expected = tiny.expected()
    for step in (0, 7) if short else range(tiny.STEPS + 1):
        folder = place / str(step)
        _interrupted(folder, step)
        run = tiny.train(folder, resume=True, checkpoint_every=None)
        is_right = tiny.outcome(folder, run) == expected
        count.add("recovered" if is_right else "wrong_restores", f"after step {step}")
    return count


def _interrupted(folder: Path, step: int) -> None:
    """A run that a signal ends after so many steps."""

    index_of_last = max(step - 1, 0)
    # A watch asks for a batch before the step that trains on it does.
    is_watched = step > 0 and index_of_last % tiny.WATCH_EVERY == 0
    requests = []

    def look(index: int) -> None:
        requests.append(index)
        if requests.count(index_of_last) == 1 + is_watched and index == index_of_last:
            signal.raise_signal(signal.SIGTERM)

    # One step in each call: the run that is not interrupted takes many.
    with mock.patch.object(loop, "CALL", 0.0), pytest.raises(Interrupted) as caught:
        tiny.train(folder, data=tiny.Data(look), checkpoint_every=None)
    assert caught.value.step == step


class Poisoned(tiny.Data):
    """Batches of which those from ``first`` up to ``last`` hold NaN."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__()
        self.first, self.last = first, last

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        xs, targets = super().__getitem__(index)
        if self.first <= index <= self.last:
            targets = np.full_like(targets, np.nan)
        return xs, targets


def not_finite(place: Path, short: bool) -> Count:
    """NaN in some batches: two in a row are passed over, three end the run."""
    count = Count("NaN in a batch")
    for first in (4,) if short else range(tiny.STEPS - 3):
        _passed_over(count, place / f"two {first}", first)
        _given_up(count, place / f"three {first}", first)
    return count


def _passed_over(count: Count, folder: Path, first: int) -> None:
    run = tiny.train(folder, data=Poisoned(first, first + 1))
    skipped = [record["step"] for record in run.metrics.records if "skipped" in record]
    is_right = skipped == [first + 1, first + 2] and not trees.not_finite(run.state)
    # Adam counts its updates.
    is_right &= int(run.state.optimiser[0].count) == tiny.STEPS - 2
    _judge(count, folder, "recovered" if is_right else "wrong_restores", str(skipped))


def _given_up(count: Count, folder: Path, first: int) -> None:
    try:
        tiny.train(folder, data=Poisoned(first, tiny.STEPS))
    except NonFiniteError as fault:
        is_right = fault.step == first + 3 and f"step {first + 3}: the loss" in str(fault)
        _judge(count, folder, "refused" if is_right else "unclear_errors", str(fault))
        return
    count.add("silent_losses", f"NaN from batch {first} on")


def _judge(count: Count, folder: Path, outcome: str, example: str) -> None:
    """Counts the outcome, unless a checkpoint holds a number that is not finite."""
    for step in Checkpoints(folder / CHECKPOINTS).steps():
        found = Checkpoints(folder / CHECKPOINTS).read(step)
        assert found is not None
        for name, leaf in found[1].items():
            if leaf.value.dtype.kind == "f" and not np.isfinite(leaf.value).all():
                outcome, example = "wrong_restores", f"{name} of step {step}"
    count.add(outcome, example)
