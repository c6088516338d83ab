"""The bound on products of Jacobians, beside products that were measured.

    python -m experiments.bound.run

h_t = W φ(h_{t−1}) + W_x x_t has the Jacobian ∂h_t/∂h_{t−1} = W diag(φ′(h_{t−1})), so that
‖∂h_t/∂h_k‖ ≤ (γ σ_max)^(t−k), with γ = 1 for tanh and ¼ for logistic units (Pascanu, Mikolov &
Bengio 2013, arXiv 1211.5063). For Gaussian weights of standard deviation g/√N, σ_max ≈ 2 g while
the spectral radius is ≈ g: the bound proves that gradients vanish for g < ½, where without inputs
the transition is at g = 1. Networks are random, over gains, seeds and two sizes of the inputs, and
trained, on the flip-flop task.
"""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes

import rnnlab
from experiments.common import Record, experiment
from rnnlab.diagnostics import PascanuBound, pascanu_bound
from rnnlab.report.figures.style import (
    COLOURS,
    band,
    drawing,
    grid_lines,
    look,
    reference_line,
    title,
)
from rnnlab.typing import Array, Key, PyTree

LAGS = (1, 5, 20, 50, 100)
STEPS = 120
EXAMPLES = 2
INPUTS = 4
SIZES = (0.01, 1.0)
"""Standard deviations of what the inputs add to every unit."""
GAINS = {
    "tanh": (0.3, 0.4, 0.5, 0.7, 0.9, 1.0, 1.1, 1.3, 1.6, 2.0),
    "sigmoid": (1.0, 2.0, 3.6, 5.0, 7.0, 10.0, 14.0, 20.0),
}
ROUNDING = 1e-9
"""Nats by which rounding in float64 may lift a norm above a bound that it attains."""


def measure(kind: str, hidden: int, weights: PyTree, xs: Array, start: Array) -> PascanuBound:
    """The bound and the norms of each of R networks; leaves ``[R, …]``."""
    cell = cell_of(kind, hidden)
    pairs = [(STEPS, STEPS - lag) for lag in LAGS]

    def of_network(params: PyTree, xs: Array, start: Array) -> PascanuBound:
        state = cell.initial_state()._replace(h=start)
        return pascanu_bound(cell, params, xs, state, pairs=pairs)

    return jax.device_get(jax.vmap(of_network)(weights, xs, start))


def cell_of(kind: str, hidden: int) -> rnnlab.RNN:
    """A cell whose state is the input of the nonlinearity."""
    return rnnlab.RNN(
        hidden, activation=kind, form="output-state", bias=False, param_dtype=jnp.float64
    )


def random_networks(kind: str, hidden: int, seeds: int, size: float) -> list[Record]:
    """The bound and the measured norms over all gains and seeds."""
    gains = [gain for gain in GAINS[kind] for _ in range(seeds)]
    drawn = jax.vmap(lambda key: draw_one(key, kind, hidden, size))(
        jax.vmap(jax.random.key)(jnp.arange(seeds))
    )
    params, xs, starts = jax.tree.map(
        lambda leaf: jnp.tile(leaf, (len(GAINS[kind]), *(1,) * (leaf.ndim - 1))), drawn
    )
    params = params._replace(w_h=params.w_h * jnp.asarray(gains)[:, None, None])
    bound = measure(kind, hidden, params, xs, starts)
    return [record(bound, index, gain, index % seeds) for index, gain in enumerate(gains)]


def draw_one(key: Key, kind: str, hidden: int, size: float) -> tuple[PyTree, Array, Array]:
    """Parameters with g = 1, inputs ``[T, B, I]`` and first states ``[B, H]`` of one seed."""
    k_w, k_x, k_xs, k_start = jax.random.split(key, 4)
    params = cell_of(kind, hidden).init(k_w, INPUTS)
    w_h = jax.random.normal(k_w, (hidden, hidden), jnp.float64) / math.sqrt(hidden)
    w_x = jax.random.normal(k_x, (INPUTS, hidden), jnp.float64) * size / math.sqrt(INPUTS)
    xs = jax.random.normal(k_xs, (STEPS, EXAMPLES, INPUTS), jnp.float64)
    start = jax.random.normal(k_start, (EXAMPLES, hidden), jnp.float64)
    return params._replace(w_h=w_h, w_x=w_x), xs, start


