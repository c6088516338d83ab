"""Skip-gram with negative sampling: word2vec, FastText and vectors of n-grams alone."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab import _check
from rnnlab.embeddings.character_ngrams import NGramVectors
from rnnlab.embeddings.corpus import CodedCorpus, coded, subsampled
from rnnlab.embeddings.vectors import Embeddings
from rnnlab.typing import Array

BLOCK = 32
"""Centres whose contexts are scored in one matrix product."""
MOST_BLOCKS = 16
"""Blocks of one update, if no word is frequent."""
OCCURRENCES = 8
"""How often the most frequent word may occur in an update, about.

Its gradients are summed; many of them at once would overshoot, and in small vocabularies diverge.
"""
SHARED = 32
"""Negative words that the centres of a block share."""


class Trained(NamedTuple):
    """Word vectors, and how the training went.

    Attributes:
        embeddings: the vectors.
        losses: the mean loss of a pair with its negatives in each epoch, in nats, ``[epochs]``.
    """

    embeddings: Embeddings
    losses: np.ndarray


class Plan(NamedTuple):
    """What is equal in all updates.

    Attributes:
        window: the greatest distance of a pair, W.
        negatives: for each pair.
    """

    window: int
    negatives: int


class Tables(NamedTuple):
    """What is trained: rows that make up words as centres, and contexts ``[V, D]``."""

    centres: Array
    contexts: Array


class Parts(NamedTuple):
    """The rows of the table of centres that make up each word, one after the other.

    Attributes:
        rows: indices of rows, those of each word in a row.
        starts: ``[V]``, where those of each word start.
        counts: ``[V]``, how many they are.
    """

    rows: np.ndarray
    starts: np.ndarray
    counts: np.ndarray


class Pieces(NamedTuple):
    """The rows of the centres of S updates, ``[S, N]``; N is that of the longest update.

    Attributes:
        rows: indices into the table of centres.
        owners: the centre that each belongs to, rising; one more than the last for padding.
        weights: 1 / number of rows of the centre, 0 for padding.
    """

    rows: Any
    owners: Any
    weights: Any


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

    For each pair of a centre i and a word o within a random distance of 1 to W steps,

        loss = −ln σ(uᵢ · cₒ) − Σₖ ln σ(−uᵢ · cₖ),

    with k negatives drawn by frequency^0.75. In contrast to the original, the gradients of up to
    512 centres are added up before an update, and 32 centres in a row share 32 negatives, whose
    terms are weighted so that each pair counts k of them: the scores are then products of matrices.

    >>> documents = [["the", "cat", "sat"], ["the", "dog", "sat"]] * 50
    >>> trained = word2vec(documents, size=8, min_count=1, sample=0, epochs=3)
    >>> trained.embeddings, trained.losses.shape
    (Embeddings(words=4, size=8, unknown='zero'), (3,))

    Args:
        documents: for each document, such as a sentence, its tokens; windows end with it.
        size: D.
        window: W.
        negatives: k.
        min_count: how often a word must occur.
        max_words: V at most, the most frequent; None for all.
        sample: words of a larger frequency are left out at random; 0 keeps all.
        epochs: passes over the text.
        learning_rate: at the start; it falls linearly to a ten thousandth.
        seed: of the initial vectors and of all draws.

    Returns:
        The vectors uᵢ, and the losses.

    Raises:
        ValueError: for too little text, and numbers out of range.
    """
    plan = _checked(size, window, negatives, sample, epochs, learning_rate)
    corpus = coded(documents, min_count, max_words)
    count = len(corpus.vocabulary)
    tables, losses = _train(corpus, plan, None, count, size, sample, epochs, learning_rate, seed)
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
        low, high: the least and the greatest number of characters of an n-gram.
        buckets: B; n-grams share rows by their hash.
        whole_words: False leaves out the vectors of words, as in CharNGram embeddings.

    Raises:
        ValueError: for too little text, and numbers out of range.
    """
    plan = _checked(size, window, negatives, sample, epochs, learning_rate)
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
    parts = _parts(lists)
    count = first + buckets
    tables, losses = _train(corpus, plan, parts, count, size, sample, epochs, learning_rate, seed)
    rows = np.asarray(tables.centres)
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
    size: int, window: int, negatives: int, sample: float, epochs: int, learning_rate: float
) -> Plan:
    values = {"size": size, "window": window, "negatives": negatives, "epochs": epochs}
    for name, value in values.items():
        _check.positive_int(name, value)
    _check.number("learning_rate", learning_rate)
    _check.number("sample", sample)
    if not learning_rate > 0 or not sample >= 0:
        raise ValueError(
            f"learning_rate is {learning_rate} and sample is {sample}; the first must be above 0, "
            "the second at least 0"
        )
    return Plan(int(window), int(negatives))


def _parts(lists: list[list[int]]) -> Parts:
    counts = np.array(list(map(len, lists)))
    rows = np.array([row for own in lists for row in own], np.int32)
    return Parts(rows, np.cumsum(counts) - counts, counts)


def _pieces(parts: Parts, codes: np.ndarray) -> Pieces:
    """The rows of the centres ``codes [S, R, BLOCK]``."""
    codes = codes.reshape(len(codes), -1)
    counts = parts.counts[codes]
    longest = int(counts.sum(axis=1).max())
    rows = np.zeros((len(codes), longest), np.int32)
    owners = np.full(rows.shape, codes.shape[1], np.int32)
    weights = np.zeros(rows.shape, np.float32)
    for step, (words, sizes) in enumerate(zip(codes, counts, strict=True)):
        own = np.repeat(np.arange(words.size), sizes)
        within = np.arange(own.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        rows[step, : own.size] = parts.rows[parts.starts[words][own] + within]
        owners[step, : own.size] = own
        weights[step, : own.size] = 1 / sizes[own]
    return Pieces(rows, owners, weights)


def _train(
    corpus: CodedCorpus,
    plan: Plan,
    parts: Parts | None,
    row_count: int,
    size: int,
    sample: float,
    epochs: int,
    learning_rate: float,
    seed: int,
) -> tuple[Tables, np.ndarray]:
    """The trained tables, and the mean loss of each epoch."""
    random = np.random.default_rng(seed)
    centres = (random.random((row_count, size), np.float32) - 0.5) / size
    tables = Tables(jnp.asarray(centres), jnp.zeros((len(corpus.vocabulary), size), jnp.float32))
    weights = corpus.counts**0.75
    # Negatives are looked up in a table, as in the original: a search for each would take longer.
    negative_table = np.repeat(
        np.arange(corpus.counts.size, dtype=np.int32),
        np.ceil(2e6 * weights / weights.sum()).astype(int),
    )
    losses = []
    for epoch in range(epochs):
        batches = _batches(corpus, plan, sample, negative_table, random)
        steps = batches[0].shape[0]
        progress = (epoch + np.arange(steps, dtype=np.float32) / steps) / epochs
        rates = learning_rate * np.maximum(1 - progress, 1e-4)
        pieces = None
        if parts is not None:
            pieces = _pieces(parts, batches.codes[..., plan.window : plan.window + BLOCK])
        tables, sums, pairs = _epoch(plan, tables, batches, pieces, rates.astype(np.float32))
        losses.append(float(sums) / max(float(pairs), 1.0))
    return tables, np.array(losses)


class Batches(NamedTuple):
    """S updates of R blocks each; P tokens are padding where the document is −1.

    Attributes:
        codes, documents: ``[S, R, BLOCK + 2 W]``; the centres are those in the middle.
        reach: ``[S, R, BLOCK]``, the greatest distance of a pair of each centre.
        negatives: ``[S, R, SHARED]``.
    """

    codes: Any
    documents: Any
    reach: Any
    negatives: Any


def _batches(
    corpus: CodedCorpus,
    plan: Plan,
    sample: float,
    negative_table: np.ndarray,
    random: np.random.Generator,
) -> Batches:
    """The updates of an epoch; blocks are in random order."""
    kept = subsampled(corpus, sample, random)
    blocks = _blocks(np.bincount(corpus.codes[kept]).max() / max(kept.size, 1))
    per_update = BLOCK * blocks
    steps = max(1, -(-kept.size // per_update))
    padded = steps * per_update + 2 * plan.window
    codes = np.zeros(padded, np.int32)
    documents = np.full(padded, -1, np.int32)
    inside = slice(plan.window, plan.window + kept.size)
    codes[inside], documents[inside] = corpus.codes[kept], corpus.documents[kept]
    width = BLOCK + 2 * plan.window
    # A word that occurs in neighbouring blocks would otherwise be in all of one update.
    starts = BLOCK * random.permutation(steps * blocks)
    places = (starts[:, None] + np.arange(width)).reshape(steps, blocks, width)
    reach = random.integers(1, plan.window + 1, (steps, blocks, BLOCK), dtype=np.int32)
    drawn = random.integers(negative_table.size, size=(steps, blocks, SHARED))
    return Batches(codes[places], documents[places], reach, negative_table[drawn])


def _blocks(frequency: float) -> int:
    """The number of blocks of an update, a power of two, by the frequency of the commonest word."""
    blocks = MOST_BLOCKS
    while blocks > 1 and blocks * BLOCK * frequency > OCCURRENCES:
        blocks //= 2
    return blocks


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _epoch(
    plan: Plan, tables: Tables, batches: Batches, pieces: Pieces | None, rates: Any
) -> tuple[Tables, Array, Array]:
    """The tables after all updates, the sum of the losses, and the number of pairs."""

    def advance(tables: Tables, update: Any) -> tuple[Tables, Array]:
        batch, pieces, rate = update
        step = gradients(plan, tables, batch, pieces)
        change = -rate * step.centres
        if pieces is None:
            centres = tables.centres.at[step.codes].add(change)
        else:
            # Each row gets all of the gradient of the mean, as in FastText's code: divided by the
            # number of rows, n-grams would hardly move in a few epochs. Padding gets none.
            of_rows = change.reshape(-1, change.shape[-1])[pieces.owners]
            is_row = pieces.weights[:, None] > 0
            centres = tables.centres.at[pieces.rows].add(of_rows * is_row)
        contexts = tables.contexts.at[batch.codes].add(-rate * step.contexts)
        contexts = contexts.at[batch.negatives].add(-rate * step.negatives)
        return Tables(centres, contexts), jnp.stack([step.loss, step.pairs])

    updates = jax.tree.map(jnp.asarray, (batches, pieces, rates))
    tables, sums = lax.scan(advance, tables, updates)
    loss, pairs = jnp.sum(sums, axis=0)
    return tables, loss, pairs


class Step(NamedTuple):
    """The gradients of an update: those of centres, contexts and negatives, row by row."""

    codes: Any
    centres: Array
    contexts: Array
    negatives: Array
    loss: Array
    pairs: Array


def gradients(plan: Plan, tables: Tables, batch: Batches, pieces: Pieces | None = None) -> Step:
    """The loss of an update ``[R, ...]`` and its gradients, written out."""
    window = plan.window
    codes = batch.codes[:, window : window + BLOCK]
    u = _centres(tables.centres, codes, pieces)
    c = tables.contexts[batch.codes]
    n = tables.contexts[batch.negatives]
    centre = jnp.arange(BLOCK)[:, None] + window
    distance = jnp.abs(centre - jnp.arange(BLOCK + 2 * window))
    documents = batch.documents
    own = documents[:, window : window + BLOCK, None]
    is_pair = (distance > 0) & (distance <= batch.reach[..., None])
    is_pair &= (own == documents[:, None, :]) & (own >= 0)
    pairs = is_pair.astype(u.dtype)
    scores = jnp.einsum("rbd,rcd->rbc", u, c)
    per_centre = pairs.sum(axis=2, keepdims=True)
    share = per_centre * (plan.negatives / SHARED)
    noise = jnp.einsum("rbd,rkd->rbk", u, n)
    # ∂(−ln σ(s))/∂s = σ(s) − 1, ∂(−ln σ(−s))/∂s = σ(s).
    to_scores = pairs * (jax.nn.sigmoid(scores) - 1)
    to_noise = share * jax.nn.sigmoid(noise)
    loss = jnp.sum(pairs * jax.nn.softplus(-scores)) + jnp.sum(share * jax.nn.softplus(noise))
    return Step(
        codes=codes,
        centres=jnp.einsum("rbc,rcd->rbd", to_scores, c) + jnp.einsum("rbk,rkd->rbd", to_noise, n),
        contexts=jnp.einsum("rbc,rbd->rcd", to_scores, u),
        negatives=jnp.einsum("rbk,rbd->rkd", to_noise, u),
        loss=loss,
        pairs=jnp.sum(per_centre),
    )


def _centres(table: Array, codes: Any, pieces: Pieces | None) -> Array:
    """The vectors of centres ``[R, BLOCK, D]``: a row each, or the mean of their rows."""
    if pieces is None:
        return table[codes]
    weighted = table[pieces.rows] * pieces.weights[:, None]
    sums = jax.ops.segment_sum(
        weighted, pieces.owners, num_segments=codes.size + 1, indices_are_sorted=True
    )
    return sums[:-1].reshape(*codes.shape, table.shape[1])
