"""What the training loop refuses, before it computes anything."""

import functools

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnnlab.training import Validation, Watch, evaluate, fit
from tests.reference import one_sentence
from tests.reference.programs import shared_programs


def loss(params, batch, key):
    del key
    return jnp.mean((params - batch) ** 2), {}


def carried(params, batch, key, carry):
    return loss(params, batch, key)[0], ({}, carry)


SGD = optax.sgd(0.1)
TEN = [np.ones(3)] * 10
START = {"loss": loss, "params": jnp.zeros(3), "progress": False}


def nothing(params, batch):
    del params, batch
    return {}


@pytest.fixture(autouse=True, scope="module")
def _equal_runs_share_a_program():
    with shared_programs():
        yield


def train(model=None, data=TEN, optimiser=SGD, steps=4, **options):
    return fit(model, data, optimiser, steps=steps, **START | options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, ("steps is 0",)),
        ({"steps": 4.0}, ("steps is 4.0",)),
        ({"steps": "4"}, ("steps is '4'",)),
        ({"steps": True}, ("steps is True",)),
        ({"steps": 2**31}, ("steps is 2147483648", "overflows")),
        ({"seed": -1}, ("seed is -1",)),
        ({"seed": 2**32}, ("seed is 4294967296", "below 2**32")),
        ({"seed": 1.5}, ("seed is 1.5",)),
        ({"seed": None}, ("seed is None",)),
        ({"clip": 0}, ("clip is 0", "above 0")),
        ({"clip": -1.0}, ("clip is -1.0", "above 0")),
        ({"clip": np.nan}, ("clip is nan",)),
        ({"clip": "1"}, ("clip is '1'",)),
        ({"accumulate": 0}, ("accumulate is 0",)),
        ({"average": 1.0}, ("average is 1.0",)),
        ({"compute_dtype": "int8"}, ("compute_dtype",)),
        ({"checkpoint_every": 0}, ("checkpoint_every is 0",)),
        ({"keep": 0}, ("keep is 0",)),
        ({"log_every": 0}, ("log_every is 0",)),
        ({"most_skipped": 2**40}, ("most_skipped", "overflows")),
        ({"loss": None}, ("model is None", "no loss")),
        ({"params": None}, ("model is None", "no init")),
        ({"loss": 3}, ("loss is 3", "function")),
        ({"optimiser": optax.sgd}, ("optimiser is", "optax.adam(1e-3)")),
        ({"data": iter(TEN)}, ("data is", "data[i]")),
        ({"data": []}, ("data holds 0 batches, but 4",)),
        ({"steps": 11}, ("data holds 10 batches, but 11",)),
        ({"steps": 4, "accumulate": 3}, ("data holds 10 batches, but 12",)),
        ({"steps": 10, "watch": [Watch(5, nothing)]}, ("but 11 are read",)),
        ({"watch": Watch(1, nothing)}, ("watch is", "list")),
        ({"watch": [nothing]}, ("watch is", "Watch(every, measure)")),
        ({"watch": [Watch(0, nothing)]}, ("watch.every is 0",)),
        ({"watch": [Watch(1, {})]}, ("watch.measure", "function")),
        ({"validation": TEN}, ("validation is", "Validation(data")),
        (
            {"validation": Validation(dict(enumerate(TEN)))},
            ("validation.data has no batches_per_epoch; give the number", "validation.batches"),
        ),
        ({"validation": Validation([])}, ("validation.data is empty",)),
        ({"validation": Validation(TEN, batches=11)}, ("is 11, but validation.data holds 10",)),
        ({"validation": Validation(TEN, batches=0)}, ("validation.batches is 0",)),
        ({"validation": Validation(TEN, every=1.5)}, ("validation.every is 1.5",)),
        ({"validation": Validation(TEN, batches=1, patience=0)}, ("validation.patience is 0",)),
        (
            {"validation": Validation(TEN, batches=1), "loss": carried, "carry": jnp.zeros(2)},
            ("validation.carry is missing",),
        ),
        ({"validation": Validation(TEN, batches=1, carry=jnp.zeros(2))}, ("validation.carry",)),
        ({"writers": [print]}, ("writers holds", "write(step, values)")),
        ({"loss": carried}, ("loss takes a carry", "give carry=..., such as model.initial_state(")),
        ({"carry": jnp.zeros(2)}, ("a carry is given, but loss takes", "truncated_loss(")),
        (
            {"loss": lambda params, batch: loss(params, batch, None)},
            ("loss takes (params, batch), but it is called with (params, batch, key)",),
        ),
        ({"resume": True}, ("resume is True, but out is None",)),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(options, words):
    one_sentence(lambda: train(**options), *words)


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (None, ("returned None", "dictionary")),
        ({"step": 3}, ("'step'", "name of its own")),
        ({"loss": 3}, ("'loss'", "name of its own")),
        ({3: 3}, ("metric 3",)),
        ({"x": object()}, ("'x'", "number")),
        ({"x": {"y": 1}}, ("'x'", "number")),
        ({"x": 1j}, ("'x'", "number")),
    ],
)
def test_measurements_that_are_no_metrics_are_refused(measured, words):
    watch = [Watch(2, lambda *_: measured)]
    one_sentence(lambda: train(watch=watch), *words)


