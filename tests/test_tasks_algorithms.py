"""Tasks with an algorithm: sums modulo m, recall of selected items and by a key."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from rnnlab.tasks.modular import modular_counting, parity
from rnnlab.tasks.recall import associative_recall
from rnnlab.tasks.selection import selective_copy
from tests.reference import one_sentence
from tests.reference.tasks import (
    assert_uniform,
    check_contract,
    columns,
    counted,
    draw,
    memoryless_loss,
)

pytestmark = pytest.mark.long

TASKS = [
    parity(20),
    parity(20, each_step=True),
    modular_counting(5, 3),
    modular_counting(4, 5, each_step=True),
    selective_copy(12, 3, 4),
    associative_recall(4, keys=6, values=5),
]


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_the_contract_of_a_task(task):
    check_contract(task)
    assert task.floor() == 0
    assert task.solved({"accuracy": 0.99, "loss": 1.0})
    assert not task.solved({"accuracy": 0.98, "loss": 0.0})


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_the_baseline_is_that_of_a_predictor_fitted_to_many_samples(task):
    batch = draw(task, jax.random.key(0))
    if task.kind == "classes":
        # What is seen is the last input, which says nothing about the class of the sequence.
        inputs, targets = np.asarray(batch.xs[-1]), np.asarray(batch.targets)
    else:
        inputs, targets = counted(batch)
    assert memoryless_loss(inputs, targets) == pytest.approx(task.baseline(), rel=0.01)


def test_baselines_in_closed_form():
    assert parity(7).baseline() == math.log(2)
    assert modular_counting(7, 5).baseline() == math.log(5)
    assert selective_copy(40, 4, 8).baseline() == math.log(8)
    assert associative_recall(3, values=7).baseline() == math.log(7)
    # The first of 40 sums is its digit.
    same, other = 1 / 40 + 39 / 40 / 2, 39 / 40 / 2
    running = -same * math.log(same) - other * math.log(other)
    assert parity(40, each_step=True).baseline() == pytest.approx(running, rel=1e-14)
    assert parity(1, each_step=True).baseline() == parity(1).baseline() == 0


@pytest.mark.parametrize("task", TASKS[:4], ids=str)
@pytest.mark.parametrize("length", [1, 9])
def test_sums_modulo_m_at_any_length(task, length):
    task = dataclasses.replace(task, length=length)
    batch = draw(task, jax.random.key(1), 300)
    for column in range(300):
        sums, total = [], 0
        for digit in batch.xs[:, column].tolist():
            total += digit
            sums.append(total % task.modulus)
        wanted = sums if task.kind.endswith("each step") else sums[-1]
        assert batch.targets[..., column].tolist() == wanted
    assert_uniform(np.bincount(np.ravel(batch.xs), minlength=task.modulus))


def test_parity_counts_modulo_two():
    assert parity(9) == modular_counting(9, 2)
    assert parity(9, each_step=True) == modular_counting(9, 2, each_step=True)
    assert parity(9, each_step=True) != parity(9)


def test_selected_items_are_recalled_in_order():
    task = selective_copy(12, 3, 4)
    batch = columns(draw(task, jax.random.key(2)), 5000)
    xs, targets = np.asarray(batch.xs), np.asarray(batch.targets)
    places = np.zeros(12, int)
    for column in range(5000):
        items = []
        for step in range(12):
            if xs[step, column] < 4:
                items.append(xs[step, column])
                places[step] += 1
            else:
                assert xs[step, column] == 4
        assert len(items) == 3
        assert targets[12:, column].tolist() == items
    assert (xs[12:] == 5).all()
    assert (np.asarray(batch.mask) == (np.arange(15) >= 12)[:, None]).all()
    assert_uniform(places)
    assert_uniform(np.bincount(targets[12:].ravel(), minlength=4))
    # Columns have positions of their own, all subsets among them.
    assert len({tuple(column) for column in (xs[:12] < 4).T}) == math.comb(12, 3)


def test_a_full_stream_is_a_copy():
    batch = draw(selective_copy(3, 3, 4), jax.random.key(2), 50)
    np.testing.assert_array_equal(batch.xs[:3], batch.targets[3:])


def test_the_answer_is_the_value_of_the_key():
    task = associative_recall(4, keys=6, values=5)
    batch = columns(draw(task, jax.random.key(3)), 5000)
    asked = np.zeros(4, int)
    for column in range(5000):
        *pairs, first_mark, second_mark, query = batch.xs[:, column].tolist()
        assert first_mark == second_mark == 11
        keys, values = pairs[::2], pairs[1::2]
        assert len(set(keys)) == 4
        assert max(keys) < 6
        assert min(values) >= 6
        assert max(values) < 11
        place = keys.index(query)
        asked[place] += 1
        assert batch.targets[column] == values[place] - 6
    assert_uniform(asked)
    assert_uniform(np.bincount(np.ravel(batch.xs[0:8:2]), minlength=6))
    assert_uniform(np.bincount(np.ravel(batch.xs[1:8:2]) - 6, minlength=5))


def test_all_keys_may_be_used():
    batch = draw(associative_recall(6, keys=6, values=2), jax.random.key(3), 20)
    assert (np.sort(batch.xs[0:12:2], axis=0) == np.arange(6)[:, None]).all()


def test_the_largest_lags():
    assert parity(20).lag == 19
    assert selective_copy(12, 3).lag == 12
    assert associative_recall(4).lag == 10
    assert associative_recall(4).steps == len("c9k8j3f1??c")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: parity(0), "length is 0"),
        (lambda: parity(3, each_step=1), "each_step is 1; it must be True or False"),
        (lambda: modular_counting(5, 1), "modulus is 1; it must be"),
        (lambda: selective_copy(4, 5), "items is 5, but the stream has only 4 positions"),
        (lambda: selective_copy(4, 2, 1), "symbols is 1; it must be"),
        (lambda: selective_copy(0), "length is 0"),
        (lambda: associative_recall(7, keys=6), "pairs is 7, but there are only 6 keys"),
        (lambda: associative_recall(values=1), "values is 1; it must be"),
        (lambda: associative_recall(0), "pairs is 0"),
    ],
)
def test_bad_arguments_are_refused(make, words):
    one_sentence(make, words)
