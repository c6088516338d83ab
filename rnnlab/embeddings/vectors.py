"""Word vectors: neighbours, analogies, and the vectors of unknown words."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rnnlab import _check
from rnnlab.embeddings.character_ngrams import NGramVectors
from rnnlab.embeddings.directions import directions
from rnnlab.embeddings.neighbours import Neighbour, analogy_scores, best
from rnnlab.embeddings.vector_checks import (
    check_unknown,
    check_vocabulary,
    checked_query,
    checked_spelling,
    checked_vectors,
    known_code,
)
from rnnlab.embeddings.vector_files import Arrays, write_arrays
from rnnlab.text.tokens import as_tokens
from rnnlab.text.vocabulary import UNK, Vocabulary


class Selected(NamedTuple):
    """The result of :meth:`Embeddings.select`.

    Attributes:
        matrix: ``[V, D]``, float32, in the order of the wanted vocabulary.
        missing: the words without a vector.
    """

    matrix: np.ndarray
    missing: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Embeddings:
    """A vector of D numbers for each of V words.

    >>> vectors = np.array([[1, 0], [0.9, 0.1], [0, 1]])
    >>> embeddings = Embeddings(Vocabulary(("cat", "dog", "car")), vectors)
    >>> embeddings.nearest("cat", count=1)
    [Neighbour(word='dog', score=0.993...)]
    >>> embeddings.vectors_of(["car", "plane"]).tolist()
    [[0.0, 1.0], [0.0, 0.0]]

    Attributes:
        vocabulary: the V words.
        vectors: ``[V, D]``, float32.
        unknown: the vector of an unknown word: "zero"; "mean", that of all vectors; "unk", that of
            "<unk>", which some files have; or "error".
        subwords: a function from an unknown word to its vector ``[D]``, such as the mean of its
            n-grams in FastText; it takes precedence over ``unknown``.

    Raises:
        ValueError: for vectors that are not ``[V, D]``, NaN or infinity, an unknown policy, and
            "unk" without "<unk>" in the vocabulary.
    """

    vocabulary: Vocabulary
    vectors: np.ndarray
    unknown: str = "zero"
    subwords: Callable[[str], np.ndarray] | None = None

    def __post_init__(self) -> None:
        check_vocabulary(self.vocabulary)
        check_unknown(self.vocabulary, self.unknown, self.subwords)
        vectors = checked_vectors(self.vocabulary, self.vectors)
        object.__setattr__(self, "vectors", vectors)

    def __repr__(self) -> str:
        return _check.summary(self, words=len(self), size=self.size, unknown=self.unknown)

    def __len__(self) -> int:
        return len(self.vocabulary)

    def __contains__(self, word: object) -> bool:
        return word in self.vocabulary

    @property
    def size(self) -> int:
        """D."""
        return self.vectors.shape[1]

    @functools.cached_property
    def _directions(self) -> np.ndarray:
        """The vectors divided by their lengths; a zero vector stays zero."""
        return directions(self.vectors)

    @functools.cached_property
    def _mean(self) -> np.ndarray:
        return self.vectors.mean(axis=0, dtype=np.float64).astype(np.float32)

    def vector(self, word: str) -> np.ndarray:
        """The vector ``[D]`` of a word, known or unknown.

        Raises:
            ValueError: for an unknown word, if the policy is "error".
        """
        code = self.vocabulary.code(word)
        if code is None and self.subwords is not None:
            return checked_spelling(word, self.subwords(word), self.size)
        if code is None and self.unknown == "error":
            raise ValueError(f"{word!r} has no vector; choose unknown='zero' or 'mean', or skip it")
        if code is None and self.unknown == "unk":
            code = self.vocabulary.code(UNK)
        if code is not None:
            return self.vectors[code]
        return self._mean if self.unknown == "mean" else np.zeros(self.size, np.float32)

    def vectors_of(self, tokens: Sequence[str]) -> np.ndarray:
        """The vectors ``[N, D]`` of N tokens."""
        tokens = as_tokens(tokens)
        if not tokens:
            return np.zeros((0, self.size), np.float32)
        return np.stack([self.vector(token) for token in tokens])

    def similarity(self, first: str, second: str) -> float:
        """The cosine of the angle between two words; 0 for a zero vector."""
        return float(directions(self.vector(first)) @ directions(self.vector(second)))

    def nearest(self, word: str | np.ndarray, count: int = 10) -> list[Neighbour]:
        """The words with the largest cosine similarity, the largest first.

        Args:
            word: a word, which is left out of the result, or a vector ``[D]``.
            count: the maximum number of words.

        Raises:
            ValueError: for a zero vector, as an unknown word may have, and for NaN or infinity.
        """
        _check.positive_int("count", count)
        is_word = isinstance(word, str)
        code = self.vocabulary.code(word) if is_word else None
        unknown = word if is_word and code is None else None
        vector = checked_query(self.vector(word) if is_word else word, self.size, unknown)
        left_out = () if code is None else (code,)
        return best(self.vocabulary, self._directions @ directions(vector), left_out, count)

    def analogy(
        self, a: str, b: str, c: str, count: int = 1, *, method: str = "add"
    ) -> list[Neighbour]:
        """The words d for "a is to b as c is to d", such as man, king, woman: queen.

        "add" maximises cos(d, b − a + c) with all vectors of length 1 (Mikolov et al. 2013);
        "multiply" maximises cos'(d, b) cos'(d, c) / (cos'(d, a) + 0.001) with cos' = (1 + cos) / 2
        (Levy & Goldberg 2014). The three words are left out.

        Raises:
            ValueError: for a word that is not in the vocabulary, and an unknown method.
        """
        _check.positive_int("count", count)
        _check.one_of("method", method, ("add", "multiply"))
        codes = [known_code(self.vocabulary, word) for word in (a, b, c)]
        scores = analogy_scores(self._directions, codes, method)
        return best(self.vocabulary, scores, codes, count)

    def select(self, vocabulary: Vocabulary) -> Selected:
        """The vectors of another vocabulary, such as that of a model.

        Special tokens such as "<pad>" are unknown words, which count as missing unless they have a
        vector from n-grams.
        """
        check_vocabulary(vocabulary)
        matrix = np.empty((len(vocabulary), self.size), np.float32)
        missing = []
        for row, word in enumerate(vocabulary.tokens):
            if word not in self.vocabulary and self.subwords is None:
                missing.append(word)
            matrix[row] = self.vector(word)
        return Selected(matrix, tuple(missing))

    def to_nnx(self) -> Any:
        """A ``flax.nnx.Embed`` with these vectors, an ``nnx.Param`` that optimisers train."""
        from flax import nnx

        embed = nnx.Embed(len(self), self.size, rngs=nnx.Rngs(0))
        embed.embedding[...] = self.vectors
        return embed

    def save(self, path: str | Path) -> None:
        """Writes words and vectors as an ``.npz`` file, with those of n-grams that rnnlab trained.

        Raises:
            ValueError: for other subwords, such as those of a model that gensim read, and for a
                word with a line end.
        """
        if self.subwords is not None and not isinstance(self.subwords, NGramVectors):
            raise ValueError(
                "the vectors of unknown words come from another library and cannot be saved; save "
                "dataclasses.replace(embeddings, subwords=None), which keeps the words"
            )
        tokens = self.vocabulary.tokens
        write_arrays(path, Arrays(tokens, self.vectors, self.unknown, self.subwords))
