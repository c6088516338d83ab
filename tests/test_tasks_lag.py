"""Tasks with classes as targets and a long lag: copying, temporal order, noise-free lag, XOR."""

import functools
import math

import jax
import numpy as np
import pytest

import rnnlab
from rnnlab.models import classifier, tagger
from rnnlab.tasks.copying import copy_memory, copy_with_padding
from rnnlab.tasks.noise_free import noise_free_long_lag
from rnnlab.tasks.ordering import temporal_order
from rnnlab.tasks.xor import delayed_xor
from tests.reference import one_sentence
from tests.reference.long_lag import (
    class_loss,
    copied,
    draw,
    entropy,
    farthest,
    order,
    repeated,
    xor,
)
from tests.reference.tasks import check_contract

COPY = copy_memory(delay=5, symbols=4, items=3)
PADDED = copy_with_padding(delay=5, symbols=4, items=3)
ORDERS = [temporal_order(20), temporal_order(30, symbols=3)]
NOISE_FREE = [noise_free_long_lag(6), noise_free_long_lag(6, only_last=True)]
XORS = [delayed_xor(9, delay=3), delayed_xor(5, delay=0)]
TWINS = [
    *[(task, copied) for task in (COPY, PADDED, copy_with_padding(delay=1, symbols=2, items=1))],
    *[(task, order) for task in ORDERS],
    *[(task, repeated) for task in NOISE_FREE],
    *[(task, xor) for task in XORS],
]


def each(*argnames):
    """A test for each task, named after it."""
    values = [pair[: len(argnames)] for pair in TWINS]
    return pytest.mark.parametrize(argnames, values, ids=[repr(task) for task, _ in TWINS])


@each("task")
def test_contract(task):
    check_contract(task)


@each("task", "twin")
def test_targets_are_those_of_a_loop(task, twin):
    batch = draw(task)
    np.testing.assert_array_equal(batch.targets, twin(task, batch.xs))


@each("task", "twin")
def test_lag(task, twin):
    """The lag is the distance of the farthest target that changes with an input."""
    first, second = (task.delay - 1, task.delay) if twin is repeated else (0, 1)

    def change(xs, t):
        xs[t] = np.where(xs[t] == first, second, np.where(xs[t] == second, first, xs[t]))
        return xs

    xs = draw(task, 5).xs
    assert task.lag == max(farthest(twin, task, xs[:, [b]], change) for b in range(64))


@each("task")
def test_the_best_predictor_without_memory_reaches_the_baseline(task):
    """That of each pair of a step and a code, or of the frequencies of whole-sequence classes."""
    codes = task.vocabulary_size

    def contexts(batch):
        if task.kind == "classes":
            return np.zeros(batch.targets.shape, int)
        return np.arange(task.steps)[:, None] * codes + batch.xs

    seen, fresh = draw(task, 1, 20_000), draw(task, 2, 20_000)
    loss = class_loss(task, contexts, task.steps * codes, seen, fresh)
    np.testing.assert_allclose(loss, task.baseline(), rtol=0.01)
    assert task.floor() == 0


@each("task")
def test_what_counts(task):
    mask = draw(task).mask
    if task in XORS:
        expected = np.arange(task.steps) > task.delay
    elif task == NOISE_FREE[1]:
        expected = np.arange(task.steps) == task.steps - 1
    else:
        assert mask is None
        return
    np.testing.assert_array_equal(mask, np.broadcast_to(expected[:, None], mask.shape))


# Copying


def test_form_of_the_copy_task():
    """Ten symbols, T − 1 blanks, the delimiter and ten blanks, as in Arjovsky et al. 2016."""
    task = copy_memory(delay=20)
    xs, targets, *_ = draw(task)
    assert (task.steps, task.vocabulary_size, task.outputs) == (40, 10, 9)
    assert set(xs[:10].ravel()) == set(range(8))
    assert (xs[10:29] == 8).all()
    assert (xs[29] == 9).all()
    assert (xs[30:] == 8).all()
    assert (targets[:30] == 8).all()
    np.testing.assert_array_equal(targets[30:], xs[:10])


def test_baseline_of_the_copy_task():
    for delay in (1, 100, 1000):
        expected = 10 * math.log(8) / (delay + 20)
        assert copy_memory(delay).baseline() == pytest.approx(expected, rel=1e-15)


def test_with_one_delay_to_draw_it_is_the_copy_task():
    fixed, drawn = copy_memory(1, 4, 3), copy_with_padding(1, 4, 3)
    assert drawn.baseline() == pytest.approx(fixed.baseline(), rel=1e-15)
    np.testing.assert_array_equal(draw(drawn).xs, draw(fixed).xs)


def test_baseline_of_delays_that_are_drawn():
    """The cross-entropy of the targets given step and code, over all delays."""
    delays, items, symbols = 5, 3, 4
    total = 0.0
    for t in range(items, delays + 2 * items):
        blank, recall = 0, 0
        for delay in range(1, delays + 1):
            is_delimiter = t == items + delay - 1
            blank += not is_delimiter
            recall += items + delay <= t < 2 * items + delay
        r = recall / blank
        total += blank / delays * (entropy(r, 1 - r) + r * math.log(symbols))
    assert PADDED.baseline() == pytest.approx(total / PADDED.steps, rel=1e-13)


