"""The models of the experiment that compares cells, feed-forward networks and a cut gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from experiments.comparisons.models import FeedForward, FewDigits, OneStepGRU
from experiments.comparisons.run import memory_of, transformer
from rnnlab.models import Transformer, for_task
from rnnlab.studies.task_training import count_parameters
from rnnlab.tasks import adding, digits, parity

XS = jax.random.normal(jax.random.key(1), (6, 2, 3), jnp.float64)
GRU = rnnlab.GRU(4, param_dtype=jnp.float64)
PARAMS = GRU.init(jax.random.key(0), 3)
CUT = OneStepGRU(4, param_dtype=jnp.float64)


@pytest.mark.long
def test_a_cut_gradient_changes_no_value():
    for got, wanted in zip(
        jax.tree.leaves(rnnlab.unroll(CUT, PARAMS, XS)),
        jax.tree.leaves(rnnlab.unroll(GRU, PARAMS, XS)),
        strict=True,
    ):
        np.testing.assert_allclose(got, wanted, atol=1e-12)


@pytest.mark.long
def test_the_cut_gradient_is_the_sum_of_single_steps_from_constant_states():
    def loss(params):
        return jnp.sum(rnnlab.unroll(CUT, params, XS)[1] ** 2)

    state = GRU.initial_state((2,))
    expected = jax.tree.map(jnp.zeros_like, PARAMS)
    for x in XS:

        def one_step(params, state=state, x=x):
            return jnp.sum(GRU.step(params, state, x)[1] ** 2)

        expected = jax.tree.map(jnp.add, expected, jax.grad(one_step)(PARAMS))
        state, _ = GRU.step(PARAMS, state, x)
    for got, wanted in zip(
        jax.tree.leaves(jax.grad(loss)(PARAMS)), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_the_cut_gradient_reaches_no_earlier_input():
    def last(xs):
        return jnp.sum(rnnlab.unroll(CUT, PARAMS, xs)[1][-1])

    gradient = jax.grad(last)(XS)
    assert not np.any(gradient[:-1])
    assert np.all(gradient[-1] != 0)


def test_a_feed_forward_network_reads_the_flattened_sequence():
    task = adding(5)
    model = FeedForward(task, 3)
    batch = task.sample(jax.random.key(0), 4)
    params = model.init(jax.random.key(1), batch)
    params = params._replace(b=jnp.array([0.1, -0.2, 0.3]), c=jnp.array([0.5]))
    for example in range(4):
        flat = np.asarray(batch.xs[:, example]).ravel()
        hidden = np.maximum(flat @ np.asarray(params.w) + np.asarray(params.b), 0)
        expected = hidden @ np.asarray(params.v) + 0.5
        np.testing.assert_allclose(model.apply(params, batch)[example], expected, atol=1e-6)
    value, _ = model.loss(params, batch)
    errors = np.asarray(model.apply(params, batch))[:, 0] - np.asarray(batch.targets)
    np.testing.assert_allclose(value, np.mean(errors**2), rtol=1e-6)


@pytest.mark.long
def test_the_memory_of_a_gradient_grows_with_the_length():
    short, long = (
        memory_of(for_task(task, rnnlab.GRU(8)), task) for task in map(adding, (20, 200))
    )
    assert long > 5 * short


def test_the_transformer_is_the_largest_that_the_budget_allows():
    task = adding(20)
    model = transformer(task, 4000)
    larger = for_task(task, Transformer(model.cell.hidden_size + 2))
    assert count_parameters(model, task) <= 4000 < count_parameters(larger, task)


def test_a_small_training_set_holds_the_first_images():
    task = FewDigits(permuted=False, split="train", count=12)
    batch = task.sample(jax.random.key(0), 200)
    images = digits().examples()
    drawn = {tuple(image) for image in np.asarray(batch.xs[..., 0]).T.tolist()}
    assert drawn == {tuple(image) for image in np.asarray(images.xs[:, :12, 0]).T.tolist()}
    assert task.held_out() == digits(split="test")


@pytest.mark.long
def test_a_feed_forward_classifier_reports_its_accuracy():
    task = parity(3)
    batch = task.sample(jax.random.key(0), 4)
    batch = batch._replace(xs=batch.xs[..., None].astype(jnp.float32))
    model = FeedForward(task, 3)
    params = model.init(jax.random.key(1), batch)
    params = params._replace(v=jnp.zeros((3, 2)), c=jnp.array([0.0, 1.0]))
    value, metrics = model.loss(params, batch)
    np.testing.assert_allclose(metrics["accuracy"], np.mean(batch.targets == 1))
    log_odds = np.array([0.0, 1.0]) - np.log(1 + np.e)
    np.testing.assert_allclose(value, -np.mean(log_odds[np.asarray(batch.targets)]), rtol=1e-6)
