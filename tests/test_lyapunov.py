"""Lyapunov spectra against linear algebra, known maps, mean-field theory and determinants."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab.cells import GRU, LSTM, RNN, RNNState
from rnnlab.diagnostics import (
    LyapunovSpectrum,
    entropy_rate,
    kaplan_yorke,
    lyapunov_spectrum,
    step_jacobians,
)
from rnnlab.diagnostics.state.exponents import Decompositions, summarise
from tests.reference import close, one_sentence, watch
from tests.reference.cells import draw_params


def linear(w, dtype=jnp.float64):
    cell = RNN(len(w), activation="identity", bias=False, param_dtype=dtype)
    return cell, cell.init(jax.random.key(0), 1)._replace(w_h=jnp.asarray(w, dtype))


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


def matrix(eigenvalues, *, normal, seed=0):
    """With these eigenvalues, and orthogonal eigenvectors or any."""
    size = len(eigenvalues)
    u = np.random.default_rng(seed).normal(size=(size, size))
    u = np.linalg.qr(u)[0] if normal else u
    return u * eigenvalues @ np.linalg.inv(u)


# Directions are turned first


LARGEST_ONE = np.linspace(-0.98, 1, 64)  # the next ones are 0.98 and, in size, 0.97 away from it


@pytest.mark.parametrize("steps", [30, 100, 1000])
@pytest.mark.parametrize("normal", [True, False])
def test_the_first_exponent_of_a_linear_network_is_exact_in_few_steps(normal, steps):
    cell, params = linear(matrix(LARGEST_ONE, normal=normal))
    found = lyapunov_spectrum(cell, params, jnp.zeros((steps, 1)), count=1)
    np.testing.assert_allclose(found.exponents, 0, atol=1e-8)
    unturned = lyapunov_spectrum(cell, params, jnp.zeros((steps, 1)), count=1, warm_up=0)
    assert unturned.exponents[0] < -1 / steps or not normal


@pytest.mark.parametrize("normal", [True, False])
def test_all_exponents_of_a_linear_network_are_exact_in_ten_steps(normal):
    values = 1.1 * 0.8 ** np.arange(12) * np.resize([1, -1], 12)
    cell, params = linear(matrix(values, normal=normal))
    found = lyapunov_spectrum(cell, params, jnp.zeros((10, 1)))
    np.testing.assert_allclose(found.exponents, np.log(np.abs(values)), atol=1e-8)
    np.testing.assert_allclose(found.blocks, np.broadcast_to(found.exponents, (3, 12)), atol=1e-7)


def test_independent_units_are_all_seen():
    """Unit vectors would be directions of their own, and the first of them is not the slowest."""
    cell, params = linear(np.diag([0.3, 0.9, 0.5, 1.2]))
    found = lyapunov_spectrum(cell, params, jnp.zeros((5, 1)), count=2)
    np.testing.assert_allclose(found.exponents, np.log([1.2, 0.9]), atol=1e-12)


def test_a_hundred_steps_of_a_gru_with_slow_units_are_as_good_as_two_thousand():
    """As trained ones have: unturned directions fade before the slow ones are left."""
    cell = GRU(32, param_dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 2)
    keep = jnp.linspace(-1, 4, 32)  # the bias of the gate that copies the state
    params = params._replace(b=params.b.at[32:64].set(keep), w_h=0.5 * params.w_h)
    xs = jax.random.normal(jax.random.key(1), (2000, 4, 2), jnp.float64)
    long = lyapunov_spectrum(cell, params, xs, count=1)
    short = lyapunov_spectrum(cell, params, xs[:100], count=1)
    unturned = lyapunov_spectrum(cell, params, xs[:100], count=1, warm_up=0)
    assert abs(short.mean[0] - long.mean[0]) < 0.002
    assert unturned.mean[0] < long.mean[0] - 0.01


def test_directions_turn_along_the_burn_in():
    cell = LSTM(3)
    params, xs = draw_params(cell, 2), jnp.asarray(np.random.default_rng(0).normal(size=(1130, 2)))
    along = lyapunov_spectrum(cell, params, xs, burn_in=1100, qr_every=2)
    close(along, lyapunov_spectrum(cell, params, xs, burn_in=100, warm_up=1000, qr_every=2))


def test_fewer_exponents_are_the_first_of_all():
    cell = LSTM(4)
    params, xs = draw_params(cell, 3), jnp.asarray(np.random.default_rng(0).normal(size=(60, 2, 3)))
    full = lyapunov_spectrum(cell, params, xs, warm_up=0)
    few = lyapunov_spectrum(cell, params, xs, warm_up=0, count=3)
    np.testing.assert_allclose(few.trace[0].sum(-1), full.trace[0, :, :3].sum(-1), rtol=1e-9)
    for found in (full, few):
        assert (np.diff(found.exponents, axis=-1) <= 0).all()
        np.testing.assert_array_equal(found.exponents, found.trace[-1])


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


@pytest.mark.long
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


@pytest.mark.combinations
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


@pytest.mark.long
def test_the_derivative_through_the_decompositions_is_right():
    """1/g for λ₁ = ln g of a linear network; finite differences for a driven LSTM's exponents."""
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


