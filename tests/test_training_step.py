"""The training step: any loss, accumulation, refusal of non-finite updates, averages, precision."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnnlab
from rnnlab.training import cross_entropy, initial_state, train_step
from rnnlab.training.faults import FINE, LOSS, UPDATE, describe
from rnnlab.training.trees import names
from tests.reference import close, one_sentence

CELL = rnnlab.stack([rnnlab.GRU(5), rnnlab.Readout(4)])
KEY = jax.random.key(0)


def draw(batch=6, steps=7, seed=0, dtype=np.float64):
    random = np.random.default_rng(seed)
    xs = random.standard_normal((steps, batch, 3)).astype(dtype)
    return xs, random.integers(0, 4, (steps, batch))


def loss(params, batch, key):
    del key
    xs, labels = batch
    _, logits = rnnlab.unroll(CELL, params, xs)
    return cross_entropy(logits, labels), {"largest": jnp.max(jnp.abs(logits))}


def start(optimiser, dtype=jnp.float64, **options):
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), CELL.init(KEY, 3))
    return initial_state(params, optimiser, KEY, **options)


def test_a_step_is_the_gradient_and_the_update_of_optax():
    optimiser = optax.chain(optax.clip_by_global_norm(0.1), optax.adam(1e-2))
    state = start(optimiser)
    batch = draw()
    new, metrics = jax.jit(train_step(loss, optimiser))(state, batch)
    value, gradient = jax.value_and_grad(lambda p: loss(p, batch, None)[0])(state.params)
    updates, _ = optimiser.update(gradient, state.optimiser, state.params)
    close(new.params, optax.apply_updates(state.params, updates), 1e-12)
    close(metrics["loss"], value, 1e-12)
    close(metrics["gradient_norm"], optax.tree.norm(gradient), 1e-12)
    assert int(new.step) == 1
    assert int(metrics["fault"]) == FINE


@pytest.mark.parametrize("parts", [2, 3])
def test_accumulated_gradients_are_those_of_the_large_batch(parts):
    optimiser = optax.adam(1e-2)
    xs, labels = draw(batch=6)
    large = jax.jit(train_step(loss, optimiser))(start(optimiser), (xs, labels))

    def split(array):
        return np.stack(np.split(array, parts, axis=1))

    step = jax.jit(train_step(loss, optimiser, accumulate=parts))
    small = step(start(optimiser), (split(xs), split(labels)))
    close(small[0].params, large[0].params, 1e-12)
    close(small[1]["loss"], large[1]["loss"], 1e-12)


def test_counts_weigh_the_parts():
    """Two parts of three and one targets give the mean over all four."""
    optimiser = optax.sgd(1.0)

    def masked(params, batch, key):
        del key
        targets, mask = batch
        count = jnp.sum(mask)
        value = jnp.sum(jnp.where(mask, (params - targets) ** 2, 0)) / count
        return value, {"count": count, "value": value}

    targets = jnp.array([[1.0, 2.0, 3.0], [10.0, 0.0, 0.0]])
    mask = jnp.array([[True, True, True], [True, False, False]])
    step = train_step(masked, optimiser, accumulate=2)
    state, metrics = step(initial_state(jnp.zeros(()), optimiser, KEY), (targets, mask))
    assert float(metrics["loss"]) == pytest.approx((1 + 4 + 9 + 100) / 4)
    assert float(metrics["value"]) == pytest.approx((1 + 4 + 9 + 100) / 4)
    assert float(metrics["count"]) == 4
    assert float(state.params) == pytest.approx(2 * 16 / 4)


def mean_of_counted(params, batch, key):
    """A loss that is 0/0 where no target counts."""
    del key
    targets, mask = batch
    count = jnp.sum(mask)
    return jnp.sum(jnp.where(mask, (params - targets) ** 2, 0)) / count, {"count": count}


def test_a_part_without_targets_that_count_adds_nothing():
    """Even where its own loss and gradient are NaN; of no targets at all both are 0."""
    optimiser = optax.sgd(1.0)
    step = jax.jit(train_step(mean_of_counted, optimiser, accumulate=2))
    state = initial_state(jnp.zeros(()), optimiser, KEY)
    targets = jnp.array([[1.0, 3.0], [7.0, 8.0]])
    mask = jnp.array([[True, True], [False, False]])
    after, metrics = step(state, (targets, mask))
    assert float(metrics["loss"]) == 5
    assert float(after.params) == 4
    after, metrics = step(state, (targets, jnp.zeros_like(mask)))
    assert float(metrics["loss"]) == float(metrics["gradient_norm"]) == float(after.params) == 0
    assert (int(metrics["count"]), int(metrics["fault"])) == (0, FINE)


def test_counts_are_added_in_more_than_half_precision():
    """In bfloat16 256 + 1 is 256."""

    def one_each(params, batch, key):
        del key
        return jnp.mean(params * batch), {"count": jnp.asarray(1)}

    optimiser = optax.sgd(1.0)
    step = jax.jit(train_step(one_each, optimiser, accumulate=400, compute_dtype=jnp.bfloat16))
    state = initial_state(jnp.ones(()), optimiser, KEY)
    after, metrics = step(state, jnp.repeat(jnp.array([1.0, 3.0]), jnp.array([300, 100]))[:, None])
    assert float(metrics["loss"]) == 1.5
    assert float(after.params) == -0.5


def test_the_random_numbers_of_a_step_follow_from_its_index():
    optimiser = optax.sgd(0.0)

    def noise(params, batch, key):
        del batch
        return 0 * params + jax.random.uniform(key), {}

    step = jax.jit(train_step(noise, optimiser))
    state = initial_state(jnp.zeros(()), optimiser, KEY)
    drawn = []
    for _ in range(3):
        state, metrics = step(state, jnp.zeros(1))
        drawn.append(float(metrics["loss"]))
    assert len(set(drawn)) == 3
    again, metrics = step(state._replace(step=jnp.int32(1)), jnp.zeros(1))
    assert float(metrics["loss"]) == drawn[1]
    assert int(again.step) == 2


def test_a_carried_state_goes_from_batch_to_batch_without_gradient():
    optimiser = optax.sgd(0.1)

    def carried(params, batch, key, carry):
        del key
        value = (params * carry - batch) ** 2
        return value, ({}, params * carry)

    step = jax.jit(train_step(carried, optimiser, carried=True))
    state = initial_state(jnp.float32(2.0), optimiser, KEY, carry=jnp.float32(3.0))
    state, metrics = step(state, jnp.float32(5.0))
    assert float(metrics["loss"]) == 1.0
    assert float(state.carry) == 6.0
    assert float(state.params) == pytest.approx(2 - 0.1 * 2 * 1 * 3)


def test_bfloat16_computes_and_float32_keeps():
    optimiser = optax.adam(1e-2)
    seen = []

    def typed(params, batch, key):
        seen.append((params.layers[0].w_x.dtype, batch[0].dtype, batch[1].dtype))
        return loss(params, batch, key)

    batch = draw(dtype=np.float32)
    step = jax.jit(train_step(typed, optimiser, compute_dtype=jnp.bfloat16))
    state, metrics = step(start(optimiser, jnp.float32), batch)
    assert seen[0][:2] == (jnp.bfloat16, jnp.bfloat16)
    assert jnp.issubdtype(seen[0][2], jnp.integer)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    full, exact = jax.jit(train_step(loss, optimiser))(start(optimiser, jnp.float32), batch)
    close(metrics["loss"], exact["loss"], 2e-2)
    assert not np.array_equal(state.params.layers[0].w_x, full.params.layers[0].w_x)


def test_the_average_follows_its_recursion():
    optimiser = optax.sgd(0.1)
    step = jax.jit(train_step(loss, optimiser, average=0.9))
    state = start(optimiser, average=True)
    expected = np.array(state.params.layers[0].w_h)
    for index in range(12):
        state, _ = step(state, draw(seed=index))
        beta = min(0.9, (1 + index) / (10 + index))
        expected = beta * expected + (1 - beta) * np.array(state.params.layers[0].w_h)
    close(state.average.layers[0].w_h, expected, 1e-12)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("loss", LOSS), ("gradient", 1), ("update", UPDATE)],
)
def test_a_step_that_is_not_finite_changes_nothing(fault, expected):
    """Parameters, optimiser, carry and average stay as they were, bit for bit."""

    def poisoned(params, bad, key, carry):
        del key
        value = params["a"] ** 2 + params["b"] ** 2
        if fault == "loss":
            value += jnp.where(bad, jnp.nan, 0)
        if fault == "gradient":
            # √(0 b) is 0, but its derivative is ∞ · 0.
            value += jnp.sqrt(jnp.where(bad, 0 * params["b"], 1.0))
        return value, ({}, carry + 1)

    rate = 1e300 if fault == "update" else 0.1

    def schedule(count):
        return jnp.where(count == 1, rate, 0.1)

    optimiser = optax.chain(optax.trace(0.9), optax.scale_by_schedule(schedule), optax.scale(-1e10))
    params = {"a": jnp.float64(1.0), "b": jnp.float64(2.0)}
    state = initial_state(params, optimiser, KEY, carry=jnp.float64(0), average=True)
    step = jax.jit(train_step(poisoned, optimiser, carried=True, average=0.5))
    good, metrics = step(state, jnp.bool_(False))
    assert int(metrics["fault"]) == FINE
    good = good._replace(params=params)
    bad, metrics = step(good, jnp.bool_(fault != "update"))
    assert int(metrics["fault"]) == expected
    for name in ("params", "optimiser", "carry", "average"):
        chex.assert_trees_all_equal(getattr(bad, name), getattr(good, name))
    assert (int(bad.step), int(bad.skipped)) == (2, 1)
    assert describe(expected, names(params)).endswith("not finite")


def test_skipped_steps_are_counted_in_a_row():
    optimiser = optax.sgd(0.1)

    def product(params, factor, key):
        del key
        return params * factor, {}

    step = jax.jit(train_step(product, optimiser))
    state = initial_state(jnp.float32(1), optimiser, KEY)
    counts = []
    for value in (1.0, np.nan, np.inf, 1.0, np.nan):
        state, metrics = step(state, jnp.float32(value))
        counts.append(int(metrics["skipped"]))
    assert counts == [0, 1, 2, 0, 1]


@pytest.mark.long
def test_many_seeds_and_learning_rates_run_in_one_program():
    """vmap over parameters and rates gives what each run gives alone."""
    keys = jax.random.split(KEY, 3)
    rates = jnp.array([1e-3, 1e-2, 1e-1])
    optimiser = optax.inject_hyperparams(optax.adam)(learning_rate=0.0)
    step = train_step(loss, optimiser)
    batch = draw(dtype=np.float32)

    def run(key, rate):
        state = initial_state(CELL.init(key, 3), optimiser, key)
        state.optimiser.hyperparams["learning_rate"] = rate
        for _ in range(3):
            state, metrics = step(state, batch)
        return state.params, metrics["loss"]

    together = jax.jit(jax.vmap(run))(keys, rates)
    for index in range(3):
        alone = jax.jit(run)(keys[index], rates[index])
        close(jax.tree.map(lambda leaf, index=index: leaf[index], together), alone, 1e-5)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda p: p, ("loss returned", "(value, metrics)")),
        (lambda p: (p * jnp.ones(3), {}), ("shape (3,)", "scalar")),
        (lambda p: (p, [p]), ("metrics", "dictionary")),
        (lambda p: (p, {"loss": p}), ("'loss'",)),
        (lambda p: (p, {"wide": p * jnp.ones(2)}), ("'wide'", "(2,)")),
    ],
)
def test_a_wrong_loss_is_refused_in_one_sentence(returned, words):
    optimiser = optax.sgd(0.1)
    state = initial_state(jnp.float32(1), optimiser, KEY)
    step = train_step(lambda params, *_: returned(params), optimiser)
    one_sentence(lambda: step(state, jnp.zeros(1)), *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"accumulate": 0}, ("accumulate is 0",)),
        ({"average": 1.0}, ("average is 1.0",)),
        ({"compute_dtype": "int8"}, ("compute_dtype",)),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(options, words):
    one_sentence(lambda: train_step(loss, optax.sgd(0.1), **options), *words)


def test_an_average_needs_a_state_that_has_one():
    optimiser = optax.sgd(0.1)
    step = train_step(loss, optimiser, average=0.9)
    one_sentence(lambda: step(start(optimiser), draw()), "initial_state(average=True)")


def test_a_carried_loss_needs_a_carried_step():
    def carried(params, batch, key, carry):
        return loss(params, batch, key)[0], ({}, carry)

    one_sentence(lambda: train_step(carried, optax.sgd(0.1)), "carry", "give carried=True, and")
    one_sentence(lambda: train_step(loss, optax.sgd(0.1), carried=True), "a carry is given, but")
