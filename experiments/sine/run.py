"""Sine waves continued by an RNN, an LSTM and a GRU, by autoregressions, and by the last number.

    python -m experiments.sine.run

A wave is sin(2π t / P + φ), with or without noise of 0.1. A forecaster reads 60 steps. It then
predicts each of 60 more steps, either from all numbers before (one step ahead) or from its own
predictions (free-running). The networks are trained on both errors, on periods P of 20 to 50 steps,
and tested on faster and slower waves too. All errors are taken against the wave without noise.

A sine obeys xₜ = 2 cos(2π/P) xₜ₋₁ − xₜ₋₂, so that an autoregression of order 2, fitted to the
first 60 steps of each wave, is exact without noise, at any period. With noise, least squares are
biased, and more lags help; their number is chosen on waves of a validation set.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from matplotlib.axes import Axes

import rnnlab
from experiments.common import Record, experiment, spread
from experiments.training import decayed_adam
from rnnlab.data import Batch
from rnnlab.models import forecaster, step_regressor
from rnnlab.models.forecaster import ForecasterParams
from rnnlab.models.sequence import SequenceParams
from rnnlab.report.figures.style import band, drawing, grid_lines, legend_below, look, plain, title
from rnnlab.studies.records import column, select
from rnnlab.training import TrainState, initial_state, train_step
from rnnlab.typing import Array, Key

READ, AHEAD = 60, 60
"""Steps that are read before the first prediction that counts, and steps that are predicted."""
RANGES = {"faster": (10, 20), "trained": (20, 50), "slower": (50, 100)}
"""Periods in steps."""
CELLS = {"RNN": rnnlab.RNN, "LSTM": rnnlab.LSTM, "GRU": rnnlab.GRU}
ORDERS = (2, 5, 10, 20)
CLEAN, NOISY = 0.0, 0.1
LEAST = 1e-4
"""Smaller errors are drawn here."""


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        steps: updates of each network.
        hidden: H.
        batch: B.
        seeds: of initial weights and training waves.
        periods: tested in each range.
        phases: waves of each period.
        cells: their names.
    """

    steps: int = 800
    hidden: int = 32
    batch: int = 32
    seeds: tuple[int, ...] = (0, 1, 2)
    periods: int = 8
    phases: int = 25
    cells: tuple[str, ...] = tuple(CELLS)


QUICK = Plan(steps=16, hidden=8, batch=8, seeds=(0, 1), periods=2, phases=4, cells=("GRU",))


class Waves(NamedTuple):
    """N waves, 120 steps of each.

    Attributes:
        periods: ``[N]``, in steps.
        clean: ``[120, N]``, what is to be predicted.
        seen: ``[120, N]``, with noise, what is read.
    """

    periods: np.ndarray
    clean: np.ndarray
    seen: np.ndarray


def waves(noise: float, plan: Plan, seed: int) -> Waves:
    """Waves of all ranges; their periods are spaced evenly on a log scale."""
    rng = np.random.default_rng(seed)
    places = (np.arange(plan.periods) + 0.5) / plan.periods
    ranges = [low * (high / low) ** places for low, high in RANGES.values()]
    periods = np.repeat(np.concatenate(ranges), plan.phases)
    phases = rng.uniform(0, 2 * np.pi, periods.size)
    time = np.arange(READ + AHEAD)[:, None]
    clean = np.sin(2 * np.pi * time / periods + phases)
    return Waves(periods, clean, clean + noise * rng.normal(size=clean.shape))


class Forecasts(NamedTuple):
    """Predictions of the last 60 steps, ``[60, N]`` each."""

    one_step: np.ndarray
    free: np.ndarray


Networks = dict[tuple[float, int], Forecasts]
"""Forecasts by noise and seed."""


