"""The command line as its users meet it: most of it in processes of its own."""

import contextlib
import csv
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from rnnlab import cli

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
GRADIENTS = ["gradients", *SMALL]
DYNAMICS = [
    "dynamics", "--cells", "rnn", "gru", "--hidden-size", "4", "--batch-size", "2", "--seeds", "2", "--data", "noise",
    "--steps", "20", "--burn-in", "5", "--warm-up", "5", "--starts", "4", "--grid", "3", "--longest", "8",
]  # fmt: skip
KEYS = {
    "spectrum": {"cell", "seed", "index", "exponent", "theory"},
    "trace": {"cell", "seed", "step", "exponent"},
    "fixed_points": {"cell", "seed", "number", "kind", "unstable", "q", "slowest", "pc1", "pc2"},
    "trajectories": {"cell", "seed", "example", "step", "pc1", "pc2"},
    "attractors": {"cell", "seed", "number", "kind", "period", "exponent"},
    "phase": {"cell", "axis", "value", "length", "horizon", "decay_per_step", "exponent"},
    "summary": {
        "cell", "exponent", "spread", "kaplan_yorke", "entropy_rate", "attractor", "stable", "marginal", "saddle",
        "unstable", "slow", "sentence",
    },
}  # fmt: skip
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}


def rnnlab(*arguments, cwd):
    command = [sys.executable, "-m", "rnnlab", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run on real text, in float64, with training and a closer look."""
    folder = tmp_path_factory.mktemp("run")
    ran = rnnlab(
        *(
            "gradients",
            *SMALL,
            "--train-steps",
            3,
            "--clip",
            1,
            "--precision",
            "float64",
            "--detail",
            "--out",
            "out",
        ),
        cwd=folder,
    )
    return folder, ran


def test_a_run_prints_a_table_and_a_sentence_for_each_cell(finished):
    _, ran = finished
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""  # no progress where there is no terminal
    for name in ("rnn (untrained)", "rnn (trained)", "gru (untrained)", "gru (trained)"):
        assert f"{name}: the gradient" in ran.stdout
    assert "\x1b" not in ran.stdout


def test_a_run_writes_its_files(finished):
    folder, _ = finished
    out = folder / "out"
    assert {file.name for file in out.iterdir()} == {
        "config.json", "gradients.csv", "gradients.json", "gradient_norms.png", "gradient_norms.svg",
        *(f"{kind}.{form}" for kind in cli.CLOSER for form in ("png", "svg")),
    }  # fmt: skip
    content = json.loads((out / "gradients.json").read_text())
    assert list(content) == ["config", "norms", "flow", *cli.CLOSER, "summary"]
    assert set(content["norms"][0]) == {"cell", "seed", "length", "phase", "parameter", "log_norm"}
    assert set(content["flow"][0]) == {"cell", "seed", "length", "phase", "lag", "log_norm"}
    assert {"cell", "phase", "decay_per_step", "half_life", "horizon"} <= set(content["summary"][0])
    assert len(content["flow"]) == 2 * 2 * 2 * (3 + 8)  # cells, phases, seeds, lags
    config = json.loads((out / "config.json").read_text())
    assert config == content["config"]
    assert config["data"]["python"].count(".") == 2
    assert config["settings"]["precision"] == "float64"
    assert {"versions", "device", "command"} <= set(config)
    with (out / "gradients.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(content[kind]) for kind in ("norms", "flow", *cli.CLOSER))
    assert {(r["cell"], r["phase"]) for r in content["truncation"]} == {
        (cell, phase) for cell in ("rnn", "gru") for phase in ("before", "after")
    }
    assert (out / "gradient_norms.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / "gradient_norms.svg").read_text()


def test_report_makes_a_page_of_a_run(finished, tmp_path, capsys):
    folder, _ = finished
    run = tmp_path / "run"
    shutil.copytree(folder / "out", run)
    assert cli.main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"The page is {run / 'report.html'}.\n"
    assert "What truncation loses" in (run / "report.html").read_text(encoding="utf-8")
    assert cli.main(["report", str(tmp_path / "none")]) == 2
    assert "is no directory; give the --out directory" in capsys.readouterr().err


def test_the_global_norm_is_that_of_all_parameters(finished):
    folder, _ = finished
    import math

    norms = json.loads((folder / "out" / "gradients.json").read_text())["norms"]
    for cell in ("rnn", "gru"):
        mine = {
            r["parameter"]: r["log_norm"]
            for r in norms
            if (r["cell"], r["seed"], r["length"], r["phase"]) == (cell, 1, 8, "after")
        }
        total = mine.pop("all")
        assert total == pytest.approx(
            0.5 * math.log(sum(math.exp(2 * norm) for norm in mine.values())), rel=1e-5
        )


def test_json_prints_the_summary_and_nothing_else(finished):
    folder, _ = finished
    again = rnnlab(
        "gradients", *SMALL, "--train-steps", 3, "--clip", 1, "--precision", "float64", "--detail", "--out", "out",
        "--resume", "--json", cwd=folder,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert (
        json.loads(again.stdout)
        == json.loads((folder / "out" / "gradients.json").read_text())["summary"]
    )
    assert again.stdout.count("\n") == 1


def test_other_settings_are_refused_and_nothing_is_touched(finished):
    folder, _ = finished
    before = {file.name: file.read_bytes() for file in (folder / "out").iterdir()}
    ran = rnnlab("gradients", *SMALL, "--out", "out", cwd=folder)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1
    assert "another" in ran.stderr
    assert before == {file.name: file.read_bytes() for file in (folder / "out").iterdir()}


def test_an_interrupted_run_is_readable_and_goes_on(tmp_path):
    arguments = [
        "gradients",
        *SMALL,
        "--lengths",
        "3",
        "8",
        "5000",
        "--data",
        "noise",
        "--out",
        "out",
    ]
    whole = rnnlab(*arguments[:-1], "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    process = subprocess.Popen(
        [sys.executable, "-m", "rnnlab", *arguments],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    results = tmp_path / "out" / "gradients.json"
    deadline = time.monotonic() + 200
    while not results.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 130, said
    assert "--resume" in said
    assert "Traceback" not in said
    partly = json.loads(results.read_text())
    everything = json.loads((tmp_path / "whole" / "gradients.json").read_text())
    assert 0 < len(partly["norms"]) < len(everything["norms"])

    without = rnnlab(*arguments, cwd=tmp_path)
    assert without.returncode == 2
    assert "add --resume" in without.stderr
    assert rnnlab(*arguments, "--resume", cwd=tmp_path).returncode == 0
    completed = json.loads(results.read_text())
    order = lambda records: sorted(map(json.dumps, records))  # noqa: E731
    for key in ("norms", "flow", "summary"):
        assert order(completed[key]) == order(everything[key])


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """A small run of the study of dynamics, and what it printed."""
    out = tmp_path_factory.mktemp("dynamics") / "out"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert cli.main([*DYNAMICS, "--out", str(out)]) == 0
    return out, printed.getvalue()


def test_dynamics_prints_a_table_and_a_sentence_for_each_cell(moving):
    _, printed = moving
    assert "What the states do" in printed
    for name in ("rnn", "gru"):
        assert f"\n{name}: neighbouring states" in printed
    assert "\x1b" not in printed


def test_dynamics_writes_its_files(moving):
    out, printed = moving
    assert {file.name for file in out.iterdir()} == {
        "config.json", "dynamics.json", "dynamics.csv", "spectrum.png", "spectrum.svg", "portrait.png", "portrait.svg",
        "phase.png", "phase.svg",
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
    assert all(record["sentence"] in printed for record in content["summary"])
    with (out / "dynamics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["record"] for row in rows] == [kind for kind in [*KEYS][:-1] for _ in content[kind]]
    assert rows[0]["exponent"] == str(content["spectrum"][0]["exponent"])


def test_interrupted_dynamics_keeps_what_was_finished_and_goes_on(
    moving, tmp_path, monkeypatch, capsys
):
    from rnnlab import dynamics

    out, measure = tmp_path / "out", dynamics.measure

    def interrupted(*given):
        for number, measured in enumerate(measure(*given)):
            if number == 2:
                raise KeyboardInterrupt
            yield measured

    monkeypatch.setattr(dynamics, "measure", interrupted)
    assert cli.main([*DYNAMICS, "--out", str(out)]) == 130
    assert "--resume" in capsys.readouterr().err
    partly = json.loads((out / "dynamics.json").read_text())
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
    assert "holds a run with another gain; choose another --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        (GRADIENTS, ["--cells", "nonsense"], "'nonsense' is unknown"),
        (GRADIENTS, ["--lengths", "-3"], "a length is -3"),
        (GRADIENTS, ["--hidden-size", "0"], "hidden_size is 0"),
        (GRADIENTS, ["--clip", "-1"], "clip is -1.0"),
        (GRADIENTS, ["--data", "missing.txt"], "missing.txt cannot be read"),
        (GRADIENTS, ["--data", "empty.txt"], "empty.txt is empty"),
        (GRADIENTS, ["--data", "latin.txt"], "latin.txt is not UTF-8"),
        (GRADIENTS, ["--data", "short.txt"], "short.txt has 5 characters"),
        (GRADIENTS, ["--out", "empty.txt"], "cannot be written"),
        (GRADIENTS, ["--out", "empty.txt/deeper"], "cannot be written"),
        (GRADIENTS, ["--out", "."], "holds files that are no run"),
        (DYNAMICS, ["--cells", "nonsense"], "'nonsense' is unknown"),
        (DYNAMICS, ["--exponents", "0"], "exponents is 0"),
        (DYNAMICS, ["--exponents", "5"], "the state of rnn has 4 numbers"),
        (DYNAMICS, ["--grid", "1"], "grid is 1"),
        (DYNAMICS, ["--gain", "-1"], "gain is -1.0"),
        (DYNAMICS, ["--data", "short.txt"], "short.txt has 5 characters"),
        (DYNAMICS, ["--out", "short.txt"], "cannot be written"),
        (DYNAMICS, ["--out", "."], "holds files that are no run"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(
    tmp_path, monkeypatch, capsys, command, arguments, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin.txt").write_bytes("déjà vu".encode("latin-1") * 1000)
    (tmp_path / "short.txt").write_text("a bcd")
    assert cli.main([*command, *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in printed.err
    assert printed.err.count("\n") == 1


def test_changed_data_and_damaged_results_are_refused(tmp_path, capsys):
    text, out = tmp_path / "text.txt", tmp_path / "out"
    text.write_text("to be or not to be, that is the question\n" * 5)
    arguments = [
        "gradients",
        *SMALL,
        "--cells",
        "rnn",
        "--lengths",
        "3",
        "--data",
        str(text),
        "--out",
        str(out),
    ]
    assert cli.main(arguments) == 0
    results = (out / "gradients.json").read_bytes()
    text.write_text("whether 'tis nobler in the mind to suffer\n" * 5)
    for extra in ([], ["--resume"]):
        assert cli.main([*arguments, *extra]) == 2
        assert "holds a run on other data" in capsys.readouterr().err
    assert (out / "gradients.json").read_bytes() == results
    (out / "gradients.json").write_bytes(results[:1000])
    assert cli.main([*arguments, "--resume"]) == 2
    assert "is damaged" in capsys.readouterr().err
    assert (out / "gradients.json").read_bytes() == results[:1000]


def test_a_full_disk_is_one_sentence_and_exit_code_1(tmp_path, monkeypatch, capsys):
    def full(path, _):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("rnnlab.report.records.write_json", full)
    assert cli.main(["gradients", *SMALL, "--data", "noise", "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "No space left on device" in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["gradients", "--seeds", "many"],
        ["gradients", "--nonsense"],
        ["dynamics", "--drive", "both"],
        ["nonsense"],
    ],
)
def test_what_cannot_be_parsed_is_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().out == ""


def test_help_and_version_answer_without_jax(tmp_path):
    code = """
import sys, rnnlab.cli
try:
    rnnlab.cli.main(sys.argv[1:])
finally:
    print("jax" in sys.modules, "matplotlib" in sys.modules)
"""
    for argument in ("--help", "--version"):
        ran = subprocess.run(
            [sys.executable, "-c", code, argument],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=True,
        )
        assert ran.stdout.splitlines()[-1] == "False False"
    for command in ("gradients", "dynamics"):
        assert rnnlab(command, "--help", cwd=tmp_path).returncode == 0
