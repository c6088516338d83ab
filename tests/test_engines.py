"""The contract of every engine: the values and derivatives of "scan".

Engines and cells join by being listed.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import rnnlab
from rnnlab import unroll, unroll_states
from rnnlab.cells import GRU, LSTM, RNN
from tests.reference import close, one_sentence, watch
from tests.reference.cells import CELLS, VARIANTS, by_name, draw, draw_params
from tests.reference.native import NATIVE, needs_native, pairs, under
from tests.test_driver import INPUTS, Course, each, score

LOOPS = {
    "gates": {"engine": "fused"},
    "states": {"engine": "fused", "residuals": "states"},
    "checkpointed": {"engine": "checkpointed"},
}
"""Engines made of JAX's own loops, which run every cell that splits its step."""
FUSED = {name: how for name, how in LOOPS.items() if how["engine"] == "fused"}
ENGINES = LOOPS | NATIVE
OWN_PASSES = FUSED | NATIVE
COURSES = {
    "all": Course(7, (3,), "initial lengths mask resets reset reverse"),
    "one example": Course(5, (), "resets"),
    "grid": Course(4, (2, 2), "initial lengths"),
    "one step": Course(1, (1,), "initial resets"),
}


def problem(twin, course):
    """``(loss(how, params, xs, start), (params, xs, start))`` in float64."""
    params, xs, given = course.draw(twin.cell)
    start = given.pop("initial_state", None)
    if start is None:
        start = jax.tree.map(np.float64, twin.cell.initial_state(course.batch))

    def loss(how, params, xs, start):
        final, ys = unroll(twin.cell, params, xs, start, **given, **how)
        return score(final, ys), (final, ys)

    return loss, jax.tree.map(jnp.asarray, (params, xs, start))


def first_order(twin, course, how):
    loss, inputs = problem(twin, course)
    return jax.jit(
        jax.value_and_grad(functools.partial(loss, how), argnums=(0, 1, 2), has_aux=True)
    )(*inputs)


@functools.cache
def by_scan(name, course):
    return first_order(*by_name(name), course, {"engine": "scan"})


@pytest.mark.combinations
@pairs(ENGINES, CELLS)
def test_values_and_gradients_are_those_of_scan(twin, how):
    close(first_order(twin, COURSES["all"], how), by_scan(twin.name, COURSES["all"]))


@pytest.mark.combinations
@pytest.mark.parametrize("course", [name for name in COURSES if name != "all"])
@pairs(ENGINES, by_name("lstm-peephole-norm", "lstm", "gru-after"))
def test_odd_shapes(twin, how, course):
    close(first_order(twin, COURSES[course], how), by_scan(twin.name, COURSES[course]))


@pytest.mark.combinations
@pairs(OWN_PASSES, [twin for twin in VARIANTS if hasattr(twin.cell, "gate")])
def test_every_variant(twin, how):
    close(first_order(twin, COURSES["all"], how), by_scan(twin.name, COURSES["all"]))


@pytest.mark.combinations
@under(OWN_PASSES)
@pytest.mark.parametrize("options", ["initial resets", "lengths reverse"])
def test_chunks_of_steps_and_what_is_left_over(how, options):
    """37 steps of 200 examples are four chunks of eight and one of five."""
    (twin,) = by_name("gru-after")
    course = Course(37, (200,), options)
    close(first_order(twin, course, how), by_scan(twin.name, course), 1e-9)


def of_reset_state(twin, how):
    """A loss of the reset state, in which resets, padding and left-out steps fall together."""
    params, xs, options = COURSES["all"].draw(twin.cell)
    given = options.pop("reset_state")

    def loss(reset_state):
        return score(*unroll(twin.cell, params, xs, **options, reset_state=reset_state, **how))

    return loss, jax.tree.map(jnp.asarray, given)


@pytest.mark.combinations
@pairs(ENGINES, by_name("elman", "lstm", "gru-after", "gru-before", "jordan"))
def test_reset_state_has_derivatives(twin, how):
    results = []
    for engine in (how, {"engine": "scan"}):
        loss, given = of_reset_state(twin, engine)
        gradient = jax.grad(loss)
        along = jax.tree.map(jnp.cos, given)
        slope = jax.jvp(loss, (given,), (along,))[1]
        curvature = jax.jvp(gradient, (given,), (along,))[1]
        results.append((gradient(given), slope, curvature))
    close(*results)


