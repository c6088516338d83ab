"""Exact facts of IndRNN, MGU and Highway, and Flax's cells beside them."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab.cells import MGU, RNN, Highway, HighwayState, IndRNN, MGUState, RNNState
from rnnlab.cells.registry import make_cell
from tests.reference import close, one_sentence
from tests.reference.cells import draw_params, draw_state
from tests.test_driver import score

INPUTS, T, B = 2, 5, 3


def noise(*shape, seed=3):
    return np.random.default_rng(seed).normal(size=shape)


# IndRNN


def test_indrnn_is_an_rnn_with_a_diagonal_matrix():
    cell, xs = IndRNN(3, activation="tanh"), noise(T, B, INPUTS)
    params, start = draw_params(cell, INPUTS), draw_state(cell, (B,))
    dense = draw_params(RNN(3), INPUTS)._replace(w_x=params.w_x, w_h=np.diag(params.u), b=params.b)

    _, expected = rnnlab.unroll(RNN(3), dense, xs, RNNState(start.h))
    close(rnnlab.unroll(cell, params, xs, start)[1], expected)


def test_a_linear_unit_passes_a_gradient_back_by_u_at_each_step():
    cell = IndRNN(3, activation="identity", param_dtype=jnp.float64)
    params, xs = draw_params(cell, INPUTS), noise(T, INPUTS)

    def last(start):
        return rnnlab.unroll(cell, params, xs, start)[0].h

    jacobian = jax.jacobian(last)(cell.initial_state()).h
    close(np.asarray(jacobian), np.diag(params.u**T))


def test_where_u_is_drawn_from():
    u = IndRNN(1000).init(jax.random.key(0), 1).u
    assert 0 <= u.min() < 0.01
    assert 0.99 < u.max() < 1
    given = IndRNN(4, recurrent_init=rnnlab.initializers.constant(0.5))
    np.testing.assert_array_equal(given.init(jax.random.key(0), 1).u, np.full(4, 0.5))
    assert (make_cell("indrnn", 4, init="identity").init(jax.random.key(0), 1).u == 1).all()


# MGU


def flax_mgu(params, reset):
    """Flax's cell with the same weights."""
    w_x, w_h, b = (np.split(leaf, 2, -1) for leaf in (params.w_x, params.w_h, params.b))
    hn = {"kernel": w_h[1]}
    if reset:
        hn["bias"] = params.c
    tree = {
        "if": {"kernel": w_x[0], "bias": b[0]},
        "in": {"kernel": w_x[1], "bias": b[1]},
        "hf": {"kernel": w_h[0]},
        "hn": hn,
    }
    return linen.MGUCell(3, reset_gate=reset, param_dtype=jnp.float64), {"params": tree}


@pytest.mark.parametrize("reset", ["after", None])
def test_mgu_is_flaxs(reset):
    cell, xs = MGU(3, reset=reset), jnp.asarray(noise(T, B, INPUTS))
    params, start = draw_params(cell, INPUTS), jnp.asarray(noise(B, 3))

    def ours(params, xs, start):
        final, ys = rnnlab.unroll(cell, params, xs, MGUState(start))
        return score(final, ys), (final.h, ys)

    def flaxs(params, xs, start):
        module, variables = flax_mgu(params, reset == "after")
        final, ys = jax.lax.scan(lambda h, x: module.apply(variables, h, x), start, xs)
        return score((final,), ys), (final, ys)

    both = (jax.value_and_grad(f, argnums=(0, 1, 2), has_aux=True) for f in (ours, flaxs))
    close(*(jax.jit(f)(jax.tree.map(jnp.asarray, params), xs, start) for f in both))


def test_an_open_gate_copies_the_old_state():
    """f keeps: b_f → ∞ makes hₜ = hₜ₋₁."""
    params, state = draw_params(MGU(3), INPUTS), draw_state(MGU(3), (B,))
    params.b[:3] = 1e3
    final, _ = rnnlab.unroll(MGU(3), params, noise(T, B, INPUTS), state)
    close(final, MGUState(jnp.asarray(state.h)))


