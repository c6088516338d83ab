"""Files that are written whole or not at all, their digests, and the lock of a directory."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:
    # Windows has no such locks.
    fcntl = None

PART = ".part"
"""The suffix of a file that is being written."""


def write_text(path: Path, text: str) -> None:
    """Replaces the file at ``path`` by ``text``, in one move."""
    # A temporary file beside it: a move is atomic only within one file system.
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=PART)
    except OSError as fault:
        # The message then names the file that the user knows.
        fault.filename = str(path)
        raise
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            # Otherwise a crash of the machine could leave an empty file under the final name.
            os.fsync(file.fileno())
        # mkstemp lets only the owner read it.
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Returns when the file, or the entries of the directory, are on the disk."""
    if path.is_dir() and os.name != "posix":
        # Only POSIX opens a directory.
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a directory; BlockingIOError where another process holds it.

    The lock ends with the process, however that ends. On a file system without locks it does
    nothing.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            # Some file systems have no locks; there, two writers at once are not noticed.
            pass
        yield
    finally:
        os.close(descriptor)