@under(ENGINES)
def test_vmap_over_reset_states(how):
    (twin,) = by_name("lstm")
    loss, given = of_reset_state(twin, how)
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), given)
    one_by_one = [jax.grad(loss)(given), jax.grad(loss)(jax.tree.map(lambda s: 2 * s, given))]
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *one_by_one)
    close(jax.vmap(jax.grad(loss))(several), expected)


@pytest.mark.combinations
@pairs(ENGINES, by_name("pascanu", "leaky", "lstm", "gru-after", "gru-before"))
def test_every_state(twin, how):
    params, xs, options = COURSES["all"].draw(twin.cell)

    def loss(params, xs, how):
        states, ys = unroll_states(twin.cell, params, xs, **options, **how)
        return score(states, ys), (states, ys)

    both = [
        jax.jit(jax.value_and_grad(functools.partial(loss, how=h), argnums=(0, 1), has_aux=True))
        for h in (how, {"engine": "scan"})
    ]
    close(*(f(params, xs) for f in both))


def second_order(twin, how):
    """Reverse over reverse, of everything by everything, through a reset and padding."""
    loss, inputs = problem(twin, Course(4, (2,), "initial lengths resets"))

    def slopes(*inputs):
        gradient = jax.grad(lambda *given: loss(how, *given)[0], argnums=(0, 1, 2))(*inputs)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(gradient))

    return jax.jit(jax.grad(slopes, argnums=(0, 1, 2)))(*inputs)


@functools.cache
def second_order_by_scan(name):
    return second_order(*by_name(name), {"engine": "scan"})


@pytest.mark.combinations
@pairs(ENGINES, CELLS)
def test_second_derivatives(twin, how):
    close(second_order(twin, how), second_order_by_scan(twin.name))


@pytest.mark.combinations
@pairs(OWN_PASSES, by_name("lstm", "gru-after", "gru-before"))
def test_forward_over_reverse(twin, how):
    """Hessian-vector products, as optimisers of second order take them."""
    loss, inputs = problem(twin, Course(4, (2,), "initial resets"))

    def product(how, params):
        return jax.jvp(
            jax.grad(lambda p: loss(how, p, *inputs[1:])[0]), (params,), (draw(params, 3),)
        )[1]

    close(*(jax.jit(functools.partial(product, h))(inputs[0]) for h in (how, {"engine": "scan"})))


@pytest.mark.combinations
@pairs(ENGINES, by_name("pascanu", "leaky", "lstm", "gru-before"))
def test_forward_mode_alone_over_itself_and_under_reverse(twin, how):
    loss, inputs = problem(twin, Course(4, (2,), "initial lengths resets"))
    along = draw(inputs, 3)

    def slope(how, *inputs):
        return jax.jvp(lambda *given: loss(how, *given)[0], inputs, along)[1]

    def slopes(how, *inputs):
        curvature = jax.jvp(functools.partial(slope, how), inputs, along)
        return curvature, jax.grad(functools.partial(slope, how), argnums=(0, 1, 2))(*inputs)

    close(*(jax.jit(functools.partial(slopes, h))(*inputs) for h in (how, {"engine": "scan"})))


@under(OWN_PASSES)
@pytest.mark.parametrize("of", [0, 1], ids=["parameters", "inputs"])
def test_a_jacobian_forwards_is_that_backwards(of, how):
    cell = LSTM(2)
    inputs = draw_params(cell, 2), np.random.default_rng(1).normal(size=(3, 2, 2))

    def ys(*inputs):
        return unroll(cell, *inputs, **how)[1]

    close(jax.jit(jax.jacfwd(ys, of))(*inputs), jax.jit(jax.jacrev(ys, of))(*inputs))


