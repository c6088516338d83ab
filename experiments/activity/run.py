"""Which of four activities a person does, from six channels of motion sensors.

python -m experiments.activity.run        # needs the package aeon
"""

import importlib.metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.linear_model import LogisticRegression

import rnnlab
from experiments.classification.data import Set, Split, folds, load, nearest_neighbour
from experiments.classification.run import Plan as Training
from experiments.classification.run import trained
from experiments.common import Record, experiment, first_sentence
from rnnlab.models import classifier
from rnnlab.report.figures.style import drawing, grid_lines, legend_below, look, title

NAME = "BasicMotions"
ACTIVITIES = ("badminton", "running", "standing", "walking")
CELLS = {"GRU": rnnlab.GRU, "LSTM": rnnlab.LSTM}
STATISTICS, WARPING = "logistic regression on statistics", "1-NN DTW"


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        hidden: H.
        updates: per network.
        seeds: networks of each kind that are tested.
        pools: what the readout may get; the folds decide.
    """

    hidden: int = 32
    updates: int = 300
    seeds: int = 3
    pools: tuple[str, ...] = ("mean", "last")


QUICK = Plan(hidden=6, updates=40, seeds=2, pools=("mean",))


def generated(key: jax.Array, count: int = 40, steps: int = 100) -> Set:
    """Motions for the quick run: waves in six channels, with a frequency for each class."""

    def split(key: jax.Array) -> Split:
        k_phase, k_noise = jax.random.split(key)
        labels = np.arange(count) % len(ACTIVITIES)
        phases = jax.random.uniform(k_phase, (count, 6))
        times = np.arange(steps)[:, None, None] / steps
        waves = jnp.sin(2 * jnp.pi * (times * (2.0 + 3.0 * labels[:, None]) + phases))
        noise = jax.random.normal(k_noise, waves.shape)
        xs = np.asarray(waves + 0.3 * noise, np.float32)
        return Split(xs, np.full(count, steps, np.int32), labels.astype(np.int32))

    k_train, k_test = jax.random.split(key)
    return Set(split(k_train), split(k_test), len(ACTIVITIES))


def warped_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Dynamic time warping without a window between ``[T, N, I]`` and ``[S, M, I]``, ``[N, M]``.

    D[t, s] = |aₜ − bₛ|² + min(D[t−1, s], D[t, s−1], D[t−1, s−1]), all pairs side by side.
    """
    before = np.full((len(b) + 1, a.shape[1], b.shape[1]), np.inf)
    before[0] = 0
    for x in a:
        row = np.full_like(before, np.inf)
        for place, y in enumerate(b):
            cost = np.sum((x[:, None] - y[None]) ** 2, axis=-1)
            least = np.minimum(np.minimum(before[place], before[place + 1]), row[place])
            row[place + 1] = cost + least
        before = row
    return before[-1]


def nearest(data: Set) -> float:
    """The test accuracy of the nearest neighbour by dynamic time warping."""
    distances = warped_distances(data.test.xs, data.train.xs)
    return float(np.mean(data.train.labels[distances.argmin(axis=1)] == data.test.labels))


def statistics(part: Split) -> np.ndarray:
    """Mean, spread, extremes and mean step of each channel, ``[N, 5 I]``."""
    xs = part.xs
    steps = np.abs(np.diff(xs, axis=0)).mean(axis=0)
    return np.concatenate([xs.mean(0), xs.std(0), xs.min(0), xs.max(0), steps], axis=1)


def by_statistics(data: Set, fold: np.ndarray) -> float:
    """The test accuracy of a logistic regression whose strength the folds decide."""
    inputs, labels = statistics(data.train), data.train.labels
    mean, std = inputs.mean(axis=0), inputs.std(axis=0)
    inputs, tested = (inputs - mean) / std, (statistics(data.test) - mean) / std
    best = (-1.0, 1.0)
    for strength in (0.01, 0.1, 1.0, 10.0):
        scores = []
        for index in range(fold.max() + 1):
            part = fold != index
            model = LogisticRegression(C=strength, max_iter=2000).fit(inputs[part], labels[part])
            scores.append(model.score(inputs[~part], labels[~part]))
        best = max(best, (float(np.mean(scores)), strength), key=lambda entry: entry[0])
    model = LogisticRegression(C=best[1], max_iter=2000).fit(inputs, labels)
    return float(model.score(tested, data.test.labels))


