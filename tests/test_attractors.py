"""Kinds of attractors with a known answer: slow frequencies, and orbits that rounding stops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab.cells import RNN
from rnnlab.diagnostics import AttractorKind, attractor_kind

X = jnp.zeros(1, jnp.float32)
KEY = jax.random.key(0)


def attractors(cell, params, starts, **options):
    return attractor_kind(KEY, cell, params, X, starts, **options)


@pytest.mark.parametrize("seed", [0, 3, 5])
def test_many_units_on_a_closed_curve_have_exponent_zero(seed):
    """N = 256, g = 1.05: drawn directions alone would make −.01 to −.02 of it in 200 steps."""
    w = 1.05 / 16 * np.random.default_rng(seed).normal(size=(256, 256))
    cell = RNN(256)
    params = cell.init(KEY, 1)._replace(w_h=jnp.asarray(w, jnp.float32))
    draw = jax.random.uniform(jax.random.key(seed), (6, 256), jnp.float32, -1, 1)
    starts = cell.initial_state((6,))._replace(h=draw)
    found = attractors(cell, params, starts, burn_in=3000, steps=200)
    assert found.kind == ("oscillation",) * 6
    assert (np.abs(found.exponent) < 0.002).all()
    assert (found.standard_error < 0.003).all()
    assert not found.period.any()
    assert not found.stuck.any()


def test_the_direction_of_one_unit_among_many_is_found():
    """A slow unit beside fast ones, none acting on another."""
    cell = RNN(16, activation="identity", param_dtype=jnp.float64)
    decay = np.full(16, 0.5)
    decay[11] = 0.9
    params = cell.init(KEY, 1)._replace(w_h=jnp.diag(jnp.asarray(decay)))
    starts = cell.initial_state((3,))
    found = attractors(cell, params, starts, burn_in=100, steps=65)
    np.testing.assert_allclose(found.exponent, np.log(0.9), rtol=1e-12)


def logistic(dtype):
    return rnnlab.Step(lambda r, h, _: (r * h * (1 - h), h), jnp.zeros(1, dtype)), jnp.asarray(
        4, dtype
    )


@pytest.mark.combinations
@pytest.mark.parametrize("burn_in", [0, 100])
def test_an_orbit_that_rounding_brought_to_rest_is_no_chaos(burn_in):
    """An orbit of the logistic map at r = 4 in float32 falls to 0 before or during the steps."""
    cell, r = logistic(jnp.float32)
    starts = jnp.array([[0.50001], [0.3]], jnp.float32)
    found = attractors(cell, r, starts, burn_in=burn_in)
    assert found.kind == ("point", "chaos")
    assert found.stuck.tolist() == [True, False]
    assert found.exponent[0] > 1
    assert found.finding().endswith("; 1 stuck on an unstable point or cycle")
    many = jax.random.uniform(KEY, (32, 1), jnp.float32)
    late = attractors(cell, r, many, burn_in=20_000)
    assert late.stuck.any()
    assert late.kind == tuple(np.where(late.stuck, "point", "chaos"))
    np.testing.assert_allclose(late.exponent[~late.stuck], np.log(2), atol=0.02)


def test_a_start_on_an_unstable_cycle_is_stuck_and_one_on_a_stable_cycle_is_not():
    """h ← −h + k h (h² − 1) goes from 1 to −1 and back, with the multiplier (2 k − 1)²."""
    cell = rnnlab.Step(lambda k, h, _: (-h + k * h * (h**2 - 1), h), jnp.zeros(1))
    for k, stuck in ((-1.0, True), (0.4, False)):
        found = attractors(cell, jnp.asarray(k), jnp.ones((1, 1)))
        assert found.kind == ("oscillation",)
        assert found.period.tolist() == [2]
        assert found.stuck.tolist() == [stuck]
        np.testing.assert_allclose(found.exponent, np.log(abs(2 * k - 1)), rtol=1e-6)


def test_the_result_explains_itself():
    found = attractors(*logistic(jnp.float64), jnp.array([[0.75], [0.3]]))
    assert str(found).startswith("AttractorKind: 2 trajectories: 1 point, 1 chaos; 1 stuck")
    assert "[B]" in AttractorKind.standard_error.__doc__
