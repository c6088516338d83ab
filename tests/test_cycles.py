"""Limit cycles and kinds of attractors against maps that are solved exactly."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab.cells import GRU, LSTM, RNN
from rnnlab.diagnostics import attractor_kind, fixed_points, limit_cycles, step_jacobians
from tests.reference import one_sentence, watch

pytestmark = pytest.mark.long

X = jnp.zeros(1)
LOGISTIC = rnnlab.Step(lambda r, h, _: (r * h * (1 - h), h), jnp.zeros(1))
HENON = rnnlab.Step(
    lambda p, h, _: (jnp.stack([1 - p[0] * h[..., 0] ** 2 + h[..., 1], p[1] * h[..., 0]], -1), h),
    jnp.zeros(2),
)
CLASSIC = jnp.array([1.4, 0.3])


def simple(w, activation="tanh", dtype=jnp.float64):
    """h ← φ(W h): a cell and its parameters."""
    cell = RNN(len(w), activation=activation, param_dtype=dtype)
    return cell, cell.init(jax.random.key(0), 1)._replace(w_h=jnp.asarray(w, dtype).T)


def turn(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def states(cell, count, scale=1.0, seed=0, dtype=jnp.float64):
    """Uniform in ±scale."""
    keys = iter(jax.random.split(jax.random.key(seed), 9))
    like = cell.initial_state((count,))
    return jax.tree.map(
        lambda leaf: scale * jax.random.uniform(next(keys), leaf.shape, dtype, -1, 1), like
    )


def unit(seed, count):
    return jax.random.uniform(jax.random.key(seed), (count, 1), jnp.float64)


def rest(gain):
    """The positive solution of h = tanh(|gain| h)."""
    h = 1.0
    for _ in range(2000):
        h = np.tanh(abs(gain) * h)
    return h


# Limit cycles


@pytest.mark.combinations
@pytest.mark.parametrize(
    ("gains", "dtype"),
    [((-1.5, -2.5), jnp.float32), ((-1.3, -1.3, 2.0), jnp.float64)],
)
def test_independent_units_have_the_cycles_of_their_signs(gains, dtype):
    """Each unit is at 0 or at ±h*, and one with a negative gain changes its sign at every step."""
    signs = np.array(list(itertools.product([-1, 0, 1], repeat=len(gains))))
    moving = signs[(signs * (np.array(gains) < 0) != 0).any(axis=1)]
    exact = moving * [rest(g) for g in gains]
    cell, params = simple(np.diag(gains), dtype=dtype)
    found = limit_cycles(
        cell, params, X.astype(dtype), states(cell, 256, 1.2, dtype=dtype), periods=(2,)
    )
    assert len(found.periods) == len(exact) // 2
    assert (found.periods == 2).all()
    distance = np.linalg.norm(np.concatenate(found.orbits)[:, None] - exact, axis=-1)
    assert distance.min(axis=1).max() < 1e-5
    assert sorted(distance.argmin(axis=1)) == list(range(len(exact)))  # every state once
    slopes = np.square(gains) * np.where(
        np.abs(np.array(found.orbits)[:, 0]) > 0.1,
        (1 - np.square([rest(g) for g in gains])) ** 2,
        1,
    )
    np.testing.assert_allclose(
        np.sort(found.multipliers.real, axis=1), np.sort(slopes, axis=1), rtol=1e-3
    )
    np.testing.assert_array_equal(found.unstable, (slopes > 1).sum(axis=1))
    assert found.kind.count("stable") == len(moving[(moving != 0).all(axis=1)]) // 2
    np.testing.assert_allclose(
        found.time_constants, -2 / np.log(np.abs(found.multipliers)), rtol=1e-5
    )


@pytest.mark.parametrize("period", [5, 7])
def test_under_a_rotation_by_a_part_of_a_turn_every_state_is_on_a_cycle(period):
    cell, params = simple(turn(2 * np.pi / period), "identity")
    found = limit_cycles(cell, params, X, states(cell, 12), periods=(2, period, 7))
    assert found.periods.tolist() == [period] * 12
    np.testing.assert_allclose(found.multipliers, 1, atol=1e-12)
    assert found.kind == ("marginal",) * 12  # neither pushed away nor drawn in
    assert (found.marginal == 2).all()
    assert (found.time_constants == np.inf).all()
    for orbit in found.orbits:
        np.testing.assert_allclose(orbit[1:], orbit[:-1] @ turn(2 * np.pi / period).T, atol=1e-12)


@pytest.mark.parametrize("r", [3.2, 3.5, 3.83, 3.99])
def test_the_logistic_map_has_one_cycle_of_period_two(r):
    found = limit_cycles(LOGISTIC, jnp.asarray(r), X, unit(0, 64), periods=(2,))
    root = np.sqrt((r - 3) * (r + 1))
    np.testing.assert_allclose(
        np.sort(found.orbits[0][:, 0]), (r + 1 + np.array([-root, root])) / (2 * r), rtol=1e-12
    )
    np.testing.assert_allclose(found.multipliers, [[4 + 2 * r - r**2]], rtol=1e-10)
    assert found.kind == ("stable" if abs(4 + 2 * r - r**2) < 1 else "unstable",)


@pytest.mark.combinations
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_logistic_map_at_four_has_as_many_cycles_as_the_doubling_of_an_angle(dtype):
    """h = sin²θ turns it into θ ← 2θ, with multipliers ±2ᵖ.

    Period p has (1/p) Σ μ(p/d) 2ᵈ cycles, summed over the divisors d of p.

    Some stay within 1e-3 of one another for most of the way, or of the point h = 0.
    """
    begin = unit(0, 512).astype(dtype)
    found = limit_cycles(
        LOGISTIC, jnp.asarray(4, dtype), X.astype(dtype), begin, periods=range(1, 10)
    )
    assert np.bincount(found.periods).tolist() == [0, 2, 1, 2, 3, 6, 9, 18, 30, 56]
    inner = np.array(
        [orbit.min() > 1e-6 for orbit in found.orbits]
    )  # at the end h = 0 the angle folds: 4, not 2
    np.testing.assert_allclose(
        found.log_multipliers[inner, 0], found.periods[inner] * np.log(2), rtol=1e-9
    )
    np.testing.assert_allclose(found.multipliers[~inner, 0], 4, rtol=1e-9)
    angle = np.arcsin(np.sqrt(found.orbits[-1][:, 0]))
    np.testing.assert_allclose(
        np.sin(2 * angle) ** 2, np.roll(found.orbits[-1][:, 0], -1), atol=1e-9
    )


def test_the_henon_map_has_the_cycles_that_biham_and_wenzel_found():
    """Physical Review Letters 63 (1989) 819; det ∂Fᵖ/∂h = (−b)ᵖ.

    There are 2, 1, 0, 1, 0, 2 and 4 cycles of periods 1 to 7.
    """
    starts = 1.5 * states(HENON, 512)
    found = limit_cycles(HENON, CLASSIC, X, starts, periods=range(1, 8))
    assert np.bincount(found.periods).tolist() == [0, 2, 1, 0, 1, 0, 2, 4]
    np.testing.assert_allclose(found.multipliers.prod(axis=1), (-0.3) ** found.periods, rtol=1e-8)
    assert set(found.kind) == {"saddle"}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("b", [1e-2, 1e-5])
def test_small_multipliers_are_not_lost_beside_large_ones(b, dtype):
    """m₁ m₂ = (−b)ᵖ on every cycle of the Hénon map.

    At b = 0.01 and p = 8 the two differ by a factor of 1e16.
    """
    begin = (0.6 * states(HENON, 512)).astype(dtype)
    params = jnp.array([1.4, b], dtype)
    found = limit_cycles(HENON, params, X.astype(dtype), begin, periods=(1, 2, 6, 8))
    assert 8 in found.periods
    np.testing.assert_allclose(
        found.log_multipliers.sum(axis=1), found.periods * np.log(float(params[1])), rtol=1e-9
    )
    sign = np.sign(found.multipliers).real.prod(axis=1)
    np.testing.assert_array_equal(sign, (-1.0) ** found.periods)


def test_every_start_is_accounted_for():
    found = limit_cycles(HENON, CLASSIC, X, 1.5 * states(HENON, 64), periods=(3, 2, 7))
    assert found.searched.tolist() == [2, 3, 7]
    np.testing.assert_array_equal(sum(found.outcomes), 64)
    counts = np.bincount(found.periods, minlength=8)[found.searched]
    np.testing.assert_array_equal(found.outcomes.found, counts)
    failed = found.outcomes.failed[1]
    assert failed > 0  # there is no cycle of period three
    assert f"0 of period 3 ({failed} starts failed)" in found.finding()


@pytest.mark.parametrize("begin", [[0.45], [0.45, 0.4501]])
def test_starts_close_together_are_enough(begin):
    r = 3.2
    found = limit_cycles(LOGISTIC, jnp.asarray(r), X, jnp.array(begin)[:, None], periods=(2,))
    root = np.sqrt((r - 3) * (r + 1))
    exact = (r + 1 + np.array([-root, root])) / (2 * r)
    np.testing.assert_allclose(np.sort(found.orbits[0][:, 0]), exact, rtol=1e-12)


def test_matrices_and_products_with_vectors_find_the_same_cycles():
    cell, params = simple(np.diag([-1.5, 2.0]))
    dense, iterative = (
        limit_cycles(cell, params, X, states(cell, 32, 1.2), periods=(2, 3), solver=solver)
        for solver in ("dense", "iterative")
    )
    assert len(dense.orbits) == len(iterative.orbits) > 1
    firsts = [np.sort(np.concatenate(found.orbits), axis=0) for found in (dense, iterative)]
    np.testing.assert_allclose(*firsts, atol=1e-12)


def test_cycles_of_period_one_are_the_fixed_points():
    cell, params = simple([[2.0, 0.3], [-0.1, 1.5]])
    points = fixed_points(cell, params, X, states(cell, 64))
    found = limit_cycles(cell, params, X, states(cell, 64), periods=(1,))
    assert len(found.orbits) == len(points.states) > 1
    order = np.lexsort(np.round(points.states, 4).T)
    here = np.concatenate(found.orbits)
    mine = np.lexsort(np.round(here, 4).T)
    np.testing.assert_allclose(here[mine], points.states[order], atol=1e-6)
    np.testing.assert_allclose(found.multipliers[mine], points.eigenvalues[order], atol=1e-6)
    np.testing.assert_array_equal(found.unstable[mine], points.unstable[order])


def test_layers_are_driven_around_a_cycle():
    """Units that change their sign at every step drive them.

    The multipliers are the eigenvalues of the product of Jacobians.
    """
    layers = [
        RNN(2, param_dtype=jnp.float64),
        LSTM(2, param_dtype=jnp.float64),
        GRU(2, param_dtype=jnp.float64),
    ]
    cell = rnnlab.stack([*layers, rnnlab.Readout(1)])
    params = cell.init(jax.random.key(3), 1)
    below = params.layers[0]._replace(w_h=jnp.array([[-2.0, 0.1], [0.2, -1.5]]))
    params = params._replace(layers=(below, *params.layers[1:]))
    found = limit_cycles(cell, params, jnp.ones(1), states(cell, 64), periods=(2, 4))
    assert len(found.orbits) >= 2
    assert "stable" in found.kind
    like = cell.initial_state()
    ends = np.cumsum([leaf.size for leaf in jax.tree.leaves(like)])[:-1]
    for orbit, q, multipliers in zip(found.orbits, found.q, found.multipliers, strict=True):
        start = jax.tree.unflatten(
            jax.tree.structure(like), [jnp.asarray(part) for part in np.split(orbit[0], ends)]
        )
        ones = jnp.ones((len(orbit), 1))
        after, _ = rnnlab.unroll_states(cell, params, ones, start)
        np.testing.assert_allclose(
            np.concatenate(jax.tree.leaves(after), axis=1), np.roll(orbit, -1, axis=0), atol=1e-6
        )
        assert q <= 1e-12
        product = np.linalg.multi_dot(
            [*np.asarray(step_jacobians(cell, params, ones, start))[::-1], np.eye(orbit.shape[1])]
        )
        np.testing.assert_allclose(np.poly(multipliers), np.poly(product), atol=1e-9)


def test_a_search_that_finds_nothing_says_so_and_returns_nothing():
    with pytest.warns(
        UserWarning,
        match="period 2 or 3 was found from 16 starts: all searches left the region of the starts "
        "or led to smaller periods",
    ):
        found = limit_cycles(*simple(0.5 * turn(1.0)), X, states(RNN(2), 16), periods=(3, 2))
    assert found.orbits == found.kind == ()
    assert found.multipliers.shape == found.time_constants.shape == (0, 2)
    cell, params = simple(-np.diag([2.0, 3.0]))
    with pytest.warns(UserWarning, match=r"the smallest q is .* above the tolerance of 1\.0e-12"):
        limit_cycles(cell, params, X, states(cell, 16), periods=(2, 3), steps=1, tolerance=1e-12)
    with pytest.warns(UserWarning, match="period 1 was found .* one exists, since F maps a box"):
        limit_cycles(cell, params, X, states(cell, 16), periods=(1,), steps=1)


def test_no_second_search_compiles_anything():
    cell, params = simple(-2 * np.eye(2))
    limit_cycles(cell, params, X, states(cell, 16), periods=(2, 3))
    x, starts = X + 0.1, states(cell, 16, seed=1)
    with watch() as work:
        limit_cycles(RNN(2, param_dtype=jnp.float64), params, x, starts, periods=(1, 3), steps=50)
    assert not work.compiled


@pytest.mark.parametrize(
    ("x", "change", "options", "words"),
    [
        (jnp.zeros((5, 1)), {}, {}, ("x has shape (5, 1)", "constant")),
        (X.at[0].set(jnp.nan), {}, {}, ("x holds NaN", "[0]")),
        (X, {}, {"periods": ()}, ("periods is empty",)),
        (X, {}, {"periods": (2, 0)}, ("each of periods is 0",)),
        (X, {}, {"periods": (2.5,)}, ("each of periods is 2.5",)),
        (X, {}, {"solver": "newton"}, ("solver is 'newton'",)),
        (X, {}, {"unique": -1.0}, ("unique is -1.0",)),
        (X, {}, {"steps": 0}, ("steps is 0",)),
        (X, {"h": jnp.zeros((8, 3))}, {}, ("starts.h has shape (8, 3)",)),
        (X, {"h": jnp.full((8, 2), jnp.nan)}, {}, ("starts.h holds NaN",)),
        (X, {"h": jnp.zeros((0, 2))}, {}, ("starts must hold states",)),
    ],
)
def test_bad_input_of_a_search(x, change, options, words):
    cell, params = simple(-2 * np.eye(2))
    one_sentence(
        lambda: limit_cycles(cell, params, x, states(cell, 8)._replace(**change), **options), *words
    )


# Kinds of attractors


@pytest.mark.parametrize(
    ("r", "kind", "period", "exponent", "within"),
    [
        (2.8, "point", 1, np.log(0.8), 1e-9),  # ln |2 − r|
        (3.2, "oscillation", 2, np.log(0.16) / 2, 1e-9),  # ½ ln |4 + 2r − r²|
        (3.4, "oscillation", 2, np.log(0.76) / 2, 1e-9),
        (3.5, "oscillation", 4, None, None),
        (3.83, "oscillation", 3, None, None),
        (4.0, "chaos", 0, np.log(2), 4e-3),
    ],
)
def test_the_logistic_map_goes_from_a_point_over_cycles_to_chaos(r, kind, period, exponent, within):
    starts = 0.1 + 0.3 * unit(1, 3)
    found = attractor_kind(
        jax.random.key(0), LOGISTIC, jnp.asarray(r), X, starts, burn_in=2000, steps=2000
    )
    assert found.kind == (kind,) * 3
    assert found.period.tolist() == [period] * 3
    if exponent is None:
        cycle = limit_cycles(LOGISTIC, jnp.asarray(r), X, starts, periods=(period,))
        exponent, within = (
            np.log(np.abs(cycle.multipliers[cycle.unstable == 0, 0])) / period,
            3e-3,
        )  # a part of a cycle
    np.testing.assert_allclose(found.exponent, np.broadcast_to(exponent, 3), atol=within)


def test_a_period_longer_than_the_longest_looked_for_is_left_open():
    found = attractor_kind(jax.random.key(0), LOGISTIC, jnp.asarray(3.5), X, unit(1, 2), longest=3)
    assert found.kind == ("unsettled",) * 2
    assert (found.exponent < -0.5).all()
    assert (found.recurrence < 1e-9).all()


def test_the_henon_map_is_chaotic_with_a_known_exponent():
    starts = jnp.concatenate(
        [0.1 * states(HENON, 8), jnp.full((1, 2), 9.0)]
    )  # the last one leaves all bounds
    found = attractor_kind(jax.random.key(0), HENON, CLASSIC, X, starts, steps=4000)
    assert found.kind == ("chaos",) * 8 + ("unsettled",)
    np.testing.assert_allclose(found.exponent[:8].mean(), 0.4192, rtol=0.015)


@pytest.mark.parametrize(("gain", "kind"), [(0.5, "point"), (2.0, "chaos")])
def test_a_random_network_dies_or_is_chaotic(gain, kind):
    """N = 100, on both sides of the transition at g = 1 (Sompolinsky, Crisanti & Sommers 1988)."""
    for seed in range(3):
        w = gain / 10 * np.random.default_rng(seed).normal(size=(100, 100))
        cell, params = simple(w)
        found = attractor_kind(
            jax.random.key(seed),
            cell,
            params,
            X,
            states(cell, 3, seed=seed),
            burn_in=500,
            steps=500,
        )
        assert found.kind == (kind,) * 3
        if kind == "point":
            np.testing.assert_allclose(
                found.exponent, np.log(np.abs(np.linalg.eigvals(w)).max()), atol=0.01
            )
        else:
            assert (found.exponent > 0.04).all()
            assert (found.recurrence > 0.3).all()


@pytest.mark.parametrize("gain", [1.3, 3.0])
def test_a_unit_that_changes_its_sign_oscillates_with_period_two(gain):
    cell, params = simple(np.diag([-gain, 0.5]))
    found = attractor_kind(jax.random.key(0), cell, params, X, states(cell, 2))
    assert found.kind == ("oscillation",) * 2
    assert found.period.tolist() == [2, 2]
    np.testing.assert_allclose(
        found.exponent, np.log(max(gain * (1 - rest(gain) ** 2), 0.5)), atol=0.01
    )


@pytest.mark.parametrize(
    ("w", "activation", "kind", "period"),
    [
        (turn(1.0), "identity", "oscillation", 0),  # 1 is not part of a turn
        (turn(2 * np.pi / 7), "identity", "oscillation", 7),
        (turn(2 * np.pi * 3 / 8), "identity", "oscillation", 8),
        (
            1.05 * turn(1.0),
            "tanh",
            "oscillation",
            0,
        ),  # a closed curve around an unstable point (Neimark and Sacker)
        (0.999 * turn(1.0), "identity", "unsettled", 0),  # still on its way after 2000 steps
        (0.9 * turn(1.0), "identity", "point", 1),
    ],
)
def test_rotations(w, activation, kind, period):
    cell, params = simple(w, activation)
    found = attractor_kind(jax.random.key(0), cell, params, X, states(cell, 2))
    assert found.kind == (kind,) * 2
    assert found.period.tolist() == [period] * 2
    if activation == "identity":
        np.testing.assert_allclose(found.exponent, np.log(np.linalg.norm(w, 2)), atol=1e-12)
    assert period or (found.recurrence > 1e-4).all()


def test_recurrence_is_the_distance_to_the_nearest_earlier_state():
    cell, params = simple(1.05 * turn(1.0))
    start = states(cell, 1)
    found = attractor_kind(
        jax.random.key(0), cell, params, X, start, burn_in=30, steps=41, longest=5
    )
    path = np.asarray(rnnlab.unroll_states(cell, params, jnp.zeros((70, 1, 1)), start)[0].h)[29:, 0]
    early, late = path[:20], path[20:41]
    near = np.mean([min(np.linalg.norm(h - g) for g in early) for h in late])
    np.testing.assert_allclose(found.recurrence, near / np.sqrt(early.var(axis=0).sum()), rtol=1e-9)


def test_a_drift_never_comes_back():
    cell, params = simple(np.eye(2), "identity")
    found = attractor_kind(
        jax.random.key(0), cell, params._replace(b=jnp.array([0.1, 0.1])), X, states(cell, 2)
    )
    assert found.kind == ("unsettled",) * 2
    assert (found.recurrence > 1).all()


def test_a_state_that_sits_on_an_unstable_point_is_told_by_its_exponent():
    cell, params = simple(2 * np.eye(2))
    found = attractor_kind(jax.random.key(0), cell, params, X, cell.initial_state((2,)))
    assert found.kind == ("point",) * 2
    np.testing.assert_allclose(found.exponent, np.log(2))


def test_any_cell_has_an_attractor_and_nothing_is_compiled_twice():
    cell = rnnlab.stack([LSTM(3), rnnlab.Readout(1)])
    params, x, starts = (
        cell.init(jax.random.key(0), 1),
        jnp.ones(1, jnp.float32),
        states(cell, 2, dtype=jnp.float32),
    )
    k_first, k_second = jax.random.split(jax.random.key(0))
    found = attractor_kind(k_first, cell, params, x, starts)
    assert found.kind == ("point",) * 2
    with watch() as work:
        attractor_kind(k_second, cell, params, x, starts, zero=0.1)
    assert not work.compiled


@pytest.mark.parametrize(
    ("x", "options", "words"),
    [
        (jnp.zeros((50, 1)), {}, ("x has shape (50, 1)", "constant")),
        (X, {"longest": 100, "steps": 100}, ("longest is 100", "100 steps")),
        (X, {"burn_in": -1}, ("burn_in is -1",)),
        (X, {"steps": 0}, ("steps is 0",)),
        (X, {"longest": 1.5}, ("longest is 1.5",)),
    ],
)
def test_bad_input_of_a_trajectory(x, options, words):
    cell, params = simple(-2 * np.eye(2))
    one_sentence(
        lambda: attractor_kind(jax.random.key(0), cell, params, x, states(cell, 2), **options),
        *words,
    )
