"""Vectorisers of scikit-learn for lists of tokens, and the checks of their settings."""

from typing import Any

import numpy as np

from rnnlab import _check
from rnnlab.text.packages import package


def vectorizer(ngrams: tuple[int, int], **options: Any) -> Any:
    """A counter of the terms of documents that are lists of tokens."""
    library = package("scikit-learn", "sklearn.feature_extraction.text")
    # The documents are split into tokens already.
    return library.CountVectorizer(
        tokenizer=list,
        preprocessor=list,
        token_pattern=None,
        lowercase=False,
        ngram_range=bounds(ngrams),
        **options,
    )


def bounds(ngrams: Any) -> tuple[int, int]:
    """The least and the greatest number of words in a term; ValueError for anything else."""
    try:
        low, high = ngrams
    except (TypeError, ValueError):
        raise ValueError(f"ngrams is {ngrams!r}; give two numbers, such as (1, 2)") from None
    low = _check.positive_int("ngrams[0]", low)
    return low, _check.at_least("ngrams[1]", high, low)


def weights(idf: Any, count: int) -> np.ndarray:
    """The weights of ``count`` terms; ValueError for anything but finite numbers."""
    try:
        found = np.asarray(idf, float)
    except (TypeError, ValueError):
        found = np.zeros(0)
    if found.shape != (count,) or not np.isfinite(found).all():
        raise ValueError(f"idf must be a finite number for each of {count} terms; give that many")
    return found


def weighter(idf: np.ndarray, sublinear: bool) -> Any:
    """A transformer of counts into weights, each row of length 1."""
    library = package("scikit-learn", "sklearn.feature_extraction.text")
    transformer = library.TfidfTransformer(sublinear_tf=sublinear)
    transformer.idf_ = idf
    return transformer
