"""Training of skip-gram with negative sampling: gradients, updates, and the loop."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab.embeddings import word_parts
from rnnlab.embeddings.corpus import CodedCorpus, longest_document
from rnnlab.embeddings.skip_gram_batches import BLOCK, SHARED, Batches, Plan, batches_of
from rnnlab.embeddings.vector_checks import converged
from rnnlab.embeddings.word_parts import Parts, Pieces
from rnnlab.typing import Array


class Tables(NamedTuple):
    """The trained tables: rows that make up centre words, and context vectors ``[V, D]``."""

    centres: Array
    contexts: Array


def train(
    corpus: CodedCorpus,
    plan: Plan,
    parts: Parts | None,
    centres: np.ndarray,
    sample: float,
    epochs: int,
    learning_rate: float,
    random: np.random.Generator,
) -> tuple[Tables, np.ndarray]:
    """The trained tables, from the initial ``centres``, and the mean loss of each epoch.

    Raises:
        ValueError: where no pair of words is left, and for vectors that diverge.
    """
    # A window that no document fills would only be padding.
    farthest, longest = plan.window, max(1, longest_document(corpus) - 1)
    plan = plan._replace(window=min(farthest, longest))
    contexts = jnp.zeros((len(corpus.vocabulary), centres.shape[1]), jnp.float32)
    tables = Tables(jnp.asarray(centres), contexts)
    weights = corpus.counts**0.75
    # Negatives are looked up in a table, as in the original: a search for each would take longer.
    negative_table = np.repeat(
        np.arange(corpus.counts.size, dtype=np.int32),
        np.ceil(2e6 * weights / weights.sum()).astype(int),
    )
    losses, all_pairs = [], 0.0
    for epoch in range(epochs):
        batches = batches_of(corpus, plan, sample, negative_table, random, farthest)
        steps = batches[0].shape[0]
        progress = (epoch + np.arange(steps, dtype=np.float32) / steps) / epochs
        rates = learning_rate * np.maximum(1 - progress, 1e-4)
        pieces = None
        if parts is not None:
            pieces = word_parts.pieces(parts, batches.codes[..., plan.window : plan.window + BLOCK])
        tables, sums, pairs = _epoch(plan, tables, batches, pieces, rates.astype(np.float32))
        losses.append(float(sums) / max(float(pairs), 1.0))
        all_pairs += float(pairs)
    if all_pairs == 0:
        raise ValueError(
            f"sample={sample} and windows within a document leave no pair of words; give more "
            "text, or sample=0 to keep frequent words"
        )
    converged(np.asarray(tables.centres), learning_rate)
    return tables, np.array(losses)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _epoch(
    plan: Plan, tables: Tables, batches: Batches, pieces: Pieces | None, rates: Any
) -> tuple[Tables, Array, Array]:
    """The tables after all updates, the sum of the losses, and the number of pairs."""

    def add(table: Array, rows: Any, change: Array) -> Array:
        # The check of the indices takes a quarter of the time.
        return table.at[rows].add(change, mode="promise_in_bounds")

    def advance(tables: Tables, update: Any) -> tuple[Tables, Array]:
        batch, pieces, rate = update
        step = gradients(plan, tables, batch, pieces)
        change = -rate * step.centres
        if pieces is None:
            centres = add(tables.centres, step.codes, change)
        else:
            # Each row gets all of the gradient of the mean, as in FastText's code: divided by the
            # number of rows, n-grams would hardly move in a few epochs. Padding gets none.
            flat = change.reshape(-1, change.shape[-1])
            of_words = jax.ops.segment_sum(flat, pieces.words, len(flat) + 1)
            of_groups = pieces.sizes[:, None] * of_words[pieces.owners]
            centres = add(tables.centres, pieces.groups, of_groups)
        contexts = add(tables.contexts, batch.codes, -rate * step.contexts)
        contexts = add(contexts, batch.negatives, -rate * step.negatives)
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
    u = centres_of(tables.centres, codes, pieces)
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


def centres_of(table: Array, codes: Any, pieces: Pieces | None) -> Array:
    """The vectors of centres ``[R, BLOCK, D]``: a row each, or the mean of their rows."""
    if pieces is None:
        return table[codes]
    weighted = table[pieces.groups] * pieces.weights[:, None]
    sums = jax.ops.segment_sum(
        weighted, pieces.owners, num_segments=codes.size + 1, indices_are_sorted=True
    )
    return sums[pieces.words].reshape(*codes.shape, table.shape[1])
