"""Documents as vectors of term counts: bag of words and TF-IDF, by scikit-learn."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnnlab import _check
from rnnlab.text.packages import package
from rnnlab.text.saved import read_saved, write_saved
from rnnlab.text.tokens import as_documents, as_tokens
from rnnlab.text.vectorizers import bounds, vectorizer, weighter, weights


@dataclasses.dataclass(frozen=True, eq=False)
class BagOfWords:
    """Documents as vectors ``[N, V]``, see :func:`bag_of_words` and :func:`tf_idf`.

    Attributes:
        terms: V terms, words or n-grams of words joined by a space.
        ngrams: the minimum and maximum number of words in a term.
        idf: ``[V]``, the weight of each term; None for plain counts.
        sublinear: whether a count c is replaced by 1 + ln c.

    Raises:
        ValueError: for no terms, a repeated term, weights that are not V finite numbers, and bad
            ``ngrams``.
    """

    terms: tuple[str, ...]
    ngrams: tuple[int, int] = (1, 1)
    idf: np.ndarray | None = None
    sublinear: bool = False

    def __post_init__(self) -> None:
        terms = tuple(as_tokens(self.terms))
        if not terms or len(set(terms)) < len(terms):
            fault = "has a term twice" if terms else "has no terms"
            raise ValueError(f"the bag of words {fault}; give each term once")
        object.__setattr__(self, "terms", terms)
        object.__setattr__(self, "ngrams", bounds(self.ngrams))
        _check.flag("sublinear", self.sublinear)
        object.__setattr__(self, "sublinear", bool(self.sublinear))
        if self.idf is not None:
            object.__setattr__(self, "idf", weights(self.idf, len(terms)))

    def __repr__(self) -> str:
        weights = "counts" if self.idf is None else "TF-IDF"
        return _check.summary(self, terms=len(self.terms), ngrams=self.ngrams, weights=weights)

    @functools.cached_property
    def _vectorizer(self) -> Any:
        return vectorizer(self.ngrams, vocabulary=self.terms)

    def __call__(self, documents: Iterable[Sequence[str]]) -> Any:
        """The vectors of documents, a sparse matrix ``[N, V]`` of scipy.

        Terms that are not among ``terms`` are ignored. With weights, each row has length 1, or is
        zero.
        """
        counts = self._vectorizer.transform(as_documents(documents))
        # scikit-learn refuses to weigh no documents.
        if self.idf is None or not counts.shape[0]:
            return counts
        return weighter(self.idf, self.sublinear).transform(counts)

    def save(self, path: str | Path) -> None:
        """Writes the terms and their weights as JSON."""
        idf = None if self.idf is None else self.idf.tolist()
        content = {"terms": list(self.terms), "ngrams": list(self.ngrams), "idf": idf}
        write_saved(path, "bag of words", content | {"sublinear": self.sublinear})


def load_bag_of_words(path: str | Path) -> BagOfWords:
    """The bag of words of :meth:`BagOfWords.save`.

    Raises:
        ValueError: for a file that is unreadable, of another kind, or of another version.
    """
    content = read_saved(path, "bag of words")
    names = ("terms", "ngrams", "idf", "sublinear")
    if not content.keys() >= set(names):
        raise ValueError(f"{path} lacks terms or weights; save the bag of words again")
    try:
        return BagOfWords(*[content[name] for name in names])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def bag_of_words(
    documents: Iterable[Sequence[str]],
    *,
    ngrams: tuple[int, int] = (1, 1),
    min_documents: int = 1,
    max_terms: int | None = None,
) -> BagOfWords:
    """A bag of words over the terms of documents, in alphabetical order.

    >>> documents = [["a", "cat", "a"], ["a", "dog"]]
    >>> bag = bag_of_words(documents)
    >>> bag.terms, bag(documents).toarray().tolist()
    (('a', 'cat', 'dog'), [[2, 1, 0], [1, 0, 1]])

    Args:
        documents: for each document its tokens.
        ngrams: the minimum and maximum number of words in a term, such as (1, 2) for words and
            pairs.
        min_documents: the minimum number of documents that a term occurs in.
        max_terms: the maximum of V; the most frequent terms are kept. None keeps all.

    Raises:
        ValueError: for documents without a term, and bad limits.
        ImportError: where scikit-learn is not installed.
    """
    counter, _ = _fitted(documents, ngrams, min_documents, max_terms)
    low, high = ngrams
    return BagOfWords(tuple(counter.get_feature_names_out().tolist()), (low, high))


def tf_idf(
    documents: Iterable[Sequence[str]],
    *,
    ngrams: tuple[int, int] = (1, 1),
    min_documents: int = 1,
    max_terms: int | None = None,
    sublinear: bool = False,
) -> BagOfWords:
    """A bag of words over N documents, weighted by inverse document frequency.

    idf(t) = ln((1 + N) / (1 + n(t))) + 1, where n(t) documents have the term; a document is the
    vector of count · idf, divided by its length (Salton & Buckley 1988, smoothed as scikit-learn
    does).

    >>> documents = [["a", "cat"], ["a", "dog"]]
    >>> weights = tf_idf(documents)
    >>> weights(documents).toarray().round(3).tolist()
    [[0.58, 0.815, 0.0], [0.58, 0.0, 0.815]]

    Args:
        documents, ngrams, min_documents, max_terms: as for :func:`bag_of_words`.
        sublinear: whether a count c is replaced by 1 + ln c.

    Raises:
        ValueError: for documents without a term, and bad limits.
        ImportError: where scikit-learn is not installed.
    """
    _check.flag("sublinear", sublinear)
    counter, counts = _fitted(documents, ngrams, min_documents, max_terms)
    transformer = package("scikit-learn", "sklearn.feature_extraction.text").TfidfTransformer()
    idf = transformer.fit(counts).idf_
    terms = tuple(counter.get_feature_names_out().tolist())
    low, high = ngrams
    return BagOfWords(terms, (low, high), idf, bool(sublinear))


def _fitted(
    documents: Iterable[Sequence[str]],
    ngrams: tuple[int, int],
    min_documents: int,
    max_terms: int | None,
) -> tuple[Any, Any]:
    """A counter that knows the terms, and the counts of the documents."""
    _check.positive_int("min_documents", min_documents)
    if max_terms is not None:
        _check.positive_int("max_terms", max_terms)
    documents = list(as_documents(documents))
    if min_documents > max(len(documents), 1):
        raise ValueError(
            f"min_documents is {min_documents}, but there are {len(documents)} documents; give less"
        )
    counter = vectorizer(ngrams, min_df=min_documents, max_features=max_terms)
    try:
        return counter, counter.fit_transform(documents)
    except ValueError:
        raise ValueError(
            f"no term is in {min_documents} or more documents; give documents with tokens, or a "
            "smaller min_documents"
        ) from None
