"""Checks of words and vectors: each error is one sentence with the fault and the fix."""

from typing import Any

import numpy as np

from rnnlab import _check
from rnnlab.embeddings.directions import as_floats
from rnnlab.text.vocabulary import UNK, Vocabulary

UNKNOWN = ("zero", "mean", "unk", "error")
"""What a word without a vector gets: zeros, the mean of all vectors, that of "<unk>", or an error.
"""


def check_vocabulary(value: object) -> None:
    """ValueError for anything but a vocabulary."""
    if not isinstance(value, Vocabulary):
        raise ValueError(
            f"the vocabulary is {_check.brief(value)}; give an rnnlab.text.Vocabulary of the words"
        )


def check_unknown(vocabulary: Vocabulary, unknown: str, subwords: Any) -> None:
    """ValueError for an unknown policy, one that lacks its token, and bad subwords."""
    _check.one_of("unknown", unknown, UNKNOWN)
    if unknown == "unk" and UNK not in vocabulary:
        raise ValueError(f"{UNK!r} is not in the vocabulary; choose unknown='zero' or 'mean'")
    if subwords is not None and not callable(subwords):
        raise ValueError(
            f"subwords is {_check.brief(subwords)}; give a function of a word, or None"
        )


def known_code(vocabulary: Vocabulary, word: str) -> int:
    """The code of a word of an analogy; ValueError for one that is not in the vocabulary."""
    code = vocabulary.code(word)
    if code is None:
        raise ValueError(f"{word!r} is not in the vocabulary; give three words that are")
    return code


def checked_vectors(vocabulary: Vocabulary, value: Any) -> np.ndarray:
    """``value`` as float32 ``[V, D]``; ValueError for another shape, NaN and infinity."""
    vectors = as_floats("vectors", value)
    if vectors.ndim != 2 or vectors.shape[0] != len(vocabulary) or vectors.shape[1] == 0:
        raise ValueError(
            f"vectors have shape {vectors.shape}, but the vocabulary has "
            f"{len(vocabulary)} words; give one row of numbers for each"
        )
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise ValueError(
            f"the vector of {vocabulary.tokens[row]!r} holds NaN or infinity; leave the word out"
        )
    return vectors


def checked_spelling(word: str, value: Any, size: int) -> np.ndarray:
    """What subwords gave for a word, as float32 ``[D]``; ValueError for anything else."""
    vector = as_floats("the vector from subwords", value)
    if vector.shape != (size,) or not np.isfinite(vector).all():
        raise ValueError(
            f"subwords gave {word!r} {_check.brief(vector)}; it must give {size} finite numbers"
        )
    return vector


def checked_query(value: Any, size: int, unknown: Any = None) -> np.ndarray:
    """A vector ``[D]`` as float32; ValueError for another shape, NaN, infinity and zero.

    ``unknown`` is the word, if it is not in the vocabulary.
    """
    vector = as_floats("the vector", value)
    if vector.shape != (size,) or not np.isfinite(vector).all():
        raise ValueError(
            f"the vector has shape {vector.shape}; it must be ({size},), without NaN or infinity"
        )
    if not vector.any() and unknown is not None:
        raise ValueError(
            f"{unknown!r} is not in the vocabulary, and its vector is zero; give a word that is"
        )
    if not vector.any():
        raise ValueError("the vector is zero, which has no direction; give another vector or word")
    return vector


def converged(vectors: np.ndarray, learning_rate: float) -> None:
    """ValueError for trained vectors with NaN or infinity."""
    if not np.isfinite(vectors).all():
        raise ValueError(
            f"training diverged with learning_rate={learning_rate}; choose a smaller one"
        )
