"""Unsupervised training of one layer after the other, before the training that counts.

    python -m experiments.pretraining.run

A deep belief network is fine-tuned with few labels, beside the same network with random initial
weights; Schmidhuber's history compressor learns a long lag, beside one network of the same size.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

from experiments.common import Record, experiment
from experiments.pretraining import belief, compressor
from experiments.pretraining.belief import Images, Layer
from rnnlab.report.figures.style import drawing, grid_lines, look, reference_line, title
from rnnlab.studies.records import column, select

METHODS = ("pre-trained", "random weights", "logistic regression", "logistic on features")


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        counts: numbers of labels.
        sizes: units of the hidden layers of the belief network.
        machine_updates: of each Boltzmann machine.
        updates: of the fine-tuning.
        rate: its learning rate.
        seeds: networks of each kind, in both parts.
        delays: p of the noise-free long lag.
        levels: the sizes of the history compressor.
    """

    counts: tuple[int, ...] = (20, 50, 100, 200, 1000)
    sizes: tuple[int, ...] = (128, 128)
    machine_updates: int = 3000
    updates: int = 1500
    rate: float = 3e-3
    seeds: int = 5
    delays: tuple[int, ...] = (5, 20, 100)
    levels: compressor.Plan = compressor.Plan()


QUICK = Plan(
    counts=(20, 100),
    sizes=(16,),
    machine_updates=10,
    updates=20,
    seeds=2,
    delays=(5,),
    levels=compressor.Plan(hidden=8, lower=20, higher=20, batch=4),
)


def digits(plan: Plan) -> list[Record]:
    """The test accuracy for each number of labels, method and seed."""
    train, test = belief.images("train"), belief.images("test")
    keys = jax.random.split(jax.random.key(0), plan.seeds)
    pixels = jnp.asarray(train.pixels)
    draw = {
        METHODS[0]: lambda key: belief.pretrained(key, pixels, plan.sizes, plan.machine_updates),
        METHODS[1]: lambda key: belief.random_layers(key, pixels.shape[1], plan.sizes),
    }
    layers = {method: jax.jit(jax.vmap(function))(keys) for method, function in draw.items()}
    records: list[Record] = []
    networks = []
    weights = []
    for count in plan.counts:
        for seed in range(plan.seeds):
            labelled = belief.label_weights(train.labels, count, seed)
            for method, stacked in layers.items():
                networks.append(_of_seed(stacked, seed))
                weights.append(labelled)
                records.append({"labels": count, "seed": seed, "method": method})
    run_all = jax.jit(jax.vmap(_tuned(train, test, plan)))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)
    seeds = jnp.array([record["seed"] for record in records])
    accuracies = run_all(keys[seeds], stacked, jnp.stack(weights))
    for record, accuracy in zip(records, np.asarray(accuracies), strict=True):
        record["accuracy"] = round(float(accuracy), 4)
    for count in plan.counts:
        for seed in range(plan.seeds):
            key = {"labels": count, "seed": seed}
            records += _logistic(train, test, _of_seed(layers[METHODS[0]], seed), key)
    return records


def _of_seed(stacked: list[Layer], seed: int) -> list[Layer]:
    return jax.tree.map(lambda leaf: leaf[seed], stacked)


def _tuned(train: Images, test: Images, plan: Plan) -> Any:
    """``(key, layers, weights) -> accuracy`` on the test images after the fine-tuning."""

    def accuracy(key: jax.Array, layers: list[Layer], weights: jax.Array) -> jax.Array:
        pixels, labels = jnp.asarray(train.pixels), jnp.asarray(train.labels)
        tuned = belief.fine_tuned(layers, pixels, labels, weights, key, plan.updates, plan.rate)
        logits = belief.logits(tuned, jnp.asarray(test.pixels))
        return jnp.mean(logits.argmax(axis=-1) == test.labels)

    return accuracy


def _logistic(train: Images, test: Images, layers: list[Layer], key: Record) -> list[Record]:
    """Logistic regression on the pixels, and on the activities of the last pre-trained layer."""
    from sklearn.linear_model import LogisticRegression

    chosen = belief.label_weights(train.labels, key["labels"], key["seed"]) > 0
    records = []
    for method, depth in zip(METHODS[2:], (0, len(layers)), strict=True):
        features = belief.activities(layers[:depth], train.pixels[chosen])
        model: Any = LogisticRegression(max_iter=2000).fit(features, train.labels[chosen])
        right = model.predict(belief.activities(layers[:depth], test.pixels)) == test.labels
        records.append(key | {"method": method, "accuracy": round(float(np.mean(right)), 4)})
    return records


