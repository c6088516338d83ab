"""The training loop against a loop by hand: metrics, validation, resuming, shapes, faults."""

import dataclasses
import functools
import itertools
import json
import re
import shutil
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnnlab
from rnnlab import terminal
from rnnlab.models import classifier
from rnnlab.training import (
    CheckpointError,
    Interrupted,
    NonFiniteError,
    Validation,
    Watch,
    checkpoints,
    evaluate,
    fit,
    initial_state,
    loop,
    monitor_gradients,
    program,
    read_metrics,
    read_monitor,
    train_step,
)
from rnnlab.training.metrics import TensorBoard, numbers
from rnnlab.training.padding import padding_share
from rnnlab.training.trees import fingerprint
from tests.reference import close, one_sentence, watch
from tests.reference.programs import shared_programs

NAN = np.full(3, np.nan)


@dataclasses.dataclass(frozen=True)
class Follower:
    """θ follows the batches, with random noise in training: enough of a model for a loop."""

    def init(self, key, batch):
        return {"w": jax.random.normal(key, np.shape(batch))}

    def loss(self, params, batch, key):
        error = params["w"] - batch
        if key is not None:
            error += 0.1 * jax.random.normal(key, error.shape)
        return jnp.mean(error**2), {"largest": jnp.max(jnp.abs(error))}

    def carried(self, params, batch, key, carry):
        value, metrics = self.loss(params, batch + carry["total"], key)
        return value, (metrics, {"total": 0.9 * carry["total"] + params["w"]})


class Drift:
    """data[i]: numbers around i / 10, a pure function of i."""

    batches_per_epoch = 4

    def __getitem__(self, index):
        return index / 10 + np.random.default_rng(index).standard_normal(3)


MODEL, DATA = Follower(), Drift()
ADAM = optax.adam(0.1)
CARRY = {"total": jnp.zeros(3)}
ZEROS = Validation([np.zeros(3), np.ones(3)], every=3, batches=2)


@pytest.fixture(autouse=True, scope="module")
def _equal_runs_share_a_program():
    with shared_programs():
        yield


def train(steps=8, data=DATA, optimiser=ADAM, **options):
    return fit(MODEL, data, optimiser, steps=steps, **{"progress": False, **options})


def same(run, other):
    """Bit for bit: the whole state, all metrics, and what is known of the best parameters."""
    assert fingerprint(run.state) == fingerprint(other.state)
    assert run.metrics.records == other.metrics.records
    assert fingerprint(run.best_params) == fingerprint(other.best_params)
    assert run.best_step == other.best_step
    assert run.stopped_early == other.stopped_early


# The loop by hand


@pytest.fixture(scope="module")
def by_hand():
    """A GRU with dropout, 20 steps of the jitted step: its state and its metrics."""
    random = np.random.default_rng(0)
    xs = random.standard_normal((20, 5, 4, 2))
    labels = random.integers(0, 3, (20, 4))
    data = list(map(rnnlab.data.Batch, xs, labels))
    model = classifier(rnnlab.GRU(3), 3, dropout=0.5)
    optimiser = optax.adam(0.1)
    k_init, k_train = jax.random.split(jax.random.key(7))
    state = initial_state(model.init(k_init, data[0]), optimiser, k_train)
    step = jax.jit(train_step(model.loss, optimiser))
    records = []
    for batch in data:
        state, metrics = step(state, batch)
        kept = {name: metrics[name] for name in ("loss", "gradient_norm", "accuracy")}
        records.append({"step": int(state.step), **numbers(kept)})
    return model, data, optimiser, state, records


@pytest.mark.parametrize("seconds", [0, 1e9])
def test_the_loop_is_that_of_the_jitted_step(by_hand, monkeypatch, seconds):
    """Bit for bit, in calls of one step and in calls of up to 16."""
    monkeypatch.setattr(loop, "CALL", seconds)
    model, data, optimiser, state, records = by_hand
    run = fit(model, data, optimiser, steps=20, seed=7, progress=False)
    assert fingerprint(run.state) == fingerprint(state)
    assert run.metrics.records == records
    assert run.params is run.state.params


