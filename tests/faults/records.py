"""``run.json`` and ``metrics.jsonl`` that were changed, cut or removed."""

import random
import shutil
from pathlib import Path
from typing import Any

from rnnlab.training.run_folder import METRICS, RUN, RunFolder, read_run
from tests.faults import tiny
from tests.faults.damage import Saved, flip, saved
from tests.faults.table import Count


def settings(place: Path, short: bool) -> list[Count]:
    """Every single bit of ``run.json``, in the short form every tenth; files cut and replaced."""
    run = saved(place)
    path = run.folder / RUN
    content, expected = path.read_bytes(), read_run(run.folder)
    bits = Count("one bit in run.json")
    for bit in range(0, 8 * len(content), 10 if short else 1):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        _judge_settings(bits, run.folder, expected, f"bit {bit}")
    cuts = Count("run.json cut short, emptied or deleted")
    for length in range(0, len(content), 50 if short else 1):
        path.write_bytes(content[:length])
        _judge_settings(cuts, run.folder, expected, f"{length} bytes")
    path.unlink()
    _judge_settings(cuts, run.folder, expected, "deleted")
    _judge_start(cuts, run, "holds files that do not belong to a run")
    path.write_bytes(content.replace(b'"steps": 4', b'"steps": 5'))
    _judge_start(cuts, run, RUN)
    return [bits, cuts]


def _judge_settings(count: Count, folder: Path, expected: dict[str, Any], what: str) -> None:
    """``run.json`` is refused, or read as it was."""
    try:
        found = read_run(folder)
    except Exception as fault:
        count.add_error(fault, str(folder))
        return
    count.add("unaffected" if found == expected else "wrong_restores", f"{what}: {found}")


def _judge_start(count: Count, run: Saved, *words: str) -> None:
    """The run is not resumed."""
    try:
        tiny.train(run.folder, steps=4, resume=True)
    except Exception as fault:
        count.add_error(fault, *words)
        return
    count.add("silent_losses", f"resumed, without {words}")


def metrics(place: Path, short: bool) -> Count:
    """Bits, cuts and deletions: before the position of the checkpoint, and after it."""
    run = saved(place)
    count = Count("metrics.jsonl changed, cut or deleted")
    path = run.folder / METRICS
    good = path.read_bytes()
    # A run that was killed leaves lines behind that belong to no checkpoint.
    content = good + b'{"step": 5, "loss": 0.25}\n{"step": 6, "lo'
    dice = random.Random(5)
    for index in range(6 if short else 150):
        path.write_bytes(content)
        after = index % 3 == 0
        flip(path, dice, range(len(good), len(content)) if after else range(len(good)))
        _judge_metrics(count, run, good, after)
        length = dice.randrange(len(content))
        path.write_bytes(content[:length])
        _judge_metrics(count, run, good, length >= len(good))
    for gone in (b"", None):
        path.write_bytes(b"")
        if gone is None:
            path.unlink()
        _judge_metrics(count, run, good, False)
    return count


def _judge_metrics(count: Count, run: Saved, good: bytes, recoverable: bool) -> None:
    """Lines after the checkpoint are cut off; those before it must be what was written."""
    before = read_run(run.folder)
    options = before.pop("options")
    before.pop("versions")
    try:
        with RunFolder(run.folder, before, options, resume=True, keep=tiny.KEEP) as folder:
            folder.restore(run.template)
    except Exception as fault:
        if recoverable:
            count.add("unclear_errors", f"refused without need: {fault}")
        else:
            count.add_error(fault, METRICS)
        return
    is_good = (run.folder / METRICS).read_bytes() == good
    count.add("recovered" if recoverable and is_good else "wrong_restores")


def others(place: Path, short: bool) -> Count:
    """What a kill or a user may leave in the directory of a run."""
    del short
    count = Count("other files in the directory of a run")
    whole = place / "whole"
    expected = tiny.outcome(whole, tiny.train(whole, steps=6))
    before = place / "before"
    tiny.train(before, steps=4)
    for name in ("run.json0123.part", "checkpoints/.saving_step_00000006/x", "notes.txt",
                 "checkpoints/notes.txt", "checkpoints/.removing_step_00000002/x"):  # fmt: skip
        folder = place / name.replace("/", " ")
        shutil.copytree(before, folder)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("half of")
        run = tiny.train(folder, steps=6, resume=True)
        is_right = tiny.outcome(folder, run) == expected
        is_kept = (folder / name).exists() == (name.endswith("notes.txt"))
        count.add("recovered" if is_right and is_kept else "wrong_restores", name)
    # All that a process leaves that is killed while it writes run.json.
    folder = place / "only a part"
    folder.mkdir()
    (folder / "run.json0123.part").write_text("{")
    run = tiny.train(folder, steps=6)
    count.add("recovered" if tiny.outcome(folder, run) == expected else "wrong_restores")
    return count
