"""The monitor against NumPy norms and loops over gradient_flow, under JAX's transformations."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from jax import lax

import rnnlab
from rnnlab.training import monitor_gradients, read_monitor
from tests.reference import one_sentence

T, B, I = 13, 6, 3
MODEL = rnnlab.stack(
    [rnnlab.bidirectional(rnnlab.GRU(3)), rnnlab.LSTM(4), rnnlab.Readout(2, bias=False)]
)
XS = jax.random.normal(jax.random.key(1), (T, B, I))
SIMPLE = {"w": jnp.zeros((2, 3), jnp.float32), "b": jnp.zeros(3, jnp.float32)}


def loss(ys):
    return jnp.mean(ys[-1] ** 2) + jnp.mean(jnp.sin(ys))


def draw(seed, dtype=jnp.float32, like=SIMPLE):
    """A gradient of random size."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda p: jnp.asarray(np.exp(random.normal()) * random.normal(size=p.shape), dtype), like
    )


def run(optimiser, gradients, params=SIMPLE, **extra):
    """The optimiser's state after one compiled step for each of ``gradients``, and all updates."""
    update = jax.jit(lambda gradient, state: optimiser.update(gradient, state, params, **extra))
    state, seen = optimiser.init(params), []
    for gradient in gradients:
        updates, state = update(gradient, state)
        seen.append(updates)
    return state, seen


def log_norm(*leaves):
    return 0.5 * np.log(sum((np.asarray(leaf, np.float64) ** 2).sum() for leaf in leaves))


def test_every_parameter_every_part_of_the_tree_and_all_are_groups():
    params = jax.eval_shape(lambda key: MODEL.init(key, I), jax.random.key(0))
    gradient = draw(0, like=params)
    looks = read_monitor(run(monitor_gradients(), [gradient], params)[0])
    both, lstm, readout = gradient.layers
    expected = {
        "all": log_norm(*jax.tree.leaves(gradient)),
        "layers[0]": log_norm(*jax.tree.leaves(both)),
        "layers[0].forward": log_norm(*jax.tree.leaves(both.forward)),
        "layers[0].backward": log_norm(*jax.tree.leaves(both.backward)),
        "layers[1]": log_norm(*jax.tree.leaves(lstm)),
        "layers[2]": log_norm(readout.w),
        "layers[2].w": log_norm(readout.w),
    }
    for part, leaves in (
        ("layers[0].forward", both.forward),
        ("layers[0].backward", both.backward),
        ("layers[1]", lstm),
    ):
        expected |= {
            f"{part}.{name}": log_norm(a) for name, a in leaves._asdict().items() if a is not None
        }
    assert looks.log_norm.keys() == expected.keys()
    for name, norm in expected.items():
        np.testing.assert_allclose(looks.log_norm[name], [norm], atol=1e-5, err_msg=name)
    assert looks.lags is None
    assert looks.log_norm_by_lag is None


def test_groups_can_be_named_and_left_out():
    kinds = {"layers[0].w_x": "inputs", "layers[1].w_x": "inputs", "layers[0].w_h": "recurrent"}
    model = rnnlab.stack([rnnlab.GRU(2), rnnlab.GRU(2)])
    params = jax.eval_shape(lambda key: model.init(key, 2), jax.random.key(0))
    gradient = draw(0, like=params)
    looks = read_monitor(run(monitor_gradients(group=kinds.get), [gradient], params)[0])
    first, second = gradient.layers
    assert looks.log_norm.keys() == {"all", "inputs", "recurrent"}
    np.testing.assert_allclose(
        looks.log_norm["inputs"], [log_norm(first.w_x, second.w_x)], atol=1e-5
    )
    np.testing.assert_allclose(looks.log_norm["recurrent"], [log_norm(first.w_h)], atol=1e-5)
    np.testing.assert_allclose(
        looks.log_norm["all"], [log_norm(*jax.tree.leaves(gradient))], atol=1e-5
    )


