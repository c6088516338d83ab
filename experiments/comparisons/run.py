"""LSTM against GRU, recurrent against feed-forward and attention, and a gradient that is cut.

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
from experiments.common import Record, compiled_gradient, experiment
from experiments.comparisons.models import FeedForward, FewDigits, OneStepGRU
from rnnlab.models import Transformer, for_task
from rnnlab.report.figures.style import band, drawing, grid_lines, look, reference_line, title
from rnnlab.studies import memory, task_training
from rnnlab.studies.memory_settings import MemorySettings
from rnnlab.studies.records import column, select
from rnnlab.tasks import Task, adding, delayed_xor, digits

CELLS: dict[str, Callable[[int], Any]] = {"LSTM": rnnlab.LSTM, "GRU": rnnlab.GRU}
NETWORKS = (*CELLS, "feed-forward", "Transformer")
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
        images: numbers of training images, for the small data sets.
    """

    hidden: int = 64
    updates: int = 800
    parts: int = 8
    seeds: int = 3
    adding: int = 50
    delays: tuple[int, ...] = (0, 1, 3, 10)
    lengths: tuple[int, ...] = (30, 100, 200)
    budget: int = 4000
    images: tuple[int, ...] = (50, 200, 800)


QUICK = Plan(
    hidden=8,
    updates=6,
    parts=3,
    seeds=2,
    adding=10,
    delays=(0,),
    lengths=(12,),
    budget=400,
    images=(50,),
)


def learn(model: Any, task: Task, plan: Plan) -> Record:
    """Trains all seeds; their losses on held-out sequences, and the CPU time of an update."""
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))
    programs = task_training.compiled(task, model, optimiser, BATCH, is_measured=False)
    keys = jax.random.split(jax.random.key(0), plan.seeds)
    state = programs.start(keys)
    count = plan.updates // plan.parts
    seconds = []
    for part in range(plan.parts):
        # CPU time is that of all cores, and hardly depends on what else the machine does.
        began = time.process_time()
        state = jax.block_until_ready(programs.advance(state, keys, part * count, count))
        seconds.append((time.process_time() - began) / count / plan.seeds)
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
    """LSTM and GRU, and what sees the whole sequence at once with as many parameters as the GRU."""
    records = []
    for name, task in (("digits", digits()), (f"adding {plan.adding}", adding(plan.adding))):
        for network, model in models_of(task, plan).items():
            record = {"task": name, "network": network, "bytes": memory_of(model, task)}
            records.append(record | learn(model, task, plan))
            print(records[-1], flush=True)
    return records


def models_of(task: Task, plan: Plan) -> dict[str, Any]:
    """The models that are compared on a task."""
    models: dict[str, Any] = {}
    for cell, make in CELLS.items():
        models[cell] = for_task(task, make(plan.hidden))
    budget = task_training.count_parameters(models["GRU"], task)
    inputs = task.steps * (task.input_size or 1)
    hidden = (budget - task.outputs) // (inputs + 1 + task.outputs)
    models["feed-forward"] = FeedForward(task, hidden)
    models["Transformer"] = transformer(task, budget)
    return models


def transformer(task: Task, budget: int) -> Any:
    """The largest Transformer of two layers with at most ``budget`` parameters."""
    sizes = range(2, budget, 2)
    return task_training.largest(
        lambda size: for_task(task, Transformer(size)), task, sizes, budget
    )


def memory_of(model: Any, task: Task) -> int:
    """Bytes that XLA reserves for the intermediate values of one loss and its gradient."""
    batch = task_training.shapes_of(task, BATCH)
    params = jax.eval_shape(model.init, jax.random.key(0), batch)
    return compiled_gradient(model, params, batch).bytes


def on_few_images(plan: Plan) -> list[Record]:
    """The test accuracy of both cells after training on a few images."""
    records = []
    for count in plan.images:
        task = FewDigits(permuted=False, split="train", count=count)
        for cell, make in CELLS.items():
            record = {"images": count, "cell": cell}
            records.append(record | learn(for_task(task, make(plan.hidden)), task, plan))
            print(records[-1], flush=True)
    return records


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
    result = {
        "settings": plan._asdict() | {"batch": BATCH},
        "sequences": on_sequences(plan),
        "few": on_few_images(plan),
        "gradients": cut(plan),
        "lags": longest(plan),
    }
    return {"finding": finding(result, plan)} | result


def finding(result: Record, plan: Plan) -> str:
    """A sentence for each comparison."""
    return " ".join(
        [
            _cells(result["sequences"], plan),
            _few(result["few"], plan),
            _lags(result["lags"], plan),
            _windows(result["sequences"], plan),
            _cuts(result["gradients"], plan),
        ]
    )


