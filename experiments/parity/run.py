"""Parity and counting modulo 3 at lengths that training did not hold, by the range of eigenvalues.

    python -m experiments.parity.run

Grazzi et al. 2024 (arXiv 2411.12537): a linear recurrence whose eigenvalues are positive cannot
compute parity at every length, one with eigenvalues in [−1, 1] can; a diagonal matrix with real
eigenvalues cannot count modulo 3 in one layer.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

import rnnlab
from experiments.common import Record, experiment, spread
from experiments.parity.cell import Diagonal, solution
from experiments.training import decayed_adam
from rnnlab.models import for_task
from rnnlab.report.figures.style import (
    drawing,
    grid_lines,
    legend_below,
    look,
    reference_line,
    title,
)
from rnnlab.studies.records import column, select
from rnnlab.tasks import modular_counting
from rnnlab.training import sweep

POSITIVE, SIGNED = "linear, [0, 1]", "linear, [−1, 1]"
"""The linear recurrences, by the range of their eigenvalues."""

TASKS = {2: "parity", 3: "the sum modulo 3"}

LONGEST = 40
"""The length of the training sequences, whose prefixes are all trained on as well."""


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        hidden: H.
        updates: per network.
        seeds: networks of each kind.
        batch: B.
        longest: the length of the test sequences.
        tested: their number.
        networks: their names.
        moduli: those of the tasks; 2 is parity.
    """

    hidden: int = 32
    updates: int = 1500
    seeds: int = 5
    batch: int = 32
    longest: int = 256
    tested: int = 1000
    networks: tuple[str, ...] = (POSITIVE, SIGNED, "RNN", "LSTM")
    moduli: tuple[int, ...] = (2, 3)


QUICK = Plan(
    hidden=8,
    updates=32,
    seeds=2,
    batch=8,
    longest=64,
    tested=50,
    networks=(POSITIVE, SIGNED),
    moduli=(2,),
)


def make_cell(name: str, hidden: int) -> rnnlab.Recurrent:
    """The cell of a network."""
    if name == "RNN":
        return rnnlab.RNN(hidden)
    if name == "LSTM":
        return rnnlab.LSTM(hidden)
    return Diagonal(hidden, eigenvalues="[0, 1]" if name == POSITIVE else "[-1, 1]")


def measure(name: str, modulus: int, plan: Plan) -> list[Record]:
    """Trains all seeds of a network; a record of each, with its accuracy at every length."""
    task = modular_counting(LONGEST, modulus, each_step=True)
    cell: Any = make_cell(name, plan.hidden)
    model = for_task(task, cell, embedding_size=plan.hidden)
    data = task.batches(plan.batch)
    result = sweep(
        lambda key: model.init(key, data[0]),
        model.loss,
        data,
        lambda: decayed_adam(5e-3, plan.updates),
        {"seed": list(range(plan.seeds))},
        steps=plan.updates,
    )
    longer = dataclasses.replace(task, length=plan.longest)
    batch = longer.sample(jax.random.key(2**31), plan.tested)

    def accuracies(params: Any) -> jax.Array:
        is_right = model.apply(params, batch).argmax(axis=-1) == batch.targets
        return jnp.mean(is_right, axis=1)

    by_length = np.asarray(jax.jit(jax.vmap(accuracies))(result.params))
    records = []
    for seed, accuracy in enumerate(by_length):
        record = {
            "network": name,
            "modulus": modulus,
            "seed": seed,
            "trained": round(float(accuracy[:LONGEST].mean()), 4),
            "unseen": round(float(accuracy[LONGEST:].mean()), 4),
            "longest": round(float(accuracy[-1]), 4),
            "loss": round(float(result.metrics["loss"][seed, -50:].mean()), 5),
            "by_length": np.round(accuracy, 3).tolist(),
        }
        records.append(record)
        print(f"{name:18} mod {modulus}  seed {seed}  {record['trained']:8}{record['unseen']:8}")
    return records


def exact(length: int) -> float:
    """The accuracy of the hand-set solution on one random string, over all its prefixes."""
    bits = jax.random.bernoulli(jax.random.key(0), 0.5, (length, 1, 1)).astype(jnp.float32)
    _, ys = rnnlab.unroll(Diagonal(1, eigenvalues="[-1, 1]"), solution(), bits)
    parity = jnp.cumsum(bits, axis=0) % 2
    return float(jnp.mean(ys == parity))


def run(quick: bool) -> Record:
    """The accuracy at every length, of each network on each task."""
    plan = QUICK if quick else Plan()
    runs = []
    for modulus in plan.moduli:
        for name in plan.networks:
            runs += measure(name, modulus, plan)
    by_hand = exact(1000 if quick else 100_000)
    settings = {"settings": plan._asdict() | {"trained_length": LONGEST, "by_hand": by_hand}}
    return {"finding": finding(runs, plan, by_hand)} | settings | {"runs": runs}


def finding(runs: list[Record], plan: Plan, by_hand: float) -> str:
    """The accuracy at unseen lengths, mean and range over the seeds."""
    parts = []
    for modulus in plan.moduli:
        shares = []
        for name in plan.networks:
            rows = select(runs, network=name, modulus=modulus)
            shares.append(f"{name} {spread(column(rows, 'unseen'))}")
        parts.append(f"{TASKS[modulus]} (chance {1 / modulus:.0%}): " + "; ".join(shares))
    return (
        f"Trained at lengths up to {LONGEST}, the mean accuracy at lengths {LONGEST + 1} to "
        f"{plan.longest} is, for {'. For '.join(parts)}. Eigenvalues of ±1 set by hand give parity "
        f"at {by_hand:.0%} of the steps of a longer string."
    )


def draw(result: Record, path: Path) -> None:
    """Accuracy against length, a panel for each task."""
    settings = result["settings"]
    moduli = settings["moduli"]
    with drawing(path, 1, len(moduli), (5.5 * len(moduli), 4.6)) as (figure, panels):
        for axes, modulus in zip(panels, moduli, strict=True):
            for index, name in enumerate(settings["networks"]):
                rows = select(result["runs"], network=name, modulus=modulus)
                _line(axes, np.array(column(rows, "by_length")), index, name)
            axes.axvline(LONGEST, color="0.45", linewidth=0.8, linestyle=":")
            axes.annotate("trained", (LONGEST, 103), ha="right", fontsize=8, color="0.35")
            axes.annotate(" unseen lengths", (LONGEST, 103), fontsize=8, color="0.35")
            reference_line(axes, 100 / modulus)
            axes.set(xlabel="length (steps)", ylabel="accuracy (%)", ylim=(0, 109))
            axes.set_title(TASKS[modulus], fontsize=10)
            grid_lines(axes)
        legend_below(figure, panels[0])
        title(figure, _headline(result), 110)


def _line(axes: Axes, by_length: np.ndarray, index: int, name: str) -> None:
    lengths = np.arange(1, by_length.shape[1] + 1)
    percent = 100 * by_length
    style = look(index)
    axes.plot(lengths, percent.mean(axis=0), label=name, markevery=32, linewidth=1.4, **style)
    low, high = percent.min(axis=0), percent.max(axis=0)
    axes.fill_between(lengths, low, high, color=style["color"], alpha=0.15, linewidth=0)


def _headline(result: Record) -> str:
    shares = []
    for name in (POSITIVE, SIGNED):
        rows = select(result["runs"], network=name, modulus=2)
        mean = np.mean(column(rows, "unseen"))
        shares.append(f"{mean:.0%} with eigenvalues in {name.removeprefix('linear, ')}")
    return "Parity at unseen lengths: " + ", ".join(shares) + "; bands: range of the seeds"


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