@pytest.mark.parametrize("params", [jnp.ones(3), [jnp.ones(3)]])
def test_a_tree_of_one_array_is_all_there_is(params):
    looks = read_monitor(run(monitor_gradients(), [params], params)[0])
    assert list(looks.log_norm) == (["[0]", "all"] if isinstance(params, list) else ["all"])
    np.testing.assert_allclose(looks.log_norm["all"], [0.5 * np.log(3)], atol=1e-6)


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        (1, range(11)),
        (4, [0, 4, 8]),
        (20, [0]),
        (lambda step: (step == 2) | (step > 8), [2, 9, 10]),
    ],
)
def test_it_looks_at_the_chosen_steps(every, expected):
    gradients = [draw(seed) for seed in range(11)]
    looks = read_monitor(run(monitor_gradients(every), gradients)[0])
    assert looks.steps.tolist() == [*expected]
    assert looks.lost == 0
    for name in SIMPLE:
        norms = [log_norm(gradients[step][name]) for step in expected]
        np.testing.assert_allclose(looks.log_norm[f"['{name}']"], norms, atol=1e-5)


def test_nothing_is_seen_before_the_first_step():
    looks = read_monitor(monitor_gradients(lags=5).init(SIMPLE))
    assert looks.steps.shape == looks.finite.shape == looks.log_norm["all"].shape == (0,)
    assert looks.log_norm_by_lag.shape == (0, 1, 4)


