"""The electric power of households a day ahead, by a GRU, by naive forecasts and by regression.

    python -m experiments.power.run

At midnight the 24 hours of the next day are forecast from the days before. The protocol:

- The last 17 % of the days are held out. Everything fitted is fitted once to the days before, and
  not again as the held-out days pass: scales, regression and networks.
- Scores are the mean absolute error (MAE) in kW, that divided by the MAE of the same hour of the
  day before over the training days of each house (MASE, Hyndman & Koehler 2006), and the RMSE.
- Every choice was made on the last fifth of the days before, after a fit to the days before those.
- Baselines: the last hour (persistence), the same hour a day and a week before (seasonal naive),
  the mean of that hour over seven days, and ridge regression of each hour on what the GRU reads.

The GRU has 32 units and reads three days hour by hour. Its inputs at an hour are known at midnight:
the deviations of that hour on each of the last seven days from their mean, this mean, the mean and
the last hour of the day before, the mean of all houses at that hour of it, the hour and whether it
is a weekend. Its output is the deviation from the mean of the seven days. It is trained on the
absolute error, whose minimum is the median.

On the validation days, where the mean of seven days has an MAE of 0.453 kW, a GRU on the hours of
the last week that forecasts all 24 at once had 0.433 (0.464 trained on squared errors), and this
one 0.409 (squared errors: 0.445). No better were one day (0.411) or seven (0.413) in place of
three, 64 units (0.411), and a loss between the two (0.417).
"""

import functools
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

import rnnlab
from experiments.common import Record, experiment
from experiments.power.data import Power, generated, power
from experiments.training import decayed_adam
from rnnlab.data import Batch, batches, forward_fill
from rnnlab.models import step_regressor
from rnnlab.report.figures.style import band, drawing, grid_lines, legend_below, look, title
from rnnlab.studies.records import column, select
from rnnlab.training import pinball, sweep
from rnnlab.typing import Array, Key, PyTree

