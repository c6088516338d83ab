"""The command ``rnnlab`` and ``python -m rnnlab``: the command line in a process of its own."""

import sys


def main() -> int:
    """Runs the command line; returns its exit code. From its first instant on the process can be interrupted."""
    from rnnlab.report import terminal

    terminal.prepare_streams()
    terminal.leave_when_interrupted()

    # Only now, since this import takes a while.
    from rnnlab import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
