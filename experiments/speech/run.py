"""From sound to labels whose places are not known: tones and spoken digits, by CTC and templates.

python -m experiments.speech.run        # needs the program espeak-ng
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes

import rnnlab
from experiments.common import Record, experiment, first_sentence
from experiments.speech.data import LABELS, Make, Sounds, make_tones, make_words, sounds
from experiments.speech.sounds import HOP, PITCHES, WORDS, has_espeak
from experiments.speech.templates import Templates
from experiments.training import trained_seeds
from rnnlab.data import Batch, batches
from rnnlab.models import ctc_transcriber, edit_distance
from rnnlab.report.figures.style import COLOURS, drawing, grid_lines, look, title

TONES, SPOKEN = "tones", "spoken digits"
TEMPLATES, PATH, BEAM = "templates", "best path", "prefix beam"
MAKE: dict[str, Make] = {TONES: make_tones, SPOKEN: make_words}
PENALTIES = (0.0, 10.0, 30.0, 100.0, 300.0)
"""What the templates pay for a new word; validation decides."""

RATE = 5e-3
"""The first learning rate of Adam, which decays to zero."""


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        sets: the kinds of sound.
        counts: sounds of training, of validation and of the test.
        repeats: templates of each label.
        hidden: H, in each direction.
        updates: per network.
        batch: B.
        seeds: networks of each kind.
        beams: of the search over prefixes.
    """

    sets: tuple[str, ...] = (TONES, SPOKEN)
    counts: tuple[int, int, int] = (400, 60, 160)
    repeats: int = 6
    hidden: int = 32
    updates: int = 400
    batch: int = 20
    seeds: int = 3
    beams: int = 8


QUICK = Plan((TONES,), (24, 6, 8), 2, 6, 30, 8, 2, 2)


def templates(data: Sounds) -> Record:
    """The label error rate of connected templates on the test, with the penalty by validation."""
    read = Templates(data.examples, data.example_labels)
    tried = [_template_rate(read, data.validation, penalty) for penalty in PENALTIES]
    best = int(np.argmin(tried))
    rate = _template_rate(read, data.test, PENALTIES[best])
    return {"label_error_rate": [round(rate, 4)], "penalty": PENALTIES[best]}


def _template_rate(read: Templates, batch: Batch, penalty: float) -> float:
    labels = np.full(batch.xs.shape[:2], -1)
    lengths = []
    for column, length in enumerate(batch.lengths):
        found = np.add(read(batch.xs[:length, column].astype(float), penalty), 1)
        labels[: len(found), column] = found
        lengths.append(len(found))
    return error_rate(labels, np.array(lengths), batch)


def error_rate(labels: Any, lengths: Any, batch: Batch) -> float:
    """The edit distance over the number of labels."""
    sizes = batch.mask.sum(axis=0)
    errors = edit_distance(labels, batch.targets, lengths=lengths, other_lengths=sizes)
    return float(errors.sum() / sizes.sum())


def networks(data: Sounds, plan: Plan) -> tuple[dict[str, Record], np.ndarray]:
    """The label error rates of both searches for all seeds, and P(class) in the first sound."""
    model = ctc_transcriber(rnnlab.bidirectional(rnnlab.GRU(plan.hidden)), 11)
    for part in (data.training, data.validation, data.test):
        model.check_batch(part)
    examples = batches(data.training, plan.batch, seed=0)
    params = trained_seeds(model, examples, RATE, plan.updates, plan.seeds)
    records: dict[str, Record] = {}
    for name, beams in ((PATH, None), (BEAM, plan.beams)):

        def decode(params: Any, beams: int | None = beams) -> Any:
            return model.decode(params, data.test, beams=beams)

        read = jax.jit(jax.vmap(decode))(params)
        rates = [
            round(error_rate(labels, lengths, data.test), 4)
            for labels, lengths in zip(read.labels, read.lengths, strict=True)
        ]
        records[name] = {"label_error_rate": rates}
    params = jax.tree.map(lambda leaf: leaf[0], params)
    shown = jax.tree.map(lambda leaf: leaf[:, :1], data.test._replace(lengths=None))
    logits = model.apply(params, shown._replace(lengths=data.test.lengths[:1]))
    probabilities = np.asarray(jax.nn.softmax(logits))[: data.test.lengths[0], 0]
    return records, probabilities


