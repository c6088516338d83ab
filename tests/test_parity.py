"""The diagonal linear recurrence of the experiment on parity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from experiments.parity.cell import RANGES, Diagonal, solution
from tests.reference import one_sentence


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_eigenvalues_of_one_and_minus_one_compute_parity_exactly(dtype):
    bits = jax.random.bernoulli(jax.random.key(0), 0.5, (3000, 4, 1)).astype(dtype)
    cell = Diagonal(1, eigenvalues="[-1, 1]", param_dtype=dtype)
    _, ys = rnnlab.unroll(cell, solution(dtype), bits)
    np.testing.assert_array_equal(ys, np.cumsum(bits, axis=0) % 2)


@pytest.mark.long
@pytest.mark.parametrize("eigenvalues", RANGES)
def test_the_cell_is_its_equation(eigenvalues):
    cell = Diagonal(3, eigenvalues=eigenvalues, param_dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 2)
    xs = np.asarray(jax.random.normal(jax.random.key(1), (6, 2, 2), jnp.float64))
    w, b, w_y, b_y = map(np.asarray, params)
    h = np.zeros((2, 3))
    for t, x in enumerate(xs):
        z = x @ w + b
        if eigenvalues == "[0, 1]":
            a = 1 / (1 + np.exp(-z[:, :3]))
        else:
            a = np.tanh(z[:, :3])
        h = a * h + z[:, 3:]
        _, ys = rnnlab.unroll(cell, params, xs[: t + 1])
        np.testing.assert_allclose(ys[-1], np.maximum(h @ w_y + b_y, 0), atol=1e-12)


@pytest.mark.long
def test_all_engines_give_the_same_gradient():
    cell = Diagonal(3, eigenvalues="[-1, 1]", param_dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 2)
    xs = jax.random.normal(jax.random.key(1), (7, 2, 2), jnp.float64)

    def loss(params, engine):
        return jnp.sum(rnnlab.unroll(cell, params, xs, engine=engine)[1] ** 2)

    expected = jax.grad(loss)(params, "scan")
    for engine in ("fused", "checkpointed"):
        for got, wanted in zip(jax.grad(loss)(params, engine), expected, strict=True):
            np.testing.assert_allclose(got, wanted, atol=1e-12)


@pytest.mark.long
def test_positive_eigenvalues_make_the_state_monotone_on_a_constant_input():
    # The reason why such a recurrence cannot compute the parity of 11…1: with a and u constant,
    # h_t = u (1 − a^t)/(1 − a), which is monotone for a > 0 and alternates for a < 0.
    xs = jnp.ones((50, 1, 2), jnp.float64)
    signs = {}
    for eigenvalues in RANGES:
        cell = Diagonal(16, eigenvalues=eigenvalues, param_dtype=jnp.float64)
        params = cell.init(jax.random.key(0), 2)
        z = xs[0, 0] @ params.w_x + params.b
        a, u = RANGES[eigenvalues](z[:16]), z[16:]
        states, _ = rnnlab.unroll_states(cell, params, xs)
        steps = np.arange(1, 51)[:, None]
        np.testing.assert_allclose(states.h[:, 0], u * (1 - a**steps) / (1 - a), atol=1e-12)
        change = np.diff(states.h[:4, 0], axis=0)
        signs[eigenvalues] = np.sign(change[1:] * change[:-1])
    assert np.all(signs["[0, 1]"] == 1)
    assert np.any(signs["[-1, 1]"] == -1)


def test_an_unknown_range_is_refused():
    one_sentence(lambda: Diagonal(3, eigenvalues="2"), "eigenvalues is '2'")
