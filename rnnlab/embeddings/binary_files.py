"""Embeddings from binary files: word2vec's, and FastText's by gensim."""

import mmap
from pathlib import Path

import numpy as np

from rnnlab import _check
from rnnlab.data.text import as_path
from rnnlab.embeddings.text_files import header, opened
from rnnlab.embeddings.vectors import Embeddings
from rnnlab.text.tokens import is_utf8
from rnnlab.text.vocabulary import Vocabulary


def read_word2vec_binary(
    path: str | Path,
    *,
    limit: int | None = None,
    errors: str = "strict",
    unknown: str = "zero",
) -> Embeddings:
    """Vectors from a binary file of word2vec: "V D", then V times a word and D float32.

    Args:
        path: the file.
        limit: the number of words to read, in the order of the file; None for all.
        errors: "replace" puts U+FFFD in place of bytes that are not UTF-8; "strict" refuses them.
        unknown: see :class:`Embeddings`.

    Raises:
        ValueError: for a file that is unreadable, truncated or of another form, and a word that is
            repeated or not UTF-8.
    """
    path = as_path(path)
    if limit is not None:
        _check.positive_int("limit", limit)
    _check.one_of("errors", errors, ("strict", "replace"))
    try:
        with opened(path) as file:
            start = file.tell()
            first = file.readline(100)
            count, size = header(path, first)
            start += len(first)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _read(path, content, start, count, size, limit, errors, unknown)
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}); give a file with vectors"
        ) from None


def _read(
    path: Path,
    content: mmap.mmap,
    start: int,
    count: int,
    size: int,
    limit: int | None,
    errors: str,
    unknown: str,
) -> Embeddings:
    wanted = count if limit is None else min(count, limit)
    # Each row has a word of at least one byte, a space and the numbers: V of the first line is
    # checked before that much memory is asked for.
    if wanted * (4 * size + 2) > len(content) - start + 1:
        raise ValueError(
            f"{path} has {len(content)} bytes, too few for {count} words of {size} numbers; it is "
            "truncated, or not a binary file of word2vec"
        )
    vectors = np.empty((wanted, size), np.float32)
    words: dict[str, int] = {}
    for row in range(wanted):
        end = content.find(b" ", start)
        stop = end + 1 + 4 * size
        if end < 0 or stop > len(content):
            raise ValueError(
                f"{path} ends in word {row + 1} of {count}; it is truncated, download it again"
            )
        # Some writers put a line end after each vector.
        word = content[start:end].lstrip(b"\n")
        vectors[row] = np.frombuffer(content[end + 1 : stop], "<f4")
        try:
            decoded = word.decode("utf-8", errors)
        except UnicodeDecodeError:
            raise ValueError(
                f"{path}: word {row + 1}, {word!r}, is not UTF-8; choose errors='replace'"
            ) from None
        if decoded in words or not decoded:
            fault = "is repeated" if decoded else "is empty"
            raise ValueError(f"{path}: word {row + 1}, {decoded!r}, {fault}; correct the file")
        if not np.isfinite(vectors[row]).all():
            raise ValueError(
                f"{path}: the vector of word {row + 1}, {decoded!r}, holds NaN or infinity; leave "
                "the word out"
            )
        words[decoded] = row
        start = stop
    if wanted == count and content[start : start + 10].strip(b"\n"):
        raise ValueError(
            f"{path} has more than the {count} words of size {size} in its first line; correct it"
        )
    return Embeddings(Vocabulary(tuple(words)), vectors, unknown)


def read_fasttext(path: str | Path) -> Embeddings:
    """Vectors from a binary model of FastText (``.bin``), by gensim.

    Unknown words get the mean of the vectors of their n-grams.

    Raises:
        ValueError: for a file that is unreadable or not a model of FastText.
        ImportError: where gensim is not installed.
    """
    path = as_path(path)
    if not path.is_file():
        raise ValueError(f"{path} cannot be read (no such file); give a model of FastText")
    try:
        from gensim.models.fasttext import load_facebook_vectors
    except ModuleNotFoundError:
        raise ImportError(
            "FastText's binary models are read by gensim, which is not installed; pip install "
            "'rnnlab[fasttext]'"
        ) from None
    try:
        loaded = load_facebook_vectors(str(path))
    # gensim raises whatever the bytes lead to.
    except Exception as error:
        raise ValueError(
            f"{path} is not a binary model of FastText ({error}); give another file"
        ) from None
    words = Vocabulary(tuple(map(str, loaded.index_to_key)))

    def spelled(word: str) -> np.ndarray:
        if not is_utf8(word):
            raise ValueError(
                f"{word!r} has a lone surrogate, which is not a character; leave it out"
            )
        return loaded.get_vector(word)

    return Embeddings(words, loaded.vectors, subwords=spelled)
