"""A few faults of each kind: nothing is lost silently, restored wrongly or told unclearly.

``python -m tests.faults`` injects thousands.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.__main__ import kinds, tried
from tests.faults.table import Count, is_sentence, show

PROCESSES = "killed commands"
"""Processes that take seconds to start: those are left to the long form."""


@pytest.mark.parametrize("kind", [name for name in kinds() if name != PROCESSES])
def test_no_fault_is_lost_restored_wrongly_or_unclear(kind):
    counts = tried(kind, short=True)
    assert not any(count.faults for count in counts), show(counts)
    untried = [count.remark for count in counts if count.remark.startswith("not tried")]
    if untried:
        pytest.skip(untried[0])
    assert all(count.injected for count in counts), show(counts)


@pytest.mark.parametrize("kind", ["kills", pytest.param(PROCESSES, marks=pytest.mark.long)])
def test_a_killed_run_goes_on_as_if_it_had_not_been(kind):
    """In a process of its own: one that has computed with JAX cannot fork."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--short", "--only", kind],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
        env=environment,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "total" in ran.stdout


def test_the_table_counts_what_should_not_be():
    count = Count("a kind of fault")
    count.add("recovered")
    count.add("wrong_restores", "step 3")
    count.add_error(ValueError("not told; as a user is told"))
    count.add_told(True, "one is wrong; give two", "wrong")
    assert (count.injected, count.refused, count.faults) == (4, 1, 2)
    lines = show([count, count]).splitlines()
    assert lines[3].split() == ["total", "8", "2", "2", "0", "0", "2", "2"]
    assert "wrong_restores: step 3" in lines[4]


@pytest.mark.parametrize("text", ["a\nb; c", "It is wrong. Give two; or three", "wrong.", "", "x"])
def test_what_is_not_one_sentence(text):
    assert not is_sentence(text)
