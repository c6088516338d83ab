"""The checkpointed engine: exact however the sequence is cut, and small."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab import unroll, unroll_states
from rnnlab.cells import LSTM, RNN
from rnnlab.engines.checkpointed import segment_count
from tests.reference import close, one_sentence
from tests.reference.cells import CELLS, by_name, draw, draw_params
from tests.test_driver import INPUTS, Course, each, score

ALL = "initial lengths resets reset reverse"


def first_order(twin, course, run=unroll, **how):
    """Outputs, final state and the gradients of parameters, inputs and initial state."""
    params, xs, options = course.draw(twin.cell)
    start = options.pop(
        "initial_state", jax.tree.map(np.float64, twin.cell.initial_state(course.batch))
    )

    def loss(params, xs, start):
        result = run(twin.cell, params, xs, start, **options, **how)
        return score(*result), result

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(params, xs, start)


@functools.cache
def by_scan(name, course, run=unroll):
    return first_order(*by_name(name), course, run, engine="scan")


def assert_exact(twin, course, segments, run=unroll):
    found = first_order(twin, course, run, engine="checkpointed", segments=segments)
    close(found, by_scan(twin.name, course, run))


# How the sequence is cut


@pytest.mark.combinations
@each(CELLS)
def test_every_cell(twin):
    """Seven steps in three segments: two of three steps and one left over."""
    assert_exact(twin, Course(7, (3,), ALL), 3)


@pytest.mark.combinations
@pytest.mark.parametrize(
    ("steps", "segments"),
    [
        *((steps, segments) for steps in (1, 2, 7, 11) for segments in (None, 1)),
        *((2, s) for s in (2, (2, 1))),
        *((7, s) for s in (4, 7, (2, 2), (2, 4))),
        *((11, s) for s in (3, 5, 11, (2, 2), (3, 2), (2, 3, 2))),
    ],
    ids=str,
)
def test_any_number_of_segments(steps, segments):
    """Seven steps forwards, all others in reverse."""
    (twin,) = by_name("elman")
    assert_exact(
        twin, Course(steps, (2,), "initial lengths resets" if steps == 7 else ALL), segments
    )


@pytest.mark.parametrize("batch", [(), (2, 2)], ids=str)
def test_any_batch_axes(batch):
    (twin,) = by_name("elman")
    assert_exact(twin, Course(5, batch, ALL), 2)


@pytest.mark.combinations
@pytest.mark.parametrize(
    ("segments", "options"),
    [(3, "reverse"), ((2, 2), ""), ((2, 2), "reverse"), (3, "lengths resets reverse")],
    ids=str,
)
def test_every_state(segments, options):
    (twin,) = by_name("lstm")
    assert_exact(twin, Course(7, (2,), options), segments, unroll_states)


def test_a_step_of_ones_own():
    """Its state includes an integer counter, and a reset restores the step's initial state."""

    def fn(w, state, x):
        h = jnp.tanh(w * state["h"] + x * state["n"][..., None])
        return {"h": h, "n": state["n"] + 1}, h

    step = rnnlab.Step(fn, {"h": np.array([0.5, -0.5]), "n": np.int32(1)})
    resets = np.random.default_rng(0).random((7, 2)) < 0.3

    def results(**how):
        def loss(w, xs):
            final, ys = unroll(step, w, xs, lengths=[7, 4], resets=resets, **how)
            return jnp.sum(ys**2) + jnp.sum(final["h"]), (final, ys)

        xs = np.random.default_rng(1).normal(size=(7, 2, 2))
        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(
            np.array([0.7, 1.1]), xs
        )

    close(results(engine="checkpointed", segments=3), results(engine="scan"))


@pytest.mark.parametrize("steps", [1, 2, 3, 35, 100, 127, 784, 1000, 1021, 1024, 16384, 100_000])
def test_the_choice_is_near_the_least_memory(steps):
    """Nothing is left over where that can be had, and states and residuals are few."""
    segments = segment_count(steps)
    length = math.ceil(steps / segments)
    assert (steps % length == 0) == (steps not in (127, 1021))  # the primes
    for residuals in (5, 7, 11):
        assert segments + residuals * length <= 5 / 3 * min(
            n + residuals * math.ceil(steps / n) for n in range(1, steps + 1)
        )


