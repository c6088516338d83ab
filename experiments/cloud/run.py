"""Monitoring of cloud services: forecasts with bands, and alarms, by a GRU and without one.

    python -m experiments.cloud.run

The data is generated (``data.py``): three metrics of eight services by the hour, with cycles of the
day and the week, a common part, bursts that spread to the next service, and missing hours. Ten
weeks are for training, three for thresholds, six are held out. All numbers are deviations from the
median of the hour of the week, in units of their spread in the weeks for training.

A GRU reads the three metrics of a service, with what is missing, the mean of all services, and the
time. Each hour it forecasts the quantiles 0.05, 0.5 and 0.95 of each metric, one hour and 24 hours
ahead, and is trained on the pinball loss. Bands without a network: the quantiles in the weeks for
training of the deviations themselves, of their changes in a week, and in one hour.

The anomaly score of a measurement is its distance from the median forecast, in units of the band,
the larger one of the two leads. Rivals: the deviation (a robust z-score), its change since a week
before (seasonal naive), and its change in an hour. Faults are put in: spikes, level shifts, drops,
and drifts. Each score has the threshold that gives the highest F1 in the weeks for thresholds.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

import rnnlab
from experiments.cloud.data import KINDS, METRICS, SERVICES, WEEK, Fault, fleet, with_faults
from experiments.cloud.detection import best_threshold, detect
from experiments.common import Record, experiment, spread
from experiments.training import decayed_adam
from rnnlab.data import Batch, batches, forward_fill, observations
from rnnlab.models import step_regressor
from rnnlab.report.figures.style import drawing, grid_lines, legend_below, look, title
from rnnlab.studies.records import column, select
from rnnlab.training import pinball, sweep
from rnnlab.typing import Array, Key, PyTree

QUANTILES, LEADS = (0.05, 0.5, 0.95), (1, 24)
STRETCH, WARM = 240, 24
"""Hours of a training sequence, and those at its start that do not count."""
GRU, ROBUST, WEEKLY, HOURLY = "GRU", "robust z-score", "seasonal naive", "last hour"
SIDES = (ROBUST, WEEKLY, HOURLY, GRU)
HIDDEN = 32


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        steps: updates of each network.
        batch: B.
        seeds: of the networks and of the faults.
        training, validation, held_out: weeks.
    """

    steps: int = 400
    batch: int = 32
    seeds: tuple[int, ...] = (0, 1, 2)
    training: int = 10
    validation: int = 3
    held_out: int = 6

    @property
    def weeks(self) -> int:
        return self.training + self.validation + self.held_out


QUICK = Plan(steps=16, batch=4, seeds=(0, 1), training=4, validation=1, held_out=1)
model = step_regressor(rnnlab.GRU(HIDDEN), outputs=len(METRICS) * len(LEADS) * len(QUANTILES))


class Profile(NamedTuple):
    """The median of each hour of the week ``[168, 8, 3]``, and the spread around it ``[8, 3]``."""

    median: np.ndarray
    spread: np.ndarray

    def deviations(self, values: np.ndarray) -> np.ndarray:
        """Values ``[T, 8, 3]`` without the cycle, in units of the spread."""
        hours = np.arange(len(values)) % WEEK
        return (values - self.median[hours]) / self.spread


