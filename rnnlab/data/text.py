"""Text as characters: the source of Python's standard library, which every machine has, or any UTF-8 file."""

import hashlib
import platform
import sysconfig
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Corpus(NamedTuple):
    """A text as symbols: ``codes [N]`` index ``alphabet``, whose last entry may be "" for all rare characters."""

    codes: np.ndarray
    alphabet: tuple[str, ...]
    source: dict[
        str, str | int
    ]  # where the text is from: name, SHA-256 of its UTF-8 bytes, length, versions


def standard_library() -> tuple[str, dict[str, str | int]]:
    """The source of the top-level modules of Python's standard library, in order of name, and where it is from.

    The build's own configuration (``_sysconfigdata…``) is left out: it differs from machine to machine.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    modules = [
        file for file in sorted(folder.glob("*.py")) if not file.name.startswith("_sysconfigdata")
    ]
    if not modules:
        raise ValueError(
            f"no source of the standard library lies in {folder}; give a UTF-8 text file instead"
        )
    text = "".join(file.read_text(encoding="utf-8") for file in modules)
    return text, {
        "name": "Python standard library",
        "python": platform.python_version(),
        **_fingerprint(text),
    }


def read_text(path: str | Path) -> tuple[str, dict[str, str | int]]:
    """The text of a UTF-8 file and where it is from; ValueError if it cannot be read, is empty or is not UTF-8."""
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}); give the path of a UTF-8 text file"
        ) from None
    if not raw:
        raise ValueError(f"{path} is empty; give a text longer than the longest sequence")
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte {error.start}); convert it, for example with iconv"
        ) from None
    return text, {"name": path.name, **_fingerprint(text)}


def encode(text: str, source: dict[str, str | int], size: int) -> Corpus:
    """``text`` as indices into an alphabet of at most ``size`` symbols, the most frequent first.

    Where there are more characters than that, the rarer ones share the last symbol.
    """
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    counts = np.bincount(points)
    ranked = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    alphabet = [chr(point) for point in ranked]
    if len(ranked) > size:
        alphabet = [*alphabet[: size - 1], ""]
    table = np.full(counts.size, len(alphabet) - 1, np.int32)
    table[ranked[: len(alphabet)]] = np.arange(len(alphabet))
    return Corpus(table[points], tuple(alphabet), source)


def _fingerprint(text: str) -> dict[str, str | int]:
    return {"sha256": hashlib.sha256(text.encode("utf-8")).hexdigest(), "characters": len(text)}
