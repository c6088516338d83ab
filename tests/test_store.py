"""The directory of a run: whole at every moment at which its process may be killed."""

import errno
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rnnlab.studies import store
from rnnlab.studies.records import write_csv
from rnnlab.studies.store import Run

SETTINGS = {"cells": ("rnn",), "seeds": 1}
UNITS = [("rnn", 1), ("rnn", 2), ("rnn", 3)]
FILES = {"config.json", "study.json", "study.csv", "picture.png"}


def finished(records):
    return {(row["cell"], row["length"]) for row in records["norms"]}


def measure(folder, value, resume=False, until=None):
    """A small study, run as by the command line; returns the number of units measured."""
    config = {"settings": SETTINGS, "data": "text", "value": value}
    with Run(folder, "study", ["norms"]) as run:
        run.admit(SETTINGS)
        run.open(config, resume, UNITS, finished, summarise)
        missing = list(run.missing)[:until]
        for cell, length in missing:
            row = {"cell": cell, "length": length, "value": run.config["value"]}
            run.add((cell, length), {"norms": [row]})
            run.save(summarise, when_due=False)
        if not run.is_whole and not run.missing:
            run.save(summarise, when_due=False)
            write_csv(run.unfinished / "study.csv", ["cell", "length", "value"], run.records)
            (run.unfinished / "picture.png").write_text(f"drawn from {run.config['value']}")
            run.finish()
    return len(missing)


def summarise(records):
    return [{"sum": sum(row["value"] for row in records["norms"])}]


def assert_whole(folder, value):
    """The directory holds the run with this value, and nothing of another."""
    assert store.faults(folder) == []
    assert {path.name for path in folder.iterdir()} - {store.UNFINISHED} == {
        *FILES,
        store.CHECKSUMS,
    }
    content = json.loads((folder / "study.json").read_text())
    assert content["config"] == json.loads((folder / "config.json").read_text())
    assert {row["value"] for row in content["norms"]} == {value}
    assert len(content["norms"]) == len(UNITS)
    assert content["summary"] == [{"sum": value * len(UNITS)}]
    assert (folder / "picture.png").read_text() == f"drawn from {value}"


def die_at(moment, folder):
    """Ends the process, as kill -9 would, before its write number ``moment`` in the folder."""
    writes = 0

    def count(event, given):
        nonlocal writes
        changes = event in ("os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.chmod")
        opens = event == "open" and (given[2] or 0) & (os.O_WRONLY | os.O_RDWR)
        if (changes or opens) and str(folder) in str(given[0]):
            writes += 1
            if writes > moment:
                os._exit(9)

    sys.addaudithook(count)


def kill_at_every_moment(before, value, resume):
    """Runs the study from the directory ``before`` repeatedly, killed one write later each time."""
    folder = before.parent / "killed"
    for moment in range(1000):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(before, folder)
        child = os.fork()
        if not child:
            die_at(moment, folder)
            measure(folder, value, resume)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) in (0, 9)
        assert_safe(folder)
        if os.waitstatus_to_exitcode(status) == 0:
            assert_whole(folder, value)
            return moment
    raise AssertionError("never finished")


def assert_safe(folder):
    """A mixture is reported, an interrupted move can be finished, and no measurement is lost."""
    if any((folder / name).exists() for name in FILES) and not store.faults(folder):
        assert_whole(folder, drawn(folder))
    store.settle(folder)
    later = store.faults(folder)
    left = {path.name for path in folder.iterdir()} - {store.UNFINISHED}
    if left:
        # The earlier run or the new one, and beside it at most a partial one.
        assert all("later run" in fault or fault == "picture.png is missing." for fault in later)
        assert left >= {*FILES, store.CHECKSUMS} - {"picture.png"}
    measure(folder, 2, resume=True)
    assert_whole(folder, drawn(folder))
    assert not (folder / store.UNFINISHED).exists()


def drawn(folder):
    return int((folder / "picture.png").read_text().split()[-1])


@pytest.mark.combinations
@pytest.mark.parametrize("scenario", ["first", "again", "resumed", "resumed again", "redrawn"])
def test_a_kill_at_any_moment_leaves_a_whole_run_and_what_was_measured(tmp_path, scenario):
    """In a process without JAX, whose threads would not survive a fork."""
    before, value = tmp_path / "before", 2
    before.mkdir()
    if "again" in scenario:
        measure(before, 1)
    if "resumed" in scenario:
        measure(before, 2, until=2)
    if scenario == "redrawn":
        measure(before, 2)
        (before / "picture.png").unlink()
    script = """
import sys
from pathlib import Path
from tests.test_store import kill_at_every_moment

print(kill_at_every_moment(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"))
"""
    resume = scenario in ("resumed", "resumed again", "redrawn")
    ran = subprocess.run(
        [sys.executable, "-c", script, str(before), str(value), str(resume)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 15


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("picture.png", None, "picture.png is missing."),
        ("study.csv", "x", "study.csv does not belong to this run: its checksum differs."),
        ("config.json", "{}", "config.json does not belong to this run: its checksum differs."),
        (store.CHECKSUMS, None,
         "The run is not finished: SHA256SUMS, the list of its files, is missing."),
        (store.CHECKSUMS, "x",
         "The run is not finished: SHA256SUMS, the list of its files, is missing."),
    ],
)  # fmt: skip
def test_what_is_missing_or_does_not_belong_is_told(tmp_path, name, content, fault):
    measure(tmp_path, 1)
    assert store.faults(tmp_path) == []
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    assert store.faults(tmp_path) == [fault]


