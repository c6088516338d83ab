"""Skip-gram with negative sampling: word2vec, FastText, and n-grams alone."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from rnnlab import _check
from rnnlab.embeddings import word_parts
from rnnlab.embeddings.character_ngrams import NGramVectors
from rnnlab.embeddings.corpus import coded
from rnnlab.embeddings.negative_sampling import train
from rnnlab.embeddings.skip_gram_batches import Plan
from rnnlab.embeddings.vectors import Embeddings


class Trained(NamedTuple):
    """Word vectors, and the losses of their training.

    Attributes:
        embeddings: the vectors.
        losses: the mean loss of a pair with its negatives in each epoch, in nats, ``[epochs]``.
    """

    embeddings: Embeddings
    losses: np.ndarray


def word2vec(
    documents: Iterable[Sequence[str]],
    *,
    size: int = 100,
    window: int = 5,
    negatives: int = 5,
    min_count: int = 5,
    max_words: int | None = None,
    sample: float = 1e-3,
    epochs: int = 5,
    learning_rate: float = 0.025,
    seed: int = 0,
) -> Trained:
    """Word vectors by skip-gram with negative sampling (Mikolov et al. 2013).

    For each pair of a centre word i and a context word o, within a random distance of 1 to W words,

        loss = −ln σ(uᵢ · cₒ) − Σₖ ln σ(−uᵢ · cₖ),

    with k negatives drawn in proportion to frequency^0.75. Unlike the original, an update sums the
    gradients of up to 512 centre words, and 32 neighbouring centres share 32 negatives, whose terms
    are weighted so that each pair counts k of them: the scores are then matrix products.

    >>> documents = [["the", "cat", "sat"], ["the", "dog", "sat"]] * 50
    >>> trained = word2vec(documents, size=8, min_count=1, sample=0, epochs=3)
    >>> trained.embeddings, trained.losses.shape
    (Embeddings(words=4, size=8, unknown='zero'), (3,))

    Args:
        documents: for each document, such as a sentence, its tokens; windows end with it.
        size: D.
        window: W.
        negatives: k.
        min_count: rarer words are left out.
        max_words: the maximum of V; the most frequent words are kept. None keeps all.
        sample: words above this relative frequency are left out at random; 0 keeps all.
        epochs: passes over the text.
        learning_rate: at the start; it falls linearly to a ten-thousandth of it.
        seed: of the initial vectors and of all draws.

    Returns:
        The vectors uᵢ, and the losses.

    Raises:
        ValueError: for too little text, and numbers out of range.
    """
    plan = _checked(size, window, negatives, sample, epochs, learning_rate, seed)
    corpus = coded(documents, min_count, max_words)
    random = np.random.default_rng(seed)
    initial = _initial(random, len(corpus.vocabulary), size)
    tables, losses = train(corpus, plan, None, initial, sample, epochs, learning_rate, random)
    return Trained(Embeddings(corpus.vocabulary, np.asarray(tables.centres)), losses)


def fasttext(
    documents: Iterable[Sequence[str]],
    *,
    size: int = 100,
    window: int = 5,
    negatives: int = 5,
    min_count: int = 5,
    max_words: int | None = None,
    sample: float = 1e-3,
    epochs: int = 5,
    learning_rate: float = 0.025,
    low: int = 3,
    high: int = 6,
    buckets: int = 200_000,
    whole_words: bool = True,
    seed: int = 0,
) -> Trained:
    """Word vectors by skip-gram over character n-grams (Bojanowski et al. 2017).

    As :func:`word2vec`, but uᵢ is the mean of a vector of the word and those of its n-grams, so
    that unknown words get the mean of those of their n-grams. As in the code of FastText, each of
    these vectors moves by the whole gradient of uᵢ, not by its share of it.

    >>> documents = [["the", "cat", "sat"], ["the", "dog", "sat"]] * 50
    >>> trained = fasttext(documents, size=8, min_count=1, sample=0, epochs=1, buckets=100)
    >>> bool(trained.embeddings.vector("cats").any())
    True

    Args:
        documents, size, window, negatives, min_count, max_words, sample, epochs, learning_rate,
            seed: as for :func:`word2vec`.
        low, high: the minimum and maximum number of characters of an n-gram.
        buckets: B; n-grams share rows by their hash.
        whole_words: False leaves out the vectors of words, as in CharNGram embeddings.

    Raises:
        ValueError: for too little text, and numbers out of range.
    """
    plan = _checked(size, window, negatives, sample, epochs, learning_rate, seed)
    _check.at_least("high", high, _check.positive_int("low", low))
    _check.positive_int("buckets", buckets)
    _check.flag("whole_words", whole_words)
    corpus = coded(documents, min_count, max_words)
    first = len(corpus.vocabulary) if whole_words else 0
    hashed = NGramVectors(np.zeros((buckets, 1), np.float32), low, high)
    lists = []
    for code, word in enumerate(corpus.vocabulary.tokens):
        own = [code] if whole_words else []
        lists.append(own + [first + row for row in hashed.rows(word)])
    if not any(lists):
        raise ValueError(f"no word has n-grams of {low} or more characters; give a smaller low")
    random = np.random.default_rng(seed)
    initial = _initial(random, first + buckets, size)
    parts = word_parts.grouped(lists, len(initial))
    sums = word_parts.summed(parts, initial)
    tables, losses = train(corpus, plan, parts, sums, sample, epochs, learning_rate, random)
    rows = word_parts.spread(parts, initial, np.asarray(tables.centres) - sums)
    vectors = np.stack([rows[own].mean(axis=0) if own else 0 * rows[0] for own in lists])
    spelled = NGramVectors(rows[first:], low, high)
    return Trained(Embeddings(corpus.vocabulary, vectors, subwords=spelled), losses)


def char_ngrams(documents: Iterable[Sequence[str]], **options: float) -> Trained:
    """Word vectors from their character n-grams alone (Hashimoto et al. 2017).

    :func:`fasttext` without vectors of words, so that known and unknown words are treated alike.

    >>> documents = [["the", "cat", "sat"], ["the", "dog", "sat"]] * 50
    >>> trained = char_ngrams(documents, size=8, min_count=1, sample=0, epochs=1, buckets=100)
    >>> vector = trained.embeddings.vector("cat")
    >>> bool(np.allclose(vector, trained.embeddings.subwords("cat"), atol=1e-6))
    True
    """
    return fasttext(documents, whole_words=False, **options)  # type: ignore[arg-type]


def _checked(
    size: int,
    window: int,
    negatives: int,
    sample: float,
    epochs: int,
    learning_rate: float,
    seed: int,
) -> Plan:
    values = {"size": size, "window": window, "negatives": negatives, "epochs": epochs}
    for name, value in values.items():
        _check.positive_int(name, value)
    _check.natural("seed", seed)
    _check.number("learning_rate", learning_rate)
    _check.number("sample", sample)
    if not learning_rate > 0 or not sample >= 0:
        raise ValueError(
            f"learning_rate is {learning_rate} and sample is {sample}; the first must be above 0, "
            "the second at least 0"
        )
    return Plan(int(window), int(negatives))


def _initial(random: np.random.Generator, count: int, size: int) -> np.ndarray:
    return (random.random((count, size), np.float32) - 0.5) / size
