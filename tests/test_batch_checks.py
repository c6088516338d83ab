"""Batches with codes, labels or lengths out of range are refused before they are trained on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnnlab
from rnnlab.data import Batch
from rnnlab.models import (
    classifier,
    conditioned_decoder,
    encoder_decoder,
    language_model,
    regressor,
    tagger,
)
from rnnlab.training import Validation, evaluate, fit

CELL = rnnlab.RNN(4)
XS = np.zeros((5, 3, 2), np.float32)
CODES = np.zeros((5, 3), np.int32)


def changed(array, place, value):
    array = array.copy()
    array[place] = value
    return array


CASES = {
    "label": (
        classifier(CELL, 3),
        Batch(XS, np.array([0, 3, 1])),
        "targets[1] is 3; a label must lie in 0..2",
    ),
    "code": (
        classifier(CELL, 3, vocabulary_size=4),
        Batch(changed(CODES, (2, 1), -1), np.array([0, 2, 1])),
        "xs[2, 1] is -1; a code must lie in 0..3",
    ),
    "length": (
        regressor(CELL, 1),
        Batch(XS, np.zeros((3, 1), np.float32), lengths=np.array([5, 6, 1])),
        "lengths[1] is 6; a length must lie in 0..5",
    ),
    "tag": (
        tagger(CELL, 2),
        Batch(XS, changed(CODES, (4, 0), 2)),
        "targets[4, 0] is 2; a label must lie in 0..1",
    ),
    "symbol": (
        language_model(CELL, 6),
        Batch(CODES, changed(CODES, (0, 2), 6)),
        "targets[0, 2] is 6; a label must lie in 0..5",
    ),
    "word": (
        encoder_decoder(CELL, CELL, 5, source_vocabulary_size=4),
        Batch(changed(CODES, (1, 1), 4), CODES[:2]),
        "xs[1, 1] is 4; a code must lie in 0..3",
    ),
    "length of targets": (
        conditioned_decoder(CELL, 5),
        Batch(np.zeros((3, 2), np.float32), CODES, lengths=np.array([1, 2, 7])),
        "lengths[2] is 7; a length must lie in 0..5",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_model_names_the_first_value_out_of_range(name):
    model, batch, message = CASES[name]
    for given in (batch, jax.tree.map(jnp.asarray, batch)):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            model.check_batch(given)
        assert str(caught.value) == message


def test_what_lengths_and_mask_leave_out_may_hold_anything():
    targets = changed(CODES, (4, 0), -1)
    xs = changed(CODES, (4, 0), 99)
    tagger(CELL, 2, vocabulary_size=3).check_batch(Batch(xs, targets, lengths=np.array([4, 5, 5])))
    mask = changed(np.ones((5, 3), bool), (4, 0), False)
    tagger(CELL, 2).check_batch(Batch(XS, targets, mask=mask))


class Batches:
    """Good batches but for one."""

    batches_per_epoch = 4

    def __init__(self, bad):
        self.bad = bad

    def __getitem__(self, index):
        return Batch(XS, np.array([0, 3 if index == self.bad else 1, 2]))


@pytest.mark.parametrize("bad", [0, 2])
def test_fit_refuses_the_batch_and_names_it(bad):
    model = classifier(CELL, 3)
    message = rf"batch {bad} cannot be used: targets\[1\] is 3; a label must lie in 0..2"
    with pytest.raises(ValueError, match=message):
        fit(model, Batches(bad), optax.sgd(0.1), steps=4, progress=False)
    params = model.init(jax.random.key(0), Batches(None)[0])
    with pytest.raises(ValueError, match=message):
        evaluate(model.loss, params, Batches(bad))
    validation = Validation(Batches(bad), every=1)
    with pytest.raises(ValueError, match=message):
        fit(model, Batches(None), optax.sgd(0.1), steps=1, validation=validation, progress=False)
