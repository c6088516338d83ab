"""Lyapunov spectra against linear algebra, mean-field theory and determinants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab.cells import GRU, LSTM, RNN, RNNState
from rnnlab.diagnostics import kaplan_yorke, lyapunov_spectrum, step_jacobians
from tests.reference import close, one_sentence, watch
from tests.reference.cells import draw_params


def linear(w):
    cell = RNN(len(w), activation="identity", bias=False, param_dtype=jnp.float64)
    return cell, cell.init(jax.random.key(0), 1)._replace(w_h=jnp.asarray(w))


def chaotic(size, gain, seed=0, dtype=jnp.float32):
    """h ← g J tanh(h) with J ~ N(0, 1/N)."""
    cell = RNN(size, form="output-state", bias=False, param_dtype=dtype)
    params = cell.init(jax.random.key(0), 1)
    w = gain / np.sqrt(size) * jax.random.normal(jax.random.key(seed), (size, size), dtype)
    return cell, params._replace(w_h=w)


def test_a_linear_network_has_the_logarithms_of_its_eigenvalues():
    rng = np.random.default_rng(3)
    u = rng.normal(size=(4, 4))
    cell, params = linear(u @ np.diag([1.2, -0.9, 0.5, 0.1]) @ np.linalg.inv(u))
    found = lyapunov_spectrum(cell, params, jnp.zeros((600, 1)), warm_up=200)
    np.testing.assert_allclose(found.exponents, np.log([1.2, 0.9, 0.5, 0.1]), atol=1e-9)


def test_complex_eigenvalues_share_one_exponent():
    turn = 0.8 * np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    found = lyapunov_spectrum(*linear(turn), jnp.zeros((50, 1)))
    np.testing.assert_allclose(found.exponents, np.log(0.8), atol=1e-12)


def test_an_orthogonal_network_has_exponents_zero():
    w = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    found = lyapunov_spectrum(*linear(w), jnp.zeros((100, 1)), key=jax.random.key(0))
    np.testing.assert_allclose(found.exponents, 0, atol=1e-12)


@pytest.mark.parametrize("gain", [0.5, 0.8])
def test_below_the_transition_exponents_are_those_of_the_origin(gain):
    cell, params = chaotic(40, gain, dtype=jnp.float64)
    found = lyapunov_spectrum(cell, params, jnp.zeros((2000, 1)), warm_up=500)
    exact = np.sort(np.log(np.abs(np.linalg.eigvals(np.asarray(params.w_h)))))[::-1]
    np.testing.assert_allclose(found.exponents[:5], exact[:5], atol=0.02)
    np.testing.assert_allclose(found.exponents.sum(), exact.sum(), atol=1e-6)


def mean_field(gain):
    """λ₁ and the mean exponent of h ← g J tanh(h) as N → ∞: Gaussian averages by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    weights = weights / weights.sum()
    variance = 1.0
    for _ in range(2000):
        variance = gain**2 * weights @ np.tanh(np.sqrt(variance) * nodes) ** 2
    size = np.abs(np.sqrt(variance) * nodes)
    log_slope = 2 * (np.log(2) - size - np.log1p(np.exp(-2 * size)))  # ln(1 − tanh²), also far out
    first = np.log(gain) + 0.5 * np.log(weights @ np.exp(2 * log_slope))
    return first, np.log(gain) - 0.5 + weights @ log_slope


@pytest.mark.parametrize(("gain", "printed"), [(2.0, (0.1547, -1.149)), (3.0, None)])
def test_a_chaotic_network_has_the_exponents_of_mean_field_theory(gain, printed):
    first, mean = mean_field(gain)
    if printed:
        np.testing.assert_allclose([first, mean], printed, atol=6e-4)
    cell, params = chaotic(200, gain)
    start = cell.initial_state((4,))._replace(h=jax.random.normal(jax.random.key(5), (4, 200)))
    found = lyapunov_spectrum(cell, params, jnp.zeros((700, 4, 1)), start, burn_in=200, warm_up=100)
    np.testing.assert_allclose(found.mean[0], first, atol=0.04)  # of finite size: some 1/√N
    np.testing.assert_allclose(found.mean.mean(), mean, atol=0.04)
    assert (found.spread[:50] < 0.05).all()
    assert (found.entropy_rate > 0).all()
    assert (found.kaplan_yorke > 1).all()


CELLS = {
    "lstm": LSTM(3),
    "gru": GRU(4, reset="before", layer_norm=True),
    "stack": rnnlab.stack([LSTM(2), RNN(3, activation="sigmoid"), rnnlab.Readout(2)]),
}