def run(quick: bool) -> Record:
    """Both sets of sounds, by the templates and by the networks."""
    rnnlab.quick_start()
    plan = QUICK if quick else Plan()
    if SPOKEN in plan.sets and not has_espeak():
        raise FileNotFoundError(
            "the digits are spoken by the program espeak-ng, which is not installed; install it, "
            "for example with apt-get install espeak-ng, or run with --quick"
        )
    records: list[Record] = []
    shown: Record = {}
    with rnnlab.startup.kept_programs():
        for name in plan.sets:
            data = sounds(MAKE[name], plan.counts, plan.repeats)
            trained, probabilities = networks(data, plan)
            for way, record in ({TEMPLATES: templates(data)} | trained).items():
                records.append({"set": name, "way": way} | record)
                print(f"{name:16}{way:14}{record['label_error_rate']}", flush=True)
            truth = data.test.targets[data.test.mask[:, 0], 0] - 1
            frames = data.test.xs[: data.test.lengths[0], 0]
            shown = {"set": name, "truth": truth, "frames": frames, "classes": probabilities}
    return {
        "finding": finding(records, plan),
        "settings": plan._asdict() | {"learning_rate": RATE, "most_labels": LABELS},
        "records": records,
        "_shown": shown,
    }


def rates(records: list[Record], name: str, way: str) -> np.ndarray:
    """The label error rates of a way to read a set."""
    chosen = [row for row in records if (row["set"], row["way"]) == (name, way)]
    return np.array(chosen[0]["label_error_rate"])


def finding(records: list[Record], plan: Plan) -> str:
    """The label error rates, the margins over the templates, and what a beam search changes."""
    parts = []
    better = []
    for name in plan.sets:
        ctc, beam = rates(records, name, PATH), rates(records, name, BEAM)
        template = float(rates(records, name, TEMPLATES)[0])
        gains = 100 * (template - ctc)
        better.append(f"{np.sum(gains > 0)} of {len(gains)} seeds for {name}")
        margin = f"{gains.mean():+.1f} ({gains.min():+.1f} to {gains.max():+.1f})"
        text = (
            f"{name}: CTC {ctc.mean():.1%} ({ctc.min():.1%} to {ctc.max():.1%}; "
            f"{beam.mean():.1%} with a beam search), templates {template:.1%}, a gain of "
            f"{margin} points"
        )
        parts.append(text.replace("-", "−"))
    return (
        f"Label error rate on held-out timbres and voices, mean and range of {plan.seeds} seeds: "
        f"{'; '.join(parts)}. CTC makes fewer errors than the templates with "
        f"{', '.join(better)}."
    )


def draw(result: Record, path: Path) -> None:
    """The error rates, and a sound of the test with what the network reads in it."""
    with drawing(path, 1, 3, (15, 4.4)) as (figure, (left, middle, right)):
        _rates(left, result["records"])
        shown = result["_shown"]
        names = WORDS if shown["set"] == SPOKEN else [f"{pitch} Hz" for pitch in PITCHES]
        seconds = HOP * len(shown["frames"])
        middle.imshow(
            shown["frames"].T,
            origin="lower",
            aspect="auto",
            extent=(0, seconds, 0, shown["frames"].shape[1]),
            cmap="viridis",
        )
        middle.set(xlabel="time (s)", ylabel="mel band")
        words = ", ".join(names[label] for label in shown["truth"])
        middle.set_title(f"A sound of the test: {words}", fontsize=10)
        _classes(right, shown, names)
        title(figure, first_sentence(result["finding"]), 150)


def _rates(axes: Axes, records: list[Record]) -> None:
    names = list(dict.fromkeys(row["set"] for row in records))
    for index, way in enumerate((TEMPLATES, PATH, BEAM)):
        label = way if way == TEMPLATES else f"CTC, {way}"
        for place, name in enumerate(names):
            values = 100 * rates(records, name, way)
            places = place + 0.22 * (index - 1) + 0.03 * np.arange(len(values))
            style: Record = look(index) | {"linestyle": "none"}
            axes.plot(places, values, label=label if place == 0 else None, **style)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(bottom=0)
    axes.set(ylabel="label error rate on the test (%)")
    axes.legend(frameon=False, fontsize=8)
    grid_lines(axes)


def _classes(axes: Axes, shown: Record, names: Any) -> None:
    """The probability of each label over time, where it is not always small."""
    classes = shown["classes"]
    times = HOP * np.arange(len(classes))
    axes.plot(times, classes[:, 0], color="0.75", linestyle="--", label="blank")
    likely = [label for label in range(1, 11) if classes[:, label].max() > 0.3]
    for index, label in enumerate(likely):
        colour = COLOURS[index % len(COLOURS)]
        axes.plot(times, classes[:, label], label=names[label - 1], color=colour)
    axes.set(xlabel="time (s)", ylabel="probability", ylim=(0, 1.02))
    axes.set_title("What the network reads in it (first seed)", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
