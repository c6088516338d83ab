"""The words with the largest scores: neighbours and answers to analogies."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rnnlab.embeddings.directions import directions
from rnnlab.text.vocabulary import Vocabulary


class Neighbour(NamedTuple):
    """A word and its cosine similarity, or its score in an analogy."""

    word: str
    score: float


def analogy_scores(unit: np.ndarray, codes: Sequence[int], method: str) -> np.ndarray:
    """The score of each word as d in "a is to b as c is to d"; ``unit [V, D]`` has length 1."""
    of_a, of_b, of_c = unit[list(codes)]
    if method == "add":
        return unit @ directions(of_b - of_a + of_c)
    to_a, to_b, to_c = (0.5 + 0.5 * (unit @ vector) for vector in (of_a, of_b, of_c))
    return to_b * to_c / (to_a + 0.001)


def best(
    vocabulary: Vocabulary, scores: np.ndarray, left_out: Sequence[int], count: int
) -> list[Neighbour]:
    """The ``count`` words with the largest ``scores [V]``, the largest first."""
    scores = scores.copy()
    scores[list(left_out)] = -np.inf
    count = min(count, len(vocabulary) - len(set(left_out)))
    if count <= 0:
        return []
    largest = np.argpartition(-scores, count - 1)[:count]
    ranked = largest[np.argsort(-scores[largest], kind="stable")]
    return [Neighbour(vocabulary.tokens[code], float(scores[code])) for code in ranked]
