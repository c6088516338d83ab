"""The experiment with a character model: its small run, killed and resumed, ends as the whole."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

PATH = Path(__file__).parents[1] / "experiments" / "characters.py"


def test_a_quick_run_is_resumed_to_the_same_bits(tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, str(PATH), "--quick", "--out", str(out)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = ran.stdout.splitlines()
    assert lines[0].startswith("LSTM: ")
    assert [line.split(":")[0] for line in lines[1:3]] == ["1-gram", "3-gram"]
    assert lines[3].endswith("same metrics: True, same parameters: True")
    assert "\ndef read_config(path" in ran.stdout
    assert not out.exists()
