"""Errors that a command shows as one sentence."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


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


def existing_folder(name: str, folder: str, run: str = "training run") -> Path:
    """A directory that a user gave; ValueError where there is none.

    ``name`` is that of the argument, ``run`` the kind of run whose directory it should be.
    """
    if not folder:
        raise ValueError(f"{name} is empty; give the --out directory of a {run}")
    # Not Path.is_dir, which raises OSError for a name that is too long.
    if not os.path.isdir(folder):  # noqa: PTH112
        raise ValueError(f"{folder} is not a directory; give the --out directory of a {run}")
    return Path(folder)
