"""The command line as its users meet it: most of it in processes of its own."""

import contextlib
import csv
import errno
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib
import pytest

from rnnlab import cli
from rnnlab.studies import store

SMALL = [
    "--cells",
    "rnn",
    "gru",
    "--lengths",
    "3",
    "8",
    "--hidden-size",
    "6",
    "--batch-size",
    "4",
    "--seeds",
    "2",
]
DYNAMICS = [
    "dynamics", "--cells", "rnn", "gru", "--hidden-size", "4", "--batch-size", "2", "--seeds", "2",
    "--data", "noise", "--steps", "20", "--burn-in", "5", "--warm-up", "5", "--starts", "4",
    "--grid", "3", "--longest", "8",
]  # fmt: skip
KEYS = {
    "spectrum": {"cell", "seed", "index", "exponent", "theory"},
    "trace": {"cell", "seed", "step", "exponent"},
    "fixed_points": {"cell", "seed", "number", "kind", "unstable", "q", "slowest", "pc1", "pc2"},
    "trajectories": {"cell", "seed", "example", "step", "pc1", "pc2"},
    "attractors": {"cell", "seed", "number", "kind", "period", "exponent"},
    "phase": {
        "cell", "axis", "value", "length", "horizon", "vanishes", "decay_per_step", "exponent",
    },
    "summary": {
        "cell", "exponent", "spread", "kaplan_yorke", "entropy_rate", "attractor", "stable",
        "marginal", "saddle", "unstable", "slow",
    },
}  # fmt: skip
REACH = {
    "cell", "seed", "length", "phase", "horizon", "vanishes", "horizon_low", "horizon_high",
    "decay_per_step", "fit_last_lag", "late_decay_per_step", "late_first_lag", "lags", "zero_share",
}  # fmt: skip
TINY = [
    "gradients", "--cells", "rnn", "--lengths", "5", "--hidden-size", "4", "--batch-size", "2",
    "--seeds", "1", "--data", "noise",
]  # fmt: skip
FIGURES = {"gradient_norms.png", "gradient_norms.svg"}
RUN = {"config.json", "gradients.json", "gradients.csv", "SHA256SUMS", *FIGURES}


@pytest.fixture(scope="module", autouse=True)
def environment(tmp_path_factory):
    """Of this process and of those that the tests start: a user's cache directory of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLCONFIGDIR", matplotlib.get_configdir())  # with its list of fonts
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("JAX_PLATFORMS", "cpu")
        yield {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}


def rnnlab(*arguments, **options):
    """A process that runs the command line; options as of ``subprocess.run``."""
    command = [sys.executable, "-m", "rnnlab", *map(str, arguments)]
    given = {"capture_output": True, "text": True, "timeout": 300, "check": False, **options}
    given["env"] = {
        name: value for name, value in os.environ.items() if name != "XLA_FLAGS"
    } | given.get("env", {})
    return subprocess.run(command, **given)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run on real text, in float64, with training and a closer look."""
    folder = tmp_path_factory.mktemp("run")
    more = ["--train-steps", "3", "--clip", "1", "--precision", "float64", "--detail"]
    return folder, rnnlab("gradients", *SMALL, *more, "--out", "out", cwd=folder)


def test_a_run_prints_a_table_and_a_sentence_for_each_cell(finished):
    _, ran = finished
    assert ran.returncode == 0, ran.stderr
    for name in ("rnn (untrained)", "rnn (trained)", "gru (untrained)", "gru (trained)"):
        assert f"{name}: the gradient" in ran.stdout
    assert "\x1b" not in ran.stdout


def test_progress_is_told_where_there_is_no_terminal(finished):
    """Lines at the start and now and then tell the task and the number of measurements."""
    _, ran = finished
    lines = ran.stderr.splitlines()
    assert re.fullmatch(r"\d:\d\d  rnn, untrained, lengths 3, 8 \(1 of 10\)", lines[0])
    assert all(re.fullmatch(r"\d+:\d\d  .+ \(\d+ of 10\)", line) for line in lines)


