"""The terminal: streams that are closed or cannot encode, Ctrl-C, progress, and tables that fit."""

import codecs
import contextlib
import io
import os
import shutil
import signal
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

INTERRUPTED = 130
"""The exit code of a process that SIGINT ended, as shells give it: 128 + 2."""

WIDTH = 120
"""Columns where standard output is no terminal."""

HELP = 40
"""The fewest columns in which help is readable."""

QUIET = 5.0
"""Seconds between two lines of progress, at first; later a twentieth of the time that has passed."""

ASCII = {
    "−": "-", "–": "-", "—": "-", "‖": "|", "∂": "d", "λ": "lambda", "θ": "theta", "Ω": "Omega", "×": "x", "±": "+-",
    "·": "*", "•": "*", "“": '"', "”": '"', "‘": "'", "’": "'", "│": "|", "┃": "|", "─": "-", "━": "-", "═": "=",
}  # fmt: skip
"""Replacements in encodings that lack these characters. Other letters lose their accents; the rest becomes "?"."""


def prepare_streams() -> None:
    """Makes standard output and error usable whatever they are: closed, or unable to encode what is printed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # Otherwise the next file that is opened gets this number, and what C code logs goes into it.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="rnnlab")


def _spelled(fault: UnicodeError) -> tuple[str, int]:
    """An error handler of ``codecs``: the characters that cannot be encoded, in ASCII."""
    if not isinstance(fault, UnicodeEncodeError):
        raise fault
    return "".join(map(_in_ascii, fault.object[fault.start : fault.end])), fault.end


codecs.register_error("rnnlab", _spelled)


def _in_ascii(character: str) -> str:
    if character in ASCII:
        return ASCII[character]
    if "BOX DRAWINGS" in unicodedata.name(character, ""):
        return "+"
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore")
    return plain.decode() or "?"


def printable(text: str) -> str:
    """``text`` with escapes for line breaks and whatever else a terminal would act on, as names of files may hold."""
    shown = [c if c.isprintable() else c.encode("unicode_escape").decode() for c in text]
    return "".join(shown)


def note(text: str) -> None:
    """Prints a line on standard error; a standard error that is closed or full is ignored."""
    with contextlib.suppress(OSError, ValueError):
        print(printable(text), file=sys.stderr, flush=True)


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Flushes standard output at the end of the block; an OSError names standard output as its file.

    A closed pipe, as in ``| head -1``, is no error: the reader has what it wanted.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _discard()
    except OSError as fault:
        _discard()
        fault.filename = "standard output"
        raise


def _discard() -> None:
    """Redirects standard output to the null device: Python writes what is left in the buffer when it exits."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _farewell() -> str:
    return "interrupted"


def say_when_interrupted(text: Callable[[], str]) -> None:
    """Sets the function whose text is printed when the user interrupts the process."""
    global _farewell
    _farewell = text


def leave_when_interrupted() -> None:
    """From now on SIGINT (Ctrl-C) ends the process at once, with one line and the exit code 130.

    Python's own handler raises KeyboardInterrupt in the main thread. That waits until compiled code returns, which
    takes seconds while XLA compiles; modules that are being imported may swallow the exception; and at exit Python
    waits for the other threads. Here a separate thread reads the signal and exits, which is safe since files are
    written whole or not at all.
    """
    if os.name != "posix" or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # It is ignored where a shell started the process in the background.
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, lambda *_: None)
    threading.Thread(target=_wait_for_interrupt, args=(reader,), daemon=True).start()


def _wait_for_interrupt(reader: int) -> None:
    while os.read(reader, 1) != bytes([signal.SIGINT]):
        pass
    # Clears the progress bar and shows the cursor, which it hides.
    erase = "\r\x1b[2K\x1b[?25h" if os.isatty(2) else ""
    line = f"{erase}rnnlab: {printable(_farewell())}\n"
    with contextlib.suppress(OSError):
        # Not through sys.stderr, whose lock the main thread may hold.
        os.write(2, line.encode(sys.stderr.encoding or "utf-8", "rnnlab"))
    os._exit(INTERRUPTED)


@contextlib.contextmanager
def progress(done: int, total: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """``(say, advance)``: show what is being done, and count one more of ``total`` as done.

    On standard error: a bar on a terminal, elsewhere a line now and then.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        log = Log(done, total)
        yield log.say, log.advance
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", completed=done, total=total)
        yield lambda text: bar.update(task, description=text), lambda: bar.advance(task)


class Log:
    """Progress as lines such as ``0:12  lstm, length 100 (8 of 15)``, few enough for a log to stay readable."""

    def __init__(self, done: int, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.done = done
        self.total = total
        self.clock = clock
        self.start = clock()
        self.next = self.start

    def say(self, text: str) -> None:
        now = self.clock()
        if now < self.next:
            return
        passed = now - self.start
        self.next = now + max(QUIET, passed / 20)
        minutes, seconds = divmod(int(passed), 60)
        count = min(self.done + 1, self.total)
        note(f"{minutes}:{seconds:02}  {text} ({count} of {self.total})")

    def advance(self) -> None:
        self.done += 1


@contextlib.contextmanager
def room_for_help() -> Iterator[None]:
    """Tells tyro of at least ``HELP`` columns; with fewer it prints one letter of the help a line."""
    before = os.environ.get("COLUMNS")
    if shutil.get_terminal_size().columns < HELP:
        os.environ["COLUMNS"] = str(HELP)
    try:
        yield
    finally:
        os.environ.pop("COLUMNS", None)
        if before is not None:
            os.environ["COLUMNS"] = before


def console() -> "Console":
    """Standard output, where text is printed as it is: without markup, codes for emoji and colours."""
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            # Rich ends the process here.
            raise

    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Plain(markup=False, emoji=False, highlight=False, width=None if known else WIDTH)


def show(out: "Console", what: "str | Table") -> None:
    """Prints text as it is, and a table as a list where ``out`` is too narrow for it."""
    if isinstance(what, str):
        out.print(printable(what), soft_wrap=True)
        return
    from rich.measure import Measurement

    table = _spelled_table(what, out.encoding)
    endless = out.options.update(width=10_000)
    if Measurement.get(out, endless, table).maximum <= out.width:
        out.print(table)
    else:
        _show_list(out, table)


def _show_list(out: "Console", table: "Table") -> None:
    """The rows of a table one after the other: the first entry, and under it each other with its column's name."""
    out.print(str(table.title or ""))
    first, *others = [(_one_line(column.header), list(column.cells)) for column in table.columns]
    for place, name in enumerate(first[1]):
        out.print(str(name))
        for header, cells in others:
            fits = len(header) + len(str(cells[place])) + 4 <= out.width
            out.print(f"  {header}:{' ' if fits else chr(10) + '    '}{cells[place]}")


def _one_line(header: Any) -> str:
    return ", ".join(line for line in str(header).splitlines() if line)


def _spelled_table(table: "Table", encoding: str) -> "Table":
    """``table`` in the characters that ``encoding`` has, so that columns are as wide as what is printed."""
    from rich.table import Table

    def spelled(text: Any) -> str:
        return str(text).encode(encoding, "rnnlab").decode(encoding)

    new = Table(title=spelled(table.title or ""))
    for column in table.columns:
        new.add_column(spelled(column.header), justify=column.justify)
    for row in zip(*(column.cells for column in table.columns), strict=True):
        new.add_row(*map(spelled, row))
    return new
