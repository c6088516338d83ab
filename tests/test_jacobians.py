"""Jacobians and their products against NumPy, exact facts and arithmetic of many digits."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import rnnlab
from rnnlab.cells import GRU, LSTM, RNN, Step
from rnnlab.diagnostics import jacobian_products, pascanu_bound, step_jacobians
from tests.reference import one_sentence, watch
from tests.reference.cells import draw_params

CELLS = {
    "rnn": RNN(4),
    "lstm": LSTM(3, peephole=True),
    "gru": GRU(4, reset="before"),
    "stack": rnnlab.stack([LSTM(2), GRU(3), rnnlab.Readout(2)]),
    "step": Step(
        lambda w, s, x: ({"a": jnp.tanh(s["b"] @ w), "b": s["a"] + x[..., :3]}, s["a"]),
        {"a": jnp.zeros(3), "b": jnp.ones(3)},
    ),
}
T, B, I = 6, 2, 3
PAIRS = [(5, 4), (5, 3), (5, 0), (1, 0), (3, 0), (6, 2)]


def problem(name, steps=T):
    cell = CELLS[name]
    rng = np.random.default_rng(0)
    params = rng.normal(size=(3, 3)) if name == "step" else draw_params(cell, I)
    return cell, params, jnp.asarray(rng.normal(size=(steps, B, I)))


def vector(state, example):
    return np.concatenate([np.ravel(leaf[example]) for leaf in jax.tree.leaves(state)])


@pytest.mark.combinations
@pytest.mark.parametrize("name", CELLS)
def test_step_jacobians_are_finite_differences(name):
    cell, params, xs = problem(name)
    jacobians = step_jacobians(cell, params, xs)
    states, _ = rnnlab.unroll_states(cell, params, xs, engine="scan")
    leaves, tree = jax.tree.flatten(
        jax.tree.map(lambda leaf: np.array(leaf[2]), states)
    )  # before step 3
    n, column = jacobians.shape[-1], 0
    for leaf in leaves:
        for place in range(leaf.shape[-1]):
            sides = []
            for shift in (1e-6, -1e-6):
                moved = [np.array(other) for other in leaves]
                next(m for m, other in zip(moved, leaves, strict=True) if other is leaf)[
                    ..., place
                ] += shift
                sides.append(cell.step(params, jax.tree.unflatten(tree, moved), xs[3])[0])
            for example in range(B):
                slope = (vector(sides[0], example) - vector(sides[1], example)) / 2e-6
                np.testing.assert_allclose(jacobians[3, example, :, column], slope, atol=1e-8)
            column += 1
    assert column == n


@pytest.mark.combinations
@pytest.mark.parametrize("name", CELLS)
def test_products_have_the_singular_values_of_the_multiplied_jacobians(name):
    cell, params, xs = problem(name)
    jacobians = np.asarray(step_jacobians(cell, params, xs))
    found = jacobian_products(cell, params, xs, pairs=PAIRS)
    np.testing.assert_array_equal(found.pairs, PAIRS)
    np.testing.assert_array_equal(found.lags, [1, 2, 5, 1, 3, 4])
    for p, (t, k) in enumerate(PAIRS):
        for example in range(B):
            product = np.linalg.multi_dot(
                [np.eye(jacobians.shape[-1]), *jacobians[k:t, example][::-1]]
            )
            values = np.linalg.svd(product, compute_uv=False)
            sure = values > 1e-9 * values[0]
            np.testing.assert_allclose(
                np.exp(found.log_singular_values[p, example])[sure], values[sure], rtol=1e-5
            )
            np.testing.assert_allclose(
                found.log_frobenius[p, example], np.log(np.linalg.norm(product)), rtol=1e-9
            )
    middle = np.median(found.log_singular_values, axis=1)
    np.testing.assert_allclose(found.median_log_singular_values, middle)


def after(t, *lags):
    return [(t, t - lag) for lag in lags]


def linear(w, dtype=jnp.float64):
    cell = RNN(len(w), activation="identity", bias=False, param_dtype=dtype)
    params = cell.init(jax.random.key(0), 1)._replace(w_h=jnp.asarray(w, dtype))
    return cell, params


def test_singular_values_over_ten_thousand_steps_neither_underflow_nor_overflow():
    """A linear network with W = U diag(d) Uᵀ: σᵢ = |dᵢ|^ℓ, here from e^−23026 to e^953."""
    d = np.array([1.1, 1.0, 0.9, 0.5, 0.1])
    u = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    cell, params = linear(u * d @ u.T)
    found = jacobian_products(
        cell, params, jnp.zeros((10_000, 1)), pairs=after(10_000, 1, 100, 10_000)
    )
    np.testing.assert_allclose(
        found.log_singular_values, np.outer([1, 100, 10_000], np.log(d)), rtol=1e-9, atol=1e-6
    )
    np.testing.assert_allclose(found.log_condition[-1], 10_000 * np.log(11), rtol=1e-9)


def test_a_long_product_of_different_matrices_is_right_in_every_digit():
    """Against the same product with 400 digits."""
    cell, params, xs = problem("gru", 300)
    jacobians = np.asarray(step_jacobians(cell, params, xs))[:, 0]
    with mp.workdps(400):
        product = mp.eye(4)
        for jacobian in jacobians:
            product = mp.matrix(jacobian.tolist()) * product
        exact = [float(mp.log(s)) for s in mp.svd_r(product, compute_uv=False)]
    found = jacobian_products(cell, params, xs, pairs=[(300, 0)])
    np.testing.assert_allclose(found.log_singular_values[0, 0], exact, rtol=1e-6, atol=1e-4)


def test_an_orthogonal_linear_network_keeps_all_singular_values_at_one():
    w = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    cell, params = linear(w)
    found = jacobian_products(cell, params, jnp.zeros((1000, 1)))
    np.testing.assert_allclose(found.log_singular_values, 0, atol=1e-9)


def test_a_singular_product_has_condition_infinity():
    cell, params = linear(np.diag([2.0, 0.0, 1.0]))
    found = jacobian_products(cell, params, jnp.zeros((4, 1)), pairs=[(4, 3), (4, 0)])
    np.testing.assert_allclose(
        found.log_singular_values[:, :2], [[np.log(2), 0], [4 * np.log(2), 0]], atol=1e-12
    )
    assert np.isneginf(found.log_singular_values[:, 2]).all()
    assert np.isposinf(found.log_condition).all()


@pytest.mark.long
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_singular_values_that_are_zero_do_not_come_back_as_rounding(dtype):
    """An LSTM from zeros, whose h follows from c; a matrix of low rank; a nilpotent shift."""
    lstm = LSTM(16, param_dtype=dtype)
    params = lstm.init(jax.random.key(0), 3)
    found = jacobian_products(lstm, params, jnp.zeros((20, 3), dtype), pairs=after(20, 1, 20))
    assert np.isfinite(found.log_singular_values[:, :16]).all()
    assert np.isneginf(found.log_singular_values[:, 16:]).all()
    left = np.random.default_rng(0).normal(size=(30, 4))
    low = jacobian_products(
        *linear(left @ left.T / 30, dtype), jnp.zeros((20, 1), dtype), pairs=after(20, 20)
    )
    exact = 20 * np.log(np.linalg.svd(left @ left.T / 30, compute_uv=False)[:4])
    np.testing.assert_allclose(low.log_singular_values[0, :4], exact, atol=1e-3)
    assert np.isneginf(low.log_singular_values[0, 4:]).all()
    shift = jacobian_products(
        *linear(np.eye(9, k=1), dtype), jnp.zeros((10, 1), dtype), pairs=after(10, 1, 5, 10)
    )
    np.testing.assert_array_equal(np.isfinite(shift.log_singular_values).sum(axis=1), [8, 4, 0])
    assert np.isposinf(shift.log_condition).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_relus_leave_the_rank_of_the_product(dtype):
    cell = RNN(16, activation="relu", param_dtype=dtype)
    params, xs = (
        cell.init(jax.random.key(0), 3),
        jax.random.normal(jax.random.key(1), (20, 3), dtype),
    )
    jacobians = np.asarray(step_jacobians(cell, params, xs), float)
    found = jacobian_products(cell, params, xs, pairs=after(20, 1, 5, 20))
    for lag, values in zip((1, 5, 20), found.log_singular_values, strict=True):
        product = np.linalg.multi_dot([np.eye(16), *jacobians[20 - lag :][::-1], np.eye(16)])
        assert np.isfinite(values).sum() == np.linalg.matrix_rank(product)


@pytest.mark.parametrize(("dtype", "size"), [(jnp.float64, -30.0), (jnp.float32, -14.0)])
def test_singular_values_that_are_merely_small_are_kept(dtype, size):
    u = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    rates = np.array([0.0, -0.2, -1.0, size])
    for w in (np.diag(np.exp(rates)), u * np.exp(rates) @ u.T):
        cell, params = linear(w, dtype)
        found = jacobian_products(cell, params, jnp.zeros((50, 1), dtype), pairs=after(50, 50))
        np.testing.assert_allclose(found.log_singular_values[0], 50 * rates, rtol=0.01, atol=1e-3)


def test_one_singular_example_does_not_decide_for_the_batch():
    cell = Step(lambda w, h, x: (x * (h @ w), h), jnp.zeros(2))
    xs = jnp.ones((5, 3, 1)).at[2, 1].set(0)
    found = jacobian_products(cell, jnp.diag(jnp.array([0.9, 0.5])), xs, pairs=[(5, 0)])
    assert np.isneginf(found.log_singular_values[0, 1]).all()
    np.testing.assert_allclose(
        found.median_log_singular_values[0], 5 * np.log([0.9, 0.5]), rtol=1e-6
    )
    alone = jacobian_products(cell, jnp.eye(2), xs[:, 0], pairs=[(5, 0)])
    np.testing.assert_array_equal(alone.median_log_singular_values, alone.log_singular_values)
    assert str(alone).startswith("JacobianProducts: over 5 steps a gradient changes")


@pytest.mark.combinations
@pytest.mark.parametrize(("activation", "gamma"), [("tanh", 1), ("sigmoid", 0.25), ("relu", 1)])
@pytest.mark.parametrize("form", ["elman", "output-state"])
def test_the_bound_holds_and_says_which_condition_does(activation, gamma, form):
    rng = np.random.default_rng(2)
    for gain in (0.3, 1.5, 4.5):
        cell = RNN(8, activation=activation, form=form, param_dtype=jnp.float64)
        params = cell.init(jax.random.key(0), I)._replace(
            w_h=jnp.asarray(gain * rng.normal(size=(8, 8)) / np.sqrt(8))
        )
        found = pascanu_bound(cell, params, jnp.asarray(rng.normal(size=(50, B, I))))
        sigma = np.linalg.norm(np.asarray(params.w_h), 2)
        np.testing.assert_allclose(found.log_bound, found.lags * np.log(gamma * sigma), rtol=1e-9)
        assert (found.log_norm <= found.log_bound[:, None] + 1e-9).all()
        assert bool(found.vanishing) == (gamma * sigma < 1)
        assert bool(found.exploding) == (gamma * sigma > 1)


@pytest.mark.long
def test_gaussian_weights_have_twice_the_singular_value_that_they_have_as_radius():
    cell = RNN(600)
    params = cell.init(jax.random.key(0), 1)
    params = params._replace(
        w_h=0.7 * jax.random.normal(jax.random.key(1), (600, 600)) / np.sqrt(600)
    )
    found = pascanu_bound(cell, params, jnp.zeros((2, 1)), pairs=[(2, 1)])
    np.testing.assert_allclose([found.sigma_max, found.spectral_radius], [1.4, 0.7], rtol=0.05)


def test_nothing_is_compiled_twice():
    cell, params, xs = problem("lstm")
    jacobian_products(cell, params, xs, pairs=[(6, 5), (6, 3)])
    others = xs + 1
    with watch() as work:
        jacobian_products(LSTM(3, peephole=True), params, others, pairs=((6, 5), (6, 3)))
    assert not work.compiled


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        ([(7, 0)], "t of a pair is 7, but xs has 6 steps"),
        ([(0, 0)], "t of a pair is 0"),
        ([(3, 3)], "give k < t"),
        ([(3, -1)], "k of a pair is -1"),
        ([(3, 1), (3, 1)], "each only once"),
        ([3], "give two integers"),
        ([], "give at least one"),
    ],
)
def test_bad_pairs(pairs, sentence):
    cell, params, xs = problem("rnn")
    one_sentence(lambda: jacobian_products(cell, params, xs, pairs=pairs), sentence)