def test_turned_directions_are_differentiated_and_mapped():
    lstm = LSTM(3)
    params, xs = draw_params(lstm, 2), jnp.asarray(np.random.default_rng(0).normal(size=(12, 2)))

    @jax.jit
    def exponents(w_h):
        return lyapunov_spectrum(lstm, params._replace(w_h=w_h), xs, count=2, qr_every=2).exponents

    jax.test_util.check_grads(
        exponents, (params.w_h,), order=1, modes=["rev"], atol=1e-5, rtol=1e-5, eps=1e-5
    )
    stacked = jnp.stack([params.w_h, 1.2 * params.w_h])
    close(jax.vmap(exponents)(stacked), jnp.stack([exponents(w_h) for w_h in stacked]))


# What rounding leaves of nothing


@pytest.mark.combinations
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_directions_that_are_annihilated_have_no_exponent(dtype):
    """From zeros an LSTM's h follows from its c; a matrix of low rank is symmetric or general."""
    lstm = LSTM(16, param_dtype=dtype)
    found = lyapunov_spectrum(lstm, lstm.init(jax.random.key(0), 3), jnp.zeros((50, 3), dtype))
    assert np.isfinite(found.exponents[:16]).all()
    assert np.isneginf(found.exponents[16:]).all()
    assert np.isneginf(found.blocks[:, 16:]).all()
    assert not found.spread.any()
    assert not found.standard_error[16:].any()
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 40, 3))
    for w in (left @ left.T / 40, left @ right.T / 10):
        found = lyapunov_spectrum(*linear(w, dtype), jnp.zeros((50, 1), dtype))
        exact = np.sort(np.log(np.abs(np.linalg.eigvals(w))))[::-1][:3]
        np.testing.assert_allclose(found.exponents[:3].sum(), exact.sum(), atol=0.02)
        assert np.isneginf(found.exponents[3:]).all()


def test_rounding_of_a_large_state_does_not_hide_that_a_direction_is_annihilated():
    # Lengths of the sixth direction of 20 units in two steps where five ReLUs were on. With a limit
    # of 4 ε the second was merely close to being lost, and the exponent was finite.
    lengths = np.full((60, 1), 0.3)
    lengths[[3, 12], 0] = 2.27e-16, 1.31e-15
    measured = Decompositions(
        jnp.asarray(lengths), jnp.ones(60, lengths.dtype), jnp.zeros(60, bool)
    )
    found = summarise(measured, zero=1e-3, size=20, blocks=5, qr_every=1)
    assert np.isneginf(found.exponents).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_relus_that_are_off_annihilate_what_the_product_has_no_rank_for(dtype):
    cell = RNN(20, activation="relu", param_dtype=dtype)
    params = cell.init(jax.random.key(0), 3)
    xs = jax.random.normal(jax.random.key(1), (60, 3), dtype)
    found = lyapunov_spectrum(cell, params, xs)
    on = np.asarray(rnnlab.unroll(cell, params, xs)[1] > 0).sum(axis=-1)
    assert np.isneginf(found.exponents[on.min() :]).all()
    assert np.isfinite(found.exponents[0])


@pytest.mark.parametrize(
    ("dtype", "kept", "lost"), [(jnp.float64, -30, -36), (jnp.float32, -14, -16)]
)
@pytest.mark.parametrize("turned", [False, True])
def test_merely_small_exponents_are_kept_down_to_the_rounding_of_a_step(dtype, kept, lost, turned):
    u = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0] if turned else np.eye(4)
    for exponent in (kept, lost):
        values = np.array([0.0, -0.2, -1.0, exponent])
        cell, params = linear(u * np.exp(values) @ u.T, dtype)
        found = lyapunov_spectrum(cell, params, jnp.zeros((100, 1), dtype))
        values[-1] = values[-1] if exponent == kept else -np.inf
        np.testing.assert_allclose(found.exponents, values, atol=0.05)


