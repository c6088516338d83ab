"""The kind of token that each character of Python source belongs to: BiLSTM, with and without CRF.

python -m experiments.labelling.run
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes

import rnnlab
from experiments.common import Record, experiment, first_sentence, spread
from experiments.labelling.baselines import best_windows, majority
from experiments.labelling.data import (
    CLASSES,
    KINDS,
    SPACE,
    Windows,
    kind_of,
    span_score,
    windows,
)
from experiments.training import trained_seeds
from rnnlab.data import Batch, batches, standard_library_files
from rnnlab.models import crf_tagger, tagger
from rnnlab.report.figures.style import COLOURS, drawing, grid_lines, title

LSTM, BOTH, CRF = "LSTM", "BiLSTM", "BiLSTM + CRF"
MAJORITY, TABLE = "majority of the character", "majority of the window"
CODES = 129
RATE = 1e-2
"""The first learning rate of Adam, which decays to zero."""


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        files: of training, of validation and of the test.
        steps: T, the characters of a window.
        training: its number of windows.
        held_out: windows of validation, and of the test.
        hidden: H, in each direction; the unidirectional LSTM has as many parameters as two.
        updates: per network.
        batch: B.
        seeds: networks of each kind.
        widths: how many windows the baseline tries.
    """

    files: tuple[int, int, int] = (80, 15, 30)
    steps: int = 80
    training: int = 4000
    held_out: int = 400
    hidden: int = 32
    updates: int = 500
    batch: int = 32
    seeds: int = 3
    widths: int = 8


QUICK = Plan((5, 2, 2), 40, 64, 16, 6, 30, 8, 2, 3)


class Parts(NamedTuple):
    """Windows from different files."""

    training: Windows
    validation: Windows
    test: Windows


def parts(plan: Plan) -> Parts:
    """Windows of files that are drawn once, no file in two parts."""
    random = np.random.default_rng(0)
    files = [file for file in standard_library_files() if len(file.text) > 4 * plan.steps]
    drawn = [files[index] for index in random.permutation(len(files))]
    first, second = plan.files[0], plan.files[0] + plan.files[1]
    chosen = drawn[:first], drawn[first:second], drawn[second : second + plan.files[2]]
    counts = (plan.training, plan.held_out, plan.held_out)
    made = [
        windows(group, plan.steps, count, random)
        for group, count in zip(chosen, counts, strict=True)
    ]
    return Parts(*made)


def make_model(name: str, plan: Plan) -> Any:
    """A tagger of characters."""
    sizes: Record = {"vocabulary_size": CODES, "embedding_size": 16}
    if name == LSTM:
        # About as many parameters as two directions of H units have.
        return tagger(rnnlab.LSTM(round(1.5 * plan.hidden)), CLASSES, **sizes)
    cell = rnnlab.bidirectional(rnnlab.LSTM(plan.hidden))
    return (crf_tagger if name == CRF else tagger)(cell, CLASSES, **sizes)


def predictor(name: str, model: Any) -> Callable[[Any, np.ndarray], np.ndarray]:
    """Labels ``[R, T, N]`` by the parameters of R networks."""

    def labels(params: Any, codes: np.ndarray) -> Any:
        batch = Batch(codes, None)
        if name == CRF:
            return model.decode(params, batch).labels
        return model.apply(params, batch).argmax(axis=-1)

    return jax.jit(jax.vmap(labels, in_axes=(0, None)))


def measure(name: str, data: Parts, plan: Plan) -> Record:
    """Trains all seeds side by side; their scores on the test."""
    model = make_model(name, plan)
    examples = batches(Batch(*data.training), plan.batch, seed=0)
    params = trained_seeds(model, examples, RATE, plan.updates, plan.seeds)
    labels = np.asarray(predictor(name, model)(params, data.test.codes))
    parameters = sum(leaf[0].size for leaf in jax.tree.leaves(params))
    return scored(name, labels, data.test) | {"parameters": parameters}


def scored(name: str, labels: np.ndarray, test: Windows) -> Record:
    """Accuracy of characters and F1 of tokens, of each of the labellings ``[R, T, N]``."""
    record = {
        "name": name,
        "accuracy": np.mean(labels == test.labels, axis=(1, 2)).round(4).tolist(),
        "f1": [round(span_score(row, test.labels), 4) for row in labels],
        "_labels": labels[0],
    }
    print(f"{name:28}accuracy {record['accuracy']}  F1 {record['f1']}", flush=True)
    return record


