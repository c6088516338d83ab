"""Characters of Python's standard library with the kind of token that each belongs to."""

import functools
import io
import keyword
import tokenize
from typing import NamedTuple

import numpy as np

from rnnlab.data import TextFile

KINDS = ("keyword", "name", "string", "comment", "number", "operator")
SPACE = 0
"""The label of what belongs to no token."""

CLASSES = 1 + 2 * len(KINDS)
"""Space, and for each kind its first character and the others."""


class Windows(NamedTuple):
    """Pieces of text, each from the start of a line: characters and labels, ``[T, N]``."""

    codes: np.ndarray
    labels: np.ndarray


class Span(NamedTuple):
    """A token: its first character, the one after its last, and the place of its kind."""

    first: int
    end: int
    kind: int


def first_label(kind: int) -> int:
    """The label of the first character of a token."""
    return 1 + 2 * kind


def kind_of(label: int) -> int:
    """The kind of a label other than space."""
    return (label - 1) // 2


def token_labels(text: str) -> np.ndarray:
    """The label of each character, ``[len(text)]``, by the module tokenize."""
    labels = np.full(len(text), SPACE, np.int32)
    starts = np.cumsum([0] + [len(line) for line in text.splitlines(keepends=True)])
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = _kind(token)
        if kind is None or not token.string:
            continue
        first = starts[token.start[0] - 1] + token.start[1]
        end = starts[token.end[0] - 1] + token.end[1]
        labels[first] = first_label(kind)
        labels[first + 1 : end] = first_label(kind) + 1
    return labels


def _kind(token: tokenize.TokenInfo) -> int | None:
    """The place of a token's kind; None for ends of lines and indentation."""
    name = tokenize.tok_name[token.type]
    if name == "NAME":
        return KINDS.index("keyword" if keyword.iskeyword(token.string) else "name")
    if name.startswith("FSTRING"):
        return KINDS.index("string")
    kinds = {"STRING": "string", "COMMENT": "comment", "NUMBER": "number", "OP": "operator"}
    return KINDS.index(kinds[name]) if name in kinds else None


def code_of(character: str) -> int:
    """Codes 0 to 127 are those of ASCII; all others are one."""
    return min(ord(character), 128)


@functools.cache
def labelled(file: TextFile) -> tuple[np.ndarray, np.ndarray]:
    """The codes and the labels of a file."""
    codes = np.array([code_of(character) for character in file.text], np.int32)
    return codes, token_labels(file.text)


def windows(files: list[TextFile], steps: int, count: int, random: np.random.Generator) -> Windows:
    """So many windows from random lines of random files, each file by its length."""
    sizes = np.array([len(file.text) for file in files], float)
    chosen = random.choice(len(files), count, p=sizes / sizes.sum())
    codes = np.zeros((steps, count), np.int32)
    labels = np.zeros((steps, count), np.int32)
    for column, index in enumerate(chosen):
        text_codes, text_labels = labelled(files[index])
        starts = np.flatnonzero(text_codes == code_of("\n")) + 1
        starts = starts[starts <= len(text_codes) - steps]
        first = int(random.choice(starts))
        codes[:, column] = text_codes[first : first + steps]
        labels[:, column] = text_labels[first : first + steps]
    return Windows(codes, labels)


def spans(labels: np.ndarray) -> set[Span]:
    """The tokens that labels ``[T]`` mean; one without a first character begins where it does."""
    found = set()
    first = 0
    for place in range(1, len(labels) + 1):
        label = labels[first]
        is_end = place == len(labels)
        # A token goes on with the label that follows that of its first character.
        goes_on = not is_end and label != SPACE and labels[place] == label + label % 2
        if goes_on:
            continue
        if label != SPACE:
            found.add(Span(first, place, kind_of(int(label))))
        first = place
    return found


def span_score(predicted: np.ndarray, truth: np.ndarray) -> float:
    """F1 of whole tokens over windows ``[T, N]``: right are those with both ends and the kind."""
    right = claimed = wanted = 0
    for column in range(truth.shape[1]):
        found, tokens = spans(predicted[:, column]), spans(truth[:, column])
        right += len(found & tokens)
        claimed += len(found)
        wanted += len(tokens)
    return 2 * right / max(claimed + wanted, 1)