@pytest.mark.combinations
@pytest.mark.parametrize(
    ("name", "how"),
    # Second derivatives of each cell on each engine are those of scan, see above.
    [
        ("elman", LOOPS["gates"]),
        ("lstm", LOOPS["states"]),
        ("gru-after", LOOPS["states"]),
        ("gru-before-norm", LOOPS["gates"]),
        pytest.param("lstm", NATIVE["native"], marks=needs_native),
        pytest.param("gru-after", NATIVE["native, states"], marks=needs_native),
    ],
    ids=str,
)
def test_derivatives_are_finite_differences(name, how):
    (twin,) = by_name(name)
    loss, inputs = problem(twin, Course(3, (2,), "initial resets"))
    check_grads(
        jax.jit(lambda *given: loss(how, *given)[0]),
        inputs,
        order=2,
        atol=1e-6,
        rtol=1e-6,
        eps=1e-5,
    )


@pytest.mark.combinations
@under(LOOPS)
@each(by_name("elman", "lstm", "gru-after"))
def test_float32(twin, how):
    loss, inputs = problem(twin, COURSES["all"])
    inputs = jax.tree.map(jnp.float32, inputs)
    gradient = jax.jit(
        jax.grad(lambda how, *given: loss(dict(how), *given)[0], argnums=(1, 2, 3)),
        static_argnums=0,
    )
    found, expected = (gradient(tuple(h.items()), *inputs) for h in (how, {"engine": "scan"}))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found))
    close(found, expected, 2e-5)


@pytest.mark.combinations
@under(LOOPS)
@pytest.mark.parametrize(
    "cell",
    [RNN(8, dtype=jnp.bfloat16), LSTM(8, dtype=jnp.bfloat16), GRU(8, dtype=jnp.bfloat16)],
    ids=["rnn", "lstm", "gru"],
)
def test_bfloat16_with_float32_parameters(cell, how):
    """As near to float32 as scan in bfloat16 is; parameters' gradients and states are float32."""
    params = cell.init(jax.random.key(0), 4)
    xs = jax.random.normal(jax.random.key(1), (12, 3, 4), jnp.float32)

    def gradient(how, cell):
        def loss(params, xs):
            final, ys = unroll(cell, params, xs, **how)
            return score(final, ys.astype(jnp.float32))

        return jax.jit(jax.grad(loss, argnums=(0, 1)))(params, xs)

    exact = gradient({"engine": "scan"}, type(cell)(8))
    size = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(exact))
    by_engine, plain = gradient(how, cell), gradient({"engine": "scan"}, cell)
    chex.assert_trees_all_equal_shapes_and_dtypes(by_engine, plain)
    chex.assert_trees_all_close(by_engine, exact, atol=0.04 * size)


# Layers


@pytest.mark.long
@under(LOOPS)
def test_layers_on_every_engine(how):
    cell = rnnlab.stack(
        [rnnlab.bidirectional(GRU(3)), LSTM(6, layer_norm=True), rnnlab.Readout(2)],
        residual=True,
        dropout=0.3,
    )
    params, key = draw_params(cell, INPUTS), jax.random.key(4)
    xs = np.random.default_rng(2).normal(size=(6, 3, INPUTS))
    marks = {
        "lengths": np.array([6, 2, 4]),
        "resets": np.random.default_rng(3).random((6, 3)) < 0.3,
    }

    def loss(params, xs, how):
        final, ys = unroll(cell, params, xs, key=key, **marks, **how)
        return score(final, ys), (final, ys)

    gradient = (
        jax.jit(jax.value_and_grad(functools.partial(loss, how=h), argnums=(0, 1), has_aux=True))
        for h in (how, {"engine": "scan"})
    )
    close(*(f(params, xs) for f in gradient))


# vmap


@under(OWN_PASSES)
def test_vmap_over_seeds(how):
    (twin,) = by_name("lstm")
    loss, (_, xs, start) = problem(twin, COURSES["all"])
    networks = [draw_params(twin.cell, INPUTS, seed) for seed in range(3)]
    gradient = jax.grad(lambda p: loss(how, p, xs, start)[0])
    together = jax.jit(jax.vmap(gradient))(
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)
    )
    close(
        together, jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(jax.jit(gradient), networks))
    )