def networks(name: str, tested: dict[float, Waves], plan: Plan) -> Networks:
    """The forecasts by noise and seed; all networks of a cell are trained in one program."""
    cell = CELLS[name](plan.hidden)
    each_step = step_regressor(cell, outputs=1)
    runner = forecaster(cell, horizon=AHEAD, outputs=1, feed_back=True)
    optimiser = decayed_adam(5e-3, plan.steps)

    def free(params: SequenceParams, seen: Array) -> Array:
        # The same weights, which read their own forecasts.
        weights = ForecasterParams(params.cell, params.readout)
        return runner.apply(weights, Batch(seen[:READ], None))

    def loss(params: SequenceParams, seen: Array, key: Key) -> tuple[Array, dict[str, Array]]:
        one_step, _ = each_step.loss(params, Batch(seen[:-1], seen[1:]), key)
        return one_step + jnp.mean((free(params, seen) - seen[READ:]) ** 2), {}

    def train(seed: Array, noise: Array, seen: Array) -> tuple[Array, Array]:
        k_init, k_train, k_waves = jax.random.split(jax.random.key(seed), 3)
        params = each_step.init(k_init, Batch(seen, None))
        step = train_step(loss, optimiser)

        def update(state: TrainState, index: Array) -> tuple[TrainState, None]:
            waves = training_waves(jax.random.fold_in(k_waves, index), noise, plan.batch)
            return step(state, waves)[0], None

        state = initial_state(params, optimiser, k_train)
        state, _ = lax.scan(update, state, jnp.arange(plan.steps))
        one_step = each_step.apply(state.params, Batch(seen[:-1], None))[READ - 1 :]
        return one_step[..., 0], free(state.params, seen)[..., 0]

    runs = [(noise, seed) for noise in tested for seed in plan.seeds]
    seeds = jnp.asarray([seed for _, seed in runs])
    noises = jnp.asarray([noise for noise, _ in runs], jnp.float32)
    seen = np.stack([np.float32(tested[noise].seen) for noise, _ in runs])[..., None]
    one_step, ahead = jax.device_get(jax.jit(jax.vmap(train))(seeds, noises, seen))
    pairs = [Forecasts(*pair) for pair in zip(one_step, ahead, strict=True)]
    return dict(zip(runs, pairs, strict=True))


def training_waves(key: Key, noise: Array, count: int) -> Array:
    """Waves with periods as in training, ``[120, N, 1]``."""
    k_period, k_phase, k_noise = jax.random.split(key, 3)
    low, high = np.log(RANGES["trained"])
    periods = jnp.exp(jax.random.uniform(k_period, (count,), jnp.float32, low, high))
    phases = 2 * jnp.pi * jax.random.uniform(k_phase, (count,), jnp.float32)
    time = jnp.arange(READ + AHEAD)[:, None]
    clean = jnp.sin(2 * jnp.pi * time / periods + phases)
    return (clean + noise * jax.random.normal(k_noise, clean.shape, jnp.float32))[..., None]


def autoregression(seen: np.ndarray, order: int) -> Forecasts:
    """Forecasts with weights that are fitted to the first 60 steps of each wave alone."""
    one_step, free = [], []
    for wave in seen.T:
        rows = np.lib.stride_tricks.sliding_window_view(wave, order)[:-1]
        known = READ - order
        weights = np.linalg.lstsq(rows[:known], wave[order:READ], rcond=None)[0]
        one_step.append(rows[known:] @ weights)
        values = list(wave[:READ])
        for _ in range(AHEAD):
            values.append(weights @ values[-order:])
        free.append(values[READ:])
    return Forecasts(np.array(one_step).T, np.array(free).T)


def persistence(seen: np.ndarray) -> Forecasts:
    """The last number."""
    return Forecasts(seen[READ - 1 : -1], np.broadcast_to(seen[READ - 1], (AHEAD, seen.shape[1])))


def chosen_order(noise: float, plan: Plan) -> int:
    """The order with the least free-running error on other waves of the trained periods."""
    validation = waves(noise, plan, seed=1)
    is_trained = _within(validation.periods, "trained")

    def error(order: int) -> float:
        free = autoregression(validation.seen[:, is_trained], order).free
        return _rmse(free, validation.clean[READ:, is_trained])

    return min(ORDERS, key=error)


def _within(periods: np.ndarray, name: str) -> np.ndarray:
    low, high = RANGES[name]
    return (periods > low) & (periods < high)


def _rmse(forecasts: np.ndarray, clean: np.ndarray) -> float:
    return float(np.sqrt(np.mean((forecasts - clean) ** 2)))


def score(forecasts: Forecasts, tested: Waves) -> Record:
    """RMSE in each range of periods, and at each period."""
    record: Record = {}
    for kind, values in forecasts._asdict().items():
        record[kind] = {}
        for name in RANGES:
            part = _within(tested.periods, name)
            record[kind][name] = _short(_rmse(values[:, part], tested.clean[READ:, part]))
        by_period = []
        for period in np.unique(tested.periods):
            part = tested.periods == period
            by_period.append(_short(_rmse(values[:, part], tested.clean[READ:, part])))
        record[f"{kind}_by_period"] = by_period
    return record


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def baselines(tested: Waves, order: int) -> dict[str, Forecasts]:
    """The forecasts without a network."""
    forecasts = {"last number": persistence(tested.seen)}
    for lags in sorted({2, order}):
        forecasts[f"AR({lags})"] = autoregression(tested.seen, lags)
    return forecasts


