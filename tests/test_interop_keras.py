"""Weights from and to Keras: values against live Keras, and the way there and back."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab.cells import GRU, LSTM, RNN
from rnnlab.interop import from_keras, to_keras
from tests.reference import one_sentence

KEY = jax.random.key(0)

# Keras's variables know only one of NumPy's two ways to be read.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def layers():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip(
        "keras", reason="keras is not installed; pip install 'rnnlab[peers]'"
    )
    return keras.layers


LAYERS = {
    "rnn": lambda layers: layers.SimpleRNN(6, return_sequences=True),
    "relu": lambda layers: layers.SimpleRNN(6, activation="relu", return_sequences=True),
    "linear": lambda layers: layers.SimpleRNN(6, activation="linear", return_sequences=True),
    "lstm": lambda layers: layers.LSTM(6, return_sequences=True),
    "no bias": lambda layers: layers.LSTM(6, use_bias=False, return_sequences=True),
    "gru": lambda layers: layers.GRU(6, return_sequences=True),
    "gru before": lambda layers: layers.GRU(6, reset_after=False, return_sequences=True),
    "gru without bias": lambda layers: layers.GRU(6, use_bias=False, return_sequences=True),
    "both ways": lambda layers: layers.Bidirectional(layers.GRU(6, return_sequences=True)),
}


def made(layers, name):
    """A layer with weights drawn at random, also those that Keras starts at zero."""
    layer = LAYERS[name](layers)
    layer.build((None, None, 3))
    random = np.random.default_rng(0)
    layer.set_weights(
        [0.5 * random.standard_normal(weight.shape) for weight in layer.get_weights()]
    )
    return layer


@pytest.mark.combinations
@pytest.mark.parametrize("name", LAYERS)
def test_outputs_are_those_of_keras(layers, name):
    layer = made(layers, name)
    cell, params = from_keras(layer)
    xs = np.random.default_rng(1).standard_normal((4, 9, 3)).astype(np.float32)
    _, ys = rnnlab.unroll(cell, params, xs, time_major=False)
    with jax.enable_x64(
        False
    ):  # a GRU without biases fails in Keras where 64-bit floats are enabled
        expected = np.asarray(layer(xs))
    np.testing.assert_allclose(ys, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_the_way_back_gives_the_same_weights(layers, name):
    layer = made(layers, name)
    for found, expected in zip(to_keras(*from_keras(layer)), layer.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.combinations
@pytest.mark.parametrize("cell", [GRU(6), GRU(5, reset="before"), RNN(4), LSTM(3, bias=False)])
def test_a_cell_goes_there_and_back(layers, cell):
    params = cell.init(KEY, 3)
    kind = {RNN: "SimpleRNN", GRU: "GRU", LSTM: "LSTM"}[type(cell)]
    options = {"reset_after": cell.reset == "after"} if kind == "GRU" else {}
    layer = getattr(layers, kind)(cell.hidden_size, use_bias=cell.bias, **options)
    layer.build((None, None, 3))
    layer.set_weights(to_keras(cell, params))
    back, same = from_keras(layer)
    assert (type(back), back.hidden_size) == (type(cell), cell.hidden_size)
    jax.tree.map(np.testing.assert_array_equal, same, params)


def test_bad_input(layers):
    one_sentence(lambda: from_keras(layers.Dense(3)), "Dense is not a recurrent layer")
    namesake = type("LSTM", (), {})()
    one_sentence(lambda: from_keras(namesake), "LSTM is not a recurrent layer of Keras")
    one_sentence(lambda: from_keras(layers.LSTM(3)), "has no weights yet", "layer.build")
    odd = layers.GRU(3, recurrent_activation="relu")
    odd.build((None, None, 2))
    one_sentence(lambda: from_keras(odd), "has the activations", "tanh and sigmoid")
    summed = layers.Bidirectional(layers.GRU(3), merge_mode="sum")
    summed.build((None, None, 2))
    one_sentence(lambda: from_keras(summed), "merge_mode is 'sum'")
    twice = LSTM(3, recurrent_bias=True)
    one_sentence(lambda: to_keras(twice, twice.init(KEY, 2)), "has one bias")
    one_sentence(lambda: to_keras(LSTM(3, peephole=True), None), "")
    one_sentence(lambda: to_keras(LSTM(3), jnp.ones(2)), "params")
