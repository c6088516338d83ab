"""Handwritten digits, pixel by pixel."""

import math
import sys

import jax
import numpy as np
import pytest

from rnnlab.tasks import images as module
from rnnlab.tasks.images import digits
from tests.reference.tasks import check_contract, draw


def test_an_absent_scikit_learn_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    module._images.cache_clear()
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        digits()


@pytest.fixture(scope="module")
def original():
    """Pixels ``[N, 64]`` and labels ``[N]`` as scikit-learn has them."""
    return pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)


@pytest.mark.usefixtures("original")
@pytest.mark.parametrize("permuted", [False, True])
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_contract_of_a_task(permuted, split):
    task = digits(permuted, split)
    check_contract(task, batch_size=4000)
    assert (task.steps, task.input_size, task.outputs, task.lag) == (64, 1, 10, 63)


def test_every_fifth_image_of_a_digit_is_for_testing(original):
    pixels, labels = original
    seen = dict.fromkeys(range(10), 0)
    splits = {"train": [], "test": []}
    for index, label in enumerate(labels):
        seen[label] += 1
        splits["train" if seen[label] % 5 else "test"].append(index)
    assert (len(splits["train"]), len(splits["test"])) == (1442, 355)
    for split, indices in splits.items():
        batch = digits(split=split).examples()
        np.testing.assert_array_equal(batch.xs[..., 0], pixels[indices].T / 16)
        np.testing.assert_array_equal(batch.targets, labels[indices])
        frequency = np.bincount(labels[indices]) / len(indices)
        entropy = -sum(p * math.log(p) for p in frequency)
        assert digits(split=split).baseline() == pytest.approx(entropy, rel=1e-12)
        assert entropy == pytest.approx(math.log(10), rel=1e-3)


@pytest.mark.usefixtures("original")
def test_samples_are_images_of_the_split():
    task = digits(split="test")
    images = task.examples()
    known = {}
    for place, image in enumerate(np.asarray(images.xs[..., 0]).T):
        known[image.tobytes()] = place
    assert len(known) == 355
    batch = draw(task, jax.random.key(0), 4000)
    drawn = np.zeros(355, int)
    for column, image in enumerate(np.ascontiguousarray(np.asarray(batch.xs[..., 0]).T)):
        place = known[image.tobytes()]
        drawn[place] += 1
        assert batch.targets[column] == images.targets[place]
    # With replacement, each with the same probability.
    mean, deviation = 4000 / 355, math.sqrt(4000 / 355)
    assert np.abs(drawn - mean).max() < 6 * deviation
    assert drawn.var() == pytest.approx(mean, rel=0.25)


@pytest.mark.usefixtures("original")
def test_one_permutation_for_all_images():
    plain = digits(split="test").examples()
    permuted = digits(True, "test").examples()
    order = np.random.RandomState(0).permutation(64)
    np.testing.assert_array_equal(permuted.xs, np.asarray(plain.xs)[order])
    np.testing.assert_array_equal(permuted.targets, plain.targets)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="split is 'validation'; choose one of 'train', 'test'"):
        digits(split="validation")
    with pytest.raises(ValueError, match="permuted is 1; it must be True or False"):
        digits(1)


@pytest.mark.usefixtures("original")
def test_networks_are_tested_on_the_test_split():
    assert digits(permuted=True).held_out() == digits(permuted=True, split="test")
    assert digits().solved({"accuracy": 0.95})
    assert not digits().solved({"accuracy": 0.94})
