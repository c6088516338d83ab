"""The deep belief network and the history compressor of the experiment on pre-training."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.pretraining import belief, compressor
from rnnlab.tasks import noise_free_long_lag


def slow_compress(symbols, probabilities, expected):
    """Of one sequence: the unexpected symbols, their steps, and the steps since the one before."""
    given = [row[symbol] for row, symbol in zip(probabilities, symbols[1:], strict=True)]
    kept = [0, *(t for t in range(1, len(symbols)) if given[t - 1] < expected)]
    kept = kept[: compressor.ROOM]
    gaps = [t - before for before, t in zip([0, *kept[:-1]], kept, strict=True)]
    return [symbols[t] for t in kept], kept, gaps


def test_what_is_expected_is_left_out():
    steps, batch, alphabet = 30, 5, 4
    symbols = np.asarray(jax.random.randint(jax.random.key(0), (steps, batch), 0, alphabet))
    scores = 4 * jax.random.normal(jax.random.key(1), (steps - 1, batch, alphabet))
    probabilities = np.array(jax.nn.softmax(scores))
    # In the first example all but the last symbol is expected, in the second everything is.
    probabilities[:, :2] = np.eye(alphabet)[symbols[1:, :2]]
    probabilities[-1, 0] = 0.25
    got = compressor.compress(jnp.asarray(symbols), jnp.asarray(probabilities), 0.7)
    for b in range(batch):
        wanted, when, gaps = slow_compress(symbols[:, b], probabilities[:, b], 0.7)
        count = len(wanted)
        assert got.counts[b] == count
        np.testing.assert_array_equal(got.symbols[:count, b], wanted)
        np.testing.assert_array_equal(got.xs[:count, b, :-1].argmax(-1), wanted)
        np.testing.assert_allclose(got.xs[:count, b, -1], np.log1p(gaps), rtol=1e-6)
        assert not np.any(got.xs[count:, b])
        is_last = steps - 1 in when
        assert got.last[b] == (when.index(steps - 1) if is_last else compressor.ROOM)
    assert got.counts[:2].tolist() == [2, 1]


def test_the_higher_network_predicts_the_next_unexpected_symbol():
    symbols = jnp.array([[0], [1], [2], [0]])
    probabilities = jnp.eye(3)[jnp.array([[2], [2], [0]])]  # 1 comes where 2 was predicted
    batch = compressor.higher_batch(compressor.compress(symbols, probabilities, 0.7))
    assert batch.mask[:, 0].tolist() == [True] + [False] * (len(batch.mask) - 1)
    assert batch.targets[0, 0] == 1


@pytest.mark.long
def test_a_history_compressor_learns_a_lag():
    plan = compressor.Plan(hidden=16, lower=300, higher=150, rate=1e-2)
    outcome = compressor.learn(jax.random.key(0), 30, plan)
    assert outcome.kept == 2
    assert outcome.compressor == 1


@pytest.mark.long
def test_both_levels_count_where_the_lower_one_expects_the_end():
    task = noise_free_long_lag(3)
    batch = task.sample(jax.random.key(0), 16)
    levels = compressor.networks(4, task.outputs)
    lower = levels.lower.init(jax.random.key(1), batch)
    # A lower network that is certain of symbol 3, whatever it has read.
    certain = lower.readout._replace(w=0 * lower.readout.w, b=jnp.array([0.0, 0.0, 0.0, 99.0]))
    lower = lower._replace(readout=certain)
    compressed = compressor.read(levels, lower, batch, compressor.Plan())
    is_three = batch.targets[-1] == 3
    np.testing.assert_array_equal(compressed.last == compressor.ROOM, is_three)
    higher = levels.higher.init(jax.random.key(2), compressor.higher_batch(compressed))
    never = higher.readout._replace(w=0 * higher.readout.w, b=jnp.array([9.0, 0.0, 0.0, 0.0]))
    higher = higher._replace(readout=never)
    right = compressor.predicted(levels, lower, higher, batch, compressor.Plan())
    np.testing.assert_array_equal(right, is_three)


def test_as_many_labels_of_each_digit_are_used():
    labels = np.arange(300) % 10
    weights = belief.label_weights(labels, 50, seed=1)
    assert weights.sum() == pytest.approx(1)
    assert np.bincount(labels[weights > 0]).tolist() == [5] * 10
    assert np.any(weights != belief.label_weights(labels, 50, seed=2))


def test_contrastive_divergence_is_the_difference_of_two_correlations():
    keys = jax.random.split(jax.random.key(0), 4)
    w = jax.random.normal(keys[0], (4, 3), jnp.float64)
    machine = belief.Machine(w, jnp.array([0.1, -0.2, 0.3, 0.0]), jnp.array([0.5, -0.5, 0.2]))
    visible = jax.random.uniform(keys[1], (5, 4), jnp.float64)
    got = belief.contrastive_divergence(machine, visible, keys[2])
    w, a, b = map(np.asarray, machine)
    hidden = 1 / (1 + np.exp(-(visible @ w + b)))
    drawn = np.asarray(jax.random.bernoulli(keys[2], hidden))
    sums = np.zeros((4, 3)), np.zeros(4), np.zeros(3)
    for v, h, h_drawn in zip(np.asarray(visible), hidden, drawn, strict=True):
        again = 1 / (1 + np.exp(-(w @ h_drawn + a)))
        h_again = 1 / (1 + np.exp(-(again @ w + b)))
        sums[0][:] += np.outer(v, h) - np.outer(again, h_again)
        sums[1][:] += v - again
        sums[2][:] += h - h_again
    for value, total in zip(got, sums, strict=True):
        np.testing.assert_allclose(value, total / 5, atol=1e-12)


def log_likelihood(machine, visible):
    """The exact mean ln p(v) of binary vectors, by summing over all states of a small machine."""
    w, a, b = (np.asarray(part, float) for part in machine)
    states = np.array(list(itertools.product([0, 1], repeat=len(a))), float)

    def log_weight(v):
        return v @ a + np.sum(np.logaddexp(0, v @ w + b), axis=-1)

    log_z = np.logaddexp.reduce(log_weight(states))
    return float(np.mean(log_weight(visible) - log_z))


@pytest.mark.long
def test_a_machine_learns_the_distribution_of_its_data():
    # Two patterns, equally likely: the best is ln ½, and independent units have −6 ln 2.
    pattern = np.array([1, 0, 1, 1, 0, 0], float)
    visible = np.stack([pattern, 1 - pattern] * 10)
    machine = belief.trained_machine(jax.random.key(0), jnp.asarray(visible), 4, 2000)
    assert -1.0 < log_likelihood(machine, visible) <= np.log(0.5)


@pytest.mark.long
def test_fine_tuning_uses_no_other_label():
    pixels = belief.images("train").pixels[:60]
    labels = belief.images("train").labels[:60]
    weights = np.zeros(60, np.float32)
    weights[:20] = 1 / 20
    layers = belief.random_layers(jax.random.key(0), 64, (16,))

    def tuned(labels):
        return belief.fine_tuned(layers, pixels, labels, weights, jax.random.key(1), 300, 1e-2)

    other = labels.copy()
    other[20:] = (other[20:] + 1) % 10
    params = tuned(jnp.asarray(labels))
    np.testing.assert_array_equal(params[0].w, tuned(jnp.asarray(other))[0].w)
    right = belief.logits(params, pixels[:20]).argmax(-1) == labels[:20]
    assert np.mean(right) > 0.5
