"""The experiment with a character model: its small run, killed and resumed, ends as the whole."""

import pytest

from experiments.characters import run as experiment

pytestmark = pytest.mark.long


def test_a_quick_run_is_resumed_to_the_same_bits(capsys):
    result = experiment.run(quick=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("LSTM: ")
    assert [line.split(":")[0] for line in lines[1:3]] == ["1-gram", "3-gram"]
    assert lines[3].endswith("same metrics: True, same parameters: True")
    assert result["finding"].endswith("resumed ends with the same bits.")
    assert result["texts"]["greedy"].startswith("def read_config(path")