def run(quick: bool) -> Record:
    """Scores all forecasters, without noise and with it."""
    rnnlab.quick_start()
    plan = QUICK if quick else Plan()
    tested = {noise: waves(noise, plan, seed=0) for noise in (CLEAN, NOISY)}
    orders = {noise: chosen_order(noise, plan) for noise in tested}
    forecasts: dict[tuple[float, str, int | None], Forecasts] = {}
    for noise, part in tested.items():
        for name, values in baselines(part, orders[noise]).items():
            forecasts[noise, name, None] = values
    for name in plan.cells:
        for (noise, seed), values in networks(name, tested, plan).items():
            forecasts[noise, name, seed] = values
    runs = []
    for (noise, name, seed), values in forecasts.items():
        record = {"noise": noise, "side": name, "seed": seed, "chosen_order": orders[noise]}
        runs.append(record | score(values, tested[noise]))
        numbers = "".join(f"{runs[-1]['free'][part]:12.4g}" for part in RANGES)
        print(f"noise {noise}  {name:12} {seed if seed is not None else '-'}{numbers}")
    return {
        "finding": finding(runs, plan),
        "settings": plan._asdict() | {"ranges": RANGES, "read": READ, "ahead": AHEAD},
        "periods": np.unique(tested[CLEAN].periods).round(2).tolist(),
        "runs": runs,
    }


def finding(runs: list[Record], plan: Plan) -> str:
    """Free-running errors with noise, then those without."""
    noisy, clean = select(runs, noise=NOISY), select(runs, noise=CLEAN)
    order = f"AR({noisy[0]['chosen_order']})"
    rivals = list(dict.fromkeys(["last number", "AR(2)", order]))
    trained = [f"{name} {_range(noisy, name, 'free', 'trained')}" for name in plan.cells]
    others = [f"{name} {_range(noisy, name, 'free', 'trained')}" for name in rivals]
    best = min(plan.cells, key=lambda name: _mean(noisy, name, "free", "trained"))
    limit = min(_mean(noisy, name, "free", "trained") for name in rivals)
    won = [
        f"{name} {sum(row['free']['trained'] < limit for row in select(noisy, side=name))}"
        for name in plan.cells
    ]
    exact = max(select(clean, side="AR(2)")[0]["free"].values())
    without = [f"{name} {_range(clean, name, 'free', 'trained')}" for name in plan.cells]
    outside = [
        f"{kind} {_range(noisy, best, 'free', kind)} ({order} {_range(noisy, order, 'free', kind)})"
        for kind in ("faster", "slower")
    ]
    return (
        f"Free-running over {AHEAD} steps of a sine with noise of {NOISY}, at periods as in "
        f"training, the RMSE is {', '.join(trained)}, against {', '.join(others)}; seeds of "
        f"{len(plan.seeds)} below all of these: {', '.join(won)}. At other periods the best of "
        f"them, {best}, has: {', '.join(outside)}. Without noise AR(2) is exact, to {exact:.0e}, "
        f"at any period, and no network is: {', '.join(without)}."
    )


def _mean(runs: list[Record], name: str, kind: str, part: str) -> float:
    rows = select(runs, side=name)
    return float(np.mean([row[kind][part] for row in rows]))


def _range(runs: list[Record], name: str, kind: str, part: str) -> str:
    """The mean over the seeds, and their range."""
    values = [row[kind][part] for row in select(runs, side=name)]
    return spread(values, ".3f")


def draw(result: Record, path: Path) -> None:
    """Errors by period, one step ahead and free-running, without and with noise."""
    with drawing(path, 2, 2, (13, 8.5)) as (figure, panels):
        places = [(noise, kind) for noise in (CLEAN, NOISY) for kind in ("one_step", "free")]
        for axes, (noise, kind) in zip(panels, places, strict=True):
            _errors(axes, result, noise, kind)
        legend_below(figure, panels[3])
        title(figure, result["finding"].split(". At other")[0] + ".", 110)


def _errors(axes: Axes, result: Record, noise: float, kind: str) -> None:
    rows = select(result["runs"], noise=noise)
    sides = list(dict.fromkeys(column(rows, "side")))
    for name in sides:
        points = []
        for record in select(rows, side=name):
            # Rounding errors alone would stretch the axis over fifteen decades.
            errors = np.maximum(record[f"{kind}_by_period"], LEAST)
            points += list(zip(result["periods"], errors.tolist(), strict=True))
        band(axes, points, marks=8, name=name, **look(_index(name)))
    axes.axvspan(*RANGES["trained"], color="0.95", zorder=0)
    axes.set(xscale="log", yscale="log", xlabel="period (steps); grey: trained", ylabel="RMSE")
    plain(axes.xaxis, (1, 2, 5))
    if noise:
        plain(axes.yaxis, (1, 2, 5))
    kinds = {"one_step": "One step ahead", "free": f"Free-running, {AHEAD} steps"}
    exact = " and ".join(name for name in sides if name.startswith("AR"))
    label = f"no noise; {exact} are exact"
    if noise:
        label = f"noise of {noise:g}; bands: range of the seeds"
    axes.set_title(f"{kinds[kind]}, {label}", fontsize=10)
    grid_lines(axes)


def _index(name: str) -> int:
    names = ("last number", "RNN", "LSTM", "GRU", "AR(2)")
    return names.index(name) if name in names else len(names)


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
