"""The order of data: a pure function of (seed, i), in any process."""

import hashlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from rnnlab.data import (
    Batch,
    Order,
    batches,
    bucketed,
    forecasting,
    generated,
    ngram,
    packed,
    streams,
)
from rnnlab.data.series import Series

N = 23


def order(**changes):
    settings = {"count": N, "batch_size": 4, "seed": 5, "drop_remainder": False}
    return Order(**(settings | changes))


def epoch_of(data, epoch):
    """All indices of one epoch, in their order."""
    size = data.batches_per_epoch
    return np.concatenate([data[i] for i in range(epoch * size, (epoch + 1) * size)]).tolist()


def normal(key, batch_size):
    xs = jax.random.normal(key, (3, batch_size, 1))
    return Batch(xs, xs[-1])


def kinds():
    """One data set of each kind."""
    rng = np.random.default_rng(0)
    sequences = [rng.normal(size=(steps, 2)) for steps in (1, 2, 3, 4, 5, 6, 7, 8, 9)]
    labels = np.arange(9)
    series = Series(np.sin(np.arange(60.0)), np.arange(60))
    return {
        "batches": batches(Batch(rng.normal(size=(4, N, 2)), np.arange(N)), 4, seed=3),
        "streams": streams(rng.integers(0, 5, 200), 3, 7, context=2, seed=3),
        "bucketed": bucketed(sequences, labels, 2, seed=3),
        "packed": packed(sequences, labels, 2, 10, seed=3),
        "forecasting": forecasting(series, 5, 2, 4, held_out_from=50, seed=3).training,
        "generated": generated(normal, 2, seed=3),
    }


INDICES = (0, 7, 1000)


def digests():
    """A hash of some batches of each kind."""
    hashes = {}
    for name, data in kinds().items():
        digest = hashlib.sha256()
        for index in INDICES:
            for leaf in jax.tree.leaves(data[index]):
                digest.update(np.asarray(leaf).tobytes())
        hashes[name] = digest.hexdigest()
    return hashes


