"""SIGTERM and SIGINT as requests to stop at the next step."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator


class Stop:
    """Whether a signal asked the run to stop.

    Attributes:
        number: the signal, 0 before any.
    """

    def __init__(self) -> None:
        self.number = 0

    def __bool__(self) -> bool:
        return self.number != 0


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Within the block, the first SIGTERM or SIGINT sets the flag; the second ends the process.

    Python allows handlers in the main thread alone; elsewhere the flag is never set.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, _: object) -> None:
        if stop:
            os._exit(128 + number)
        stop.number = number

    before = {}
    for number in (signal.SIGTERM, signal.SIGINT):
        # A shell that starts the process in the background ignores SIGINT, and so must this.
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, ask)
    # The command line ends at once on SIGINT, by a thread that reads signals from this pipe. It is
    # taken away after the handlers are set, and given back before they are reset: otherwise a
    # SIGINT in between would do nothing.
    wakeup = signal.set_wakeup_fd(-1)
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for number, handler in before.items():
            # Python does not know a handler that was set in C, and cannot set it again.
            signal.signal(number, handler or signal.SIG_DFL)
