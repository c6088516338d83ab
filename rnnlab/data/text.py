"""Text as characters: the source code of Python's standard library, or any UTF-8 file."""

import hashlib
import platform
import sysconfig
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Corpus(NamedTuple):
    """A text as symbols: ``codes [N]`` are indices into ``alphabet``.

    Attributes:
        codes: ``[N]``, one code for each character.
        alphabet: the symbols; the last may be "", which stands for all rare characters.
        source: the origin of the text: name, SHA-256 of its UTF-8 bytes, length, versions.
    """

    codes: np.ndarray
    alphabet: tuple[str, ...]
    source: dict[str, str | int]


def standard_library() -> tuple[str, dict[str, str | int]]:
    """The top-level modules of Python's standard library, sorted by name, and their origin.

    >>> text, source = standard_library()
    >>> source["name"], source["characters"] == len(text)
    ('Python standard library', True)
    """
    folder = Path(sysconfig.get_path("stdlib"))
    text = ""
    for module in sorted(folder.glob("*.py")):
        # The configuration of the build differs from machine to machine.
        if not module.name.startswith("_sysconfigdata"):
            text += module.read_text(encoding="utf-8")
    if not text:
        raise ValueError(
            f"no source of the standard library lies in {folder}; give a UTF-8 text file instead"
        )
    source = {"name": "Python standard library", "python": platform.python_version()}
    return text, source | _fingerprint(text)


def read_text(path: str | Path) -> tuple[str, dict[str, str | int]]:
    """The text of a UTF-8 file and its origin.

    ValueError if the file cannot be read, is empty or is not UTF-8.
    """
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
        # Files from Windows give the same text: no byte order mark, and line ends of one character.
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte {error.start}); convert it, for example with iconv"
        ) from None
    return text, {"name": path.name, **_fingerprint(text)}


def encode(text: str, source: dict[str, str | int], size: int) -> Corpus:
    """``text`` as indices into an alphabet of at most ``size`` symbols, the most frequent first.

    Where the text has more characters than that, the rarer ones share the last symbol.

    >>> corpus = encode("aaabbcd", {}, size=3)
    >>> corpus.alphabet, corpus.codes.tolist()
    (('a', 'b', ''), [0, 0, 0, 1, 1, 2, 2])
    """
    # UTF-32 has four bytes for each character: NumPy can read them as numbers, and is much faster
    # than a loop over millions of characters.
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    counts = np.bincount(points)
    # A stable sort: characters that are equally frequent keep the order of their code points.
    by_frequency = np.argsort(-counts, kind="stable")
    ranked = by_frequency[: np.count_nonzero(counts)]
    alphabet = list(map(chr, ranked))
    if len(ranked) > size:
        alphabet = [*alphabet[: size - 1], ""]
    last = len(alphabet) - 1
    # Every code point starts as the last symbol, and the frequent ones get their own.
    table = np.full(counts.size, last, np.int32)
    table[ranked[: last + 1]] = np.arange(last + 1)
    return Corpus(table[points], tuple(alphabet), source)


def _fingerprint(text: str) -> dict[str, str | int]:
    digest = hashlib.sha256(text.encode("utf-8"))
    return {"sha256": digest.hexdigest(), "characters": len(text)}