def record(bound: PascanuBound, index: int, gain: float | None, seed: int) -> Record:
    """The numbers of one network."""
    norms = np.median(bound.log_norm[index], axis=-1)
    above = bound.log_norm[index] - bound.log_bound[index][:, None]
    rate = (norms[-1] - norms[LAGS.index(20)]) / (LAGS[-1] - 20)
    return {
        "gain": gain,
        "seed": seed,
        "sigma_max": float(bound.sigma_max[index]),
        "spectral_radius": float(bound.spectral_radius[index]),
        "factor": float(bound.gamma[index] * bound.sigma_max[index]),
        "log_norm": norms.tolist(),
        "log_bound": bound.log_bound[index].tolist(),
        "rate": float(rate),
        "products": int(above.size),
        "violations": int((above > ROUNDING).sum()),
        "closest": float(above.max()),
    }


def trained_networks(hidden: int, seeds: int, updates: int) -> list[Record]:
    """The same before and after training on the flip-flop task."""
    task = rnnlab.tasks.flip_flop(64, 3)
    cell = rnnlab.RNN(hidden, form="output-state", bias=False)
    model = rnnlab.models.for_task(task, cell)
    optimiser = optax.adam(optax.cosine_decay_schedule(0.01, updates))

    @jax.jit
    @jax.vmap
    def train(key: Key) -> tuple[PyTree, PyTree, Array]:
        k_init, k_data = jax.random.split(key)
        first = model.init(k_init, task.sample(k_data, 32))
        step = rnnlab.training.train_step(model.loss, optimiser)
        state = rnnlab.training.initial_state(first, optimiser, k_data)

        def update(state: Any, key: Key) -> tuple[Any, Array]:
            state, metrics = step(state, task.sample(key, 32))
            return state, metrics["loss"]

        state, losses = jax.lax.scan(update, state, jax.random.split(k_data, updates))
        return first.cell, state.params.cell, losses[-1]

    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))
    before, after, losses = train(keys)
    wide = rnnlab.tasks.flip_flop(STEPS, 3)
    xs = jax.vmap(lambda key: wide.sample(jax.random.fold_in(key, 1), EXAMPLES).xs)(keys)
    rows = []
    for phase, params in (("before", before), ("after", after)):
        double = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (params, xs))
        start = jnp.zeros((seeds, EXAMPLES, hidden))
        bound = measure("tanh", hidden, double[0], double[1], start)
        for seed in range(seeds):
            row = record(bound, seed, None, seed)
            rows.append(row | {"phase": phase, "loss": float(losses[seed])})
    return rows


def transition(rows: list[Record]) -> float | None:
    """The gain at which the mean rate crosses zero, interpolated; None where it does not."""
    gains = sorted({row["gain"] for row in rows})
    rates = [np.mean([row["rate"] for row in rows if row["gain"] == gain]) for gain in gains]
    for low, high, before, after in zip(gains, gains[1:], rates, rates[1:], strict=False):
        if before < 0 <= after:
            return float(low + (high - low) * before / (before - after))
    return None


def run(quick: bool) -> Record:
    """All networks; the finding counts the violations."""
    hidden, seeds, updates = (10, 2, 20) if quick else (64, 5, 500)
    with jax.enable_x64(True):
        random = []
        for kind in GAINS:
            for size in SIZES:
                rows = random_networks(kind, hidden, seeds, size)
                random.append({"kind": kind, "size": size, "rows": rows})
                tell(random[-1])
        trained = trained_networks(min(hidden, 50), seeds, updates)
    result = {
        "hidden": hidden,
        "seeds": seeds,
        "updates": updates,
        "lags": LAGS,
        "random": random,
        "trained": trained,
    }
    return {"finding": finding(result)} | result


def tell(group: Record) -> None:
    """Prints the means over the seeds."""
    print(f"{group['kind']}, inputs of {group['size']:g}")
    print(f"{'g':>6}{'γ σ_max':>10}{'radius':>9}{'bound':>9}{'measured':>10}   nats/step")
    for gain in GAINS[group["kind"]]:
        rows = [row for row in group["rows"] if row["gain"] == gain]
        means = {
            name: np.mean([row[name] for row in rows])
            for name in rows[0]
            if name in ("factor", "spectral_radius", "rate")
        }
        print(
            f"{gain:6g}{means['factor']:10.3f}{means['spectral_radius']:9.3f}"
            f"{math.log(means['factor']):9.3f}{means['rate']:10.3f}"
        )


def headline(result: Record) -> str:
    """How many products are above the bound, and how far the median one is below it."""
    rows = [row for group in result["random"] for row in group["rows"]] + result["trained"]
    count = sum(row["products"] for row in rows)
    broken = sum(row["violations"] for row in rows)
    gaps = [row["log_bound"][-1] - row["log_norm"][-1] for row in rows]
    return (
        f"{broken} of {count} products of Jacobians are above their bound; over {LAGS[-1]} steps "
        f"the median network is {np.median(gaps):.0f} nats below it"
    )


