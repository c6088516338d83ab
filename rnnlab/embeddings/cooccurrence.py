"""GloVe: word vectors from counts of co-occurrence."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy import sparse

from rnnlab import _check
from rnnlab.embeddings.corpus import CodedCorpus, coded, longest_document
from rnnlab.embeddings.skip_gram import Trained
from rnnlab.embeddings.vector_checks import converged
from rnnlab.embeddings.vectors import Embeddings
from rnnlab.typing import Array

BATCH = 2048
"""Pairs of words in one update."""
ACCUMULATED = 1.0
"""The sum of squared gradients that AdaGrad starts from, as in the original."""


def glove(
    documents: Iterable[Sequence[str]],
    *,
    size: int = 100,
    window: int = 10,
    min_count: int = 5,
    max_words: int | None = None,
    epochs: int = 15,
    learning_rate: float = 0.05,
    x_max: float = 10.0,
    seed: int = 0,
) -> Trained:
    """Word vectors by weighted least squares on log co-occurrences (Pennington et al. 2014).

        loss = Σᵢⱼ f(Xᵢⱼ) (wᵢ · vⱼ + bᵢ + cⱼ − ln Xᵢⱼ)²,    f(x) = min(1, (x / x_max)^0.75),

    where Xᵢⱼ counts the words j within W words of a word i, weighted by 1/distance. AdaGrad
    visits the pairs with Xᵢⱼ > 0 in random order; a word's vector is wᵢ + vᵢ. Unlike the
    original, an update sums the gradients of 2048 pairs.

    >>> documents = [["the", "cat", "sat"], ["the", "dog", "sat"]] * 50
    >>> glove(documents, size=8, min_count=1).embeddings
    Embeddings(words=4, size=8, unknown='zero')

    Args:
        documents: for each document, such as a sentence, its tokens; windows end with it.
        size: D.
        window: W.
        min_count: rarer words are left out.
        max_words: the maximum of V; the most frequent words are kept. None keeps all.
        epochs: passes over the pairs.
        learning_rate: of AdaGrad.
        x_max: pairs with at least this co-occurrence have the full weight; the original takes 100
            for billions of words.
        seed: of the initial vectors and of the order of the pairs.

    Raises:
        ValueError: for too little text, and numbers out of range.
    """
    for name, value in {"size": size, "window": window, "epochs": epochs}.items():
        _check.positive_int(name, value)
    _check.natural("seed", seed)
    for name, value in {"learning_rate": learning_rate, "x_max": x_max}.items():
        _check.number(name, value)
        if not value > 0:
            raise ValueError(f"{name} is {value}; it must be above 0")
    corpus = coded(documents, min_count, max_words)
    counts = cooccurrences(corpus, window)
    if not counts.nnz:
        raise ValueError(
            "no two words stand in one document; give documents of several words, or a smaller "
            "min_count"
        )
    random = np.random.default_rng(seed)
    state = _initial(len(corpus.vocabulary), size, random)
    losses = []
    for _ in range(epochs):
        state, loss = _epoch(state, _shuffled(counts, random), x_max, learning_rate)
        losses.append(float(loss) / counts.nnz)
    summed = np.asarray(state.words.values + state.contexts.values)[:, :-1]
    converged(summed, learning_rate)
    return Trained(Embeddings(corpus.vocabulary, summed), np.array(losses))


def cooccurrences(corpus: CodedCorpus, window: int) -> Any:
    """X, a sparse matrix ``[V, V]`` of scipy: pairs within a window, weighted by 1/distance."""
    count = len(corpus.vocabulary)
    total = sparse.csr_matrix((count, count))
    for distance in range(1, min(window, longest_document(corpus) - 1) + 1):
        first, second = corpus.codes[:-distance], corpus.codes[distance:]
        same = corpus.documents[:-distance] == corpus.documents[distance:]
        weights = np.full(int(same.sum()), 1 / distance)
        pairs = sparse.coo_matrix((weights, (first[same], second[same])), shape=(count, count))
        total = total + pairs.tocsr()
    return (total + total.T).tocoo()


class Side(NamedTuple):
    """Vectors of words, the last entry their bias, and AdaGrad's sums: each ``[V, D + 1]``."""

    values: Array
    sums: Array


class State(NamedTuple):
    """The trained parameters."""

    words: Side
    contexts: Side


class Pairs(NamedTuple):
    """S updates of B pairs, ``[S, B]``; x is 0 for those that fill the last."""

    rows: Any
    columns: Any
    x: Any


def _initial(count: int, size: int, random: np.random.Generator) -> State:
    sides = []
    for _ in range(2):
        values = (random.random((count, size + 1), np.float32) - 0.5) / size
        sides.append(Side(jnp.asarray(values), jnp.full(values.shape, ACCUMULATED, jnp.float32)))
    return State(*sides)


def _shuffled(counts: Any, random: np.random.Generator) -> Pairs:
    order = random.permutation(counts.nnz)
    steps = -(-order.size // BATCH)

    def batched(values: np.ndarray, dtype: type) -> np.ndarray:
        filled = np.zeros(steps * BATCH, dtype)
        filled[: order.size] = values[order]
        return filled.reshape(steps, BATCH)

    return Pairs(
        batched(counts.row, np.int32),
        batched(counts.col, np.int32),
        batched(counts.data, np.float32),
    )


@functools.partial(jax.jit, donate_argnums=0)
def _epoch(state: State, pairs: Pairs, x_max: float, rate: float) -> tuple[State, Array]:
    """The state after all updates, and the sum of the losses."""

    def advance(state: State, batch: Pairs) -> tuple[State, Array]:
        w, v = state.words.values[batch.rows], state.contexts.values[batch.columns]
        to_w, to_v, loss = gradients(w, v, batch.x, x_max)
        words = _adagrad(state.words, batch.rows, to_w, rate)
        return State(words, _adagrad(state.contexts, batch.columns, to_v, rate)), loss

    state, losses = lax.scan(advance, state, Pairs(*map(jnp.asarray, pairs)))
    return state, jnp.sum(losses)


def gradients(w: Array, v: Array, x: Array, x_max: float) -> tuple[Array, Array, Array]:
    """The gradients of half the loss of pairs to w and v ``[B, D + 1]``, and the loss."""
    weight = jnp.minimum(1.0, (x / x_max) ** 0.75)
    log_x = jnp.log(jnp.where(x > 0, x, 1.0))
    error = jnp.sum(w[:, :-1] * v[:, :-1], axis=1) + w[:, -1] + v[:, -1] - log_x
    slope = (weight * error)[:, None]
    # The last entry is the bias, whose derivative is 1.
    ones = jnp.ones_like(slope)
    to_w = slope * jnp.concatenate([v[:, :-1], ones], axis=1)
    to_v = slope * jnp.concatenate([w[:, :-1], ones], axis=1)
    return to_w, to_v, jnp.sum(weight * error**2)


def _adagrad(side: Side, rows: Array, gradient: Array, rate: float) -> Side:
    sums = side.sums.at[rows].add(gradient**2)
    return Side(side.values.at[rows].add(-rate * gradient / jnp.sqrt(sums[rows])), sums)
