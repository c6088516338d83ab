"""SIGKILL, at random moments of a run and before each operation on its files; other signals."""

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rnnlab.training.checkpoints import REMOVING, SAVING, Checkpoints
from rnnlab.training.run_folder import CHECKPOINTS
from tests.faults import tiny
from tests.faults.children import Child, Tell, resume_all, teller, uninterrupted
from tests.faults.table import Count, is_sentence

Truth = tuple[dict[str, Any], float]

KILLED = 9
"""The exit code of a process that ends itself as SIGKILL would."""


def saved_steps(folder: Path) -> list[int]:
    return Checkpoints(folder / CHECKPOINTS).steps()


def judge(
    count: Count, answers: Sequence[dict[str, Any]], expected: dict[str, Any], starts: dict
) -> None:
    """Counts runs that were resumed: each began at its last checkpoint, and ended as expected."""
    for answer in answers:
        if "error" in answer:
            count.add("unclear_errors", f"{answer['error']}: {answer['text']}")
        elif answer["outcome"] != expected:
            count.add("wrong_restores", f"{answer['outcome']}, not {expected}")
        elif answer["start"] < starts[answer["folder"]]:
            count.add("silent_losses", f"began at {answer['start']}")
        elif answer["warnings"]:
            # Nothing was damaged.
            count.add("unclear_errors", str(answer["warnings"]))
        else:
            count.add("recovered")