def test_every_step_is_recorded_once_and_in_order(tmp_path):
    run = train(steps=21, out=tmp_path / "run")
    assert run.metrics.steps("loss").tolist() == list(range(1, 22))
    assert run.metrics.names() == {"loss", "gradient_norm", "largest"}
    assert read_metrics(tmp_path / "run" / "metrics.jsonl").records == run.metrics.records


def test_log_every_thins_the_records():
    run = train(steps=8, log_every=3)
    whole = train(steps=8)
    assert run.metrics.records == [whole.metrics.records[index] for index in (2, 5)]


def test_whole_metrics_keep_every_digit():
    """float32 would round the first to 2²⁴, and float64 the second."""
    large = 2**24 + 1, 2**60 + 1

    def counting(params, batch, key):
        value, _ = MODEL.loss(params, batch, key)
        return value, {"tokens": jnp.int32(large[0]), "bytes": jnp.int64(large[1])}

    run = train(steps=1, loss=counting)
    assert (run.metrics.records[0]["tokens"], run.metrics.records[0]["bytes"]) == large


def test_data_need_not_hold_arrays():
    """A loss may draw its own data from the key."""

    def drawn(params, batch, key):
        assert batch == ()
        return jnp.mean((params - jax.random.normal(key, (3,))) ** 2), {}

    run = train(steps=20, data=[()] * 20, loss=drawn, params=jnp.zeros(3))
    assert run.metrics["loss"].shape == (20,)


# Validation and measurements


def test_validation_is_the_mean_over_its_batches_at_its_steps():
    run = train(steps=7, validation=ZEROS)
    assert run.metrics.steps("validation_loss").tolist() == [3, 6]
    assert run.metrics.steps("validation_largest").tolist() == [3, 6]
    for steps in (3, 6):
        params = train(steps=steps).params
        expected = numbers(evaluate(MODEL.loss, params, ZEROS.data, 2))
        index = run.metrics.steps("validation_loss").tolist().index(steps)
        assert run.metrics["validation_loss"][index] == expected["loss"]
        assert run.metrics["validation_largest"][index] == expected["largest"]


def test_the_best_parameters_are_those_of_the_lowest_validation_loss():
    """The numbers drift away from those of the validation, which is best in between."""
    run = train(steps=30, validation=ZEROS._replace(every=1))
    losses = run.metrics["validation_loss"]
    assert run.best_step == 1 + np.argmin(losses)
    assert 1 < run.best_step < 30
    value = evaluate(MODEL.loss, run.best_params, ZEROS.data, 2)["loss"]
    assert numbers({"loss": value})["loss"] == min(losses)
    assert fingerprint(run.best_params) == fingerprint(train(steps=run.best_step).params)


def test_without_validation_nothing_is_best():
    run = train(steps=2)
    assert (run.best_params, run.best_step, run.stopped_early) == (None, None, False)


@pytest.mark.parametrize("between", [2, 7])
def test_patience_ends_the_run_as_if_it_had_not_been_resumed(tmp_path, between):
    options = {"validation": ZEROS._replace(every=2, patience=3), "checkpoint_every": 3}
    whole = train(steps=60, **options)
    losses = whole.metrics["validation_loss"]
    assert whole.stopped_early
    assert whole.best_step == 2 * (1 + np.argmin(losses))
    assert int(whole.state.step) == whole.best_step + 2 * 3
    out = tmp_path / "run"
    assert not train(steps=between, out=out, **options).stopped_early
    resumed = train(steps=60, out=out, resume=True, **options)
    same(resumed, whole)
    # What has ended stays so.
    same(train(steps=90, out=out, resume=True, **options), whole)


