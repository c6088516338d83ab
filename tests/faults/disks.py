"""Disks that are full or cannot be written, and saves that fail."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from rnnlab.training import CheckpointError, checkpoints
from tests.faults import tiny
from tests.faults.table import Count


def full(place: Path, short: bool) -> list[Count]:
    """A file system of a few kilobytes, which then gets room; read-only ones."""
    counts = [Count("disk full (tmpfs)"), Count("read-only directory (tmpfs)")]
    whole = place / "whole"
    expected = tiny.outcome(whole, tiny.train(whole))
    try:
        with _mounted(place / "disk", "size=1m"):
            pass
    except OSError as fault:
        for count in counts:
            count.remark = f"not tried, since {fault}"
        return counts
    for kilobytes in (100,) if short else range(8, 224, 12):
        with _mounted(place / "disk", f"size={kilobytes}k") as disk:
            _judge_full(counts[0], disk, expected)
    for has_run in (False, True):
        with _mounted(place / "disk", "size=4m") as disk:
            folder = disk / "run"
            if has_run:
                tiny.train(folder, steps=4)
            _mount(disk, "remount,ro")
            _judge_read_only(counts[1], folder)
            _mount(disk, "remount,rw")
            run = tiny.train(folder, resume=True)
            assert tiny.outcome(folder, run) == expected
    return counts


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system in memory; OSError where none may be mounted."""
    folder.mkdir(exist_ok=True)
    _mount(folder, options)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _mount(folder: Path, options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if shutil.which("mount") is None:
        raise OSError("there is no mount")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError("no file system may be mounted")


def _judge_full(count: Count, disk: Path, expected: dict[str, object]) -> None:
    """The run ends with a sentence; once there is room, it goes on as if nothing had been."""
    folder = disk / "run"
    try:
        tiny.train(folder)
    except Exception as fault:
        caught = fault
    else:
        return
    _mount(disk, "remount,size=8m")
    run = tiny.train(folder, resume=True)
    if tiny.outcome(folder, run) == expected:
        count.add_error(caught, os.strerror(errno.ENOSPC))
    else:
        count.add("wrong_restores", str(caught))


def _judge_read_only(count: Count, folder: Path) -> None:
    try:
        tiny.train(folder, resume=True)
    except Exception as fault:
        count.add_error(fault, os.strerror(errno.EROFS))
    else:
        count.add("silent_losses", "nothing was written, and nothing was said")


def failing(place: Path, short: bool) -> list[Count]:
    """Operations of the operating system that fail from some moment on."""
    whole = place / "whole"
    expected = tiny.outcome(whole, tiny.train(whole))
    counts = []
    for code in (errno.ENOSPC, errno.EROFS, errno.EIO):
        count = Count(f"{errno.errorcode[code]} from fsync, mkdir or rename")
        for name in ("fsync", "mkdir", "rename"):
            for moment in (0, 2) if short else (0, 1, 2, 5, 11, 20, 31, 60, 120):
                folder = place / f"{code} {name} {moment}"
                _judge_failing(count, folder, expected, (name, moment, code))
            if short:
                break
        counts.append(count)
    return counts


def _judge_failing(
    count: Count, folder: Path, expected: dict[str, object], case: tuple[str, int, int]
) -> None:
    name, moment, code = case
    try:
        with mock.patch.object(os, name, _failing(getattr(os, name), moment, code)):
            tiny.train(folder)
    except Exception as fault:
        caught = fault
    else:
        return
    run = tiny.train(folder, resume=True)
    if tiny.outcome(folder, run) == expected:
        count.add_error(caught, os.strerror(code))
    else:
        count.add("wrong_restores", str(caught))


def _failing(operation: Callable, moment: int, code: int) -> Callable:
    calls = 0

    def call(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls > moment:
            path = arguments[0] if isinstance(arguments[0], str | Path) else None
            raise OSError(code, os.strerror(code), path)
        return operation(*arguments, **options)

    return call


def failed_saves(place: Path, short: bool) -> Count:
    """A save that fails while the run goes on: the run ends at the next one, and says so."""
    count = Count("a save that fails in the background")
    whole = place / "whole"
    expected = tiny.outcome(whole, tiny.train(whole))
    write = checkpoints.write
    for number in (3,) if short else range(1, tiny.STEPS // tiny.EVERY + 1):
        folder, last = place / str(number), 0

        def fail(folder: Path, step: int, *rest: object, number: int = number) -> None:
            if step == number * tiny.EVERY:
                raise RuntimeError("the device of the disk is gone")
            write(folder, step, *rest)

        def look(index: int) -> None:
            nonlocal last
            last = index

        try:
            with mock.patch.object(checkpoints, "write", fail):
                tiny.train(folder, data=tiny.Data(look))
        except CheckpointError as fault:
            run = tiny.train(folder, resume=True)
            if tiny.outcome(folder, run) != expected:
                count.add("wrong_restores", str(fault))
            elif last > (number + 1) * tiny.EVERY:
                count.add("silent_losses", f"went on to step {last + 1}")
            else:
                count.add_error(fault, str(folder), "is gone")
        else:
            count.add("silent_losses", f"save {number} failed without a word")
    return count
