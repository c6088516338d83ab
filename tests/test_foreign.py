"""Foreign cells under the instruments give what the own twin gives."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab import interop

T, B, I, H = 6, 3, 4, 5
XS = jax.random.normal(jax.random.key(1), (T, B, I), jnp.float64)


def loss(ys):
    return jnp.sum(ys[-1] ** 2) + jnp.mean(jnp.sin(ys))


def assert_same_flow(foreign, own):
    for field in (
        "loss",
        "log_norm_h",
        "log_norm_c",
        "log_norm_state",
        "log_norm_h0",
        "decay_per_step",
    ):
        chex.assert_trees_all_close(
            getattr(foreign, field), getattr(own, field), rtol=1e-10, atol=1e-12
        )
    assert foreign.horizon == own.horizon


def test_a_flax_nnx_lstm():
    from flax import nnx

    cell = rnnlab.LSTM(H, param_dtype=jnp.float64)
    params = cell.init(jax.random.key(0), I)
    graph, weights = interop.to_flax(cell, params, api="nnx")

    def step(weights, state, x):
        return nnx.merge(graph, weights)(state, x)  # carry (c, h), output h

    zeros = jnp.zeros(H, jnp.float64)
    foreign = rnnlab.Step(step, (zeros, zeros))
    flow = rnnlab.gradient_flow(foreign, weights, XS, loss)
    own = rnnlab.gradient_flow(cell, params, XS, loss)
    assert_same_flow(flow, own)
    total = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(flow.gradient)))
    np.testing.assert_allclose(
        total, jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(own.gradient))), rtol=1e-10
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning:haiku")
def test_a_haiku_gru():
    hk = pytest.importorskip(
        "haiku", reason="dm-haiku is not installed; pip install 'rnnlab[peers]'"
    )
    cell = rnnlab.GRU(H, reset="before", param_dtype=jnp.float64)
    own = cell.init(jax.random.key(0), I)
    # Haiku orders the gates z, r, a; its z is the complement of ours.
    z_x, r_x, n_x = (jnp.split(own.w_x, 3, axis=-1)[i] for i in (1, 0, 2))
    z_h, r_h, n_h = (jnp.split(own.w_h, 3, axis=-1)[i] for i in (1, 0, 2))
    weights = {
        "gru": {
            "w_i": jnp.concatenate([-z_x, r_x, n_x], axis=-1),
            "w_h": jnp.concatenate([-z_h, r_h, n_h], axis=-1),
            "b": jnp.zeros(3 * H, jnp.float64),
        }
    }
    network = hk.without_apply_rng(hk.transform(lambda x, state: hk.GRU(H)(x, state)))

    def step(weights, state, x):
        y, state = network.apply(weights, x, state)
        return state, y

    flow = rnnlab.gradient_flow(rnnlab.Step(step, jnp.zeros(H, jnp.float64)), weights, XS, loss)
    assert_same_flow(flow, rnnlab.gradient_flow(cell, own, XS, loss))


@pytest.mark.long
def test_an_equinox_gru():
    eqx = pytest.importorskip(
        "equinox", reason="equinox is not installed; pip install 'rnnlab[peers]'"
    )
    cell = rnnlab.GRU(H, param_dtype=jnp.float64)
    own = cell.init(jax.random.key(0), I)
    own = own._replace(b=jax.random.normal(jax.random.key(2), own.b.shape, jnp.float64))
    module = eqx.nn.GRUCell(I, H, dtype=jnp.float64, key=jax.random.key(0))
    module = eqx.tree_at(
        lambda m: (m.weight_ih, m.weight_hh, m.bias, m.bias_n),
        module,
        (own.w_x.T, own.w_h.T, own.b, own.c),
    )
    weights, rest = eqx.partition(module, eqx.is_inexact_array)

    def one(weights, state, x):
        state = eqx.combine(weights, rest)(x, state)
        return state, state

    step = jax.vmap(one, in_axes=(None, 0, 0))
    flow = rnnlab.gradient_flow(rnnlab.Step(step, jnp.zeros(H, jnp.float64)), weights, XS, loss)
    assert_same_flow(flow, rnnlab.gradient_flow(cell, own, XS, loss))


@pytest.mark.long
@pytest.mark.parametrize(
    "wrap", [lambda step: step, jax.jit, jax.checkpoint], ids=["plain", "jit", "checkpoint"]
)
def test_a_readout_inside_the_step_is_seen_through(wrap):
    cell, readout = (
        rnnlab.LSTM(H, param_dtype=jnp.float64),
        rnnlab.Readout(2, param_dtype=jnp.float64),
    )
    params = cell.init(jax.random.key(0), I), readout.init(jax.random.key(1), H)

    @wrap
    def step(params, state, x):
        state, y = cell.step(params[0], state, x)
        return state, readout(params[1], y)

    flow = rnnlab.gradient_flow(rnnlab.Step(step, cell.initial_state), params, XS, loss)
    own = rnnlab.gradient_flow(cell, params[0], XS, lambda ys: loss(readout(params[1], ys)))
    assert_same_flow(flow, own)
    whole = jax.grad(lambda p: loss(readout(p[1], rnnlab.unroll(cell, p[0], XS)[1])))(params)
    chex.assert_trees_all_close(flow.gradient, whole, rtol=1e-10, atol=1e-13)


def test_a_state_without_names_is_known_by_the_output():
    def step(w, state, x):
        memory, shown = state
        memory = 0.5 * memory + x @ w
        shown = jnp.tanh(memory)
        return (memory, shown), shown

    w = jax.random.normal(jax.random.key(0), (I, H), jnp.float64)
    zeros = jnp.zeros(H, jnp.float64)
    flow = rnnlab.gradient_flow(
        rnnlab.Step(step, (zeros, zeros)), w, XS, lambda ys: jnp.sum(ys[-1])
    )
    assert np.isneginf(flow.log_norm_h[:-1]).all()  # what is shown is never read again
    slope = flow.log_norm_c[1:-1] - flow.log_norm_c[:-2]
    np.testing.assert_allclose(slope, np.log(2), rtol=1e-12)  # the memory halves in every step