def run(quick: bool) -> Record:
    """The networks and the baselines on the windows of files that nothing was chosen on."""
    rnnlab.quick_start()
    plan = QUICK if quick else Plan()
    data = parts(plan)
    table, about = best_windows(data.training, data.validation, plan.widths)
    records = [
        scored(MAJORITY, majority(data.training)(data.test.codes)[None], data.test),
        scored(TABLE, table(data.test.codes)[None], data.test) | {"window": about},
    ]
    with rnnlab.startup.kept_programs():
        records += [measure(name, data, plan) for name in (LSTM, BOTH, CRF)]
    shown = example(data.test)
    pictures = {record["name"]: record["_labels"][:, shown].tolist() for record in records}
    for record in records:
        del record["_labels"]
    return {
        "finding": finding(records),
        "settings": plan._asdict() | {"learning_rate": RATE},
        "records": records,
        "example": {
            "codes": data.test.codes[:, shown].tolist(),
            "truth": data.test.labels[:, shown].tolist(),
            "labels": pictures,
        },
    }


def example(test: Windows) -> int:
    """The window with the most kinds of token; the first of equal ones."""
    kinds = [len(np.unique(column)) for column in test.labels.T]
    return int(np.argmax(kinds))


def finding(records: list[Record]) -> str:
    """F1 and accuracy of all, and what each part of the network adds."""
    by_name = {record["name"]: record for record in records}
    shares = [f"{record['name']} {spread(record['f1'])}" for record in records]
    correct = [f"{record['name']} {spread(record['accuracy'])}" for record in records]

    def gain(name: str, other: str) -> str:
        margins = 100 * (np.array(by_name[name]["f1"]) - np.array(by_name[other]["f1"]))
        text = f"{margins.mean():+.1f} ({margins.min():+.1f} to {margins.max():+.1f})"
        return text.replace("-", "−")

    best = max((MAJORITY, TABLE), key=lambda name: by_name[name]["f1"][0])
    return (
        f"F1 of whole tokens in held-out files, mean and range of the seeds: {', '.join(shares)}. "
        f"In points, the BiLSTM gains {gain(BOTH, best)} on the better baseline, the {best}, and "
        f"{gain(BOTH, LSTM)} on the LSTM, which reads forwards alone; the CRF adds "
        f"{gain(CRF, BOTH)}. "
        f"Characters labelled correctly: {', '.join(correct)}."
    )


def draw(result: Record, path: Path) -> None:
    """Scores on the left, and a piece of source as each network labels it on the right."""
    with drawing(path, 2, 1, (12, 6)) as (figure, (top, bottom)):
        names = [record["name"] for record in result["records"]]
        for place, record in enumerate(result["records"]):
            for index, score in enumerate(("accuracy", "f1")):
                values = 100 * np.array(record[score])
                heights = np.full(len(values), place + 0.2 * index - 0.1)
                label = {"accuracy": "characters", "f1": "F1 of tokens"}[score]
                style: Record = {
                    "color": COLOURS[index + 1],
                    "marker": "os"[index],
                    "linestyle": "none",
                }
                top.plot(values, heights, label=label if place == 0 else None, **style)
        top.set_yticks(range(len(names)), names)
        top.invert_yaxis()
        top.set(xlabel="correct in held-out files (%), each seed")
        top.legend(frameon=False, fontsize=8)
        grid_lines(top)
        draw_example(bottom, result["example"])
        title(figure, first_sentence(result["finding"]), 120)


def draw_example(axes: Axes, shown: Record) -> None:
    """The characters of a window, with the kind that each row of labels gives them."""
    colours = dict(enumerate(COLOURS[1 : len(KINDS) + 1]))
    rows = {"truth (tokenize)": shown["truth"]} | shown["labels"]
    for row, labels in enumerate(rows.values()):
        for place, (code, label) in enumerate(zip(shown["codes"], labels, strict=True)):
            if label != SPACE:
                # A first character has a stronger colour than the others of its token.
                strength = 0.85 if label % 2 else 0.45
                bar: Record = {"color": colours[kind_of(label)], "alpha": strength, "linewidth": 0}
                axes.barh(row, 1, 0.8, left=place - 0.5, **bar)
            text = "⏎" if code == 10 else chr(code)
            axes.text(place, row, text, ha="center", va="center", fontsize=8, family="monospace")
    axes.set_title("A window of the test; a token begins with the stronger colour", fontsize=10)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_xlim(-1, len(shown["codes"]))
    axes.invert_yaxis()
    axes.set_xticks([])
    for index, kind in enumerate(KINDS):
        axes.barh(0, 0, color=colours[index], label=kind)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=6, frameon=False)


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
