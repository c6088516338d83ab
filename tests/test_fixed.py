"""Fixed points against what can be solved exactly."""

import doctest
import importlib.util
import itertools
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import rnnlab
from rnnlab.cells import GRU, LSTM, RNN, RNNState
from rnnlab.diagnostics import FixedPoints, fixed_points, limit_cycles, sample_states
from rnnlab.diagnostics.invariant_sets import fixed_points as fixed
from tests.reference import one_sentence, watch

HALF = 0.957504
"""The positive solution of h = tanh(2h)."""

X = jnp.zeros(1)
PRECISIONS = [jnp.float32, jnp.float64]


def independent(gain=2.0, dtype=jnp.float64, size=3):
    cell = RNN(size, param_dtype=dtype)
    return cell, cell.init(jax.random.key(0), 1)._replace(w_h=gain * jnp.eye(size, dtype=dtype))


def linear(w, b=0.0, dtype=jnp.float64):
    """h ← W h + b."""
    w = np.asarray(w)
    cell = RNN(len(w), activation="identity", param_dtype=dtype)
    params = cell.init(jax.random.key(0), 1)
    return cell, params._replace(w_h=jnp.asarray(w.T, dtype), b=jnp.full(len(w), b, dtype))


def starts(cell, count, scale=1.2, seed=0):
    like = cell.initial_state((count,))
    keys = jax.random.split(jax.random.key(seed), len(jax.tree.leaves(like)))
    drawn = [
        scale * jax.random.uniform(k, leaf.shape, leaf.dtype, -1, 1)
        for k, leaf in zip(keys, jax.tree.leaves(like), strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(like), drawn)


def as_states(cell, vectors):
    """Vectors ``[N, n]`` as states."""
    like = cell.initial_state()
    ends = np.cumsum([leaf.shape[-1] for leaf in jax.tree.leaves(like)])[:-1]
    parts = np.split(np.asarray(vectors), ends, axis=1)
    return jax.tree.unflatten(jax.tree.structure(like), [jnp.asarray(part) for part in parts])


def residual(cell, params, x, vectors):
    """½ ‖F(h) − h‖² by the cell itself, in its own precision."""
    states = jax.tree.map(
        lambda leaf, like: leaf.astype(like.dtype), as_states(cell, vectors), cell.initial_state()
    )
    after, _ = cell.step(params, states, jnp.broadcast_to(x, (len(vectors), *x.shape)))
    apart = jax.tree.map(lambda new, old: jnp.sum((new - old) ** 2, axis=-1), after, states)
    return 0.5 * np.sum(jax.tree.leaves(apart), axis=0)


def rounding(vectors, dtype):
    """The default tolerance for a Jacobian of no more than norm one, at the precision ``dtype``."""
    size = vectors.shape[1]
    eps = np.finfo(dtype).eps
    return 0.5 * (32 * eps) ** 2 * (1 + np.mean(vectors**2, axis=1)) * 2 * size


# What is found


@pytest.mark.combinations
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_three_independent_units_have_twenty_seven_fixed_points(dtype):
    cell, params = independent(dtype=dtype)
    found = fixed_points(cell, params, X.astype(dtype), starts(cell, 1024))
    corners = np.array(list(itertools.product([-HALF, 0, HALF], repeat=3)))
    assert len(found.states) == 27
    distance = np.linalg.norm(found.states[:, None] - corners, axis=-1)
    assert distance.min(axis=1).max() < 1e-6
    assert sorted(distance.argmin(axis=1)) == list(range(27))
    assert np.bincount(found.unstable).tolist() == [8, 12, 6, 1]
    assert [found.kind.count(k) for k in ("stable", "saddle", "unstable")] == [8, 18, 1]
    values = np.where(np.abs(np.sort(found.states, axis=1)) > 0.5, 0.166372, 2.0)
    np.testing.assert_allclose(
        np.sort(found.eigenvalues.real, axis=1), np.sort(values, axis=1), atol=1e-6
    )
    np.testing.assert_allclose(found.time_constants, -1 / np.log(np.abs(found.eigenvalues)))
    assert (found.q <= 1e-28).all()
    assert found.outcomes.found == 27
    assert sum(found.outcomes) == 1024
    assert "27 fixed points (" in found.finding()


def test_the_only_fixed_point_of_a_linear_network_is_solved_for():
    rng = np.random.default_rng(0)
    w = 0.9 * np.linalg.qr(rng.normal(size=(4, 4)))[0]
    cell = RNN(4, activation="identity", param_dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 2)._replace(w_h=jnp.asarray(w))
    x = jnp.array([0.3, -1.0])
    found = fixed_points(cell, params, x, starts(cell, 16))
    exact = np.linalg.solve(np.eye(4) - w.T, np.asarray(params.w_x.T @ x))
    np.testing.assert_allclose(found.states, exact[None], rtol=1e-12)
    np.testing.assert_allclose(np.abs(found.eigenvalues), 0.9, rtol=1e-9)


FLAX = nnx.split(nnx.GRUCell(2, 4, rngs=nnx.Rngs(0)))
CELLS = {
    "rnn": RNN(4),
    "lstm": LSTM(4),
    "gru": GRU(4, reset="before"),
    "stack": rnnlab.stack([GRU(3), LSTM(2), rnnlab.Readout(1)]),
    "bfloat16": GRU(4, param_dtype=jnp.bfloat16),
    "flax": rnnlab.Step(lambda p, h, x: nnx.merge(FLAX[0], p)(h, x), jnp.zeros(4, jnp.float32)),
}


@pytest.mark.combinations
@pytest.mark.parametrize("name", CELLS)
def test_a_found_point_stays_where_it_is(name):
    cell, x = CELLS[name], jnp.ones(2, jnp.float32)
    params = FLAX[1] if name == "flax" else cell.init(jax.random.key(0), 2)
    found = fixed_points(cell, params, x, starts(cell, 32))
    assert len(found.states)
    assert found.must_exist
    dtype = jax.tree.leaves(cell.initial_state())[0].dtype
    eps = float(jnp.finfo(dtype).eps)
    assert (residual(cell, params, x, found.states) <= 0.5 * (8 * eps) ** 2 * 8).all()


def test_matrices_and_products_with_vectors_find_the_same():
    cell, params = independent(size=2)
    dense, iterative = (
        fixed_points(cell, params, X, starts(cell, 64), solver=solver)
        for solver in ("dense", "iterative")
    )
    assert len(dense.states) == len(iterative.states) == 9
    order = [np.lexsort(found.states.round(6).T) for found in (dense, iterative)]
    np.testing.assert_allclose(dense.states[order[0]], iterative.states[order[1]], atol=1e-12)


# Networks whose gates are nearly closed


@pytest.mark.combinations
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_one_start_is_enough_where_gates_keep_all_but_a_hundred_millionth(dtype):
    """hₜ = (1 − z) n + z hₜ₋₁ rests where h = n, however near z is to one."""
    size = 24
    cell = GRU(size, param_dtype=dtype)
    params = cell.init(jax.random.key(0), 1)
    keep = jnp.linspace(-1, 18, size, dtype=dtype)
    params = params._replace(b=params.b.at[size : 2 * size].set(keep), w_h=1.5 * params.w_h)
    found = fixed_points(cell, params, X.astype(dtype) + 0.5, starts(cell, 1))
    (h,) = found.states
    double = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    z = 0.5 * double.w_x[0] + double.b
    a = h @ double.w_h + np.pad(double.c, (2 * size, 0))
    r = 1 / (1 + np.exp(-(z[:size] + a[:size])))
    np.testing.assert_allclose(h, np.tanh(z[2 * size :] + r * a[2 * size :]), atol=1e-6)
    assert found.q <= rounding(found.states, np.float64)
    assert residual(cell, params, X.astype(dtype) + 0.5, found.states) <= rounding(h[None], dtype)


PUBLISHED = importlib.util.find_spec("g2p_en")


@pytest.mark.combinations
@pytest.mark.skipif(PUBLISHED is None, reason="g2p_en is not installed, whose network this is")
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("letter", [None, "a", "q"])
def test_the_point_of_a_published_network_is_found_from_one_start(dtype, letter):
    """g2p_en's encoder (Park & Kim), a GRU of 256 units: gradient descent ended at q = 6e-6."""
    with np.load(Path(PUBLISHED.origin).with_name("checkpoint20.npz")) as file:
        weights = dict(file)
    names = {
        "weight_ih_l0": "w_ih",
        "weight_hh_l0": "w_hh",
        "bias_ih_l0": "b_ih",
        "bias_hh_l0": "b_hh",
    }
    cell, params = rnnlab.interop.from_torch(
        {name: weights[f"enc_{short}"].astype(dtype) for name, short in names.items()}
    )
    embedded = jnp.asarray(weights["enc_emb"].astype(dtype))
    x = jnp.zeros_like(embedded[0]) if letter is None else embedded[3 + ord(letter) - ord("a")]
    words = embedded[jax.random.randint(jax.random.key(0), (8, 4), 3, 29)]
    states, _ = rnnlab.unroll_states(cell, params, words)
    found = fixed_points(cell, params, x, sample_states(jax.random.key(1), states, 1))
    assert len(found.states) == 1
    # The search computes in float64 and would accept 2e-26; about four roundings are left.
    assert (found.q <= 3e-28).all()
    assert (np.abs(found.states) < 1).all()
    assert (residual(cell, params, x, found.states) <= rounding(found.states, dtype)).all()


@pytest.mark.long
def test_a_trained_network_has_the_points_that_a_search_for_cycles_of_period_one_finds():
    """A GRU on the adding problem (Hochreiter & Schmidhuber 1997) over 20 steps."""
    model = rnnlab.stack([GRU(12), rnnlab.Readout(1)])
    optimiser = optax.adam(0.02)

    def batch(key):
        k_numbers, k_first, k_second = jax.random.split(key, 3)
        numbers = jax.random.uniform(k_numbers, (20, 32))
        marks = jnp.arange(20)[:, None] == jax.random.randint(k_first, (32,), 0, 10)
        marks |= jnp.arange(20)[:, None] == jax.random.randint(k_second, (32,), 10, 20)
        xs = jnp.stack([numbers, marks.astype(numbers.dtype)], axis=-1)
        return xs, (numbers * marks).sum(axis=0)

    def error(params, key):
        xs, total = batch(key)
        return jnp.mean((rnnlab.unroll(model, params, xs)[1][-1, :, 0] - total) ** 2)

    def update(carry, key):
        params, memory = carry
        value, slope = jax.value_and_grad(error)(params, key)
        change, memory = optimiser.update(slope, memory)
        return (optax.apply_updates(params, change), memory), value

    params = model.init(jax.random.key(0), 2)
    keys = jax.random.split(jax.random.key(1), 400)
    (params, _), errors = jax.jit(lambda p: jax.lax.scan(update, (p, optimiser.init(p)), keys))(
        params
    )
    assert errors[-20:].mean() < 0.05  # 1/6 without memory
    cell, params = model.cells[0], params.layers[0]
    states, _ = rnnlab.unroll_states(cell, params, batch(jax.random.key(2))[0])
    begin = sample_states(jax.random.key(3), states, 64, noise=0.1)
    points = fixed_points(cell, params, jnp.zeros(2), begin)
    cycles = limit_cycles(cell, params, jnp.zeros(2), begin, periods=(1,))
    assert len(points.states) >= 1
    np.testing.assert_array_equal(points.states, np.concatenate(cycles.orbits))
    np.testing.assert_array_equal(points.q, cycles.q)
    np.testing.assert_allclose(points.eigenvalues, cycles.multipliers, atol=1e-9)
    assert points.kind == cycles.kind
    assert (points.q <= 1e-28).all()


# Starts that say nothing about the states that matter


@pytest.mark.parametrize("begin", [[0.95], [0.95, 0.9501], [0.95] * 5, [0.3], [HALF]])
def test_starts_close_together_are_enough(begin):
    cell, params = independent(size=1)
    found = fixed_points(cell, params, X, RNNState(jnp.array(begin)[:, None]))
    np.testing.assert_allclose(found.states, [[HALF]], atol=1e-6)
    assert found.outcomes.outliers == found.outcomes.failed == 0


@pytest.mark.parametrize(
    "cell", [LSTM(8, param_dtype=jnp.float64), GRU(8, param_dtype=jnp.float64)]
)
def test_the_initial_state_is_start_enough(cell):
    params = cell.init(jax.random.key(2), 1)
    found = fixed_points(cell, params, X + 0.1, cell.initial_state((1,)))
    after, _ = rnnlab.unroll(cell, params, jnp.full((3000, 1, 1), 0.1), cell.initial_state((1,)))
    rest = np.concatenate(jax.tree.leaves(after), axis=1)
    np.testing.assert_allclose(found.states, rest, atol=1e-9)


def test_a_point_far_from_all_that_is_visited_is_dropped_and_counted():
    """h ← h + 1e-4 (h − 1)(h − 1000) comes to 1, from every start below 1000."""
    cell = rnnlab.Step(lambda _p, h, _x: (h + 1e-4 * (h - 1) * (h - 1000), h), jnp.zeros(1))
    begin = jnp.concatenate([jnp.linspace(0.5, 1.5, 50), jnp.array([990.0])])[:, None]
    found = fixed_points(cell, None, X, begin)
    np.testing.assert_allclose(found.states, [[1]])
    assert (found.outcomes.outliers, sum(found.outcomes)) == (1, 51)
    both = fixed_points(cell, None, X, begin, outlier=100)
    np.testing.assert_allclose(np.sort(both.states, axis=0), [[1], [1000]])
    assert both.outcomes.outliers == 0


# Where nothing is found


def test_a_search_that_finds_nothing_says_so_and_returns_nothing():
    """h ← h + 1 under the identity has no fixed point."""
    cell, params = linear(np.eye(2), 1.0)
    with pytest.warns(
        UserWarning,
        match=r"no fixed point was found from 8 starts: the smallest q is 1.0e\+00, "
        "above the tolerance of .* after at most 50 steps of Levenberg–Marquardt and "
        "50 of pseudo-transient continuation from each; whether one exists is not known",
    ):
        found = fixed_points(cell, params, X, starts(cell, 8), steps=50)
    assert found.states.shape == found.eigenvalues.shape == (0, 2)
    assert found.kind == ()
    assert not found.must_exist
    assert found.outcomes.failed == 8
    assert "no fixed point from 8 starts" in found.finding()


def test_a_search_that_is_too_short_says_that_a_point_exists():
    cell, params = independent()
    with pytest.warns(UserWarning, match="one exists, since F maps a box around the starts"):
        found = fixed_points(cell, params, X, starts(cell, 8), steps=1, slow=0.0)
    assert found.must_exist
    assert found.outcomes.failed == 8


def test_slow_points_are_told_from_fixed_ones():
    """h ← h + small has none, but is slow everywhere."""
    cell, params = linear(np.eye(2), 1e-4)
    with pytest.warns(UserWarning, match="slow_states"):
        found = fixed_points(cell, params, X, starts(cell, 8), steps=10)
    np.testing.assert_allclose(found.slow_q, 1e-8, rtol=1e-6)
    assert len(found.slow_states) == found.outcomes.slow == 8


def test_where_two_points_have_met_and_vanished_the_state_is_slow():
    """h ← h + h² + ε is slowest at h = 0, with q = ½ ε²."""
    cell = rnnlab.Step(lambda eps, h, _: (h + h**2 + eps, h), jnp.zeros(1))
    with pytest.warns(UserWarning, match="no fixed point"):
        found = fixed_points(cell, jnp.array(1e-4), X, jnp.array([[-0.5], [0.3]]))
    np.testing.assert_allclose(found.slow_states, [[0]], atol=1e-3)
    np.testing.assert_allclose(found.slow_q, [0.5e-8], rtol=1e-3)


# Directions that neither grow nor decay


@pytest.mark.combinations
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(
    ("w", "kind", "unstable", "marginal"),
    [
        ([[0.8, -0.6], [0.6, 0.8]], "marginal", 0, 2),  # a rotation
        (np.diag([1.0, 0.5]), "marginal", 0, 1),  # a line of fixed points
        (np.diag([1.0, 2.0]), "saddle", 1, 1),
        (np.diag([-1.0, 0.5]), "marginal", 0, 1),
        (np.diag([1.01, 0.5]), "saddle", 1, 0),
        (np.diag([0.99, 0.5]), "stable", 0, 0),
        (np.diag([1.01, 2.0]), "unstable", 2, 0),
    ],
)
def test_an_eigenvalue_on_the_unit_circle_is_marginal(w, kind, unstable, marginal, dtype):
    cell, params = linear(w, dtype=dtype)
    found = fixed_points(cell, params, X.astype(dtype), starts(cell, 4))
    cycles = limit_cycles(cell, params, X.astype(dtype), starts(cell, 4), periods=(1,))
    assert set(found.kind) == set(cycles.kind) == {kind}
    assert set(found.unstable) == set(cycles.unstable) == {unstable}
    assert set(found.marginal) == set(cycles.marginal) == {marginal}
    modulus = np.sort(np.abs(np.linalg.eigvals(w)))[::-1]
    with np.errstate(divide="ignore"):
        times = np.where(np.abs(modulus - 1) < 1e-9, np.inf, -1 / np.log(modulus))
    for result in (found, cycles):
        np.testing.assert_allclose(
            result.time_constants, np.broadcast_to(times, result.time_constants.shape), rtol=1e-4
        )


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_every_point_of_a_ring_is_marginal(dtype):
    """h ← h (1 + a (1 − ‖h‖²)) rests on ‖h‖ = 1: eigenvalues 1 along it, 1 − 2a across."""
    cell = rnnlab.Step(
        lambda a, h, _: (h * (1 + a * (1 - jnp.sum(h**2, -1, keepdims=True))), h),
        jnp.zeros(2, dtype),
    )
    angle = jnp.linspace(0, 6, 12, dtype=dtype)
    begin = 1.1 * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    found = fixed_points(cell, jnp.asarray(0.3, dtype), X.astype(dtype), begin)
    np.testing.assert_allclose(np.linalg.norm(found.states, axis=1), 1, rtol=1e-6)
    assert found.kind == ("marginal",) * 12
    assert (found.time_constants[:, 0] == np.inf).all()
    np.testing.assert_allclose(found.time_constants[:, 1], -1 / np.log(0.4), rtol=1e-5)


def test_what_counts_as_marginal_can_be_told():
    cell, params = linear(np.diag([0.99, 0.5]))
    assert fixed_points(cell, params, X, starts(cell, 1), marginal=0.02).kind == ("marginal",)


# Precision, compilation and faults


def test_a_step_that_insists_on_its_own_floats_is_searched_in_them():
    def step(_params, h, _x):
        return jnp.tanh(2 * h.astype(jnp.float32)), h

    one = jnp.ones(1, jnp.float32)
    found = fixed_points(rnnlab.Step(step, one), None, one, one[None])
    np.testing.assert_allclose(found.states, [[HALF]], atol=1e-6)


def test_the_tolerance_is_that_of_the_coarsest_floats_on_the_way():
    def step(_params, h, _x):
        return jnp.tanh(2 * h.astype(jnp.float32)).astype(h.dtype), h

    found = fixed_points(rnnlab.Step(step, jnp.zeros(1)), None, X, jnp.ones((1, 1)))
    np.testing.assert_allclose(found.states, [[HALF]], atol=1e-6)


def test_the_search_is_the_same_whether_64_bits_are_enabled():
    cell, params = independent(dtype=jnp.float32)
    begin = starts(cell, 64)
    on = fixed_points(cell, params, X.astype(jnp.float32), begin)
    with jax.enable_x64(False):
        off = fixed_points(cell, params, X.astype(jnp.float32), begin)
    np.testing.assert_array_equal(on.states, off.states)


def test_no_second_search_compiles_anything():
    cell, params = independent()
    fixed_points(cell, params, X, starts(cell, 64))
    other, x, begin = params._replace(w_h=1.5 * params.w_h), X + 0.1, starts(cell, 64, seed=1)
    with watch() as work:
        fixed_points(cell, other, x, begin, steps=30, tolerance=1e-20)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fixed_points(cell, other, x, begin, steps=2)
    assert not work.compiled


@pytest.mark.combinations
@pytest.mark.parametrize(
    "switch",
    [
        lambda: jax.debug_nans(True),
        lambda: jax.numpy_rank_promotion("raise"),
        lambda: jax.numpy_dtype_promotion("strict"),
        lambda: jax.checking_leaks(),
    ],
    ids=["debug_nans", "rank_promotion", "dtype_promotion", "leaks"],
)
def test_the_search_runs_under_jaxs_switches(switch):
    cell = rnnlab.Step(lambda _p, h, _x: (h + 1, h), jnp.zeros(2))
    begin = jnp.arange(6.0).reshape(3, 2)
    with switch(), pytest.warns(UserWarning, match="no fixed point"):
        fixed_points(cell, None, X, begin, steps=20)


def test_each_field_is_explained_and_the_example_runs():
    assert all(getattr(FixedPoints, name).__doc__ for name in FixedPoints._fields)
    globs = {"rnnlab": rnnlab, "jnp": jnp, "fixed_points": fixed_points}
    tests = doctest.DocTestFinder().find(fixed_points, "fixed_points", fixed, globs)
    assert sum(doctest.DocTestRunner().run(test).failed for test in tests) == 0
    assert sum(len(test.examples) for test in tests) == 3


def test_sampled_states_are_states_with_noise():
    cell, params = LSTM(3), LSTM(3).init(jax.random.key(0), 2)
    states, _ = rnnlab.unroll_states(cell, params, jax.random.normal(jax.random.key(1), (5, 4, 2)))
    drawn = sample_states(jax.random.key(2), states, 300)
    pool = {
        tuple(np.concatenate([c, h]))
        for c, h in zip(np.reshape(states.c, (20, 3)), np.reshape(states.h, (20, 3)), strict=True)
    }
    assert {
        tuple(np.concatenate([c, h]))
        for c, h in zip(np.asarray(drawn.c), np.asarray(drawn.h), strict=True)
    } == pool
    noisy = sample_states(jax.random.key(2), states, 300, noise=0.1)
    np.testing.assert_allclose(np.std(noisy.h - drawn.h), 0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("x", "change", "options", "words"),
    [
        (jnp.zeros((2, 1)), lambda s: s, {}, ("x has shape (2, 1)",)),
        (X, lambda s: s._replace(h=s.h * jnp.nan), {}, ("NaN",)),
        (X, lambda s: s._replace(h=s.h[:, :2]), {}, ("starts.h has shape (8, 2)",)),
        (X, lambda _: (), {}, ("starts must hold states",)),
        (X, lambda s: s, {"steps": 0}, ("steps is 0",)),
        (X, lambda s: s, {"solver": "newton"}, ("solver is 'newton'",)),
        (X, lambda s: s, {"marginal": -1}, ("marginal is -1",)),
        (X, lambda s: s, {"tolerance": float("nan")}, ("tolerance is nan",)),
    ],
)
def test_bad_input(x, change, options, words):
    cell, params = independent()
    one_sentence(lambda: fixed_points(cell, params, x, change(starts(cell, 8)), **options), *words)


def test_a_step_that_computes_in_half_precision_alone_is_refused():
    cell = rnnlab.Step(
        lambda _p, h, _x: (jnp.tanh(h.astype(jnp.bfloat16)), h), jnp.zeros(2, jnp.bfloat16)
    )
    one_sentence(
        lambda: fixed_points(cell, None, X, jnp.ones((3, 2), jnp.bfloat16)), "bfloat16 alone"
    )