def random_kills(place: Path, truth: Truth, short: bool) -> Count:
    """Kills within a run; each is then resumed to its end."""
    count = Count("SIGKILL at a random moment")
    expected, span = truth
    dice = random.Random(0)
    wanted = 2 if short else 100
    starts: dict[str, int] = {}
    moments = {"a save": 0, "a deletion": 0}
    for attempt in range(3 * wanted):
        if len(starts) == wanted:
            break
        folder = place / f"killed {attempt}"
        reached = _killed(folder, span * dice.random())
        if reached is None:
            continue
        _tell_apart(folder, moments)
        steps = saved_steps(folder)
        starts[str(folder)] = max(steps, default=0)
        # The save before the last one was complete before the last one began.
        least = (reached // tiny.EVERY - 1) * tiny.EVERY
        if max(steps, default=0) < least:
            count.add("silent_losses", f"step {reached} was reached, but only {steps} are there")
            del starts[str(folder)]
    answers = list(resume_all([Path(name) for name in starts]))
    judge(count, answers, expected, starts)
    count.remark = ", ".join(f"{number} during {what}" for what, number in moments.items())
    return count


def _killed(folder: Path, seconds: float) -> int | None:
    """Kills a run; the last batch it asked for, None if it had ended before."""
    child = Child(lambda tell: _train(folder, tell))
    child.until("second")
    child.kill_after(seconds)
    last = 1
    for message in child.messages():
        last = message.get("batch", last)
    return last if child.end() == -signal.SIGKILL else None


def _train(folder: Path, tell: Tell, **changes: Any) -> None:
    tiny.train(folder, data=tiny.Data(teller(tell)), **changes)


def _tell_apart(folder: Path, moments: dict[str, int]) -> None:
    """Counts what the kill interrupted."""
    names = [path.name for path in (folder / CHECKPOINTS).glob("*")]
    moments["a save"] += any(name.startswith(SAVING) for name in names)
    moments["a deletion"] += any(name.startswith(REMOVING) for name in names)


def begun(folder: Path, steps: int) -> None:
    """A run of so many steps."""
    child = Child(lambda tell: _train(folder, tell, steps=steps))
    list(child.messages())
    assert child.end() == 0


def damaged(folder: Path, steps: int) -> None:
    """A run whose last checkpoint is damaged, so that it is passed over and replaced."""
    begun(folder, steps)
    (folder / CHECKPOINTS / f"step_{steps:08}" / "checkpoint.json").write_text("{}")


def missing(folder: Path) -> None:
    """Nothing."""


SCENARIOS: dict[str, tuple[Callable[[Path], None], int]] = {
    "the start of a run": (missing, tiny.EVERY),
    "a save and a deletion": (lambda folder: begun(folder, 2 * tiny.EVERY), 3 * tiny.EVERY),
    "a save over a damaged one": (lambda folder: damaged(folder, 2 * tiny.EVERY), 2 * tiny.EVERY),
}
"""What is there before, and the steps to which the run goes on while it is killed."""

STRIDE = 45
"""In the short form only every so many operations are tried."""


def kills_at_operations(place: Path, truth: Truth, short: bool) -> list[Count]:
    """Kills before each operation on the files."""
    counts = []
    for index, (name, (prepare, steps)) in enumerate(SCENARIOS.items()):
        if short and prepare is damaged:
            continue
        count = Count(f"SIGKILL before each operation of {name}")
        before, folders = place / f"before {index}", []
        prepare(before)
        moment, stride = (10 * index, STRIDE) if short else (0, 1)
        while True:
            folder = place / f"operation {index}.{moment}"
            if before.exists():
                shutil.copytree(before, folder)
            child = Child(
                lambda _, folder=folder, moment=moment, steps=steps: _dying(folder, moment, steps)
            )
            told = list(child.messages())
            code = child.end()
            if code == 0:
                break
            assert code == KILLED, told
            folders.append(folder)
            moment += stride
        starts = {str(folder): max(_whole(folder, index), default=0) for folder in folders}
        answers = list(resume_all(folders))
        if index == 2:
            answers = [_without_expected_warning(answer) for answer in answers]
        judge(count, answers, truth[0], starts)
        counts.append(count)
    return counts


def _whole(folder: Path, scenario: int) -> list[int]:
    steps = saved_steps(folder)
    path = folder / CHECKPOINTS / f"step_{2 * tiny.EVERY:08}" / "checkpoint.json"
    is_damaged = scenario == 2 and path.exists() and path.read_text() == "{}"
    return [step for step in steps if not (is_damaged and step == 2 * tiny.EVERY)]


def _without_expected_warning(answer: dict[str, Any]) -> dict[str, Any]:
    """The damaged checkpoint is told of as long as it is there."""
    said = answer.get("warnings", [])
    left = [text for text in said if not ("checkpoint.json" in text and is_sentence(text))]
    return {**answer, "warnings": left}


def _dying(folder: Path, moment: int, steps: int) -> None:
    """Trains, and dies before operation number ``moment`` that changes a file or directory."""
    done = 0

    def count() -> None:
        nonlocal done
        if done == moment:
            os._exit(KILLED)
        done += 1

    def look(event: str, given: Any) -> None:
        if event not in ("open", "os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.chmod"):
            return
        if event == "open" and not (given[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        # Within a directory that is removed, names are relative.
        if str(folder) in str(given[0]) or not str(given[0]).startswith("/"):
            count()

    fsync = os.fsync

    def counted(descriptor: int) -> None:
        count()
        fsync(descriptor)

    os.fsync = counted
    sys.addaudithook(look)
    tiny.train(folder, resume=True, steps=steps)


def signals(place: Path, truth: Truth, short: bool) -> list[Count]:
    """SIGTERM and SIGINT: the step is saved, the exit code tells, and the run can be resumed."""
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
            child = Child(lambda tell, folder=folder: _train(folder, tell))
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


def two_writers(place: Path, truth: Truth, short: bool) -> Count:
    """Two processes in one directory: the second is refused, and the first is not disturbed."""
    count = Count("two processes in one directory")
    expected, _ = truth
    for index in range(1 if short else 10):
        folder = place / f"held {index}"
        reader, writer = os.pipe()

        def wait(batch: int, reader: int = reader) -> None:
            if batch == 2 * tiny.EVERY:
                os.read(reader, 1)

        def hold(tell: Tell, folder: Path = folder, wait: Callable[[int], None] = wait) -> None:
            def look(batch: int) -> None:
                tell({"batch": batch})
                wait(batch)

            run = tiny.train(folder, data=tiny.Data(look), resume=True)
            tell({"outcome": tiny.outcome(folder, run)})

        first = Child(hold)
        while first.until("batch")["batch"] < 2 * tiny.EVERY:
            pass
        second = Child(lambda tell, folder=folder: _resumed(folder, tell))
        told = second.until("error")
        second.end()
        os.write(writer, b"x")
        answer = first.until("outcome")
        assert first.end() == 0
        if answer["outcome"] != expected:
            count.add("wrong_restores", "the first run was disturbed")
            continue
        count.add_told(told["error"] == "RunFolderError", told["text"], "another process")
    return count


def _resumed(folder: Path, tell: Tell) -> None:
    tiny.train(folder, resume=True, data=tiny.Data(teller(tell)))


def main(short: bool) -> list[Count]:
    """All kinds, in a process that does not compute."""
    counts = []
    with tiny.workplace() as place:
        os.environ["JAX_PLATFORMS"] = "cpu"
        _keep_programs(place / "programs")
        truth = uninterrupted(place / "truth")
        counts.append(random_kills(_new(place, "random"), truth, short))
        counts += kills_at_operations(_new(place, "operations"), truth, short)
        counts += signals(_new(place, "signals"), truth, short)
        counts.append(two_writers(_new(place, "writers"), truth, short))
    return counts


def _new(place: Path, name: str) -> Path:
    folder = place / name
    folder.mkdir()
    return folder


def _keep_programs(folder: Path) -> None:
    """The children read the programs that the first one, which is not killed, compiled."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


if __name__ == "__main__":
    import dataclasses

    print(json.dumps([dataclasses.asdict(count) for count in main("--short" in sys.argv)]))
