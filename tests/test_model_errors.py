"""What models refuse: one sentence with the fault and the fix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab import GRU, LSTM, bidirectional, stack
from rnnlab.data import Batch
from rnnlab.models import (
    classifier,
    conditioned_decoder,
    encoder_decoder,
    forecaster,
    language_model,
    regressor,
    tagger,
)
from tests.reference import one_sentence
from tests.reference.models import (
    AFTER,
    CASES,
    CODES,
    NUMBERS,
    TAGS,
    VECTORS,
    WRITTEN,
    B,
    C,
    I,
    O,
    T,
    V,
    float64_params,
)

FAULTS = {
    "codes for vectors": (lambda: run(tagger(GRU(3), C), Batch(CODES, TAGS)), "vocabulary_size"),
    "vectors for codes": (
        lambda: run(tagger(GRU(3), C, vocabulary_size=V), Batch(VECTORS, TAGS)),
        "float64",
    ),
    "no features": (lambda: run(tagger(GRU(3), C), Batch(VECTORS[..., 0], TAGS)), "[T, B, I]"),
    "a pool": (lambda: classifier(GRU(3), C, pool="sum"), "pool", "'sum'", "'last'"),
    "no classes": (lambda: classifier(GRU(3), 0), "classes"),
    "no vocabulary": (lambda: tagger(GRU(3), C, embedding_size=3), "vocabulary_size"),
    "no cell": (lambda: tagger("gru", C), "'gru'"),
    "no size": (
        lambda: tagger(rnnlab.Step(lambda _, s, x: (s, x), jnp.zeros(1)), C),
        "output_size",
    ),
    "dropout": (lambda: tagger(GRU(3), C, dropout=1.0), "dropout"),
    "engine": (lambda: tagger(GRU(3), C, engine="quick"), "quick"),
    "key": (lambda: tagger(GRU(3), C).init(0, Batch(VECTORS, TAGS)), "key"),
    "no batch": (lambda: run(tagger(GRU(3), C), (VECTORS, TAGS)), "Batch"),
    "no targets": (lambda: run(tagger(GRU(3), C), Batch(VECTORS, None)), "targets"),
    "labels": (lambda: run(tagger(GRU(3), C), Batch(VECTORS, TAGS[0])), "(3,)", "(5, 3)"),
    "labels that are floats": (
        lambda: run(tagger(GRU(3), C), Batch(VECTORS, TAGS.astype(float))),
        "float64",
    ),
    "numbers": (lambda: run(regressor(GRU(3), O), Batch(VECTORS, NUMBERS[:, 0])), "(3,)"),
    "a mask": (
        lambda: run(tagger(GRU(3), C), Batch(VECTORS, TAGS, np.ones(B, bool))),
        "mask",
        "(5, 3)",
    ),
    "the batch first": (
        lambda: run(classifier(GRU(3), C), Batch(VECTORS.swapaxes(0, 1), TAGS[0])),
        "5 sequences of 3 steps, since time is the first axis",
        "xs.swapaxes(0, 1)",
    ),
    "the batch first, and numbers": (
        lambda: run(regressor(GRU(3), O), Batch(VECTORS.swapaxes(0, 1), NUMBERS)),
        "xs.swapaxes(0, 1)",
    ),
    "the batch first, and lengths": (
        lambda: run(tagger(GRU(3), C), Batch(VECTORS.swapaxes(0, 1), TAGS.T, lengths=[5, 4, 3])),
        "lengths has shape (3,), but the batch has (5,)",
        "time as its first axis",
    ),
    "a mask of the steps": (
        lambda: run(classifier(GRU(3), C), Batch(VECTORS, TAGS[0], np.ones((T, B), bool))),
        "mask has shape (5, 3); it must be (3,), one flag for each sequence (where sequences end",
    ),
    "the future": (lambda: language_model(bidirectional(GRU(3)), V), "bidirectional"),
    "the future in a stack": (
        lambda: language_model(stack([bidirectional(GRU(3)), GRU(3)]), V),
        "bidirectional",
    ),
    "tied sizes": (
        lambda: language_model(LSTM(3), V, embedding_size=4, tied=True),
        "embedding_size=3",
        "Readout(4)",
    ),
    "fed-back sizes": (
        lambda: run(
            forecaster(GRU(3), horizon=2, outputs=1, feed_back=True), Batch(VECTORS, AFTER)
        ),
        "outputs=2",
    ),
    "fed-back future": (
        lambda: forecaster(bidirectional(GRU(3)), horizon=2, outputs=1, feed_back=True),
        "bidirectional",
    ),
    "a horizon": (
        lambda: run(forecaster(GRU(3), horizon=2, outputs=I), Batch(VECTORS, AFTER)),
        "(3, 3, 2)",
    ),
    "sampling without a key": (lambda: scheduled(0.5, None), "key"),
    "sampling above 1": (lambda: scheduled(1.5, jax.random.key(0)), "1.5"),
    "sampling that is an array": (lambda: scheduled(np.zeros(2), jax.random.key(0)), "[2]"),
    "sampling that is not a number": (
        lambda: scheduled(None, jax.random.key(0)),
        "sampling is None",
    ),
    "sampling without feedback": (
        lambda: sampled_direct(),
        "feed_back",
    ),
    "attention": (
        lambda: encoder_decoder(GRU(3), GRU(3), C, attention="self"),
        "'self'",
        "'additive'",
    ),
    "attention_size": (
        lambda: encoder_decoder(GRU(3), GRU(3), C, attention="dot", attention_size=3),
        "attention_size",
    ),
    "no weights": (
        lambda: jax.eval_shape(
            CASES["encoder-decoder, none"].model.attend,
            float64_params(*CASES["encoder-decoder, none"]),
            CASES["encoder-decoder, none"].batch,
        ),
        "attention",
    ),
    "a start": (lambda: conditioned_decoder(GRU(3), C, start=C), "start", "0..3"),
    "no state": (lambda: conditioned_decoder(rnnlab.Readout(3), C), "state"),
    "a source": (
        lambda: run(encoder_decoder(GRU(3), GRU(3), C), Batch(CODES, WRITTEN)),
        "source_vocabulary_size",
    ),
    "a vector": (
        lambda: run(conditioned_decoder(GRU(3), C), Batch(VECTORS, WRITTEN)),
        "[B, C]",
    ),
    "another vector": (
        lambda: conditioned_decoder(GRU(3), C).apply(
            float64_params(conditioned_decoder(GRU(3), C), Batch(VECTORS[0], WRITTEN)),
            Batch(np.ones((B, 7)), WRITTEN),
        ),
        "params.start.w",
        "(7, 3)",
    ),
    "another vocabulary": (
        lambda: tagger(GRU(3), C, vocabulary_size=V + 1).apply(
            float64_params(tagger(GRU(3), C, vocabulary_size=V), Batch(CODES, TAGS)),
            Batch(CODES, TAGS),
        ),
        "(6, 3)",
        "(7, 3)",
    ),
    "other classes": (
        lambda: tagger(GRU(3), C + 1).apply(
            float64_params(tagger(GRU(3), C), Batch(VECTORS, TAGS)), Batch(VECTORS, TAGS)
        ),
        "params.readout.w",
        "(3, 5)",
    ),
    "parameters of another model": (
        lambda: language_model(GRU(3), V).apply(
            float64_params(tagger(GRU(3), C), Batch(VECTORS, TAGS)), Batch(CODES, CODES)
        ),
        "LanguageModelParams",
    ),
    "no default size of the embedding": (
        lambda: run(tagger(rnnlab.Readout(3), C, vocabulary_size=V), Batch(CODES, TAGS)),
        "embedding_size",
    ),
    "inputs that are booleans": (
        lambda: run(tagger(GRU(3), C), Batch(VECTORS > 0, TAGS)),
        "bool",
        "floats",
    ),
    "no inputs": (lambda: run(tagger(GRU(3), C), Batch(None, TAGS)), "xs"),
    "inputs that are text": (lambda: run(tagger(GRU(3), C), Batch([["one"]], TAGS)), "xs"),
    "a seed for a key": (
        lambda: CASES["forecaster, fed back"].model.loss(
            float64_params(*CASES["forecaster, fed back"]), CASES["forecaster, fed back"].batch, 0
        ),
        "key is 0",
    ),
    "targets of another batch": (
        lambda: run(conditioned_decoder(GRU(3), C), Batch(VECTORS[0], WRITTEN[:, :2])),
        "[3, 2]",
        "[T, 3]",
    ),
    "no steps to write": (
        lambda: run(conditioned_decoder(GRU(3), C), Batch(VECTORS[0], WRITTEN[:0])),
        "at least one step",
    ),
    "targets that are vectors": (
        lambda: run(conditioned_decoder(GRU(3), C), Batch(VECTORS[0], AFTER)),
        "codes",
    ),
}


def run(model, batch):
    """The fault is found while tracing, so nothing runs."""
    return jax.eval_shape(lambda: model.loss(model.init(jax.random.key(0), batch), batch))


def scheduled(sampling, key):
    model, batch = CASES["conditioned decoder"]
    return model.loss(float64_params(model, batch), batch, key, sampling=sampling)


def sampled_direct():
    model, batch = CASES["forecaster"]
    return model.loss(float64_params(model, batch), batch, jax.random.key(0), sampling=0.5)


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_input_gives_one_sentence(fault):
    call, *words = FAULTS[fault]
    one_sentence(call, *words)


@pytest.mark.parametrize(
    "name",
    ["classifier", "regressor", "forecaster", "encoder-decoder", "conditioned decoder"],
)
def test_models_with_one_output_for_a_column_refuse_packed_sequences(name):
    model, batch = CASES[name]
    packed = batch._replace(resets=np.zeros((T, B), bool))
    one_sentence(lambda: run(model, packed), "resets", "lengths")
