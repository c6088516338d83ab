"""SIGTERM and SIGINT: the step is saved, the exit code tells, and the run can be resumed."""

import random
import signal
from pathlib import Path

from tests.faults.children import Child, resume_all
from tests.faults.kills import Truth, judge, saved_steps, train
from tests.faults.table import Count


def signals(place: Path, truth: Truth, short: bool) -> list[Count]:
    """One signal, at a random moment of a run."""
    expected, span = truth
    dice = random.Random(1)
    counts = []
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        count = Count(f"{number.name} at a random moment")
        starts: dict[str, int] = {}
        wanted = 1 if short else 20
        for attempt in range(3 * wanted):
            if len(starts) == wanted:
                break
            folder = place / f"{number.name} {attempt}"
            child = Child(lambda tell, folder=folder: train(folder, tell))
            child.until("second" if attempt % 4 else "batch")
            child.kill_after(span * dice.random(), number)
            step = child.until("interrupted").get("interrupted")
            ended = child.end()
            if ended == 0:
                # The run had done its last step before the signal came.
                continue
            if ended != code or step is None:
                count.add("unclear_errors", f"exit code {ended} after {number.name}")
                continue
            if max(saved_steps(folder), default=None) != step:
                count.add("silent_losses", f"step {step} is not among {saved_steps(folder)}")
                continue
            starts[str(folder)] = step
        judge(count, list(resume_all([Path(name) for name in starts])), expected, starts)
        counts.append(count)
    return counts


def twice(place: Path, truth: Truth) -> Count:
    """A second signal, which ends the process at once, whatever it saves."""
    count = Count("SIGTERM, and again while the run is saved")
    expected, span = truth
    dice = random.Random(7)
    starts = {}
    for index in range(10):
        folder = place / str(index)
        child = Child(lambda tell, folder=folder: train(folder, tell))
        child.until("second")
        child.kill_after(0.8 * span * dice.random(), signal.SIGTERM)
        child.kill_after(0.05 * dice.random(), signal.SIGTERM)
        code = child.end()
        if code not in (0, 143):
            count.add("unclear_errors", f"exit code {code}")
            continue
        starts[str(folder)] = max(saved_steps(folder), default=0)
    judge(count, list(resume_all([Path(name) for name in starts])), expected, starts)
    return count
