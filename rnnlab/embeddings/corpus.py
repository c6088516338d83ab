"""Documents as one sequence of codes, for training word vectors."""

import collections
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from rnnlab import _check
from rnnlab.text.tokens import as_documents
from rnnlab.text.vocabulary import Vocabulary, build_vocabulary


class CodedCorpus(NamedTuple):
    """The N tokens of all documents that are in the vocabulary, one document after the other.

    Attributes:
        vocabulary: V words, the most frequent first.
        codes: ``[N]``, int32.
        documents: ``[N]``, the document of each token, int32.
        counts: ``[V]``, how often each word occurs.
    """

    vocabulary: Vocabulary
    codes: np.ndarray
    documents: np.ndarray
    counts: np.ndarray


def coded(documents: Iterable[Sequence[str]], min_count: int, max_words: int | None) -> CodedCorpus:
    """The codes of documents; words that occur less than ``min_count`` times are left out.

    Raises:
        ValueError: for documents that are not lists of strings, and where fewer than two words are
            left.
    """
    lists = list(as_documents(documents))
    _check.positive_int("min_count", min_count)
    if max_words is not None:
        # A word that is alone has no other to be told from.
        _check.at_least("max_words", max_words, 2)
    often = [token for token, n in _counts(lists).items() if n >= min_count]
    if len(often) < 2:
        raise ValueError(
            f"only {len(often)} words occur at least {min_count} times; give more text, or a "
            "smaller min_count"
        )
    vocabulary = build_vocabulary(lists, min_count=min_count, max_size=max_words, special=())
    parts, owners = [], []
    for index, tokens in enumerate(lists):
        codes = [vocabulary.code(token) for token in tokens]
        kept = np.array([code for code in codes if code is not None], np.int32)
        parts.append(kept)
        owners.append(np.full(kept.size, index, np.int32))
    codes = np.concatenate(parts)
    counts = np.bincount(codes, minlength=len(vocabulary))
    return CodedCorpus(vocabulary, codes, np.concatenate(owners), counts)


def longest_document(corpus: CodedCorpus) -> int:
    """The number of tokens of the longest document, which no window need exceed."""
    return int(np.bincount(corpus.documents).max())


def _counts(lists: list[list[str]]) -> collections.Counter:
    counts = collections.Counter()
    for tokens in lists:
        counts.update(tokens)
    return counts


def subsampled(corpus: CodedCorpus, threshold: float, random: np.random.Generator) -> np.ndarray:
    """The positions of the tokens that an epoch keeps.

    A word of frequency f is kept with probability min(1, √(t/f) + t/f), as in word2vec's code.
    """
    if threshold == 0:
        return np.arange(corpus.codes.size)
    ratio = threshold * corpus.codes.size / np.maximum(corpus.counts, 1)
    keep = np.sqrt(ratio) + ratio
    return np.flatnonzero(random.random(corpus.codes.size) < keep[corpus.codes])
