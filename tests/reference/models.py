"""A batch for every kind of model, with float64 parameters and one program for each."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from rnnlab import GRU, LSTM, RNN, bidirectional, stack
from rnnlab.data import Batch
from rnnlab.models import (
    TimeDelayNetwork,
    Transformer,
    classifier,
    conditioned_decoder,
    crf_tagger,
    ctc_transcriber,
    encoder_decoder,
    forecaster,
    language_model,
    regressor,
    step_regressor,
    tagger,
)
from tests.reference.cells import draw

T, B, I, V, C, O, AHEAD = 5, 3, 2, 6, 4, 2, 3  # AHEAD: steps of targets, where these differ from T
LENGTHS = np.array([3, 5, 1])

RNG = np.random.default_rng(0)
CODES = RNG.integers(0, V, (T, B))
VECTORS = RNG.normal(size=(T, B, I))
CLASSES = RNG.integers(0, C, B)
TAGS = RNG.integers(0, C, (T, B))
NUMBERS = RNG.normal(size=(B, O))
STEP_NUMBERS = np.random.default_rng(1).normal(size=(T, B, O))
AFTER = RNG.normal(size=(AHEAD, B, I))
WRITTEN = RNG.integers(0, C, (AHEAD, B))
SHORT = np.arange(AHEAD)[:, None] < np.array([3, 1, 2])
FEW = np.arange(AHEAD)[:, None] < np.array([2, 3, 1])
"""Labels that the frames can hold."""
SPOKEN = np.array([[1, 3, 2], [1, 2, 1], [1, 2, 1]])
VALID = np.arange(T)[:, None] < LENGTHS
EACH = np.ones(B, bool)


class Case(NamedTuple):
    """A model and a batch for it."""

    model: Any
    batch: Batch


CASES = {
    "classifier": Case(
        classifier(bidirectional(RNN(3)), C, pool="attention"),
        Batch(VECTORS, CLASSES, EACH, LENGTHS),
    ),
    "classifier, codes": Case(
        classifier(GRU(3), C, vocabulary_size=V), Batch(CODES, CLASSES, EACH, LENGTHS)
    ),
    "regressor": Case(regressor(RNN(3), O, pool="max"), Batch(VECTORS, NUMBERS, EACH, LENGTHS)),
    "regressor, mean": Case(
        regressor(bidirectional(RNN(3)), O, pool="mean"), Batch(VECTORS, NUMBERS, EACH, LENGTHS)
    ),
    "tagger": Case(
        tagger(bidirectional(GRU(3)), C, vocabulary_size=V, embedding_size=2),
        Batch(CODES, TAGS, VALID, LENGTHS),
    ),
    "crf tagger": Case(crf_tagger(GRU(3), C), Batch(VECTORS, TAGS, VALID, LENGTHS)),
    "ctc transcriber": Case(ctc_transcriber(GRU(3), C), Batch(VECTORS, SPOKEN, FEW, LENGTHS)),
    "step regressor": Case(step_regressor(GRU(3), O), Batch(VECTORS, STEP_NUMBERS, VALID, LENGTHS)),
    "classifier, transformer": Case(
        classifier(Transformer(4, layers=1), C, vocabulary_size=V, pool="mean"),
        Batch(CODES, CLASSES, EACH, LENGTHS),
    ),
    "step regressor, time delay": Case(
        step_regressor(TimeDelayNetwork(3, taps=2, dilations=(1, 2)), O),
        Batch(VECTORS, STEP_NUMBERS, VALID, LENGTHS),
    ),
    "language model": Case(
        language_model(stack([RNN(3), GRU(4)]), V, tied=True),
        Batch(CODES, np.roll(CODES, -1, 0), VALID, LENGTHS),
    ),
    "forecaster": Case(
        forecaster(bidirectional(RNN(3)), horizon=AHEAD, outputs=I),
        Batch(VECTORS, AFTER, SHORT, LENGTHS),
    ),
    "forecaster, fed back": Case(
        forecaster(GRU(3), horizon=AHEAD, outputs=I, feed_back=True),
        Batch(VECTORS, AFTER, SHORT, LENGTHS),
    ),
    "encoder-decoder": Case(
        encoder_decoder(bidirectional(RNN(3)), LSTM(3), C, source_vocabulary_size=V),
        Batch(CODES, WRITTEN, SHORT, LENGTHS),
    ),
    "encoder-decoder, dot": Case(
        encoder_decoder(RNN(3), GRU(4), C, attention="dot"),
        Batch(VECTORS, WRITTEN, SHORT, LENGTHS),
    ),
    "encoder-decoder, none": Case(
        encoder_decoder(LSTM(3), stack([RNN(3), RNN(3)]), C, attention=None, start=1),
        Batch(VECTORS, WRITTEN, SHORT, LENGTHS),
    ),
    "conditioned decoder": Case(
        conditioned_decoder(RNN(3), C, every_input=True), Batch(VECTORS[0], WRITTEN, SHORT)
    ),
}
LONG = {
    "classifier, codes",
    "regressor, mean",
    "classifier, transformer",
    "step regressor, time delay",
    "forecaster",
    "encoder-decoder, dot",
    "encoder-decoder, none",
}
"""Variants that are compiled only where the long tests are run."""

every_case = pytest.mark.parametrize("name", CASES)
each_kind = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name in LONG)) for name in CASES]
)


def float64_params(model, batch):
    """Noise in the form of the parameters: none is zero, so none can be forgotten."""
    return draw(jax.eval_shape(lambda key: model.init(key, batch), jax.random.key(0)), 1)


@functools.cache
def evaluation(model):
    """One program for loss, metrics and gradient, without a key."""
    return jax.jit(jax.value_and_grad(model.loss, has_aux=True))


def padded(name, batch):
    """The batch with two more steps and one more example, and garbage wherever nothing counts."""
    lengths = None if batch.lengths is None else np.append(LENGTHS, T)
    one_more = ((0, 1),)
    longer = ((0, 2), (0, 1))
    xs = extended(batch.xs, one_more if lengths is None else longer)
    if lengths is not None:
        xs[np.arange(T + 2)[:, None] >= lengths] = garbage(xs)
    # The horizon is a part of a forecaster.
    more = ((0, 0), (0, 1)) if name.startswith("forecaster") else longer
    more = one_more if batch.mask.ndim == 1 else more
    mask = extended(batch.mask, more)
    targets = extended(batch.targets, more)
    targets[~mask] = garbage(targets)
    return Batch(xs, targets, mask, lengths)


def garbage(array):
    """A code that no vocabulary has, or NaN."""
    return -1 if array.dtype.kind == "i" else np.nan


def extended(array, widths):
    """``array`` with zeros after the ends of its first axes."""
    return np.pad(array, [*widths, *[(0, 0)] * (array.ndim - len(widths))])
