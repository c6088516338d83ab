"""Boxes that a map sends into themselves: what is proved is true, and no more is claimed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rnnlab
from rnnlab.cells import GRU, LSTM, RNN, LeakyRNN, Readout
from rnnlab.diagnostics.invariant_sets.enclosure import Box, trapping_box
from rnnlab.diagnostics.state.state_map import state_map

DOUBLE = {"param_dtype": jnp.float64}
FLAX = nnx.split(nnx.GRUCell(3, 6, param_dtype=jnp.float64, rngs=nnx.Rngs(0)))
TRAPPED = {
    "tanh": RNN(6, **DOUBLE),
    "sigmoid": RNN(6, activation="sigmoid", **DOUBLE),
    "output-state": RNN(6, form="output-state", **DOUBLE),
    "leaky": LeakyRNN(6, **DOUBLE),
    "gru": GRU(6, **DOUBLE),
    "gru, before": GRU(6, reset="before", **DOUBLE),
    "gru, layer norm": GRU(6, layer_norm=True, **DOUBLE),
    "lstm": LSTM(6, **DOUBLE),
    "lstm, remembering": LSTM(6, forget_bias=6.0, **DOUBLE),
    "stack": rnnlab.stack([GRU(4, **DOUBLE), LSTM(3, **DOUBLE), Readout(2, **DOUBLE)]),
    "flax": rnnlab.Step(lambda p, h, x: nnx.merge(FLAX[0], p)(h, x), jnp.zeros(6)),
}


def flat_step(cell, params, x):
    flat, _, _ = state_map(cell, params, x[None], None)
    return (lambda h: flat.step(h, x)), flat.size


def cube(size, radius=0.9):
    return Box(np.full(size, -radius), np.full(size, radius))


@pytest.mark.combinations
@pytest.mark.parametrize("radius", [0.1, 0.9, 1.5])
@pytest.mark.parametrize("name", TRAPPED)
def test_a_bounded_cell_maps_a_box_around_any_start_into_itself(name, radius):
    cell = TRAPPED[name]
    params = FLAX[1] if name == "flax" else cell.init(jax.random.key(0), 3)
    step, size = flat_step(cell, params, jnp.array([0.5, -1.0, 2.0]))
    box = trapping_box(step, cube(size, radius))
    assert box is not None
    assert (box.lo <= -radius).all()
    assert (box.hi >= radius).all()
    rng = np.random.default_rng(0)
    inside = rng.uniform(box.lo, box.hi, (500, size))
    corners = np.where(rng.random((500, size)) < 0.5, box.lo, box.hi)
    images = np.asarray(jax.vmap(step)(jnp.concatenate([inside, corners])))
    assert (images >= box.lo).all()
    assert (images <= box.hi).all()


def test_the_box_of_a_gru_is_tight():
    """Whatever the gates do, the state stays between itself and ±1."""
    step, size = flat_step(
        GRU(6, **DOUBLE), GRU(6, **DOUBLE).init(jax.random.key(0), 3), jnp.ones(3)
    )
    box = trapping_box(step, cube(size, 1.0))
    np.testing.assert_array_equal(box, [-np.ones(6), np.ones(6)])


@pytest.mark.parametrize(
    "step",
    [
        lambda h: h + 1,
        lambda h: 2 * h,
        lambda h: jax.nn.relu(2 * h),
        lambda h: jnp.where(h > 0, -1.0, 1.0),  # of [−1, 1] into itself, but no h stays
        lambda h: jnp.floor(jnp.tanh(h)) + 0.5,
        lambda h: jnp.tanh(1 / h),
        lambda h: jnp.tanh(jnp.sqrt(h - 0.5)),
        lambda h: jnp.round(h).astype(int).astype(h.dtype) / 2,
        lambda h: -jnp.sign(h),
    ],
    ids=["shift", "double", "relu", "where", "floor", "divide", "root", "integers", "sign"],
)
def test_nothing_is_claimed_of_a_map_without_a_fixed_point_or_with_a_jump(step):
    assert trapping_box(step, cube(2)) is None


@pytest.mark.parametrize(
    ("step", "box"),
    [
        (lambda h: h / 2, (-0.9, 0.9)),
        (lambda h: 0.5 * h**2, (-0.9, 0.9)),
        (lambda h: h**3, (-0.9, 0.9)),
        (lambda h: 1 / (2 + h), (-0.9, 0.9)),
        (lambda h: jnp.exp(-h) / 4, (-0.9, 0.9)),
        (lambda h: jnp.sqrt(1 + h**2) / 4, (-0.9, 0.9)),
        (lambda h: (jnp.maximum(h, 0) + jnp.minimum(h, 0.5)) / 3, (-0.9, 0.9)),
        (lambda h: h @ jnp.array([[0.5, -0.4], [0.3, 0.6]]), (-0.9, 0.9)),
        (lambda h: jnp.stack([h.sum(), h.max()]) / 3, (-0.9, 0.9)),
    ],
)
def test_operations_have_bounds(step, box):
    found = trapping_box(step, cube(2))
    assert found.lo.min() >= box[0] - 0.1
    assert found.hi.max() <= box[1] + 0.1
    inside = np.random.default_rng(0).uniform(found.lo, found.hi, (500, 2))
    images = np.asarray(jax.vmap(step)(jnp.asarray(inside)))
    assert ((images >= found.lo) & (images <= found.hi)).all()


def test_a_peephole_that_opens_the_forget_gate_proves_nothing():
    cell = LSTM(2, peephole=True, **DOUBLE)
    params = cell.init(jax.random.key(0), 1)
    step, size = flat_step(cell, params._replace(peephole=params.peephole + 1), jnp.ones(1))
    assert trapping_box(step, cube(size)) is None
