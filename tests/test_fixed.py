"""Fixed points against what can be solved exactly."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab.cells import GRU, LSTM, RNN
from rnnlab.diagnostics import fixed_points, sample_states
from tests.reference import one_sentence

HALF = 0.957504
"""The positive solution of h = tanh(2h)."""


def independent(gain=2.0, dtype=jnp.float64):
    cell = RNN(3, param_dtype=dtype)
    return cell, cell.init(jax.random.key(0), 1)._replace(w_h=gain * jnp.eye(3, dtype=dtype))


def starts(cell, count, scale=1.2, seed=0):
    like = cell.initial_state((count,))
    keys = jax.random.split(jax.random.key(seed), len(jax.tree.leaves(like)))
    drawn = [
        scale * jax.random.uniform(k, leaf.shape, leaf.dtype, -1, 1)
        for k, leaf in zip(keys, jax.tree.leaves(like), strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(like), drawn)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_three_independent_units_have_twenty_seven_fixed_points(dtype):
    cell, params = independent(dtype=dtype)
    found = fixed_points(cell, params, jnp.zeros(1, dtype), starts(cell, 1024))
    corners = np.array(list(itertools.product([-HALF, 0, HALF], repeat=3)))
    assert len(found.states) == 27
    distance = np.linalg.norm(found.states[:, None] - corners, axis=-1)
    assert distance.min(axis=1).max() < 1e-4
    assert sorted(distance.argmin(axis=1)) == list(range(27))
    assert np.bincount(found.unstable).tolist() == [8, 12, 6, 1]
    assert [found.kind.count(k) for k in ("stable", "saddle", "unstable")] == [8, 18, 1]
    values = np.where(np.abs(np.sort(found.states, axis=1)) > 0.5, 0.166372, 2.0)
    np.testing.assert_allclose(
        np.sort(found.eigenvalues.real, axis=1), np.sort(values, axis=1), atol=1e-4
    )
    np.testing.assert_allclose(found.time_constants, -1 / np.log(np.abs(found.eigenvalues)))
    assert (found.q <= 1e-12).all()


def test_the_only_fixed_point_of_a_linear_network_is_solved_for():
    rng = np.random.default_rng(0)
    w = 0.9 * np.linalg.qr(rng.normal(size=(4, 4)))[0]
    cell = RNN(4, activation="identity", param_dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 2)._replace(w_h=jnp.asarray(w))
    x = jnp.array([0.3, -1.0])
    found = fixed_points(cell, params, x, starts(cell, 16))
    exact = np.linalg.solve(np.eye(4) - w.T, np.asarray(params.w_x.T @ x))
    np.testing.assert_allclose(found.states, exact[None], atol=1e-4)
    np.testing.assert_allclose(np.abs(found.eigenvalues), 0.9, rtol=1e-9)


@pytest.mark.parametrize(
    "cell",
    [LSTM(4), GRU(4, reset="before"), rnnlab.stack([GRU(3), LSTM(2), rnnlab.Readout(1)])],
    ids=["lstm", "gru", "stack"],
)
def test_a_found_point_stays_where_it_is(cell):
    params = cell.init(jax.random.key(0), 2)
    x = jnp.ones(2)
    found = fixed_points(cell, params, x, starts(cell, 32), tolerance=1e-11)
    assert len(found.states)
    assert (found.q <= 1e-11).all()
    ends = np.cumsum([leaf.shape[-1] for leaf in jax.tree.leaves(cell.initial_state())])
    parts = np.split(found.states, ends[:-1], axis=1)
    state = jax.tree.unflatten(
        jax.tree.structure(cell.initial_state()), [jnp.asarray(part) for part in parts]
    )
    after, _ = cell.step(params, state, jnp.broadcast_to(x, (len(found.states), 2)))
    np.testing.assert_allclose(
        np.concatenate(jax.tree.leaves(after), axis=1), found.states, atol=1e-5
    )


def test_a_search_that_finds_nothing_says_so_and_returns_nothing():
    """h ← h + 1 under the identity has no fixed point."""
    cell = RNN(2, activation="identity", param_dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 1)._replace(w_h=jnp.eye(2), b=jnp.ones(2))
    with pytest.warns(
        UserWarning, match="no fixed point was found from 8 starts: the smallest q is"
    ):
        found = fixed_points(cell, params, jnp.zeros(1), starts(cell, 8), steps=50)
    assert found.states.shape == found.eigenvalues.shape == (0, 2)
    assert found.kind == ()


def test_slow_points_are_told_from_fixed_ones():
    """h ← h + small has none, but is slow everywhere."""
    cell = RNN(2, activation="identity", param_dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 1)._replace(w_h=jnp.eye(2), b=jnp.full(2, 1e-4))
    with pytest.warns(UserWarning, match="slow_states"):
        found = fixed_points(cell, params, jnp.zeros(1), starts(cell, 8), steps=10)
    np.testing.assert_allclose(found.slow_q, 1e-8, rtol=1e-6)
    assert len(found.slow_states) == 8


def test_sampled_states_are_states_with_noise():
    cell, params = LSTM(3), LSTM(3).init(jax.random.key(0), 2)
    states, _ = rnnlab.unroll_states(cell, params, jax.random.normal(jax.random.key(1), (5, 4, 2)))
    drawn = sample_states(jax.random.key(2), states, 300)
    pool = {
        tuple(np.concatenate([c, h]))
        for c, h in zip(np.reshape(states.c, (20, 3)), np.reshape(states.h, (20, 3)), strict=True)
    }
    assert {
        tuple(np.concatenate([c, h]))
        for c, h in zip(np.asarray(drawn.c), np.asarray(drawn.h), strict=True)
    } == pool
    noisy = sample_states(jax.random.key(2), states, 300, noise=0.1)
    np.testing.assert_allclose(np.std(noisy.h - drawn.h), 0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("x", "change", "words"),
    [
        (jnp.zeros((2, 1)), lambda s: s, ("x has shape (2, 1)",)),
        (jnp.zeros(1), lambda s: s._replace(h=s.h * jnp.nan), ("NaN",)),
        (jnp.zeros(1), lambda s: s._replace(h=s.h[:, :2]), ("starts.h has shape (8, 2)",)),
        (jnp.zeros(1), lambda _: (), ("starts must hold states",)),
    ],
)
def test_bad_input(x, change, words):
    cell, params = independent()
    one_sentence(lambda: fixed_points(cell, params, x, change(starts(cell, 8))), *words)
