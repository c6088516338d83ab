"""From one image to a sequence of letters: the spelled names of handwritten numbers.

    python -m experiments.captioning.run

One digit has one of ten names, so that a classifier that picks a name is the rival. Of two digits
side by side some numbers are never learned from: a network that spells can still name them, a
classifier of names cannot.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from sklearn.svm import SVC

import rnnlab
from experiments.captioning.data import (
    LETTERS,
    SIDE,
    Images,
    Parts,
    as_batch,
    name,
    one_digit,
    spelled,
    two_digits,
)
from experiments.common import Record, experiment, first_sentence, spread
from experiments.training import trained_seeds
from rnnlab.data import Batch, batches
from rnnlab.models import conditioned_decoder, encoder_decoder
from rnnlab.report.figures.style import drawing, grid_lines, look, title
from rnnlab.studies.records import select

ONE, TWO = "one digit", "two digits"
PICKED, RULE = "SVM picks a name", "SVM for each digit"
PIXELS, COLUMNS = "decoder on pixels", "attention to columns"
TEST, UNSEEN = "held-out images", "unseen numbers"
STEPS = {ONE: 6, TWO: 14}
"""Letters of the longest name, and its end."""

RATE = 5e-3
"""The first learning rate of AdamW, which decays to zero."""

Captions = dict[str, list[list[str]]]
"""For each part of the test, the captions of each seed."""


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        kinds: of images.
        counts: images of two digits of training, and of each other part.
        hidden: H, of the decoder on pixels; the one with attention has half, and an encoder of a
            quarter in each direction.
        updates: of each network.
        batch: B.
        seeds: of initial weights and dropout.
        strengths: C of the support vector machines, which validation chooses.
    """

    kinds: tuple[str, ...] = (ONE, TWO)
    counts: tuple[int, int] = (6000, 1000)
    hidden: int = 128
    updates: int = 800
    batch: int = 64
    seeds: int = 3
    strengths: tuple[float, ...] = (1.0, 10.0, 100.0)


QUICK = Plan((TWO,), (200, 40), 8, 16, 8, 2, (10.0,))


def tested(data: Parts) -> dict[str, Images]:
    """What is not learned from and nothing was chosen on."""
    parts = {TEST: data.test}
    return parts if data.unseen is None else parts | {UNSEEN: data.unseen}


def classifier_of(data: Parts, plan: Plan) -> SVC:
    """A support vector machine from the pixels to the number."""
    machines = [
        SVC(C=strength).fit(data.training.vectors, data.training.numbers)
        for strength in plan.strengths
    ]
    held_out = data.validation
    return max(machines, key=lambda machine: machine.score(held_out.vectors, held_out.numbers))


def rivals(kind: str, data: Parts, plan: Plan) -> dict[str, Captions]:
    """The captions of the classifiers."""
    parts = tested(data)
    picker = classifier_of(data, plan)
    numbers = {PICKED: {part: picker.predict(images.vectors) for part, images in parts.items()}}
    if kind == TWO:
        reader = classifier_of(one_digit(), plan)
        numbers[RULE] = {part: by_digit(reader, images) for part, images in parts.items()}
    return {way: {part: [names(of[part])] for part in parts} for way, of in numbers.items()}


def by_digit(reader: SVC, images: Images) -> np.ndarray:
    """The numbers of two digits, each by a classifier of one digit."""
    halves = images.pixels[:, :, :SIDE], images.pixels[:, :, SIDE:]
    tens, units = (np.array(reader.predict(half.reshape(len(half), -1))) for half in halves)
    return 10 * tens + units


def names(numbers: np.ndarray) -> list[str]:
    """The names of all numbers."""
    return [name(int(number)) for number in numbers]


