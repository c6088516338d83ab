"""The experiment on classification sets of the package aeon."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from experiments.classification import data, run


def test_without_aeon_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "aeon", None)
    monkeypatch.setitem(sys.modules, "aeon.datasets", None)
    with pytest.raises(ImportError, match="pip install aeon") as fault:
        data.load("GunPoint")
    assert ". " not in str(fault.value)


def test_the_examples_of_a_class_go_to_all_folds():
    labels = np.array([0, 1, 1, 0, 1, 0, 1, 1, 0])
    fold = data.folds(labels, 3)
    for label in (0, 1):
        counts = np.bincount(fold[labels == label], minlength=3)
        assert counts.max() - counts.min() <= 1


def test_the_pooling_is_chosen_in_the_folds_and_not_on_the_test():
    rows = [
        {"set": "a", "cell": "GRU", "pool": "last", "left_out": 0.8, "test": [0.1]},
        {"set": "a", "cell": "GRU", "pool": "mean", "left_out": 0.7, "test": [0.9]},
    ]
    assert run.chosen(rows, "a", "GRU")["pool"] == "last"


@pytest.mark.long
def test_a_network_learns_from_the_allowed_examples_alone():
    # The class is the sign of a constant sequence; the labels that are not allowed are wrong.
    labels = np.arange(24) % 2
    xs = np.broadcast_to(np.where(labels, 1.0, -1.0)[None, :, None], (5, 24, 1))
    lengths = np.full(24, 5, np.int32)
    test = data.Split(xs.astype(np.float32), lengths, labels.astype(np.int32))
    wrong = np.where(np.arange(24) < 12, labels, 1 - labels)
    sets = data.Set(test._replace(labels=wrong.astype(np.int32)), test, 2)
    plan = run.QUICK._replace(updates=150, rate=3e-2)
    model = rnnlab.models.classifier(rnnlab.GRU(4), 2)
    allowed = jnp.where(jnp.arange(24) < 12, 1 / 12, 0.0)
    left_out, accuracy = jax.jit(run.trained(model, sets, plan))(jax.random.key(0), allowed)
    assert (left_out, accuracy) == (0, 1)


@pytest.mark.long
def test_the_sets_are_those_of_the_archive():
    pytest.importorskip("aeon")
    vowels = data.load("JapaneseVowels")
    assert vowels.train.xs.shape == (26, 270, 12)
    assert (len(vowels.test.labels), vowels.classes) == (370, 9)
    assert (vowels.test.lengths.min(), vowels.test.lengths.max()) == (7, 29)
    valid = np.arange(26)[:, None] < vowels.train.lengths
    np.testing.assert_allclose(vowels.train.xs[valid].mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(vowels.train.xs[valid].std(axis=0), 1, atol=1e-4)
    assert not np.any(vowels.train.xs[~valid])