@pytest.mark.parametrize("capacity", [1, 3, 5, 6])
def test_the_newest_looks_overwrite_the_oldest(capacity):
    gradients = [draw(seed) for seed in range(10)]
    looks = read_monitor(run(monitor_gradients(2, capacity=capacity), gradients)[0])
    kept = [0, 2, 4, 6, 8][-capacity:]
    assert looks.steps.tolist() == kept
    assert looks.lost == 5 - len(kept)
    norms = [log_norm(*gradients[step].values()) for step in kept]
    np.testing.assert_allclose(looks.log_norm["all"], norms, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_updates_are_the_same_to_the_last_bit(dtype):
    params = jax.tree.map(lambda p: p.astype(dtype), SIMPLE)
    gradients = [draw(seed, dtype) for seed in range(5)]
    rest = optax.clip_by_global_norm(1.0), optax.adam(1e-2)
    _, bare = run(optax.chain(*rest), gradients, params)
    state, watched = run(optax.chain(monitor_gradients(2), *rest), gradients, params)
    chex.assert_trees_all_equal(watched, bare)
    chex.assert_trees_all_equal_dtypes(watched, bare)
    norms = [log_norm(*gradients[step].values()) for step in (0, 2, 4)]
    np.testing.assert_allclose(read_monitor(state).log_norm["all"], norms, atol=1e-5)


def test_its_place_in_a_chain_says_what_it_sees():
    clip = optax.clip_by_global_norm(0.5)
    state, updates = run(
        optax.chain(monitor_gradients(1), clip, monitor_gradients(1)), [draw(0), draw(1)]
    )
    before, after = read_monitor(state[0]), read_monitor(state[2])
    np.testing.assert_allclose(
        before.log_norm["all"], [log_norm(*draw(s).values()) for s in (0, 1)], atol=1e-5
    )
    np.testing.assert_allclose(
        after.log_norm["all"], [log_norm(*u.values()) for u in updates], atol=1e-5
    )
    assert (after.log_norm["all"] < np.log(0.5) + 1e-5).all()


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_float32_neither_underflows_nor_overflows(size):
    gradient = jax.tree.map(lambda leaf: size * leaf, draw(0))
    looks = read_monitor(run(monitor_gradients(), [gradient])[0])
    np.testing.assert_allclose(
        looks.log_norm["all"], [log_norm(*draw(0).values()) + np.log(size)], atol=1e-4
    )
    assert looks.finite.all()


def test_zero_is_minus_infinity_and_sound_but_nan_and_infinity_are_not():
    zero = jax.tree.map(jnp.zeros_like, SIMPLE)
    gradients = [
        zero,
        draw(0),
        draw(0) | {"b": jnp.array([0, jnp.nan, 1])},
        draw(0) | {"b": jnp.array([0, jnp.inf, 1])},
    ]
    looks = read_monitor(run(monitor_gradients(1), gradients)[0])
    assert looks.finite.tolist() == [True, True, False, False]
    assert looks.log_norm["all"][0] == looks.log_norm["['w']"][0] == -np.inf
    np.testing.assert_allclose(looks.log_norm["['w']"][1:], [log_norm(draw(0)["w"])] * 3, atol=1e-5)
    assert np.isnan(looks.log_norm["['b']"][2])
    assert looks.log_norm["['b']"][3] == np.inf


def test_a_complex_parameter_has_the_norm_of_its_two_parts():
    params = {"a": jnp.array([3 + 4j, 0, 12j], jnp.complex64), "b": jnp.ones(3)}
    looks = read_monitor(run(monitor_gradients(), [params], params)[0])
    np.testing.assert_allclose(looks.log_norm["['a']"], [np.log(13)], atol=1e-6)
    np.testing.assert_allclose(looks.log_norm["all"], [0.5 * np.log(172)], atol=1e-6)


@pytest.mark.long
def test_lags_and_parameters_are_seen_as_gradient_flow_sees_them():
    cell = rnnlab.stack([rnnlab.RNN(3), rnnlab.RNN(4)])
    params, edges = cell.init(jax.random.key(0), I), [0, 1, 2, 4, 8, 13]
    optimiser = optax.chain(monitor_gradients(2, lags=T, layers=2), optax.sgd(0.5))

    def flow(params):
        return rnnlab.gradient_flow(cell, params, XS, loss)

    @jax.jit
    def step(params, state):
        gradient = jax.grad(lambda params: loss(rnnlab.unroll(cell, params, XS)[1]))(params)
        updates, state = optimiser.update(
            gradient, state, params, flow=lambda: flow(params).log_norm_by_lag
        )
        return optax.apply_updates(params, updates), state

    state, seen = optimiser.init(params), []
    for _ in range(3):
        seen.append(flow(params))
        params, state = step(params, state)
    looks = read_monitor(state)
    assert looks.steps.tolist() == [0, 2]
    assert looks.lags.tolist() == edges
    for number, then in enumerate(seen[::2]):
        by_hand = [
            [log_mean(layer, edges, k) for k in range(5)]
            for layer in np.asarray(then.log_norm_by_lag)
        ]
        np.testing.assert_allclose(looks.log_norm_by_lag[number], by_hand, atol=1e-4)
        for path, norm in jax.tree_util.tree_leaves_with_path(then.log_norm_gradient):
            mine = looks.log_norm[jax.tree_util.keystr(path).removeprefix(".")]
            np.testing.assert_allclose(mine[number], norm, atol=1e-4)


def log_mean(norms, edges, k):
    """The mean over the bucket ``k``, lag by lag."""
    total, count = 0.0, 0
    for lag in range(len(norms)):
        if edges[k] <= lag < edges[k + 1]:
            total, count = total + float(norms[lag]), count + 1
    return total / count


@pytest.mark.parametrize(
    ("lags", "shape", "edges"),
    [
        (13, (13,), [0, 1, 2, 4, 8, 13]),
        (8, (13,), [0, 1, 2, 4, 8]),
        (1, (1,), [0, 1]),
        (np.int64(3), (1, 3), [0, 1, 2, 3]),
        ((2, 13), (3, 13), [2, 13]),
        ([0, 3, 5, 12], (2, 20), [0, 3, 5, 12]),
    ],
)
def test_buckets_are_means_over_their_lags(lags, shape, edges):
    norms = np.random.default_rng(0).normal(size=shape)
    layers = shape[0] if len(shape) == 2 else 1
    state, _ = run(
        monitor_gradients(lags=lags, layers=layers), [draw(0)], flow=lambda: jnp.asarray(norms)
    )
    expected = [
        [log_mean(row, edges, k) for k in range(len(edges) - 1)]
        for row in norms.reshape(layers, -1)
    ]
    looks = read_monitor(state)
    assert looks.lags.tolist() == edges
    np.testing.assert_allclose(looks.log_norm_by_lag, [expected], atol=1e-6)


def test_buckets_leave_out_lags_that_no_example_has():
    norms = jnp.array([1.0, 2.0, 4.0, -jnp.inf, -jnp.inf, -jnp.inf, 3.0])
    state, _ = run(monitor_gradients(lags=[0, 2, 4, 6, 7]), [draw(0)], flow=lambda: norms)
    np.testing.assert_array_equal(read_monitor(state).log_norm_by_lag, [[[1.5, 4.0, -np.inf, 3.0]]])


def test_the_flow_runs_at_a_look_and_at_no_other_step():
    calls = []
    flow = functools.partial(
        jax.pure_callback,
        lambda: calls.append(1) or np.zeros(4, np.float32),
        jax.ShapeDtypeStruct((4,), jnp.float32),
    )
    state, _ = run(monitor_gradients(3, lags=4), [draw(0)] * 8, flow=flow)
    jax.block_until_ready(state)
    assert len(calls) == 3


@pytest.mark.parametrize("lags", [None, 4])
def test_many_steps_compile_once_and_donate_their_state(lags):
    optimiser = optax.chain(monitor_gradients(3, lags=lags, capacity=2), optax.adam(1e-2))
    extra = {} if lags is None else {"flow": lambda: jnp.arange(4.0)}

    chex.clear_trace_counter()

    @functools.partial(jax.jit, donate_argnums=1)
    @chex.assert_max_traces(n=1)
    def step(gradient, state):
        return optimiser.update(gradient, state, SIMPLE, **extra)

    state = optimiser.init(SIMPLE)
    for seed in range(8):
        given = state
        _, state = step(draw(seed), given)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given))
    assert read_monitor(state).steps.tolist() == [3, 6]


