"""LSTM against GRU, feed-forward against recurrent, and a gradient that is cut after one step.

python -m experiments.comparisons.run
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from matplotlib.axes import Axes

import rnnlab
from experiments.common import Record, experiment
from experiments.comparisons.models import FeedForward, OneStepGRU
from rnnlab.models import for_task
from rnnlab.report.figures.style import drawing, grid_lines, look, reference_line, title
from rnnlab.studies import memory, task_training
from rnnlab.studies.memory_settings import MemorySettings
from rnnlab.studies.records import column, select
from rnnlab.tasks import Task, adding, delayed_xor, digits

CELLS: dict[str, Callable[[int], Any]] = {"LSTM": rnnlab.LSTM, "GRU": rnnlab.GRU}
BATCH = 32


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        hidden: H of the recurrent networks, in all parts but that of the longest lag.
        updates: of every network, with a batch of 32.
        parts: in which the updates run; the fastest is taken as their time.
        seeds: networks of each kind.
        adding: the length of the adding task.
        delays: of the exclusive or, on which the cut gradient is measured.
        lengths: of temporal order, for the longest lag.
        budget: the parameters of a network there.
    """

    hidden: int = 64
    updates: int = 800
    parts: int = 8
    seeds: int = 3
    adding: int = 50
    delays: tuple[int, ...] = (0, 1, 3, 10)
    lengths: tuple[int, ...] = (30, 100, 200)
    budget: int = 4000


QUICK = Plan(
    hidden=8, updates=6, parts=3, seeds=2, adding=10, delays=(0,), lengths=(12,), budget=400
)


def learn(model: Any, task: Task, plan: Plan) -> Record:
    """Trains all seeds; their losses on held-out sequences, and the time of an update."""
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))
    programs = task_training.compiled(task, model, optimiser, BATCH, is_measured=False)
    keys = jax.random.split(jax.random.key(0), plan.seeds)
    state = programs.start(keys)
    count = plan.updates // plan.parts
    seconds = []
    for part in range(plan.parts):
        began = time.perf_counter()
        state = jax.block_until_ready(programs.advance(state, keys, part * count, count))
        seconds.append((time.perf_counter() - began) / count / plan.seeds)
    metrics = jax.device_get(programs.evaluate(state.params, keys))
    record: Record = {
        "parameters": task_training.count_parameters(model, task),
        # The first part was compiled too.
        "milliseconds": round(1000 * min(seconds[1:]), 3),
    }
    for name in ("loss", "accuracy"):
        if name in metrics:
            record[name] = np.round(np.asarray(metrics[name], float), 4).tolist()
    return record


def on_sequences(plan: Plan) -> list[Record]:
    """LSTM, GRU and a feed-forward network of as many parameters as the GRU, on two tasks."""
    records = []
    for name, task in (("digits", digits()), (f"adding {plan.adding}", adding(plan.adding))):
        models = {label: for_task(task, make(plan.hidden)) for label, make in CELLS.items()}
        budget = task_training.count_parameters(models["GRU"], task)
        inputs = task.steps * (task.input_size or 1)
        hidden = (budget - task.outputs) // (inputs + 1 + task.outputs)
        for label, model in (models | {"feed-forward": FeedForward(task, hidden)}).items():
            record = {"task": name, "network": label} | learn(model, task, plan)
            if label in CELLS:
                record["kept_bytes"] = kept(CELLS[label](plan.hidden), task)
            records.append(record)
            print(record, flush=True)
    return records


def kept(cell: Any, task: Task) -> int:
    """Bytes that a cell keeps for the backward pass, on the engine that is chosen for it."""
    xs: Any = jax.ShapeDtypeStruct((task.steps, BATCH, task.input_size or 1), np.float32)
    params = jax.eval_shape(lambda key: cell.init(key, xs.shape[-1]), jax.random.key(0))
    explanation = rnnlab.explain_engine(cell, params, xs)
    return explanation.residual_bytes[explanation.engine]