def examples():
    """A loss of one example ``[T, I]``, its shared parameters, and a batch of examples."""
    (twin,) = by_name("gru-after")
    params = draw_params(twin.cell, INPUTS)
    rng = np.random.default_rng(0)
    xs, starts = (
        rng.normal(size=(50, 4, INPUTS)),
        type(twin.cell.initial_state())(rng.normal(size=(50, 3))),
    )
    lengths, resets = rng.integers(1, 5, 50), rng.random((50, 4)) < 0.3

    def loss(how, params, x, start, length, reset):
        return score(*unroll(twin.cell, params, x, start, lengths=length, resets=reset, **how))

    return loss, params, (xs, starts, lengths, resets)


@under(OWN_PASSES)
def test_vmap_over_examples_inside_the_gradient(how):
    """No array of the program has the shape of one weights' gradient for each example."""
    loss, params, batch = examples()

    def mean(params, how):
        return jax.vmap(functools.partial(loss, how, params))(*batch).mean()

    close(
        *(
            jax.jit(jax.grad(functools.partial(mean, how=h)))(params)
            for h in (how, {"engine": "scan"})
        )
    )
    program = jax.jit(jax.grad(functools.partial(mean, how=how))).lower(params).as_text()
    for weight in (params.w_x, params.w_h):
        assert "x".join(map(str, weight.shape)) in program
        assert "50x" + "x".join(map(str, weight.shape)) not in program


@under(OWN_PASSES)
def test_gradients_of_each_example_under_vmap(how):
    loss, params, batch = examples()
    axes = (None, 0, 0, 0, 0)
    found, expected = (
        jax.jit(jax.vmap(jax.grad(functools.partial(loss, h), argnums=(0, 1, 2)), axes))(
            params, *batch
        )
        for h in (how, {"engine": "scan"})
    )
    close(found, expected)


@under(OWN_PASSES)
def test_vmap_with_only_the_lengths_mapped(how):
    (twin,) = by_name("elman")
    _, (params, xs, start) = problem(twin, Course(5, (2,), ""))
    lengths = jnp.array([[5, 5], [1, 3], [2, 4]])

    def outputs(h):
        return jax.vmap(lambda n: unroll(twin.cell, params, xs, start, lengths=n, **h))(lengths)

    close(outputs(how), outputs({"engine": "scan"}))


# What is asked by name


@under(ENGINES)
def test_a_second_call_with_an_equal_cell_compiles_nothing(how):
    def run(seed):
        cell = LSTM(5, forget_bias=2.0)
        params = cell.init(jax.random.key(seed), 3)
        return jax.block_until_ready(unroll(cell, params, jnp.ones((6, 2, 3), jnp.float32), **how))

    run(0)
    with watch() as work:
        run(0)
    assert work.compiled == []


def test_a_foreign_step_has_no_fused_pass():
    step = rnnlab.Step(lambda params, h, x: (params * h + x, h), jnp.zeros(1))
    one_sentence(lambda: unroll(step, 1.0, np.ones((3, 1)), engine="fused"), "Step", "'scan'")
    stacked = rnnlab.stack([RNN(1), step])
    params = rnnlab.layers.StackParams((RNN(1).init(jax.random.key(0), 1), 1.0))
    one_sentence(lambda: unroll(stacked, params, np.ones((3, 1)), engine="fused"), "Step", "'scan'")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "fused", "residuals": "everything"}, ("residuals", "'gates'", "'states'")),
        ({"engine": "scan", "residuals": "gates"}, ("residuals", "'fused'")),
        ({"residuals": "states"}, ("residuals", "'fused'")),
        ({"engine": "fused", "segments": 3}, ("segments", "'checkpointed'")),
        ({"engine": "checkpointed", "segments": 0}, ("segments", "at least 1")),
        ({"engine": "checkpointed", "segments": 2.5}, ("segments", "an integer")),
        ({"engine": "checkpointed", "segments": ()}, ("segments", "each level")),
        ({"engine": "pallas"}, ("not built yet",)),
    ],
)
def test_options_that_do_not_fit_are_refused(options, words):
    cell = RNN(2)
    one_sentence(
        lambda: unroll(cell, cell.init(jax.random.key(0), 1), jnp.ones((3, 1)), **options), *words
    )