def test_a_config_that_json_cannot_hold_is_refused(tmp_path):
    out = tmp_path / "run"
    one_sentence(lambda: train(out=out, config={"f": print}), "config", "JSON")
    assert not out.exists()
    assert train(out=out, config={"f": float("nan"), 3: (1,)}).metrics["loss"].shape == (4,)
    again = functools.partial(train, out=out, resume=True)
    assert again(config={"f": float("nan"), 3: (1,)}).metrics["loss"].shape == (4,)
    one_sentence(lambda: again(config={"f": 0.0, 3: (1,)}), "another f")


def test_parts_of_a_step_must_have_one_shape():
    mixed = [np.ones(3), np.ones((2, 3))] * 5
    one_sentence(lambda: train(data=mixed, accumulate=2), "different shapes", "accumulate=1")
    assert train(data=mixed, steps=10).metrics["loss"].shape == (10,)


def test_batches_of_another_structure_run_in_a_program_of_their_own():
    """Equal arrays in other places must not be stacked."""

    def first(params, batch, key):
        return loss(params, batch[0], key)

    mixed = [(np.ones(3),), (np.ones(3), None)] * 5
    assert train(data=mixed, steps=10, loss=first).metrics["loss"].shape == (10,)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((dict(enumerate(TEN)),), ("data has no batches_per_epoch; give", "as batches")),
        (([],), ("data is empty",)),
        ((TEN, 0), ("batches is 0",)),
        ((TEN, 2.0), ("batches is 2.0",)),
        ((TEN, 11), ("batches is 11", "holds 10")),
    ],
)
def test_evaluation_needs_batches(given, words):
    one_sentence(lambda: evaluate(loss, jnp.zeros(3), *given), *words)


def test_evaluation_needs_the_parts_of_a_model_and_of_a_run():
    run = fit(None, TEN, SGD, steps=1, **START)
    one_sentence(lambda: evaluate(loss, run, TEN), "give its parameters, such as run.params")
    one_sentence(lambda: evaluate(object(), run.params, TEN), "a function, such as model.loss")


def test_evaluation_of_a_carried_loss_needs_the_carry():
    one_sentence(lambda: evaluate(carried, jnp.zeros(3), TEN), "loss takes a carry", "give carry=")
    one_sentence(
        lambda: evaluate(loss, jnp.zeros(3), TEN, carry=jnp.zeros(())), "a carry is given, but"
    )


def test_evaluation_weighs_batches_by_their_counts():
    """The mean over five numbers in two batches; in float32 it would lose digits."""

    def counted(params, batch, key):
        assert key is None
        return jnp.mean(batch) + params, {"count": batch.size, "largest": jnp.max(batch)}

    data = [np.array([1.0, 2.0]), np.array([3.0, 4.0, 5.0])]
    means = evaluate(counted, jnp.zeros(()), data)
    assert means == {"loss": pytest.approx(3.0), "largest": pytest.approx((2 * 2 + 3 * 5) / 5)}


def test_evaluation_leaves_out_batches_without_targets_that_count():
    """A mean over none is NaN; where no batch has any there is no mean."""

    def counted(params, batch, key):
        del params, key
        return jnp.nanmean(batch), {"count": jnp.sum(jnp.isfinite(batch))}

    nothing = np.full(2, np.nan)
    data = [nothing, np.array([1.0, np.nan]), np.array([3.0, 5.0])]
    assert evaluate(counted, jnp.zeros(()), data, 3) == {"loss": pytest.approx(3.0)}
    one_sentence(lambda: evaluate(counted, jnp.zeros(()), [nothing], 1), "no target counts", "mask")


def test_evaluation_hands_the_carry_on():
    def summed(params, batch, key, carry):
        del key
        return params + carry, ({}, carry + batch)

    means = evaluate(summed, jnp.zeros(()), [1.0, 2.0, 5.0], 3, carry=jnp.zeros(()))
    assert means["loss"] == pytest.approx((0 + 1 + 3) / 3)
