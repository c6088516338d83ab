"""The conditional random field against the enumeration of all labellings."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab import GRU, bidirectional
from rnnlab.data import Batch
from rnnlab.models import LinearChain, crf_tagger, tagger
from rnnlab.models.linear_chain import log_likelihood, log_partition, marginals, viterbi
from tests.reference import close, one_sentence
from tests.reference.models import CASES, LENGTHS, TAGS, VALID, VECTORS, C, evaluation
from tests.reference.models import float64_params as drawn_params

T, B, L = 4, 5, 3  # L labels
SIZES = np.array([4, 3, 1, 0, 4])


def drawn(seed=0, lengths=None, resets=None):
    rng = np.random.default_rng(seed)
    sizes = [(T, B, L), (L, L), (L,), (L,)]
    return LinearChain(*(jnp.asarray(2 * rng.normal(size=size)) for size in sizes), lengths, resets)


RESETS = np.zeros((T, B), bool)
RESETS[2, 0] = RESETS[1, 1] = RESETS[3, 1] = RESETS[0, 4] = True
CHAINS = {
    "plain": drawn(0),
    "lengths": drawn(1, jnp.asarray(SIZES)),
    "resets": drawn(2, None, jnp.asarray(RESETS)),
    "both": drawn(3, jnp.asarray(SIZES), jnp.asarray(RESETS)),
}
each_chain = pytest.mark.parametrize("name", CHAINS)


def pieces(chain, example):
    """The first step of each chain in a column, and the end of the last."""
    length = T if chain.lengths is None else int(chain.lengths[example])
    starts = [0]
    if chain.resets is not None:
        starts += [step for step in range(1, length) if chain.resets[step, example]]
    return list(itertools.pairwise([*starts, length])) if length else []


def score(chain, example, labels):
    """s(y), by its definition."""
    total = 0.0
    for first, last in pieces(chain, example):
        total += chain.start[labels[first]] + chain.end[labels[last - 1]]
        for step in range(first, last):
            total += chain.emissions[step, example, labels[step]]
        for step in range(first + 1, last):
            total += chain.transitions[labels[step - 1], labels[step]]
    return total


def every(chain, example):
    """All labellings of a column, and their scores, which are NumPy's."""
    chain = jax.tree.map(np.asarray, chain)
    length = T if chain.lengths is None else int(chain.lengths[example])
    labellings = list(itertools.product(range(L), repeat=length))
    return labellings, np.array([score(chain, example, labels) for labels in labellings])


def agree(row, labels, known):
    """Whether a labelling has the labels that are known."""
    return all(row[step] == labels[step] for step in range(len(row)) if known[step])


def log_sum(values):
    return np.log(np.sum(np.exp(values - values.max()))) + values.max()


@each_chain
def test_the_partition_function_is_a_sum_over_all_labellings(name):
    chain = CHAINS[name]
    expected = [log_sum(every(chain, example)[1]) for example in range(B)]
    close(jax.jit(log_partition)(chain), jnp.array(expected), 1e-12)


@each_chain
def test_the_likelihood_of_known_labels_sums_over_the_others(name):
    chain = CHAINS[name]
    rng = np.random.default_rng(5)
    labels = rng.integers(0, L, (T, B))
    known = rng.random((T, B)) < 0.6
    known[:, 4] = True
    if chain.lengths is not None:
        known &= np.arange(T)[:, None] < SIZES
    expected = []
    for example in range(B):
        labellings, scores = every(chain, example)
        agrees = [agree(row, labels[:, example], known[:, example]) for row in labellings]
        expected.append(log_sum(scores[agrees]) - log_sum(scores))
    close(jax.jit(log_likelihood)(chain, labels, known), jnp.array(expected), 1e-12)


@each_chain
def test_the_marginals_are_shares_of_all_labellings(name):
    chain = CHAINS[name]
    expected = np.zeros((T, B, L))
    for example in range(B):
        labellings, scores = every(chain, example)
        for row, share in zip(labellings, np.exp(scores - log_sum(scores)), strict=True):
            for step, label in enumerate(row):
                expected[step, example, label] += share
    close(jax.jit(marginals)(chain), jnp.asarray(expected), 1e-12)


@each_chain
def test_the_gradient_is_the_difference_of_expected_and_observed_counts(name):
    """Of the log-likelihood: 1 where a label or a pair is, minus its probability."""
    chain = CHAINS[name]
    labels = np.random.default_rng(6).integers(0, L, (T, B))
    known = np.ones((T, B), bool)
    if chain.lengths is not None:
        known = np.arange(T)[:, None] < SIZES

    def total(emissions, transitions, start, end):
        scores = LinearChain(emissions, transitions, start, end, chain.lengths, chain.resets)
        return log_likelihood(scores, labels, known).sum()

    actual = jax.jit(jax.grad(total, (0, 1, 2, 3)))(*chain[:4])
    expected = [np.zeros(part.shape) for part in chain[:4]]

    def count(example, row, weight):
        for first, last in pieces(chain, example):
            expected[2][row[first]] += weight
            expected[3][row[last - 1]] += weight
            for step in range(first, last):
                expected[0][step, example, row[step]] += weight
            for step in range(first + 1, last):
                expected[1][row[step - 1], row[step]] += weight

    for example in range(B):
        labellings, scores = every(chain, example)
        count(example, labels[:, example], 1.0)
        for row, share in zip(labellings, np.exp(scores - log_sum(scores)), strict=True):
            count(example, row, -share)
    close(actual, tuple(map(jnp.asarray, expected)), 1e-10)


