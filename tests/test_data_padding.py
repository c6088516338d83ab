"""Padding and packing change neither the loss nor its gradient."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab.data import bucket_boundaries, bucketed, packed
from rnnlab.data.packing import best_fit_decreasing
from rnnlab.training import cross_entropy

CLASSES, FEATURES = 3, 2
LENGTHS = (2, 5, 3, 2, 5, 3, 2)
RNG = np.random.default_rng(0)
SEQUENCES = [RNG.normal(size=(steps, FEATURES)) for steps in LENGTHS]
LABELS = RNG.integers(0, CLASSES, len(LENGTHS))
TAGS = [RNG.integers(0, CLASSES, steps) for steps in LENGTHS]
CELLS = {
    "gru": rnnlab.GRU(3, param_dtype=jnp.float64),
    "two directions": rnnlab.bidirectional(rnnlab.RNN(2, param_dtype=jnp.float64)),
}


def network(name):
    cell = CELLS[name]
    k_cell, k_readout = jax.random.split(jax.random.key(0))
    params = cell.init(k_cell, input_size=FEATURES)
    size = 3 if name == "gru" else 4
    return params, jax.random.normal(k_readout, (size, CLASSES), jnp.float64)


def batch_loss(name, engine):
    """The mean over the counted targets of a batch, by the library's own tools."""

    @jax.jit
    def loss(weights, batch):
        params, readout = weights
        marks = {"lengths": batch.lengths, "resets": batch.resets}
        _, ys = rnnlab.unroll(CELLS[name], params, batch.xs, engine=engine, **marks)
        if batch.targets.ndim == 1:
            ys = ys[batch.lengths - 1, jnp.arange(batch.lengths.size)]
        return cross_entropy(ys @ readout, batch.targets, batch.mask)

    return jax.value_and_grad(loss)


def over_epoch(name, data, engine="scan"):
    """Value and gradient of the sum over one epoch, divided by the number of counted targets."""
    value_and_grad, weights = batch_loss(name, engine), network(name)
    total, count = jax.tree.map(np.zeros_like, (np.zeros(()), weights)), 0
    for index in range(data.batches_per_epoch):
        batch = data[index]
        size = int(batch.mask.sum())
        result = value_and_grad(weights, batch)
        total = jax.tree.map(lambda a, b, size=size: a + size * np.asarray(b), total, result)
        count += size
    return jax.tree.map(lambda a: a / count, total), count


@functools.cache
def one_by_one(name, targets_are):
    """The same by a loop over the sequences, without padding, lengths, masks and resets."""
    cell, targets = CELLS[name], {"tags": TAGS, "labels": LABELS}[targets_are]

    def loss(weights, x, target):
        params, readout = weights
        _, ys = rnnlab.unroll(cell, params, x, engine="scan")
        logits = ys @ readout if jnp.ndim(target) else ys[-1:] @ readout
        log_p = jax.nn.log_softmax(logits)
        return -jnp.take_along_axis(log_p, jnp.atleast_1d(target)[:, None], 1).sum()

    weights = network(name)
    value_and_grad = jax.jit(jax.value_and_grad(loss))
    total = jax.tree.map(np.zeros_like, (np.zeros(()), weights))
    for x, target in zip(SEQUENCES, targets, strict=True):
        total = jax.tree.map(np.add, total, value_and_grad(weights, x, target))
    count = sum(map(np.size, targets))
    return jax.tree.map(lambda a: a / count, total), count


def assert_equal(actual, expected):
    (result, count), (wanted, wanted_count) = actual, expected
    assert count == wanted_count
    for leaf, want in zip(jax.tree.leaves(result), jax.tree.leaves(wanted), strict=True):
        scale = np.abs(want).max()
        assert scale > 0
        assert np.abs(leaf - want).max() < 1e-14 * scale


def make(kind, targets):
    if kind == "bucketed":
        return bucketed(SEQUENCES, targets, 2, buckets=2, seed=1)
    return packed(SEQUENCES, targets, 2, 8, seed=1)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["bucketed", "packed"])
def test_tags_of_padded_and_packed_sequences(kind):
    # The fused engine once; the scan compiles faster.
    engine = "auto" if kind == "packed" else "scan"
    assert_equal(over_epoch("gru", make(kind, TAGS), engine), one_by_one("gru", "tags"))