def test_delays_are_uniform():
    xs = draw(PADDED, 1, 50_000).xs
    assert ((xs == PADDED.delimiter).sum(axis=0) == 1).all()
    shares = (xs == PADDED.delimiter).mean(axis=1)
    assert not shares[:3].any()
    np.testing.assert_allclose(shares[3:8], 1 / 5, atol=5 * 0.4 / math.sqrt(50_000))
    assert not shares[8:].any()


def test_accuracy_does_not_tell_whether_a_long_copy_is_solved():
    task = copy_memory(delay=5000)
    assert not task.solved({"accuracy": 0.998, "loss": task.baseline()})
    assert task.solved({"accuracy": 1.0, "loss": task.baseline() / 101})


# Temporal order


@pytest.mark.parametrize(
    ("task", "starts"),
    [(temporal_order(100), (10, 50)), (temporal_order(100, 3), (10, 33, 66))],
)
def test_positions_of_the_relevant_symbols(task, starts):
    xs = draw(task, 1, 20_000).xs
    shares = (xs < 2).mean(axis=1)
    expected = np.zeros(100)
    for start in starts:
        expected[start : start + 10] = 0.1
    np.testing.assert_allclose(shares, expected, atol=5 * 0.3 / math.sqrt(20_000))
    assert not shares[expected == 0].any()
    assert ((xs < 2).sum(axis=0) == len(starts)).all()
    distractors = np.bincount(xs.ravel(), minlength=6)[2:] / xs.size
    np.testing.assert_allclose(distractors, distractors.mean(), atol=0.002)


def test_chance_of_temporal_order():
    assert [task.outputs for task in ORDERS] == [4, 8]
    assert [task.baseline() for task in ORDERS] == [math.log(4), math.log(8)]


@pytest.mark.parametrize("task", ORDERS)
def test_shorter_windows_stay_apart(task):
    for length in range(10, 130):
        starts = type(task)(length, task.symbols).starts
        ends = [start + length // 10 for start in starts]
        assert all(end <= start for end, start in zip(ends, [*starts[1:], length], strict=True))


def test_temporal_order_is_solved_below_one_percent_of_error():
    assert ORDERS[0].solved({"accuracy": 0.991, "loss": 9.0})
    assert not ORDERS[0].solved({"accuracy": 0.989, "loss": 0.0})


# The noise-free lag


def test_sequences_of_the_noise_free_lag():
    batch = draw(NOISE_FREE[0])
    sequences = np.concatenate([batch.xs, batch.targets[-1:]]).T.tolist()
    assert sorted(set(map(tuple, sequences))) == [(5, 0, 1, 2, 3, 4, 5), (6, 0, 1, 2, 3, 4, 6)]


def test_baselines_of_the_noise_free_lag():
    assert noise_free_long_lag(100).baseline() == math.log(2) / 100
    assert noise_free_long_lag(100, only_last=True).baseline() == math.log(2)
    assert not noise_free_long_lag(100).solved({"accuracy": 0.995, "loss": math.log(2) / 100})


# Delayed XOR


@pytest.mark.parametrize("task", XORS)
def test_xor_says_nothing_alone(task):
    """The target is independent of each single input, and its chance is ln 2."""
    xs, targets, mask, *_ = draw(task, 1, 20_000)
    assert task.baseline() == math.log(2)
    for t in range(task.steps):
        share = (xs[t] == targets[-1]).mean()
        assert abs(share - 0.5) < 5 * 0.5 / math.sqrt(20_000)
    assert not targets[~mask].any()


# All of them


def test_models_take_the_batches():
    for task in (COPY, ORDERS[0]):
        batch = task.batches(4)[0]
        make = classifier if task.kind == "classes" else tagger
        model = make(rnnlab.RNN(3), task.outputs, vocabulary_size=task.vocabulary_size)
        params = model.init(jax.random.key(0), batch)
        loss, _ = jax.eval_shape(model.loss, params, batch)
        assert loss.shape == ()


BAD = {
    "copy": (copy_memory, (0,), "delay is 0; it must be an integer of at least 1"),
    "one symbol": (copy_memory, (5, 1), "symbols is 1; it must be an integer of at least 2"),
    "items": (copy_with_padding, (5, 8, 0), "items is 0"),
    "length": (temporal_order, (9,), "length is 9; it must be an integer of at least 10"),
    "symbols": (temporal_order, (20, 4), "symbols is 4; give 2 or 3"),
    "noise-free": (noise_free_long_lag, (1,), "delay is 1; it must be an integer of at least 2"),
    "delay": (delayed_xor, (5, -1), "delay is -1; it must be an integer of at least 0"),
    "short": (delayed_xor, (5, 4), "length is 5; it must be an integer of at least 6"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_refused(name):
    make, arguments, words = BAD[name]
    one_sentence(functools.partial(make, *arguments), words)


def test_a_flag_must_be_one():
    with pytest.raises(ValueError, match="only_last is 1; it must be True or False"):
        noise_free_long_lag(5, only_last=1)
