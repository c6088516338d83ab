"""Motifs in generated DNA, found by GRUs, a position weight matrix and counts of k-mers.

    python -m experiments.dna.run

Each sequence of 60 letters has a motif or has none; which, is to be told. The background has the
dinucleotides of human DNA. There are three motifs: one that is what a position weight matrix
describes, and two that no single matrix can tell from their decoys (see ``data.py``). Since all is
generated, the exact likelihood ratio is known too, which no score can beat in the long run.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from sklearn.metrics import roc_auc_score

import rnnlab
from experiments.common import Record, experiment, first_sentence, spread
from experiments.dna.baselines import best_counts, best_scan, fitted_matrices, true_matrices
from experiments.dna.data import LETTERS, MOTIFS, Motif, Sequences, best_scores, sequences
from experiments.training import trained_seeds
from rnnlab.data import Batch, batches
from rnnlab.models import classifier
from rnnlab.report.figures.style import drawing, grid_lines, look, title
from rnnlab.studies.records import select

EXACT, TRUE, FITTED = "exact likelihood ratio", "true matrix", "matrix by EM"
WORDS, FORWARD, BOTH = "k-mers", "GRU", "bidirectional GRU"
SHOWN = "two sites"
"""The motif of the example."""

RATE = 1e-2
"""The first learning rate of Adam, which decays to zero."""

Score = Callable[[np.ndarray], np.ndarray]
"""Scores ``[N]``, or ``[seeds, N]``, of sequences ``[N, L]``; larger for those with the motif."""


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        length: L, the letters of a sequence.
        training: how many sequences are learned from; the last is the most.
        held_out: of validation and of the test.
        hidden: H, in each direction.
        updates: of each network.
        batch: B.
        seeds: of initial weights; the sequences are the same.
        widths: of the matrices that EM tries.
        starts: words that EM begins with, for each width.
        rounds: of EM.
        sizes: k of the k-mers.
        strengths: C of their logistic regression.
        motifs: their names.
    """

    length: int = 60
    training: tuple[int, ...] = (500, 4000)
    held_out: tuple[int, int] = (1000, 4000)
    hidden: int = 32
    updates: int = 800
    batch: int = 64
    seeds: int = 3
    widths: tuple[int, ...] = (6, 8, 10, 12, 20)
    starts: int = 4
    rounds: int = 30
    sizes: tuple[int, ...] = (4, 5, 6)
    strengths: tuple[float, ...] = (0.001, 0.01, 0.1)
    motifs: tuple[str, ...] = tuple(MOTIFS)


QUICK = Plan(60, (64,), (40, 60), 6, 16, 16, 2, (8,), 1, 3, (3,), (0.1,), (SHOWN,))


class Parts(NamedTuple):
    """Sequences that were drawn apart."""

    training: Sequences
    validation: Sequences
    test: Sequences


def parts(motif: Motif, count: int, plan: Plan) -> Parts:
    """So many sequences of training; those of validation and test do not depend on the number."""
    held_out = [
        sequences(motif, size, plan.length, np.random.default_rng(seed))
        for seed, size in enumerate(plan.held_out, 1)
    ]
    training = sequences(motif, max(plan.training), plan.length, np.random.default_rng(0))
    return Parts(Sequences(*[part[:count] for part in training]), *held_out)


def network(cell: Any, training: Sequences, plan: Plan) -> Score:
    """GRUs that are trained side by side; the score is the log-odds of the motif."""
    model = classifier(cell, 2, pool="max", vocabulary_size=4, embedding_size=4)
    data = batches(Batch(training.codes.T, training.labels), plan.batch, seed=0, classes=2)
    params = trained_seeds(model, data, RATE, plan.updates, plan.seeds)
    apply = jax.jit(
        jax.vmap(lambda params, codes: model.apply(params, Batch(codes, None)), (0, None))
    )

    def score(codes: np.ndarray) -> np.ndarray:
        logits = np.asarray(apply(params, codes.T))
        return logits[..., 1] - logits[..., 0]

    return score