@pytest.mark.parametrize("kind", ["packed", "bucketed"])
@pytest.mark.combinations
def test_two_directions_of_padded_and_packed_sequences(kind):
    name = "two directions"
    assert_equal(over_epoch(name, make(kind, TAGS)), one_by_one(name, "tags"))


@pytest.mark.parametrize("kind", ["bucketed", "packed"])
def test_labels_of_padded_and_packed_sequences(kind):
    assert_equal(over_epoch("gru", make(kind, LABELS)), one_by_one("gru", "labels"))


@pytest.mark.parametrize("kind", ["bucketed", "packed"])
def test_every_sequence_counts_once_an_epoch(kind):
    names = np.arange(len(LENGTHS))
    data = make(kind, names)
    orders = []
    for epoch in range(3):
        counted = []
        for index in range(data.batches_per_epoch):
            batch = data[epoch * data.batches_per_epoch + index]
            rnnlab.data.check_batch(batch, classes=len(LENGTHS))
            counted.extend(batch.targets[batch.mask].tolist())
        assert sorted(counted) == names.tolist()
        orders.append(tuple(counted))
    assert len(set(orders)) > 1


@pytest.mark.parametrize("kind", ["bucketed", "packed"])
def test_the_padding_share_is_exact(kind):
    data = make(kind, TAGS)
    kept, total = 0, 0
    for index in range(data.batches_per_epoch):
        mask = data[index].mask
        kept += int(mask.sum())
        total += mask.size
    assert kept == sum(LENGTHS)
    assert data.padding_share == pytest.approx(1 - kept / total, abs=1e-15)
    plain = {"bucketed": 8 * 5, "packed": 8 * 8}[kind]
    assert data.plain_padding_share == pytest.approx(1 - kept / plain, abs=1e-15)
    assert data.padding_share < data.plain_padding_share


def test_vectors_of_each_step_and_of_each_sequence():
    per_step = [np.ones((steps, 4)) for steps in LENGTHS]
    per_sequence = [np.ones(4) for _ in LENGTHS]
    assert bucketed(SEQUENCES, per_step, 2, buckets=1)[0].targets.shape == (5, 2, 4)
    assert bucketed(SEQUENCES, per_sequence, 2, buckets=1)[0].targets.shape == (2, 4)
    batch = packed(SEQUENCES, per_sequence, 2, 8)[0]
    assert batch.targets.shape == (8, 2, 4)
    np.testing.assert_array_equal(batch.targets.any(-1), batch.mask)
    codes = [np.arange(steps) for steps in LENGTHS]
    assert packed(codes, TAGS, 2, 8)[0].xs.shape == (8, 2)


def test_the_number_of_shapes_is_bounded():
    data = bucketed(SEQUENCES, LABELS, 2, buckets=2)
    shapes = {data[index].xs.shape for index in range(30)}
    assert shapes == {(steps, 2, FEATURES) for steps in data.boundaries}
    assert len(shapes) == 2
    ordered = bucketed(SEQUENCES, LABELS, 2, buckets=2, shuffle=False)
    in_order = [ordered[index].xs.shape[0] for index in range(ordered.batches_per_epoch)]
    assert in_order == sorted(in_order)


def test_equal_buckets_are_permuted_differently():
    sequences = [np.zeros((steps, 1)) for steps in [1] * 9 + [2] * 9]
    data = bucketed(sequences, np.arange(18), 9, buckets=2)
    by_length = {data[index].xs.shape[0]: data[index].targets % 9 for index in range(2)}
    assert not np.array_equal(by_length[1], by_length[2])


def padding(lengths, boundaries):
    rising = np.sort(boundaries)
    return int((rising[np.searchsorted(rising, lengths)] - lengths).sum())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("buckets", [1, 2, 3, 9])
def test_no_boundaries_pad_less_than_the_chosen_ones(seed, buckets):
    lengths = np.random.default_rng(seed).geometric(0.15, 40)
    chosen = bucket_boundaries(lengths, buckets)
    different = np.unique(lengths)
    count = min(buckets, different.size)
    assert len(chosen) == count
    assert list(chosen) == sorted(set(chosen))
    all_choices = itertools.combinations(different[:-1], count - 1)
    least = min(padding(lengths, [*choice, different[-1]]) for choice in all_choices)
    assert padding(lengths, chosen) == least


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_filled_by_best_fit_decreasing(seed):
    sizes = np.random.default_rng(seed).integers(1, 21, 60).tolist()
    plan = best_fit_decreasing(sizes, 20)
    assert sorted(itertools.chain(*plan)) == list(range(60))
    loads = [sum(sizes[index] for index in row) for row in plan]
    assert max(loads) <= 20
    assert sorted(loads) == sorted(slow_best_fit(sizes, 20))