def test_where_the_reset_acts():
    """The three forms agree at the first step, which starts from zero, and differ afterwards."""
    params = draw_params(MGU(3, reset="before"), INPUTS)
    xs = noise(T, B, INPUTS)
    with_c = draw_params(MGU(3), INPUTS)._replace(w_x=params.w_x, w_h=params.w_h, b=params.b)
    with_c = with_c._replace(c=np.zeros(3))
    outputs = [
        rnnlab.unroll(MGU(3), with_c, xs)[1],
        rnnlab.unroll(MGU(3, reset="before"), params, xs)[1],
        rnnlab.unroll(MGU(3, reset=None), params, xs)[1],
    ]
    close(outputs[0][0], outputs[1][0])
    close(outputs[0][0], outputs[2][0])
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(outputs[a][1:] - outputs[b][1:]).max() > 1e-3


@pytest.mark.parametrize(("given", "first"), [({}, 1.0), ({"forget_bias": -2.0}, -2.0)])
def test_forget_bias_of_an_mgu(given, first):
    b = MGU(3, **given).init(jax.random.key(0), INPUTS).b
    np.testing.assert_array_equal(b, [first] * 3 + [0.0] * 3)


# Highway


def test_closed_transform_gates_carry_the_state_through_every_layer():
    cell = Highway(3, depth=4)
    params, state = draw_params(cell, INPUTS), draw_state(cell, (B,))
    params.b[3:] = params.deep_b[:, 3:] = -1e3
    final, _ = rnnlab.unroll(cell, params, noise(T, B, INPUTS), state)
    close(final, HighwayState(jnp.asarray(state.h)))


def test_a_shallow_highway_is_an_mgu_without_reset():
    """With t = 1 − f: the signs of the gate's weights and bias change, and the gates' order."""
    cell = Highway(3, depth=1)
    params, xs, state = draw_params(cell, INPUTS), noise(T, B, INPUTS), draw_state(cell, (B,))

    def turned(leaf):
        candidate, transform = np.split(leaf, 2, axis=-1)
        return np.concatenate([-transform, candidate], axis=-1)

    other = draw_params(MGU(3, reset=None), INPUTS)
    other = other._replace(w_x=turned(params.w_x), w_h=turned(params.w_h), b=turned(params.b))
    _, expected = rnnlab.unroll(MGU(3, reset=None), other, xs, MGUState(state.h))
    close(rnnlab.unroll(cell, params, xs, state)[1], expected)


def test_transform_gates_start_closed_in_every_layer():
    params = Highway(3, depth=3).init(jax.random.key(0), INPUTS)
    biases = np.stack([params.b, *params.deep_b])
    np.testing.assert_array_equal(biases, np.tile([0.0] * 3 + [-2.0] * 3, (3, 1)))
    assert Highway(3, depth=1).init(jax.random.key(0), INPUTS).deep_w is None
    # Each layer has weights of its own.
    assert len({float(w[0, 0]) for w in (params.w_h, *params.deep_w)}) == 3


# Options


def test_options_that_do_not_fit_are_refused():
    zeros = rnnlab.initializers.zeros
    one_sentence(lambda: IndRNN(3, recurrent_bias=True), "recurrent_bias")
    one_sentence(lambda: IndRNN(3, activation="softmax"), "activation")
    one_sentence(lambda: MGU(3, reset="late"), "reset", "'after'")
    one_sentence(lambda: MGU(3, reset="before", recurrent_bias=True), "second bias")
    one_sentence(lambda: MGU(3, forget_bias=1.0, bias_init=zeros), "bias_init", "forget_bias")
    one_sentence(lambda: MGU(3, forget_bias=1.0, bias=False), "forget_bias", "bias=False")
    one_sentence(lambda: Highway(3, depth=0), "depth", "at least 1")
    one_sentence(lambda: Highway(3, recurrent_bias=True), "recurrent_bias")
    one_sentence(lambda: Highway(3, transform_bias=1.0, bias_init=zeros), "transform_bias")