def test_saturated_units_are_small_and_not_annihilated():
    """At g = 3, 1 − tanh² is often below float32 rounding: the last exponents stay finite."""
    cell, params = chaotic(100, 3.0)
    start = cell.initial_state()._replace(h=jax.random.normal(jax.random.key(5), (100,)))
    options = {"burn_in": 100, "warm_up": 50}
    single = lyapunov_spectrum(cell, params, jnp.zeros((350, 1)), start, **options)
    double = RNN(100, form="output-state", bias=False, param_dtype=jnp.float64)
    exact = lyapunov_spectrum(
        double,
        *jax.tree.map(lambda leaf: leaf.astype(float), (params, jnp.zeros((350, 1)), start)),
        **options,
    )
    np.testing.assert_allclose(single.mean.mean(), exact.mean.mean(), atol=0.05)
    np.testing.assert_allclose(single.exponents[-1], exact.exponents[-1], rtol=0.15)


def test_one_example_that_dies_is_told_apart():
    cell = rnnlab.Step(lambda w, h, x: (x * h @ w, h), jnp.zeros(2))
    xs = jnp.ones((20, 3, 1)).at[5, 1].set(0)
    found = lyapunov_spectrum(cell, jnp.diag(jnp.array([0.9, 0.5])), xs)
    np.testing.assert_allclose(found.exponents[0], np.log([0.9, 0.5]), atol=1e-6)
    assert np.isneginf(found.exponents[1]).all()
    assert np.isneginf(found.mean).all()
    assert np.isposinf(found.spread).all()


# Blocks and errors


def wandering(rates, **options):
    """h ← exp(x) h, whose exponent is the mean of x."""
    cell = rnnlab.Step(lambda _, h, x: (jnp.exp(x) * h, h), jnp.ones(1))
    return lyapunov_spectrum(cell, (), jnp.asarray(rates)[..., None], **options)


def test_blocks_are_the_exponents_of_their_steps():
    rates = np.random.default_rng(0).normal(size=(60, 2))
    found = wandering(rates, blocks=4, qr_every=3)
    np.testing.assert_allclose(found.blocks[..., 0], rates.reshape(4, 15, 2).mean(axis=1))
    np.testing.assert_allclose(found.blocks.mean(axis=0), found.exponents)
    np.testing.assert_allclose(found.exponents[:, 0], rates.mean(axis=0))
    uneven = wandering(rates, blocks=7)
    ends = np.linspace(0, 60, 8).round().astype(int)
    expected = [rates[a:b].mean(axis=0) for a, b in itertools.pairwise(ends)]
    np.testing.assert_allclose(uneven.blocks[..., 0], expected)
    assert wandering(rates).blocks.shape == (7, 2, 1)  # √60
    assert np.isposinf(wandering(rates, blocks=1).standard_error).all()


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_the_standard_error_is_that_of_the_exponent_also_where_steps_are_correlated(memory):
    """xₜ = m xₜ₋₁ + noise: the mean of T steps varies by 1/((1 − m) √T)."""
    steps, batch = 2000, 200
    noise = np.random.default_rng(0).normal(size=(steps, batch))
    rates = [noise[0] / np.sqrt(1 - memory**2)]
    for more in noise[1:]:
        rates.append(memory * rates[-1] + more)
    found = wandering(rates, warm_up=0)
    exact = 1 / ((1 - memory) * np.sqrt(steps))
    np.testing.assert_allclose(found.exponents.std(), exact, rtol=0.2)
    np.testing.assert_allclose(found.standard_error.mean(), exact, rtol=0.1)


# Known maps


HENON = rnnlab.Step(
    lambda p, h, _: (jnp.stack([1 - p[0] * h[..., 0] ** 2 + h[..., 1], p[1] * h[..., 0]], -1), h),
    jnp.zeros(2, jnp.float32),
)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_henon_map(dtype):
    """λ₁ = .419 and λ₂ = −1.623 (Wolf et al. 1985), their sum ln b, the dimension 1.26."""
    classic, start = jnp.array([1.4, 0.3], dtype), jnp.full((4, 2), 0.1, dtype)
    start = start + jnp.linspace(0, 0.05, 4, dtype=dtype)[:, None]
    found = lyapunov_spectrum(
        HENON, classic, jnp.zeros((4000, 4, 1), dtype), start, burn_in=500, warm_up=100
    )
    np.testing.assert_allclose(found.mean, [0.419, -1.623], atol=0.006)
    np.testing.assert_allclose(found.exponents.sum(axis=-1), np.log(0.3), rtol=1e-5)
    np.testing.assert_allclose(found.kaplan_yorke, 1.258, atol=0.01)
    assert (np.abs(found.exponents[:, 0] - 0.4192) < 4 * found.standard_error[:, 0]).all()
    assert not found.stuck.any()
    assert "nearby trajectories diverge" in found.finding()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_closed_curve_has_dimension_one_and_creates_no_information(dtype):
    """Around an unstable point (Neimark and Sacker): λ₁ = 0 but for rounding, to either side."""
    cell = RNN(2, param_dtype=dtype)
    turn = 1.05 * np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    params = cell.init(jax.random.key(0), 1)._replace(w_h=jnp.asarray(turn, dtype))
    start = cell.initial_state((3,))._replace(h=jnp.array([[0.1, 0], [0, 0.2], [0.3, 0.3]], dtype))
    found = lyapunov_spectrum(cell, params, jnp.zeros((1500, 3, 1), dtype), start, burn_in=500)
    assert (np.abs(found.exponents[:, 0]) < 1e-4).all()
    np.testing.assert_array_equal(found.kaplan_yorke, 1)
    np.testing.assert_array_equal(found.entropy_rate, 0)
    assert "zero within its error" in found.finding()


