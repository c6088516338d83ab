"""The terminal: robust output streams, Ctrl-C, progress, and tables that fit."""

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
"""The exit code of a process that SIGINT ended, as in shells: 128 + 2."""

WIDTH = 120
"""Columns of output if standard output is not a terminal."""

HELP = 40
"""The fewest columns in which help can be read."""

QUIET = 5.0
"""Seconds between two lines of progress; in long runs, 1/20 of the elapsed time."""

ASCII = {
    "−": "-", "–": "-", "—": "-", "‖": "|", "∂": "d", "λ": "lambda", "θ": "theta", "Ω": "Omega",
    "×": "x", "±": "+-", "·": "*", "•": "*", "“": '"', "”": '"', "‘": "'", "’": "'",
    "│": "|", "┃": "|", "─": "-", "━": "-", "═": "=",
}  # fmt: skip
"""Replacements in encodings without these characters.

Other letters lose their accents; all else becomes "?".
"""


def prepare_streams() -> None:
    """Makes standard output and error usable, even if closed or unable to encode the text."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            # Otherwise the next file that is opened gets this descriptor, and logs of C code are
            # written into it.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="rnnlab")


def _spelled(fault: UnicodeError) -> tuple[str, int]:
    """An error handler of ``codecs``: replaces characters that cannot be encoded by ASCII."""
    if not isinstance(fault, UnicodeEncodeError):
        raise fault
    characters = fault.object[fault.start : fault.end]
    return "".join(map(_in_ascii, characters)), fault.end


codecs.register_error("rnnlab", _spelled)


def _in_ascii(character: str) -> str:
    if character in ASCII:
        return ASCII[character]
    if "BOX DRAWINGS" in unicodedata.name(character, ""):
        return "+"
    # NFKD splits a letter from its accent, and "ignore" drops the accent.
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore")
    return plain.decode() or "?"


def printable(text: str) -> str:
    """``text`` with escapes for all that a terminal would act on, which file names may contain.

    >>> printable("two\\nlines")
    'two\\\\nlines'
    """
    shown = ""
    for character in text:
        if character.isprintable():
            shown += character
        else:
            shown += character.encode("unicode_escape").decode()
    return shown


def note(text: str) -> None:
    """Prints a line on standard error; a standard error that is closed or full is ignored."""
    with contextlib.suppress(OSError, ValueError):
        print(printable(text), file=sys.stderr, flush=True)


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Flushes standard output after the block; an OSError has "standard output" as its file.

    A closed pipe, as in ``| head -1``, is not an error: its reader needs no more.
    """
    try:
        try:
            yield
        finally:
            # Within the outer try: a full disk shows only when the buffer is written.
            sys.stdout.flush()
    except BrokenPipeError:
        _discard()
    except OSError as fault:
        _discard()
        fault.filename = "standard output"
        raise


def _discard() -> None:
    """Redirects standard output to the null device."""
    # Python writes the rest of the buffer when it exits, and would fail a second time.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _farewell() -> str:
    return "interrupted"


def say_when_interrupted(text: Callable[[], str]) -> None:
    """Sets the function whose text is printed when the user interrupts the process."""
    global _farewell
    _farewell = text


def leave_when_interrupted() -> None:
    """From now on SIGINT (Ctrl-C) ends the process at once, with one line and the exit code 130.

    Python's own handler raises KeyboardInterrupt in the main thread. That waits until compiled code
    returns, which takes seconds while XLA compiles; modules that are being imported may swallow the
    exception; and at exit Python waits for the other threads. Here a separate thread reads the
    signal and exits, which is safe since files are written whole or not at all.
    """
    # A shell that starts the process in the background ignores SIGINT, and so must the process.
    if os.name != "posix" or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return
    reader, writer = os.pipe()
    # Python insists on it: writing must not block while a signal is handled.
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # A handler in Python is needed for the wakeup, though it does nothing itself.
    signal.signal(signal.SIGINT, lambda *_: None)
    threading.Thread(target=_wait_for_interrupt, args=(reader,), daemon=True).start()


