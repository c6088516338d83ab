"""Rows of a text file with a word and its numbers in each line, parsed in blocks."""

import itertools
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

BLOCK = 2000
"""Lines that are parsed together."""


class _Line(NamedTuple):
    word: bytes
    numbers: bytes


class Rows:
    """The rows of a file: words so far, and blocks of vectors."""

    def __init__(self, path: Path, size: int, first: int, errors: str, repeated: str) -> None:
        self.path = path
        self.size = size
        self.first = first
        self.has_header = first > 1
        self.errors = errors
        self.keeps_first = repeated == "first"
        self.words: dict[str, int] = {}
        self.read = 0

    def blocks(self, file: BinaryIO, limit: int | None) -> Iterator[np.ndarray]:
        """The vectors of the next lines, ``[N, D]``, without those of repeated words."""
        lines: list[_Line] = []
        for raw in itertools.islice(file, limit):
            lines.append(self._split(raw, self.first + self.read + len(lines)))
            if len(lines) == BLOCK:
                yield self._block(lines)
                lines = []
        if lines:
            yield self._block(lines)

    def _split(self, raw: bytes, number: int) -> _Line:
        raw = raw.rstrip()
        # Only a word with spaces in it needs the slow way.
        parts = raw.split(b" ", 1) if raw.count(b" ") == self.size else raw.rsplit(b" ", self.size)
        width = len(parts) - 1 if len(parts) != 2 else parts[1].count(b" ") + 1
        word = parts[0]
        if width != self.size or not word or word.strip(b" ") != word or b"\r" in word:
            raise ValueError(
                f"{self.path}, line {number}: there must be a word and {self.size} numbers with "
                f"single spaces, but it is {raw[:40]!r}; correct it"
            )
        if not self.has_header and b" " in word and _parsed(word.rsplit(b" ", 1)[1]) is not None:
            raise ValueError(
                f"{self.path}, line {number}: {raw[:40]!r} has more numbers than line "
                f"1, which has {self.size}; correct it"
            )
        return _Line(word, b" ".join(parts[1:]))

    def _block(self, lines: list[_Line]) -> np.ndarray:
        start = self.first + self.read
        vectors = _parsed(b" ".join(line.numbers for line in lines))
        if vectors is None or vectors.size != len(lines) * self.size:
            self._find_fault(lines, start)
            raise AssertionError("a block that cannot be parsed has a bad line")
        vectors = vectors.reshape(len(lines), self.size)
        if not np.isfinite(vectors).all():
            row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
            raise ValueError(
                f"{self.path}, line {start + row}: NaN or infinity in the vector; remove the line"
            )
        kept = []
        for row, line in enumerate(lines):
            word = self._decoded(line.word, start + row)
            if word not in self.words:
                self.words[word] = start + row
                kept.append(row)
            elif not self.keeps_first:
                raise ValueError(
                    f"{self.path}, line {start + row}: {word!r} is also in line "
                    f"{self.words[word]}; choose repeated='first' to keep that one"
                )
        self.read += len(lines)
        return vectors if len(kept) == len(lines) else vectors[kept]

    def _decoded(self, word: bytes, number: int) -> str:
        try:
            return word.decode("utf-8", self.errors)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{self.path}, line {number}: the word {word!r} is not UTF-8 (byte "
                f"{error.start + 1}: 0x{word[error.start]:02x}); choose errors='replace'"
            ) from None

    def _find_fault(self, lines: list[_Line], start: int) -> None:
        for row, line in enumerate(lines):
            for entry in line.numbers.split(b" "):
                found = _parsed(entry)
                if found is None or found.size != 1:
                    raise ValueError(
                        f"{self.path}, line {start + row}: {entry[:20]!r} is not a number; correct "
                        "it"
                    )


def _parsed(numbers: bytes) -> np.ndarray | None:
    """The numbers of a text with single spaces; None if one is not a number."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            # Far faster than float() of each: a file has a hundred million.
            return np.fromstring(numbers, np.float32, sep=" ")
        except (DeprecationWarning, ValueError):
            return None


def filled(rows: Rows, file: BinaryIO, count: int, limit: int | None) -> np.ndarray:
    """All vectors in one array, which is allocated once."""
    count = count if limit is None else min(count, limit)
    # A damaged first line must not ask for more memory than its rows could fill: each is a byte,
    # a space and a digit for each number, and a line end.
    most = (os.fstat(file.fileno()).st_size + 1) // (2 * rows.size + 2)
    vectors = np.empty((min(count, most), rows.size), np.float32)
    done = 0
    for block in rows.blocks(file, count):
        vectors[done : done + len(block)] = block
        done += len(block)
    return vectors[:done]