def test_a_run_writes_its_files(finished):
    folder, _ = finished
    out = folder / "out"
    closer = {f"{kind}.{form}" for kind in cli.CLOSER for form in ("png", "svg")}
    assert {file.name for file in out.iterdir()} == RUN | closer
    content = json.loads((out / "gradients.json").read_text())
    kinds = ["norms", "flow", "reach", "training", *cli.CLOSER]
    assert list(content) == ["config", *kinds, "summary"]
    assert set(content["norms"][0]) == {"cell", "seed", "length", "phase", "parameter", "log_norm"}
    assert set(content["flow"][0]) == {"cell", "seed", "length", "phase", "lag", "log_norm"}
    assert set(content["reach"][0]) == REACH
    assert {"cell", "phase", "seeds", "half_life", "loss", "accuracy"} <= set(content["summary"][0])
    assert len(content["training"]) == 2 * 2  # cells, seeds
    assert len(content["flow"]) == 2 * 2 * 2 * (3 + 8)  # cells, phases, seeds, lags
    config = json.loads((out / "config.json").read_text())
    assert config == content["config"]
    assert config["data"]["python"].count(".") == 2
    assert config["settings"]["precision"] == "float64"
    assert {"versions", "device", "command"} <= set(config)
    with (out / "gradients.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(content[kind]) for kind in kinds)
    assert {(r["cell"], r["phase"]) for r in content["truncation"]} == {
        (cell, phase) for cell in ("rnn", "gru") for phase in ("untrained", "trained")
    }
    assert (out / "gradient_norms.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / "gradient_norms.svg").read_text()


def test_report_makes_a_page_of_a_run(finished, tmp_path, capsys):
    folder, _ = finished
    run = tmp_path / "run"
    shutil.copytree(folder / "out", run)
    assert cli.main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"The page is {run / 'report.html'}.\n"
    assert "Truncated gradient" in (run / "report.html").read_text(encoding="utf-8")
    assert cli.main(["report", str(tmp_path / "none")]) == 2
    assert "is not a directory; give the --out directory" in capsys.readouterr().err


def test_the_global_norm_is_that_of_all_parameters(finished):
    folder, _ = finished
    import math

    norms = json.loads((folder / "out" / "gradients.json").read_text())["norms"]
    for cell in ("rnn", "gru"):
        mine = {
            r["parameter"]: r["log_norm"]
            for r in norms
            if (r["cell"], r["seed"], r["length"], r["phase"]) == (cell, 1, 8, "trained")
        }
        total = mine.pop("all")
        assert total == pytest.approx(
            0.5 * math.log(sum(math.exp(2 * norm) for norm in mine.values())), rel=1e-5
        )


def test_json_prints_the_summary_and_nothing_else(finished, capsys):
    """A finished run is told again; null is the only missing value."""
    folder, ran = finished
    assert ran.returncode == 0, ran.stderr
    out = folder / "out"
    command = json.loads((out / "config.json").read_text())["command"]
    with contextlib.chdir(folder):
        assert cli.main([*shlex.split(command)[1:], "--resume", "--json"]) == 0
    printed = capsys.readouterr().out
    text = (out / "gradients.json").read_text()
    assert json.loads(printed) == json.loads(text)["summary"]
    assert printed.count("\n") == 1
    assert not re.search(r"NaN|Infinity", text + printed)


def contents(folder):
    """All files below a directory, with what is in them."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_other_settings_are_refused_and_nothing_is_touched(finished, capsys):
    folder, _ = finished
    before = contents(folder)
    assert cli.main(["gradients", *SMALL, "--out", str(folder / "out")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "holds a run with other settings (clip, detail, precision, train_steps)" in printed.err
    assert contents(folder) == before


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A run that takes no time, for what surrounds the measurement."""
    out = tmp_path_factory.mktemp("tiny") / "out"
    with contextlib.redirect_stdout(io.StringIO()):
        assert cli.main([*TINY, "--out", str(out)]) == 0
    return out


@pytest.mark.long
def test_the_command_again_keeps_the_finished_run_until_the_new_one_is_done(
    tiny, tmp_path, monkeypatch, capsys
):
    from rnnlab.studies import gradients

    out, measure = tmp_path / "out", gradients.measure
    shutil.copytree(tiny, out)
    before = contents(out)

    def interrupted(*given):
        yield next(measure(*given))
        raise KeyboardInterrupt

    monkeypatch.setattr(gradients, "measure", interrupted)
    command = [*TINY, "--out", str(out)]
    assert cli.main(command) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        f"rnnlab: interrupted; the results so far are in {out / 'unfinished'}; "
        f"continue with: {shlex.join(['rnnlab', *command, '--resume'])}"
    )
    after = contents(out)
    assert set(after) - set(before) == {"unfinished/config.json", "unfinished/gradients.json"}
    assert before.items() <= after.items()
    monkeypatch.undo()

    assert cli.main(command) == 2
    assert "holds an unfinished run; add --resume to go on, or remove" in capsys.readouterr().err
    assert cli.main(["report", str(out)]) == 0
    assert "note: A later run is not finished: it is in unfinished." in capsys.readouterr().err
    assert cli.main([*command, "--resume"]) == 0
    assert set(contents(out)) == RUN  # without the page, which was of the earlier run
    for name in {*FIGURES, "gradients.csv"}:
        assert (out / name).read_bytes() == before[name]  # equal settings give equal numbers
    assert cli.main([*command, "--resume"]) == 0
    assert cli.main(command) == 0
    assert set(contents(out)) == RUN


def test_resume_says_where_there_is_nothing_to_resume(tmp_path, capsys):
    assert cli.main([*TINY, "--out", str(tmp_path / "new"), "--resume"]) == 0
    assert f"{tmp_path}/new holds no results to resume; starting" in capsys.readouterr().err


def test_resume_draws_again_what_is_missing(tiny, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(tiny, out)
    (out / "gradient_norms.png").unlink()
    (out / "gradients.csv").write_text("something else")
    assert cli.main([*TINY, "--out", str(out), "--resume"]) == 0
    for name in {*FIGURES, "gradients.csv", "gradients.json"}:
        assert (out / name).read_bytes() == (tiny / name).read_bytes()


def test_report_says_what_is_missing_or_does_not_belong(tiny, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(tiny, out)
    (out / "gradient_norms.png").unlink()
    (out / "gradients.csv").write_text("of another run")
    assert cli.main(["report", str(out)]) == 0
    notes = [
        "gradient_norms.png is missing.",
        "gradients.csv does not belong to this run: its checksum differs.",
    ]
    assert capsys.readouterr().err.splitlines() == [f"note: {note}" for note in notes]
    assert " ".join(notes) in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.long
def test_an_interrupted_run_goes_on(tmp_path):
    """Ctrl-C ends a computing process at once; the rest is measured later, to the same numbers."""
    arguments = [*TINY, "--cells", "rnn", "gru", "lstm", "--lengths", "3", "8", "--out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rnnlab", *arguments, "out"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    results = tmp_path / "out" / "unfinished" / "gradients.json"
    deadline = time.monotonic() + 200
    while not results.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=200)
    assert (process.returncode, printed) == (130, ""), said
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith(
        "rnnlab: interrupted; the results so far are in out/unfinished; continue with"
    )
    partly = json.loads(results.read_text())
    assert partly["norms"]
    assert partly["missing"]
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(io.StringIO()):
        assert cli.main([*arguments, "out", "--resume"]) == 0
        assert cli.main([*arguments, "whole"]) == 0
    completed, everything = (
        json.loads((tmp_path / name / "gradients.json").read_text()) for name in ("out", "whole")
    )
    for key in ("norms", "flow", "summary"):
        assert in_order(completed[key]) == in_order(everything[key])
    assert "missing" not in completed


def in_order(records):
    return sorted(map(json.dumps, records))


def test_an_interrupt_before_anything_is_measured_is_one_line(tmp_path):
    """Also while modules are imported, where an exception could be swallowed."""
    command = [sys.executable, "-m", "rnnlab", *TINY, "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "out" / "unfinished").exists():  # JAX is imported next
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=100)
    assert (process.returncode, said) == (130, "rnnlab: interrupted\n")


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """A small run of the study of dynamics, and what it printed."""
    out = tmp_path_factory.mktemp("dynamics") / "out"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert cli.main([*DYNAMICS, "--out", str(out)]) == 0
    return out, printed.getvalue()


def test_dynamics_prints_a_table_and_a_sentence_for_each_cell(moving):
    _, printed = moving
    assert "Dynamics of the state" in printed
    for name in ("rnn", "gru"):
        assert f"\n{name}: nearby trajectories" in printed
    assert "\x1b" not in printed


def test_dynamics_writes_its_files(moving):
    out, _ = moving
    assert {file.name for file in out.iterdir()} == {
        "config.json", "dynamics.json", "dynamics.csv", "spectrum.png", "spectrum.svg",
        "portrait.png", "portrait.svg", "phase.png", "phase.svg", "SHA256SUMS",
    }  # fmt: skip
    content = json.loads((out / "dynamics.json").read_text())
    assert list(content) == ["config", *KEYS]
    assert content["config"] == json.loads((out / "config.json").read_text())
    for kind, keys in KEYS.items():
        assert content[kind]
        assert all(set(record) == keys for record in content[kind])
    assert len(content["spectrum"]) == 2 * 2 * 4
    assert len(content["phase"]) == 2 * 3 * 3
    known = {"point", "oscillation", "chaos", "unsettled"}
    assert all(set(record["attractor"].split(" or ")) <= known for record in content["summary"])
    with (out / "dynamics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["record"] for row in rows] == [kind for kind in [*KEYS][:-1] for _ in content[kind]]
    assert rows[0]["exponent"] == str(content["spectrum"][0]["exponent"])


@pytest.mark.long
def test_interrupted_dynamics_keeps_what_was_finished_and_goes_on(
    moving, tmp_path, monkeypatch, capsys
):
    from rnnlab.studies import dynamics

    out, measure = tmp_path / "out", dynamics.measure

    def interrupted(*given):
        for number, measured in enumerate(measure(*given)):
            if number == 2:
                raise KeyboardInterrupt
            yield measured

    monkeypatch.setattr(dynamics, "measure", interrupted)
    assert cli.main([*DYNAMICS, "--out", str(out)]) == 130
    assert "--resume" in capsys.readouterr().err
    partly = json.loads((out / "unfinished" / "dynamics.json").read_text())
    assert {record["cell"] for record in partly["trajectories"]} == {"rnn"}
    assert not partly["phase"]
    monkeypatch.undo()
    assert cli.main([*DYNAMICS, "--out", str(out)]) == 2
    assert "add --resume" in capsys.readouterr().err
    assert cli.main([*DYNAMICS, "--out", str(out), "--resume", "--json"]) == 0
    completed, whole = (
        json.loads((folder / "dynamics.json").read_text()) for folder in (out, moving[0])
    )
    assert {key: completed[key] for key in KEYS} == {key: whole[key] for key in KEYS}
    assert json.loads(capsys.readouterr().out) == whole["summary"]


def test_a_run_of_another_study_is_refused(moving, capsys):
    assert cli.main(["gradients", *SMALL, "--out", str(moving[0])]) == 2
    assert "holds a run of another study" in capsys.readouterr().err
    assert cli.main([*DYNAMICS, "--gain", "2", "--out", str(moving[0])]) == 2
    assert "holds a run with other settings (gain); choose another --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        (TINY, ["--cells", "nonsense"], "'nonsense' is unknown"),
        (TINY, ["--cells"], "cells is empty"),
        (TINY, ["--cells", "rnn", "rnn"], "cells names 'rnn' twice"),
        (TINY, ["--lengths", "-3"], "a length is -3"),
        (TINY, ["--lengths", "5", "5"], "lengths names 5 twice"),
        (TINY, ["--hidden-size", "0"], "hidden_size is 0"),
        (TINY, ["--clip", "nan"], "clip is nan"),
        (TINY, ["--alphabet", "1"], "alphabet is 1"),
        (TINY, ["--data", ""], "--data is empty; give"),
        (TINY, ["--data", "missing.txt"], "missing.txt cannot be read"),
        (TINY, ["--data", "."], "cannot be read (Is a directory)"),
        (TINY, ["--data", "x" * 300], "cannot be read (File name too long)"),
        (TINY, ["--data", "empty.txt"], "empty.txt is empty"),
        (TINY, ["--data", "latin.txt"], "latin.txt is not UTF-8"),
        (TINY, ["--data", "short.txt"], "short.txt has 5 characters"),
        (TINY, ["--data", "same.txt"], "holds only one character"),
        (TINY, ["--out", ""], "--out is empty; give"),
        (TINY, ["--out", "empty.txt"], "empty.txt cannot be written (Not a directory)"),
        (TINY, ["--out", "empty.txt/deeper"], "cannot be written (Not a directory)"),
        (TINY, ["--out", "x" * 300], "cannot be written (File name too long)"),
        (TINY, ["--out", "/dev/null"], "cannot be written (Not a directory)"),
        (TINY, ["--out", "."], "holds files that do not belong to a run"),
        (TINY, ["--out", "project"], "holds files that do not belong to a run"),
        (TINY, ["--data", "[/b]\n:smile:"], "rnnlab: [/b]\\n:smile: cannot be read"),
        (DYNAMICS, ["--cells", "nonsense"], "'nonsense' is unknown"),
        (DYNAMICS, ["--exponents", "0"], "exponents is 0"),
        (DYNAMICS, ["--exponents", "5"], "the state of rnn has 4 numbers"),
        (DYNAMICS, ["--grid", "1"], "grid is 1"),
        (DYNAMICS, ["--gain", "-1"], "gain is -1.0"),
        (DYNAMICS, ["--data", "short.txt"], "short.txt has 5 characters"),
        (DYNAMICS, ["--out", "short.txt"], "cannot be written"),
        (["report"], [""], "DIR is empty; give"),
        (["report"], ["missing"], "missing is not a directory"),
        (["report"], ["empty.txt"], "empty.txt is not a directory"),
        (["report"], ["x" * 300], "x is not a directory"),
        (["report"], ["project"], "project holds no run"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(
    tmp_path, monkeypatch, capsys, command, arguments, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin.txt").write_bytes("déjà vu".encode("latin-1") * 1000)
    (tmp_path / "short.txt").write_text("a bcd")
    (tmp_path / "same.txt").write_text("a" * 100)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "config.json").write_text('{"name": "of another program"}')
    before = contents(tmp_path), set(tmp_path.rglob("*"))
    assert cli.main([*command, *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in printed.err
    assert printed.err.count("\n") == 1
    assert (contents(tmp_path), set(tmp_path.rglob("*"))) == before


@pytest.mark.long
def test_changed_data_and_damaged_results_are_refused(tmp_path, capsys):
    text, out = tmp_path / "text.txt", tmp_path / "out"
    text.write_text("to be or not to be, that is the question\n" * 5)
    command = [*TINY, "--data", str(text), "--out", str(out)]
    assert cli.main(command) == 0
    results = (out / "gradients.json").read_bytes()
    text.write_text("whether 'tis nobler in the mind to suffer\n" * 5)
    for extra in ([], ["--resume"]):
        assert cli.main([*command, *extra]) == 2
        assert "holds a run on other data" in capsys.readouterr().err
    assert (out / "gradients.json").read_bytes() == results
    text.write_text("to be or not to be, that is the question\n" * 5)
    (out / "gradients.json").write_bytes(results[:1000])
    assert cli.main([*command, "--resume"]) == 2
    assert "is damaged" in capsys.readouterr().err
    assert (out / "gradients.json").read_bytes() == results[:1000]
    assert cli.main(command) == 0
    assert json.loads((out / "gradients.json").read_text())["norms"] == json.loads(results)["norms"]


def test_a_full_disk_is_one_sentence_and_exit_code_1(tmp_path, monkeypatch, capsys):
    from rnnlab.studies import records

    def full(path, *_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(records, "write_csv", full)
    assert cli.main([*TINY, "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-1].endswith("gradients.csv: No space left on device")
    monkeypatch.undo()
    assert cli.main([*TINY, "--out", str(tmp_path / "out"), "--resume"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["gradients", "--seeds", "many"],
        ["gradients", "--hidden-size", "1e3"],
        ["gradients", "--nonsense"],
        ["gradients", "--out"],
        ["gradients", "--resume", "yes"],
        ["dynamics", "--drive", "both"],
        ["report"],
        ["nonsense"],
    ],
)
def test_what_cannot_be_parsed_is_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["gradients", "--help"], 0),
        (["dynamics", "--out", "/dev/null/deeper"], 2),
        (["dynamics", "--data", "missing.txt"], 2),
    ],
)
def test_help_and_refusals_come_without_jax(arguments, code):
    script = """
import sys, rnnlab.cli
try:
    code = rnnlab.cli.main(sys.argv[1:])
except SystemExit as left:
    code = left.code
print(code, *{"jax", "matplotlib"} & set(sys.modules))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-1] == str(code)


@pytest.mark.parametrize("columns", [1, 20, 80])
def test_help_can_be_read_at_any_width(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        cli.main(["gradients", "--help"])
    words = capsys.readouterr().out.split()
    assert {"hidden", "units", "--hidden-size"} <= set(words)
    assert os.environ["COLUMNS"] == str(columns)


def test_help_tells_of_the_cache(capsys):
    with pytest.raises(SystemExit):
        cli.main(["dynamics", "--help"])
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("--no-cache", "XDG_CACHE_HOME"))


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
    ],
)
def test_a_terminal_that_knows_only_ascii_gets_something_readable(tiny, environment):
    ran = rnnlab(*TINY, "--out", tiny, "--resume", env=environment)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.isascii()
    assert "ln|dL/dtheta|" in ran.stdout
    wrong = rnnlab("gradients", "--cells", "λ", env=environment)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("rnnlab: cell")


def test_names_of_directories_are_printed_as_they_are(tiny, tmp_path, capsys):
    """Neither as markup nor as codes for emoji; what would break the line is escaped."""
    for name, shown in (("a[b]c", "a[b]c"), ("a[/b] :smile:", "a[/b] :smile:"), ("a\nb", "a\\nb")):
        out = tmp_path / name
        shutil.copytree(tiny, out)
        assert cli.main([*TINY, "--out", str(out), "--resume"]) == 0
        assert f"The figure is {tmp_path / shown}/gradient_norms.png" in capsys.readouterr().out
        assert cli.main(["report", str(out)]) == 0
        assert capsys.readouterr().out == f"The page is {tmp_path / shown}/report.html.\n"


@pytest.mark.combinations
@pytest.mark.parametrize(
    ("redirected", "code", "said"),
    [
        ("| true", 0, ""),
        (">&-", 0, ""),
        (">&- 2>&-", 0, ""),
        (">/dev/full", 1, "rnnlab: standard output: No space left on device\n"),
        ("2>/dev/full", 0, ""),
    ],
)
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["report", "."]])
def test_a_closed_output_is_no_fault_of_the_run(tiny, tmp_path, redirected, code, said, arguments):
    shutil.copytree(tiny, tmp_path, dirs_exist_ok=True)
    script = f'set -o pipefail; "{sys.executable}" -m rnnlab "$@" {redirected}'
    ran = subprocess.run(
        ["bash", "-c", script, "bash", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
    )
    assert (ran.returncode, ran.stderr) == (code, said)
    assert ("report" in arguments) == (tmp_path / "report.html").exists()


def test_a_study_without_output_writes_its_files(tmp_path):
    """What is opened next must not take the place of a closed standard output or error."""
    script = f'"{sys.executable}" -m rnnlab "$@" >&- 2>&-'
    ran = subprocess.run(
        ["bash", "-c", script, "bash", *TINY, "--out", str(tmp_path / "out")], check=False
    )
    assert ran.returncode == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == RUN
    assert store.faults(tmp_path / "out") == []