def _wait_for_interrupt(reader: int) -> None:
    while os.read(reader, 1) != bytes([signal.SIGINT]):
        pass
    # Clears the progress bar and shows the cursor, which the bar hides.
    erase = "\r\x1b[2K\x1b[?25h" if os.isatty(2) else ""
    line = f"{erase}rnnlab: {printable(_farewell())}\n"
    encoded = line.encode(sys.stderr.encoding or "utf-8", "rnnlab")
    with contextlib.suppress(OSError):
        # Not through sys.stderr, whose lock the main thread may hold. That thread goes on until the
        # process ends, and would otherwise write another line of progress after this one.
        terminal = os.dup(2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.write(terminal, encoded)
    os._exit(INTERRUPTED)


@contextlib.contextmanager
def progress(done: int, total: int) -> Iterator[tuple[Callable[[str], None], Callable[..., None]]]:
    """``(say, advance)``: show the current step, and count one or more of ``total`` as done.

    Standard error shows a bar if it is a terminal, otherwise a line now and then.
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

        def say(text: str) -> None:
            bar.update(task, description=text)

        def advance(count: int = 1) -> None:
            bar.advance(task, count)

        yield say, advance


class Log:
    """Progress as lines such as ``0:12  lstm, length 100 (8 of 15)``, few enough for a log file."""

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
        elapsed = now - self.start
        self.next = now + max(QUIET, elapsed / 20)
        minutes, seconds = divmod(int(elapsed), 60)
        count = min(self.done + 1, self.total)
        note(f"{minutes}:{seconds:02}  {text} ({count} of {self.total})")

    def advance(self, count: int = 1) -> None:
        self.done += count


@contextlib.contextmanager
def room_for_help() -> Iterator[None]:
    """Makes tyro assume at least ``HELP`` columns: with fewer it prints one letter per line."""
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
    """Standard output that prints text unchanged: no markup, codes for emoji or colours."""
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            # Rich would end the process; ``printing`` handles the error.
            raise

    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Plain(markup=False, emoji=False, highlight=False, width=None if known else WIDTH)


def show(out: "Console", content: "str | Table") -> None:
    """Prints text unchanged, and a table as a list if ``out`` is too narrow for it."""
    if isinstance(content, str):
        out.print(printable(content), soft_wrap=True)
        return
    from rich.measure import Measurement

    table = _spelled_table(content, out.encoding)
    # Measured without a limit: Rich would otherwise squeeze the columns until the table fits.
    unlimited = out.options.update(width=10_000)
    width = Measurement.get(out, unlimited, table).maximum
    if width <= out.width:
        out.print(table)
    else:
        _show_list(out, table)


def _show_list(out: "Console", table: "Table") -> None:
    """Prints each row as its first entry, and below it the other entries with their headers."""
    out.print(str(table.title or ""))
    headers = [_one_line(column.header) for column in table.columns[1:]]
    for name, *entries in _rows(table):
        out.print(str(name))
        for header, entry in zip(headers, entries, strict=True):
            # Two spaces, a colon and a space stand beside them.
            fits = len(header) + len(str(entry)) + 4 <= out.width
            separator = " " if fits else "\n    "
            out.print(f"  {header}:{separator}{entry}")


def _rows(table: "Table") -> Iterator[tuple[Any, ...]]:
    cells = [column.cells for column in table.columns]
    return zip(*cells, strict=True)


def _one_line(header: Any) -> str:
    return ", ".join(filter(None, str(header).splitlines()))


def _spelled_table(table: "Table", encoding: str) -> "Table":
    """``table`` in the characters of ``encoding``, so that the columns have the right width."""
    from rich.table import Table

    def spelled(text: Any) -> str:
        return str(text).encode(encoding, "rnnlab").decode(encoding)

    new = Table(title=spelled(table.title or ""))
    for column in table.columns:
        new.add_column(spelled(column.header), justify=column.justify)
    for row in _rows(table):
        new.add_row(*map(spelled, row))
    return new