def make_model(way: str, plan: Plan) -> Any:
    """A network that writes letters."""
    size, symbols = plan.hidden, len(LETTERS)
    if way == PIXELS:
        return conditioned_decoder(rnnlab.GRU(size), symbols, every_input=True, dropout=0.2)
    encoder = rnnlab.bidirectional(rnnlab.GRU(size // 4))
    return encoder_decoder(encoder, rnnlab.GRU(size // 2), symbols, dropout=0.2)


def trained(model: Any, way: str, kind: str, data: Parts, plan: Plan) -> Any:
    """The parameters of all seeds."""
    whole = as_batch(data.training, STEPS[kind], way == COLUMNS)
    # Batches are cut along the second axis, so pixels get one of time for that moment.
    cut = whole if way == COLUMNS else whole._replace(xs=whole.xs[None])

    def loss(params: Any, batch: Batch, key: Any) -> Any:
        xs = batch.xs if way == COLUMNS else batch.xs[0]
        return model.loss(params, batch._replace(xs=xs), key)

    return trained_seeds(
        model,
        batches(cut, plan.batch, seed=0),
        RATE,
        plan.updates,
        plan.seeds,
        weight_decay=1e-3,
        init=lambda key: model.init(key, whole),
        loss=loss,
    )


def written(model: Any, params: Any, images: Images, kind: str, way: str) -> list[list[str]]:
    """What the network of each seed writes, the likeliest letter at each step."""
    batch = as_batch(images, STEPS[kind], way == COLUMNS)._replace(targets=None, mask=None)
    write = jax.jit(jax.vmap(lambda params: model.generate(params, batch, STEPS[kind])))
    return [spelled(codes) for codes in np.asarray(write(params))]


def record_of(kind: str, way: str, part: str, captions: Captions, images: Images) -> Record:
    """The shares that are exactly right, and how many of the others name another number."""
    truth, known = names(images.numbers), set(names(np.arange(100)))
    shares, wrong = [], []
    for texts in captions[part]:
        faults = [text for text, goal in zip(texts, truth, strict=True) if text != goal]
        shares.append(round(1 - len(faults) / len(truth), 4))
        wrong += faults
    record: Record = {"images": kind, "part": part, "way": way, "exact": shares}
    no_name = sum(text not in known for text in wrong)
    return record | {"wrong": len(wrong), "wrong_and_no_name": no_name}


def run(quick: bool) -> Record:
    """Both kinds of image, by the networks and by their rivals."""
    rnnlab.quick_start()
    plan = QUICK if quick else Plan()
    records: list[Record] = []
    shown: Record = {}
    with rnnlab.startup.kept_programs():
        for kind in plan.kinds:
            data = one_digit() if kind == ONE else two_digits(plan.counts)
            ways = rivals(kind, data, plan)
            for way in (PIXELS, COLUMNS):
                model = make_model(way, plan)
                params = trained(model, way, kind, data, plan)
                ways[way] = {
                    part: written(model, params, images, kind, way)
                    for part, images in tested(data).items()
                }
                if (kind, way) == (TWO, COLUMNS):
                    shown = examples(data, ways[way][UNSEEN][0], model, params)
            for way, captions in ways.items():
                for part, images in tested(data).items():
                    records.append(record_of(kind, way, part, captions, images))
                    print(*records[-1].values(), sep="  ", flush=True)
    return {
        "finding": finding(records, plan),
        "settings": plan._asdict() | {"learning_rate": RATE},
        "records": records,
        "_shown": shown,
    }


def examples(data: Parts, texts: list[str], model: Any, params: Any) -> Record:
    """Images of unseen numbers with what the first seed writes, and where it looks."""
    assert data.unseen is not None
    truth = names(data.unseen.numbers)
    is_right = np.array(texts) == np.array(truth)
    right, wrong = np.flatnonzero(is_right)[:4], np.flatnonzero(~is_right)[:2]
    # The longest name of the right ones is drawn with its attention.
    longest = max(right, key=lambda n: len(texts[n]), default=0)
    one = Images(data.unseen.pixels[[longest]], data.unseen.numbers[[longest]])
    first = jax.tree.map(lambda leaf: leaf[0], params)
    weights = model.attend(first, as_batch(one, STEPS[TWO], True))[:, 0]
    chosen = [*right, *wrong]
    return {
        "images": data.unseen.pixels[chosen],
        "captions": [texts[n] for n in chosen],
        "names": [truth[n] for n in chosen],
        "attended": one.pixels[0],
        "letters": truth[longest],
        "weights": np.asarray(weights),
    }


def finding(records: list[Record], plan: Plan) -> str:
    """Exact matches with and without attention, and what the classifiers gain or lose on them."""

    def exact(way: str, kind: str, part: str) -> np.ndarray:
        return np.array(select(records, images=kind, part=part, way=way)[0]["exact"])

    labels = {
        (TWO, UNSEEN): "numbers of two digits that it never learned from",
        (TWO, TEST): "numbers that it did",
        (ONE, TEST): "single digits",
    }
    places = [place for place in labels if place[0] in plan.kinds]
    shares = [f"{spread(exact(COLUMNS, *place))} of {labels[place]}" for place in places]
    picked = [exact(PICKED, *place)[0] for place in places]
    gains = []
    for place, share in zip(places, picked, strict=True):
        margins = 100 * (exact(COLUMNS, *place) - share)
        gains.append(f"{margins.mean():+.1f} ({margins.min():+.1f} to {margins.max():+.1f})")
    without = [spread(exact(PIXELS, *place)) for place in places]
    told = [exact(RULE, *place)[0] for place in places if place[0] == TWO]
    rows = [row for way in (PIXELS, COLUMNS) for row in select(records, way=way)]
    wrong, no_name = (sum(row[key] for row in rows) for key in ("wrong", "wrong_and_no_name"))
    return (
        f"On held-out images a decoder with attention spells {listed(shares)} exactly; a support "
        "vector machine (SVM) that picks one of the learned names is right on "
        f"{listed([f'{share:.1%}' for share in picked])}. The gains are "
        f"{', '.join(gains).replace('-', '−')} points, mean and range of {plan.seeds} seeds. A "
        f"decoder without attention spells {listed(without)}. An SVM that reads each digit, with a "
        f"rule for the names of two, is right on {listed([f'{share:.1%}' for share in told])} of "
        f"two digits. Of {wrong} wrong captions of the decoders {no_name} are the name of no "
        "number."
    )


def listed(texts: list[str]) -> str:
    """A list in words."""
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


def draw(result: Record, path: Path) -> None:
    """Shares of right captions, images with their captions, and where the network looks."""
    with drawing(path, 1, 3, (15, 4.8)) as (figure, (left, middle, right)):
        _shares(left, result["records"])
        _captions(middle, result["_shown"])
        _attention(right, result["_shown"])
        title(figure, first_sentence(result["finding"]), 150)


def _shares(axes: Axes, records: list[Record]) -> None:
    places = list(dict.fromkeys((row["images"], row["part"]) for row in records))
    for index, way in enumerate((PICKED, RULE, PIXELS, COLUMNS)):
        spots, values = [], []
        for row in select(records, way=way):
            centre = places.index((row["images"], row["part"])) + 0.17 * (index - 1.5)
            spots += [centre + 0.03 * seed for seed in range(len(row["exact"]))]
            values += [100 * share for share in row["exact"]]
        style: Record = look(index) | {"linestyle": "none"}
        axes.plot(spots, values, label=way, **style)
    labels = [kind if kind == ONE else f"{kind},\n{part}" for kind, part in places]
    axes.set_xticks(range(len(places)), labels)
    axes.set(ylabel="captions exactly right (%), each seed", ylim=(-3, 103))
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(0, 0.35))
    grid_lines(axes)


def _captions(axes: Axes, shown: Record) -> None:
    """Images in two columns, each with its caption below."""
    for place, image in enumerate(shown["images"]):
        row, column = divmod(place, 2)
        first, top = 20 * column, 12 * row
        box = (first, first + image.shape[1], top + image.shape[0], top)
        axes.imshow(image, cmap="gray_r", extent=box, vmin=0, vmax=1)
        text, truth = shown["captions"][place], shown["names"][place]
        note = text if text == truth else f"{text} (is {truth})"
        colour = "black" if text == truth else "#D55E00"
        centre = first + image.shape[1] / 2
        axes.text(centre, top + 10, note, ha="center", va="center", fontsize=8, color=colour)
    rows = -(-len(shown["images"]) // 2)
    axes.set(xlim=(-2, 38), ylim=(12 * rows, -1))
    axes.set_title("Unseen numbers with what the first seed writes", fontsize=10)
    axes.set_axis_off()


def _attention(axes: Axes, shown: Record) -> None:
    """The image above the weight of each of its columns for each letter."""
    letters = [*shown["letters"], "end"]
    weights = shown["weights"][: len(letters)]
    width = weights.shape[1]
    box = (-0.5, width - 0.5, -0.7, -0.7 - SIDE * 0.8)
    axes.imshow(shown["attended"], cmap="gray_r", extent=box)
    axes.imshow(weights, cmap="Blues", vmin=0, aspect="auto")
    axes.set_yticks(range(len(letters)), letters)
    axes.set(ylim=(len(letters) - 0.5, -8), xlim=(-0.5, width - 0.5), xlabel="column of the image")
    axes.set_title("Where it looks (weights of attention) at each letter", fontsize=10)


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
