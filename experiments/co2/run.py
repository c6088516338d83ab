"""Weekly CO2 with missing weeks: a network that is told what is missing, or one that is not.

    python -m experiments.co2.run

The weekly CO2 at Mauna Loa from 1958 to 2001 lacks 59 weeks. From 40 weeks with their gaps the next
eight are forecast. Three networks of one size (GRU, 16 units) differ in what stands in the place of
a missing week: the last value with a mask and the time since it (Che et al. 2018, "Recurrent neural
networks for multivariate time series with missing values", GRU-simple), a straight line, or the
last value alone. All read the season, and numbers less the last one that is there.

Fits end in 1991, and weeks from 1992 to 2001 are held out. Further weeks are removed at random from
the whole record, another 30 % and 60 %, another draw for each seed; removed weeks are neither read
nor trained on, but all held-out weeks of the record are scored.

On the weeks of 1986 to 1991, after fits to the weeks before, 900 updates were better than 300 in
all 18 comparisons; 1200 are taken here.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from matplotlib.axes import Axes

import rnnlab
from experiments.co2.baselines import RATES, last_year, smoothed
from experiments.co2.data import (
    CONTEXT,
    HELD,
    INPUTS,
    LEADS,
    LINE,
    TOLD,
    Weeks,
    Windows,
    generated,
    mauna_loa,
    removed,
    windows,
)
from experiments.common import Record, experiment
from experiments.training import decayed_adam
from rnnlab.data import Batch
from rnnlab.models import forecaster
from rnnlab.report.figures.style import band, drawing, grid_lines, legend_below, look, plain, title
from rnnlab.studies.records import column, select
from rnnlab.training import initial_state, train_step
from rnnlab.typing import Array, Key

SIDES = ("last number", "last year plus the rise", "season and smoothed level", *INPUTS)
LAST, YEAR_BEFORE, SMOOTHED = SIDES[:3]
VALIDATION, HELD_OUT = ("1986-01-01", "1992-01-01"), ("1992-01-01", "2002-01-01")
model = forecaster(rnnlab.GRU(16), horizon=LEADS, outputs=1)


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        steps: updates of each network.
        shares: of the weeks that are removed.
        seeds: of the removal and of the networks.
        batch: B.
        span: the dates of the first week that is scored, and behind the last.
    """

    steps: int = 1200
    shares: tuple[float, ...] = (0.0, 0.3, 0.6)
    seeds: tuple[int, ...] = (0, 1, 2)
    batch: int = 32
    span: tuple[str, str] = HELD_OUT


QUICK = Plan(steps=8, shares=(0.3,), seeds=(0, 1), batch=8)


class Case(NamedTuple):
    """One network, or one draw of removed weeks."""

    share: float
    seed: int
    inputs: str


def networks(weeks: Weeks, cases: list[Case], plan: Plan) -> np.ndarray:
    """Forecasts ``[cases, 8, N]`` in ppm; all networks are trained in one program."""
    first, last = (weeks.before(date) for date in plan.span)
    known, asked = [], []
    for case in cases:
        left = removed(weeks.ppm, case.share, case.seed)
        # What was removed is not a target of the training.
        known.append(windows(left, left, case.inputs, CONTEXT, first))
        asked.append(windows(left, weeks.ppm, case.inputs, first, last))
    count = known[0].origins.size
    scales = [float(np.nanstd(part.targets)) for part in known]
    rng = np.random.default_rng(0)
    order = jnp.asarray(rng.integers(count, size=(plan.steps, plan.batch)))
    optimiser = decayed_adam(1e-2, plan.steps, weight_decay=0.01)

    def train(key: Key, training: Batch, xs: Array) -> Array:
        step = train_step(model.loss, optimiser)
        k_init, k_train = jax.random.split(key)
        state = initial_state(model.init(k_init, _columns(training, order[0])), optimiser, k_train)
        state, _ = lax.scan(lambda s, of: (step(s, _columns(training, of))[0], None), state, order)
        return model.apply(state.params, Batch(xs, None))[..., 0]

    keys = jax.vmap(jax.random.key)(jnp.asarray([case.seed for case in cases]))
    batches = [_batch(*pair) for pair in zip(known, scales, strict=True)]
    training = jax.tree.map(lambda *parts: np.stack(parts), *batches)
    xs = np.stack([_batch(*pair).xs for pair in zip(asked, scales, strict=True)])
    forecasts = np.asarray(jax.jit(jax.vmap(train))(keys, training, xs), float)
    forecasts *= np.array(scales)[:, None, None]
    return forecasts + np.stack([part.anchors for part in asked])[:, None]


