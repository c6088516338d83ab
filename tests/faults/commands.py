"""``rnnlab train`` that is ended by signals, and ``rnnlab resume``."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.faults.table import Count, is_sentence

SETTINGS = {
    "hidden_size": 8,
    "embedding_size": 4,
    "length": 8,
    "batch_size": 4,
    "steps": 60,
    "checkpoint_every": 2,
    "validate_every": 10,
    "dropout": 0.1,
    "average": 0.9,
}


def kills(place: Path, short: bool) -> Count:
    """Ended at random moments after their start, resumed, and compared by ``rnnlab evaluate``."""
    count = Count("rnnlab train ended by signals, rnnlab resume")
    text, config = place / "text", place / "config.json"
    text.write_text("the quick brown fox jumps over the lazy dog\n" * 60)
    config.write_text(json.dumps({**SETTINGS, "data": str(text)}))
    start = time.monotonic()
    ran = rnnlab("train", config, "--out", place / "truth")
    seconds = time.monotonic() - start
    assert ran.returncode == 0, ran.stderr
    expected = result(place / "truth")
    dice = random.Random(6)
    numbers = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
    for index in range(1 if short else 12):
        folder = place / str(index)
        number = numbers[index % 3]
        process = begun("train", config, "--out", folder)
        # Half of the moments are in the second half, after the start.
        time.sleep(seconds * (dice.random() if index % 2 else dice.uniform(0.5, 1)))
        process.send_signal(number)
        _, told = process.communicate()
        _judge(count, (folder, config), (number, process.returncode, told), expected)
    return count


def _judge(
    count: Count, run: tuple[Path, Path], ended: tuple[int, int, str], expected: dict[str, Any]
) -> None:
    folder, config = run
    number, code, told = ended
    # A signal that comes before the run is one ends the process as always.
    codes = {0, -number, 128 + number} - ({128 + number} if number == signal.SIGKILL else set())
    if code not in codes or "Traceback" in told:
        count.add("unclear_errors", f"exit code {code} after signal {number}: {told}")
        return
    ran = rnnlab("resume", folder)
    if ran.returncode and not (folder / "run.json").exists():
        # It ended before it had begun to train.
        if not is_sentence(ran.stderr.strip()):
            count.add("unclear_errors", ran.stderr)
            return
        ran = rnnlab("train", config, "--out", folder)
    if ran.returncode:
        count.add("unclear_errors", ran.stderr)
        return
    is_right = result(folder) == expected
    count.add("recovered" if is_right else "wrong_restores", f"signal {number}")


def result(folder: Path) -> dict[str, Any]:
    """What evaluation says, and the metrics."""
    last = rnnlab("evaluate", folder, "--json")
    best = rnnlab("evaluate", folder, "--best", "--json")
    assert last.returncode == best.returncode == 0, last.stderr + best.stderr
    return {
        "last": json.loads(last.stdout),
        "best": json.loads(best.stdout),
        "metrics": hashlib.sha256((folder / "metrics.jsonl").read_bytes()).hexdigest(),
    }


def rnnlab(*arguments: object) -> subprocess.CompletedProcess:
    process = begun(*arguments)
    out, told = process.communicate()
    return subprocess.CompletedProcess([], process.returncode, out, told)


def begun(*arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "rnnlab", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
