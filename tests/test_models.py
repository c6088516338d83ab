"""The contract of all models: padding, masks, keys, seeds, learning and tables."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from rnnlab import GRU, LSTM, RNN, bidirectional, stack
from rnnlab.cells import BatchNormLSTM
from rnnlab.data import Batch
from rnnlab.models import classifier, encoder_decoder, language_model, regressor, tagger
from tests.reference import close
from tests.reference.cells import draw
from tests.reference.models import (
    AHEAD,
    CASES,
    NUMBERS,
    TAGS,
    VECTORS,
    B,
    C,
    I,
    O,
    T,
    V,
    each_kind,
    evaluation,
    every_case,
    float64_params,
    padded,
)

LABELLED = [
    "classifier",
    "tagger",
    "crf tagger",
    "ctc transcriber",
    "language model",
    "conditioned decoder",
]

# Padding and masks


@pytest.mark.long
@each_kind
def test_padding_changes_neither_loss_nor_gradient(name):
    model, batch = CASES[name]
    params = float64_params(model, batch)
    expected = evaluation(model)(params, batch)
    assert np.isfinite(expected[0][0])
    close(evaluation(model)(params, padded(name, batch)), expected, 1e-12)


@each_kind
def test_the_loss_is_a_mean_over_targets_that_count(name):
    """With as many targets from each of two examples it is the mean of the two losses."""
    model, batch = CASES[name]
    params = float64_params(model, batch)
    values = []
    for examples in ([0, 2], [0], [2]):
        mask = np.zeros_like(batch.mask)
        mask[... if mask.ndim == 1 else 0, examples] = True
        values.append(evaluation(model)(params, batch._replace(mask=mask)))
    both, first, third = values
    mean = jax.tree.map(lambda a, b: (a + b) / 2, first, third)
    close((both[0][0], both[1]), (mean[0][0], mean[1]))


@each_kind
def test_without_a_target_that_counts_loss_and_gradient_are_zero(name):
    model, batch = CASES[name]
    params = float64_params(model, batch)
    (value, metrics), gradient = evaluation(model)(
        params, batch._replace(mask=np.zeros_like(batch.mask))
    )
    assert value == 0
    assert all(metric == 0 for metric in metrics.values())
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("pool", ["last", "mean", "max", "attention"])
def test_lengths_may_be_small_integers_and_zero(pool):
    """In uint8 0 − 1 is 255; a sequence of no steps is pooled to zeros."""
    model = regressor(bidirectional(RNN(3)), O, pool=pool)
    batch = Batch(VECTORS, NUMBERS, lengths=np.array([3, 0, 5]))
    params = float64_params(model, batch)
    small = batch._replace(lengths=batch.lengths.astype(np.uint8))
    expected = model.apply(params, batch)
    close(model.apply(params, small), expected)
    close(expected[1], jnp.asarray(params.readout.b))


def test_batch_normalisation_can_be_pooled():
    """Its inner cell, that of one step, says nothing about its outputs."""
    model = classifier(BatchNormLSTM(3), C)
    batch = Batch(VECTORS, TAGS[0], lengths=np.array([2, 0, 5]))
    params = float64_params(model, batch)
    _, ys = model.read(params, VECTORS, lengths=batch.lengths)
    last = jnp.stack([ys[1, 0], ys[0, 1], ys[4, 2]])
    close(model.apply(params, batch), model.readout(params.readout, last))


@pytest.mark.parametrize("size", [256, 300])
def test_codes_may_be_narrower_than_the_vocabulary(size):
    """Bytes are read as they are."""
    model = language_model(RNN(2), size)
    codes = np.array([[0, 255], [7, 128], [9, 1]])
    batch = Batch(codes, codes[::-1])
    params = float64_params(model, batch)
    bytes_ = Batch(*(array.astype(np.uint8) for array in batch[:2]))
    close(model.loss(params, bytes_)[0], model.loss(params, batch)[0])


@pytest.mark.parametrize("name", LABELLED)
def test_a_label_outside_the_classes_is_nan(name):
    model, batch = CASES[name]
    targets = batch.targets.copy()
    targets.flat[0] = 17
    params = float64_params(model, batch)
    (value, _), _ = evaluation(model)(params, batch._replace(targets=targets))
    assert jnp.isnan(value)


def test_a_code_outside_the_vocabulary_is_nan():
    model, batch = CASES["tagger"]
    params = float64_params(model, batch)
    for code in (-1, V):
        xs = batch.xs.copy()
        xs[0, 1] = code
        logits = model.apply(params, batch._replace(xs=xs))
        assert jnp.isfinite(logits).all((0, 2)).tolist() == [True, False, True]


# Learning


@each_kind
def test_each_model_learns(name):
    """Sixty small steps against the sign of the gradient reduce the loss on one batch."""
    model, batch = CASES[name]
    params = float64_params(model, batch)
    losses = []
    for _ in range(60):
        (value, _), gradient = evaluation(model)(params, batch)
        params = jax.tree.map(lambda leaf, slope: leaf - 0.02 * np.sign(slope), params, gradient)
        losses.append(value)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.combinations
@pytest.mark.parametrize("name", ["conditioned decoder", *CASES])
def test_each_model_learns_by_an_optimiser_of_optax(name):
    """In one compiled loop, with dropout."""
    model, batch = CASES[name]
    dropping = dataclasses.replace(model, dropout=0.1)
    batch = jax.tree.map(jnp.asarray, batch)
    optimiser = optax.adam(0.05)

    def step(carry, key):
        params, state = carry
        loss = jax.value_and_grad(dropping.loss, has_aux=True)
        (value, _), gradient = loss(params, batch, key)
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, updates), state), value

    params = jax.tree.map(jnp.asarray, float64_params(model, batch))
    start = params, optimiser.init(params)
    keys = jax.random.split(jax.random.key(1), 60)
    _, losses = jax.jit(lambda: lax.scan(step, start, keys))()
    assert losses[-5:].mean() < 0.6 * losses[0]


@pytest.mark.combinations
@pytest.mark.parametrize("name", ["conditioned decoder", *CASES])
def test_seeds_side_by_side(name):
    """Losses and gradients of several parameters at once."""
    model, batch = CASES[name]
    shapes = jax.eval_shape(lambda key: model.init(key, batch), jax.random.key(0))
    seeds = [draw(shapes, seed) for seed in (1, 2)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *seeds)
    expected = [evaluation(model)(params, batch) for params in seeds]
    actual = jax.jit(jax.vmap(evaluation(model), (0, None)))(stacked, batch)
    close(actual, jax.tree.map(lambda *leaves: jnp.stack(leaves), *expected))


@pytest.mark.long
@every_case
def test_seeds_are_drawn_side_by_side(name):
    model, batch = CASES[name]
    keys = jax.random.split(jax.random.key(0), 2)
    together = jax.vmap(lambda key: model.init(key, batch))(keys)
    apart = [model.init(key, batch) for key in keys]
    close(together, jax.tree.map(lambda *leaves: jnp.stack(leaves), *apart), 1e-5)
    value, _ = jax.vmap(lambda key: model.loss(model.init(key, batch), batch))(keys)
    expected = jnp.stack([model.loss(params, batch)[0] for params in apart])
    close(value, expected, 1e-5)


# Keys


@pytest.mark.combinations
@pytest.mark.parametrize("name", ["forecaster, fed back", "tagger", "encoder-decoder"])
def test_a_key_enables_dropout(name):
    model, batch = CASES[name]
    params = float64_params(model, batch)
    apply = jax.jit(dataclasses.replace(model, dropout=0.5).apply)
    plain = apply(params, batch)
    close(plain, jax.jit(model.apply)(params, batch))
    first = apply(params, batch, key=jax.random.key(1))
    second = apply(params, batch, key=jax.random.key(2))
    assert not np.allclose(first, plain)
    assert not np.allclose(first, second)


def test_the_key_reaches_the_dropout_of_a_layer():
    """Also in the loop of additive attention."""
    _, batch = CASES["encoder-decoder, dot"]
    model = encoder_decoder(RNN(3), stack([RNN(3), RNN(3)], dropout=0.5), C)
    params = float64_params(model, batch)
    apply = jax.jit(model.apply)
    first = apply(params, batch, key=jax.random.key(1))
    assert not np.allclose(first, apply(params, batch, key=jax.random.key(2)))


@every_case
def test_only_shapes_matter_to_init(name):
    model, batch = CASES[name]
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), batch)
    drawn = jax.eval_shape(lambda key: model.init(key, shapes), jax.random.key(0))
    assert drawn == jax.eval_shape(lambda key: model.init(key, batch), jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(drawn)} == {jnp.dtype("float32")}


def test_equal_models_are_equal():
    """They share compiled programs."""

    def make():
        return classifier(bidirectional(GRU(3)), C, pool="mean", dropout=0.5)

    assert make() == make()
    assert hash(make()) == hash(make())
    assert make() != classifier(bidirectional(GRU(3)), C, pool="max", dropout=0.5)


# Tables


@every_case
def test_the_table_counts_every_parameter(name):
    model, batch = CASES[name]
    params = float64_params(model, batch)
    table = model.table(batch)
    assert table.parameters == sum(leaf.size for leaf in jax.tree.leaves(params))
    for part in table.parts:
        leaves = jax.tree.leaves(getattr(params, part.name))
        assert part.parameters == sum(leaf.size for leaf in leaves)
        assert list(part.shapes.values()) == [leaf.shape for leaf in leaves]
    # No product is outside of the parts.
    assert table.operations == sum(part.operations for part in table.parts)
    assert len(str(table).splitlines()) == 3 + max(1, len(jax.tree.leaves(params)))
    assert f"{table.parameters:,}" in str(table)


@pytest.mark.parametrize(("cell", "gates"), [(RNN(3), 1), (GRU(3), 3), (LSTM(3), 4)], ids=str)
def test_the_operations_of_a_cell(cell, gates):
    """2 T B (I + H) gates · H for the two products of each step, and 2 T B H C for the readout."""
    model = tagger(cell, C)
    parts = {part.name: part for part in model.table(Batch(VECTORS, TAGS)).parts}
    assert parts["cell"].operations == 2 * T * B * (I + 3) * gates * 3
    assert parts["readout"].operations == 2 * T * B * 3 * C
    # The engine that runs it changes nothing.
    fused = tagger(cell, C, engine="fused")
    assert fused.table(Batch(VECTORS, TAGS)) == model.table(Batch(VECTORS, TAGS))


def test_the_operations_of_an_encoder_decoder():
    """An embedding has none; additive attention has four products for each step."""
    model, batch = CASES["encoder-decoder"]
    parts = {part.name: part.operations for part in model.table(batch).parts}
    attention = [
        AHEAD * B * 6 * 3,  # the query: 6 features of the LSTM's state
        T * B * 6 * 3,  # the keys, once
        AHEAD * B * T * 3,  # the scores
        AHEAD * B * T * 6,  # the context
    ]
    assert parts == {
        "source_embedding": 0,
        "encoder": 2 * 2 * T * B * (3 + 3) * 3,
        "start": 2 * B * 6 * 6,
        "embedding": 0,
        "attention": 2 * sum(attention),
        "decoder": 2 * AHEAD * B * (3 + 6 + 3) * 12,
        "readout": 2 * AHEAD * B * (3 + 6) * C,
    }


def test_tied_weights_multiply_without_parameters_of_their_own():
    model, batch = CASES["language model"]
    parts = {part.name: part for part in model.table(batch).parts}
    assert parts["readout"].parameters == V
    assert parts["readout"].operations == 2 * T * B * 4 * V