def _cells(sequences: list[Record], plan: Plan) -> str:
    (lstm,) = select(sequences, task="digits", network="LSTM")
    (gru,) = select(sequences, task="digits", network="GRU")
    shares = [f"{gru[name] / lstm[name]:.2f}" for name in ("parameters", "milliseconds", "bytes")]
    return (
        f"Of an LSTM with {plan.hidden} units, a GRU has {shares[0]} of the parameters, "
        f"{shares[1]} of the CPU time per update and {shares[2]} of the memory of a gradient."
    )


def _few(few: list[Record], plan: Plan) -> str:
    parts = []
    for count in plan.images:
        rows = select(few, images=count)
        shares = [f"{np.mean(row['accuracy']):.1%} ({row['cell']})" for row in rows]
        parts.append(f"{' and '.join(shares)} from {count} images")
    return (
        f"Mean test accuracies on digits read pixel by pixel are, after {plan.updates} updates, "
        f"{'; '.join(parts)}."
    )


def _lags(lags: list[Record], plan: Plan) -> str:
    learned = [f"{_longest(lags, cell, plan)} ({cell})" for cell in CELLS]
    return (
        f"With {plan.budget} parameters the longest lags of temporal order that they learn, among "
        f"sequences of {', '.join(map(str, plan.lengths))} steps, are {' and '.join(learned)}."
    )


def _longest(lags: list[Record], cell: str, plan: Plan) -> str:
    """The longest lag that at least half of the seeds learn."""
    rows = [row for row in select(lags, cell=cell) if 2 * row["solved"] >= plan.seeds]
    return str(max(column(rows, "lag"))) if rows else "none"


def _windows(sequences: list[Record], plan: Plan) -> str:
    parts = []
    for task in ("digits", f"adding {plan.adding}"):
        rows = select(sequences, task=task)
        shares = [f"{row['network']} {_span(row)} ({row['milliseconds']:.1f} ms)" for row in rows]
        parts.append(f"{task}: " + ", ".join(shares))
    return (
        "Beside a feed-forward network with the whole sequence as one input and a causal "
        "Transformer, each with at most the GRU's parameters, test losses and CPU times per "
        f"update are, {'; '.join(parts)}."
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
    """Costs, losses on two tasks, accuracies on small data sets and with a cut gradient."""
    with drawing(path, 2, 2, (11.5, 8.4)) as (figure, axes):
        costs, losses, few, accuracies = axes
        _costs(costs, result["sequences"])
        _losses(losses, result["sequences"])
        _small(few, result["few"])
        _accuracies(accuracies, result["gradients"])
        for panel in (costs, losses, few, accuracies):
            grid_lines(panel)
        title(figure, _headline(result), 110)


def _costs(axes: Axes, sequences: list[Record]) -> None:
    names = {"parameters": "parameters", "milliseconds": "CPU time", "bytes": "memory"}
    (lstm,) = select(sequences, task="digits", network="LSTM")
    for index, network in enumerate(NETWORKS[1:], start=1):
        (row,) = select(sequences, task="digits", network=network)
        ratios = [row[name] / lstm[name] for name in names]
        places = np.arange(len(names)) + 0.27 * (index - 2)
        axes.bar(places, ratios, 0.25, label=network, color=look(index)["color"])
    reference_line(axes, 1)
    axes.set_xticks(range(len(names)), list(names.values()))
    axes.set(ylabel="share of the LSTM's", yscale="log")
    axes.set_title("cost on the digits", fontsize=10)
    axes.legend(frameon=False, fontsize=8)


def _losses(axes: Axes, sequences: list[Record]) -> None:
    tasks = list(dict.fromkeys(column(sequences, "task")))
    for index, network in enumerate(NETWORKS):
        for place, task in enumerate(tasks):
            (row,) = select(sequences, task=task, network=network)
            places = [place + 0.12 * (index - 1.5)] * len(row["loss"])
            label = network if place == 0 else None
            axes.plot(places, row["loss"], linestyle="none", label=label, **look(index))
    axes.set_xticks(range(len(tasks)), tasks)
    axes.set(ylabel="test loss", yscale="log")
    axes.set_title("test loss of each seed", fontsize=10)
    axes.legend(frameon=False, fontsize=8)


def _small(axes: Axes, few: list[Record]) -> None:
    for index, cell in enumerate(CELLS):
        points = []
        for row in select(few, cell=cell):
            points += [(row["images"], 100 * accuracy) for accuracy in row["accuracy"]]
        band(axes, points, 8, cell, **look(index))
    counts = sorted(set(column(few, "images")))
    axes.set(xscale="log", xlabel="training images", ylabel="test accuracy (%)")
    axes.set_xticks(counts, list(map(str, counts)))
    axes.minorticks_off()
    axes.set_title("digits from few images; bands: range of the seeds", fontsize=10)
    axes.legend(frameon=False)


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
        f"A GRU takes {share:.2f} of an LSTM's CPU time; at lag {rows[0]['lag']} the full gradient "
        f"reaches {shares[0]}, one step of it {shares[1]}"
    )


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