def slow_best_fit(sizes, capacity):
    """The loads of the rows, by looking at every row for every size."""
    loads = []
    for size in sorted(sizes, reverse=True):
        fits = [row for row, load in enumerate(loads) if load + size <= capacity]
        if fits:
            loads[max(fits, key=lambda row: loads[row])] += size
        else:
            loads.append(size)
    return loads


@pytest.mark.parametrize(
    ("sequences", "targets", "words"),
    [
        ([], [], "sequences is empty"),
        (SEQUENCES, None, "targets is None; give a list"),
        ([[1, 2], [[1], 2]], [0, 1], r"sequences\[1\] is not an array of numbers"),
        (SEQUENCES, LABELS[:-1], "there are 7 sequences, but 6 targets"),
        ([np.ones((2, 3)), np.ones((0, 3))], [0, 1], r"sequences\[1\] has shape \(0, 3\)"),
        ([np.ones((2, 3)), np.ones((2, 4))], [0, 1], r"sequences\[1\] has shape \(2, 4\), but"),
        ([np.ones((2, 3)), np.ones(2)], [0, 1], r"sequences\[1\] has shape \(2,\), but"),
        ([[1, 2], [1, -2]], [0, 1], r"sequences\[1\]\[1\] is -2; a code must be at least 0"),
        ([[1, 2], [1.5, 2]], [0, 1], r"sequences\[0\] is float64; a code must be an integer"),
        ([[[1.0]], [[np.inf]]], [0, 1], r"sequences\[1\]\[0, 0\] is inf"),
        ([[1, 2], [1, 2]], [0, -1], r"targets\[1\] is -1; a label must be at least 0"),
        ([[1, 2], [1, 2]], [0.5, np.nan], r"targets\[1\].* is nan"),
        ([[1, 2], [1, 2, 3]], [[1, 2], [1, 2, 3, 4]], r"targets\[1\] has shape \(4,\), but seq"),
        ([[1, 2], [1, 2, 3]], [[1, 2], 3], r"targets\[1\] has shape \(\), but sequences\[1\]"),
        ([["a"], ["b"]], [0, 1], r"sequences\[0\] is text; .* of a rnnlab\.text\.Vocabulary"),
        ([[1], [2]], ["a", "b"], r"targets\[0\] is text; .*, and 0, 1, \.\.\. for labels"),
        ([[1] * 9, [1] * 11], [0, 1], r"sequences\[1\] has 11 steps, but"),
    ],
)
def test_bad_sequences_are_refused(sequences, targets, words):
    for call in (
        lambda: bucketed(sequences, targets, 2, boundaries=[10]),
        lambda: packed(sequences, targets, 2, 10),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("targets", "sizes", "words"),
    [
        ([0, 1], {"vocabulary_size": 3}, r"sequences\[1\]\[2\] is 3; a code must lie in 0..2"),
        ([0, 4], {"classes": 4}, r"targets\[1\] is 4; a label must lie in 0..3"),
        ([[0, 1], [0, 1, 9]], {"classes": 4}, r"targets\[1\]\[2\] is 9; a label must lie in"),
        ([0.5, 1.0], {"classes": 4}, "targets hold float64, no labels; leave out classes"),
    ],
)
def test_codes_and_labels_are_checked_against_their_number(targets, sizes, words):
    sequences = [[0, 1], [1, 2, 3]]
    with pytest.raises(ValueError, match=words):
        bucketed(sequences, targets, 2, **sizes)
    with pytest.raises(ValueError, match=words):
        packed(sequences, targets, 2, 10, **sizes)
    assert bucketed(sequences, [0, 1], 2, vocabulary_size=4, classes=2)[0].xs.max() < 4


@pytest.mark.parametrize("boundaries", [[], [5, 5], [5, 2], [0, 5], [2.5, 5], 5])
def test_bad_boundaries_are_refused(boundaries):
    with pytest.raises(ValueError, match="boundaries"):
        bucketed(SEQUENCES, LABELS, 2, boundaries=boundaries)