def _batch(part: Windows, scale: float) -> Batch:
    """All windows as one batch, in units of ``scale`` ppm."""
    xs = np.concatenate([part.xs[..., :1] / scale, part.xs[..., 1:]], axis=-1)
    targets = np.nan_to_num(part.targets / scale)[..., None]
    return Batch(np.float32(xs), np.float32(targets), ~np.isnan(part.targets))


def _columns(batch: Batch, of: Array) -> Batch:
    return Batch(batch.xs[:, of], batch.targets[:, of], batch.mask[:, of])


def baselines(weeks: Weeks, share: float, seed: int, plan: Plan) -> dict[str, np.ndarray]:
    """Forecasts ``[8, N]`` in ppm by their names."""
    left = removed(weeks.ppm, share, seed)
    first, last = (weeks.before(date) for date in plan.span)
    part = windows(left, weeks.ppm, TOLD, first, last)
    begin, end = (weeks.before(date) for date in VALIDATION)
    chosen = windows(left, left, TOLD, begin, end)

    def error(rate: float) -> float:
        forecasts = smoothed(left, chosen.origins, begin, rate)
        return float(np.nanmean((forecasts - chosen.anchors - chosen.targets) ** 2))

    rate = min(RATES, key=error)
    return {
        LAST: np.broadcast_to(part.anchors, part.targets.shape),
        YEAR_BEFORE: last_year(left, part.origins),
        SMOOTHED: smoothed(left, part.origins, first, rate),
    }


def score(forecasts: np.ndarray, weeks: Weeks, plan: Plan) -> Record:
    """The RMSE in ppm over the weeks that are there, and that of each lead."""
    first, last = (weeks.before(date) for date in plan.span)
    part = windows(weeks.ppm, weeks.ppm, TOLD, first, last)
    squares = (forecasts - part.anchors - part.targets) ** 2
    by_lead = np.sqrt(np.nanmean(squares, axis=1))
    return {
        "rmse": round(float(np.sqrt(np.nanmean(squares))), 4),
        "by_lead": np.round(by_lead, 4).tolist(),
    }


def run(quick: bool) -> Record:
    """Scores all forecasts."""
    rnnlab.quick_start()
    plan = QUICK if quick else Plan()
    weeks = generated() if quick else mauna_loa()
    cases = []
    for share in plan.shares:
        for seed in plan.seeds:
            cases += [Case(share, seed, inputs) for inputs in INPUTS]
    forecasts = networks(weeks, cases, plan)
    runs = []
    for case, values in zip(cases, forecasts, strict=True):
        record = {"removed": case.share, "seed": case.seed, "side": case.inputs}
        runs.append(record | score(values, weeks, plan))
    for share in plan.shares:
        for seed in plan.seeds:
            for side, values in baselines(weeks, share, seed, plan).items():
                record = {"removed": share, "seed": seed, "side": side}
                runs.append(record | score(values, weeks, plan))
    for share in plan.shares:
        for side in SIDES:
            print(f"{share:4.0%} removed  {side:28} {_range(runs, share, side)}")
    shown = forecasts[cases.index(Case(plan.shares[-1], plan.seeds[0], TOLD))]
    return {
        "finding": finding(runs, plan),
        "settings": plan._asdict() | {"context": CONTEXT, "leads": LEADS, "model": repr(model)},
        "runs": runs,
        "_shown": _shown(weeks, shown, plan),
    }


