"""Embeddings from text files: GloVe's, and word2vec's, which FastText's ``.vec`` files follow."""

import codecs
from pathlib import Path
from typing import BinaryIO

from rnnlab import _check
from rnnlab.data.text import as_path
from rnnlab.embeddings.text_rows import Rows, filled
from rnnlab.embeddings.vectors import Embeddings
from rnnlab.text.vocabulary import Vocabulary


def read_glove(
    path: str | Path,
    *,
    limit: int | None = None,
    errors: str = "strict",
    repeated: str = "error",
    unknown: str = "zero",
) -> Embeddings:
    """Vectors from a text file of GloVe (Pennington et al. 2014): a word and D numbers per line.

    Words may hold spaces, as some of ``glove.840B.300d`` do.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "glove.txt")
    >>> _ = path.write_text("the 0.1 -0.2\\n. . 0.3 0.4\\n")
    >>> read_glove(path).vocabulary.tokens
    ('the', '. .')

    Args:
        path: the file.
        limit: the number of words to read, in the order of the file, which is that of their
            frequency; None for all.
        errors: what happens to a word that is not UTF-8: "strict" refuses it, "replace" puts U+FFFD
            in place of the bad bytes.
        repeated: what happens to a word that occurs again: "error" refuses it, "first" keeps the
            first vector.
        unknown: see :class:`Embeddings`.

    Raises:
        ValueError: with file and line, for a row of another width, an entry that is not a finite
            number, and a word that is empty, repeated or not UTF-8; and for a file that is
            unreadable or empty.
    """
    path = as_path(path)
    _check_options(limit, errors, repeated)
    with opened(path) as file:
        size = _count_numbers(path, file)
        count = _count_lines(file)
        rows = Rows(path, size, 1, errors, repeated)
        vectors = filled(rows, file, count, limit)
    return Embeddings(Vocabulary(tuple(rows.words)), vectors, unknown)


def read_word2vec_text(
    path: str | Path,
    *,
    limit: int | None = None,
    errors: str = "strict",
    repeated: str = "error",
    unknown: str = "zero",
) -> Embeddings:
    """Vectors from a text file of word2vec or FastText (``.vec``): a first line "V D", then V rows.

    Args:
        path, limit, errors, repeated, unknown: as for :func:`read_glove`.

    Raises:
        ValueError: as :func:`read_glove`, and for a first line that is not V and D, and a file with
            fewer rows.
    """
    path = as_path(path)
    _check_options(limit, errors, repeated)
    with opened(path) as file:
        count, size = header(path, file.readline())
        rows = Rows(path, size, 2, errors, repeated)
        vectors = filled(rows, file, count, limit)
        is_longer = limit is None and any(line.strip() for line in file)
    wanted = count if limit is None else min(count, limit)
    if rows.read < wanted:
        raise ValueError(
            f"{path} ends after {rows.read} of {count} words; it is truncated, download it again"
        )
    if is_longer:
        raise ValueError(
            f"{path} has more rows than the {count} of its first line; correct that line, or "
            f"choose limit={count}"
        )
    return Embeddings(Vocabulary(tuple(rows.words)), vectors, unknown)


def header(path: Path, line: bytes) -> tuple[int, int]:
    """V and D of the first line of a word2vec file."""
    try:
        count, size = map(int, line.split())
    except ValueError:
        count = size = 0
    if not 0 < count < 2**62 or not 0 < size < 2**31:
        raise ValueError(
            f"{path}, line 1: {line[:40]!r} is not the number of words and the size of their "
            "vectors; read a file without such a line with read_glove"
        )
    return count, size


def opened(path: Path) -> BinaryIO:
    """A file at its start, after a byte order mark; ValueError where it cannot be read."""
    try:
        file = path.open("rb")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise ValueError(f"{path} cannot be read ({reason}); give a file with vectors") from None
    _rewind(file)
    return file


def _rewind(file: BinaryIO) -> None:
    file.seek(0)
    # A byte order mark is not part of the first word.
    if file.read(3) != codecs.BOM_UTF8:
        file.seek(0)


def _count_numbers(path: Path, file: BinaryIO) -> int:
    """D: how many of the first line's entries at its end are numbers, but for the word."""
    entries = file.readline().split()
    _rewind(file)
    size = 0
    for entry in reversed(entries[1:]):
        try:
            float(entry)
        except ValueError:
            break
        size += 1
    if size == 0:
        raise ValueError(f"{path}, line 1: there must be a word and its numbers; correct it")
    if size == 1 and len(entries) == 2 and entries[0].isdigit() and entries[1].isdigit():
        raise ValueError(
            f"{path}, line 1: it has two whole numbers, as a file of word2vec; read it with "
            "read_word2vec_text"
        )
    return size


def _count_lines(file: BinaryIO) -> int:
    count, last = 0, b"\n"
    while block := file.read(2**24):
        count += block.count(b"\n")
        last = block[-1:]
    _rewind(file)
    return count + (last != b"\n")


def _check_options(limit: int | None, errors: str, repeated: str) -> None:
    if limit is not None:
        _check.positive_int("limit", limit)
    _check.one_of("errors", errors, ("strict", "replace"))
    _check.one_of("repeated", repeated, ("error", "first"))
