"""The next frames of a moving digit, by a ConvLSTM, an LSTM of all pixels, and moving the last one.

    python -m experiments.video.run

A digit moves in a straight line and bounces at the walls. A network reads six frames, then predicts
the next, reads its prediction, and so on. Shi et al. (2015, arXiv 1506.04214) say that convolutions
do this better than full connections.
"""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from matplotlib.axes import Axes

import rnnlab
from experiments.common import Record, experiment, first_sentence, spread
from experiments.training import trained_seeds
from experiments.video.baselines import Fixed, Tracker, persistence
from experiments.video.data import Films, Motion
from experiments.video.networks import FilmModel
from rnnlab.report.figures.style import drawing, grid_lines, look, title
from rnnlab.studies.records import select

READ, AHEAD = 6, 10
"""Frames that are read, and frames that are predicted in the test."""

LAST, MEAN, STRAIGHT = "last frame", "mean frame", "constant velocity"
BOUNCING = "constant velocity with bounces"
CONV, FULL = "ConvLSTM", "LSTM of all pixels"

Forecast = Callable[[np.ndarray], np.ndarray]
"""From the frames that were read ``[READ, N, side, side]`` to ``[seeds, AHEAD, N, side, side]``."""


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        side: of a frame, in pixels.
        ahead: frames that are predicted from predictions in training.
        channels, kernel: of the ConvLSTM.
        hidden: H, of the LSTM of all pixels.
        rate: the first learning rate of Adam, which decays to zero.
        updates: of each network.
        batch: B.
        seeds: of initial weights; the films are the same.
        held_out: films of validation and of the test.
        lags: over which a velocity may be measured; validation chooses.
    """

    side: int = 16
    ahead: int = 4
    channels: int = 8
    kernel: int = 5
    hidden: int = 256
    rate: float = 1e-2
    updates: int = 400
    batch: int = 8
    seeds: int = 3
    held_out: tuple[int, int] = (300, 1000)
    lags: tuple[int, ...] = (1, 2, 3, 4, 5)


QUICK = Plan(12, 2, 2, 3, 4, updates=4, batch=2, seeds=2, held_out=(4, 6), lags=(1, 2))


def images(part: str, plan: Plan) -> np.ndarray:
    """Films ``[READ + AHEAD, N, side, side]`` of the digits of one part."""
    count = plan.held_out[part == "test"]
    films = Films(part, Motion(plan.side, READ + AHEAD), count, 1)[0]
    return films.reshape(READ + AHEAD, count, plan.side, plan.side)


def squared_errors(forecast: Forecast, films: np.ndarray) -> np.ndarray:
    """The sum over the pixels of a frame, mean of all films, ``[seeds, AHEAD]``."""
    errors = forecast(films[:READ]) - films[READ:]
    return np.sum(errors**2, axis=(3, 4)).mean(axis=2)


def network(name: str, plan: Plan) -> Forecast:
    """Networks that are trained side by side, one for each seed."""
    shape = plan.side, plan.side
    cell: Any = rnnlab.LSTM(plan.hidden)
    if name == CONV:
        cell = rnnlab.ConvLSTM(plan.channels, shape=shape, kernel_size=plan.kernel)
    model = FilmModel(cell, plan.side**2, READ)
    motion = Motion(plan.side, READ + plan.ahead)
    films = Films("training", motion, plan.batch, plan.updates)
    params = trained_seeds(model, films, plan.rate, plan.updates, plan.seeds, init=model.init)

    @jax.jit
    def forecast(read: Any) -> Any:
        # One seed after the other: patches of all films of a test need much memory.
        return lax.map(lambda of_seed: model.forecast(of_seed, read, AHEAD), params)

    def of_images(read: np.ndarray) -> np.ndarray:
        ahead = forecast(read.reshape(*read.shape[:2], -1))
        return np.asarray(ahead).reshape(*ahead.shape[:3], *shape)

    return of_images


def each_film(forecast: Callable[[np.ndarray, int], np.ndarray]) -> Forecast:
    """A forecast of one film, for many."""

    def of_all(read: np.ndarray) -> np.ndarray:
        films = np.moveaxis(read, 1, 0)
        return np.stack([forecast(film, AHEAD) for film in films], axis=1)[None]

    return of_all


def forecasts(plan: Plan) -> tuple[dict[str, Forecast], dict[str, int]]:
    """All ways to go on, and the lags that validation chose."""
    validation = images("validation", plan)
    mean = Fixed(images("training", plan).mean(axis=(0, 1)))
    ways = {LAST: each_film(persistence), MEAN: each_film(mean.forecast)}
    lags = {}
    for name, has_walls in ((STRAIGHT, False), (BOUNCING, True)):
        trackers = {lag: each_film(Tracker(lag, has_walls).forecast) for lag in plan.lags}
        errors = {lag: squared_errors(of, validation).mean() for lag, of in trackers.items()}
        lags[name] = min(errors, key=lambda lag: errors[lag])
        ways[name] = trackers[lags[name]]
    return ways | {name: network(name, plan) for name in (FULL, CONV)}, lags


def run(quick: bool) -> Record:
    """The errors of all ways to go on, on the digits of the test."""
    rnnlab.quick_start()
    plan = QUICK if quick else Plan()
    with rnnlab.startup.kept_programs():
        ways, lags = forecasts(plan)
        films = images("test", plan)
        records: list[Record] = []
        for way, forecast in ways.items():
            errors = squared_errors(forecast, films).round(3).tolist()
            records.append({"way": way, "lag": lags.get(way), "squared_error": errors})
            print(f"{way:34}", *[f"{np.mean(values):.2f}" for values in errors], flush=True)
        one = films[:, :1]
        shown = {way: ways[way](one[:READ])[0, :, 0] for way in (CONV, FULL, BOUNCING, LAST)}
    return {
        "finding": finding(records, plan),
        "settings": plan._asdict() | {"read": READ, "frames_ahead": AHEAD},
        "records": records,
        "_film": one[:, 0],
        "_shown": shown,
    }


def finding(records: list[Record], plan: Plan) -> str:
    """The errors of the next frame and of all ten, and in how many the ConvLSTM is better."""
    errors = {row["way"]: np.array(row["squared_error"]) for row in records}

    def listed(places: slice) -> str:
        ways = (CONV, FULL, STRAIGHT, BOUNCING, MEAN, LAST)
        return ", ".join(
            f"{way} {spread(errors[way][:, places].mean(axis=1), '.2f')}" for way in ways
        )

    def lower(rival: str) -> str:
        shares = 1 - errors[CONV][:, 0] / errors[rival][:, 0].mean()
        return f"{spread(shares, '.0%')} below {rival}"

    gains = ", ".join(lower(rival) for rival in (LAST, STRAIGHT, BOUNCING, FULL))
    better = [
        f"{np.sum(errors[CONV].mean(axis=0) < errors[rival].mean(axis=0))} ({rival})"
        for rival in (LAST, STRAIGHT, BOUNCING, FULL, MEAN)
    ]
    return (
        f"Squared error of the next frame of a moving digit, mean and range of {plan.seeds} "
        f"seeds: {listed(slice(1))}. The ConvLSTM is {gains}. Mean of the next {AHEAD} frames, "
        f"each from the prediction before: {listed(slice(None))}. Of these {AHEAD} the ConvLSTM "
        f"has the lower error in {', '.join(better)}."
    )


def draw(result: Record, path: Path) -> None:
    """The errors by frames ahead, and one film with its forecasts."""
    with drawing(path, 1, 2, (15, 4.8)) as (figure, (left, right)):
        _errors(left, result["records"])
        _film(right, result["_film"], result["_shown"])
        title(figure, first_sentence(result["finding"]), 150)


def _errors(axes: Axes, records: list[Record]) -> None:
    for index, way in enumerate((LAST, STRAIGHT, BOUNCING, MEAN, FULL, CONV)):
        for seed, errors in enumerate(select(records, way=way)[0]["squared_error"]):
            style: Record = look(index) | {"markersize": 4, "linewidth": 1}
            frames = np.arange(1, len(errors) + 1)
            axes.plot(frames, errors, label=way if seed == 0 else None, **style)
    axes.set(xlabel="frames ahead", ylabel="squared error, sum over a frame; each seed", ylim=0)
    axes.set_xticks(range(1, AHEAD + 1))
    axes.legend(frameon=False, fontsize=8, ncols=2)
    grid_lines(axes)


def _film(axes: Axes, film: np.ndarray, shown: Record) -> None:
    """The truth from some frames before, and each forecast below the frames that it means."""
    before = 3
    rows = {"truth": film[READ - before :]} | shown
    for row, (way, frames) in enumerate(rows.items()):
        first = 0 if way == "truth" else before
        for place, frame in enumerate(frames, first):
            box = (place, place + 0.92, row + 0.92, row)
            axes.imshow(frame, cmap="gray_r", extent=box, vmin=0, vmax=1)
    columns = before + AHEAD
    axes.axvline(before - 0.04, color="0.5", linewidth=1)
    axes.set(xlim=(-0.1, columns), ylim=(len(rows), -0.1), aspect="equal", facecolor="0.9")
    axes.set_yticks(np.arange(len(rows)) + 0.46, [textwrap.fill(way, 17) for way in rows])
    axes.set_xticks(np.arange(columns) + 0.46, [str(n) for n in range(1 - before, AHEAD + 1)])
    axes.tick_params(length=0)
    axes.set(xlabel="frames ahead")
    axes.set_title("The first film of the test, first seed", fontsize=10)


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
