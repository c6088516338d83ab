"""Checkpoints whose files were changed, cut, removed, exchanged or added."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rnnlab.training.checkpoints import SUMS
from rnnlab.training.loop import Content
from rnnlab.training.run_folder import CHECKPOINTS
from rnnlab.training.trees import fingerprint
from tests.faults import tiny
from tests.faults.table import Count, is_sentence

OLD, LAST = 2, 4
"""The steps of the two checkpoints."""


class Saved(NamedTuple):
    """A run with two checkpoints.

    Attributes:
        folder: its directory.
        template: the structure of its checkpoints.
        prints: the fingerprint of what each checkpoint holds, by its step.
    """

    folder: Path
    template: Content
    prints: dict[int, str]


def saved(place: Path) -> Saved:
    """The run; the fingerprints are those of runs of so many steps."""
    folder = place / "run"
    run = tiny.train(folder, steps=LAST)
    before = tiny.train(place / "shorter", steps=OLD)
    template = tiny.content(run)
    prints = {
        OLD: fingerprint(tiny.content(before)),
        LAST: fingerprint(template),
    }
    found, said = tiny.restored(folder, template)
    assert found is not None
    assert (found.step, fingerprint(found.state), said) == (LAST, prints[LAST], [])
    return Saved(folder, template, prints)


def of_step(run: Saved, step: int) -> Path:
    return run.folder / CHECKPOINTS / f"step_{step:08}"


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flip(path: Path, dice: random.Random, positions: range | None = None) -> bytes:
    """Changes one bit of a file; what it held before."""
    content = path.read_bytes()
    position = dice.choice(range(len(content)) if positions is None else positions)
    changed = bytearray(content)
    changed[position] ^= 1 << dice.randrange(8)
    path.write_bytes(changed)
    return content


def judge(count: Count, run: Saved, *names: str) -> None:
    """Restores, and counts: the checkpoint before, with one warning that has one of ``names``."""
    try:
        found, said = tiny.restored(run.folder, run.template)
    except Exception as fault:
        count.add_error(fault, CHECKPOINTS)
        return
    assert found is not None
    if fingerprint(found.state) != run.prints[found.step]:
        count.add("wrong_restores", f"step {found.step} after {names}")
    elif found.step == LAST:
        count.add("unclear_errors" if said else "unaffected", str(said))
    elif not said:
        count.add("silent_losses", f"step {found.step} without a word")
    else:
        clear = len(said) == 1 and is_sentence(said[0]) and any(name in said[0] for name in names)
        count.add("recovered" if clear else "unclear_errors", str(said))


def flips(place: Path, short: bool) -> list[Count]:
    """Single bits: in the last checkpoint, in both, and in runs that then go on to their end."""
    run = saved(place)
    dice = random.Random(2)
    one = Count("one bit in a file of a checkpoint")
    paths = files(of_step(run, LAST))
    for index in range(60 if short else 2000):
        # All files in turn, since the large ones would take nearly all flips.
        path = paths[index % len(paths)]
        before = flip(path, dice)
        judge(one, run, str(path), SUMS)
        path.write_bytes(before)
    both = Count("one bit in each of two checkpoints")
    for _ in range(6 if short else 200):
        chosen = [dice.choice(files(of_step(run, step))) for step in (OLD, LAST)]
        before = [flip(path, dice) for path in chosen]
        judge(both, run)
        for path, content in zip(chosen, before, strict=True):
            path.write_bytes(content)
    judge(ends := Count("all changes undone"), run)
    assert ends.unaffected == 1
    return [one, both]


def cuts(place: Path, short: bool) -> Count:
    """Files that are cut short, emptied, deleted, or filled with zeros."""
    run = saved(place)
    dice = random.Random(3)
    count = Count("a file cut short, emptied, zeroed or deleted")
    changes: list[Callable[[Path], object]] = [
        lambda path: path.write_bytes(path.read_bytes()[: dice.randrange(path.stat().st_size)]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        lambda path: path.unlink(),
    ]
    cases = [(path, change) for path in files(of_step(run, LAST)) for change in changes]
    for path, change in dice.sample(cases, 10) if short else cases:
        before = path.read_bytes()
        change(path)
        judge(count, run, str(path), SUMS)
        path.write_bytes(before)
    return count


def foreign(place: Path, short: bool) -> Count:
    """Files and directories that were added, or come from another checkpoint."""
    del short
    run = saved(place)
    count = Count("a foreign or exchanged file or directory")
    last = of_step(run, LAST)
    for name in ("notes.txt", ".hidden", "arrays/0099.w", "arrays/SHA256SUMS", "arrays/.zarray"):
        (last / name).write_text("mine")
        judge(count, run, name)
        (last / name).unlink()
    for path in files(last):
        other = of_step(run, OLD) / path.relative_to(last)
        before = path.read_bytes()
        if other.read_bytes() == before:
            continue
        path.write_bytes(other.read_bytes())
        judge(count, run, str(path), SUMS)
        path.write_bytes(before)
    # The older checkpoint under the name of the newer.
    aside = last.with_name("aside")
    last.rename(aside)
    shutil.copytree(of_step(run, OLD), last)
    judge(count, run, str(last))
    shutil.rmtree(last)
    # A directory that is empty, and one of a step that the run never reached.
    last.mkdir()
    judge(count, run, str(last))
    last.rmdir()
    aside.rename(last)
    later = of_step(run, LAST + 1)
    later.mkdir()
    found, said = tiny.restored(run.folder, run.template)
    clear = found is not None and found.step == LAST and len(said) == 1 and str(later) in said[0]
    count.add("recovered" if clear else "unclear_errors", str(said))
    return count


def resumed(place: Path, short: bool) -> Count:
    """A damaged checkpoint in a run that goes on to its end."""
    count = Count("one bit, then resumed to the end")
    whole = place / "whole"
    expected = tiny.outcome(whole, tiny.train(whole))
    dice = random.Random(4)
    before = place / "before"
    tiny.train(before, steps=3 * tiny.EVERY)
    for index in range(1 if short else 20):
        folder = place / f"flipped {index}"
        shutil.copytree(before, folder)
        path = dice.choice(files(folder / CHECKPOINTS / f"step_{3 * tiny.EVERY:08}"))
        flip(path, dice)
        with tiny.heard() as said:
            run = tiny.train(folder, resume=True)
        if tiny.outcome(folder, run) != expected:
            count.add("wrong_restores", str(path))
        elif len(said) == 1 and is_sentence(said[0]):
            count.add("recovered")
        else:
            count.add("unclear_errors", str(said))
    return count