def finding(result: Record) -> str:
    """How far the products are below the bound, and where both say that gradients vanish."""
    weak, strong, logistic, _ = result["random"]
    ratio = np.mean([row["sigma_max"] / row["gain"] for row in weak["rows"]])
    places = [_place(group) for group in (weak, strong, logistic)]
    middle = [row for row in logistic["rows"] if row["gain"] == 3.6]
    factor = np.mean([row["factor"] for row in middle])
    rate = np.mean([row["rate"] for row in middle])
    before, after = (_phase(result["trained"], phase) for phase in ("before", "after"))
    return (
        f"{headline(result)}. For tanh the bound proves that gradients vanish only below "
        f"g = {1 / ratio:.2f} (σ_max = {ratio:.2f} g), but they vanish {places[0]} with weak "
        f"inputs and {places[1]} with strong ones. Logistic units "
        f"with 3.6/√N have γ σ_max = {factor:.2f}, which allows growth, and a measured change of "
        f"{rate:+.2f} nats per step; they vanish {places[2]}. Training on the flip-flop task "
        f"took γ σ_max from {before[0]:.2f} to {after[0]:.2f}, and the measured change from "
        f"{before[1]:+.2f} to {after[1]:+.2f} nats per step."
    )


def _place(group: Record) -> str:
    """The gains at which gradients vanish."""
    place = transition(group["rows"])
    if place is not None:
        return f"up to g = {place:.2f}"
    last = GAINS[group["kind"]][-1]
    return f"at all gains up to {last:g}" if group["rows"][-1]["rate"] < 0 else "at no gain"


def _phase(rows: list[Record], phase: str) -> tuple[float, float]:
    chosen = [row for row in rows if row["phase"] == phase]
    factor = np.mean([row["factor"] for row in chosen])
    return float(factor), float(np.mean([row["rate"] for row in chosen]))


def draw(result: Record, path: Path) -> None:
    """Bound and norms by the lag, the rates by the gain, and the trained networks."""
    with drawing(path, 1, 3, (15, 4.8)) as (figure, (left, middle, right)):
        _by_lag(left, result)
        _by_gain(middle, result["random"][:2])
        _by_gain(right, result["random"][2:])
        for axes in (left, middle, right):
            grid_lines(axes)
            axes.legend(frameon=False, fontsize=8)
        title(figure, headline(result), 130)


def _by_lag(axes: Axes, result: Record) -> None:
    rows = result["random"][0]["rows"]
    for place, gain in enumerate((0.4, 0.7, 1.3)):
        chosen = [row for row in rows if row["gain"] == gain]
        bounds = np.mean([row["log_bound"] for row in chosen], axis=0)
        axes.plot(result["lags"], bounds, "--", color=COLOURS[place], linewidth=1)
        for index, row in enumerate(chosen):
            name = f"g = {gain:g}" if index == 0 else None
            axes.plot(result["lags"], row["log_norm"], color=COLOURS[place], label=name)
    axes.plot([], [], "--", color="0.5", label="bound")
    axes.set(xlabel="lag t − k (steps)", ylabel="ln‖∂h_t/∂h_k‖", xlim=(0, 50), ylim=(-60, 60))
    axes.set_title("tanh, weak inputs; a line for each seed", fontsize=10)


def _by_gain(axes: Axes, groups: list[Record]) -> None:
    kind = groups[0]["kind"]
    bounds = [(row["gain"], math.log(row["factor"])) for row in groups[0]["rows"]]
    band(axes, bounds, name="bound ln(γ σ_max)", color="0.4", linestyle="--")
    radii = groups[0]["rows"]
    gamma = radii[0]["factor"] / radii[0]["sigma_max"]
    points = [(row["gain"], math.log(gamma * row["spectral_radius"])) for row in radii]
    band(axes, points, name="ln(γ · spectral radius)", color="0.7", linestyle=":")
    for place, group in enumerate(groups):
        rates = [(row["gain"], row["rate"]) for row in group["rows"]]
        band(axes, rates, name=f"measured, inputs of {group['size']:g}", **look(place + 1))
    reference_line(axes, 0)
    axes.set(xlabel="gain g", ylabel="change of the norm (nats per step)", xscale="log")
    gains = GAINS[kind]
    axes.set_xticks(gains, [f"{gain:g}" for gain in gains], fontsize=8)
    axes.set_xticks([], minor=True)
    name = {"tanh": "tanh units", "sigmoid": "logistic units"}[kind]
    axes.set_title(f"{name}; bands: range of the seeds", fontsize=10)


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