def test_measurements_are_made_at_their_steps_on_the_next_batch(tmp_path):
    seen = []

    def measure(params, batch):
        seen.append(batch)
        return {
            "sum": jnp.sum(params["w"]),
            "each": batch[:2],
            "half": jnp.bfloat16(1.5),
            "none": float("nan"),
            "list": [1, None, jnp.float32(0.5)],
            "count": np.int64(3),
            "told": "text",
        }

    run = train(steps=6, accumulate=2, watch=[Watch(3, measure)], out=tmp_path / "run")
    assert run.metrics.steps("sum").tolist() == [0, 3, 6]
    np.testing.assert_array_equal(seen, [DATA[0], DATA[6], DATA[12]])
    first = run.metrics.records[0]
    assert first["each"] == pytest.approx(DATA[0][:2].tolist(), rel=1e-7)
    assert first["half"] == 1.5
    assert first["none"] is None
    assert first["list"] == [1, None, 0.5]
    assert (first["count"], first["told"]) == (3, "text")
    assert read_metrics(tmp_path / "run" / "metrics.jsonl").records == run.metrics.records
    assert run.metrics["sum"][-1] == pytest.approx(float(jnp.sum(run.params["w"])), rel=1e-6)


# Resuming

SUM = Watch(2, lambda params, batch: {"sum": jnp.sum(params["w"] + batch)})
CASES = {
    "everything": {
        "loss": MODEL.carried,
        "carry": CARRY,
        "validation": ZEROS._replace(carry=CARRY),
        "average": 0.9,
        "accumulate": 2,
        "clip": 0.5,
        "watch": [SUM],
    },
    "adam": {"validation": ZEROS},
    "average": {"average": 0.9, "validation": ZEROS},
    "accumulate": {"accumulate": 3, "clip": 0.5},
    "bfloat16": {"compute_dtype": "bfloat16"},
    "carry": {
        "loss": MODEL.carried,
        "carry": CARRY,
        "validation": ZEROS._replace(carry=CARRY),
    },
    "watch": {"watch": [SUM]},
}


@pytest.mark.combinations
@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_is_one_that_was_not_interrupted(tmp_path, case):
    """Also with more steps than it began with; the second time there is nothing to do."""
    options = CASES[case]
    whole = train(steps=11, **options)
    out = tmp_path / "run"
    train(steps=5, out=out, checkpoint_every=2, **options)
    resumed = train(steps=11, out=out, resume=True, checkpoint_every=3, **options)
    same(resumed, whole)
    same(train(steps=11, out=out, resume=True, **options), whole)
    assert read_metrics(out / "metrics.jsonl").records == whole.metrics.records


def test_resume_begins_a_run_where_there_is_none(tmp_path):
    same(train(out=tmp_path / "run", resume=True), train())


@pytest.fixture(scope="module")
def four_steps(tmp_path_factory):
    """A run to be resumed in other ways."""
    out = tmp_path_factory.mktemp("four") / "run"
    options = {"steps": 4, "clip": 1.0, "config": {"rate": 0.1, "size": 3}}
    train(out=out, **options)
    return options, out


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, ("another seed",)),
        ({"config": {"rate": 0.1, "size": 4}}, ("another size",)),
        ({"config": None}, ("another",)),
        ({"clip": 2.0}, ("another clip",)),
        ({"accumulate": 2}, ("another accumulate",)),
        ({"average": 0.5}, ("another average",)),
        ({"compute_dtype": "bfloat16"}, ("another compute_dtype",)),
        ({"steps": 3}, ("steps is 3", "4 steps already")),
        (
            {"optimiser": optax.sgd(0.1)},
            ("another optimiser (the checkpoint has state.optimiser", "give fit the same model, "),
        ),
        ({"params": {"w": jnp.zeros(2)}}, ("another model (state.params['w'] has shape",)),
        ({"validation": ZEROS}, ("a run without validation (the checkpoint lacks best['w'])",)),
        ({"loss": MODEL.carried, "carry": CARRY}, ("a run without carry",)),
        ({"resume": False}, ("holds a run already; choose", "resume the run with fit(")),
    ],
)
def test_another_run_is_refused_and_nothing_is_changed(four_steps, tmp_path, change, words):
    options, folder = four_steps
    out = tmp_path / "run"
    shutil.copytree(folder, out)
    before = contents(out)
    one_sentence(lambda: train(**options | {"out": out, "resume": True} | change), *words)
    assert contents(out) == before


def test_another_model_is_refused(tmp_path):
    other = dataclasses.make_dataclass("Other", [], bases=(Follower,), frozen=True)()
    train(steps=1, out=tmp_path / "run")

    def resumed(model):
        out = tmp_path / "run"
        return fit(model, DATA, ADAM, steps=2, out=out, resume=True, progress=False)

    one_sentence(lambda: resumed(other), "another model")
    assert int(resumed(Follower()).state.step) == 2