def test_a_scan_over_steps_sees_what_a_loop_sees():
    optimiser = optax.chain(monitor_gradients(3, capacity=3, lags=2), optax.adam(1e-2))
    gradients = [draw(seed) for seed in range(11)]
    extra = {"flow": lambda: jnp.array([1.0, 2.0])}
    by_loop, _ = run(optimiser, gradients, **extra)

    @jax.jit
    def by_scan(state):
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *gradients)
        return lax.scan(
            lambda state, g: (optimiser.update(g, state, SIMPLE, **extra)[1], None), state, stacked
        )[0]

    chex.assert_trees_all_close(by_scan(optimiser.init(SIMPLE)), by_loop, rtol=1e-6)


def test_seeds_under_vmap_are_seen_one_by_one():
    optimiser = optax.chain(monitor_gradients(2, capacity=2, lags=[0, 1, 3]), optax.adam(1e-2))
    gradients = [
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *(draw(10 * s + n) for s in range(3)))
        for n in range(5)
    ]
    params = jax.tree.map(lambda p: jnp.stack([p] * 3), SIMPLE)

    def update(gradient, state, params):
        return optimiser.update(gradient, state, params, flow=lambda: gradient["b"])[1]

    state, update_all = jax.vmap(optimiser.init)(params), jax.jit(jax.vmap(update))
    for gradient in gradients:
        state = update_all(gradient, state, params)
    looks = read_monitor(state)
    assert looks.lost == 1
    assert looks.lags.tolist() == [0, 1, 3]
    assert looks.steps.tolist() == [[2, 4]] * 3
    norms = [[log_norm(*draw(10 * s + n).values()) for n in (2, 4)] for s in range(3)]
    np.testing.assert_allclose(looks.log_norm["all"], norms, atol=1e-5)
    b = np.array([[draw(10 * s + n)["b"] for n in (2, 4)] for s in range(3)])
    np.testing.assert_allclose(
        looks.log_norm_by_lag[:, :, 0], np.stack([b[..., 0], b[..., 1:].mean(-1)], -1), atol=1e-6
    )
    uneven = state[0]._replace(looks=jnp.array([3, 3, 2]))
    one_sentence(lambda: read_monitor(uneven), "seeds", "one by one")


def test_accumulated_gradients_are_seen_once_they_are_whole():
    optimiser = optax.MultiSteps(optax.chain(monitor_gradients(2, lags=2), optax.sgd(0.1)), 3)
    state, _ = run(
        optimiser, [draw(seed) for seed in range(12)], flow=lambda: jnp.array([1.0, 2.0])
    )
    looks = read_monitor(state)
    assert looks.steps.tolist() == [0, 2]
    means = [
        jax.tree.map(lambda *g: np.mean(g, axis=0), *(draw(3 * step + n) for n in range(3)))
        for step in (0, 2)
    ]
    np.testing.assert_allclose(
        looks.log_norm["all"], [log_norm(*mean.values()) for mean in means], atol=1e-5
    )