def test_an_orbit_that_fell_onto_a_point_is_told():
    """The logistic map at r = 4 in float32 goes from near ½ to 1, then to 0, where λ is ln 4."""
    logistic = rnnlab.Step(lambda r, h, _: (r * h * (1 - h), h), jnp.zeros(1, jnp.float32))
    start = jnp.array([[0.50001], [0.3], [0.0]], jnp.float32)
    xs = jnp.zeros((1000, 3, 1), jnp.float32)
    found = lyapunov_spectrum(logistic, jnp.float32(4), xs, start)
    assert found.stuck.tolist() == [True, False, True]
    assert found.entropy_rate.tolist() == [0, found.exponents[1, 0], 0]
    assert found.kaplan_yorke.tolist() == [0, 1, 0]
    np.testing.assert_allclose(found.mean, np.log(2), atol=0.02)
    np.testing.assert_allclose(found.exponents[2], np.log(4), atol=1e-6)
    assert found.finding().endswith("; 2 of 3 examples are stuck on an unstable fixed point")
    alone = lyapunov_spectrum(logistic, jnp.float32(4), xs[:, 0], start[2])
    assert "stuck on an unstable fixed point" in alone.finding()
    calm = lyapunov_spectrum(logistic, jnp.float32(2.8), xs, start[:2].repeat(2, 0)[:3])
    assert not calm.stuck.any()  # at rest as well, but on a stable point
    np.testing.assert_allclose(calm.exponents[:, 0], np.log(0.8), atol=0.02)


@pytest.mark.parametrize(
    ("exponents", "size", "dimension"),
    [
        ([0.5, 0.1, -0.4, -2.0], 4, 3 + 0.2 / 2),
        ([0.1, -0.5], 2, 1.2),
        ([-0.1, -0.5], 2, 0),
        ([0.3, 0.1], 2, 2),
        ([0.3, 0.1], 5, np.nan),
        ([0.0, -1.0], 2, 1),
        ([-8e-7, -0.1], 2, 1),
        ([8e-7, -8e-7, -0.1], 3, 2),
        ([-0.1, 0.5, -2.0, 0.1], 4, 3.25),  # in any order
        ([-np.inf, 0.3, -0.6], 3, 1.5),
        ([-np.inf, -np.inf], 2, 0),
        ([0.3, -np.inf], 2, 1),
        ([-0.0005, -1.0], 3, 1),
    ],
)
def test_kaplan_yorke(exponents, size, dimension):
    np.testing.assert_allclose(kaplan_yorke(jnp.array(exponents), size), dimension, rtol=1e-6)


def test_zero_is_a_matter_of_tolerance():
    small = jnp.array([8e-5, -0.1])
    assert kaplan_yorke(-small[::-1], 2, zero=0.2) == 2
    assert kaplan_yorke(-small[:1], 1, zero=1e-5) == 0
    assert entropy_rate(small) == 0
    assert entropy_rate(small, zero=1e-5) == small[0]
    np.testing.assert_allclose(entropy_rate(jnp.array([[0.2, 0.1, -1]])), [0.3], rtol=1e-6)


def test_the_finding_is_one_sentence_and_every_field_is_explained():
    found = wandering(np.full((30, 2), -0.25))
    assert str(found).startswith("LyapunovSpectrum: nearby trajectories converge, λ₁ = -0.25 ± ")
    assert "[..., k]" in LyapunovSpectrum.standard_error.__doc__
    short = wandering(np.full((2, 1), 0.5)).finding()
    assert short == "λ₁ = 0.5 nats per step, with too few steps for an error estimate"
    lost = lyapunov_spectrum(HENON, jnp.array([1.4, 0.3]), jnp.zeros((90, 1)), jnp.full(2, 9.0))
    assert lost.finding() == "λ₁ is NaN, since the state has diverged"


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
        ({"blocks": 11}, ("blocks is 11", "10 decompositions")),
        ({"blocks": 0}, ("blocks is 0",)),
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
