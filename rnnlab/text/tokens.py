"""Checks of texts, tokens and documents."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rnnlab import _check


def as_text(text: Any) -> str:
    """``text``; ValueError for anything but a string."""
    if not isinstance(text, str):
        raise ValueError(f"the text is of type {type(text).__name__}; give a string")
    return text


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can hold the text, which it cannot where a lone surrogate is in it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def as_tokens(tokens: Any) -> list[str]:
    """``tokens`` as a list of strings; ValueError for one string and for anything else."""
    if isinstance(tokens, str):
        raise ValueError(
            f"the tokens are one string, {_check.brief(tokens)}; split it first, for example with "
            "rnnlab.text.words"
        )
    try:
        tokens = list(tokens)
    except TypeError:
        raise ValueError(f"the tokens are {_check.brief(tokens)}; give a list of strings") from None
    for place, token in enumerate(tokens):
        if not isinstance(token, str):
            raise ValueError(f"tokens[{place}] is {_check.brief(token)}; give strings")
    return tokens


def as_texts(name: str, texts: Any) -> list[str]:
    """``texts`` as a list of strings; ValueError for one string and for anything else."""
    if isinstance(texts, str):
        raise ValueError(f"{name} is one string; give a list of texts")
    return [as_text(text) for text in _iterated(name, texts, "texts")]


def as_documents(documents: Iterable[Sequence[str]]) -> Iterator[list[str]]:
    """The tokens of each document; ValueError, which names the document, for anything else."""
    if isinstance(documents, str):
        raise ValueError("documents is one string; give a list with the tokens of each document")
    lists = _iterated("documents", documents, "the tokens of each document")
    for index, tokens in enumerate(lists):
        try:
            yield as_tokens(tokens)
        except ValueError as error:
            raise ValueError(f"documents[{index}]: {error}") from None


def _iterated(name: str, value: Any, entries: str) -> Iterator[Any]:
    try:
        return iter(value)
    except TypeError:
        raise ValueError(f"{name} is {_check.brief(value)}; give a list with {entries}") from None