def lags(plan: Plan) -> list[Record]:
    """What the history compressor and the single network have learned, for each delay and seed."""
    keys = jax.random.split(jax.random.key(0), plan.seeds)
    records = []
    for delay in plan.delays:
        run_all = jax.jit(jax.vmap(lambda key, p=delay: compressor.learn(key, p, plan.levels)))
        outcome = jax.device_get(run_all(keys))
        for seed in range(plan.seeds):
            record: dict[str, float] = {"lag": delay, "symbols": delay + 1, "seed": seed}
            for name, values in outcome._asdict().items():
                record[name] = round(float(values[seed]), 4)
            records.append(record)
    return records


def run(quick: bool) -> Record:
    """Both parts."""
    plan = QUICK if quick else Plan()
    accuracies = digits(plan)
    print(belief_finding(accuracies, plan), flush=True)
    outcomes = lags(plan)
    settings = plan._asdict() | {"levels": plan.levels._asdict()}
    return {
        "finding": f"{belief_finding(accuracies, plan)} {lag_finding(outcomes, plan)}",
        "settings": settings,
        "digits": accuracies,
        "lags": outcomes,
    }


def belief_finding(records: list[Record], plan: Plan) -> str:
    """The accuracies for each number of labels."""
    parts = []
    for count in plan.counts:
        shares = []
        for method in METHODS[:3]:
            values = column(select(records, labels=count, method=method), "accuracy")
            shares.append(f"{np.mean(values):.1%} {method}")
        parts.append(f"{count} labels: {', '.join(shares)}")
    return f"Test accuracy on digits, mean of {plan.seeds} seeds, " + "; ".join(parts) + "."


def lag_finding(records: list[Record], plan: Plan) -> str:
    """Compression and accuracy for each lag."""
    parts = []
    for delay in plan.delays:
        rows = select(records, lag=delay)
        kept = np.mean(column(rows, "kept"))
        shares = [f"{_range(column(rows, name))}" for name in ("compressor", "single")]
        parts.append(
            f"lag {delay}: {delay + 1} symbols become {kept:.1f}, and the compressor predicts "
            f"{shares[0]} of the last symbols, one network {shares[1]}"
        )
    updates = plan.levels.lower + plan.levels.higher
    return f"History compressor after {updates} updates, lowest to highest of the seeds, " + (
        "; ".join(parts) + "."
    )


def _range(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.0%}" if round(low, 2) == round(high, 2) else f"{low:.0%} to {high:.0%}"


def draw(result: Record, path: Path) -> None:
    """Accuracy against the number of labels, and against the lag."""
    with drawing(path, 1, 2, (11, 4.6)) as (figure, (left, right)):
        for index, method in enumerate(METHODS):
            _band(
                left, select(result["digits"], method=method), "labels", "accuracy", method, index
            )
        left.set(xlabel="labels", ylabel="test accuracy (%)", xscale="log")
        counts = result["settings"]["counts"]
        left.set_xticks(counts, list(map(str, counts)))
        left.set_title("scikit-learn's digits, deep belief network", fontsize=10)
        names = {"compressor": "history compressor", "single": "one network, as many updates"}
        for index, (name, label) in enumerate(names.items()):
            _band(right, result["lags"], "lag", name, label, index)
        reference_line(right, 50)
        delays = result["settings"]["delays"]
        right.set(xlabel="lag (steps)", ylabel="last symbol predicted (%)", xscale="log")
        right.set_xticks(delays, list(map(str, delays)))
        right.set(ylim=(0, 105))
        right.set_title("noise-free long lag; dotted: chance", fontsize=10)
        for axes in (left, right):
            axes.minorticks_off()
            axes.legend(frameon=False, loc="lower right" if axes is left else "lower left")
            grid_lines(axes)
        title(figure, _headline(result), 110)


def _band(axes: Axes, rows: list[Record], x: str, y: str, label: str, index: int) -> None:
    places = sorted(set(column(rows, x)))
    values = [100 * np.array(column(select(rows, **{x: place}), y)) for place in places]
    style = look(index)
    axes.plot(places, [value.mean() for value in values], label=label, **style)
    low = [value.min() for value in values]
    high = [value.max() for value in values]
    axes.fill_between(places, low, high, color=style["color"], alpha=0.15, linewidth=0)


def _headline(result: Record) -> str:
    fewest = min(result["settings"]["counts"])
    longest = max(result["settings"]["delays"])
    means = []
    for method in METHODS[:3]:
        rows = select(result["digits"], method=method, labels=fewest)
        means.append(f"{np.mean(column(rows, 'accuracy')):.0%}")
    rows = select(result["lags"], lag=longest)
    shares = [f"{np.mean(column(rows, name)):.0%}" for name in ("compressor", "single")]
    return (
        f"{fewest} labels: {means[0]} with pre-training, {means[1]} without, {means[2]} with "
        f"logistic regression. Lag {longest}: {shares[0]} with a history compressor, {shares[1]} "
        "without. Bands: range of the seeds"
    )


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