def cut(plan: Plan) -> list[Record]:
    """The accuracy of a GRU on the exclusive or, with the full gradient and with one step of it."""
    records = []
    for delay in plan.delays:
        task = delayed_xor(delay=delay, length=2 * (delay + 1) + 10)
        for gradient, make in (("full", rnnlab.GRU), ("one step", OneStepGRU)):
            record = {"delay": delay, "lag": task.lag, "gradient": gradient}
            records.append(record | learn(for_task(task, make(plan.hidden)), task, plan))
            print(records[-1], flush=True)
    return records


def longest(plan: Plan) -> list[Record]:
    """How many seeds learn temporal order at each length, with networks as in ``rnnlab memory``."""
    settings = MemorySettings(
        cells=("lstm", "gru"),
        tasks=("temporal-order",),
        lengths=plan.lengths,
        budgets=(plan.budget,),
    )
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))
    records = []
    for unit in memory.units(settings):
        task, model, parameters = memory.model_for(settings, unit)
        programs = task_training.compiled(task, model, optimiser, BATCH, is_measured=False)
        every = max(plan.updates // plan.parts, 1)
        outcome = task_training.train(programs, plan.seeds, plan.updates, every, lambda _: None)
        solved = [updates for updates in outcome.solved_after if updates is not None]
        record = {
            "cell": unit.cell.upper(),
            "length": unit.length,
            "lag": task.lag,
            "hidden": model.cell.hidden_size,
            "parameters": parameters,
            "solved": len(solved),
            "updates": solved,
        }
        records.append(record)
        print(record, flush=True)
    return records


def run(quick: bool) -> Record:
    """All comparisons."""
    plan = QUICK if quick else Plan()
    sequences = on_sequences(plan)
    gradients = cut(plan)
    lags = longest(plan)
    return {
        "finding": finding(sequences, gradients, lags, plan),
        "settings": plan._asdict() | {"batch": BATCH},
        "sequences": sequences,
        "gradients": gradients,
        "lags": lags,
    }


def finding(
    sequences: list[Record], gradients: list[Record], lags: list[Record], plan: Plan
) -> str:
    """A sentence for each comparison."""
    return " ".join(
        [_cells(sequences, lags, plan), _windows(sequences, plan), _cuts(gradients, plan)]
    )


def _cells(sequences: list[Record], lags: list[Record], plan: Plan) -> str:
    (lstm,) = select(sequences, task="digits", network="LSTM")
    (gru,) = select(sequences, task="digits", network="GRU")
    shares = [
        f"{gru[name] / lstm[name]:.2f}" for name in ("parameters", "milliseconds", "kept_bytes")
    ]
    learned = [f"{_longest(lags, cell, plan)} ({cell})" for cell in CELLS]
    losses = f"{_span(lstm)} (LSTM) and {_span(gru)} (GRU)"
    lengths = ", ".join(map(str, plan.lengths))
    return (
        f"Of an LSTM with {plan.hidden} units, a GRU has {shares[0]} of the parameters, "
        f"{shares[1]} of the time per update and {shares[2]} of the memory for the backward pass; "
        f"on digits read pixel by pixel their test losses after {plan.updates} updates are "
        f"{losses}, and with {plan.budget} parameters the longest lags of temporal order that "
        f"they learn, in {lengths} steps, are {' and '.join(learned)}."
    )


def _longest(lags: list[Record], cell: str, plan: Plan) -> str:
    """The longest lag that at least half of the seeds learn."""
    rows = [row for row in select(lags, cell=cell) if 2 * row["solved"] >= plan.seeds]
    return str(max(column(rows, "lag"))) if rows else "none"


def _windows(sequences: list[Record], plan: Plan) -> str:
    parts = []
    for task in ("digits", f"adding {plan.adding}"):
        rows = select(sequences, task=task)
        shares = [f"{row['network']} {_span(row)}" for row in rows]
        parts.append(f"{task}: " + ", ".join(shares))
    return (
        "With the whole sequence as one input vector and as many parameters as the GRU, a "
        f"feed-forward network has these test losses beside the others, {'; '.join(parts)}."
    )


def _cuts(gradients: list[Record], plan: Plan) -> str:
    parts = []
    for delay in plan.delays:
        shares = []
        for gradient in ("full", "one step"):
            (row,) = select(gradients, delay=delay, gradient=gradient)
            shares.append(f"{np.mean(row['accuracy']):.1%}")
        parts.append(f"{shares[0]} and {shares[1]} at lag {delay + 1}")
    return (
        "The exclusive or of two bits some steps ago is predicted by a GRU with the full gradient "
        f"and with one cut after one step at {'; '.join(parts)} (chance 50%)."
    )


def _span(row: Record) -> str:
    low, high = min(row["loss"]), max(row["loss"])
    return f"{low:.3f} to {high:.3f}"


def draw(result: Record, path: Path) -> None:
    """Costs of GRU and LSTM, losses on two tasks, and the accuracy with a cut gradient."""
    with drawing(path, 1, 3, (13, 4.4)) as (figure, (left, middle, right)):
        _costs(left, result)
        _losses(middle, result)
        _accuracies(right, result["gradients"])
        for axes in (left, middle, right):
            grid_lines(axes)
        title(figure, _headline(result), 120)


def _costs(axes: Axes, result: Record) -> None:
    names = {
        "parameters": "parameters",
        "milliseconds": "time per update",
        "kept_bytes": "memory kept",
    }
    for index, name in enumerate(names):
        (lstm,) = select(result["sequences"], task="digits", network="LSTM")
        (gru,) = select(result["sequences"], task="digits", network="GRU")
        axes.bar(index, gru[name] / lstm[name], width=0.6, color=look(1)["color"])
    reference_line(axes, 1)
    axes.set_xticks(range(3), list(names.values()))
    axes.set(ylabel="GRU / LSTM of as many units")
    axes.set_title("cost", fontsize=10)


def _losses(axes: Axes, result: Record) -> None:
    places = []
    labels = []
    for row in result["sequences"]:
        place = len(places) + (len(places) >= 3)
        index = len(places) % 3
        axes.plot([place] * len(row["loss"]), row["loss"], linestyle="none", **look(index))
        places.append(place)
        labels.append(f"{row['network']}\n{row['task']}")
    axes.set_xticks(places, labels, fontsize=8, rotation=45, ha="right")
    axes.set(ylabel="test loss", yscale="log")
    axes.set_title("test loss of each seed", fontsize=10)


def _accuracies(axes: Axes, gradients: list[Record]) -> None:
    for index, gradient in enumerate(("full", "one step")):
        rows = select(gradients, gradient=gradient)
        lags = column(rows, "lag")
        means = [100 * np.mean(row["accuracy"]) for row in rows]
        label = "full gradient" if gradient == "full" else "cut after one step"
        axes.plot(lags, means, label=label, **look(index))
        for row in rows:
            percent = [100 * value for value in row["accuracy"]]
            axes.plot([row["lag"]] * len(percent), percent, linestyle="none", **look(index))
    reference_line(axes, 50)
    axes.set(xlabel="lag (steps)", ylabel="accuracy (%)", ylim=(45, 102))
    axes.set_title("delayed exclusive or, GRU", fontsize=10)
    axes.legend(frameon=False)


def _headline(result: Record) -> str:
    rows = select(result["gradients"], delay=max(result["settings"]["delays"]))
    shares = [f"{np.mean(row['accuracy']):.0%}" for row in rows]
    (lstm,) = select(result["sequences"], task="digits", network="LSTM")
    (gru,) = select(result["sequences"], task="digits", network="GRU")
    share = gru["milliseconds"] / lstm["milliseconds"]
    return (
        f"A GRU takes {share:.2f} of an LSTM's time per update; at lag {rows[0]['lag']} the full "
        f"gradient reaches {shares[0]}, one step of it {shares[1]}"
    )


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
