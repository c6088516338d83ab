"""The experiments: each runs in its quick form, and the READMEs hold the saved results."""

import importlib
import json
import operator
import re
import sys
from pathlib import Path

import pytest

import rnnlab
from experiments import common

NAMES = sorted(path.parent.name for path in common.HERE.glob("*/run.py"))
RUN = [folder.name for folder in common.folders()]
"""Those that were run in full."""


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_quick_run_has_a_finding(name, tmp_path, monkeypatch, capsys):
    if name == "classification":
        pytest.importorskip("aeon")
    module = importlib.import_module(f"experiments.{name}.run")
    arguments = [f"{name}/run.py", "--quick", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", arguments)
    module.main()
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert result["quick"] is True
    assert capsys.readouterr().out.splitlines()[-1] == result["finding"]


@pytest.mark.parametrize("name", RUN)
def test_an_experiment_has_its_files_and_a_full_run(name):
    folder = common.HERE / name
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert result["quick"] is False
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert f"-m experiments.{name}.run" in text
    assert text == common.with_results(folder / "README.md", common.answer(folder))


def test_the_table_is_that_of_the_results():
    path = common.HERE / "README.md"
    assert path.read_text(encoding="utf-8") == common.with_results(path, common.table())


def test_what_the_readme_points_to_exists():
    text = (common.HERE / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"\]\(([^)#]+)", text))
    assert len(targets) > len(RUN)
    assert [target for target in sorted(targets) if not (common.HERE / target).exists()] == []
    parts = "text|embeddings|data|models|tasks|theory|training"
    names = re.findall(rf"`(?:rnnlab\.)?((?:{parts})\.[\w.]+)`", text)
    assert len(names) > 50
    for name in names:
        operator.attrgetter(name)(rnnlab)


def test_the_table_has_the_first_sentence_of_a_finding():
    text = "It rests up to g = 1.2 (e.g. at 1). Chaos begins at 2. No more."
    assert common.first_sentence(text) == "It rests up to g = 1.2 (e.g. at 1)."


def test_a_quick_run_writes_nothing_unless_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "--quick"])
    file = tmp_path / "run.py"
    common.experiment(str(file), None, lambda quick: {"finding": f"quick: {quick}"})
    assert capsys.readouterr().out == "quick: True\n"
    assert not list(Path(tmp_path).iterdir())
