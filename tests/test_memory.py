"""The memory study: its networks, its records, its sentences, and the command."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab import cli
from rnnlab.models import for_task
from rnnlab.report import memory_sentences
from rnnlab.report.figures import memory as figure
from rnnlab.studies import memory, task_training
from rnnlab.studies.memory import Unit
from rnnlab.studies.memory_settings import MemorySettings
from rnnlab.studies.records import select
from rnnlab.tasks import make_task
from rnnlab.tasks.registry import TASKS
from tests.reference import one_sentence

SMALL = {
    "cells": ("rnn", "gru"),
    "tasks": ("flip-flop",),
    "lengths": (10, 12),
    "budgets": (300,),
    "seeds": 2,
    "steps": 25,
    "check_every": 10,
    "batch_size": 4,
    "precision": "float64",
}


@pytest.fixture(scope="module")
def measured():
    """All units of a small study, with their records."""
    settings = MemorySettings(**SMALL)
    records = {"scores": [], "curves": []}
    for _, new in memory.measure(settings, None, memory.units(settings)):
        for kind, rows in new.items():
            records[kind] += rows
    return settings, records


@pytest.mark.long
def test_every_unit_gives_a_score_and_a_curve_for_each_seed(measured):
    settings, records = measured
    units = memory.units(settings)
    assert len(units) == 4
    assert memory.finished(records) == set(units)
    for unit in units:
        assert len(select(records["scores"], **unit._asdict())) == 2
        (first, *_, last) = select(records["curves"], **unit._asdict(), seed=1)
        assert (first["updates"], last["updates"]) == (0, 25)
        (score,) = select(records["scores"], **unit._asdict(), seed=1)
        assert score["loss"] == last["loss"]
        task = make_task(unit.task, unit.length)
        gap = task.baseline() - task.floor()
        assert score["skill"] == pytest.approx((task.baseline() - score["loss"]) / gap, abs=1e-6)


@pytest.mark.long
def test_a_unit_alone_gives_the_same_records(measured):
    """So that a study that is resumed gives the records of one that was not interrupted."""
    settings, records = measured
    unit = Unit("gru", "flip-flop", 12, 300)
    ((_, alone),) = memory.measure(settings, None, [unit])
    assert alone["scores"] == select(records["scores"], **unit._asdict())


@pytest.mark.long
def test_the_horizon_is_that_of_the_loss_of_the_last_target():
    settings = MemorySettings(**SMALL)
    sized = memory.model_for(settings, Unit("gru", "flip-flop", 12, 300))
    keys = jax.random.split(jax.random.key(0), 2)
    batch = sized.task.sample(keys[0], task_training.FOLLOWED)
    params = sized.model.init(keys[1], batch)
    reached = jax.jit(task_training.reach_of, static_argnums=(0, 1))(
        sized.task, sized.model, params, keys[0]
    )

    def last_error(ys):
        error = ys[-1] @ params.readout.w + params.readout.b - batch.targets[-1]
        return (error**2).mean()

    flow = rnnlab.gradient_flow(sized.model.cell, params.cell, batch.xs, last_error)
    assert int(reached.horizon) == int(flow.horizon)
    spectrum = rnnlab.diagnostics.lyapunov_spectrum(
        sized.model.cell, params.cell, batch.xs, count=1
    )
    np.testing.assert_allclose(reached.exponent, spectrum.exponents.mean(), rtol=1e-10)


def test_the_last_target_of_strings_of_different_length_is_their_last_symbol():
    task = make_task("anbn", 3)
    batch = task.sample(jax.random.key(1), 6)
    mask = task_training.last_target(task, batch).mask
    np.testing.assert_array_equal(np.argmax(mask, axis=0), np.asarray(batch.lengths) - 1)
    assert (mask.sum(axis=0) == 1).all()


def test_a_network_is_the_largest_that_its_budget_allows():
    settings = MemorySettings(budgets=(1000,))
    for cell in ("rnn", "lstm", "indrnn"):
        sized = memory.model_for(settings, Unit(cell, "adding", 10, 1000))
        larger = for_task(
            sized.task, rnnlab.cells.registry.make_cell(cell, sized.model.cell.hidden_size + 1)
        )
        assert task_training.count_parameters(sized.model, sized.task) == sized.parameters <= 1000
        assert task_training.count_parameters(larger, sized.task) > 1000


@pytest.mark.long
def test_training_ends_where_all_seeds_have_solved_the_task(monkeypatch):
    settings = MemorySettings(**SMALL | {"tasks": ("sine",), "steps": 1000})
    unit = Unit("gru", "sine", 10, 300)
    task = make_task("sine", 10)
    # Where every loss counts as solved, the first measurement ends the training.
    monkeypatch.setattr(type(task), "solved", lambda _, metrics: metrics["loss"] < np.inf)
    ((_, records),) = memory.measure(settings, None, [unit])
    assert [(row["updates"], row["solved_after"]) for row in records["scores"]] == [(10, 10)] * 2


@pytest.mark.long
def test_a_long_training_learns_a_short_lag():
    settings = MemorySettings(tasks=("temporal-order",), lengths=(10,), budgets=(2000,), seeds=2)
    ((_, records),) = memory.measure(settings, None, [Unit("gru", "temporal-order", 10, 2000)])
    (summary,) = memory.summarise(settings, records)
    assert summary["length"] == 10
    assert summary["solved"] == 2
    assert summary["skill"] > 0.9
    text = memory_sentences.sentence(summary)
    assert text.startswith("gru on temporal-order: learned at length 10, the longest that was ")


@pytest.mark.parametrize("name", [*TASKS])
@pytest.mark.combinations
def test_every_task_has_a_model_that_reads_and_answers_it(name):
    task = make_task(name) if name.startswith("digits") else make_task(name, 16)
    model = for_task(task, rnnlab.RNN(4), embedding_size=task.vocabulary_size)

    @jax.jit
    def loss_and_gradient(key):
        batch = task.sample(key, 32)
        params = model.init(key, batch)
        return jax.value_and_grad(model.loss, has_aux=True)(params, batch)

    (value, metrics), gradient = loss_and_gradient(jax.random.key(0))
    assert np.isfinite(value)
    metrics = {name: float(metric) for name, metric in metrics.items()}
    assert not task.solved(metrics | {"loss": float(value)})
    norms = [float(jnp.linalg.norm(leaf)) for leaf in jax.tree.leaves(gradient)]
    assert all(norm > 0 for norm in norms)


SUMMARY = {
    "cell": "rnn", "task": "adding", "budget": 1000, "hidden_size": 30, "parameters": 990,
    "length": 30, "lag": 29, "tried": 100, "tried_lag": 99, "lags": 100, "seeds": 3, "solved": 0,
    "skill": 0.04, "skill_low": -0.2, "skill_high": 0.1, "horizon_before": 21, "horizon_after": 100,
    "exponent_before": -0.3, "exponent_after": -0.01,
}  # fmt: skip


def test_sentences():
    assert memory_sentences.sentence(SUMMARY) == (
        "rnn on adding: learned up to length 30 (lag 29); at length 100, 0 of 3 seeds learn it, "
        "and the loss closes 4 % of the gap between memoryless and perfect; the gradient there is "
        "below 1/1000 after 21 steps before training and stays above 1/1000 over all 100 steps "
        "afterwards."
    )
    nothing = SUMMARY | {"length": None, "lag": None, "skill": None, "horizon_before": None}
    text = memory_sentences.sentence(nothing, budgets=2)
    assert text.startswith("rnn on adding, 1000 parameters: not learned at any length; at length")
    assert "is not finite before training" in text
    assert memory_sentences.finding([SUMMARY, nothing | {"cell": "gru"}]) == (
        "Longest sequences that at least half of the seeds learn. adding: rnn 30, gru none"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cells": ("rnnn",)}, ("rnnn", "choose from")),
        ({"tasks": ("add",)}, ("add", "choose from")),
        ({"tasks": ("adding", "adding")}, ("adding", "twice")),
        ({"lengths": ()}, ("lengths is empty",)),
        ({"lengths": (0,)}, ("a length is 0",)),
        ({"budgets": (0,)}, ("a budget is 0",)),
        ({"seeds": 0}, ("seeds is 0",)),
        ({"seeds": 10**11}, ("seeds is 100000000000", "at most")),
        ({"lengths": (3 * 10**9,)}, ("a length is 3000000000", "at most")),
        ({"check_every": 0}, ("check_every is 0",)),
        ({"learning_rate": float("nan")}, ("learning_rate is nan",)),
        ({"clip": -1.0}, ("clip is -1",)),
        ({"init": "orthogonal"}, ("orthogonal", "choose from")),
        ({"precision": "float16"}, ("float16", "choose float32 or float64")),
    ],
)
def test_settings_refuse_in_one_sentence(change, words):
    with pytest.raises(ValueError, match=words[0]) as caught:
        MemorySettings(**change)
    assert all(word in str(caught.value) for word in words)


def test_a_budget_that_no_network_meets_is_refused():
    settings = MemorySettings(budgets=(3,))
    one_sentence(lambda: memory.units(settings), "a budget of 3 parameters is too small for rnn")
    settings = MemorySettings(budgets=(10**9,))
    one_sentence(lambda: memory.units(settings), "is too large for rnn on adding", "give at most")


def test_a_length_that_a_task_cannot_have_is_refused():
    with pytest.raises(ValueError, match="length 1 does not suit adding: length is 1"):
        memory.units(MemorySettings(lengths=(1,), tasks=("adding",)))


def test_a_length_without_a_lag_is_refused():
    settings = MemorySettings(lengths=(1,), tasks=("parity",))
    one_sentence(lambda: memory.units(settings), "parity needs no memory at length 1")


def test_a_seed_that_diverged_counts_as_the_lowest():
    names = ("skill", "horizon_before", "horizon_after", "exponent_before", "exponent_after")
    rows = [dict.fromkeys(names, value) for value in (None, None, 0.9)]
    assert task_training.medians(rows)["skill"] is None
    assert task_training.medians([*rows, *rows[2:], *rows[2:]])["skill"] == 0.9


def test_a_network_that_diverged_has_no_horizon():
    settings = MemorySettings(**SMALL)
    sized = memory.model_for(settings, Unit("rnn", "adding", 12, 300))
    key = jax.random.key(0)
    params = sized.model.init(key, sized.task.sample(key, 2))
    params = jax.tree.map(lambda leaf: leaf * np.nan, params)
    reach_of = jax.jit(task_training.reach_of, static_argnums=(0, 1))
    reached = reach_of(sized.task, sized.model, params, key)
    assert not reached.is_finite


@pytest.mark.long
def test_the_command_writes_a_run_and_its_page(tmp_path, capsys):
    arguments = [
        "memory", "--cells", "rnn", "--tasks", "adding", "digits", "--lengths", "10",
        "--budgets", "300", "600", "--seeds", "2", "--steps", "20", "--batch-size", "4",
        "--out", str(tmp_path / "run"), "--no-cache",
    ]  # fmt: skip
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "rnn on digits, 600 parameters: not learned at any length; at length 64" in shown
    names = {path.name for path in (tmp_path / "run").iterdir()}
    files = {"memory.json", "memory.csv", "memory.png", "memory.svg", "config.json", "SHA256SUMS"}
    assert names == files
    content = json.loads((tmp_path / "run" / "memory.json").read_text(encoding="utf-8"))
    assert len(content["scores"]) == 2 * 2 * 2
    assert cli.main(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Longest sequences that at least half of the seeds learn" in page
    # A second run with other settings is refused, the same one resumes and measures nothing.
    assert cli.main([*arguments, "--seeds", "1"]) == 2
    assert cli.main([*arguments, "--resume"]) == 0


def test_a_name_that_does_not_exist_is_refused_with_those_that_do():
    meant = (
        "(did you mean 'copy-memory' or 'copy-padding' or 'selective-copy'?); choose from adding"
    )
    one_sentence(lambda: make_task("copy", 100), "task 'copy' is unknown", meant)
    one_sentence(lambda: make_task("copy_memory", 100), "(did you mean 'copy-memory'?)")
    one_sentence(lambda: make_task("x", 100), "task 'x' is unknown; choose from")
    one_sentence(lambda: MemorySettings(tasks=("parityy",)), "(did you mean 'parity'?)")
    wrong = rnnlab.cells.registry.make_cell
    one_sentence(lambda: wrong("lstmm", 3), "cell 'lstmm' is unknown (did you mean 'lstm'?)")


def test_tasks_of_one_length_are_drawn_as_a_grid(tmp_path):
    scores = []
    for task, cell, seed in itertools.product(("adding", "parity"), ("rnn", "gru"), (0, 1)):
        skill = None if (task, cell) == ("parity", "gru") else 0.25 + 0.5 * (cell == "gru")
        scores.append(
            {
                "task": task,
                "cell": cell,
                "seed": seed,
                "budget": 1000,
                "length": 50,
                "lag": 49,
                "skill": skill,
                "solved_after": 100 if (task, cell) == ("adding", "gru") else None,
                "horizon_before": 20,
            }
        )
    figure.draw(scores, tmp_path)
    drawn = (tmp_path / "memory.svg").read_text(encoding="utf-8")
    for text in ("1000 parameters", "adding", "parity", ">25<", ">75<", ">(2)<", ">0<"):
        assert text in drawn, text


def test_many_networks_are_counted_and_not_listed():
    summary = [
        {"cell": cell, "task": f"task {n}", "budget": 1000, "length": length, "tried": 50}
        for n in range(15)
        for cell, length in (("rnn", None), ("gru", 50 if n < 9 else 20))
    ]
    text = memory_sentences.finding(summary)
    assert text.startswith(
        "Of 15 tasks, at the longest length, at least half of the seeds learn: gru 9, rnn 0. "
        "No cell learns task 9; task 10;"
    )
    assert memory_sentences.sentences(summary) == []
