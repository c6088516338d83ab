"""Text: the source code of Python's standard library, or any UTF-8 file."""

import hashlib
import platform
import sysconfig
from pathlib import Path
from typing import Any, NamedTuple


class TextFile(NamedTuple):
    """One file of a corpus."""

    name: str
    text: str


def standard_library_files() -> tuple[TextFile, ...]:
    """The top-level modules of Python's standard library, sorted by name.

    >>> files = standard_library_files()
    >>> files[0].name, "def " in files[0].text
    ('__future__.py', True)
    """
    folder = Path(sysconfig.get_path("stdlib"))
    # The configuration of the build differs from machine to machine.
    paths = [path for path in folder.glob("*.py") if not path.name.startswith("_sysconfigdata")]
    files = [TextFile(path.name, path.read_text(encoding="utf-8")) for path in sorted(paths)]
    if not any(file.text for file in files):
        raise ValueError(
            f"no source of the standard library lies in {folder}; give a UTF-8 text file instead"
        )
    return tuple(files)


def standard_library() -> tuple[str, dict[str, str | int]]:
    """The top-level modules of Python's standard library as one text, and its origin.

    >>> text, source = standard_library()
    >>> source["name"], source["characters"] == len(text)
    ('Python standard library', True)
    """
    text = "".join(file.text for file in standard_library_files())
    return text, standard_library_source(text)


def standard_library_source(text: str) -> dict[str, str | int]:
    """The origin of ``text`` from the standard library."""
    source = {"name": "Python standard library", "python": platform.python_version()}
    return source | fingerprint(text)


def read_text(path: str | Path) -> tuple[str, dict[str, str | int]]:
    """The text of a UTF-8 file and its origin.

    Raises:
        ValueError: if the file cannot be read, is empty or is not UTF-8; the message names the line
            and the byte in it.
    """
    path = as_path(path)
    raw = read_bytes(path, "a UTF-8 text file")
    # Files from Windows give the same text: line ends of one character.
    text = decode_utf8(path, raw).replace("\r\n", "\n")
    if not text:
        raise ValueError(f"{path} is empty; give a text longer than the longest sequence")
    return text, {"name": path.name, **fingerprint(text)}


def as_path(path: Any) -> Path:
    """``path`` as a path; ValueError for anything else."""
    try:
        return Path(path)
    except TypeError:
        raise ValueError(f"path is {path!r}; give the path of a file") from None


def read_bytes(path: Path, kind: str) -> bytes:
    """The bytes of a file; ValueError where it cannot be read."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        # A ValueError comes from characters that no path can have.
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise ValueError(f"{path} cannot be read ({reason}); give the path of {kind}") from None


def decode_utf8(path: Path, raw: bytes) -> str:
    """``raw`` as text without a byte order mark; ValueError with the line of the first fault."""
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise ValueError(
            f"{path} is not UTF-8 (line {line}, byte {column}: 0x{raw[error.start]:02x}); convert "
            "it, for example with iconv"
        ) from None


def fingerprint(text: str) -> dict[str, str | int]:
    """The SHA-256 of the UTF-8 bytes of ``text``, and its length in characters."""
    digest = hashlib.sha256(text.encode("utf-8"))
    return {"sha256": digest.hexdigest(), "characters": len(text)}