def finding(runs: list[Record], plan: Plan) -> str:
    """What being told is worth at each share, against interpolation and without a network."""

    def row(side: str) -> str:
        return " / ".join(f"{_mean(runs, share, side):.3f}" for share in plan.shares)

    def against(side: str) -> str:
        wins = " / ".join(str(_won(runs, share, side)) for share in plan.shares)
        return f"{row(side)} with {side} (lower in {wins} of {len(plan.seeds)} seeds)"

    shares = " / ".join(f"{share:.0%}" for share in plan.shares)
    ranges = ", ".join(_range(runs, share, TOLD) for share in plan.shares)
    others = ", ".join(f"{side} {row(side)}" for side in (HELD, LAST, YEAR_BEFORE))
    first, last = plan.span[0][:4], int(plan.span[1][:4]) - 1
    return (
        f"One to eight weeks ahead in {first}–{last}, with {shares} of the weeks removed beside "
        f"those of the record, a GRU that is told what is missing has an RMSE of "
        f"{row(TOLD)} ppm, against {against(LINE)}, and {against(SMOOTHED)}, without a "
        f"network. Over the seeds: {ranges}. The others: {others}."
    )


def _won(runs: list[Record], share: float, rival: str) -> int:
    """The number of seeds in which the network that is told has less error."""
    ours, theirs = (
        column(select(runs, removed=share, side=side), "rmse") for side in (TOLD, rival)
    )
    return int(np.sum(np.less(ours, theirs)))


def _mean(runs: list[Record], share: float, side: str) -> float:
    return float(np.mean(column(select(runs, removed=share, side=side), "rmse")))


def _range(runs: list[Record], share: float, side: str) -> str:
    """The mean over the seeds, and their range."""
    values = column(select(runs, removed=share, side=side), "rmse")
    text = f"{np.mean(values):.3f}"
    return text if max(values) == min(values) else f"{text} ({min(values):.3f}–{max(values):.3f})"


def _shown(weeks: Weeks, forecasts: np.ndarray, plan: Plan) -> Record:
    """Two years of forecasts four weeks ahead, by the first network with most weeks removed."""
    first = weeks.before(plan.span[0])
    lead = 4
    places = first + lead - 1 + np.arange(104)
    left = removed(weeks.ppm, plan.shares[-1], plan.seeds[0])
    return {
        "lead": lead,
        "dates": weeks.dates[places],
        "all": weeks.ppm[places],
        "left": left[places],
        "forecast": forecasts[lead - 1, :104],
    }


def draw(result: Record, path: Path) -> None:
    """Errors by the share that is removed, errors by lead, and two years of forecasts."""
    runs, shares = result["runs"], result["settings"]["shares"]
    with drawing(path, 1, 3, (16, 5)) as (figure, (left, middle, right)):
        for index, side in enumerate(SIDES):
            rows = select(runs, side=side)
            points = [(100 * row["removed"], row["rmse"]) for row in rows]
            band(left, points, name=side, **look(index))
            points = []
            for row in select(rows, removed=shares[-1]):
                points += list(enumerate(row["by_lead"], 1))
            band(middle, points, name=side, **look(index))
        left.set(xlabel="further weeks removed (%)", ylabel="RMSE (ppm)")
        left.set_title("All leads; bands: range of the seeds", fontsize=10)
        middle.set(xlabel="lead (weeks)", ylabel="RMSE (ppm)")
        for axes in (left, middle):
            axes.set_yscale("log")
            plain(axes.yaxis, (1, 2, 4, 5, 6, 8))
        middle.set_title(f"{shares[-1]:.0%} removed, by lead", fontsize=10)
        _weeks(right, result["_shown"])
        for axes in (left, middle, right):
            grid_lines(axes)
        legend_below(figure, left)
        ours, line = (_range(runs, shares[-1], side) for side in INPUTS[:2])
        text = f"Weekly CO2, {shares[-1]:.0%} more removed: RMSE {ours} told what is missing, "
        smooth = _range(runs, shares[-1], SMOOTHED)
        title(figure, f"{text}{line} by interpolation, {smooth} by {SMOOTHED}", 130)


def _weeks(axes: Axes, shown: Record) -> None:
    axes.plot(shown["dates"], shown["all"], ".", color="0.8", label="removed")
    axes.plot(shown["dates"], shown["left"], ".", color="0.3", label="left")
    axes.plot(shown["dates"], shown["forecast"], color=look(SIDES.index(TOLD))["color"])
    axes.tick_params(axis="x", rotation=30)
    axes.set(ylabel="CO2 (ppm)")
    axes.set_title(f"{TOLD}: {shown['lead']} weeks ahead; light: removed", fontsize=10)


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
