"""Vocabularies from files: those of rnnlab, and text with one token a line."""

from pathlib import Path

from rnnlab import _check
from rnnlab.data.text import as_path, decode_utf8, read_bytes
from rnnlab.text.saved import read_saved
from rnnlab.text.vocabulary import Vocabulary


def load_vocabulary(path: str | Path, *, digest: str | None = None) -> Vocabulary:
    """The vocabulary of a file.

    Args:
        path: a JSON file of :meth:`Vocabulary.save`, or a ``.txt`` file with one token a line, as
            BERT has.
        digest: that of the expected vocabulary, such as the one that a model was trained with.

    Raises:
        ValueError: with the file, and the line where there is one, for what cannot be read, a
            repeated token, another version of the format, and a vocabulary with another digest.
    """
    path = as_path(path)
    if digest is not None and not isinstance(digest, str):
        raise ValueError(f"digest is {_check.brief(digest)}; give that of a vocabulary, a string")
    if path.suffix.lower() == ".txt":
        vocabulary = _from_lines(path)
    else:
        vocabulary = Vocabulary.from_json(read_saved(path, "vocabulary"), str(path))
    if digest is not None and vocabulary.digest != digest:
        raise ValueError(
            f"{path} holds another vocabulary ({len(vocabulary)} tokens, digest "
            f"{vocabulary.digest[:8]}, not {digest[:8]}); give the one that made the codes"
        )
    return vocabulary


def _from_lines(path: Path) -> Vocabulary:
    text = decode_utf8(path, read_bytes(path, "a text file with one token a line"))
    if not text:
        raise ValueError(f"{path} is empty; give a text file with one token a line")
    tokens = text.removesuffix("\n").split("\n")
    first_line: dict[str, int] = {}
    for line, token in enumerate(tokens, 1):
        token = token.removesuffix("\r")
        if token in first_line:
            raise ValueError(
                f"{path}, line {line}: {token!r} is also in line {first_line[token]}; give each "
                "token once"
            )
        first_line[token] = line
    return Vocabulary(tuple(first_line))