@pytest.mark.parametrize(
    ("segments", "words"),
    [
        (8, ("8", "7 steps")),
        ((9, 1), ("9", "7 steps")),
        ((3, 4), ("4", "3 steps", "level above")),
        (0, ("at least 1",)),
    ],
    ids=str,
)
def test_too_many_segments_are_refused(segments, words):
    cell = RNN(3)
    params = draw_params(cell, INPUTS)
    one_sentence(
        lambda: unroll(
            cell, params, np.ones((7, INPUTS)), engine="checkpointed", segments=segments
        ),
        "segments",
        *words,
    )


# Under JAX's transformations


@pytest.mark.long
def test_second_derivatives():
    """Reverse over reverse and forward over reverse, along a direction drawn at random."""
    (twin,) = by_name("elman")
    params, xs, options = Course(5, (2,), "lengths resets reverse").draw(twin.cell)
    along = draw((params, xs), 3)

    def results(**how):
        def loss(*inputs):
            return score(*unroll(twin.cell, *inputs, **options, **how))

        gradient = jax.grad(loss, argnums=(0, 1))

        def slope(*inputs):
            products = jax.tree.map(lambda a, b: jnp.sum(a * b), gradient(*inputs), along)
            return sum(jax.tree.leaves(products))

        both = jax.jit(
            lambda *inputs: (jax.grad(slope, (0, 1))(*inputs), jax.jvp(gradient, inputs, along)[1])
        )
        by_reverse, by_forward = both(params, xs)
        close(by_reverse, by_forward)
        return by_reverse

    close(results(engine="checkpointed", segments=(2, 2)), results(engine="scan"))


def test_vmap_over_parameters_and_over_examples():
    cell, rng = RNN(3), np.random.default_rng(6)
    networks = jax.tree.map(
        lambda *leaves: np.stack(leaves), *(draw_params(cell, INPUTS, seed) for seed in (1, 2))
    )
    xs = rng.normal(size=(7, 4, INPUTS))

    def results(**how):
        def loss(params, xs):
            return score(*unroll(cell, params, xs, **how))

        gradient = jax.grad(loss, argnums=(0, 1))
        of_examples = jax.vmap(gradient, (None, 1))
        return [jax.jit(jax.vmap(f, (0, None)))(networks, xs) for f in (gradient, of_examples)]

    close(results(engine="checkpointed", segments=3), results(engine="scan"))


# Memory


def temporary(cell, steps, inputs=2, **how):
    """Bytes that a gradient needs beside its arguments and results.

    It is the gradient of parameters and inputs, at B = 4 in float32.
    """
    params = cell.init(jax.random.key(0), inputs)

    def loss(params, xs, weights):
        return jnp.vdot(weights, unroll(cell, params, xs, **how)[1])

    given = (
        jnp.ones((steps, 4, inputs), jnp.float32),
        jnp.ones((steps, 4, cell.hidden_size), jnp.float32),
    )
    compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(params, *given).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.combinations
@each(by_name("elman", "lstm"))
def test_memory_grows_with_the_root(twin):
    """Four times the steps need about twice the memory, and a small part of what scan needs."""
    short, long = (temporary(twin.cell, steps, engine="checkpointed") for steps in (1024, 4096))
    assert long < 2.6 * short
    assert long < 0.1 * temporary(twin.cell, 4096, engine="scan")


def test_two_levels_need_less():
    one, two = (
        temporary(LSTM(3), 32**3, engine="checkpointed", segments=s) for s in (None, (128, 16))
    )
    assert two < 0.7 * one


def test_what_is_left_over_does_not_copy_the_inputs():
    """1021 is prime, and the inputs are the widest array: 4 (B) · 256 (I) · 4 bytes a step."""
    assert temporary(RNN(3), 1021, inputs=256, engine="checkpointed") < 0.2 * 1021 * 4 * 256 * 4
