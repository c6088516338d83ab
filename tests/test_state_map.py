"""Instruments of the state with states of fewer than 32 bits: computed in float32."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab import diagnostics, training
from rnnlab.cells import GRU, LSTM, RNN

KEY = jax.random.key(0)


def total(ys):
    return jnp.sum(ys**2)


class Given(NamedTuple):
    """What an instrument is given, with several states to start from."""

    cell: Any
    params: Any
    xs: jax.Array  # [T, B, I]
    starts: Any  # [B, ...]

    @property
    def driven(self):
        return self.cell, self.params, self.xs

    @property
    def held(self):
        return self.cell, self.params, self.xs[0, 0], self.starts


def slope(loss, given, *more, **options):
    def value(params):
        return loss(given.cell, params, given.xs, *more, **options).astype(jnp.float32)

    return jax.grad(value)(given.params)


INSTRUMENTS = {
    "lyapunov_spectrum": lambda g: diagnostics.lyapunov_spectrum(*g.driven, g.starts),
    "step_jacobians": lambda g: diagnostics.step_jacobians(*g.driven),
    "jacobian_products": lambda g: diagnostics.jacobian_products(*g.driven),
    "attractor_kind": lambda g: diagnostics.attractor_kind(KEY, *g.held),
    "fixed_points": lambda g: diagnostics.fixed_points(*g.held),
    "limit_cycles": lambda g: diagnostics.limit_cycles(*g.held, periods=(1,), tolerance=1e-10),
    "flossing_loss": lambda g: training.flossing_loss(*g.driven, count=2),
    "pascanu_omega": lambda g: training.pascanu_omega(*g.driven, total),
    "phase_diagram": lambda g: diagnostics.phase_diagram(*g.driven, [0.5], [3, 6]).exponent,
    "slope of flossing_loss": lambda g: slope(training.flossing_loss, g, count=2),
    "slope of pascanu_omega": lambda g: slope(training.pascanu_omega, g, total),
}


def narrow(cell, dtype):
    xs = jax.random.normal(jax.random.key(1), (6, 4, 3), dtype)
    starts = jax.tree.map(
        lambda leaf: jax.random.uniform(jax.random.key(2), leaf.shape, dtype, -1, 1),
        cell.initial_state((4,)),
    )
    return Given(cell, cell.init(KEY, 3), xs, starts)


@pytest.mark.combinations
@pytest.mark.filterwarnings("ignore:no:UserWarning")
@pytest.mark.parametrize("name", INSTRUMENTS)
def test_few_bits_give_what_the_same_numbers_give_in_float32(name):
    # One cell and dtype after the other: an instrument converts both in the same place.
    kinds = (LSTM, jnp.bfloat16), (GRU, jnp.float16)
    cell, dtype = kinds[list(INSTRUMENTS).index(name) % 2]
    given = narrow(cell(3, param_dtype=dtype), dtype)
    params, xs, starts = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), given[1:])
    found = INSTRUMENTS[name](given)
    expected = INSTRUMENTS[name](Given(cell(3), params, xs, starts))
    close = {"rtol": 0.02, "atol": 2e-3} if "slope" in name else {"rtol": 2e-4, "atol": 1e-4}
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        if not hasattr(one, "dtype"):
            assert one == other
            continue
        assert one.dtype == (dtype if "slope" in name else other.dtype)
        np.testing.assert_allclose(one.astype(other.dtype), other, **close)


def test_pascanus_bound_is_computed_in_float32():
    cell = RNN(3, param_dtype=jnp.bfloat16)
    found = diagnostics.pascanu_bound(*narrow(cell, jnp.bfloat16).driven)
    assert found.sigma_max.dtype == found.log_norm.dtype == jnp.float32
    assert (found.log_norm <= found.log_bound[:, None] + 1e-5).all()


def test_a_foreign_step_that_rounds_its_state_is_followed_in_float32():
    def rounded(w, h, x):
        new = jnp.tanh(h @ w + x).astype(jnp.bfloat16)
        return new, new

    cell = rnnlab.Step(rounded, jnp.zeros(3, jnp.bfloat16))
    w = jnp.diag(jnp.array([0.5, 0.25, 2**-5], jnp.bfloat16))
    found = diagnostics.lyapunov_spectrum(cell, w, jnp.zeros((8, 3), jnp.bfloat16))
    assert found.exponents.dtype == jnp.float32
    np.testing.assert_allclose(found.exponents, np.log([0.5, 0.25, 2**-5]), atol=0.02)
