"""A network trained on the three-bit flip-flop keeps its memories in the corners of a cube."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnnlab
from rnnlab.cells import RNN, Readout
from rnnlab.diagnostics import fixed_points, sample_states

pytestmark = pytest.mark.long

STEPS, BATCH, BITS, HIDDEN, UPDATES = 64, 32, 3, 16, 500
CELL, READOUT = RNN(HIDDEN), Readout(BITS)
MODEL = rnnlab.stack([CELL, READOUT])
TASK = rnnlab.tasks.flip_flop(STEPS, BITS)
OPTIMISER = optax.adam(optax.cosine_decay_schedule(0.02, UPDATES))


@jax.jit
def train(key):
    def update(carry, key):
        params, memory = carry
        xs, wanted, *_ = TASK.sample(key, BATCH)
        slope = jax.grad(lambda p: jnp.mean((rnnlab.unroll(MODEL, p, xs)[1] - wanted) ** 2))(params)
        change, memory = OPTIMISER.update(slope, memory)
        return (optax.apply_updates(params, change), memory), None

    k_init, k_data = jax.random.split(key)
    params = MODEL.init(k_init, BITS)
    return jax.lax.scan(
        update, (params, OPTIMISER.init(params)), jax.random.split(k_data, UPDATES)
    )[0][0]


@pytest.fixture(scope="module", params=[0, 1, 2])
def found(request):
    """Trained parameters, fixed points of the recurrent map without input, and a fresh trial."""
    k_train, k_pulses, k_starts = jax.random.split(jax.random.key(request.param), 3)
    params, (xs, wanted, *_) = train(k_train), TASK.sample(k_pulses, BATCH)
    states, _ = rnnlab.unroll_states(CELL, params.layers[0], xs)
    starts = sample_states(k_starts, states, 1024, noise=1.0)
    return (
        params,
        fixed_points(CELL, params.layers[0], jnp.zeros(BITS, jnp.float32), starts),
        xs,
        wanted,
    )


def memories(params, states):
    """The signs of the outputs after 500 steps without input."""
    start = CELL.initial_state()._replace(h=jnp.asarray(states, jnp.float32))
    end, _ = rnnlab.unroll(
        CELL, params.layers[0], jnp.zeros((500, len(states), BITS), jnp.float32), start
    )
    return np.sign(READOUT(params.layers[1], end.h))


def test_it_is_learned(found):
    params, _, xs, wanted = found
    _, ys = rnnlab.unroll(MODEL, params, xs)
    assert (np.sign(ys) == wanted).all()
    assert np.mean((ys - wanted) ** 2) < 2e-3


def test_there_are_eight_stable_points_one_for_each_memory(found):
    params, points, *_ = found
    stable = points.states[np.array(points.kind) == "stable"]
    outputs = np.asarray(READOUT(params.layers[1], jnp.asarray(stable)))
    np.testing.assert_allclose(np.abs(outputs), 1, atol=0.15)
    corners = {tuple(signs) for signs in np.sign(outputs)}
    assert len(stable) == len(corners) == 8
    np.testing.assert_array_equal(memories(params, stable), np.sign(outputs))


def test_between_neighbouring_memories_there_is_a_saddle(found):
    """On each side the state falls to one of two corners that share an edge: all twelve edges."""
    params, points, *_ = found
    assert points.kind.count("stable") + points.kind.count("saddle") == len(points.kind)
    once = points.unstable == 1
    push = 0.05 * points.eigenvectors[once, :, 0].real
    one, other = (memories(params, points.states[once] + way * push) for way in (1, -1))
    assert ((one != other).sum(axis=1) == 1).all()
    edges = {tuple((a + b) / 2) for a, b in zip(one, other, strict=True)}
    assert len(edges) == once.sum() == 12


def test_no_fixed_point_was_overlooked(found):
    """Brouwer's degree of a map of a ball into itself: Σ sign det(1 − J) = 1 over fixed points."""
    _, points, *_ = found
    signs = np.sign(np.prod(1 - points.eigenvalues, axis=1).real)
    assert signs.sum() == 1
    assert np.bincount(points.unstable).tolist() == [
        8,
        12,
        6,
        1,
    ]  # corners, edges, faces and the centre
