"""Clipping against loops in NumPy, and what it does at the wall of one neuron's loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnnlab
from rnnlab import diagnostics
from rnnlab.cells import GRU, LSTM, RNN
from rnnlab.layers import clip_adjoints
from rnnlab.report.figures import one_neuron as walls
from rnnlab.theory import wall_paths
from rnnlab.theory.one_neuron import geometric_loss, geometric_wall, pascanu_loss, pascanu_wall
from rnnlab.training import threshold_range
from tests.reference import close, one_sentence, watch
from tests.reference.cells import draw_params

pytestmark = pytest.mark.long


def test_the_range_of_thresholds_is_half_to_ten_times_the_average():
    np.testing.assert_allclose(threshold_range(jnp.array([[1.0, 2.0], [3.0, 6.0]])), (1.5, 3, 30))


RANDOM = np.random.default_rng(0)
STEPS, BATCH = 12, 3
XS = jnp.asarray(RANDOM.normal(size=(STEPS, BATCH, 2)))
OUTER = RANDOM.normal(size=(STEPS, BATCH, 4))  # ∂L/∂yₜ


def gradients(cell, params, xs, state=None, outer=OUTER, **options):
    """∂/∂(params, xs, s₀) of Σ ⟨outerₜ, yₜ⟩."""
    state = cell.initial_state(xs.shape[1:-1]) if state is None else state

    def loss(params, xs, state):
        return jnp.sum(outer * rnnlab.unroll(cell, params, xs, state, **options)[1])

    return jax.grad(loss, argnums=(0, 1, 2))(params, xs, state)


def exploding():
    """hₜ = tanh(xₜ W_x + hₜ₋₁ W_h + b) with large weights and small inputs."""
    cell = RNN(4, param_dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 2)
    return cell, params._replace(w_h=3 * params.w_h, b=jnp.full(4, 0.1)), 0.01 * XS


@pytest.mark.parametrize("engine", ["scan", "checkpointed"])
@pytest.mark.parametrize("threshold", [0.5, 5.0])
def test_clipped_adjoints_are_those_of_backpropagation_by_hand(threshold, engine):
    cell, params, xs = exploding()
    start = np.full((BATCH, 4), 0.01)
    d_params, d_xs, d_start = gradients(
        clip_adjoints(cell, threshold),
        params,
        xs,
        cell.initial_state((BATCH,))._replace(h=start),
        engine=engine,
    )
    w_x, w_h, b = (np.asarray(p) for p in (params.w_x, params.w_h, params.b))
    hs = [start]
    for x in np.asarray(xs):
        hs.append(np.tanh(x @ w_x + hs[-1] @ w_h + b))
    by_hand = {"w_x": np.zeros_like(w_x), "w_h": np.zeros_like(w_h), "b": np.zeros_like(b)}
    message, counted = np.zeros((BATCH, 4)), 0
    for t in reversed(range(STEPS)):
        delta = (OUTER[t] + message) * (1 - hs[t + 1] ** 2)
        by_hand["w_x"] += np.asarray(xs[t]).T @ delta
        by_hand["w_h"] += hs[t].T @ delta
        by_hand["b"] += delta.sum(axis=0)
        np.testing.assert_allclose(d_xs[t], delta @ w_x.T, rtol=1e-10)
        message = delta @ w_h.T
        for example in range(BATCH):
            norm = np.linalg.norm(message[example])
            if norm > threshold:
                message[example] *= threshold / norm
                counted += 1
    for name, leaf in by_hand.items():
        np.testing.assert_allclose(getattr(d_params, name), leaf, rtol=1e-10)
    np.testing.assert_allclose(d_start.h, message, rtol=1e-10)
    assert counted > 0
    assert counted < STEPS * BATCH or threshold < 1


def counting(params, state, x):
    """A foreign step whose state has a whole number and two axes of features."""
    memory, number = state
    new = jnp.tanh(params * memory + x[..., None] + 0.1 * number[..., None, None])
    return (new, number + 1), new.reshape(*x.shape[:-1], -1)


CELLS = {
    "lstm": LSTM(4, param_dtype=jnp.float64),
    "stack": rnnlab.stack([LSTM(3, param_dtype=jnp.float64), RNN(4, param_dtype=jnp.float64)]),
    "foreign": rnnlab.Step(counting, (jnp.zeros((2, 2)), jnp.zeros((), int))),
}


def drawn(name):
    cell = CELLS[name]
    return cell, jnp.array([[2.0, -3.0], [1.5, 2.5]]) if name == "foreign" else draw_params(cell, 2)


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_has_its_whole_state_clipped_example_by_example(name):
    """The twin walks back step by step through ``jax.vjp`` of the bare cell and clips in NumPy."""
    cell, params = drawn(name)
    threshold, start = 0.3, cell.initial_state((BATCH,))
    state, pulls = start, []
    for x in XS:
        (state, _), pull = jax.vjp(cell.step, params, state, x)
        pulls.append(pull)

    def still(leaf):
        return np.zeros(
            leaf.shape,
            leaf.dtype if jnp.issubdtype(leaf.dtype, jnp.floating) else jax.dtypes.float0,
        )

    message, total, d_xs = jax.tree.map(still, state), jax.tree.map(np.zeros_like, params), []
    for pull, d_y in zip(reversed(pulls), OUTER[::-1], strict=True):
        own, message, d_x = pull((message, jnp.asarray(d_y)))
        total, d_xs = jax.tree.map(np.add, total, own), [d_x, *d_xs]
        leaves, tree = jax.tree.flatten(message)
        leaves = [np.array(leaf) for leaf in leaves]
        for example in range(BATCH):
            parts = [leaf[example] for leaf in leaves if leaf.dtype != jax.dtypes.float0]
            norm = np.sqrt(sum(np.sum(part**2) for part in parts))
            for part in parts:
                part *= min(1, threshold / norm)
        message = jax.tree.unflatten(tree, leaves)
    wrapped = clip_adjoints(cell, threshold)

    def loss(params, xs):
        return jnp.sum(OUTER * rnnlab.unroll(wrapped, params, xs)[1])

    close(
        jax.grad(loss, argnums=(0, 1))(params, XS),
        (jax.tree.map(jnp.asarray, total), jnp.stack(d_xs)),
    )


@pytest.mark.parametrize("name", CELLS)
def test_values_stay_and_an_infinite_threshold_clips_nothing(name):
    cell, params = drawn(name)
    bare, tight, loose = cell, clip_adjoints(cell, 1e-3), clip_adjoints(cell, np.inf)

    def run(cell, params):
        return rnnlab.unroll(cell, params, XS, engine="scan")[1]

    np.testing.assert_array_equal(run(bare, params), run(tight, params))
    slope = [
        jax.grad(lambda p, c=c: jnp.sum(OUTER * run(c, p)))(params) for c in (bare, tight, loose)
    ]
    close(slope[2], slope[0], 1e-14)
    most = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), slope[1], slope[0])
    assert max(jax.tree.leaves(most)) > 1e-3


def test_a_clipped_adjoint_does_not_explode():
    cell, params, _ = exploding()
    params, xs = (
        params._replace(b=jnp.zeros(4)),
        jnp.zeros((40, BATCH, 2)),
    )  # hₜ = 0, where nothing saturates
    last = np.zeros((40, BATCH, 4))
    last[-1] = RANDOM.normal(size=(BATCH, 4))
    assert np.linalg.norm(gradients(cell, params, xs, outer=last)[2].h, axis=-1).min() > 1e6
    d_start = gradients(clip_adjoints(cell, 2.0), params, xs, outer=last)[2].h
    np.testing.assert_allclose(np.linalg.norm(d_start, axis=-1), 2, rtol=1e-12)


def test_padding_and_resets_change_nothing():
    """Padded, the gradient is that of each example alone; reset, that of the two halves."""
    cell = clip_adjoints(CELLS["lstm"], 0.2)
    params = draw_params(cell.cell, 2)
    own, d_xs, _ = gradients(cell, params, XS, lengths=jnp.array([5, STEPS, 5]))
    short, long = (
        OUTER[:5] * [[1.0], [0.0], [1.0]],
        OUTER * [[0.0], [1.0], [0.0]],
    )  # examples do not meet
    few, few_xs, _ = gradients(cell, params, XS[:5], outer=short)
    all_, all_xs, _ = gradients(cell, params, XS, outer=long)
    close(own, jax.tree.map(jnp.add, few, all_))
    close(d_xs, all_xs + jnp.pad(few_xs, ((0, STEPS - 5), (0, 0), (0, 0))))
    own, d_xs, _ = gradients(
        cell, params, XS, resets=jnp.zeros((STEPS, BATCH), bool).at[5].set(True)
    )
    first, first_xs, _ = gradients(cell, params, XS[:5], outer=OUTER[:5])
    second, second_xs, _ = gradients(cell, params, XS[5:], outer=OUTER[5:])
    close(own, jax.tree.map(jnp.add, first, second))
    close(d_xs, jnp.concatenate([first_xs, second_xs]))


def test_under_vmap_and_among_other_layers():
    cell = clip_adjoints(GRU(4, param_dtype=jnp.float64), 0.2)
    params = draw_params(cell.cell, 2)
    whole = gradients(cell, params, XS)
    one_by_one = jax.vmap(lambda xs, outer: gradients(cell, params, xs, outer=outer), in_axes=1)(
        XS, OUTER
    )
    close(jax.tree.map(lambda leaf: leaf.sum(axis=0), one_by_one[0]), whole[0])
    close(jnp.moveaxis(one_by_one[1], 0, 1), whole[1])
    deep = rnnlab.stack([cell, rnnlab.Readout(4)])
    params = draw_params(rnnlab.stack([cell.cell, rnnlab.Readout(4)]), 2)
    step_by_step = gradients(
        cell, params.layers[0], XS, outer=OUTER @ np.asarray(params.layers[1].w.T)
    )
    close(gradients(deep, params, XS)[0].layers[0], step_by_step[0])
    assert (deep.cells[0].hidden_size, deep.cells[0].output_size) == (4, 4)
    assert jax.tree.structure(deep.init(jax.random.key(0), 2)) == jax.tree.structure(params)


def test_norms_of_half_precision_do_not_overflow():
    cell = clip_adjoints(rnnlab.Step(lambda _, h, __: (h, h), jnp.zeros(4, jnp.float16)), 3.0)
    d_start = jax.grad(lambda h: jnp.sum(500 * cell.step((), h, jnp.zeros((2, 1)))[1]))(
        jnp.ones((2, 4), jnp.float16)
    )
    assert d_start.dtype == jnp.float16
    np.testing.assert_allclose(d_start, 1.5, rtol=2e-3)


def descend(loss, w, b, rate, steps, clip):
    """Gradient descent in a NumPy loop."""
    points = []
    for _ in range(steps + 1):
        at = loss(w, b)
        slope = np.array([at.d_w, at.d_b])
        points.append([w, b, at.loss, np.linalg.norm(slope)])
        w, b = np.array([w, b]) - rate * clip(slope)
    return np.array(points)


def to_norm(slope, threshold=0.1):
    norm = np.linalg.norm(slope)
    return slope * threshold / norm if norm >= threshold else slope


def test_paths_are_those_of_a_loop():
    """Away from the wall, where rounding does not decide which way they go."""
    start, rate = (6.0, -2.5), 1.0
    optimisers = [
        optax.sgd(rate),
        optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(rate)),
        optax.chain(optax.clip(0.05), optax.sgd(rate)),
    ]
    loss = functools.partial(pascanu_loss, steps=8)
    found = wall_paths(loss, start, optimisers, 15)
    clips = [lambda slope: slope, to_norm, lambda slope: np.clip(slope, -0.05, 0.05)]
    for number, clip in enumerate(clips):
        twin = descend(loss, *start, rate, 15, clip)
        for field, column in zip(found, twin.T, strict=True):
            assert field.shape == (16, 3)
            np.testing.assert_allclose(field[:, number], column, rtol=1e-8, atol=1e-12)
    assert (found.gradient_norm[:, 0] > 0.1).any()


# The loss, its wall and its target; how far below the wall to start, and a rate at which a step
# there is far.
MAP = (pascanu_loss, pascanu_wall, 0.7, 3e-5, 0.2)
FLOW = (functools.partial(geometric_loss, time=20.0), geometric_wall, 0.855, 1e-3, 3.0)


@pytest.mark.parametrize(
    ("loss", "wall", "target", "below", "rate"), [MAP, FLOW], ids=["map", "flow"]
)
def test_one_step_at_the_wall_throws_the_weights_away_and_clipping_holds_them(
    loss, wall, target, below, rate
):
    threshold, steps = 0.5, 120
    optimisers = (
        optax.sgd(rate),
        optax.chain(optax.clip_by_global_norm(threshold), optax.sgd(rate)),
    )
    w = jnp.array([4.8, 5.0, 5.2])
    paths = jax.vmap(lambda w, b: wall_paths(loss, (w, b), optimisers, steps))(w, wall(w) - below)
    assert paths.w.shape == (3, steps + 1, 2)
    stride = jnp.hypot(jnp.diff(paths.w, axis=1), jnp.diff(paths.b, axis=1))
    away = jnp.hypot(paths.w - paths.w[:, :1], paths.b - paths.b[:, :1])
    np.testing.assert_allclose(stride[:, 0, 0], rate * paths.gradient_norm[:, 0, 0], rtol=1e-9)
    assert (stride[:, 0, 0] > 30).all()
    assert (away[:, -1, 0] > 30).all()
    np.testing.assert_allclose(
        paths.loss[:, -1, 0], (1 - target) ** 2, rtol=1e-6
    )  # far out the neuron is saturated
    assert (stride[:, :, 1] <= rate * threshold * (1 + 1e-9)).all()
    assert (away[:, :, 1] < 2).all()
    assert (paths.loss[:, :, 1].min(axis=1) < 1e-3).all()
    assert (paths.loss[:, 0, 1] > 1e-2).all()


def test_nothing_is_compiled_twice():
    optimisers = [optax.sgd(0.1)]
    wall_paths(pascanu_loss, (5.0, -2.0), optimisers, 3)
    with watch() as work:
        wall_paths(pascanu_loss, (6.0, -3.0), optimisers, 3)
    assert "_paths" not in work.compiled


def test_the_figure_says_how_many_were_thrown_away_and_where_to(tmp_path):
    w, b = np.linspace(4, 6, 9), np.linspace(-3, -2, 8)
    surface = {
        "name": "a surface",
        "w": w,
        "b": b,
        "loss": pascanu_loss(w[:, None], b).loss,
        "wall": pascanu_wall(w),
        "plain": {"w": [5.0, 4.9, 578.0, 578.0], "b": [-2.2, -2.4, -919.0, -919.0]},
        "clipped": {"w": [5.0, 4.9, 4.8, 4.7], "b": [-2.2, -2.4, -2.3, -2.2], "threshold": 0.25},
        "thresholds": np.array([0.1, 1.0, 10.0, np.inf]),
        "average": 0.2,
        "thrown": np.array([0.0, 0.02, 0.3, 0.4]),
        "final": np.array([[0.1, 0.01, 0.1, 0.2], [0.01, 0.001, 0.1, np.nan]]),
    }
    walls.walls(
        [surface, surface | {"name": "another", "thrown": np.array([0, 0, 0.1, 0.5])}],
        tmp_path / "wall.svg",
    )
    text = (tmp_path / "wall.svg").read_text()
    assert (
        "Without clipping, 40% and 50% of the descents jump far away at the wall; "
        "with τ up to 10 × the average norm, at most 2.0%" in text
    )
    for words in (
        "step 2 goes to w = 578, b = −919",
        "clipped at 0.25",
        "recurrent weight w",
        "another",
        "2 starts",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: threshold_range([]), ("norms holds no number",)),
        (lambda: threshold_range([1.0, np.inf]), ("norms holds NaN or infinity",)),
        (lambda: clip_adjoints(RNN, 1.0), ("is not a cell",)),
        (lambda: clip_adjoints(RNN(3), 0), ("threshold is 0",)),
        (lambda: clip_adjoints(RNN(3), jnp.ones(())), ("it must be a number above 0",)),
        (
            lambda: clip_adjoints(rnnlab.bidirectional(RNN(3)), 1.0),
            ("Bidirectional has no step", "clip its inner cells"),
        ),
        (
            lambda: clip_adjoints(rnnlab.stack([RNN(3)], dropout=0.1), 1.0),
            ("without its dropout", "clip its inner cells"),
        ),
        (lambda: wall_paths(pascanu_loss, (5.0, -2.0), [], 3), ("there is no optimiser",)),
        (
            lambda: wall_paths(pascanu_loss, (5.0, np.nan), [optax.sgd(0.1)], 3),
            ("start[1] holds NaN",),
        ),
        (
            lambda: wall_paths(pascanu_loss, (5.0, np.ones(2)), [optax.sgd(0.1)], 3),
            ("start has shapes",),
        ),
        (lambda: wall_paths(pascanu_loss, (5.0, -2.0), [optax.sgd(0.1)], -1), ("steps is -1",)),
        (lambda: wall_paths(3.0, (5.0, -2.0), [optax.sgd(0.1)], 1), ("loss is 3.0",)),
    ],
)
def test_bad_input(call, words):
    one_sentence(call, *words)


def test_a_state_without_batch_axes_is_refused():
    cell = clip_adjoints(rnnlab.Step(lambda p, h, x: (h, p * x), lambda _: jnp.zeros(3)), 1.0)
    one_sentence(
        lambda: cell.step(jnp.ones(()), cell.initial_state((2,)), jnp.ones((2, 1))),
        "lacks the batch axes",
    )


@pytest.mark.parametrize("wrap", [lambda cell: cell, lambda cell: rnnlab.stack([RNN(3), cell])])
def test_instruments_refuse_what_clips_on_its_way_back(wrap):
    cell = wrap(clip_adjoints(RNN(3), 0.1))
    params, xs = cell.init(jax.random.key(0), 2), jnp.ones((4, 1, 2))
    words = "ClippedAdjoint", "give the inner cell"
    one_sentence(lambda: diagnostics.gradient_flow(cell, params, xs, jnp.sum), *words)
    one_sentence(lambda: diagnostics.bptt_contributions(cell, params, xs, jnp.sum), *words)
    one_sentence(lambda: diagnostics.truncation_bias(cell, params, xs, jnp.sum, steps=[1]), *words)
    one_sentence(lambda: diagnostics.lyapunov_spectrum(cell, params, xs), *words)
