"""LSTM and GRU on four classification sets, beside nearest neighbours and published accuracies.

python -m experiments.classification.run        # needs the package aeon
"""

import importlib.metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import rnnlab
from experiments.classification.data import NAMES, Set, folds, load, nearest_neighbour
from experiments.common import Record, experiment
from rnnlab.data import Batch
from rnnlab.models import Classifier, classifier
from rnnlab.report.figures.style import drawing, grid_lines, legend_below, look, title
from rnnlab.studies.records import select
from rnnlab.training import initial_state, train_step
from rnnlab.typing import Array, Key

CELLS = {"LSTM": rnnlab.LSTM, "GRU": rnnlab.GRU}
POOLS = ("last", "mean")

PUBLISHED = {
    "ItalyPowerDemand": {"MLP": 95.4, "FCN": 96.1, "ResNet": 96.3, "TWIESN": 88.0},
    "GunPoint": {"MLP": 92.7, "FCN": 100.0, "ResNet": 99.1, "TWIESN": 96.1},
    "ArrowHead": {"MLP": 77.8, "FCN": 84.3, "ResNet": 84.5, "TWIESN": 65.9},
    "JapaneseVowels": {"MLP": 97.6, "FCN": 99.3, "ResNet": 99.2, "TWIESN": 96.5},
}
"""Mean test accuracies (%) over 10 seeds, from Fawaz et al. 2019 (arXiv 1809.04356) and the tables
in github.com/hfawaz/dl-4-tsc: a feed-forward, a convolutional and a residual network, and an echo
state network."""


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        names: the data sets.
        hidden: H.
        updates: per network.
        batch: B.
        rate: the first learning rate of Adam, which decays to zero.
        folds: of the training split, on which the pooling is chosen.
        seeds: networks that are tested.
    """

    names: tuple[str, ...] = NAMES
    hidden: int = 32
    updates: int = 600
    batch: int = 16
    rate: float = 5e-3
    folds: int = 3
    seeds: int = 5


QUICK = Plan(names=NAMES[:1], hidden=4, updates=20, seeds=2)


def trained(model: Classifier, data: Set, plan: Plan) -> Any:
    """A function ``(key, allowed [N]) -> accuracies`` on the rest of the split, and on the test."""
    schedule = optax.cosine_decay_schedule(plan.rate, plan.updates)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    step = train_step(model.loss, optimiser)
    train, test = (
        Batch(jnp.asarray(part.xs), jnp.asarray(part.labels), lengths=jnp.asarray(part.lengths))
        for part in (data.train, data.test)
    )

    def accuracies(key: Key, allowed: Array) -> tuple[Array, Array]:
        k_params, k_batches = jax.random.split(key)
        state = initial_state(model.init(k_params, train), optimiser, key)

        def once(index: Array, state: Any) -> Any:
            k_batch = jax.random.fold_in(k_batches, index)
            chosen = jax.random.choice(k_batch, len(allowed), (plan.batch,), p=allowed)
            batch = Batch(train.xs[:, chosen], train.targets[chosen], lengths=train.lengths[chosen])
            return step(state, batch)[0]

        params = lax.fori_loop(0, plan.updates, once, state).params
        is_right = model.apply(params, train).argmax(axis=-1) == train.targets
        left_out = jnp.mean(is_right, where=allowed == 0)
        return left_out, jnp.mean(model.apply(params, test).argmax(axis=-1) == test.targets)

    return accuracies


def measure(name: str, cell: str, pool: str, plan: Plan) -> Record:
    """The accuracies of one network: in the folds, and of all seeds on the test split."""
    data = load(name)
    model = classifier(CELLS[cell](plan.hidden), data.classes, pool=pool)
    fold = folds(data.train.labels, plan.folds)
    allowed = [(fold != index) / np.sum(fold != index) for index in range(plan.folds)]
    allowed += [np.full(len(fold), 1 / len(fold))] * plan.seeds
    keys = jax.random.split(jax.random.key(0), len(allowed))
    run_all = jax.jit(jax.vmap(trained(model, data, plan)))
    left_out, test = run_all(keys, jnp.array(allowed, jnp.float32))
    record = {
        "set": name,
        "cell": cell,
        "pool": pool,
        "left_out": round(float(left_out[: plan.folds].mean()), 4),
        "test": np.round(np.asarray(test[plan.folds :], float), 4).tolist(),
    }
    print(f"{name:18}{cell:6}{pool:6}{record['left_out']:8}   {record['test']}", flush=True)
    return record


def run(quick: bool) -> Record:
    """All networks on all sets, and the nearest neighbours."""
    plan = QUICK if quick else Plan()
    networks = []
    sets = []
    for name in plan.names:
        data = load(name)
        about = {
            "set": name,
            "train": len(data.train.labels),
            "test": len(data.test.labels),
            "steps": int(data.train.lengths.max()),
            "channels": data.train.xs.shape[-1],
            "classes": data.classes,
        }
        for distance in ("euclidean", "dtw"):
            about[f"1-NN {distance}"] = round(nearest_neighbour(name, distance), 4)
        sets.append(about | {"published": PUBLISHED[name]})
        for cell in CELLS:
            networks += [measure(name, cell, pool, plan) for pool in POOLS]
    return {
        "finding": f"{headline(sets, networks)}. {finding(sets, networks)}",
        "settings": plan._asdict() | {"aeon": importlib.metadata.version("aeon")},
        "sets": sets,
        "networks": networks,
    }


def chosen(networks: list[Record], name: str, cell: str) -> Record:
    """The network with the pooling that was better in the folds; the mean where they are equal."""
    candidates = select(networks, set=name, cell=cell)
    return max(reversed(candidates), key=lambda row: row["left_out"])


def headline(sets: list[Record], networks: list[Record]) -> str:
    """On how many sets a cell is no worse than the nearest neighbour."""
    counts = []
    for cell in CELLS:
        means = [np.mean(chosen(networks, row["set"], cell)["test"]) for row in sets]
        won = sum(mean >= row["1-NN dtw"] for mean, row in zip(means, sets, strict=True))
        counts.append(f"{cell} on {won}")
    return (
        f"On how many of the {len(sets)} sets the mean accuracy is at least that of the nearest "
        f"neighbour with dynamic time warping: {', '.join(counts)}"
    )


def finding(sets: list[Record], networks: list[Record]) -> str:
    """The test accuracy of each network on each set, beside the others."""
    parts = []
    for row in sets:
        shares = []
        for cell in CELLS:
            test = chosen(networks, row["set"], cell)["test"]
            mean = sum(test) / len(test)
            shares.append(f"{cell} {mean:.1%} ({min(test):.1%} to {max(test):.1%})")
        shares.append(f"1-NN DTW {row['1-NN dtw']:.1%}")
        shares.append(f"published ResNet {row['published']['ResNet']:.1f}%")
        parts.append(f"{row['set']}: " + ", ".join(shares))
    return "Test accuracy, mean and range of the seeds. " + ". ".join(parts) + "."


def draw(result: Record, path: Path) -> None:
    """The accuracies, a panel for each set."""
    sets = result["sets"]
    with drawing(path, 1, len(sets), (3.3 * len(sets), 4.4)) as (figure, panels):
        for axes, row in zip(panels, sets, strict=True):
            _panel(axes, row, result["networks"])
        legend_below(figure, panels[0])
        title(figure, headline(sets, result["networks"]), 120)


def _panel(axes: Any, row: Record, networks: list[Record]) -> None:
    names = []
    for index, cell in enumerate(CELLS):
        test = 100 * np.array(chosen(networks, row["set"], cell)["test"])
        label = "trained here, each seed" if index == 0 else None
        axes.plot([index] * len(test), test, linestyle="none", label=label, **look(1))
        names.append(cell)
    measured = {"1-NN Euclidean": row["1-NN euclidean"], "1-NN DTW": row["1-NN dtw"]}
    places = range(len(names), len(names) + len(measured))
    values = [100 * value for value in measured.values()]
    axes.plot(places, values, linestyle="none", label="measured with aeon", **look(2))
    names += measured
    places = range(len(names), len(names) + len(row["published"]))
    axes.plot(places, list(row["published"].values()), "k_", label="published, mean of 10 seeds")
    names += row["published"]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_ylabel("test accuracy (%)")
    axes.set_title(
        f"{row['set']}\n{row['train']} to train on, {row['steps']} steps, {row['classes']} classes",
        fontsize=9,
    )
    grid_lines(axes)


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
