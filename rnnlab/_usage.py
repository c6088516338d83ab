"""Errors that a command shows as one sentence."""

import contextlib
from collections.abc import Iterator


class UsageError(Exception):
    """An error of the user; one sentence with the fault and the fix."""


class RunError(Exception):
    """A run that failed; one sentence."""


@contextlib.contextmanager
def checking() -> Iterator[None]:
    """Turns a ValueError into a UsageError while the user's request is checked.

    Later a ValueError is a bug of rnnlab, and shows its traceback.
    """
    try:
        yield
    except ValueError as fault:
        raise UsageError(fault) from None