def test_a_new_process_reads_the_same_batches():
    code = (
        "import jax; jax.config.update('jax_enable_x64', True)\n"
        "from tests.test_data_order import digests; print(digests())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(digests())


@pytest.mark.parametrize("name", kinds())
def test_jumping_to_a_batch_equals_walking_there(name):
    walked = kinds()[name]
    for index in range(31):
        batch = walked[index]
    jumped = kinds()[name][30]
    jax.tree.map(np.testing.assert_array_equal, batch, jumped)
    # And no batch depends on those that were read before.
    jax.tree.map(np.testing.assert_array_equal, walked[2], kinds()[name][2])


@pytest.mark.parametrize("name", kinds())
def test_another_seed_gives_other_batches(name):
    data = kinds()[name]
    other = {
        "batches": lambda: batches(data.examples, 4, seed=4),
        "streams": lambda: streams(data.codes, 3, 7, context=2, seed=4),
        "bucketed": lambda: bucketed(data.sequences.xs, np.arange(9), 2, seed=4),
        "packed": lambda: packed(data.sequences.xs, np.arange(9), 2, 10, seed=4),
        "forecasting": lambda: batches(data.examples, 4, seed=4),
        "generated": lambda: generated(normal, 2, seed=4),
    }[name]()
    differ = [not np.array_equal(data[i].targets, other[i].targets) for i in range(6)]
    assert any(differ)


def test_data_are_shown_in_one_line_without_their_arrays():
    shown = {name: repr(data) for name, data in kinds().items()}
    assert shown["batches"] == (
        "Batches(examples=23, steps=4, batch_size=4, seed=3, batches_per_epoch=5)"
    )
    assert shown["streams"] == (
        "Streams(codes=200, batch_size=3, length=7, context=2, seed=3, batches_per_epoch=10)"
    )
    assert shown["bucketed"].startswith("Bucketed(sequences=9, boundaries=(")
    assert shown["packed"].startswith("Packed(sequences=9, rows=2, length=10, ")
    shown["sequences"] = repr(kinds()["packed"].sequences)
    assert shown["sequences"] == "Sequences(count=9, steps=45, per_step=False)"
    shown["ngram"] = repr(ngram.fit(np.arange(9) % 3, 2, 3))
    assert shown["ngram"] == "NGram(order=2, vocabulary_size=3)"
    for text in shown.values():
        assert len(text) < 130
        assert "array" not in text
        assert "\n" not in text


@pytest.mark.parametrize("name", kinds())
@pytest.mark.parametrize("index", [-1, 1.0, "0", True, None])
def test_an_index_that_is_no_natural_number_is_refused(name, index):
    with pytest.raises(ValueError, match=r"^index is .*; it must be an integer of at least 0$"):
        kinds()[name][index]


def test_every_epoch_visits_each_example_exactly_once():
    data = order()
    epochs = [epoch_of(data, epoch) for epoch in range(5)]
    for visited in epochs:
        assert sorted(visited) == list(range(N))
    assert len({tuple(visited) for visited in epochs}) == 5


def test_the_epochs_of_one_seed_are_not_those_of_the_next():
    """Adding the epoch to the seed would make epoch 1 of seed 0 epoch 0 of seed 1."""
    first = {tuple(epoch_of(order(seed=0), epoch)) for epoch in range(4)}
    second = {tuple(epoch_of(order(seed=1), epoch)) for epoch in range(4)}
    assert not first & second


def test_the_remainder_is_left_out_or_kept():
    assert order(drop_remainder=True).batches_per_epoch == 5
    assert len(set(epoch_of(order(drop_remainder=True), 1))) == 20
    assert order().batches_per_epoch == 6
    assert order()[5].size == 3
    assert epoch_of(order(shuffle=False), 2) == list(range(N))


def test_one_example_is_its_own_order():
    assert [order(count=1, batch_size=1)[i].tolist() for i in range(3)] == [[0]] * 3


def test_batches_hold_the_examples_in_that_order():
    xs = np.random.default_rng(0).normal(size=(4, N, 2))
    examples = Batch(
        xs=xs,
        targets=np.arange(4 * N).reshape(4, N),
        mask=np.arange(4)[:, None] < np.arange(N) % 4 + 1,
        lengths=np.arange(N) % 4 + 1,
        resets=np.arange(4 * N).reshape(4, N) % 3 == 0,
    )
    data = batches(examples, 4, seed=5, drop_remainder=False)
    for index in range(12):
        batch, columns = data[index], order()[index]
        size = columns.size
        assert batch.xs.shape == (4, 4, 2)
        assert not batch.mask[:, size:].any()
        for field, whole in zip(batch, examples, strict=True):
            taken = whole[..., columns, :] if whole.ndim == 3 else whole[..., columns]
            np.testing.assert_array_equal(
                field[..., :size, :] if field.ndim == 3 else field[..., :size], taken
            )


@pytest.mark.parametrize(
    ("shape", "taken"),
    [((N,), (4,)), ((N, 2), (4, 2)), ((5, N), (5, 4)), ((5, N, 2), (5, 4, 2))],
)
def test_targets_are_for_each_step_or_each_sequence(shape, taken):
    examples = Batch(np.zeros((4, N, 2)), np.zeros(shape))
    assert batches(examples, 4)[0].targets.shape == taken
    filled = batches(examples, 4, drop_remainder=False)
    assert filled[0].mask.shape == taken[: len(filled[0].mask.shape)]
    counted = sum(int(filled[i].mask.sum()) for i in range(filled.batches_per_epoch))
    assert counted == np.prod(shape[: filled[0].mask.ndim])


def test_a_mask_tells_square_targets_apart():
    square = Batch(np.zeros((4, 6, 2)), np.zeros((6, 6)), mask=np.ones(6, bool))
    assert batches(square, 4)[0].targets.shape == (4, 6)
    assert batches(square._replace(mask=None), 4)[0].targets.shape == (6, 4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"count": 0}, "count is 0; it must be an integer of at least 1"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"batch_size": 24, "drop_remainder": True}, "only 23 examples; give a smaller batch_size"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296; it must be below"),
        ({"shuffle": 1}, "shuffle is 1; it must be True or False"),
    ],
)
def test_settings_of_an_order_are_checked(change, words):
    with pytest.raises(ValueError, match=words):
        order(**change)