def measure(data: Set, cell: str, pool: str, fold: np.ndarray, plan: Plan) -> Record:
    """The accuracies of a network: on what each fold left out, and of all seeds on the test."""
    training = Training(hidden=plan.hidden, updates=plan.updates, seeds=plan.seeds)
    make: Any = CELLS[cell]
    model = classifier(make(plan.hidden), data.classes, pool=pool)
    count = int(fold.max()) + 1
    allowed = [(fold != index) / np.sum(fold != index) for index in range(count)]
    allowed += [np.full(len(fold), 1 / len(fold))] * plan.seeds
    keys = jax.random.split(jax.random.key(0), len(allowed))
    run_all = jax.jit(jax.vmap(trained(model, data, training)))
    left_out, test = run_all(keys, jnp.array(allowed, jnp.float32))
    record = {
        "cell": cell,
        "pool": pool,
        "left_out": round(float(left_out[:count].mean()), 4),
        "test": np.round(np.asarray(test[count:], float), 4).tolist(),
    }
    print(f"{cell:6}{pool:6}{record['left_out']:8}   {record['test']}", flush=True)
    return record


def run(quick: bool) -> Record:
    """The networks beside the nearest neighbour and the logistic regression."""
    rnnlab.quick_start()
    plan = QUICK if quick else Plan()
    data = generated(jax.random.key(1)) if quick else load(NAME)
    fold = folds(data.train.labels, Training().folds)
    baselines = {WARPING: nearest(data), STATISTICS: by_statistics(data, fold)}
    if not quick:
        baselines["1-NN DTW by aeon, raw channels"] = nearest_neighbour(NAME, "dtw")
    networks = []
    for cell in CELLS:
        rows = [measure(data, cell, pool, fold, plan) for pool in plan.pools]
        # The first of equal ones.
        networks.append(max(rows, key=lambda row: row["left_out"]) | {"pools": rows})
    baselines = {name: round(value, 4) for name, value in baselines.items()}
    about: Record = {"finding": finding(networks, baselines, len(data.test.labels))}
    if not quick:
        about["aeon"] = importlib.metadata.version("aeon")
    return about | {"settings": plan._asdict(), "baselines": baselines, "networks": networks}


def finding(networks: list[Record], baselines: Record, tested: int) -> str:
    """The test accuracy of each network and baseline, and the margin."""
    shares = []
    margins = []
    best = max(baselines, key=lambda name: baselines[name])
    for row in networks:
        test = np.array(row["test"])
        shares.append(f"{row['cell']} {test.mean():.1%} ({test.min():.1%} to {test.max():.1%})")
        gains = 100 * (test - baselines[best])
        margin = f"{gains.mean():+.1f} ({gains.min():+.1f} to {gains.max():+.1f})"
        margins.append(f"{row['cell']} by {margin}".replace("-", "−"))
    shares += [f"{name} {value:.1%}" for name, value in baselines.items()]
    return (
        f"Test accuracy on {tested} recordings, mean and range of the seeds: {', '.join(shares)}. "
        f"{beaten(networks, baselines)} "
        f"From the best baseline, {best}, the networks differ in points: {', '.join(margins)}; "
        f"one recording is {100 / tested:.1f} points."
    )


def beaten(networks: list[Record], baselines: Record) -> str:
    """How many of the baselines each network's mean is above."""
    parts = []
    for row in networks:
        # Rounded: equal means may differ in their last bit.
        mean = round(float(np.mean(row["test"])), 6)
        count = sum(mean > value for value in baselines.values())
        parts.append(f"the mean of the {row['cell']} is above {count}")
    return f"Of the {len(baselines)} baselines, {', and '.join(parts)}."


def draw(result: Record, path: Path) -> None:
    """The accuracies, and a recording of each activity."""
    with drawing(path, 1, 2, (11, 4.4)) as (figure, (left, right)):
        _accuracies(left, result)
        _recordings(right)
        legend_below(figure, right)
        title(figure, first_sentence(result["finding"]), 110)


def _accuracies(axes: Any, result: Record) -> None:
    names = []
    for row in result["networks"]:
        test = 100 * np.array(row["test"])
        # Side by side, so that equal ones are seen.
        places = len(names) + 0.12 * (np.arange(len(test)) - (len(test) - 1) / 2)
        axes.plot(places, test, linestyle="none", **look(1))
        names.append(f"{row['cell']},\neach seed")
    for name, value in result["baselines"].items():
        axes.plot([len(names)], [100 * value], linestyle="none", **look(2))
        names.append(name.replace(" on ", "\non ").replace(" by ", "\nby "))
    axes.set_xticks(range(len(names)), names, fontsize=8, rotation=20)
    axes.set(ylabel="test accuracy (%)")
    axes.set_ylim(top=100.5)
    axes.margins(x=0.15)
    grid_lines(axes)


def _recordings(axes: Any) -> None:
    """The first channel of one recording for each activity, one above the other."""
    try:
        data = load(NAME)
    except ImportError:
        data = generated(jax.random.key(1))
    for label, name in enumerate(ACTIVITIES):
        example = int(np.flatnonzero(data.train.labels == label)[0])
        series = data.train.xs[:, example, 0]
        style = look(label) | {"marker": None}
        axes.plot(np.arange(len(series)) / 10, series + 6 * label, label=name, **style)
    axes.set(xlabel="time (s)", ylabel="acceleration, first axis\n(standardised, shifted)")
    axes.set_yticks([])


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