# Options of the step


def test_accumulated_batches_are_one_large_batch():
    """Without noise, the gradient of M batches is that of their mean."""

    def quiet(params, batch, key):
        del key
        return MODEL.loss(params, batch, None)

    large = [np.mean([DATA[3 * index + part] for part in range(3)], 0) for index in range(8)]
    run = train(steps=8, accumulate=3, loss=quiet)
    close(run.params, train(steps=8, data=large, loss=quiet).params, 1e-12)


def test_with_an_average_it_is_what_is_validated():
    run = train(steps=6, average=0.9, validation=ZEROS)
    value = evaluate(MODEL.loss, run.state.average, ZEROS.data, 2)["loss"]
    assert run.metrics["validation_loss"][-1] == numbers({"loss": value})["loss"]
    assert fingerprint(run.state.average) != fingerprint(run.params)


def test_clipping_comes_before_the_optimiser():
    chained = optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(1.0))
    clipped = train(optimiser=optax.sgd(1.0), clip=0.1)
    close(clipped.params, train(optimiser=chained).params, 1e-15)
    assert clipped.metrics["gradient_norm"].max() > 0.1


def test_a_carried_state_goes_through_the_run():
    run = train(steps=5, **CASES["carry"])
    total = np.zeros(3)
    for steps in range(5):
        # The parameters before step s + 1 are those after s steps.
        params = train(steps=steps, **CASES["carry"]).params if steps else initial_params()
        total = 0.9 * total + np.asarray(params["w"])
    close(run.state.carry["total"], jnp.asarray(total), 1e-12)


def initial_params():
    k_init, _ = jax.random.split(jax.random.key(0))
    return MODEL.init(k_init, DATA[0])


def test_batches_of_changing_shape_compile_once_for_each_shape():
    """In buckets: every sequence counts, and the program is compiled once for each."""
    random = np.random.default_rng(0)
    lengths = random.integers(1, 9, 24)
    sequences = [random.standard_normal((steps, 2)) for steps in lengths]
    data = rnnlab.data.bucketed(sequences, lengths % 3, 4, buckets=3)
    shapes = {data[index].xs.shape for index in range(data.batches_per_epoch)}
    assert len(shapes) == 3

    def loss(params, batch, key):
        del key
        valid = np.arange(len(batch.xs))[:, None] < batch.lengths
        return jnp.mean((batch.xs - params) ** 2, where=valid[..., None]), {}

    with watch() as work:
        run = train(steps=30, data=data, loss=loss, params=jnp.zeros(2))
    assert sum("many" in name for name in work.compiled) == 3
    assert run.metrics.steps("loss").tolist() == list(range(1, 31))


# Padding


def shift(params, batch, key):
    """The loss of three numbers that follow the inputs."""
    del key
    return jnp.mean((params - batch.xs) ** 2), {}


@pytest.mark.parametrize("kind", ["bucketed", "packed"])
def test_the_share_of_padding_of_an_epoch_is_that_of_the_data(tmp_path, kind):
    """As the mean over its batches, weighed by their steps; and after it was resumed."""
    sequences = [np.ones((steps, 3)) for steps in (2, 5, 3, 2, 5, 3, 2)]
    labels = np.zeros(7, int)
    if kind == "bucketed":
        data = rnnlab.data.bucketed(sequences, labels, 2, buckets=2)
    else:
        data = rnnlab.data.packed(sequences, labels, 2, 8)
    count = data.batches_per_epoch
    options = {"data": data, "loss": shift, "params": jnp.zeros(3)}
    whole = train(steps=count, **options)
    assert whole.metrics.steps("padding").tolist() == list(range(1, count + 1))
    sizes = [data[index].xs.size for index in range(count)]
    share = np.average(whole.metrics["padding"], weights=sizes)
    assert share == pytest.approx(data.padding_share, abs=1e-7)
    assert 0 < share < 1
    train(steps=1, out=tmp_path / "run", **options)
    same(train(steps=count, out=tmp_path / "run", resume=True, **options), whole)


