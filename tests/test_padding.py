"""Padding beyond an example's length changes nothing: inputs, resets, or NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rnnlab
from rnnlab import unroll
from rnnlab.cells import GRU, LSTM, RNN, JordanRNN, LeakyRNN, Readout
from tests.reference import close
from tests.reference.cells import draw_params, draw_state
from tests.reference.native import needs_native

T, B, I = 5, 3, 2
CELLS = {
    "rnn": RNN(3),
    "leaky": LeakyRNN(3),
    "jordan": JordanRNN(3, feedback_size=2),
    "lstm": LSTM(3, recurrent_bias=True),
    "peephole": LSTM(3, peephole=True, layer_norm=True),
    "gru": GRU(3),
    "gru-before": GRU(3, reset="before"),
    "bidirectional": rnnlab.bidirectional(GRU(2)),
    "layers": rnnlab.stack([rnnlab.bidirectional(LSTM(2)), RNN(4), Readout(2)], residual=True),
}
ENGINES = ("scan", "fused", "checkpointed", "auto")
CASES = [
    (name, engine)
    for name in CELLS
    for engine in ENGINES
    if engine in ("scan", "auto") or name not in ("layers", "bidirectional")
]
CASES += [
    pytest.param(name, "native", marks=needs_native) for name in ("rnn", "leaky", "lstm", "gru")
]


def run(name, engine, reverse, xs, lengths, resets):
    """Final state, outputs, and gradients of their sum by parameters, inputs and initial state."""
    cell = CELLS[name]
    params, start = draw_params(cell, I), draw_state(cell, (B,))

    def loss(params, xs, start):
        out = unroll(
            cell, params, xs, start, lengths=lengths, resets=resets, reverse=reverse, engine=engine
        )
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(out)), out

    return jax.grad(loss, (0, 1, 2), has_aux=True)(params, xs, start)


COMPILED = jax.jit(run, static_argnames=("name", "engine", "reverse"))


@pytest.mark.combinations
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("name", "engine"), CASES)
@settings(max_examples=5, deadline=None)
@given(
    lengths=st.lists(st.integers(0, T), min_size=B, max_size=B),
    seed=st.integers(0, 2**32 - 1),
    garbage=st.sampled_from([0.0, 1e3, np.inf, np.nan]),
)
def test_the_padding_changes_nothing(name, engine, reverse, lengths, seed, garbage):
    if reverse and name in ("layers", "bidirectional"):
        reverse = False  # both directions are there already
    random = np.random.default_rng(seed)
    xs, resets = random.normal(size=(T, B, I)), random.random((T, B)) < 0.4
    lengths = np.array(lengths)
    valid = np.arange(T)[:, None] < lengths
    clean = COMPILED(name, engine, reverse, xs * valid[..., None], lengths, resets & valid)
    dirty = COMPILED(
        name, engine, reverse, np.where(valid[..., None], xs, garbage), lengths, resets | ~valid
    )
    for one, other in zip(jax.tree.leaves(clean), jax.tree.leaves(dirty), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("engine", ["scan", "auto"])
def test_a_reset_in_the_padding_of_a_bidirectional_network(engine):
    """T = 4, length 2, a reset at step 2: the backward outputs once were .013, .333."""
    cell = rnnlab.bidirectional(RNN(1, param_dtype=jnp.float64))
    params = cell.init(jax.random.key(0), 1)
    xs = jnp.linspace(-1, 1, 4)[:, None, None]
    start = jax.tree.map(lambda leaf: leaf + 0.7, cell.initial_state((1,)))
    alone = unroll(cell, params, xs[:2], start)
    resets = jnp.array([False, False, True, False])[:, None]
    state, ys = unroll(
        cell, params, xs, start, lengths=jnp.array([2]), resets=resets, engine=engine
    )
    close((state, ys[:2]), alone)
    assert not ys[2:].any()