def test_a_part_of_the_parameters_can_have_a_monitor_of_its_own():
    labels = {"w": "watched", "b": "free"}
    optimiser = optax.multi_transform(
        {"watched": optax.chain(monitor_gradients(1), optax.sgd(0.1)), "free": optax.adam(1e-2)},
        labels,
    )
    looks = read_monitor(run(optimiser, [draw(0), draw(1)])[0])
    assert looks.log_norm.keys() == {"['w']", "all"}
    np.testing.assert_allclose(
        looks.log_norm["all"], [log_norm(draw(s)["w"]) for s in (0, 1)], atol=1e-5
    )


def test_its_state_survives_a_checkpoint(tmp_path):
    monitor = monitor_gradients(2, lags=2)
    update = jax.jit(
        lambda gradient, state: monitor.update(gradient, state, flow=lambda: jnp.array([1.0, 2.0]))[
            1
        ]
    )
    state = monitor.init(SIMPLE)
    for seed in range(3):
        state = update(draw(seed), state)
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", monitor.init(SIMPLE))
    for seed in range(3, 6):
        state, restored = update(draw(seed), state), update(draw(seed), restored)
    chex.assert_trees_all_equal(restored, state)
    assert read_monitor(restored).steps.tolist() == [0, 2, 4]


def flowing(flow, lags=4, layers=1):
    return lambda: run(monitor_gradients(lags=lags, layers=layers), [draw(0)], flow=flow)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: monitor_gradients(0), ("every is 0", "at least 1")),
        (lambda: monitor_gradients(2.5), ("every is 2.5", "an integer")),
        (lambda: monitor_gradients(capacity=0), ("capacity is 0", "at least 1")),
        (lambda: monitor_gradients(layers=0), ("layers is 0", "at least 1")),
        (lambda: monitor_gradients(lags=0), ("lags is 0", "at least 1")),
        (lambda: monitor_gradients(lags=[0, 4, 4]), ("(0, 4, 4)", "bucket empty", "rising")),
        (lambda: monitor_gradients(lags=[3]), ("(3,)", "two or more rising edges")),
        (lambda: monitor_gradients(lags=[-1, 3]), ("lags is -1", "at least 0")),
        (
            lambda: run(monitor_gradients(lambda step: step), [draw(0)]),
            ("every(step)", "int32", "one boolean"),
        ),
        (
            lambda: run(monitor_gradients(lambda _: jnp.ones(2, bool)), [draw(0)]),
            ("every(step)", "[2]", "one boolean"),
        ),
        (lambda: monitor_gradients().init(()), ("no arrays", "give those that are trained")),
        (
            lambda: monitor_gradients(group=lambda _: "all").init(SIMPLE),
            ("named 'all'", "choose another name"),
        ),
        (
            lambda: monitor_gradients().update({"w": 1.0}, monitor_gradients().init(SIMPLE)),
            ("other parameters", "state again"),
        ),
        (flowing(None), ("lags is given without flow", "update(..., flow=...)")),
        (
            flowing(lambda: jnp.ones(4), lags=None),
            ("flow is given without lags", "monitor_gradients(lags=...)"),
        ),
        (flowing(jnp.ones(4)), ("flow is not a function", "put lambda: before it")),
        (flowing(lambda: jnp.ones(3)), ("(3,)", "1 layers", "below 4", "return [1, T]")),
        (flowing(lambda: jnp.ones(())), ("()", "return [1, T]")),
        (flowing(lambda: jnp.ones((2, 4))), ("(2, 4)", "1 layers")),
        (flowing(lambda: jnp.ones(4), layers=2), ("(4,)", "2 layers")),
        (flowing(lambda: jnp.ones((2, 4, 1)), layers=2), ("(2, 4, 1)", "2 layers")),
        (lambda: read_monitor(optax.adam(1e-2).init(SIMPLE)), ("0 monitors", "give one")),
        (lambda: read_monitor((monitor_gradients().init(SIMPLE),) * 2), ("2 monitors", "the part")),
    ],
)
def test_faults_are_named_with_their_mend(call, words):
    one_sentence(call, *words)