WEEK, CONTEXT = 7, 3
"""Days: those before a day that are its inputs, and those that the network reads in a row."""
NAMES = ("the last hour", "a day before", "a week before", "mean of seven days", "ridge", "GRU")
PERSISTENCE, DAY, SEASONAL_WEEK, MEAN, RIDGE, GRU = NAMES
STRENGTHS = (10.0, 100.0, 1000.0, 10_000.0, 100_000.0)
model = step_regressor(rnnlab.GRU(32), outputs=1, dropout=0.2)


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        steps: updates of the network.
        seeds: networks.
        batch: B.
    """

    steps: int = 800
    seeds: tuple[int, ...] = (0, 1, 2)
    batch: int = 64


QUICK = Plan(steps=32, seeds=(0, 1), batch=16)


class Days(NamedTuple):
    """D days of N houses, standardised with the days before ``held_out``.

    Attributes:
        targets: ``[D, 24, N]``, NaN where an hour is missing.
        inputs: ``[D, 24, N, F]``, known before the day begins; from day 7 on.
        base: ``[D, 24, N]``, the mean of the last seven days at that hour.
        mean, scale: ``[N]``, zero and a unit in kW.
        validation: the first day for choices.
        held_out: the first day that nothing is fitted to.
    """

    targets: np.ndarray
    inputs: np.ndarray
    base: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    validation: int
    held_out: int


def prepare(data: Power) -> Days:
    """The inputs and targets of each day."""
    count = len(data.kw)
    held_out = round(0.83 * count)
    known = data.kw[:held_out]
    mean, scale = np.nanmean(known, axis=(0, 1)), np.nanstd(known, axis=(0, 1))
    targets = (data.kw - mean) / scale
    # Where an hour is missing, its inputs to later days are those of the last day that has it.
    filled = np.nan_to_num(forward_fill(targets))
    before = np.stack([np.roll(filled, lag, axis=0) for lag in range(1, WEEK + 1)], axis=-1)
    base = before.mean(axis=-1)
    day = before[..., 0]
    hour = 2 * np.pi * np.arange(24)[:, None] / 24
    is_weekend = (data.weekdays >= 5)[:, None, None]
    others = [
        base,
        day.mean(axis=1, keepdims=True),
        day[:, -1:],
        day.mean(axis=2, keepdims=True),
        *(np.sin(hour), np.cos(hour), np.sin(2 * hour), np.cos(2 * hour)),
        is_weekend,
    ]
    broadcast = [np.broadcast_to(part, base.shape) for part in others]
    inputs = np.concatenate([before - base[..., None], np.stack(broadcast, axis=-1)], axis=-1)
    return Days(targets, inputs, base, mean, scale, round(0.665 * count), held_out)


def sequences(days: Days, first: int, last: int) -> Batch:
    """The stretches of three days that end with each day, first ≤ day < last, and each house."""
    xs, targets = [], []
    for end in range(first + 1, last + 1):
        stretch = slice(end - CONTEXT, end)
        features = days.inputs.shape[-1]
        xs.append(days.inputs[stretch].reshape(24 * CONTEXT, -1, features))
        deviations = days.targets[stretch] - days.base[stretch]
        targets.append(deviations.reshape(24 * CONTEXT, -1))
    numbers = np.concatenate(targets, axis=1)
    return Batch(
        xs=np.concatenate(xs, axis=1).astype(np.float32),
        targets=np.nan_to_num(numbers).astype(np.float32)[..., None],
        mask=~np.isnan(numbers),
    )


def networks(days: Days, first: int, last: int, plan: Plan) -> np.ndarray:
    """Forecasts ``[seeds, days, 24, N]``, first ≤ day < last, after a fit to the days before."""
    training = sequences(days, WEEK + CONTEXT - 1, first)
    data = batches(training, plan.batch, seed=0)

    def loss(params: PyTree, batch: Batch, key: Key) -> tuple[Array, dict[str, Array]]:
        outputs = model.apply(params, batch, key=key)
        return pinball(outputs, batch.targets[..., 0], (0.5,), batch.mask), {}

    trained = sweep(
        lambda key: model.init(key, data[0]),
        loss,
        data,
        lambda: decayed_adam(3e-3, plan.steps, weight_decay=0.01),
        {"seed": plan.seeds},
        steps=plan.steps,
    )
    xs = jnp.asarray(sequences(days, first, last).xs)
    apply = jax.vmap(functools.partial(model.apply, batch=Batch(xs, None)))
    outputs = np.asarray(jax.jit(apply)(trained.params), float)[:, -24:, :, 0]
    deviations = outputs.reshape(len(plan.seeds), 24, last - first, -1).swapaxes(1, 2)
    return deviations + days.base[first:last]


def ridge(days: Days, first: int, last: int, strength: float) -> np.ndarray:
    """Forecasts ``[days, 24, N]`` of a linear regression for each hour, one for all houses."""
    forecasts = np.empty(days.base[first:last].shape)
    for hour in range(24):
        inputs, base = days.inputs[:, hour], days.base[:, hour]
        deviations = (days.targets[:, hour] - base)[WEEK:first]
        is_there = ~np.isnan(deviations)
        xs = _with_constant(inputs[WEEK:first][is_there])
        normal = xs.T @ xs + strength * np.eye(xs.shape[1])
        weights = np.linalg.solve(normal, xs.T @ deviations[is_there])
        forecasts[:, hour] = _with_constant(inputs[first:last]) @ weights + base[first:last]
    return forecasts


def _with_constant(xs: np.ndarray) -> np.ndarray:
    return np.concatenate([xs, np.ones((*xs.shape[:-1], 1))], axis=-1)


def naive(days: Days, first: int, last: int) -> dict[str, np.ndarray]:
    """Forecasts ``[days, 24, N]`` without a fit, by their names."""
    filled = np.nan_to_num(forward_fill(days.targets))
    shape = days.base[first:last].shape
    return {
        PERSISTENCE: np.broadcast_to(filled[first - 1 : last - 1, -1:], shape),
        DAY: filled[first - 1 : last - 1],
        SEASONAL_WEEK: filled[first - WEEK : last - WEEK],
        MEAN: days.base[first:last],
    }


def score(forecasts: np.ndarray, days: Days, first: int, last: int) -> Record:
    """The scores of forecasts ``[days, 24, N]`` over the hours that are there."""
    errors = (forecasts - days.targets[first:last]) * days.scale
    size = np.abs(errors)
    known = days.targets[:first]
    # The MAE of the same hour of the day before, of each house.
    step = np.nanmean(np.abs(known[1:] - known[:-1]), axis=(0, 1)) * days.scale
    by_house = np.nanmean(size, axis=(0, 1)) / step
    return {
        "mae": round(float(np.nanmean(size)), 4),
        "rmse": round(float(np.sqrt(np.nanmean(errors**2))), 4),
        "mase": round(float(by_house.mean()), 4),
        "by_house": np.round(by_house, 4).tolist(),
        "by_hour": np.round(np.nanmean(size, axis=(0, 2)), 4).tolist(),
        "by_day": np.round(np.nanmean(size, axis=(1, 2)), 4).tolist(),
    }


def gain_interval(rival: list[float], networks: list[list[float]]) -> tuple[float, float]:
    """A 95 % interval of the rival's MAE minus the networks', by a bootstrap over weeks.

    Days are alike within a week, so that blocks of seven are drawn, wrapped around at the end
    (Politis & Romano 1992).
    """
    gains = np.subtract(rival, np.mean(networks, axis=0))
    starts = np.random.default_rng(0).integers(gains.size, size=(10_000, -(-gains.size // 7), 1))
    drawn = ((starts + np.arange(7)) % gains.size).reshape(len(starts), -1)[:, : gains.size]
    low, high = np.quantile(gains[drawn].mean(axis=1), (0.025, 0.975))
    return round(float(low), 4), round(float(high), 4)


def run(quick: bool) -> Record:
    """Scores all forecasts on the held-out days."""
    rnnlab.quick_start()
    plan = QUICK if quick else Plan()
    data = generated(days=80) if quick else power()
    days = prepare(data)
    held_out = (days.held_out, len(data.kw))
    chosen = (days.validation, days.held_out)

    def validation_error(strength: float) -> float:
        return score(ridge(days, *chosen, strength), days, *chosen)["mae"]

    strength = min(STRENGTHS, key=validation_error)
    forecasts = naive(days, *held_out) | {RIDGE: ridge(days, *held_out, strength)}
    runs: list[Record] = []
    for name, values in forecasts.items():
        runs.append({"side": name} | score(values, days, *held_out))
    by_network = networks(days, *held_out, plan)
    for seed, values in zip(plan.seeds, by_network, strict=True):
        runs.append({"side": GRU, "seed": seed} | score(values, days, *held_out))
    for record in runs:
        name = record["side"] + (f", seed {record['seed']}" if "seed" in record else "")
        print(f"{name:22}{record['mae']:8.4f}{record['rmse']:8.4f}{record['mase']:8.4f}")
    ours = [record["by_day"] for record in select(runs, side=GRU)]
    rivals = [record for record in runs if record["side"] != GRU]
    return {
        "finding": finding(runs, data.source, held_out[1] - held_out[0]),
        "source": data.source,
        "first_held_out_day": str(data.first + days.held_out),
        "last_day": str(data.first + len(data.kw) - 1),
        "model": repr(model),
        "plan": plan._asdict(),
        "ridge": strength,
        "gain_95": {rival["side"]: gain_interval(rival["by_day"], ours) for rival in rivals},
        "runs": runs,
        "_example": _example(days, forecasts | {GRU: by_network[0]}, held_out),
    }


def finding(runs: list[Record], source: str, days: int) -> str:
    """The scores, and whom the GRU beats."""
    ours = column(select(runs, side=GRU), "mae")
    parts = []
    for name in (PERSISTENCE, DAY, SEASONAL_WEEK, MEAN, RIDGE):
        rival = select(runs, side=name)[0]["mae"]
        won = sum(value < rival for value in ours)
        parts.append(f"{name} {rival:.3f} ({won} of {len(ours)} seeds are below)")
    squared = {name: float(np.mean(column(select(runs, side=name), "rmse"))) for name in NAMES}
    ranked = [f"{name} {squared[name]:.3f}" for name in sorted(NAMES, key=squared.__getitem__)]
    return (
        f"One day ahead, on {days} held-out days of {source}, a GRU's mean absolute error is "
        f"{np.mean(ours):.3f} kW ({min(ours):.3f} to {max(ours):.3f} over {len(ours)} seeds), "
        f"against {', '.join(parts)}. Root mean squared errors, which it was not trained on, in "
        f"kW: {', '.join(ranked)}."
    )


def _example(days: Days, forecasts: dict[str, np.ndarray], held_out: tuple[int, int]) -> Record:
    """A week, in kW, of the house whose error by the GRU is the median."""
    errors = np.abs(forecasts[GRU] - days.targets[slice(*held_out)])
    house = int(np.argsort(np.nanmean(errors, axis=(0, 1)))[days.scale.size // 2])
    week = slice(held_out[0], held_out[0] + 7)
    lines = {"measured": days.targets[week]}
    lines |= {name: forecasts[name][:7] for name in (MEAN, GRU)}
    mean, scale = days.mean[house], days.scale[house]
    return {name: (mean + scale * values[..., house]).ravel() for name, values in lines.items()}


def draw(result: Record, path: Path) -> None:
    """Errors by hour, errors by house, and a week."""
    with drawing(path, 1, 3, (16, 4.8)) as (figure, (left, middle, right)):
        order = np.argsort(select(result["runs"], side=GRU)[0]["by_house"])
        for index, name in enumerate(NAMES):
            rows = select(result["runs"], side=name)
            points = [point for row in rows for point in enumerate(row["by_hour"])]
            band(left, points, marks=8, name=name, **look(index))
            for row in rows[:1]:
                houses = np.arange(1, order.size + 1)
                style = look(index) | {"linestyle": "none", "markersize": 5}
                middle.plot(houses, np.array(row["by_house"])[order], **style)
        left.set(xlabel="hour of the day (forecast at midnight)", ylabel="MAE (kW)", ylim=(0, None))
        left.set_xticks(range(0, 25, 6))
        left.set_title("By hour; bands: range of the seeds", fontsize=10)
        middle.set(xlabel="house, by the error of the first GRU", ylabel="MASE", ylim=(0, None))
        middle.set_title("By house, in errors of “a day before” in training", fontsize=10)
        _week(right, result["_example"])
        for axes in (left, middle, right):
            grid_lines(axes)
        legend_below(figure, left)
        title(figure, result["finding"].split(", against")[0] + "; " + _gain(result), 130)


def _gain(result: Record) -> str:
    """The gain over the best of the other forecasts."""
    rivals = [row for row in result["runs"] if row["side"] != GRU]
    best = min(rivals, key=lambda row: row["mae"])
    low, high = result["gain_95"][best["side"]]
    return f"the best of the others, {best['side']}, has {low:.3f} to {high:.3f} more (95 %)"


def _week(axes: Axes, lines: Record) -> None:
    days = np.arange(168) / 24
    axes.fill_between(days, lines["measured"], color="0.8")
    for name in (MEAN, GRU):
        colour = look(NAMES.index(name))["color"]
        axes.plot(days, lines[name], color=colour, linewidth=1.6)
    axes.set(xlabel="days", ylabel="kW", ylim=(0, None), xticks=range(8))
    axes.set_title("The first held-out week of one house; grey: measured", fontsize=10)


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
