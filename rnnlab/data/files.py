"""Files divided into training, validation and test parts by their names."""

import hashlib
import numbers
from collections.abc import Iterable
from typing import Any, NamedTuple

from rnnlab.data.alphabet import alphabet_of, encode_with
from rnnlab.data.text import TextFile, fingerprint


class TextSplit(NamedTuple):
    """Three parts, each a tuple of :class:`TextFile` or a :class:`Corpus`."""

    training: Any
    validation: Any
    test: Any


def split_files(
    files: Iterable[TextFile], *, validation: float = 0.1, test: float = 0.1
) -> TextSplit:
    """Divides files into three parts, so that a model is judged on files that it has not read.

    The part of a file depends on its name alone (the SHA-256 of it, as a number in 0..1), so a file
    stays in its part when others are added or removed. The shares are those of many files; a few
    files may deviate from them.

    >>> import rnnlab
    >>> files = rnnlab.data.standard_library_files()
    >>> split = split_files(files)
    >>> len(split.training) > len(split.test) > 0
    True

    Args:
        files: (name, text) of each.
        validation: the share of the files for choosing among models.
        test: the share of the files for the final judgement.

    Raises:
        ValueError: for shares that are negative or leave nothing for training, for anything but
            text files, and for two files of the same name.
    """
    are_numbers = isinstance(validation, numbers.Real) and isinstance(test, numbers.Real)
    if not are_numbers or not (validation >= 0 and test >= 0 and validation + test < 1):
        raise ValueError(
            f"validation is {validation!r} and test is {test!r}; give shares of at least 0 whose "
            "sum is below 1"
        )
    parts = TextSplit([], [], [])
    names = set()
    for file in files:
        if not isinstance(file, TextFile):
            raise ValueError(
                f"files hold a {type(file).__name__}; give rnnlab.data.TextFile(name, text) for "
                "each"
            )
        if file.name in names:
            raise ValueError(f"two files are named {file.name!r}; give each a name of its own")
        names.add(file.name)
        place = _place(file.name)
        if place < test:
            parts.test.append(file)
        elif place < test + validation:
            parts.validation.append(file)
        else:
            parts.training.append(file)
    return TextSplit(*map(tuple, parts))


def corpora(split: TextSplit, size: int) -> TextSplit:
    """Each part as a ``Corpus``, in the alphabet of the training part alone.

    The alphabet holds the ``size − 1`` most frequent characters of the training files; all others,
    and those that only held-out files have, share its last symbol, "".

    >>> files = [TextFile("a", "aab"), TextFile("b", "z"), TextFile("c", "a")]
    >>> parts = corpora(TextSplit(files[:1], files[1:2], files[2:]), size=128)
    >>> parts.training.alphabet, parts.validation.codes.tolist()
    (('a', 'b', ''), [2])

    Raises:
        ValueError: for a part without text.
    """
    texts = TextSplit(*map(_joined, split))
    for name, text in zip(TextSplit._fields, texts, strict=True):
        if not text:
            raise ValueError(
                f"the {name} part has no text; give more files, or a larger share for it"
            )
    alphabet = alphabet_of(texts.training, size)
    parts = []
    for name, text in zip(TextSplit._fields, texts, strict=True):
        source = {"name": f"{name} files", **fingerprint(text)}
        parts.append(encode_with(text, source, alphabet))
    return TextSplit(*parts)


def _joined(files: Iterable[TextFile]) -> str:
    return "".join(file.text for file in files)


def _place(name: str) -> float:
    """A number in 0..1 that depends on ``name`` alone."""
    digest = hashlib.sha256(name.encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
