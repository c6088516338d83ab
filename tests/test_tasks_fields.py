"""The fields of tasks: a wrong one is refused wherever it is set, and all are plain numbers."""

import dataclasses
from fractions import Fraction

import jax
import numpy as np
import pytest

from rnnlab.tasks import (
    adding,
    anbn,
    associative_recall,
    copy_memory,
    copy_with_padding,
    delayed_xor,
    embedded_reber,
    flip_flop,
    modular_counting,
    multiplication,
    noise_free_long_lag,
    selective_copy,
    sine_wave,
    temporal_order,
    word_detection,
)
from tests.reference import one_sentence

# For each task arguments that are right, each with a value that is wrong beside the others.
ARGUMENTS = {
    adding: {"length": (12, 9), "scaling": ("pascanu", "mean")},
    multiplication: {"length": (12, 1)},
    temporal_order: {"length": (100, 3), "symbols": (3, 4)},
    copy_memory: {"delay": (5, 0), "symbols": (4, 1), "items": (3, 0)},
    copy_with_padding: {"delay": (5, 1.5), "symbols": (4, 1), "items": (3, "3")},
    noise_free_long_lag: {"delay": (6, 1), "only_last": (True, 1)},
    delayed_xor: {"length": (9, 4), "delay": (3, -1)},
    flip_flop: {"length": (6, 1), "bits": (2, 0), "probability": (0.25, 1.0)},
    modular_counting: {"length": (5, 0), "modulus": (3, 1)},
    selective_copy: {"length": (12, 0), "items": (3, 13), "symbols": (4, 1)},
    associative_recall: {"pairs": (4, 7), "keys": (6, 3), "values": (5, 1)},
    anbn: {"max_n": (5, 1)},
    embedded_reber: {"max_length": (12, 8)},
    word_detection: {
        "word": ("ABA", "A"),
        "length": (9, 2),
        "planted": (0.25, 0.0),
        "misspelled": (0.5, 1.0),
        "others": ("C", 3),
    },
    sine_wave: {"length": (8, 2), "period": ((5, 9), (9, 5)), "noise": (0.25, -1)},
}
KEY = jax.random.key(0)
WRONG = [(make, name) for make, arguments in ARGUMENTS.items() for name in arguments]


def of(make, **changes):
    """The task with right arguments, but for the changes."""
    right = {name: values[0] for name, values in ARGUMENTS[make].items()}
    return make(**right | changes)


@pytest.mark.parametrize(
    ("make", "name"), WRONG, ids=[f"{make.__name__}-{name}" for make, name in WRONG]
)
def test_a_replaced_field_is_checked_as_the_argument_is(make, name):
    wrong = {name: ARGUMENTS[make][name][1]}
    with pytest.raises(ValueError, match=name) as expected:
        of(make, **wrong)
    with pytest.raises(ValueError, match=name) as caught:
        dataclasses.replace(of(make), **wrong)
    assert str(caught.value) == str(expected.value)


def foreign(value):
    """The same number in a type of NumPy or of the standard library."""
    if isinstance(value, tuple):
        return list(map(foreign, value))
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, int):
        return np.int64(value)
    return Fraction(value) if isinstance(value, float) else value


@pytest.mark.parametrize("make", ARGUMENTS, ids=lambda make: make.__name__)
def test_numbers_of_other_types_make_the_same_task(make):
    task = of(make)
    twin = of(make, **{name: foreign(values[0]) for name, values in ARGUMENTS[make].items()})
    assert twin == task
    assert hash(twin) == hash(task)
    # The types too: with 64 bits, a NumPy integer would make the codes of a batch int64.
    assert repr(twin) == repr(task)
    assert all(type(value) in (int, float, bool, str, tuple) for value in vars(twin).values())
    batches = [jax.eval_shape(lambda key, t=t: t.sample(key, 2), KEY) for t in (task, twin)]
    assert batches[0] == batches[1]


@pytest.mark.parametrize("task", [adding(10), copy_memory(3), embedded_reber(12)], ids=repr)
def test_a_sample_needs_a_key_and_a_size(task):
    key = jax.random.key(0)
    for size in (0, -1, 2.5, "4", True):
        one_sentence(lambda size=size: task.sample(key, size), "batch_size is", "at least 1")
    for wrong in (0, None, "k", 1.5):
        one_sentence(lambda wrong=wrong: task.sample(wrong, 2), "key is", "jax.random.key(")