@pytest.mark.parametrize("name", CELLS)
def test_exponents_add_up_to_the_mean_of_the_log_determinant(name):
    cell = CELLS[name]
    params, xs = draw_params(cell, 3), jnp.asarray(np.random.default_rng(0).normal(size=(40, 2, 3)))
    found = lyapunov_spectrum(cell, params, xs)
    n = found.exponents.shape[-1]
    assert n == sum(leaf.shape[-1] for leaf in jax.tree.leaves(cell.initial_state()))
    logs = np.linalg.slogdet(np.asarray(step_jacobians(cell, params, xs)))[1]
    np.testing.assert_allclose(found.exponents.sum(axis=-1), logs.mean(axis=0), rtol=1e-8)
    np.testing.assert_allclose(found.trace[9].sum(axis=-1), logs[:10].mean(axis=0), rtol=1e-8)
    close(found.exponents, found.trace[-1])


def test_leading_exponents_and_rarer_decompositions_change_nothing():
    cell = LSTM(4)
    params, xs = draw_params(cell, 3), jnp.asarray(np.random.default_rng(0).normal(size=(60, 3)))
    full = lyapunov_spectrum(cell, params, xs, burn_in=10, warm_up=10)
    close(
        lyapunov_spectrum(cell, params, xs, burn_in=10, warm_up=10, count=3).exponents,
        full.exponents[:3],
        1e-9,
    )
    close(
        lyapunov_spectrum(cell, params, xs, burn_in=10, warm_up=10, qr_every=5).exponents,
        full.exponents,
        1e-8,
    )


def test_the_derivative_through_the_decompositions_is_right():
    """Of λ₁ = ln g of a linear network it is 1/g; of a driven LSTM's exponents, finite differences."""
    cell, params = linear(np.diag([0.9, 0.2]))

    def first(gain):
        return lyapunov_spectrum(
            cell, params._replace(w_h=gain * params.w_h), jnp.zeros((30, 1))
        ).exponents[0]

    np.testing.assert_allclose(jax.grad(first)(1.7), 1 / 1.7, rtol=1e-10)
    lstm = LSTM(3)
    params, xs = draw_params(lstm, 2), jnp.asarray(np.random.default_rng(0).normal(size=(12, 2)))

    def squares(w_h):
        return jnp.mean(
            lyapunov_spectrum(lstm, params._replace(w_h=w_h), xs, count=2).exponents ** 2
        )

    jax.test_util.check_grads(
        squares, (params.w_h,), order=1, modes=["rev"], atol=1e-5, rtol=1e-5, eps=1e-5
    )


@pytest.mark.parametrize(
    ("exponents", "size", "dimension"),
    [
        ([0.5, 0.1, -0.4, -2.0], 4, 3 + 0.2 / 2),
        ([0.1, -0.5], 2, 1.2),
        ([-0.1, -0.5], 2, 0),
        ([0.3, 0.1], 2, 2),
        ([0.3, 0.1], 5, np.nan),
        ([0.0, -1.0], 2, 1),
    ],
)
def test_kaplan_yorke(exponents, size, dimension):
    np.testing.assert_allclose(kaplan_yorke(jnp.array(exponents), size), dimension, rtol=1e-6)


def test_nothing_is_compiled_twice():
    cell, params = chaotic(5, 1.0)
    lyapunov_spectrum(cell, params, jnp.zeros((10, 1)))
    with watch() as work:
        lyapunov_spectrum(RNN(5, form="output-state", bias=False), params, jnp.ones((10, 1)))
    assert not work.compiled


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 6}, ("count is 6", "5 numbers")),
        ({"count": 0}, ("count is 0",)),
        ({"burn_in": 10}, ("leave 0",)),
        ({"qr_every": 3}, ("multiple of qr_every = 3",)),
        ({"warm_up": -1}, ("warm_up is -1",)),
        ({"burn_in": 2.5}, ("burn_in is 2.5",)),
    ],
)
def test_bad_input(options, words):
    cell, params = chaotic(5, 1.0)
    one_sentence(lambda: lyapunov_spectrum(cell, params, jnp.zeros((10, 1)), **options), *words)


def test_inputs_may_be_closed_over_under_jit():
    cell, params = chaotic(5, 1.0, dtype=jnp.float64)
    xs = jnp.zeros((10, 1))
    found = jax.jit(lambda params: lyapunov_spectrum(cell, params, xs).exponents)(params)
    close(found, lyapunov_spectrum(cell, params, xs).exponents)


def test_numbers_that_are_not_finite_are_refused():
    cell, params = chaotic(5, 1.0)
    xs = jnp.zeros((10, 1))
    one_sentence(
        lambda: lyapunov_spectrum(cell, params, xs.at[3, 0].set(jnp.nan)), "xs holds NaN", "[3, 0]"
    )
    broken = params._replace(w_h=params.w_h.at[1, 2].set(jnp.inf))
    one_sentence(
        lambda: lyapunov_spectrum(cell, broken, xs), "params.w_h holds NaN or infinity", "[1, 2]"
    )
    start = RNNState(jnp.full(5, jnp.nan))
    one_sentence(lambda: lyapunov_spectrum(cell, params, xs, start), "the state.h holds NaN")
