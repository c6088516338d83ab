"""Schmidhuber's history compressor: a higher network reads only what a lower one did not expect."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

import rnnlab
from rnnlab.models import Tagger, tagger
from rnnlab.tasks import noise_free_long_lag
from rnnlab.training import TrainState, initial_state, train_step
from rnnlab.typing import Array, Key

ROOM = 8
"""The most unexpected symbols of a sequence that the higher network reads, the first ones."""


class Plan(NamedTuple):
    """The sizes of the training.

    Attributes:
        hidden: H of each network.
        lower, higher: updates of the two levels.
        expected: see :func:`compress`.
        rate: the learning rate of Adam.
        batch: B.
    """

    hidden: int = 32
    lower: int = 1000
    higher: int = 1000
    expected: float = 0.7
    rate: float = 3e-3
    batch: int = 16


class Compressed(NamedTuple):
    """What the lower network did not expect.

    Attributes:
        xs: ``[ROOM, B, V + 1]``: the symbol, one-hot, and ln(1 + steps since the last one).
        symbols: ``[ROOM, B]``, the symbols.
        counts: ``[B]``, how many of the places are filled.
        last: ``[B]``, the place of the last symbol of the sequence; ROOM where it was expected.
    """

    xs: Array
    symbols: Array
    counts: Array
    last: Array


class Networks(NamedTuple):
    """The two levels, which have the same cell."""

    lower: Tagger
    higher: Tagger


def networks(hidden: int, symbols: int) -> Networks:
    """Networks for an alphabet; the cell is a tanh RNN."""
    cell = rnnlab.RNN(hidden)
    lower = tagger(cell, symbols, vocabulary_size=symbols)
    return Networks(lower, tagger(cell, symbols))


def symbols_of(batch: rnnlab.data.Batch) -> Array:
    """All symbols of a sequence, ``[p + 1, B]``."""
    return jnp.concatenate([batch.xs, batch.targets[-1:]])


def compress(symbols: Array, probabilities: Array, expected: float) -> Compressed:
    """The symbols that were not predicted, and when they came.

    Args:
        symbols: ``[T, B]``.
        probabilities: ``[T − 1, B, V]``, the prediction of each symbol but the first.
        expected: a symbol is unexpected if the probability it was given is below this;
            the first always is.
    """
    steps, batch_size = symbols.shape
    given = jnp.take_along_axis(probabilities, symbols[1:, :, None], axis=-1)[..., 0]
    first = jnp.ones((1, batch_size), bool)
    is_unexpected = jnp.concatenate([first, given < expected])
    # A stable sort of False before True puts the unexpected steps first, in their order.
    when = jnp.argsort(~is_unexpected, axis=0, stable=True)[:ROOM]
    counts = jnp.minimum(is_unexpected.sum(axis=0), ROOM)
    chosen = jnp.take_along_axis(symbols, when, axis=0)
    gaps = jnp.diff(when, axis=0, prepend=when[:1])
    is_filled = jnp.arange(when.shape[0])[:, None] < counts
    one_hot = jax.nn.one_hot(chosen, probabilities.shape[-1])
    features = jnp.concatenate([one_hot, jnp.log1p(jnp.abs(gaps))[..., None]], axis=-1)
    is_last = is_filled & (when == steps - 1)
    last = jnp.where(is_last.any(axis=0), is_last.argmax(axis=0), ROOM)
    return Compressed(jnp.where(is_filled[..., None], features, 0), chosen, counts, last)


def read(levels: Networks, lower: Any, batch: rnnlab.data.Batch, plan: Plan) -> Compressed:
    """What the lower network passes on; no gradient flows back to it."""
    probabilities = jax.nn.softmax(levels.lower.apply(lower, batch))
    compressed = compress(symbols_of(batch), probabilities, plan.expected)
    return jax.tree.map(lax.stop_gradient, compressed)


def higher_batch(compressed: Compressed) -> rnnlab.data.Batch:
    """The next unexpected symbol as the target at each place."""
    places = jnp.arange(compressed.symbols.shape[0] - 1)[:, None]
    return rnnlab.data.Batch(
        compressed.xs[:-1], compressed.symbols[1:], mask=places < compressed.counts - 1
    )


class Outcome(NamedTuple):
    """What one seed has learned, on held-out sequences.

    Attributes:
        compressor: the share of the last symbols that the two levels predict.
        single: the share that one network predicts.
        kept: unexpected symbols in a sequence, on average.
    """

    compressor: Array
    single: Array
    kept: Array


def learn(key: Key, delay: int, plan: Plan) -> Outcome:
    """Trains both levels in turn, and one network for as many updates as both together.

    The one network is the lower level, whose training goes on.

    Args:
        key: draws weights and sequences.
        delay: p of the noise-free long lag.
        plan: the sizes.
    """
    task = noise_free_long_lag(delay)
    levels = networks(plan.hidden, task.outputs)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(plan.rate))
    k_low, k_high, k_data, k_test = jax.random.split(key, 4)
    held_out = task.sample(k_test, 256)

    def train(loss: Any, state: TrainState, first: int, count: int) -> TrainState:
        step = train_step(loss, optimiser)

        def once(index: Array, state: TrainState) -> TrainState:
            return step(state, task.sample(jax.random.fold_in(k_data, index), plan.batch))[0]

        return lax.fori_loop(first, first + count, once, state)

    state = initial_state(levels.lower.init(k_low, held_out), optimiser, key)
    lower = train(levels.lower.loss, state, 0, plan.lower)

    def loss_of_higher(params: Any, batch: rnnlab.data.Batch, key: Key) -> Any:
        del key
        return levels.higher.loss(params, higher_batch(read(levels, lower.params, batch, plan)))

    compressed = read(levels, lower.params, held_out, plan)
    state = initial_state(levels.higher.init(k_high, higher_batch(compressed)), optimiser, key)
    higher = train(loss_of_higher, state, plan.lower, plan.higher)
    single = train(levels.lower.loss, lower, plan.lower, plan.higher)
    return Outcome(
        compressor=jnp.mean(predicted(levels, lower.params, higher.params, held_out, plan)),
        single=jnp.mean(right_at_the_end(levels.lower, single.params, held_out)),
        kept=jnp.mean(compressed.counts),
    )


def predicted(
    levels: Networks, lower: Any, higher: Any, batch: rnnlab.data.Batch, plan: Plan
) -> Array:
    """Which last symbols the two levels predict, ``[B]``: the lower one where it expected it."""
    compressed = read(levels, lower, batch, plan)
    guesses = levels.higher.apply(higher, higher_batch(compressed)).argmax(axis=-1)
    place = jnp.clip(compressed.last - 1, 0, len(guesses) - 1)
    guess = jnp.take_along_axis(guesses, place[None], axis=0)[0]
    by_lower = right_at_the_end(levels.lower, lower, batch)
    return jnp.where(compressed.last == ROOM, by_lower, guess == batch.targets[-1])


def right_at_the_end(model: Tagger, params: Any, batch: rnnlab.data.Batch) -> Array:
    """Which last symbols a network predicts, ``[B]``."""
    return model.apply(params, batch)[-1].argmax(axis=-1) == batch.targets[-1]
