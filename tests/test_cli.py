"""The command line as its users meet it: most of it in processes of its own."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from rnnlab import cli

SMALL = ["--cells", "rnn", "gru", "--lengths", "3", "8", "--hidden-size", "6", "--batch-size", "4", "--seeds", "2"]
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}


def rnnlab(*arguments, cwd):
    command = [sys.executable, "-m", "rnnlab", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run on real text, in float64, with training."""
    folder = tmp_path_factory.mktemp("run")
    ran = rnnlab(
        "gradients", *SMALL, "--train-steps", 3, "--clip", 1, "--precision", "float64", "--out", "out", cwd=folder
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
    }  # fmt: skip
    content = json.loads((out / "gradients.json").read_text())
    assert list(content) == ["config", "norms", "flow", "summary"]
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
    assert len(rows) == len(content["norms"]) + len(content["flow"])
    assert (out / "gradient_norms.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / "gradient_norms.svg").read_text()


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
        assert total == pytest.approx(0.5 * math.log(sum(math.exp(2 * norm) for norm in mine.values())), rel=1e-5)


def test_json_prints_the_summary_and_nothing_else(finished):
    folder, _ = finished
    again = rnnlab(
        "gradients", *SMALL, "--train-steps", 3, "--clip", 1, "--precision", "float64", "--out", "out", "--resume",
        "--json", cwd=folder,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == json.loads((folder / "out" / "gradients.json").read_text())["summary"]
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
    arguments = ["gradients", *SMALL, "--lengths", "3", "8", "5000", "--data", "noise", "--out", "out"]
    whole = rnnlab(*arguments[:-1], "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    process = subprocess.Popen(
        [sys.executable, "-m", "rnnlab", *arguments], cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cells", "nonsense"], "'nonsense' is unknown"),
        (["--lengths", "-3"], "a length is -3"),
        (["--hidden-size", "0"], "hidden_size is 0"),
        (["--clip", "-1"], "clip is -1.0"),
        (["--data", "missing.txt"], "missing.txt cannot be read"),
        (["--data", "empty.txt"], "empty.txt is empty"),
        (["--data", "latin.txt"], "latin.txt is not UTF-8"),
        (["--data", "short.txt"], "short.txt has 5 characters"),
        (["--out", "empty.txt"], "cannot be written"),
        (["--out", "empty.txt/deeper"], "cannot be written"),
        (["--out", "."], "holds files that are no run"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin.txt").write_bytes("déjà vu".encode("latin-1") * 1000)
    (tmp_path / "short.txt").write_text("a bcd")
    assert cli.main(["gradients", *SMALL, *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in printed.err
    assert printed.err.count("\n") == 1


def test_changed_data_and_damaged_results_are_refused(tmp_path, capsys):
    text, out = tmp_path / "text.txt", tmp_path / "out"
    text.write_text("to be or not to be, that is the question\n" * 5)
    arguments = ["gradients", *SMALL, "--cells", "rnn", "--lengths", "3", "--data", str(text), "--out", str(out)]
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


@pytest.mark.parametrize("arguments", [["gradients", "--seeds", "many"], ["gradients", "--nonsense"], ["nonsense"]])
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
            [sys.executable, "-c", code, argument], capture_output=True, text=True, cwd=tmp_path, check=True
        )
        assert ran.stdout.splitlines()[-1] == "False False"
    assert rnnlab("gradients", "--help", cwd=tmp_path).returncode == 0
