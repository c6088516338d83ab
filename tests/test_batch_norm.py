"""Recurrent batch normalisation: a slow twin of the batch, its statistics, and the evaluation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import rnnlab
from rnnlab.cells import BatchNormLSTM, PopulationLSTM, population_statistics
from tests.reference import close, loop, one_sentence
from tests.reference.cells import draw_params, draw_state, sigmoid
from tests.test_driver import score
from tests.test_engines import LOOPS, under

pytestmark = pytest.mark.long

T, B, I, H = 5, 4, 2, 3
CELL = BatchNormLSTM(H)
MARKS = {
    "all": {},
    "lengths": {"lengths": np.array([5, 2, 4, 3])},
    "mask": {"mask": np.random.default_rng(1).random((T, B)) < 0.7, "reverse": True},
}


def noise(*shape, seed=3):
    return np.random.default_rng(seed).normal(size=shape)


def counted(steps=T, lengths=None, mask=None, **_):
    """Which steps count, ``[T, B]``."""
    counts = np.ones((steps, B), bool) if mask is None else mask
    return counts if lengths is None else counts & (np.arange(steps)[:, None] < lengths)


def normalise(x, counts, gain, bias, seen):
    """Ioffe & Szegedy 2015, over the rows that count; ``seen`` gets mean and variance."""
    rows = x[counts]
    mean = rows.mean(axis=0) if len(rows) else np.zeros(x.shape[1])
    variance = ((rows - mean) ** 2).mean(axis=0) if len(rows) else np.zeros(x.shape[1])
    seen.append((mean, variance))
    return gain * (x - mean) / np.sqrt(variance + 1e-5) + bias


def by_hand(p, xs, start, counts, reverse=False):
    """Cooijmans et al. 2017, eq. 6–8; outputs, c, h, and the moments of each step."""
    c, h, ys, moments = start.c, start.h, np.zeros((len(xs), B, H)), {}
    for t in range(len(xs))[:: -1 if reverse else 1]:
        seen = []
        z = normalise(xs[t] @ p.w_x, counts[t], p.norm.x, 0.0, seen)
        a = normalise(h @ p.w_h, counts[t], p.norm.h, 0.0, seen)
        i, f, g, o = np.split(z + a + p.b, 4, axis=-1)
        new_c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        read = normalise(new_c, counts[t], p.norm.c, p.norm.c_bias, seen)
        keep = counts[t][:, None]
        ys[t] = np.where(keep, sigmoid(o) * np.tanh(read), 0.0)
        c, h = np.where(keep, new_c, c), np.where(keep, ys[t], h)
        moments[t] = seen
    return ys, c, h, moments


@pytest.mark.parametrize("name", MARKS)
def test_training_is_the_paper_s_batch_by_hand(name):
    """Also that the padding, whatever it holds, is not part of the statistics."""
    params, xs, start = draw_params(CELL, I), noise(T, B, I), draw_state(CELL, (B,))
    marks = MARKS[name]
    counts = counted(**marks)
    ys, c, h, _ = by_hand(params, xs, start, counts, marks.get("reverse", False))
    garbage = np.where(counts[..., None], xs, np.nan)
    final, found = rnnlab.unroll(CELL, params, garbage, start, **marks)
    close((found, final.c, final.h), (ys, c, h))


@pytest.mark.parametrize("engine", ["scan", "checkpointed"])
def test_gradients_are_finite_differences(engine):
    params, xs, start = draw_params(CELL, I), noise(3, B, I), draw_state(CELL, (B,))
    marks = {"lengths": np.array([3, 2, 3, 1]), "engine": engine}

    def loss(*inputs):
        return score(*rnnlab.unroll(CELL, *inputs, **marks))

    inputs = params, xs, start
    check_grads(jax.jit(loss), inputs, 1, ["rev"], atol=1e-6, rtol=1e-6, eps=1e-6)


def test_several_batch_axes_are_one_batch():
    params, xs = draw_params(CELL, I), noise(T, 2, 2, I)
    _, ys = rnnlab.unroll(CELL, params, xs.reshape(T, 4, I))
    close(rnnlab.unroll(CELL, params, xs)[1], ys.reshape(T, 2, 2, H))


def test_the_scale_of_the_weights_is_forgotten():
    params, xs = draw_params(CELL, I), noise(T, B, I)
    large = params._replace(w_x=1e6 * params.w_x)
    larger = params._replace(w_x=1e9 * params.w_x)
    close(rnnlab.unroll(CELL, large, xs), rnnlab.unroll(CELL, larger, xs))


def test_initial_parameters():
    params = BatchNormLSTM(2, gain=0.2).init(jax.random.key(0), I)
    np.testing.assert_array_equal(params.norm.x, np.full(8, 0.2, np.float32))
    np.testing.assert_array_equal(params.norm.c_bias, np.zeros(2))
    np.testing.assert_array_equal(params.b, [0, 0, 1, 1, 0, 0, 0, 0])
    assert BatchNormLSTM(2, bias=False).init(jax.random.key(0), I).b is None


# Statistics


def test_statistics_are_the_moments_by_hand():
    params, xs = draw_params(CELL, I), noise(T, B, I)
    lengths = np.array([5, 2, 4, 3])
    start = jax.tree.map(np.float64, CELL.initial_state((B,)))
    *_, moments = by_hand(params, xs, start, counted(lengths=lengths))
    xs[2:, 1] = np.nan
    cell, found = population_statistics(
        BatchNormLSTM(H, param_dtype=jnp.float64), params, xs, lengths=lengths
    )
    assert cell == PopulationLSTM(H, steps=T, param_dtype=jnp.float64)
    assert found[:4] == params
    for place, pair in enumerate(found.population):
        # Only one example reaches the last step, which has no variance: that of the step before.
        expected = [moments[min(t, 3)][place] for t in range(T)]
        close(
            tuple(pair), tuple(jnp.asarray(np.stack(part)) for part in zip(*expected, strict=True))
        )


def evaluation(steps=T):
    """The cell for evaluation with moments of noise, and its parameters."""
    cell = BatchNormLSTM(H, param_dtype=jnp.float64)
    return population_statistics(cell, draw_params(cell, I), noise(steps, B, I, seed=9))


def test_evaluation_on_its_own_training_data_is_training():
    cell, params = evaluation()
    xs = noise(T, B, I, seed=9)
    _, ys = rnnlab.unroll(CELL, draw_params(CELL, I), xs)
    close(rnnlab.unroll(cell, params, xs)[1], ys)


def slow_evaluation(cell):
    """One example, one step: the moments are those of its own step, at most the last."""

    def step(p, s, x):
        t = min(int(s.t[0]), cell.steps - 1)
        m = jax.tree.map(lambda leaf: np.asarray(leaf)[max(t, 0)], p.population)

        def norm(x, moments, gain, bias=0.0):
            return gain * (x - moments.mean) / np.sqrt(moments.variance + 1e-5) + bias

        z, a = norm(x @ p.w_x, m.x, p.norm.x), norm(s.h @ p.w_h, m.h, p.norm.h)
        i, f, g, o = np.split(z + a + p.b, 4)
        c = sigmoid(f) * s.c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(norm(c, m.c, p.norm.c, p.norm.c_bias))
        return type(s)(c, h, np.minimum(s.t + 1, cell.steps)), h

    return step


COURSE = {
    "lengths": np.array([8, 2, 7, 3]),
    "resets": np.random.default_rng(2).random((8, B)) < 0.2,
    "mask": np.random.default_rng(1).random((8, B)) < 0.8,
}


def test_evaluation_is_the_loop():
    """A reset starts the counter again, and the last moments serve the steps beyond."""
    cell, params = evaluation(3)
    xs, start = noise(8, B, I), jax.tree.map(np.float64, cell.initial_state((B,)))
    expected = loop.unroll(slow_evaluation(cell), params, xs, start, **COURSE)
    final, ys = rnnlab.unroll(cell, params, xs, start, **COURSE)
    close((final, ys), (expected.final, expected.ys))
    parts = [rnnlab.unroll(cell, params, xs[:2])]
    parts.append(rnnlab.unroll(cell, params, xs[2:], parts[0][0]))
    close(jnp.concatenate([ys for _, ys in parts]), rnnlab.unroll(cell, params, xs)[1])


@functools.cache
def derivatives(how, order):
    cell, params = evaluation(3)
    inputs = jax.tree.map(jnp.asarray, (params, noise(8, B, I), cell.initial_state((B,))))

    def loss(*inputs):
        final, ys = rnnlab.unroll(cell, *inputs, **COURSE, **dict(how))
        return score(final._replace(t=jnp.zeros(1)), ys)

    def slopes(*inputs):
        gradient = jax.grad(loss, argnums=(0, 1, 2))(*inputs)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(gradient))

    return jax.jit(jax.grad(loss if order == 1 else slopes, argnums=(0, 1, 2)))(*inputs)


@pytest.mark.combinations
@pytest.mark.parametrize("order", [1, 2])
@under(LOOPS)
def test_derivatives_of_the_evaluation_are_those_of_scan(how, order):
    found = derivatives(tuple(how.items()), order)
    close(found, derivatives((("engine", "scan"),), order))
    assert all(not leaf.any() for leaf in jax.tree.leaves(found[0].population))


def test_instruments_take_the_cell_for_evaluation():
    cell, params = evaluation()
    xs = noise(T, B, I)
    flow = rnnlab.gradient_flow(cell, params, xs, lambda ys: ys[-1].sum())
    gradient = jax.grad(lambda p: rnnlab.unroll(cell, p, xs)[1][-1].sum())(params)
    close(flow.gradient, gradient)


# What does not fit


def test_what_does_not_fit_is_refused():
    params = draw_params(CELL, I)
    xs = jnp.ones((T, B, I))

    def loss(ys):
        return ys.sum()

    one_sentence(lambda: rnnlab.unroll(CELL, params, xs[:, 0]), "batch", "two examples")
    one_sentence(lambda: rnnlab.unroll(CELL, params, xs[:, :1]), "batch", "two examples")
    each = jax.vmap(lambda xs: rnnlab.unroll(CELL, params, xs)[1], in_axes=1)
    one_sentence(lambda: each(xs), "batch", "two examples")
    one_sentence(lambda: rnnlab.gradient_flow(CELL, params, xs, loss), "population_statistics")
    stack = rnnlab.stack([rnnlab.GRU(I), CELL])
    of_stack = draw_params(stack, I)
    one_sentence(lambda: rnnlab.gradient_flow(stack, of_stack, xs, loss), "population_statistics")
    assert rnnlab.unroll(stack, of_stack, xs)[1].shape == (T, B, H)
    one_sentence(lambda: rnnlab.unroll(CELL, params, xs, engine="fused"), "fused", "'scan'")
    one_sentence(lambda: population_statistics(stack, of_stack, xs), "BatchNormLSTM")
    one_sentence(lambda: population_statistics(CELL, params, xs[..., :1]), "params", "features")
    one_sentence(lambda: population_statistics(CELL, params, xs, lengths=[9] * B), "lengths")
    one_sentence(lambda: BatchNormLSTM(H, epsilon=0.0), "epsilon")
    one_sentence(lambda: BatchNormLSTM(H, recurrent_bias=True), "recurrent_bias")
    one_sentence(lambda: PopulationLSTM(H, steps=0), "steps")
