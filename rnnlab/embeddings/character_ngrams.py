"""Words as bags of character n-grams, as in FastText."""

import dataclasses
from typing import Any

import numpy as np

from rnnlab import _check
from rnnlab.embeddings.directions import as_floats


def ngrams(word: str, low: int, high: int) -> list[str]:
    """The n-grams of "<word>" with ``low`` to ``high`` characters.

    >>> ngrams("cat", 3, 4)
    ['<ca', 'cat', 'at>', '<cat', 'cat>']
    """
    marked = f"<{word}>"
    grams = []
    for size in range(low, min(high, len(marked)) + 1):
        grams += [marked[start : start + size] for start in range(len(marked) - size + 1)]
    return grams


def bucket(gram: str, buckets: int) -> int:
    """The bucket of an n-gram: the FNV-1a hash of its UTF-8 bytes, as signed bytes, modulo B.

    >>> bucket("cat", 2_000_000)
    289031
    """
    value = 2166136261
    for byte in gram.encode("utf-8", "surrogatepass"):
        # FastText widens each byte as a signed one; models agree only if the mistake is kept.
        signed = byte - 256 if byte > 127 else byte
        value = ((value ^ (signed & 0xFFFFFFFF)) * 16777619) & 0xFFFFFFFF
    return value % buckets


@dataclasses.dataclass(frozen=True, eq=False)
class NGramVectors:
    """The vector of a word as the mean of those of its n-grams, for any spelling.

    Attributes:
        vectors: ``[B, D]``, one for each bucket; n-grams share buckets by their hash.
        low, high: the minimum and maximum number of characters of an n-gram.

    Raises:
        ValueError: for vectors that are not ``[B, D]`` or not finite, and bad bounds.
    """

    vectors: np.ndarray
    low: int
    high: int

    def __post_init__(self) -> None:
        vectors = as_floats("vectors", self.vectors)
        if vectors.ndim != 2 or 0 in vectors.shape or not np.isfinite(vectors).all():
            raise ValueError(
                f"the vectors of n-grams are {_check.brief(vectors)}; they must be finite, [B, D]"
            )
        _check.at_least("high", self.high, _check.positive_int("low", self.low))
        object.__setattr__(self, "vectors", vectors)

    def __repr__(self) -> str:
        buckets, size = self.vectors.shape
        return _check.summary(self, buckets=buckets, size=size, low=self.low, high=self.high)

    def __call__(self, word: str) -> Any:
        """The vector ``[D]`` of a word; zeros for one that is too short to have n-grams."""
        rows = self.rows(word)
        if not rows:
            return np.zeros(self.vectors.shape[1], np.float32)
        return self.vectors[rows].mean(axis=0)

    def rows(self, word: str) -> list[int]:
        """The buckets of the n-grams of a word."""
        return [bucket(gram, len(self.vectors)) for gram in ngrams(word, self.low, self.high)]
