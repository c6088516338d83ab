"""Word vectors of one language mapped into the space of another, for translation."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from rnnlab.embeddings.character_ngrams import NGramVectors
from rnnlab.embeddings.vectors import Embeddings


def aligned(source: Embeddings, target: Embeddings, pairs: Iterable[tuple[str, str]]) -> Embeddings:
    """``source`` mapped orthogonally into the space of ``target``, by known translations.

        min over W with WᵀW = I of Σᵢ ‖x̂ᵢ W − ŷᵢ‖²,    W = U Vᵀ of the SVD X̂ᵀ Ŷ = U S Vᵀ,

    where x̂ᵢ and ŷᵢ are the vectors of the i-th pair, divided by their lengths (Xing et al. 2015,
    "Normalized word embedding and orthogonal transform for bilingual word translation"). Cosines
    within ``source`` do not change. ``target.nearest`` then translates words that are in no pair:

    >>> from rnnlab.text import Vocabulary
    >>> english = Embeddings(Vocabulary(("cat", "dog", "car")), np.array([[4, 0], [4, 1], [0, 2]]))
    >>> words = Vocabulary(("Katze", "Hund", "Auto"))
    >>> german = Embeddings(words, np.array([[0, 3], [-1, 4], [-1, 0]]))
    >>> rotated = aligned(english, german, [("cat", "Katze"), ("dog", "Hund")])
    >>> german.nearest(rotated.vector("car"))[0].word
    'Auto'

    Args:
        source: V vectors of D numbers.
        target: any number of vectors of D numbers.
        pairs: a word of ``source`` and its translation in ``target``, at least D pairs and better
            thousands; those with a word that is not in its vocabulary are ignored.

    Raises:
        ValueError: for vectors of different sizes, and if no pair is left.
    """
    if source.size != target.size:
        raise ValueError(
            f"source has vectors of {source.size} numbers and target of {target.size}; train both "
            "with the same size"
        )
    known = [(x, y) for x, y in pairs if x in source and y in target]
    if not known:
        raise ValueError("no pair has both of its words in the vocabularies; give pairs that do")
    xs = source.vectors_of([x for x, _ in known]).astype(np.float64)
    ys = target.vectors_of([y for _, y in known]).astype(np.float64)
    left, _, right = np.linalg.svd(_directions(xs).T @ _directions(ys))
    rotation = (left @ right).astype(np.float32)
    return dataclasses.replace(
        source, vectors=source.vectors @ rotation, subwords=_rotated(source.subwords, rotation)
    )


def _directions(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)


def _rotated(
    subwords: Callable[[str], np.ndarray] | None, rotation: np.ndarray
) -> Callable[[str], np.ndarray] | None:
    if subwords is None:
        return None
    if isinstance(subwords, NGramVectors):
        # A word is a mean of n-grams, which can be rotated once, and saved.
        return dataclasses.replace(subwords, vectors=subwords.vectors @ rotation)
    return lambda word: subwords(word) @ rotation
