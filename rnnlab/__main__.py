"""The command ``rnnlab`` and ``python -m rnnlab``: the command line in a process of its own."""

import gc
import os
import signal
import sys


def main() -> int:
    """Runs the command line; returns its exit code. From its first instant on the process can be interrupted."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))

    # Only now, since imports take a while.
    from rnnlab import terminal

    terminal.prepare_streams()
    terminal.leave_when_interrupted()

    # Imports and tracing make millions of objects that stay; looking through them takes a twentieth of the time.
    gc.set_threshold(50_000)

    from rnnlab import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