def finders(motif: Motif, data: Parts, plan: Plan) -> dict[str, tuple[Score, str]]:
    """The score of each way to find the motif, and what validation chose for it."""
    known = best_scan(true_matrices(motif), data.validation)
    matrices = fitted_matrices(data.training, plan.widths, plan.starts, plan.rounds)
    fitted = best_scan(matrices, data.validation)
    words = best_counts(data.training, data.validation, plan.sizes, plan.strengths)
    found: dict[str, tuple[Score, str]] = {
        EXACT: (lambda codes: best_scores(motif, codes), ""),
        TRUE: (known, f"{known.about}, {known.pool}"),
        FITTED: (fitted, f"{fitted.about}, {fitted.pool}"),
        WORDS: (words, f"k = {words.size}, C = {words.strength}"),
    }
    if len(data.training.labels) == plan.training[-1]:
        found[FORWARD] = network(rnnlab.GRU(plan.hidden), data.training, plan), ""
    both = rnnlab.bidirectional(rnnlab.GRU(plan.hidden))
    found[BOTH] = network(both, data.training, plan), ""
    return found


def scored(score: Score, data: Parts) -> Record:
    """AUROC and accuracy on the test, with the threshold that is best on validation."""
    tuning = np.atleast_2d(score(data.validation.codes))
    testing = np.atleast_2d(score(data.test.codes))
    areas, correct = [], []
    for known, scores in zip(tuning, testing, strict=True):
        thresholds = np.sort(known)
        hits = (known >= thresholds[:, None]) == data.validation.labels
        threshold = thresholds[hits.mean(axis=1).argmax()]
        areas.append(round(float(roc_auc_score(data.test.labels, scores)), 4))
        correct.append(round(float(np.mean((scores >= threshold) == data.test.labels)), 4))
    return {"auroc": areas, "accuracy": correct}


def mutated(score: Score, codes: np.ndarray) -> np.ndarray:
    """How much the score falls when a letter is replaced, the mean of the others, ``[L]``."""
    length = len(codes)
    variants = np.tile(codes, (3 * length, 1))
    for place in range(length):
        for change in range(3):
            variants[3 * place + change, place] = (codes[place] + 1 + change) % 4
    changed = np.atleast_2d(score(variants))[0].reshape(length, 3)
    return float(np.atleast_2d(score(codes[None]))[0, 0]) - changed.mean(axis=1)


def example(found: dict[str, tuple[Score, str]], data: Parts) -> Record:
    """The sequence of the test with the largest exact ratio, and which of its letters matter."""
    test = data.test
    row = int(np.argmax(found[EXACT][0](test.codes)))
    falls = {name: mutated(found[name][0], test.codes[row]) for name in (BOTH, FITTED)}
    return {
        "codes": test.codes[row].tolist(),
        "first": int(test.first[row]),
        "width": int(test.widths[row]),
        "falls": {name: np.round(values, 3).tolist() for name, values in falls.items()},
    }


def run(quick: bool) -> Record:
    """All motifs, with few sequences to learn from and with many."""
    rnnlab.quick_start()
    plan = QUICK if quick else Plan()
    records: list[Record] = []
    shown: Record = {}
    with rnnlab.startup.kept_programs():
        for name in plan.motifs:
            motif = MOTIFS[name]
            for count in plan.training:
                data = parts(motif, count, plan)
                found = finders(motif, data, plan)
                for way, (score, chosen) in found.items():
                    record = {"motif": name, "training": count, "way": way, "chosen": chosen}
                    records.append(record | scored(score, data))
                    print(f"{name:20}{count:6} {way:24}{records[-1]['auroc']} {chosen}", flush=True)
                if name == SHOWN:
                    shown = example(found, data)
    return {
        "finding": finding(records, plan),
        "settings": plan._asdict() | {"learning_rate": RATE},
        "records": records,
        "example": shown,
    }


def areas(records: list[Record], motif: str, count: int, way: str) -> np.ndarray:
    """The AUROCs of a way to find a motif."""
    return np.array(select(records, motif=motif, training=count, way=way)[0]["auroc"])


