"""Chrono initial biases against a forget bias of 1, on the adding task with 200 steps.

    python -m experiments.chrono.run

Tallec & Ollivier 2018 (arXiv 1804.11188) draw the forget biases of an LSTM as ln U[1, T − 1] and
take the negative for the input gates, so that the units keep their contents for 1 to T steps.
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from matplotlib.axes import Axes

import rnnlab
from experiments.common import Record, experiment
from rnnlab.models import for_task
from rnnlab.report.figures.style import band, drawing, grid_lines, look, reference_line, title
from rnnlab.studies import task_training
from rnnlab.tasks import Task
from rnnlab.typing import Array, Key, PyTree

INITS = ("forget bias 1", "chrono")


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        length: T, also the longest lag of the chrono biases.
        hidden: H; the paper has 128.
        batch: B; the paper has 50.
        updates: the most, of each network.
        every: updates between two measurements of the loss.
        seeds: networks of each kind.
    """

    length: int = 200
    hidden: int = 128
    batch: int = 20
    updates: int = 2000
    every: int = 100
    seeds: int = 3


QUICK = Plan(length=20, hidden=8, batch=8, updates=40, every=20, seeds=2)


def cell(init: str, plan: Plan) -> rnnlab.LSTM:
    """An LSTM with these initial biases."""
    if init == "chrono":
        return rnnlab.LSTM(plan.hidden, bias_init=rnnlab.initializers.chrono(plan.length))
    return rnnlab.LSTM(plan.hidden, forget_bias=1.0)


def measure(init: str, plan: Plan) -> list[Record]:
    """Trains all seeds; a record of each."""
    task = rnnlab.tasks.adding(plan.length)
    model = for_task(task, cell(init, plan))
    optimiser = optax.rmsprop(1e-3)
    programs = task_training.compiled(task, model, optimiser, plan.batch, is_measured=False)
    keys = jax.random.split(jax.random.key(0), plan.seeds)
    state = programs.start(keys)
    horizons = jax.jit(jax.vmap(functools.partial(horizon_of, task, model)))
    before = horizons(state.params, keys)
    curves = [programs.evaluate(state.params, keys)["loss"]]
    for first in range(0, plan.updates, plan.every):
        state = programs.advance(state, keys, first, plan.every)
        curves.append(programs.evaluate(state.params, keys)["loss"])
        print(f"{init:14} {first + plan.every:6} updates  loss {curves[-1]}", flush=True)
    after = horizons(state.params, keys)
    records = []
    for seed, losses in enumerate(np.stack(curves, axis=1).tolist()):
        curve = [
            {"updates": index * plan.every, "loss": round(loss, 6)}
            for index, loss in enumerate(losses)
        ]
        record = {
            "init": init,
            "seed": seed,
            "horizon_before": int(before[seed]),
            "horizon_after": int(after[seed]),
            "loss": curve[-1]["loss"],
        }
        for part in (2, 10, 100):
            record[f"below_1/{part}"] = first_below(curve, task.baseline() / part)
        records.append(record | {"curve": curve})
    return records


def horizon_of(task: Task, model: Any, params: PyTree, key: Key) -> Array:
    """Lags until the gradient of the loss in the state is below 1/1000, on 32 sequences."""
    batch = task.sample(jax.random.fold_in(key, 1), 32)

    def loss(ys: Array) -> Array:
        return model.score(model.head(params, ys, batch), batch)[0]

    return rnnlab.gradient_flow(model.cell, params.cell, batch.xs, loss).horizon


def first_below(curve: list[Record], loss: float) -> int | None:
    """The updates after which the loss stayed below a value at all later measurements; or None."""
    updates = None
    for point in reversed(curve):
        if not point["loss"] < loss:  # also where it is NaN
            break
        updates = point["updates"]
    return updates


def run(quick: bool) -> Record:
    """The losses during training, and the horizons, for both kinds of biases."""
    plan = QUICK if quick else Plan()
    runs = []
    for init in INITS:
        runs += measure(init, plan)
    settings = plan._asdict() | {"baseline": rnnlab.tasks.adding(plan.length).baseline()}
    return {
        "finding": f"{headline(runs)}. {finding(runs, plan)}",
        "settings": settings,
        "runs": runs,
    }


def headline(runs: list[Record]) -> str:
    """How many networks of each kind have learned the task."""
    counts = []
    for init in INITS:
        rows = [row for row in runs if row["init"] == init]
        learned = sum(row["below_1/10"] is not None for row in rows)
        counts.append(f"{learned} of {len(rows)} seeds with {init}")
    return f"The error falls below a tenth of that without memory for {', '.join(counts)}"


def finding(runs: list[Record], plan: Plan) -> str:
    """Horizons before training, and what was learned in the same number of updates."""
    parts = []
    for init in INITS:
        rows = [row for row in runs if row["init"] == init]
        horizons = [row["horizon_before"] for row in rows]
        learned = [row["below_1/10"] for row in rows if row["below_1/10"] is not None]
        updates = f", after {_span(learned)} updates" if learned else ""
        losses = [row["loss"] for row in rows]
        horizon = f"{_span(horizons)} of {plan.length} lags"
        parts.append(
            f"{init}: gradient above 1/1000 for {horizon} before training, {len(learned)} of "
            f"{len(rows)} seeds below a tenth of the baseline{updates}; "
            f"loss {min(losses):.4f} to {max(losses):.4f} after {plan.updates}"
        )
    return ". ".join(map(_capital, parts)) + "."


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _span(values: list[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def draw(result: Record, path: Path) -> None:
    """The loss during training, and the horizon before and after it."""
    with drawing(path, 1, 2, (10.5, 4.4)) as (figure, (left, right)):
        for index, init in enumerate(INITS):
            rows = [row for row in result["runs"] if row["init"] == init]
            _loss(left, rows, index)
            _horizons(right, rows, index)
        reference_line(left, result["settings"]["baseline"])
        left.annotate("without memory", (0.02, result["settings"]["baseline"] * 1.08), fontsize=8)
        left.set(xlabel="updates", ylabel="mean squared error", yscale="log")
        left.set_title("on held-out sequences; bands: range of the seeds", fontsize=10)
        left.legend(frameon=False)
        right.set(ylabel="horizon of the gradient (steps)", xlim=(-0.5, 1.5), ylim=(0, None))
        right.set_xticks([0, 1], ["before training", "after"])
        right.set_title("lags until the gradient is below 1/1000", fontsize=10)
        for axes in (left, right):
            grid_lines(axes)
        title(figure, headline(result["runs"]), 100)


def _loss(axes: Axes, rows: list[Record], index: int) -> None:
    points = []
    for row in rows:
        points += [(point["updates"], point["loss"]) for point in row["curve"]]
    points.sort(key=lambda point: point[0])
    band(axes, points, 8, rows[0]["init"], **look(index))


def _horizons(axes: Axes, rows: list[Record], index: int) -> None:
    for row in rows:
        horizons = [row["horizon_before"], row["horizon_after"]]
        # Moved apart a little, so that equal horizons of two kinds can both be seen.
        places = [0.04 * (2 * index - 1), 1 + 0.04 * (2 * index - 1)]
        axes.plot(places, horizons, linewidth=0.8, **look(index))


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
