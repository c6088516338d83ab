"""One neuron against what can be solved exactly, a scan for sign changes and loops in NumPy."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.report.figures import one_neuron as walls
from rnnlab.theory.one_neuron import (
    bifurcation_diagram,
    cusp,
    fold_points,
    geometric_loss,
    geometric_wall,
    neuron_fixed_points,
    neuron_trajectory,
    pascanu_loss,
    pascanu_wall,
)
from tests.reference import one_sentence, watch

pytestmark = pytest.mark.long


def sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


def flow(x, w, b, drive=0.0):
    return -x + sigmoid(w * x + b) + drive


def test_folds_and_cusp_as_printed():
    folds = fold_points(5.0)
    np.testing.assert_allclose(folds.x, [0.276393, 0.723607], atol=5e-7)
    np.testing.assert_allclose(folds.b, [-2.344390, -2.655610], atol=5e-7)
    np.testing.assert_array_equal(cusp(), (4, -2, 0.5))


@pytest.mark.parametrize("drive", [0.0, 0.3, -0.2])
def test_at_a_fold_the_condition_turns_and_at_the_cusp_it_turns_twice(drive):
    """With y = x − w′u a fixed point has b = ln(y/(1−y)) − w x.

    A fold is where ∂b/∂x = 1/(y(1−y)) − w vanishes.
    """
    w = np.array([4.0, 4.01, 5.0, 9.0, 200.0])
    x, b = fold_points(w, drive)
    y = np.asarray(x) - drive
    np.testing.assert_allclose(1 / (y * (1 - y)), np.stack([w, w], -1), rtol=1e-9)
    np.testing.assert_allclose(flow(x, w[:, None], np.asarray(b), drive), 0, atol=1e-12)
    tip = cusp(drive)
    y = tip.x - drive
    np.testing.assert_allclose(
        [1 / (y * (1 - y)) - tip.w, 1 / (1 - y) ** 2 - 1 / y**2], 0, atol=1e-12
    )
    np.testing.assert_allclose(fold_points(tip.w, drive).b, tip.b)
    assert np.isnan(fold_points(jnp.array([3.999, 0.0, -5.0]), drive).b).all()


def test_fixed_points_as_printed():
    found = neuron_fixed_points(5.0, -2.5)
    np.testing.assert_allclose(found.x, [0.144794, 0.5, 0.855206], atol=5e-7)
    np.testing.assert_allclose(found.eigenvalues, [-0.38086, 0.25, -0.38086], atol=5e-6)
    assert found.stable.tolist() == [True, False, True]


def test_all_fixed_points_are_found_and_no_others():
    """The twin looks for changes of sign on a fine grid."""
    random = np.random.default_rng(0)
    w = np.concatenate([random.uniform(4, 12, 60), random.uniform(-20, 4, 20)])
    b = np.concatenate([-w[:60] / 2 + random.normal(size=60), random.normal(scale=5, size=20)])
    drive = random.uniform(-0.3, 0.3, 80)
    found = neuron_fixed_points(w, b - w * drive, drive)
    grid = np.linspace(-0.5, 1.5, 200_001)
    for number in range(80):
        falls = np.sign(flow(grid, w[number], b[number] - w[number] * drive[number], drive[number]))
        places = grid[np.flatnonzero(np.diff(falls))]
        mine = np.asarray(found.x[number])
        np.testing.assert_allclose(mine[~np.isnan(mine)], places, atol=2e-5)
    x, there = np.asarray(found.x), ~np.isnan(found.x)
    args = (w[:, None], (b - w * drive)[:, None], drive[:, None])
    np.testing.assert_allclose(flow(x, *args)[there], 0, atol=1e-14)
    slope = (flow(x + 1e-6, *args) - flow(x - 1e-6, *args)) / 2e-6
    np.testing.assert_allclose(np.asarray(found.eigenvalues)[there], slope[there], atol=1e-7)
    np.testing.assert_array_equal(found.stable, (np.asarray(found.eigenvalues) < 0) & there)
    assert {1, 3} == set(there.sum(axis=1))


@pytest.mark.parametrize("w", [4.2, 5.0, 30.0])
def test_there_are_three_between_the_folds_and_one_outside(w):
    first, last = map(float, fold_points(w).b)
    inside = (first - last) * 1e-6
    b = jnp.array([last - inside, last + inside, first - inside, first + inside])
    there = ~jnp.isnan(neuron_fixed_points(w, b).x)
    assert there.tolist() == [[True, False, False], [True] * 3, [True] * 3, [False, False, True]]


def test_saturated_neurons_keep_their_digits():
    found = neuron_fixed_points(jnp.array([5.0, 400.0]), jnp.array([-80.0, -200.0]))
    np.testing.assert_allclose(found.x[:, 0], [np.exp(-80.0), np.exp(-200.0)], rtol=1e-12)
    np.testing.assert_allclose(found.x[1, 1], 0.5, rtol=1e-12)


@pytest.mark.parametrize(("w", "drive"), [(5.0, 0.0), (8.0, 0.2)])
def test_branches_lie_on_the_curve_and_meet_in_the_folds(w, drive):
    first, last = map(float, fold_points(w, drive).b)
    found = bifurcation_diagram(w, (last - 1, first + 1), drive, points=50)
    y = np.asarray(found.x) - drive
    np.testing.assert_allclose(found.b, np.log(y / (1 - y)) - w * (y + drive), atol=1e-7)
    np.testing.assert_allclose(
        found.b[:, [0, -1]], [[last - 1, first], [last, first], [last, first + 1]], atol=1e-12
    )
    ends = [found.x[0, -1], found.x[1, -1], found.x[1, 0], found.x[2, 0]]
    np.testing.assert_allclose(ends, np.repeat(found.folds.x, 2), atol=1e-6)
    assert (np.diff(found.x) * np.array([[1], [-1], [1]]) > 0).all()
    assert found.stable.tolist() == [True, False, True]
    assert ((found.eigenvalues[:, 1:-1] < 0) == found.stable[:, None]).all()


def test_a_range_cuts_branches_and_below_the_cusp_there_is_but_one():
    part = bifurcation_diagram(5.0, (-2.5, -2.4), points=5)
    np.testing.assert_allclose(part.b[:, [0, -1]], [[-2.5, -2.4]] * 3)
    np.testing.assert_allclose(part.x[:, 0], neuron_fixed_points(5.0, -2.5).x)
    high = bifurcation_diagram(5.0, (-2.0, -1.0), points=5)
    assert np.isnan(high.x).tolist() == [[True] * 5, [True] * 5, [False] * 5]
    for w in (-3.0, 3.0, 4.0):
        single = bifurcation_diagram(w, (-4.0, 0.0), points=5)
        assert np.isnan(single.x).tolist() == [[False] * 5, [True] * 5, [True] * 5]
        np.testing.assert_allclose(flow(single.x[0], w, np.asarray(single.b[0])), 0, atol=1e-12)


def runge_kutta(w, b, x, time, drive=0.0, step=0.01):
    """The classical method with a small step, in NumPy."""
    for _ in range(round(time / step)):
        k1 = flow(x, w, b, drive)
        k2 = flow(x + step / 2 * k1, w, b, drive)
        k3 = flow(x + step / 2 * k2, w, b, drive)
        x = x + step / 6 * (k1 + 2 * k2 + 2 * k3 + flow(x + step * k3, w, b, drive))
    return x


def test_trajectories_are_those_of_a_fixed_small_step():
    w, b, x0 = np.array([5.0, 5.0, -3.0]), np.array([-2.499, -2.6, 1.0]), np.array([0.5, 0.9, 0.1])
    found = neuron_trajectory(w, b, jnp.array([0.0, 1.0, 20.0]), x0=x0, drive=0.05)
    assert found.shape == (3, 3)
    np.testing.assert_array_equal(found[0], x0)
    np.testing.assert_allclose(found[1], runge_kutta(w, b, x0, 1, 0.05), atol=1e-8)
    np.testing.assert_allclose(found[2], runge_kutta(w, b, x0, 20, 0.05), atol=1e-7)


def test_a_drive_shifts_the_state_and_the_bias():
    """y = x − w′u obeys the undriven equation with the bias b + w·w′u."""
    w, times = jnp.array([5.0, 3.0, 6.0]), jnp.array([0.0, 4.0, 9.0])
    driven = neuron_trajectory(w, -2.9, times, x0=0.6, drive=0.1)
    shifted = neuron_trajectory(w, -2.9 + w * 0.1, times, x0=0.5)
    np.testing.assert_allclose(driven, shifted + 0.1, atol=1e-9)


def test_the_geometric_loss_leaps_as_printed():
    loss = geometric_loss(5.0, jnp.array([-2.499, -2.501])).loss
    np.testing.assert_allclose(loss, [2.8e-7, 0.50485], rtol=5e-3)


@pytest.mark.parametrize(
    ("w", "x0", "drive", "time"),
    [(5.0, 0.5, 0.0, 60.0), (6.5, 0.35, 0.0, 40.0), (7.0, 0.6, 0.1, 40.0)],
)
def test_on_either_side_of_the_wall_the_neuron_comes_to_another_attractor(w, x0, drive, time):
    wall = float(geometric_wall(w, x0=x0, drive=drive))
    np.testing.assert_allclose(flow(x0, w, wall, drive), 0, atol=1e-12)
    b = wall + jnp.array([-0.02, 0.02])
    found = geometric_loss(w, b, x0=x0, drive=drive, time=time, target=0.9)
    rests = neuron_fixed_points(w, b, drive).x
    ends = jnp.array([rests[0, 0], rests[1, 2]])
    np.testing.assert_allclose(found.state, ends, atol=1e-4)
    np.testing.assert_allclose(found.loss, (0.9 - ends) ** 2, atol=1e-4)


def test_the_geometric_gradient_far_from_and_at_the_wall():
    """At rest ∂x/∂b = σ′/(1 − w σ′) and ∂x/∂w = x ∂x/∂b; on the wall, finite differences."""
    w, target = 5.0, 0.7
    b = jnp.array([-2.2, -3.0])
    found = geometric_loss(w, b, target=target, time=80.0)
    rests = neuron_fixed_points(w, b).x
    x = jnp.array([rests[0, 2], rests[1, 0]])
    slope = x * (1 - x) / (1 - w * x * (1 - x))
    np.testing.assert_allclose(found.d_b, -2 * (target - x) * slope, rtol=1e-7)
    np.testing.assert_allclose(found.d_w, -2 * (target - x) * slope * x, rtol=1e-7)
    b, tiny = geometric_wall(w) + jnp.array([1e-4, -1e-3]), 1e-5
    found = geometric_loss(w, b, time=20.0)
    less, more = (geometric_loss(w, b + sign * tiny, time=20.0).loss for sign in (-1, 1))
    np.testing.assert_allclose(found.d_b, (more - less) / (2 * tiny), rtol=1e-3)
    less, more = (geometric_loss(w + sign * tiny, b, time=20.0).loss for sign in (-1, 1))
    np.testing.assert_allclose(found.d_w, (more - less) / (2 * tiny), rtol=1e-3)
    assert (abs(found.d_b) > 5).all()


def pascanu(w, b, x, target, steps):
    """The map and its derivatives, step by step in NumPy."""
    d_w = d_b = 0.0
    for _ in range(steps):
        y = sigmoid(x)
        d_w, d_b = y + w * y * (1 - y) * d_w, 1 + w * y * (1 - y) * d_b
        x = w * y + b
    y = sigmoid(x)
    back = 2 * (y - target) * y * (1 - y)
    return (y - target) ** 2, back * d_w, back * d_b, x


@pytest.mark.parametrize(("x0", "target", "steps"), [(0.5, 0.7, 50), (-0.3, 0.6, 7), (0.5, 0.7, 1)])
def test_pascanus_loss_and_its_gradient_are_those_of_a_loop(x0, target, steps):
    w, b = np.linspace(3, 8, 12)[:, None], np.linspace(-4.5, -1.5, 11)
    found = pascanu_loss(w, b, x0=x0, target=target, steps=steps)
    for mine, twin in zip(found, pascanu(w, b, x0, target, steps), strict=True):
        assert mine.shape == (12, 11)
        np.testing.assert_allclose(mine, np.broadcast_to(twin, (12, 11)), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(("w", "x0"), [(5.0, 0.5), (6.0, 0.5), (7.0, -0.4)])
def test_pascanus_wall(w, x0):
    """On it x₀ stays; a little off it the neuron comes to another end."""
    wall = float(pascanu_wall(w, x0=x0))
    np.testing.assert_allclose(pascanu_loss(w, wall, x0=x0, steps=20).state, x0, atol=1e-12)
    low, high = pascanu_loss(w, wall + jnp.array([-0.01, 0.01]), x0=x0, steps=100).state
    assert low < x0 - 0.9 < x0 + 0.9 < high
    if (w, x0) == (5.0, 0.5):
        np.testing.assert_allclose(wall, -2.61230, atol=5e-6)


def test_where_the_start_is_stable_there_is_no_wall():
    np.testing.assert_array_equal(jnp.isnan(geometric_wall(jnp.array([3.9, 4.1]))), [True, False])
    steepness = 1 / (sigmoid(0.5) * sigmoid(-0.5))
    np.testing.assert_array_equal(
        jnp.isnan(pascanu_wall(steepness * jnp.array([0.99, 1.01]))), [True, False]
    )
    assert np.isnan(geometric_wall(5.0, x0=0.1, drive=0.2))


def test_single_precision_stays_single():
    w = jnp.array([5.0, 6.0], jnp.float32)
    for found in (
        fold_points(w),
        neuron_fixed_points(w, -2.5),
        pascanu_loss(w, -2.0),
        geometric_loss(w, -2.2, time=5.0),
    ):
        assert {leaf.dtype for leaf in found} <= {jnp.dtype(jnp.float32), jnp.dtype(bool)}
    np.testing.assert_allclose(
        neuron_fixed_points(w[:1], -2.5).x, [[0.144794, 0.5, 0.855206]], atol=1e-6
    )


def test_a_steep_neuron_has_the_right_gradient_or_none():
    """At large |w| the equation is stiff: derivatives outside step control would lose digits."""
    w, b, target = (
        jnp.array([-200.0, -5000.0], jnp.float32),
        jnp.array([100.3, 2500.3], jnp.float32),
        0.855,
    )
    found = geometric_loss(w, b, time=50.0)
    x = neuron_fixed_points(w[0], b[0]).x[0]
    slope = x * (1 - x) / (1 - w[0] * x * (1 - x))
    np.testing.assert_allclose(
        [found.d_b[0], found.d_w[0]], -2 * (target - x) * slope * jnp.array([1, x]), rtol=1e-3
    )
    assert all(np.isnan(field[1]) for field in found)


def test_nothing_is_compiled_twice():
    pascanu_loss(jnp.ones((2, 1)), jnp.ones(3))
    neuron_fixed_points(jnp.ones(4), 1.0)
    with watch() as work:
        pascanu_loss(jnp.zeros((2, 1)), jnp.ones(3), target=0.3, x0=0.1)
        neuron_fixed_points(jnp.zeros(4), 2.0, 0.1)
    assert not {"_pascanu", "_fixed_points"} & set(work.compiled)


def test_without_diffrax_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffrax", None)
    with pytest.raises(
        ImportError, match=r"diffrax, which is not installed; pip install 'rnnlab\[dynamics\]'"
    ):
        geometric_loss(5.0, -2.5)


def test_the_figure_says_where_the_folds_and_the_cusp_are(tmp_path):
    found, w = bifurcation_diagram(6.0, points=20), jnp.linspace(4, 8, 20)
    folds, tip = fold_points(w), cusp()
    branches = zip(found.b, found.x, found.stable, strict=True)
    diagram = {
        "w": 6.0,
        "branches": [{"b": b, "x": x, "stable": bool(stable)} for b, x, stable in branches],
    }
    diagram["folds"] = list(zip(found.folds.b.tolist(), found.folds.x.tolist(), strict=True))
    plane = {
        "w": w,
        "upper": folds.b[:, 0],
        "lower": folds.b[:, 1],
        "cusp": (float(tip.w), float(tip.b)),
    }
    walls.bifurcation(diagram, plane, tmp_path / "diagram.svg")
    text = (tmp_path / "diagram.svg").read_text()
    low, high = (f"−{-float(b):.3f}" for b in found.folds.b[::-1])
    assert (
        f"At w = 6 two states are stable for b from {low} to {high}; "
        "below the cusp at w = 4, b = −2" in text
    )
    for words in (
        "unstable",
        f"b = −{-float(found.folds.b[0]):.4f}",
        "recurrent weight w",
        "bias b",
        "fixed point x",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: neuron_fixed_points(jnp.ones(2), jnp.ones(3)),
            ("do not broadcast", "w (2,)", "b (3,)"),
        ),
        (lambda: neuron_fixed_points(5.0, jnp.array([0.0, jnp.nan])), ("b holds NaN", "[1]")),
        (lambda: neuron_fixed_points("five", 1.0), ("w cannot be read",)),
        (lambda: neuron_fixed_points(jnp.array([1j]), 1.0), ("complex", "one neuron is real")),
        (lambda: bifurcation_diagram(5.0, (-1.0, -2.0)), ("b runs from -1.0 to -2.0",)),
        (lambda: bifurcation_diagram(jnp.ones(2)), ("broadcast to (2,)",)),
        (lambda: bifurcation_diagram(5.0, points=0), ("points is 0",)),
        (lambda: neuron_trajectory(5.0, -2.5, [1.0, 0.5]), ("times must be",)),
        (lambda: neuron_trajectory(5.0, -2.5, [-1.0, 0.5]), ("times must be",)),
        (lambda: neuron_trajectory(5.0, -2.5, 3.0), ("times must be",)),
        (lambda: geometric_loss(5.0, -2.5, time=0.0), ("time is 0.0",)),
        (lambda: pascanu_loss(5.0, -2.5, steps=0), ("steps is 0",)),
    ],
)
def test_bad_input(call, words):
    one_sentence(call, *words)
