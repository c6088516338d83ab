"""Ω and gradient flossing against exact values, slow twins and finite differences."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import rnnlab
from rnnlab.cells import GRU, LSTM, RNN
from rnnlab.diagnostics import lyapunov_spectrum
from rnnlab.training import flossing_loss, pascanu_omega
from tests.reference import close, one_sentence, watch
from tests.reference.cells import draw_params

pytestmark = pytest.mark.long

F64 = {"param_dtype": jnp.float64}
T, B, I = 6, 3, 4


def xs_of(shape=(T, B, I), dtype=jnp.float64, seed=1):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def last(ys):
    return jnp.sum(ys[-1])


def every(ys):
    return jnp.sum(ys[-1] ** 2) + jnp.mean(jnp.sin(ys))


@functools.partial(jax.jit, static_argnames=("cell", "loss", "ratio", "derivative"))
def value_and_slope(cell, params, xs, loss, ratio="norms", derivative="immediate"):
    return jax.value_and_grad(
        lambda p: pascanu_omega(cell, p, xs, loss, ratio=ratio, derivative=derivative)
    )(params)


def orthogonal(gain, dtype=jnp.float64):
    cell = RNN(8, activation="identity", param_dtype=dtype)
    params = cell.init(jax.random.key(0), I)
    return cell, params._replace(w_h=gain * params.w_h)


@pytest.mark.combinations
@pytest.mark.parametrize("gain", [1.0, 0.4, 1.3])
@pytest.mark.parametrize(
    ("loss", "ratio", "derivative"),
    [(every, "norms", "immediate"), (last, "squares", "immediate"), (every, "norms", "full")],
)
def test_every_step_of_a_scaled_orthogonal_linear_network_adds_the_same(
    gain, loss, ratio, derivative
):
    """Whatever the loss: T (g − 1)² or T (g² − 1)², zero for g = 1; and their slopes in g."""
    cell, params = orthogonal(gain)
    value, slope = value_and_slope(cell, params, xs_of(), loss, ratio, derivative)
    values = {"norms": T * (gain - 1) ** 2, "squares": T * (gain**2 - 1) ** 2}
    slopes = {"norms": 2 * T * (gain - 1), "squares": 4 * T * gain * (gain**2 - 1)}
    np.testing.assert_allclose(value, values[ratio], atol=1e-12)
    np.testing.assert_allclose(jnp.sum(slope.w_h * params.w_h) / gain, slopes[ratio], atol=1e-12)


@pytest.mark.combinations
@pytest.mark.parametrize("forget_bias", [-1.0, 1.0, 5.0])
def test_an_lstm_without_weights(forget_bias):
    """Each step passes σ(b) through c; the last, which the loss reaches through h, σ(b) / 2."""
    cell = LSTM(5, forget_bias=forget_bias, **F64)
    params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0), I))._replace(
        b=cell.init(jax.random.key(0), I).b
    )
    keep = 1 / (1 + math.exp(-forget_bias))
    exact = (T - 1) * (1 - keep) ** 2 + (1 - keep / 2) ** 2
    np.testing.assert_allclose(pascanu_omega(cell, params, xs_of(), last), exact, rtol=1e-12)


def by_hand(params, xs, dys, ratio):
    """Ω of Elman's tanh network and its immediate gradient by w_x, w_h and b.

    One example and one step at a time.
    """
    omega, d_x, d_h, d_b = 0.0, *(np.zeros_like(p) for p in (params.w_x, params.w_h, params.b))
    steps, batch = xs.shape[:2]
    for example in range(batch):
        h = [np.zeros(len(params.b))]
        for x in xs[:, example]:
            h.append(np.tanh(params.w_x.T @ x + params.w_h.T @ h[-1] + params.b))
        adjoint = np.zeros(len(params.b))
        for t in reversed(range(steps)):
            adjoint = adjoint + dys[t, example]
            slope = 1 - h[t + 1] ** 2
            passed = params.w_h @ (slope * adjoint)
            r = np.linalg.norm(passed) / np.linalg.norm(adjoint)
            if ratio == "norms":
                omega += (r - 1) ** 2 / batch
                u = (
                    2
                    * (r - 1)
                    * passed
                    / (np.linalg.norm(passed) * np.linalg.norm(adjoint))
                    / batch
                )
            else:
                omega += (r**2 - 1) ** 2 / batch
                u = 4 * (r**2 - 1) * passed / np.linalg.norm(adjoint) ** 2 / batch
            bend = (
                (params.w_h.T @ u) * adjoint * -2 * h[t + 1] * slope
            )  # through φ′(W_x x + W_h h + b)
            d_h += np.outer(u, slope * adjoint) + np.outer(h[t], bend)
            d_x += np.outer(xs[t, example], bend)
            d_b += bend
            adjoint = passed
    return omega, d_x, d_h, d_b


@pytest.mark.parametrize("ratio", ["norms", "squares"])
def test_value_and_immediate_gradient_are_those_worked_out_by_hand(ratio):
    cell = RNN(5, **F64)
    params, xs = draw_params(cell, I), xs_of()
    ys = rnnlab.unroll(cell, params, xs)[1]
    dys = np.asarray(jax.grad(every)(ys))
    omega, d_x, d_h, d_b = by_hand(jax.tree.map(np.asarray, params), np.asarray(xs), dys, ratio)
    value, slope = value_and_slope(cell, params, xs, every, ratio)
    np.testing.assert_allclose(value, omega, rtol=1e-10)
    chex.assert_trees_all_close(
        (slope.w_x, slope.w_h, slope.b), (d_x, d_h, d_b), rtol=1e-9, atol=1e-12
    )


def one_example(params, state, x):
    h = jnp.tanh(x @ params[0] + state["h"] @ params[1]) + 0.1 * state["slow"]
    return {"h": h, "slow": 0.9 * state["slow"] + 0.1 * h}, h[:2] * h[2:]


FOREIGN = rnnlab.Step(
    jax.vmap(one_example, in_axes=(None, 0, 0)),
    {"h": jnp.zeros(4, jnp.float64), "slow": jnp.zeros(4, jnp.float64)},
)
STACK = rnnlab.stack(
    [LSTM(3, **F64), RNN(4, activation="sigmoid", **F64), rnnlab.Readout(2, **F64)]
)
CELLS = {  # each with its output as a function of the new state
    "gru": (GRU(4, reset="before", **F64), lambda _, s: s.h),
    "stack": (STACK, lambda p, s: STACK.cells[2](p.layers[2], s.layers[1].h)),
    "foreign": (FOREIGN, lambda _, s: s["h"][..., :2] * s["h"][..., 2:]),
}


def params_of(name):
    if name == "foreign":
        return 0.7 * xs_of((I, 4), seed=5), 0.7 * xs_of((4, 4), seed=6)
    return draw_params(CELLS[name][0], I)


@functools.partial(jax.jit, static_argnames=("name", "loss"))
def slowly(name, params, xs, loss):
    """States before each step, and ∂E/∂sₜ as the gradient by a term added to sₜ after step t."""
    cell, output = CELLS[name]
    start = cell.initial_state(xs.shape[1:-1])

    def run(added):
        state, states, ys = start, [], []
        for x, more in zip(xs, added, strict=True):
            states.append(state)
            state = jax.tree.map(jnp.add, cell.step(params, state, x)[0], more)
            ys.append(output(params, state))
        return loss(jnp.stack(ys)), states

    adjoints, states = jax.grad(run, has_aux=True)([jax.tree.map(jnp.zeros_like, start)] * len(xs))
    return states, adjoints


@functools.partial(jax.jit, static_argnames="name")
def frozen(name, params, xs, states, adjoints):
    """Ω with states and adjoints given."""
    total = 0.0
    for state, x, adjoint in zip(states, xs, adjoints, strict=True):
        passed = jax.vjp(lambda s, x=x: CELLS[name][0].step(params, s, x)[0], state)[1](adjoint)[0]
        before, after = (
            jnp.linalg.norm(jnp.concatenate(jax.tree.leaves(tree), axis=-1), axis=-1)
            for tree in (passed, adjoint)
        )
        total += jnp.mean((before / after - 1) ** 2)
    return total


@pytest.mark.combinations
@pytest.mark.parametrize("name", CELLS)
def test_any_cell_has_the_value_and_the_slope_of_the_definition(name):
    """The slope in a random direction against finite differences, states and adjoints frozen."""
    cell, params, xs = CELLS[name][0], params_of(name), xs_of()
    held = slowly(name, params, xs, every)
    value, slope = value_and_slope(cell, params, xs, every)
    np.testing.assert_allclose(value, frozen(name, params, xs, *held), rtol=1e-10)
    rng = np.random.default_rng(0)
    way = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape)), params)
    there, here = (
        frozen(name, jax.tree.map(lambda p, w, e=e: p + e * w, params, way), xs, *held)
        for e in (1e-6, -1e-6)
    )
    along = sum(jax.tree.leaves(jax.tree.map(lambda g, w: jnp.sum(g * w), slope, way)))
    np.testing.assert_allclose(along, (there - here) / 2e-6, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["foreign"])
def test_the_full_derivative_is_that_of_the_value(name):
    cell, params, xs = CELLS[name][0], params_of(name), xs_of()
    value = value_and_slope(cell, params, xs, every, derivative="full")[0]
    close(value, value_and_slope(cell, params, xs, every)[0])
    omega = jax.jit(lambda params, xs: pascanu_omega(cell, params, xs, every, derivative="full"))
    check_grads(
        lambda p: omega(p, xs), (params,), order=1, modes=["rev"], atol=1e-6, rtol=1e-6, eps=1e-6
    )


@pytest.mark.parametrize("derivative", ["immediate", "full"])
def test_a_readout_in_the_loss_is_held_with_the_adjoints(derivative):
    cell = RNN(3, **F64)
    params, xs = draw_params(cell, I), xs_of()

    def omega(weights):
        return pascanu_omega(
            cell, params, xs, lambda ys: every(ys @ weights), derivative=derivative
        )

    slope = jax.grad(omega)(xs_of((3, 2)))
    assert (slope == 0).all() if derivative == "immediate" else (slope != 0).all()


def test_what_no_gradient_reaches_adds_nothing():
    """Behind the last step that the loss reads, and in examples that it leaves out."""
    cell = RNN(4, **F64)
    params, xs = draw_params(cell, I), xs_of()

    def part(ys):
        return jnp.sum(ys[2, :2] ** 2)

    alone = value_and_slope(cell, params, xs[:3, :2], part)
    close(value_and_slope(cell, params, xs, part), jax.tree.map(lambda leaf: 2 / 3 * leaf, alone))
    nothing = value_and_slope(cell, params, xs, lambda ys: 0 * last(ys))
    close(nothing, (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)))


@pytest.mark.parametrize("derivative", ["immediate", "full"])
def test_a_step_that_passes_nothing_on_adds_one_and_has_no_nan(derivative):
    cell, params = orthogonal(0.0)
    value, slope = value_and_slope(cell, params, xs_of(), last, derivative=derivative)
    assert value == 1  # nothing reaches the steps before the last
    close(slope, jax.tree.map(jnp.zeros_like, params))


@pytest.mark.parametrize("gain", [0.2, 3.0])
def test_neither_vanishing_nor_explosion_stops_it_in_float32(gain):
    """Over 500 steps the adjoint changes by 10³⁴⁹ or 10²³⁸, more than float32 can hold."""
    cell, params = orthogonal(gain, jnp.float32)
    params = params._replace(w_x=0 * params.w_x)
    value, slope = value_and_slope(cell, params, xs_of((500, 2, I), jnp.float32), last)
    assert value.dtype == slope.w_h.dtype == jnp.float32
    np.testing.assert_allclose(value, 500 * (gain - 1) ** 2, rtol=1e-4)
    np.testing.assert_allclose(jnp.sum(slope.w_h * params.w_h) / gain, 1000 * (gain - 1), rtol=1e-4)


def test_without_a_batch_it_is_that_of_one_example_and_over_seeds_it_maps():
    cell, xs = RNN(4, **F64), xs_of()
    seeds = jax.vmap(lambda key: cell.init(key, I))(jax.random.split(jax.random.key(0), 2))
    mapped = jax.vmap(lambda params: pascanu_omega(cell, params, xs, last))(seeds)
    for number in range(2):
        params = jax.tree.map(lambda leaf, number=number: leaf[number], seeds)
        each = [pascanu_omega(cell, params, xs[:, example], last) for example in range(B)]
        np.testing.assert_allclose(mapped[number], np.mean(each), rtol=1e-12)


def training(cell, weight, optimiser):
    @jax.jit
    def step(params, memory, xs, labels):
        def loss(ys):
            return rnnlab.training.losses.cross_entropy(ys[-1], labels)

        def total(params):
            omega = pascanu_omega(cell, params, xs, loss)
            return loss(rnnlab.unroll(cell, params, xs)[1]) + weight * omega, omega

        (_, omega), slope = jax.value_and_grad(total, has_aux=True)(params)
        change, memory = optimiser.update(slope, memory)
        return optax.apply_updates(params, change), memory, omega

    return step


def test_it_falls_in_training_and_is_compiled_once():
    cell = rnnlab.stack(
        [RNN(16, recurrent_init=rnnlab.initializers.gaussian_gain(0.6)), rnnlab.Readout(3)]
    )
    optimiser = optax.adam(3e-3)
    step = training(cell, 1.0, optimiser)
    params = cell.init(jax.random.key(0), I)
    labels = jnp.array([0, 1, 2])
    params, memory, first = step(
        params, optimiser.init(params), xs_of((40, B, I), jnp.float32), labels
    )
    with watch() as work:
        for seed in range(100):
            params, memory, omega = step(
                params, memory, xs_of((40, B, I), jnp.float32, seed), labels
            )
    assert "step" not in work.traced + work.compiled
    assert omega < 0.1 * first


def test_no_weight_gradient_is_formed_for_each_step():
    cell = RNN(5)
    params, xs = cell.init(jax.random.key(0), I), xs_of((7, B, I), jnp.float32)
    program = str(
        jax.make_jaxpr(jax.grad(lambda p, xs: pascanu_omega(cell, p, xs, last)))(params, xs)
    )
    assert "f32[7,3,5]" in program
    assert "f32[7,5,5]" not in program
    assert "f32[7,3,5,5]" not in program


def test_flossing_is_the_mean_square_of_the_exponents():
    cell = LSTM(3, **F64)
    params, xs = draw_params(cell, I), xs_of((12, B, I))
    options = {"burn_in": 2, "warm_up": 4, "qr_every": 2}
    exponents = lyapunov_spectrum(cell, params, xs, count=2, **options).exponents
    np.testing.assert_allclose(
        flossing_loss(cell, params, xs, count=2, **options), np.mean(exponents**2), rtol=1e-12
    )


@pytest.mark.combinations
@pytest.mark.parametrize("gain", [0.7, 1.6])
def test_flossing_a_scaled_orthogonal_network(gain):
    """All exponents are ln g, so that it is (ln g)² with the slope 2 ln g / g."""
    cell, params = orthogonal(1.0)

    def loss(gain):
        return flossing_loss(cell, params._replace(w_h=gain * params.w_h), xs_of(), count=3)

    close(jax.value_and_grad(loss)(gain), (jnp.log(gain) ** 2, 2 * jnp.log(gain) / gain))


@pytest.mark.parametrize("name", ["stack", "foreign"])
def test_the_gradient_of_flossing_is_right(name):
    cell, params, xs = CELLS[name][0], params_of(name), xs_of((8, B, I))
    loss = jax.jit(lambda params, xs: flossing_loss(cell, params, xs, count=2, qr_every=2))
    check_grads(
        lambda p: loss(p, xs), (params,), order=1, modes=["rev"], atol=1e-5, rtol=1e-5, eps=1e-6
    )


def test_flossing_brings_exponents_to_zero_and_the_gradient_back():
    """From g = ½ in float32: the gradient at lag 100 grows by more than ten orders of magnitude."""
    cell = RNN(32, recurrent_init=rnnlab.initializers.gaussian_gain(0.5))
    before = params = cell.init(jax.random.key(0), I)
    optimiser = optax.adam(5e-3)

    @jax.jit
    def step(params, memory, xs):
        value, slope = jax.value_and_grad(
            lambda p: flossing_loss(cell, p, xs, count=4, qr_every=2)
        )(params)
        change, memory = optimiser.update(slope, memory)
        return optax.apply_updates(params, change), memory, value

    memory = optimiser.init(params)
    for seed in range(150):
        params, memory, value = step(params, memory, xs_of((100, 1, I), jnp.float32, seed))
        assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    unseen = xs_of((100, 8, I), jnp.float32, seed=1000)
    first, then = (lyapunov_spectrum(cell, p, unseen, count=4).mean for p in (before, params))
    assert (first < -0.5).all()
    assert (np.abs(then) < 0.1).all()
    fallen = [rnnlab.gradient_flow(cell, p, unseen, last).log_norm_by_lag for p in (before, params)]
    assert fallen[1][-1] - fallen[1][0] > fallen[0][-1] - fallen[0][0] + 10 * math.log(10)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda cell, p, xs: pascanu_omega(cell, p, xs, last, ratio="cubes"),
            ("ratio is 'cubes'", "'norms'"),
        ),
        (
            lambda cell, p, xs: pascanu_omega(cell, p, xs, last, derivative="half"),
            ("derivative is 'half'",),
        ),
        (
            lambda cell, p, xs: pascanu_omega(cell, p, xs, lambda ys: ys[-1]),
            ("loss(ys) must be a scalar",),
        ),
        (lambda cell, p, xs: pascanu_omega(cell, p, xs[..., :2], last), ("xs has 2 features",)),
        (lambda cell, p, xs: pascanu_omega(cell, p, xs * jnp.nan, last), ("xs holds NaN",)),
        (lambda cell, p, xs: flossing_loss(cell, p, xs, count=9), ("count is 9", "8 numbers")),
    ],
)
def test_bad_input(call, words):
    one_sentence(lambda: call(*orthogonal(1.0), xs_of()), *words)


def test_a_cell_without_a_step_or_a_state_is_refused():
    both = rnnlab.bidirectional(RNN(3, **F64))
    one_sentence(
        lambda: pascanu_omega(both, both.init(jax.random.key(0), I), xs_of(), last),
        "bidirectional",
        "no step",
    )
    alone = rnnlab.Readout(3, **F64)
    one_sentence(
        lambda: pascanu_omega(alone, alone.init(jax.random.key(0), I), xs_of(), last), "no state"
    )