def finding(records: list[Record], plan: Plan) -> str:
    """AUROCs with the most sequences, what the networks gain, and what few sequences change."""
    most, fewest = plan.training[-1], plan.training[0]
    first, gains, others, few = [], [], [], []
    for motif in plan.motifs:

        def of(way: str, count: int = most, motif: str = motif) -> np.ndarray:
            return areas(records, motif, count, way)

        rival = max((TRUE, FITTED, WORDS), key=lambda way: of(way)[0])
        first.append(
            f"{motif} {spread(of(BOTH), '.3f')}, {of(rival)[0]:.3f} ({rival}), {of(EXACT)[0]:.3f}"
        )
        gains.append(f"{motif} {spread(of(BOTH) - of(rival)[0], '+.3f')}")
        ways = [way for way in (FORWARD, TRUE, FITTED, WORDS) if way != rival]
        numbers = [f"{way} {spread(of(way), '.3f')}" for way in ways]
        others.append(f"{motif}: {', '.join(numbers)}")
        numbers = [f"{way} {spread(of(way, fewest), '.3f')}" for way in (BOTH, FITTED, WORDS)]
        few.append(f"{motif}: {', '.join(numbers)}")
    text = (
        f"AUROC on held-out sequences after {most} of training, of a bidirectional GRU, of the "
        f"best rival and of the exact likelihood ratio: {'; '.join(first)}. Its gain on that rival "
        f"is {', '.join(gains)}. The others: {'; '.join(others)}."
    )
    if fewest < most:
        text += f" After {fewest}: {'; '.join(few)}."
    return text


def draw(result: Record, path: Path) -> None:
    """The scores with many sequences and with few, and which letters of one sequence matter."""
    settings = result["settings"]
    with drawing(path, 1, 3, (15, 4.8)) as (figure, (left, middle, right)):
        for axes, count in zip((left, middle), reversed(settings["training"]), strict=False):
            _areas(axes, result["records"], settings["motifs"], count)
        left.legend(frameon=False, fontsize=8, loc="lower left")
        _example(right, result["example"])
        title(figure, first_sentence(result["finding"]), 150)


def _areas(axes: Axes, records: list[Record], motifs: Sequence[str], count: int) -> None:
    ways = (EXACT, TRUE, FITTED, WORDS, FORWARD, BOTH)
    for index, way in enumerate(ways):
        for place, motif in enumerate(motifs):
            if not select(records, motif=motif, training=count, way=way):
                continue
            values = areas(records, motif, count, way)
            places = place + 0.13 * (index - 2.5) + 0.02 * np.arange(len(values))
            style: Record = look(index) | {"linestyle": "none", "markersize": 6}
            axes.plot(places, values, label=way if place == 0 else None, **style)
    axes.set_xticks(range(len(motifs)), motifs)
    axes.set(ylim=(0.45, 1.01), ylabel="AUROC (0.5 is chance)")
    axes.set_title(f"{count} sequences of training; each seed", fontsize=10)
    grid_lines(axes)


def _example(axes: Axes, shown: Record) -> None:
    places = np.arange(len(shown["codes"]))
    for index, (way, falls) in enumerate(shown["falls"].items()):
        values = np.array(falls)
        style: Record = {"color": look(index + 1)["color"], "label": way}
        axes.bar(places + 0.4 * index - 0.2, values / np.abs(values).max(), 0.4, **style)
    first = shown["first"] - 0.5
    for start in (first, first + shown["width"] - 6):
        axes.axvspan(start, start + 6, color="0.9", zorder=0)
    letters = [LETTERS[code] for code in shown["codes"]]
    axes.set_xticks(places, letters, fontsize=6)
    axes.tick_params(axis="x", length=0)
    axes.set(ylabel="fall, the largest = 1", xlim=(-1, len(places)))
    axes.set_title("Fall of the score when a letter is replaced (grey: the two sites)", fontsize=10)
    axes.legend(frameon=False, fontsize=8)


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