def test_the_share_of_padding_of_a_batch():
    """A column that only fills the batch is padding; targets that do not count are not."""
    xs, lengths = np.zeros((4, 3, 2)), np.array([4, 2, 1])
    labels = rnnlab.data.Batch(xs, np.zeros(3, int), np.array([True, True, False]), lengths)
    assert padding_share(labels) == 1 - (4 + 2) / 12
    mask = np.zeros((6, 3), bool)
    mask[2, 0] = mask[5, 2] = True
    sources = rnnlab.data.Batch(xs, np.zeros((6, 3), int), mask, lengths)
    assert padding_share(sources) == 1 - (4 + 1) / 12
    # One vector for each sequence: the steps are those of the targets.
    captions = rnnlab.data.Batch(np.zeros((3, 2)), np.zeros((5, 3), int), lengths=lengths)
    assert padding_share(captions) == 1 - (4 + 2 + 1) / 15
    # Batches that a step accumulates.
    both = program.stack([labels, labels._replace(lengths=np.array([1, 1, 1]))], 2)
    assert padding_share(both) == 1 - (4 + 2 + 1 + 1) / 24
    for other in (labels._replace(lengths=None), xs, (), None):
        assert padding_share(other) is None


# Steps that are not finite


def poisoned(*bad):
    return [NAN if index in bad else DATA[index] for index in range(20)]


def test_a_step_that_is_not_finite_is_recorded_and_not_applied(tmp_path):
    run = train(steps=6, data=poisoned(2), log_every=2, out=tmp_path / "run")
    assert run.metrics.steps("skipped").tolist() == [3]
    assert run.metrics["skipped"].tolist() == ["the loss is not finite"]
    assert run.metrics.steps("loss").tolist() == [2, 3, 4, 6]
    assert np.isnan(run.metrics["loss"]).tolist() == [False, True, False, False]
    assert int(run.state.optimiser[0].count) == 5


@pytest.mark.parametrize("seconds", [0, 1e9])
def test_too_many_of_them_end_the_run(tmp_path, monkeypatch, seconds):
    monkeypatch.setattr(loop, "CALL", seconds)
    out = tmp_path / "run"
    data = poisoned(5, 7, 8, 9, 10)
    with pytest.raises(NonFiniteError, match="step 10: the loss is not finite, and 3 ") as caught:
        train(steps=20, data=data, most_skipped=3, out=out, checkpoint_every=6)
    assert (caught.value.step, caught.value.parameter) == (10, None)
    assert read_metrics(out / "metrics.jsonl").steps("loss").tolist() == list(range(1, 11))
    run = train(steps=20, data=data, most_skipped=5, out=out, resume=True)
    assert int(run.state.step) == 20
    same(run, train(steps=20, data=data, most_skipped=5))


def test_the_parameter_is_named():
    def root(params, batch, key):
        del key
        return jnp.sum(params["a"]) + jnp.sum(jnp.sqrt(params["b"] * batch)), {}

    params = {"a": jnp.ones(2), "b": jnp.zeros(2)}
    with pytest.raises(NonFiniteError, match=r"the gradient of \['b'\] is not finite"):
        train(data=[np.zeros(2)] * 9, loss=root, params=params, most_skipped=2)
    alone = {"loss": lambda p, b, _: (jnp.sum(jnp.sqrt(p * b)), {}), "params": jnp.zeros(2)}
    with pytest.raises(NonFiniteError, match="the gradient of the parameters is not finite"):
        train(data=[np.zeros(2)] * 9, most_skipped=2, **alone)


@pytest.mark.parametrize("ends", [True, False])
def test_a_smaller_limit_than_was_reached_takes_one_more_step(tmp_path, ends):
    """The checkpoint has three such steps in a row, and the run goes on with two."""
    bad = (3, 4, 5, 6) if ends else (3, 4, 5)
    out = tmp_path / "run"
    train(steps=6, data=poisoned(*bad), out=out)
    options = {"steps": 9, "data": poisoned(*bad), "out": out, "resume": True, "most_skipped": 2}
    if ends:
        with pytest.raises(NonFiniteError, match="step 7: "):
            train(**options)
    else:
        run = train(**options)
        assert (int(run.state.step), int(run.state.skipped)) == (9, 0)
        assert run.metrics.steps("loss").tolist() == list(range(1, 10))