def profile(values: np.ndarray) -> Profile:
    """The profile of whole weeks."""
    median = np.nanmedian(values.reshape(-1, WEEK, *values.shape[1:]), axis=0)
    rest = np.abs(values - np.tile(median, (len(values) // WEEK, 1, 1)))
    # 1.4826 times the median deviation is the standard deviation of a normal distribution.
    return Profile(median, 1.4826 * np.nanmedian(rest, axis=0))


def inputs(deviations: np.ndarray) -> np.ndarray:
    """What the network reads, ``[T, 8, 15]``."""
    told = observations(deviations)
    hours = np.arange(len(deviations))
    angle = 2 * np.pi * (hours + 1) / 24
    is_weekend = [(hours + lead) // 24 % 7 >= 5 for lead in LEADS]
    time = [np.sin(angle), np.cos(angle), *is_weekend]
    mean = told.values.mean(axis=1, keepdims=True)
    parts = [
        np.clip(told.values, -20, 20),
        told.observed,
        np.minimum(told.since, 24) / 24,
        np.broadcast_to(np.clip(mean[..., :2], -20, 20), (*deviations.shape[:2], 2)),
        np.broadcast_to(np.stack(time, axis=-1)[:, None], (*deviations.shape[:2], 4)),
    ]
    return np.concatenate(parts, axis=-1).astype(np.float32)


def targets(deviations: np.ndarray) -> np.ndarray:
    """What is to be forecast at each hour, ``[T, 8, 3, 2]``; NaN where it is missing."""
    ahead = np.full((*deviations.shape, len(LEADS)), np.nan)
    for place, lead in enumerate(LEADS):
        ahead[:-lead, ..., place] = deviations[lead:]
    return ahead


def sequences(deviations: np.ndarray) -> Batch:
    """Stretches of ten days, one for each day and service."""
    xs, ahead = inputs(deviations), targets(deviations)
    starts = range(0, len(xs) - STRETCH + 1, 24)
    numbers = np.concatenate([ahead[start : start + STRETCH] for start in starts], axis=1)
    numbers[:WARM] = np.nan
    return Batch(
        xs=np.concatenate([xs[start : start + STRETCH] for start in starts], axis=1),
        targets=np.float32(numbers.reshape(*numbers.shape[:2], -1)),
        mask=np.ones(numbers.shape[:2], bool),
    )


def networks(deviations: np.ndarray, plan: Plan) -> PyTree:
    """The parameters of all seeds, trained in one program."""
    training = sequences(deviations)
    is_there = ~np.isnan(training.targets)
    # A batch has one mask for all outputs of a step; here each output has its own.
    pairs = np.concatenate([np.nan_to_num(training.targets), is_there], axis=-1)
    data = batches(training._replace(targets=np.float32(pairs)), plan.batch, seed=0)

    def loss(params: PyTree, batch: Batch, key: Key) -> tuple[Array, dict[str, Array]]:
        forecasts = _quantiles(model.apply(params, batch, key=key))
        numbers, counts = jnp.split(batch.targets, 2, axis=-1)
        shape = forecasts.shape[:-1]
        mask = counts.reshape(shape) > 0
        return pinball(forecasts, numbers.reshape(shape), QUANTILES, mask), {}

    trained = sweep(
        lambda key: model.init(key, data[0]),
        loss,
        data,
        lambda: decayed_adam(5e-3, plan.steps),
        {"seed": plan.seeds},
        steps=plan.steps,
    )
    return trained.params


def _quantiles(outputs: Array) -> Array:
    """Outputs ``[T, B, 18]`` as ``[T, B, metrics, leads, quantiles]``."""
    return outputs.reshape(*outputs.shape[:2], len(METRICS), len(LEADS), len(QUANTILES))


def forecasts(params: PyTree, deviations: list[np.ndarray]) -> np.ndarray:
    """Quantiles ``[seeds, series, T, 8, 3, 2, 3]`` at the hour that is forecast, NaN before."""
    xs = np.concatenate([inputs(part) for part in deviations], axis=1)
    apply = jax.jit(jax.vmap(lambda p: _quantiles(model.apply(p, Batch(xs, None)))))
    raw = np.sort(np.asarray(apply(params), float), axis=-1)
    raw = raw.reshape(*raw.shape[:2], len(deviations), SERVICES, *raw.shape[3:])
    made = np.moveaxis(raw, 2, 1)
    arrived = np.full_like(made, np.nan)
    for place, lead in enumerate(LEADS):
        arrived[:, :, lead:, ..., place, :] = made[:, :, :-lead, ..., place, :]
    return arrived


def change(deviations: np.ndarray, lag: int) -> np.ndarray:
    """The change since the last measurement at least ``lag`` hours before."""
    before = np.roll(np.nan_to_num(forward_fill(deviations)), lag, axis=0)
    before[:lag] = 0
    return deviations - before


def residuals(name: str, deviations: np.ndarray, lead: int) -> np.ndarray:
    """What the bands and scores without a network are made of."""
    if name == ROBUST:
        return deviations
    return change(deviations, WEEK if name == WEEKLY else lead)


def bands(name: str, deviations: np.ndarray, plan: Plan) -> np.ndarray:
    """Quantiles ``[T, 8, 3, 2, 3]`` from those of residuals in the weeks for training."""
    parts = []
    for lead in LEADS:
        rest = residuals(name, deviations, lead)
        known = rest[WEEK : plan.training * WEEK]
        levels = np.moveaxis(np.nanquantile(known, QUANTILES, axis=0), 0, -1)
        # Where a residual is missing, so is the target.
        parts.append((deviations - rest)[..., None] + levels)
    return np.stack(parts, axis=-2)


def band_scores(quantiles: np.ndarray, deviations: np.ndarray, plan: Plan) -> Record:
    """Pinball loss, coverage and width on the held-out weeks, by lead."""
    start = (plan.training + plan.validation) * WEEK
    actual, low_to_high = deviations[start:], quantiles[start:]
    record: Record = {"pinball": [], "coverage": [], "width": []}
    for place in range(len(LEADS)):
        part = low_to_high[..., place, :]
        is_there = ~np.isnan(actual)
        loss = pinball(jnp.asarray(part), jnp.asarray(actual), QUANTILES, jnp.asarray(is_there))
        is_within = (actual >= part[..., 0]) & (actual <= part[..., -1])
        width = (part[..., -1] - part[..., 0])[is_there]
        record["pinball"].append(round(float(loss), 4))
        record["coverage"].append(round(float(is_within[is_there].mean()), 4))
        record["width"].append(round(float(width.mean()), 3))
    return record


def anomaly(quantiles: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """The distance from the median in units of the band, ``[T, 8, 3]``; 0 where it is missing."""
    low, middle, high = np.moveaxis(quantiles, -1, 0)
    error = deviations[..., None] - middle
    side = np.where(error > 0, high - middle, middle - low)
    return np.nan_to_num(np.abs(error) / np.maximum(side, 0.1)).max(axis=-1)


def detection(scores: np.ndarray, faults: list[Fault], plan: Plan) -> Record:
    """Precision and recall in the held-out weeks, with the threshold of the weeks before."""
    begin, start = plan.training * WEEK, (plan.training + plan.validation) * WEEK
    threshold = best_threshold(scores[begin:start], _within(faults, begin, start))
    held_out = _within(faults, start, len(scores))
    result = detect(scores[start:], held_out, threshold)
    return {
        "threshold": round(threshold, 3),
        "precision": round(result.precision, 4),
        "recall": round(result.recall, 4),
        "f1": round(result.f1, 4),
        "by_kind": {kind: round(share, 4) for kind, share in result.by_kind.items()},
        "faults": len(held_out),
    }


def _within(faults: list[Fault], start: int, stop: int) -> list[Fault]:
    """The faults of a stretch, in hours since its start."""
    chosen = [fault for fault in faults if start <= fault.start < stop]
    return [fault._replace(start=fault.start - start, stop=fault.stop - start) for fault in chosen]


def run(quick: bool) -> Record:
    """Trains the networks, and scores bands and alarms."""
    rnnlab.quick_start()
    plan = QUICK if quick else Plan()
    data = fleet(plan.weeks)
    cycle = profile(data.values[: plan.training * WEEK])
    clean = cycle.deviations(data.values)
    params = networks(clean[: plan.training * WEEK], plan)
    broken = [with_faults(data, plan.training, seed) for seed in plan.seeds]
    series = [clean] + [cycle.deviations(values) for values, _ in broken]
    quantiles = forecasts(params, series)
    band_runs: list[Record] = []
    for name in SIDES[:-1]:
        scores = band_scores(bands(name, clean, plan), clean, plan)
        band_runs.append({"side": name, "seed": None} | scores)
    alarm_runs: list[Record] = []
    for place, seed in enumerate(plan.seeds):
        scores = band_scores(quantiles[place, 0], clean, plan)
        band_runs.append({"side": GRU, "seed": seed} | scores)
        deviations, faults = series[1 + place], broken[place][1]
        found = {name: _rival(name, deviations) for name in SIDES[:-1]}
        found[GRU] = anomaly(quantiles[place, 1 + place], deviations)
        for name, values in found.items():
            record = {"side": name, "seed": seed} | detection(values, faults, plan)
            alarm_runs.append(record)
            print(f"{name:16}{seed:3}{record['precision']:8}{record['recall']:8}{record['f1']:8}")
    return {
        "finding": finding(band_runs, alarm_runs),
        "settings": plan._asdict() | {"model": repr(model), "services": SERVICES},
        "missing": round(float(np.isnan(data.values).mean()), 4),
        "bands": band_runs,
        "alarms": alarm_runs,
        "_shown": _shown(series[1], quantiles[0, 1], broken[0][1], alarm_runs, plan),
    }


def _rival(name: str, deviations: np.ndarray) -> np.ndarray:
    """The anomaly score without a network."""
    return np.nan_to_num(np.abs(residuals(name, deviations, 1)))


def finding(band_runs: list[Record], alarm_runs: list[Record]) -> str:
    """Alarms, then bands."""
    seeds = len(select(alarm_runs, side=GRU))
    alarms = []
    for name in reversed(SIDES):
        rows = select(alarm_runs, side=name)
        parts = [f"{key} {np.mean(column(rows, key)):.2f}" for key in ("precision", "recall")]
        alarms.append(f"{name} {', '.join(parts)}, F1 {spread(column(rows, 'f1'), '.2f')}")
    ours = column(select(alarm_runs, side=GRU), "f1")
    rivals = [column(select(alarm_runs, side=name), "f1") for name in SIDES[:-1]]
    won = int(np.sum(np.greater(ours, np.max(rivals, axis=0))))
    kinds = []
    for kind in KINDS:
        by_side = {}
        for name in SIDES:
            rows = column(select(alarm_runs, side=name), "by_kind")
            by_side[name] = np.mean(column(rows, kind))
        best = max(by_side, key=lambda name: by_side[name])
        kinds.append(f"{kind} {by_side[GRU]:.2f} (highest: {best}, {by_side[best]:.2f})")
    bands = []
    for place, lead in enumerate(LEADS):
        covered = [row["coverage"][place] for row in select(band_runs, side=GRU)]
        losses = {
            name: np.mean([row["pinball"][place] for row in select(band_runs, side=name)])
            for name in SIDES
        }
        best = min(SIDES[:-1], key=lambda name: losses[name])
        bands.append(
            f"{lead} h ahead {np.mean(covered):.1%} ({min(covered):.1%} to {max(covered):.1%}), "
            f"pinball loss {losses[GRU]:.3f} against {losses[best]:.3f} of the best rival ({best})"
        )
    return (
        f"Alarms on faults put into held-out weeks, mean of {seeds} seeds: {'; '.join(alarms)}; "
        f"the GRU has the highest F1 in {won} of {seeds} seeds. Its recall by kind: "
        f"{', '.join(kinds)}. Its 90 % bands hold {'; '.join(bands)}."
    )


def _shown(
    deviations: np.ndarray,
    quantiles: np.ndarray,
    faults: list[Fault],
    alarms: list[Record],
    plan: Plan,
) -> Record:
    """Two weeks around a level shift of the held-out weeks, with the band a day ahead."""
    start = (plan.training + plan.validation) * WEEK
    held_out = [fault for fault in faults if fault.start >= start]
    fault = next((one for one in held_out if one.kind == "level shift"), held_out[0])
    begin = max(fault.start - WEEK // 2, start)
    span = (slice(begin, begin + WEEK), fault.service, fault.metric)
    score = anomaly(quantiles, deviations)[span]
    threshold = select(alarms, side=GRU)[0]["threshold"]
    return {
        "fault": (fault.start - begin, fault.stop - begin),
        "metric": METRICS[fault.metric],
        "actual": deviations[span],
        "band": quantiles[span][:, 0],
        "flagged": score > threshold,
    }


def draw(result: Record, path: Path) -> None:
    """Precision and recall, recall by kind, coverage, and one fault."""
    with drawing(path, 1, 3, (16, 5)) as (figure, (left, middle, right)):
        for index, name in enumerate(SIDES):
            rows = select(result["alarms"], side=name)
            style: dict[str, Any] = look(index) | {"linestyle": "none"}
            left.plot(column(rows, "recall"), column(rows, "precision"), label=name, **style)
            kinds = column(rows, "by_kind")
            means = [np.mean(column(kinds, kind)) for kind in KINDS]
            places = np.arange(len(KINDS)) + 0.2 * (index - 1.5)
            middle.bar(places, means, 0.18, color=look(index)["color"])
        left.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
        left.set_title("Alarms on held-out weeks, every seed", fontsize=10)
        middle.set_xticks(range(len(KINDS)), KINDS)
        middle.set(ylabel="recall", ylim=(0, 1))
        middle.set_title("Faults found, by kind; mean of the seeds", fontsize=10)
        _fault(right, result["_shown"])
        for axes in (left, middle, right):
            grid_lines(axes)
        legend_below(figure, left)
        title(figure, result["finding"].split(". Its recall")[0] + ".", 130)


def _fault(axes: Axes, shown: Record) -> None:
    hours = np.arange(len(shown["actual"]))
    low, middle, high = shown["band"].T
    colour = look(SIDES.index(GRU))["color"]
    axes.fill_between(hours, low, high, color=colour, alpha=0.25, linewidth=0)
    axes.plot(hours, middle, color=colour, linewidth=1)
    axes.plot(hours, shown["actual"], color="0.2", linewidth=1)
    flagged = shown["flagged"]
    axes.plot(hours[flagged], shown["actual"][flagged], "o", color="#D55E00", markersize=4)
    axes.axvspan(*shown["fault"], color="0.92", zorder=0)
    axes.set(xlabel="hours", ylabel=f"{shown['metric']}, deviation (spreads)")
    dots = f"{flagged.sum()} flagged hours (dots)" if flagged.any() else "no hour is flagged"
    axes.set_title(f"A fault (grey), the 90 % band 1 h ahead; {dots}", fontsize=10)


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