@each_chain
def test_the_most_likely_labels_are_the_best_of_all(name):
    chain = CHAINS[name]
    labels, log_probability = jax.jit(viterbi)(chain)
    for example in range(B):
        labellings, scores = every(chain, example)
        best = labellings[scores.argmax()]
        row = labels[:, example].tolist()
        assert row == [*best, *[-1] * (T - len(best))]
        expected = scores.max() - log_sum(scores)
        assert float(log_probability[example]) == pytest.approx(expected, abs=1e-12)


def test_thousands_of_steps_lose_no_digits():
    """In float32: with labels that cannot tell the steps apart, each step adds ln L."""
    chain = drawn(0)
    steps = 20_000
    emissions = jnp.full((steps, 1, L), 3.0, jnp.float32)
    zeros = jnp.zeros(L, jnp.float32)
    long = LinearChain(emissions, jnp.zeros((L, L), jnp.float32), zeros, zeros)
    value = float(jax.jit(log_partition)(long)[0])
    assert value == pytest.approx(steps * (3 + np.log(L)), rel=1e-4)
    rows = jax.jit(marginals)(long._replace(transitions=chain.transitions.astype(jnp.float32)))
    np.testing.assert_allclose(rows.sum(-1), 1, rtol=1e-3)


# The model


def test_without_scores_of_the_chain_it_is_a_tagger():
    """The same loss, metrics and gradient; it begins so."""
    batch = Batch(VECTORS, TAGS, VALID, LENGTHS)
    plain = tagger(bidirectional(GRU(3)), C)
    model = crf_tagger(bidirectional(GRU(3)), C)
    params = drawn_params(plain, batch)
    start = model.init(jax.random.key(0), batch).chain
    assert not any(leaf.any() for leaf in start)
    chained = drawn_params(model, batch)._replace(
        embedding=None,
        cell=params.cell,
        readout=params.readout,
        chain=jax.tree.map(lambda leaf: np.zeros(leaf.shape), start),
    )
    expected, gradient = evaluation(plain)(params, batch)
    actual, slopes = evaluation(model)(chained, batch)
    close(actual, expected)
    close(slopes.readout, gradient.readout)
    close(slopes.cell, gradient.cell)
    logits = plain.apply(params, batch)
    labels = model.decode(chained, batch).labels
    close(labels, jnp.where(VALID, logits.argmax(-1), -1))
    probabilities = jnp.where(VALID[..., None], jax.nn.softmax(logits), 0)
    close(model.marginals(chained, batch), probabilities)


def test_the_loss_is_minus_the_log_likelihood_for_each_label():
    model, batch = CASES["crf tagger"]
    params = drawn_params(model, batch)
    chain = model.apply(params, batch)
    (value, metrics), _ = evaluation(model)(params, batch)
    logs = log_likelihood(chain, TAGS, VALID)
    close(value, -logs.sum() / LENGTHS.sum())
    labels = model.decode(params, batch).labels
    assert float(metrics["accuracy"]) == pytest.approx(np.mean((labels == TAGS)[VALID]))
    assert int(metrics["count"]) == LENGTHS.sum()


def test_packed_sequences_are_chains_of_their_own():
    """Two sequences in one column have the labels and the loss that they have side by side."""
    model = crf_tagger(GRU(3), C)
    apart = Batch(VECTORS[:3, :2], TAGS[:3, :2])
    params = drawn_params(model, apart)
    resets = np.arange(6)[:, None] == 3

    def join(array):
        """The second column after the first."""
        return np.concatenate([array[:, :1], array[:, 1:]])

    packed = Batch(join(apart.xs), join(apart.targets), resets=resets)
    close(evaluation(model)(params, packed), evaluation(model)(params, apart))
    close(
        model.decode(params, packed).labels,
        jnp.asarray(join(np.asarray(model.decode(params, apart).labels))),
    )


def test_wrong_labels_give_one_sentence():
    model = crf_tagger(GRU(3), C)

    def run(batch):
        return jax.eval_shape(lambda: model.loss(model.init(jax.random.key(0), batch), batch))

    one_sentence(lambda: crf_tagger(GRU(3), 0), "classes")
    one_sentence(lambda: run(Batch(VECTORS, TAGS[0])), "(3,)", "(5, 3)")
    one_sentence(lambda: run(Batch(VECTORS, TAGS * 0.5)), "float64")
    one_sentence(lambda: run(Batch(VECTORS, TAGS, lengths=[1, 2])), "lengths", "(3,)")
    one_sentence(lambda: model.check_batch(Batch(VECTORS, TAGS + C)), "label", "0..3")