# Signals


def test_a_signal_while_the_model_is_initialised_is_not_lost(tmp_path, monkeypatch, capsys):
    """Nor is it said twice, nor without progress."""
    out = tmp_path / "run"
    init = Follower.init

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGINT)
        return init(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Follower, "init", interrupted)
        for progress in (True, False):
            with pytest.raises(Interrupted) as caught:
                train(out=out, resume=True, progress=progress)
            assert (caught.value.code, caught.value.step) == (130, 0)
    assert capsys.readouterr().err == (
        "rnnlab: stopped by SIGINT after step 0, with a checkpoint saved; resume the run with "
        f"fit(..., out={str(out)!r}, resume=True)\n"
    )
    resumed = train(out=out, resume=True)
    assert resumed.start == 0
    same(resumed, train())


def test_a_signal_while_the_last_checkpoint_is_saved_is_not_lost(tmp_path, monkeypatch):
    wait = loop._Loop._wait

    def interrupted(self):
        signal.raise_signal(signal.SIGTERM)
        wait(self)

    monkeypatch.setattr(loop._Loop, "_wait", interrupted)
    with pytest.raises(Interrupted) as caught:
        train(out=tmp_path / "run")
    assert (caught.value.code, caught.value.step) == (143, 8)
    monkeypatch.undo()
    assert train(out=tmp_path / "run", resume=True).start == 8


# What a checkpoint may hold


def test_a_monitor_records_that_a_gradient_is_zero_and_is_saved(tmp_path):
    """ln 0 is −∞, and no overflow."""

    def follow(params, batch, key):
        del key
        return jnp.mean((params["w"] - batch) ** 2), {}

    options = {
        "optimiser": optax.chain(monitor_gradients(every=1), optax.sgd(0.1)),
        "loss": follow,
        "params": {"w": jnp.zeros(3), "unused": jnp.ones(2)},
    }
    train(steps=2, out=tmp_path / "run", **options)
    resumed = train(steps=4, out=tmp_path / "run", resume=True, **options)
    same(resumed, train(steps=4, **options))
    looks = read_monitor(resumed.state.optimiser)
    assert looks.log_norm["['unused']"].tolist() == [-np.inf] * 4


def test_a_save_that_fails_ends_the_run_before_the_next_one(tmp_path, monkeypatch):
    failed = threading.Event()

    def write(*_):
        failed.set()
        raise OSError(28, "No space left on device")

    class Patient(Drift):
        def __getitem__(self, index):
            if index > 30:
                failed.wait(60)
            return super().__getitem__(index)

    monkeypatch.setattr(checkpoints, "write", write)
    monkeypatch.setattr(loop, "CALL", 0)
    with pytest.raises(CheckpointError, match="could not be saved: No space left on device"):
        train(steps=90, data=Patient(), out=tmp_path / "run", checkpoint_every=30)
    assert 30 <= read_metrics(tmp_path / "run" / "metrics.jsonl").steps("loss").max() < 60


# What is told and written


def test_progress_is_lines_where_there_is_no_terminal(capsys, monkeypatch):
    seconds = itertools.count(step=10)
    log = functools.partial(terminal.Log, clock=lambda: next(seconds))
    monkeypatch.setattr(terminal, "Log", log)
    # Also where no step is recorded.
    train(steps=20, progress=True, log_every=1000)
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert re.fullmatch(r"0:10  compiling \(2 of 20\)", lines[0])
    told = r"\d+:\d\d  loss \S+, gradient norm \S+, \S+ steps/s, 0:\d\d left \(20 of 20\)"
    assert re.fullmatch(told, lines[-1])
    train(steps=2)
    assert capsys.readouterr().err == ""


