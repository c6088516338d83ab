"""Two processes in the directory of one run."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import jax

from rnnlab.training.checkpoints import Checkpoints
from rnnlab.training.run_folder import CHECKPOINTS
from tests.faults import tiny
from tests.faults.children import Child, Tell, teller
from tests.faults.kills import Truth, saved_steps
from tests.faults.table import Count


def readers(place: Path, whole: Path, short: bool) -> Count:
    """A process that reads the checkpoints while the run replaces its only one.

    ``whole`` is the directory of a run that has kept all of them.
    """
    count = Count("read while the run saves and deletes")
    truth = Child(lambda tell: _read_each(whole, tell))
    expected = {message["step"]: message["print"] for message in truth.messages()}
    assert truth.end() == 0
    for index in range(1 if short else 8):
        for message in _read_while_training(place / str(index)):
            if "error" in message or message["said"]:
                count.add("unclear_errors", str(message))
            else:
                is_right = expected[message["step"]] == message["print"]
                count.add("unaffected" if is_right else "wrong_restores", str(message))
    return count


def _read_while_training(folder: Path) -> list[dict]:
    """What a reader tells of each time it has read the last checkpoint."""
    go, going = os.pipe()

    def write(tell: Tell) -> None:
        del tell
        os.read(go, 1)
        # Slow enough that the other reads a checkpoint before it is gone.
        tiny.train(folder, data=tiny.Data(lambda _: time.sleep(0.03)), keep=1)

    writer = Child(write)
    reader = Child(lambda tell: _read_again(folder, tell))
    reader.until("ready")
    os.write(going, b"x")
    list(writer.messages())
    assert writer.end() == 0
    (folder / "done").write_text("")
    told = list(reader.messages())
    reader.end()
    return told


def _read_each(folder: Path, tell: Tell) -> None:
    for step in saved_steps(folder):
        _tell_read(folder, tell, step)


def _read_again(folder: Path, tell: Tell) -> None:
    # So that all its reads come while the other process trains.
    jax.devices()
    tell({"ready": True})
    while not (folder / "done").exists():
        _tell_read(folder, tell)


def _tell_read(folder: Path, tell: Tell, step: int | None = None) -> None:
    said: list[str] = []
    found = Checkpoints(folder / CHECKPOINTS, warn=said.append).read(step)
    if found is not None:
        digests = [leaf.about["sha256"] for leaf in found[1].values()]
        tell({"step": found[0], "print": "".join(digests), "said": said})


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
