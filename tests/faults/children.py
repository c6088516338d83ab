"""Processes that are killed: forked from one that has imported everything, but not started JAX.

The threads that JAX starts with its first computation do not survive a fork, so the process that
forks never computes.
"""

import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rnnlab.training.faults import Interrupted
from tests.faults import tiny

Tell = Callable[[dict[str, Any]], None]

BATCH = 25
"""Runs that one process resumes, one after the other."""


class Child:
    """A forked process that runs ``work(tell)``; what it tells arrives here.

    An exception ends it as it would end the interpreter, and is told as "error" and "text".
    """

    def __init__(self, work: Callable[[Tell], None]) -> None:
        reader, writer = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            os.close(reader)
            _run(work, writer)
        os.close(writer)
        self._lines = os.fdopen(reader, "rb")

    def messages(self) -> Iterator[dict[str, Any]]:
        """What it tells until it ends."""
        for line in self._lines:
            # A process that is killed may leave half a line.
            if line.endswith(b"\n"):
                yield json.loads(line)

    def until(self, name: str) -> dict[str, Any]:
        """The first message with that entry; an empty one if there is none."""
        return next((message for message in self.messages() if name in message), {})

    def kill_after(self, seconds: float, number: int = signal.SIGKILL) -> None:
        time.sleep(seconds)
        os.kill(self.pid, number)

    def end(self) -> int:
        """Waits for its end; the exit code, negative for a signal."""
        _, status = os.waitpid(self.pid, 0)
        self._lines.close()
        return os.waitstatus_to_exitcode(status)


def _run(work: Callable[[Tell], None], writer: int) -> None:
    """The work of a child, which never returns."""
    # Python's own handler, also where a shell started the tests in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def tell(message: dict[str, Any]) -> None:
        os.write(writer, json.dumps(message).encode() + b"\n")

    code = 1
    warnings.simplefilter("ignore")
    try:
        work(tell)
        code = 0
    except Interrupted as stop:
        tell({"interrupted": stop.step})
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException as fault:
        tell({"error": type(fault).__name__, "text": str(fault)})
    finally:
        os._exit(code)


def resume(folder: Path, tell: Tell, **changes: Any) -> None:
    """Resumes a run to its end, and tells the outcome, the first step and the warnings."""
    asked: list[int] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            run = tiny.train(folder, resume=True, data=tiny.Data(asked.append), **changes)
        except Exception as fault:
            tell({"folder": str(folder), "error": type(fault).__name__, "text": str(fault)})
            return
    said = [str(warning.message) for warning in caught]
    start = asked[0] if asked else int(run.state.step)
    outcome = tiny.outcome(folder, run)
    tell({"folder": str(folder), "outcome": outcome, "start": start, "warnings": said})


def resume_all(folders: Sequence[Path], **changes: Any) -> Iterator[dict[str, Any]]:
    """Resumes many runs to their end, in few processes."""
    for batch in _batches(folders):

        def work(tell: Tell, batch: Sequence[Path] = batch) -> None:
            for folder in batch:
                resume(folder, tell, **changes)

        child = Child(work)
        yield from child.messages()
        code = child.end()
        assert code == 0, f"a process that resumes runs ended with {code}"


def _batches(folders: Sequence[Path]) -> list[Sequence[Path]]:
    return [folders[start : start + BATCH] for start in range(0, len(folders), BATCH)]


def uninterrupted(folder: Path, **changes: Any) -> tuple[dict[str, Any], float]:
    """The outcome of a run that nothing disturbs, and the seconds after its second batch."""

    def work(tell: Tell) -> None:
        run = tiny.train(folder, data=tiny.Data(teller(tell)), **changes)
        tell({"outcome": tiny.outcome(folder, run)})

    child = Child(work)
    child.until("second")
    start = time.monotonic()
    outcome = child.until("outcome")["outcome"]
    seconds = time.monotonic() - start
    assert child.end() == 0
    return outcome, seconds


def teller(tell: Tell) -> Callable[[int], None]:
    """Tells of each batch that a run asks for, the second one as "second"."""

    def look(index: int) -> None:
        tell({"second" if index == 1 else "batch": index})

    return look
