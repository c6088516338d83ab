"""Words as vectors: neighbours, analogies, and what unknown words get."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rnnlab import _check
from rnnlab.data.text import as_path
from rnnlab.embeddings.character_ngrams import NGramVectors
from rnnlab.text.tokens import as_tokens
from rnnlab.text.vocabulary import Vocabulary

UNKNOWN = ("zero", "mean", "error")
"""What a word without a vector gets: zeros, the mean of all vectors, or an error."""


class Neighbour(NamedTuple):
    """A word and its cosine similarity, or its score in an analogy."""

    word: str
    score: float


class Selected(NamedTuple):
    """The result of :meth:`Embeddings.select`.

    Attributes:
        matrix: ``[V, D]``, float32, in the order of the wanted vocabulary.
        missing: the words that have no vector.
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
        unknown: what other words get: "zero", "mean" or "error".
        subwords: gives an unknown word the vector of its n-grams, ``[D]``, where the embeddings
            have those, as FastText's; it then goes before ``unknown``.

    Raises:
        ValueError: for vectors that are not ``[V, D]``, NaN or infinity, and an unknown policy.
    """

    vocabulary: Vocabulary
    vectors: np.ndarray
    unknown: str = "zero"
    subwords: Callable[[str], np.ndarray] | None = None

    def __post_init__(self) -> None:
        _check.one_of("unknown", self.unknown, UNKNOWN)
        vectors = np.asarray(self.vectors, np.float32)
        if vectors.ndim != 2 or vectors.shape[0] != len(self.vocabulary):
            raise ValueError(
                f"vectors have shape {vectors.shape}, but the vocabulary has "
                f"{len(self.vocabulary)} words; give one row for each"
            )
        if not np.isfinite(vectors).all():
            row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
            raise ValueError(
                f"the vector of {self.vocabulary.tokens[row]!r} holds NaN or infinity; leave the "
                "word out"
            )
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
        lengths = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return self.vectors / np.maximum(lengths, np.finfo(np.float32).tiny)

    @functools.cached_property
    def _mean(self) -> np.ndarray:
        return self.vectors.mean(axis=0)

    def vector(self, word: str) -> np.ndarray:
        """The vector ``[D]`` of a word, or what an unknown one gets.

        Raises:
            ValueError: for an unknown word, if the policy is "error".
        """
        code = self.vocabulary.code(word)
        if code is not None:
            return self.vectors[code]
        if self.subwords is not None:
            return np.asarray(self.subwords(word), np.float32)
        if self.unknown == "error":
            raise ValueError(f"{word!r} has no vector; choose unknown='zero' or 'mean', or skip it")
        return self._mean if self.unknown == "mean" else np.zeros(self.size, np.float32)

    def vectors_of(self, tokens: Sequence[str]) -> np.ndarray:
        """The vectors ``[N, D]`` of N tokens."""
        tokens = as_tokens(tokens)
        if not tokens:
            return np.zeros((0, self.size), np.float32)
        return np.stack([self.vector(token) for token in tokens])

    def similarity(self, first: str, second: str) -> float:
        """The cosine of the angle between two words; 0 for a zero vector."""
        return float(_direction(self.vector(first)) @ _direction(self.vector(second)))

    def nearest(self, word: str | np.ndarray, count: int = 10) -> list[Neighbour]:
        """The words with the largest cosine similarity, the largest first.

        Args:
            word: a word, which is left out of the result, or a vector ``[D]``.
            count: how many.
        """
        _check.positive_int("count", count)
        if isinstance(word, str):
            code = self.vocabulary.code(word)
            scores = self._directions @ _direction(self.vector(word))
            return self._best(scores, () if code is None else (code,), count)
        vector = np.asarray(word, np.float32)
        if vector.shape != (self.size,):
            raise ValueError(f"the vector has shape {vector.shape}; it must be ({self.size},)")
        return self._best(self._directions @ _direction(vector), (), count)

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
        _check.one_of("method", method, ("add", "multiply"))
        codes = []
        for word in (a, b, c):
            code = self.vocabulary.code(word)
            if code is None:
                raise ValueError(f"{word!r} is not in the vocabulary; give three words that are")
            codes.append(code)
        of_a, of_b, of_c = self._directions[codes]
        if method == "add":
            scores = self._directions @ _direction(of_b - of_a + of_c)
        else:
            to_a, to_b, to_c = (0.5 + 0.5 * (self._directions @ v) for v in (of_a, of_b, of_c))
            scores = to_b * to_c / (to_a + 0.001)
        return self._best(scores, codes, count)

    def _best(self, scores: np.ndarray, left_out: Sequence[int], count: int) -> list[Neighbour]:
        scores = scores.copy()
        scores[list(left_out)] = -np.inf
        count = min(count, len(self) - len(set(left_out)))
        if count <= 0:
            return []
        best = np.argpartition(-scores, count - 1)[:count]
        ranked = best[np.argsort(-scores[best], kind="stable")]
        return [Neighbour(self.vocabulary.tokens[code], float(scores[code])) for code in ranked]

    def select(self, vocabulary: Vocabulary) -> Selected:
        """The vectors of another vocabulary, such as that of a model.

        Special tokens such as "<pad>" get what unknown words get, and count as missing; those with
        vectors from n-grams do not.
        """
        matrix = np.empty((len(vocabulary), self.size), np.float32)
        missing = []
        for row, word in enumerate(vocabulary.tokens):
            if word not in self.vocabulary and self.subwords is None:
                missing.append(word)
            matrix[row] = self.vector(word)
        return Selected(matrix, tuple(missing))

    def to_nnx(self) -> Any:
        """A ``flax.nnx.Embed`` with these vectors, a variable that is trained unless filtered."""
        from flax import nnx

        embed = nnx.Embed(len(self), self.size, rngs=nnx.Rngs(0))
        embed.embedding[...] = self.vectors
        return embed

    def save(self, path: str | Path) -> None:
        """Writes words and vectors as an ``.npz`` file, with those of n-grams that rnnlab trained.

        ValueError for other subwords, such as those of a model that gensim read, and for a word
        with a line end.
        """
        if any("\n" in word for word in self.vocabulary.tokens):
            raise ValueError("a word holds a line end, so that the words cannot be saved as lines")
        arrays: dict[str, Any] = {
            "words": np.array("\n".join(self.vocabulary.tokens).encode("utf-8")),
            "vectors": self.vectors,
            "unknown": np.array(self.unknown),
        }
        if isinstance(self.subwords, NGramVectors):
            arrays["ngrams"] = self.subwords.vectors
            arrays["bounds"] = np.array([self.subwords.low, self.subwords.high])
        elif self.subwords is not None:
            raise ValueError(
                "the vectors of unknown words come from another library and cannot be saved; save "
                "dataclasses.replace(embeddings, subwords=None), which keeps the words"
            )
        with as_path(path).open("wb") as file:
            np.savez(file, **arrays)


def _direction(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), np.finfo(np.float32).tiny)


def load_embeddings(path: str | Path) -> Embeddings:
    """The embeddings of :meth:`Embeddings.save`.

    Raises:
        ValueError: for a file that cannot be read or holds something else.
    """
    path = as_path(path)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            words = arrays["words"].item().decode("utf-8").split("\n")
            vectors, unknown = arrays["vectors"], str(arrays["unknown"])
            subwords = None
            if "ngrams" in arrays:
                subwords = NGramVectors(arrays["ngrams"], *map(int, arrays["bounds"]))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error})") from None
    # NumPy raises zipfile's and pickle's errors as they come.
    except Exception:
        raise ValueError(
            f"{path} holds no embeddings; give a file that they were saved to"
        ) from None
    return Embeddings(Vocabulary(tuple(words)), vectors, unknown, subwords)
