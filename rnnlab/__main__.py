"""The command ``rnnlab`` and ``python -m rnnlab``: the command line in a process of its own."""

import gc
import os
import signal
import sys


def main() -> int:
    """Runs the command line; returns its exit code."""
    # Until the terminal's own handler is set, Ctrl-C during an import would show a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))

    # Not at the top: the handler above must be set before anything is imported.
    from rnnlab import terminal

    terminal.prepare_streams()
    terminal.leave_when_interrupted()

    # Imports and tracing create millions of objects that stay. With Python's default threshold the
    # garbage collector spends a twentieth of the time on them.
    gc.set_threshold(50_000)

    from rnnlab import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
