"""gradient_flow against exact facts, finite differences and plain autodiff."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import rnnlab
from rnnlab.gradients.scaled import log_norm
from tests.reference.cells import CELLS, draw_params, draw_state

F64 = {"param_dtype": jnp.float64}
SIMPLE = {twin.name: twin.cell for twin in CELLS}
LAYERED = {
    "stack": rnnlab.stack([rnnlab.LSTM(4), rnnlab.GRU(4), rnnlab.Readout(2)], residual=True),
    "bidirectional": rnnlab.bidirectional(rnnlab.LSTM(4)),
    "deep": rnnlab.stack([rnnlab.bidirectional(rnnlab.GRU(3)), rnnlab.LSTM(4)]),
}
ALL = SIMPLE | LAYERED
T, B, I = 7, 3, 5
LENGTHS = jnp.array([7, 3, 1])
RESETS = jax.random.bernoulli(jax.random.key(3), 0.3, (T, B))
MASK = jax.random.bernoulli(jax.random.key(4), 0.7, (T, B))
COURSES = {
    "plain": {},
    "lengths": {"lengths": LENGTHS},
    "resets": {"resets": RESETS},
    "mask": {"mask": MASK},
    "reverse": {"reverse": True},
    "all": {"lengths": LENGTHS, "mask": MASK, "resets": RESETS, "reverse": True},
}


def loss(ys):
    return jnp.sum(ys[-1] ** 2) + jnp.mean(jnp.sin(ys))


def xs_of(shape=(T, B, I), dtype=jnp.float64):
    return jax.random.normal(jax.random.key(1), shape, dtype)


def log_norms(tree):
    return jax.tree.map(lambda a: 0.5 * jnp.log(jnp.sum(a**2, axis=tuple(range(1, a.ndim)))), tree)


@pytest.mark.combinations
@pytest.mark.parametrize(
    ("name", "course"),
    [(name, "all") for name in ALL]
    + [("lstm", course) for course in ("plain", "lengths", "resets", "mask", "reverse")],
)
def test_contributions_sum_to_the_gradient(name, course):
    cell, how = ALL[name], COURSES[course]
    params = draw_params(cell, I)
    flow = rnnlab.gradient_flow(cell, params, xs_of(), loss, keep_contributions=True, **how)
    gradient = jax.grad(lambda p: loss(rnnlab.unroll(cell, p, xs_of(), **how)[1]))(params)
    chex.assert_trees_all_close(flow.gradient, gradient, rtol=1e-10, atol=1e-13)
    summed = jax.tree.map(lambda a: a.sum(axis=0), flow.contributions)
    chex.assert_trees_all_close(summed, gradient, rtol=1e-10, atol=1e-13)
    chex.assert_trees_all_close(flow.log_contributions, log_norms(flow.contributions), rtol=1e-10)
    flat = jax.tree.map(lambda g: 0.5 * jnp.log(jnp.sum(g**2)), gradient)
    chex.assert_trees_all_close(flow.log_norm_gradient, flat, rtol=1e-10)
    chex.assert_trees_all_close(
        flow.outputs, rnnlab.unroll(cell, params, xs_of(), **how)[1], rtol=1e-12
    )
    assert bool(flow.finite)


def state_gradients(cell, params, xs, t, lengths=None):
    """∂L/∂sₜ by a cut behind step t: what follows is a function of sₜ, and so is yₜ = hₜ."""
    head = None if lengths is None else jnp.minimum(lengths, t + 1)
    state, ys = rnnlab.unroll(cell, params, xs[: t + 1], lengths=head)

    def rest(state):
        out = jnp.concatenate([ys[:-1], ys[-1:] + (state.h - jax.lax.stop_gradient(state.h))])
        if t + 1 < xs.shape[0]:
            out = jnp.concatenate([out, rnnlab.unroll(cell, params, xs[t + 1 :], state)[1]])
        return loss(out)

    return jax.grad(rest)(state)


@pytest.mark.long
@pytest.mark.parametrize("name", SIMPLE)
def test_state_norms_are_the_gradients_of_the_cut_sequence(name):
    cell = ALL[name]
    params, xs = draw_params(cell, I), xs_of()
    flow = rnnlab.gradient_flow(cell, params, xs, loss)
    for t in (0, T // 2, T - 1):
        by_hand = state_gradients(cell, params, xs, t)
        norms = jax.tree.map(lambda g: jnp.log(jnp.linalg.norm(g, axis=-1)), by_hand)
        np.testing.assert_allclose(flow.log_norm_h[t], norms.h, rtol=1e-10)
        joint = jnp.log(
            jnp.linalg.norm(jnp.concatenate(jax.tree.leaves(by_hand), axis=-1), axis=-1)
        )
        np.testing.assert_allclose(flow.log_norm_state[t], joint, rtol=1e-10)
        if hasattr(by_hand, "c"):
            np.testing.assert_allclose(flow.log_norm_c[t], norms.c, rtol=1e-10)
        else:
            assert flow.log_norm_c is None


@pytest.mark.long
def test_every_layer_of_a_stack_is_seen_as_it_is_alone():
    below, above = SIMPLE["lstm"], SIMPLE["gru-after"]
    both = rnnlab.stack([below, above])
    params, xs = draw_params(both, I), xs_of()
    flow = rnnlab.gradient_flow(both, params, xs, loss)
    middle = rnnlab.unroll(below, params.layers[0], xs)[1]
    top = rnnlab.gradient_flow(above, params.layers[1], middle, loss)
    bottom = rnnlab.gradient_flow(
        below, params.layers[0], xs, lambda ys: loss(rnnlab.unroll(above, params.layers[1], ys)[1])
    )
    np.testing.assert_allclose(
        flow.log_norm_h, jnp.stack([bottom.log_norm_h, top.log_norm_h]), rtol=1e-10
    )
    np.testing.assert_allclose(flow.log_norm_c[0], bottom.log_norm_c, rtol=1e-10)
    assert np.isneginf(flow.log_norm_c[1]).all()
    # The loss of the bottom layer alone enters at every step, and is followed from one in the
    # middle.
    np.testing.assert_allclose(flow.decay_per_step[1], top.decay_per_step, rtol=1e-10)
    assert flow.horizon[1] == top.horizon


@pytest.mark.long
def test_dropout_masks_the_gradient_as_it_masks_the_outputs():
    cell = rnnlab.stack([SIMPLE["lstm"], SIMPLE["gru-after"]], dropout=0.5)
    params, key = draw_params(cell, I), jax.random.key(5)
    flow = rnnlab.gradient_flow(cell, params, xs_of(), loss, key=key)
    gradient = jax.grad(lambda p: loss(rnnlab.unroll(cell, p, xs_of(), key=key)[1]))(params)
    chex.assert_trees_all_close(flow.gradient, gradient, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("gain", [0.5, 0.9, 1.0, 1.1])
def test_scaled_orthogonal_linear_network_has_slope_ln_gain(gain):
    cell = rnnlab.RNN(16, activation="identity", **F64)
    params = cell.init(jax.random.key(0), I)
    params = params._replace(w_h=gain * params.w_h)
    flow = rnnlab.gradient_flow(cell, params, xs_of((1000, 2, I)), lambda ys: jnp.sum(ys[-1]))
    expected = math.log(gain) * jnp.arange(1000)[::-1, None] + flow.log_norm_h[-1]
    np.testing.assert_allclose(flow.log_norm_h, expected, atol=1e-5)
    np.testing.assert_allclose(flow.decay_per_step, -math.log(gain), atol=1e-8)
    lag = math.ceil(math.log(1000) / -math.log(gain) + 1e-9) if gain < 1 else 1000
    assert flow.horizon == lag
    assert bool(flow.vanishes) == (gain < 1)


def test_orthogonal_linear_network_keeps_the_norm_in_float32_too():
    cell = rnnlab.RNN(16, activation="identity")
    params = cell.init(jax.random.key(0), I)
    flow = rnnlab.gradient_flow(
        cell, params, xs_of((1000, 2, I), jnp.float32), lambda ys: jnp.sum(ys[-1])
    )
    matrix, adjoint, expected = np.asarray(params.w_h, np.float64), np.ones(16), []
    for _ in range(1000):  # what the rounded matrix itself does, which is not exactly orthogonal
        expected.append(math.log(np.linalg.norm(adjoint)))
        adjoint = matrix @ adjoint
    assert flow.log_norm_h.dtype == jnp.float32
    np.testing.assert_allclose(
        flow.log_norm_h, np.array(expected)[::-1, None].repeat(2, 1), atol=1e-4
    )


@pytest.mark.combinations
@pytest.mark.parametrize("forget_bias", [-1.0, 1.0, math.log(99)])
def test_lstm_without_weights_forgets_by_its_bias(forget_bias):
    cell = rnnlab.LSTM(6, forget_bias=forget_bias, **F64)
    params = cell.init(jax.random.key(0), I)
    params = params._replace(w_x=0 * params.w_x, w_h=0 * params.w_h)
    flow = rnnlab.gradient_flow(cell, params, xs_of((101, 1, I)), lambda ys: jnp.sum(ys[-1]))
    per_step = math.log(1 / (1 + math.exp(-forget_bias)))
    fallen = flow.log_norm_c[:-1, 0] - flow.log_norm_c[-2, 0]
    np.testing.assert_allclose(
        fallen, per_step * np.arange(100)[::-1] * 1.0, rtol=1e-12, atol=1e-12
    )
    assert np.isneginf(
        flow.log_norm_h[:-1]
    ).all()  # nothing flows through h without recurrent weights
    if (
        forget_bias == 1.0
    ):  # the printed figure: ∂c_T/∂c_0 = σ(1)^100, over one step more than the cut shows
        np.testing.assert_allclose(math.exp(fallen[0] * 100 / 99), 2.484e-14, rtol=1e-3)


def test_a_hundred_thousand_steps_stay_finite_in_float32():
    cell = rnnlab.RNN(8)
    params = cell.init(jax.random.key(0), 2)
    params = params._replace(w_h=0.4 * params.w_h)
    flow = rnnlab.gradient_flow(
        cell, params, xs_of((100_000, 1, 2), jnp.float32), lambda ys: jnp.sum(ys[-1])
    )
    assert flow.log_norm_h.dtype == jnp.float32
    assert np.isfinite(flow.log_norm_h).all()
    assert flow.log_norm_h[0, 0] < -9e4
    assert np.isfinite(flow.log_contributions.w_h[1:]).all()
    assert bool(flow.finite)
    assert flow.horizon < 20


def test_scaling_agrees_with_64_bits_where_those_reach():
    cell, xs = rnnlab.RNN(8), xs_of((300, 2, 3), jnp.float32)
    params = cell.init(jax.random.key(0), 3)
    params = params._replace(w_h=0.5 * params.w_h)
    low = rnnlab.gradient_flow(cell, params, xs, lambda ys: jnp.sum(ys[-1]))
    params64 = jax.tree.map(lambda p: p.astype(jnp.float64), params)
    high = rnnlab.gradient_flow(
        rnnlab.RNN(8, **F64), params64, xs.astype(jnp.float64), lambda ys: jnp.sum(ys[-1])
    )
    np.testing.assert_allclose(low.log_norm_h, high.log_norm_h, rtol=1e-5)
    assert high.log_norm_h[0, 0] < math.log(np.finfo(np.float32).tiny)


def test_an_exploding_gradient_overflows_nothing():
    cell = rnnlab.RNN(8, activation="identity", kernel_init=rnnlab.initializers.zeros)
    params = cell.init(jax.random.key(0), 3)
    params = params._replace(w_h=3 * params.w_h)
    flow = rnnlab.gradient_flow(
        cell, params, xs_of((500, 1, 3), jnp.float32), lambda ys: jnp.sum(ys[-1])
    )
    np.testing.assert_allclose(flow.decay_per_step, -math.log(3), rtol=1e-5)
    assert np.isinf(flow.gradient.b).any()
    np.testing.assert_allclose(flow.log_norm_gradient.b, flow.log_contributions.b[0], atol=0.5)
    assert bool(flow.finite)
    assert flow.horizon == 500
    assert not flow.vanishes


@pytest.mark.long
@pytest.mark.parametrize("name", ["lstm", "gru-before-norm", "stack"])
def test_second_derivatives(name):
    cell = ALL[name]
    params, xs = draw_params(cell, I), xs_of()

    def by_flow(params):
        flow = rnnlab.gradient_flow(cell, params, xs, loss)
        return sum(jnp.sum(g**2) for g in jax.tree.leaves(flow.gradient))

    def plainly(params):
        gradient = jax.grad(lambda p: loss(rnnlab.unroll(cell, p, xs)[1]))(params)
        return sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient))

    chex.assert_trees_all_close(
        jax.grad(by_flow)(params), jax.grad(plainly)(params), rtol=1e-9, atol=1e-12
    )


@pytest.mark.long
def test_log_norms_are_differentiable():
    cell = SIMPLE["lstm"]
    params, xs = draw_params(cell, I), xs_of()

    def measured(params):
        flow = rnnlab.gradient_flow(cell, params, xs, loss)
        return jnp.sum(flow.log_norm_h) + flow.decay_per_step + flow.log_contributions.w_x[0]

    check_grads(measured, (params,), order=1, modes=["rev"], rtol=1e-6, atol=1e-6, eps=1e-5)


def test_finite_differences():
    cell, h, t = SIMPLE["gru-after"], 1e-6, 2
    params, xs = draw_params(cell, I), xs_of()
    flow = rnnlab.gradient_flow(cell, params, xs, lambda ys: jnp.sum(ys[-1] ** 2))
    state = rnnlab.unroll(cell, params, xs[: t + 1])[0].h
    slopes = np.zeros((B, 4))
    for b, j in np.ndindex(B, 4):
        up, down = (
            jnp.sum(
                rnnlab.unroll(
                    cell, params, xs[t + 1 :], type(rnnlab.unroll(cell, params, xs)[0])(s)
                )[1][-1]
                ** 2
            )
            for s in (state.at[b, j].add(h), state.at[b, j].add(-h))
        )
        slopes[b, j] = (up - down) / (2 * h)
    np.testing.assert_allclose(
        flow.log_norm_h[t], np.log(np.linalg.norm(slopes, axis=-1)), rtol=1e-7
    )


@pytest.mark.long
def test_padding_carries_no_gradient_and_lags_count_from_each_length():
    cell = SIMPLE["elman"]
    params, xs = draw_params(cell, I), xs_of()
    flow = rnnlab.gradient_flow(
        cell,
        params,
        xs.at[5, 1].set(jnp.nan),
        loss_of_all := lambda ys: jnp.sum(ys**2),
        lengths=LENGTHS,
    )
    assert bool(flow.finite)
    for b, length in enumerate(LENGTHS):
        alone = rnnlab.gradient_flow(cell, params, xs[:length, b], loss_of_all)
        np.testing.assert_allclose(flow.log_norm_h[:length, b], alone.log_norm_h, rtol=1e-10)
        assert np.isneginf(flow.log_norm_h[length:, b]).all()
    for b, length in enumerate(LENGTHS):
        assert flow.examples.loss_steps[b] == length
        assert flow.examples.lags[b] == flow.examples.loss_step[b] + 1 <= length


@pytest.mark.long
@pytest.mark.parametrize("name", ["lstm", "gru-after", "leaky"])
def test_a_step_that_a_mask_leaves_out_carries_the_gradient_over(name):
    """Two steps at the start, three in the middle and one at the end are left out."""
    cell = SIMPLE[name]
    params, xs = draw_params(cell, I), xs_of((12, B, I))
    counts = np.ones(12, bool)
    counts[[0, 1, 4, 5, 6, 11]] = False
    mask = jnp.broadcast_to(counts[:, None], (12, B))

    def loss_of_one(ys, step):
        return jnp.sum(ys[step] ** 2)

    flow = rnnlab.gradient_flow(cell, params, xs, loss_of_one, 10, mask=mask)
    alone = rnnlab.gradient_flow(cell, params, xs[counts], loss_of_one, 5)
    np.testing.assert_allclose(flow.log_norm_state[counts], alone.log_norm_state, rtol=1e-9)
    for left_out in (4, 5, 6):
        np.testing.assert_allclose(flow.log_norm_state[left_out], alone.log_norm_state[1])
    np.testing.assert_allclose(flow.log_norm_h0, alone.log_norm_h0, rtol=1e-9)
    # Lags end at the first step that counts.
    assert (flow.examples.lags == 9).all()
    assert np.isfinite(flow.log_norm_by_lag[:9]).all()


def test_gradient_flow_follows_the_reset_state():
    cell = SIMPLE["lstm"]
    params, xs = draw_params(cell, I), xs_of()
    reset_state = draw_state(cell, (B,))
    marks = {"resets": RESETS, "reset_state": reset_state}
    flow = rnnlab.gradient_flow(cell, params, xs, loss, **marks)
    gradient = jax.grad(lambda p: loss(rnnlab.unroll(cell, p, xs, **marks)[1]))(params)
    chex.assert_trees_all_close(flow.gradient, gradient, rtol=1e-10)


def test_a_reset_stops_the_gradient():
    cell = SIMPLE["lstm"]
    params = draw_params(cell, I)
    resets = jnp.zeros((T, B), bool).at[4].set(True)
    flow = rnnlab.gradient_flow(cell, params, xs_of(), lambda ys: jnp.sum(ys[-1]), resets=resets)
    assert np.isneginf(flow.log_norm_state[:4]).all()
    assert np.isfinite(flow.log_norm_state[4:]).all()
    assert flow.lags == T - 4
    assert not flow.vanishes


def test_a_nan_is_flagged_and_raises_nothing():
    cell = SIMPLE["gru-after"]
    params = draw_params(cell, I)
    assert not bool(
        rnnlab.gradient_flow(cell, params, xs_of().at[2, 1, 0].set(jnp.nan), loss).finite
    )
    assert not bool(
        rnnlab.gradient_flow(cell, params, xs_of().at[2, 1, 0].set(jnp.inf), loss).finite
    )


def test_seeds_in_one_vmapped_program():
    cell = SIMPLE["lstm"]
    params = jax.tree.map(
        lambda *p: jnp.stack(p), *(draw_params(cell, I, seed) for seed in range(3))
    )
    flows = jax.jit(jax.vmap(lambda p: rnnlab.gradient_flow(cell, p, xs_of(), loss)))(params)
    for seed in range(3):
        one = rnnlab.gradient_flow(
            cell, jax.tree.map(lambda p, seed=seed: p[seed], params), xs_of(), loss
        )
        np.testing.assert_allclose(flows.log_norm_h[seed], one.log_norm_h, rtol=1e-10)
        assert flows.horizon[seed] == one.horizon


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            lambda p: rnnlab.gradient_flow(SIMPLE["elman"], p, xs_of(), lambda ys: ys[-1]),
            "must be a scalar",
        ),
        (
            lambda p: rnnlab.gradient_flow(SIMPLE["elman"], p, xs_of()[..., :2], loss),
            "xs has 2 features",
        ),
        (
            lambda p: rnnlab.gradient_flow(SIMPLE["elman"], p, xs_of(), loss, jnp.zeros(4)),
            "options such as initial_state by name",
        ),
        (
            lambda p: rnnlab.gradient_flow(SIMPLE["elman"], p, xs_of(), loss, lengths=[8, 1, 1]),
            "must lie in 0..7",
        ),
        (lambda p: rnnlab.gradient_flow(SIMPLE["elman"], p, xs_of()[:0], loss), "no time steps"),
    ],
)
def test_faults_are_one_sentence(fault, words):
    with pytest.raises(ValueError, match=words) as caught:
        fault(draw_params(SIMPLE["elman"], I))
    assert "\n" not in str(caught.value)


def test_a_cell_without_a_state_is_refused():
    readout = rnnlab.Readout(2, **F64)
    with pytest.raises(ValueError, match="has no state"):
        rnnlab.gradient_flow(readout, readout.init(jax.random.key(0), I), xs_of(), loss)


def test_a_state_without_batch_axes_is_refused():
    step = rnnlab.Step(lambda p, s, x: (s + p * x.sum(), x), lambda _: jnp.zeros(()))
    with pytest.raises(ValueError, match="lacks the batch axes"):
        rnnlab.gradient_flow(step, jnp.float64(1), xs_of(), loss)


def test_parameters_that_have_no_gradient_are_refused():
    step = rnnlab.Step(lambda p, s, x: (s + p["count"] * x, s), jnp.zeros(I))
    with pytest.raises(ValueError, match=r"count.* has no gradient"):
        rnnlab.gradient_flow(step, {"count": jnp.int32(1)}, xs_of(), loss)


@pytest.mark.combinations
@pytest.mark.parametrize("size", [3e-38, 1e-20, 1.0, 1e20, 3.3e38])
def test_log_norms_hold_over_the_whole_range_of_float32(size):
    numbers = np.array([0.5, -1.0, 0.0, 1.0], np.float32) * np.float32(size)
    exact = math.log(1.5 * size)
    for exponent in (-1000, 0, 1000):
        got = log_norm(jnp.asarray(numbers[[0, 1, 3]]), jnp.int32(exponent), 0)
        np.testing.assert_allclose(got, exact + exponent * math.log(2), rtol=3e-7, atol=1e-5)
    assert log_norm(jnp.array([jnp.inf, 1.0], jnp.float32), jnp.int32(0), 0) == jnp.inf
