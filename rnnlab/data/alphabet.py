"""Characters as codes: the alphabet of a text, and texts in the alphabet of another."""

import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Corpus(NamedTuple):
    """A text as symbols: ``codes [N]`` are indices into ``alphabet``.

    Attributes:
        codes: ``[N]``, one code for each character.
        alphabet: the symbols; the last may be "", which stands for all rare or unknown characters.
        source: the origin of the text: name, SHA-256 of its UTF-8 bytes, length, versions.
    """

    codes: np.ndarray
    alphabet: tuple[str, ...]
    source: dict[str, str | int]


def encode(text: str, source: dict[str, str | int], size: int) -> Corpus:
    """``text`` as indices into an alphabet of at most ``size`` symbols, the most frequent first.

    Where the text has more characters than that, the rarer ones share the last symbol.

    >>> corpus = encode("aaabbcd", {}, size=3)
    >>> corpus.alphabet, corpus.codes.tolist()
    (('a', 'b', ''), [0, 0, 0, 1, 1, 2, 2])

    Raises:
        ValueError: for an empty text, something that is not text, and a size below 1.
    """
    _check_size(size)
    ranked = _by_frequency(text)
    alphabet = tuple(ranked)
    if len(ranked) > size:
        alphabet = (*ranked[: size - 1], "")
    return encode_with(text, source, alphabet)


def alphabet_of(text: str, size: int) -> tuple[str, ...]:
    """The ``size − 1`` most frequent characters of ``text``, and "" for all others.

    In contrast to :func:`encode` the last symbol is always "", so that other texts can be encoded.

    >>> alphabet_of("aab", size=8)
    ('a', 'b', '')

    Raises:
        ValueError: for an empty text, something that is not text, and a size below 1.
    """
    _check_size(size)
    return (*_by_frequency(text)[: size - 1], "")


def encode_with(text: str, source: dict[str, str | int], alphabet: Sequence[str]) -> Corpus:
    """``text`` as indices into a given alphabet, such as that of a training text.

    Characters that are not in the alphabet share its last symbol, "".

    >>> encode_with("abz", {}, ("a", "b", "")).codes.tolist()
    [0, 1, 2]

    Raises:
        ValueError: for an empty text, an empty alphabet or one whose symbols are not single
            characters, and for a character that is unknown where the alphabet does not end in "".
    """
    _check_alphabet(alphabet)
    points = _code_points(text)
    last = len(alphabet) - 1
    # Every code point starts as the last symbol, and the known ones get their own.
    known = [ord(symbol) for symbol in alphabet if symbol]
    table = np.full(max(points.max(), *known, 0) + 1, last, np.int32)
    table[known] = np.arange(len(known))
    codes = table[points]
    if alphabet[-1]:
        unknown = np.flatnonzero((codes == last) & (points != ord(alphabet[-1])))
        if unknown.size:
            raise ValueError(
                f"the character {text[unknown[0]]!r} is not in the alphabet; let the alphabet end "
                'in "", which stands for unknown characters'
            )
    return Corpus(codes, tuple(alphabet), source)


def decode(codes: Any, alphabet: Sequence[str]) -> str:
    """The text of ``codes [N]``; the symbol "" is shown as U+FFFD, the replacement character.

    >>> decode([0, 1, 2], ("a", "b", ""))
    'ab\N{REPLACEMENT CHARACTER}'

    Raises:
        ValueError: for codes that are not whole numbers ``[N]`` or lie outside of the alphabet, and
            for a bad alphabet, as in :func:`encode_with`.
    """
    _check_alphabet(alphabet)
    symbols = [symbol or "\N{REPLACEMENT CHARACTER}" for symbol in alphabet]
    codes = np.asarray(codes)
    if codes.ndim != 1 or (codes.size and codes.dtype.kind not in "iu"):
        raise ValueError(
            f"codes are {codes.dtype}{list(codes.shape)}; give whole numbers [N], one text, such "
            "as codes[:, 0] of several side by side"
        )
    illegal = codes[(codes < 0) | (codes >= len(symbols))]
    if illegal.size:
        raise ValueError(f"codes hold {illegal[0]}; each must lie in 0..{len(symbols) - 1}")
    return "".join(symbols[code] for code in codes.tolist())


def _check_size(size: object) -> None:
    # Not by rnnlab._check, which imports JAX: the command line reads text before JAX starts.
    if isinstance(size, bool) or not isinstance(size, numbers.Integral) or size < 1:
        raise ValueError(f"size is {size!r}; it must be an integer of at least 1")


def _by_frequency(text: str) -> list[str]:
    """The characters of ``text``, the most frequent first."""
    counts = np.bincount(_code_points(text))
    # A stable sort: characters that are equally frequent keep the order of their code points.
    ranked = np.argsort(-counts, kind="stable")
    return list(map(chr, ranked[: np.count_nonzero(counts)]))


def _code_points(text: str) -> np.ndarray:
    if not isinstance(text, str):
        raise ValueError(
            f"the text is of type {type(text).__name__}; give a string, such as the first of what "
            "read_text returns"
        )
    if not text:
        raise ValueError("the text is empty; give at least one character")
    # UTF-32 has four bytes for each character: NumPy can read them as numbers, and is much faster
    # than a loop over millions of characters.
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _check_alphabet(alphabet: Sequence[str]) -> None:
    if not isinstance(alphabet, Sequence) or not alphabet:
        raise ValueError("the alphabet is empty; give at least one symbol")
    for place, symbol in enumerate(alphabet):
        is_unknown = symbol == "" and place == len(alphabet) - 1
        if not isinstance(symbol, str) or (len(symbol) != 1 and not is_unknown):
            raise ValueError(
                f"alphabet[{place}] is {symbol!r}; give single characters, and at most the last "
                'may be ""'
            )
    if len(set(alphabet)) < len(alphabet):
        raise ValueError("the alphabet holds a symbol twice; give each once")