def test_the_time_of_a_step_is_told_without_compiling(capsys, monkeypatch):
    """By a clock on which the device takes 1 s for a step, and the host 100 s for a new shape."""
    now, free, ends, shapes = [0.0], [0.0], [], set()
    compiled, record = program.compiled, loop._Loop._record

    def slow(step):
        call = compiled(step)

        def timed(state, batches, count, most_skipped):
            now[0] += 100 * (batches.shape not in shapes)
            shapes.add(batches.shape)
            free[0] = max(now[0], free[0]) + count
            ends.append(free[0])
            return call(state, batches, count, most_skipped)

        return timed

    def wait(self, pending):
        now[0] = max(now[0], ends.pop(0))
        record(self, pending)

    monkeypatch.setattr(program, "compiled", slow)
    monkeypatch.setattr(loop._Loop, "_record", wait)
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(terminal, "QUIET", 1.0)
    log = functools.partial(terminal.Log, clock=lambda: now[0])
    monkeypatch.setattr(terminal, "Log", log)
    data = [np.ones(size) for size in (1, 1, 2, 2, 3, 3, 1, 2, 3) * 4]
    train(data=data, steps=36, loss=mean, params=jnp.zeros(()), progress=True)
    speeds = re.findall(r"(\S+) steps/s", capsys.readouterr().err)
    assert len(speeds) > 2
    assert set(speeds) == {"1"}


def mean(params, batch, key):
    del key
    return jnp.mean((params - batch) ** 2), {}


class Notes:
    def __init__(self):
        self.records = []

    def write(self, step, values):
        self.records.append({"step": step, **values})

    def close(self):
        raise AssertionError("whoever opens a writer closes it")


def test_writers_get_what_is_recorded(tmp_path):
    notes = Notes()
    options = {"writers": [notes], "validation": ZEROS, "watch": [SUM]}
    run = train(steps=4, data=poisoned(1), out=tmp_path / "run", **options)
    assert notes.records == run.metrics.records


def events(folder):
    """All scalars in TensorBoard files: (step, name, value), and the steps they begin at."""
    pb = pytest.importorskip("tensorboardX.proto.event_pb2")
    found, starts = [], []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            # A record: its length, a checksum, the event, and another checksum.
            size = int.from_bytes(content[:8], "little")
            event = pb.Event.FromString(content[12 : 12 + size])
            content = content[16 + size :]
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            if event.session_log.status:
                starts.append(event.step)
    return found, starts


def test_tensorboard_gets_the_numbers(tmp_path):
    """Its directory may lie in that of the run; a run that goes on replaces later events."""
    pytest.importorskip("tensorboardX")
    out = tmp_path / "run"
    options = {"data": poisoned(1), "out": out, "checkpoint_every": 2, "resume": True}
    for steps in (3, 5):
        writer = TensorBoard(out / "tensorboard")
        run = train(steps=steps, writers=[writer], **options)
        writer.close()
    found, starts = events(out / "tensorboard")
    assert [(step, name) for step, name, _ in found if name == "loss"] == [
        (step, "loss") for step in (1, 3, 4, 5)
    ]
    values = {(step, name): value for step, name, value in found}
    for record in run.metrics.records:
        for name in ("loss", "gradient_norm"):
            if record[name] is not None:
                assert values[record["step"], name] == np.float32(record[name])
    assert starts == [1, 4]


def test_a_run_describes_itself(tmp_path):
    out = tmp_path / "run"
    train(out=out, steps=4, config={"name": "größe", "sizes": (1, 2)}, clip=1, average=0.9)
    about = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert about["model"] == "Follower()"
    assert about["config"] == {"name": "größe", "sizes": [1, 2]}
    assert (about["clip"], about["average"], about["seed"]) == (1.0, 0.9, 0)
    assert about["options"] == {"steps": 4, "keep": 3, "log_every": 1, "most_skipped": 10}
    other = ZEROS._replace(patience=2)
    train(out=tmp_path / "validated", steps=1, validation=other)
    options = json.loads((tmp_path / "validated" / "run.json").read_text())["options"]
    chosen = [options[name] for name in ("validate_every", "validation_batches", "patience")]
    assert chosen == [3, 2, 2]
    train(out=out, steps=6, config={"name": "größe", "sizes": [1, 2]}, clip=1, average=0.9,
          resume=True)  # fmt: skip
    assert json.loads((out / "run.json").read_text())["options"]["steps"] == 6