def test_an_unfinished_run_tells_how_much_is_missing(tmp_path):
    measure(tmp_path, 1, until=1)
    assert store.faults(tmp_path) == [
        "The run is not finished: SHA256SUMS, the list of its files, is missing.",
        "A later run is not finished: it is in unfinished.",
    ]
    assert "Measurements still missing: 2." in store.faults(tmp_path / store.UNFINISHED)


def test_the_list_is_that_of_sha256sum(tmp_path):
    measure(tmp_path, 1)
    checked = subprocess.run(
        ["sha256sum", "--check", store.CHECKSUMS], cwd=tmp_path, check=False, capture_output=True
    )
    assert checked.returncode == 0


def test_resume_measures_only_what_is_missing(tmp_path):
    assert measure(tmp_path, 1, until=2) == 2
    assert measure(tmp_path, 1, resume=True) == 1
    assert measure(tmp_path, 1, resume=True) == 0
    assert_whole(tmp_path, 1)


def test_two_processes_do_not_write_one_run(tmp_path):
    with Run(tmp_path / "run", "study", ["norms"]) as first:
        first.admit(SETTINGS)
        with (
            pytest.raises(
                ValueError, match=r"another rnnlab is writing .*run; wait for it, or choose"
            ),
            Run(tmp_path / "run", "study", ["norms"]) as second,
        ):
            second.admit(SETTINGS)
        assert first.unfinished.exists()
    assert list(tmp_path.iterdir()) == []


def test_what_a_user_keeps_beside_a_run_stays(tmp_path):
    measure(tmp_path, 1)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "report.html").write_text("a page of the first run")
    measure(tmp_path, 2)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "report.html").exists()
    (tmp_path / "notes.txt").unlink()
    assert_whole(tmp_path, 2)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_directory_that_cannot_be_written_is_refused_and_left_as_it_was(
    tmp_path, monkeypatch, code
):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    measure(tmp_path / "before", 1)
    monkeypatch.setattr(os, "fsync", refuse)
    for folder in (tmp_path / "before", tmp_path / "new" / "deeper"):
        wanted = f"{folder} cannot be written ({os.strerror(code)}); choose another --out"
        with (
            pytest.raises(ValueError, match=re.escape(wanted)),
            Run(folder, "study", ["norms"]) as run,
        ):
            run.admit(SETTINGS)
    monkeypatch.undo()
    assert_whole(tmp_path / "before", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize(
    "rows", [[{"cell": "rnn", "length": 1, "value": None}], [None], 3, [{"cell": "rnn"}], None]
)
def test_records_that_cannot_be_summarised_are_refused(tmp_path, rows):
    measure(tmp_path, 1, until=1)
    path = tmp_path / store.UNFINISHED / "study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"norms": rows}))
    with pytest.raises(ValueError, match=r"study\.json is damaged; remove it"):
        measure(tmp_path, 1, resume=True)
    assert path.exists()


def test_a_directory_among_the_results_stays(tmp_path):
    measure(tmp_path, 1, until=1)
    mine = tmp_path / store.UNFINISHED / "mine"
    mine.mkdir()
    assert measure(tmp_path, 1, resume=True) == 2
    assert_whole(tmp_path, 1)
    assert mine.is_dir()


def test_a_save_takes_at_most_a_tenth_of_the_time(tmp_path, monkeypatch):
    """A clock that moves by one second at each look, so that each save takes one."""
    clock = itertools.count()
    monkeypatch.setattr(store.time, "monotonic", lambda: next(clock))
    units, written = [("rnn", length) for length in range(100)], []
    with Run(tmp_path / "run", "study", ["norms"]) as run:
        run.admit(SETTINGS)
        run.open({"settings": SETTINGS, "data": "text"}, False, units, finished, summarise)
        for unit in units:
            run.add(unit, {"norms": [{"cell": "rnn", "length": unit[1]}]})
            run.save(lambda records: written.append(len(records["norms"])) or [], when_due=True)
        run.save(lambda records: written.append(len(records["norms"])) or [], when_due=False)
    assert written[0] == 1
    assert written[-1] == 100
    assert 8 <= len(written) <= 11
