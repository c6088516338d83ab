"""Beam search of models that write from an input, against the enumeration of all sequences."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab import GRU
from rnnlab.data import Batch
from rnnlab.models import beam_decode, tagger
from tests.reference import close, one_sentence
from tests.reference.models import CASES, B, C, float64_params

STEPS = 3
SEQUENCES = np.array(list(itertools.product(range(C), repeat=STEPS)))  # [C³, 3]
DECODERS = [
    "conditioned decoder",
    "encoder-decoder",
    "encoder-decoder, dot",
    "encoder-decoder, none",
]
each_decoder = pytest.mark.parametrize("name", DECODERS)


def log_probabilities(model, params, batch, sequences):
    """ln P(yₜ | y₁ … yₜ₋₁, x) of the sequences ``[N, steps]`` for each input, ``[N, steps, B]``."""

    def of(codes):
        targets = jnp.broadcast_to(codes[:, None], (codes.size, B))
        forced = Batch(batch.xs, targets, lengths=batch.lengths)
        logs = jax.nn.log_softmax(model.apply(params, forced))
        return jnp.take_along_axis(logs, targets[..., None], axis=-1)[..., 0]

    return np.asarray(jax.jit(jax.vmap(of))(jnp.asarray(sequences)))


@pytest.mark.combinations
@each_decoder
@pytest.mark.parametrize("end", [2, None])
def test_enough_beams_find_the_likeliest_of_all_sequences(name, end):
    model, batch = CASES[name]
    params = float64_params(model, batch)
    logs = log_probabilities(model, params, batch, SEQUENCES)
    is_possible = np.ones(len(SEQUENCES), bool)
    if end is not None:
        # After the end comes the end alone, which costs nothing.
        is_over = np.cumsum(end == SEQUENCES, axis=1) - (end == SEQUENCES) > 0
        is_possible = ~np.any(is_over & (end != SEQUENCES), axis=1)
        logs = np.where(is_over[..., None], 0, logs)
    sums = logs.sum(axis=1)[is_possible]
    beam = beam_decode(model, params, batch, STEPS, beams=C**STEPS, end=end)
    count = is_possible.sum()
    assert np.isinf(beam.log_probability[count:]).all()
    close(jnp.exp(beam.log_probability).sum(0), jnp.ones(B))
    for example in range(B):
        order = np.argsort(-sums[:, example])
        found = beam.codes[:count, :, example]
        np.testing.assert_array_equal(found, SEQUENCES[is_possible][order])
        close(np.asarray(beam.log_probability[:count, example]), sums[order, example])


@pytest.mark.combinations
@each_decoder
def test_one_beam_writes_what_is_generated(name):
    model, batch = CASES[name]
    params = float64_params(model, batch)
    beam = beam_decode(model, params, batch, 5, beams=1)
    close(beam.codes[0], jax.jit(model.generate, static_argnums=2)(params, batch, 5))


def test_a_narrow_beam_keeps_different_sequences_in_order():
    model, batch = CASES["encoder-decoder"]
    params = float64_params(model, batch)
    beam = beam_decode(model, params, batch, STEPS, beams=4, end=1)
    assert (np.diff(beam.log_probability, axis=0) <= 0).all()
    best = beam_decode(model, params, batch, STEPS, beams=C**STEPS, end=1)
    assert (beam.log_probability[0] <= best.log_probability[0] + 1e-12).all()
    for example in range(B):
        rows = np.asarray(beam.codes[:, :, example])
        assert len({tuple(row) for row in rows}) == 4


def test_wrong_input_gives_one_sentence():
    model, batch = CASES["encoder-decoder"]
    params = float64_params(model, batch)
    other = tagger(GRU(3), C)
    one_sentence(lambda: beam_decode(other, params, batch, 3, beams=2), "encoder_decoder")
    one_sentence(lambda: beam_decode(model, params, batch, 0, beams=2), "steps")
    one_sentence(lambda: beam_decode(model, params, batch, 3, beams=0), "beams")
    one_sentence(lambda: beam_decode(model, params, batch, 3, beams=2, end=C), "0..3")
