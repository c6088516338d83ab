"""What is printed: on terminals of every width and encoding, and where there is none."""

import errno
import io
import os
import sys

import pytest
from rich.console import Console
from rich.table import Table

from rnnlab import terminal


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", 'lambda1 = -3, |dL/dtheta| x 2 +-1 - "e" | - + ? ?'),
        ("latin-1", 'lambda1 = -3, |dL/dtheta| × 2 ±1 - "é" | - + ? ?'),
        ("utf-8", "λ₁ = −3, ‖∂L/∂θ‖ × 2 ±1 – “é” │ ─ ┏ \N{GRINNING FACE} ?"),
    ],
)
def test_every_encoding_gets_something_readable(encoding, shown):
    text = "λ₁ = −3, ‖∂L/∂θ‖ × 2 ±1 – “é” │ ─ ┏ \N{GRINNING FACE} \udcff"
    assert text.encode(encoding, "rnnlab").decode(encoding) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [b]text[/b] :smile: é \N{GRINNING FACE}",) * 2,
        ("a\nb\r\x1b[2Jc\t\udcff\u200b", "a\\nb\\r\\x1b[2Jc\\t\\udcff\\u200b"),
    ],
)
def test_what_a_terminal_would_act_on_is_escaped(text, shown):
    assert terminal.printable(text) == shown


def table():
    grid = Table(title="What was [found]")
    grid.add_column("cell")
    grid.add_column("decay\nnats/step", justify="right")
    grid.add_column("ln‖∂L/∂θ‖\nT = 10", justify="right")
    grid.add_row("rnn [bold]", "0.25", "−3.5")
    grid.add_row("lstm", "–", "1.25")
    return grid


def shown(width, encoding="utf-8"):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding, errors="rnnlab", write_through=True)
    out = Console(file=file, width=width, markup=False, emoji=False, highlight=False)
    terminal.show(out, table())
    return raw.getvalue().decode(encoding)


def test_a_table_that_fits_is_a_table():
    lines = shown(80).splitlines()
    assert [line.split() for line in lines if "rnn" in line] == [
        ["│", "rnn", "[bold]", "│", "0.25", "│", "−3.5", "│"]
    ]


@pytest.mark.parametrize("width", [1, 12, 20, 30])
def test_a_table_that_does_not_fit_is_a_list(width):
    text = shown(width)
    assert all(len(line) <= max(width, 1) for line in text.splitlines())
    words = "".join(text.split())
    told = ["What was [found]", "rnn [bold]", "decay, nats/step: 0.25", "ln‖∂L/∂θ‖, T = 10: −3.5"]
    told += ["lstm", "decay, nats/step: –", "ln‖∂L/∂θ‖, T = 10: 1.25"]
    assert words == "".join("".join(told).split())


@pytest.mark.parametrize("width", [20, 80])
def test_columns_stay_straight_in_ascii(width):
    text = shown(width, "ascii")
    assert "ln|dL/dtheta|" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) <= 1


def test_progress_is_a_line_now_and_then(capsys):
    """At the start, every five seconds, and in ten hours not more than a page or two."""
    time = 0
    log = terminal.Log(2, 10, lambda: time)
    for second in range(36_000):
        time = second
        if second == 7:
            log.advance()
        log.say(f"second {second}")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [
        "0:00  second 0 (3 of 10)",
        "0:05  second 5 (3 of 10)",
        "0:10  second 10 (4 of 10)",
    ]
    assert 100 < len(lines) < 200


def test_progress_on_a_terminal_is_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with terminal.progress(0, 2) as (say, advance):
        say("[b]rnn")
        advance()
    shown = capsys.readouterr().err
    assert "[b]rnn" in shown
    assert "1/2" in shown


class Broken(io.StringIO):
    """A stream that cannot be written."""

    def __init__(self, code):
        super().__init__()
        self.code = code

    def write(self, text):
        raise OSError(self.code, os.strerror(self.code))


def test_nobody_needs_to_read_notes(monkeypatch):
    for stream in (Broken(errno.EPIPE), Broken(errno.ENOSPC), None):
        monkeypatch.setattr(sys, "stderr", stream)
        terminal.note("a note")


def test_a_reader_may_stop_but_a_full_disk_is_told(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken(errno.EPIPE))
    with terminal.printing():
        print("text")
    monkeypatch.setattr(sys, "stdout", Broken(errno.ENOSPC))
    with (
        pytest.raises(OSError, match="No space left on device: 'standard output'"),
        terminal.printing(),
    ):
        print("text")
