"""Points, oscillations and chaos in random and in trained networks.

    python -m experiments.attractors.run

Random: h_t = tanh(W h_{t−1}) without input, with W ~ N(0, g²/N), over gains and seeds; the kind of
the attractor of each start is that of ``attractor_kind``. Trained: an RNN that stores three bits
(the flip-flop task, Sussillo & Barak 2013), whose memories should be stable fixed points, and an
RNN that generates a sine wave without input, whose motion should be a stable cycle. Both are looked
for without input, by ``fixed_points`` and ``limit_cycles``.
"""

import collections
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes

import rnnlab
from experiments.common import Record, experiment
from rnnlab.diagnostics import (
    FixedPoints,
    attractor_kind,
    fixed_points,
    limit_cycles,
    lyapunov_spectrum,
    sample_states,
)
from rnnlab.report.figures.style import COLOURS, band, drawing, grid_lines, look, title
from rnnlab.typing import Array, Key, PyTree

GAINS = (0.5, 0.8, 1.0, 1.1, 1.2, 1.35, 1.5, 2.0, 3.0)
CHAOTIC = 2.0
KINDS = ("point", "oscillation", "chaos", "unsettled")
BITS, PERIOD, WAVE = 3, 12, 96
LEARNED = 0.05
"""The largest mean squared error of a wave that was learned; that of silence is ½."""
LOOK = {
    "stable": ("o", COLOURS[3]),
    "marginal": ("D", COLOURS[5]),
    "saddle": ("^", COLOURS[2]),
    "unstable": ("X", COLOURS[0]),
}
"""Marker and colour of each kind of fixed point."""


Sample = Callable[[Key], tuple[PyTree, Array, Array]]
"""``sample(key) -> (first states, inputs, targets)``."""
MEMORY, GENERATOR = rnnlab.RNN(16), rnnlab.RNN(32)


class Settings(NamedTuple):
    """The sizes of the experiment."""

    hidden: int  # units of the random networks
    gains: tuple[float, ...]
    seeds: int
    trained_seeds: int
    starts: int  # for each random network
    steps: int  # of burn-in, and measured
    updates: int  # of the training
    searches: int  # starts of a search for points or cycles


FULL = Settings(100, GAINS, 8, 5, 4, 1000, 1500, 256)
QUICK = Settings(12, (0.5, 2.0), 1, 1, 2, 200, 30, 16)


# Random networks


def random_networks(settings: Settings) -> list[Record]:
    """The kinds of all starts for each gain, and λ₁ of each seed."""
    rows = []
    print(f"{'g':>6}" + "".join(f"{kind:>13}" for kind in KINDS) + f"{'λ₁':>10}")
    for gain in settings.gains:
        counts: collections.Counter[str] = collections.Counter()
        exponents, periods = [], []
        for seed in range(settings.seeds):
            cell, params, starts = random_network(settings.hidden, gain, seed, settings.starts)
            ends = attractor_kind(
                jax.random.key(seed),
                cell,
                params,
                jnp.zeros(1),
                starts,
                burn_in=settings.steps,
                steps=settings.steps,
            )
            counts.update(ends.kind)
            exponents.append(float(ends.exponent.mean()))
            periods += ends.period[np.array(ends.kind) == "oscillation"].tolist()
        row = {"gain": gain, "exponents": exponents, "periods": periods}
        rows.append(row | {kind: counts[kind] for kind in KINDS})
        numbers = "".join(f"{counts[kind]:13}" for kind in KINDS)
        print(f"{gain:6g}{numbers}{np.mean(exponents):10.4f}")
    return rows


def random_network(
    hidden: int, gain: float, seed: int, count: int
) -> tuple[rnnlab.RNN, PyTree, PyTree]:
    """A network of gain g, and starts from the standard normal distribution."""
    k_weights, k_starts = jax.random.split(jax.random.key(seed))
    cell = rnnlab.RNN(hidden, bias=False)
    params = cell.init(k_weights, 1)
    w_h = gain / math.sqrt(hidden) * jax.random.normal(k_weights, (hidden, hidden))
    starts = cell.initial_state((count,))._replace(h=jax.random.normal(k_starts, (count, hidden)))
    return cell, params._replace(w_h=w_h), starts


# Training


def trained(
    cell: rnnlab.RNN, outputs: int, sample: Sample, seeds: int, updates: int
) -> tuple[PyTree, Array]:
    """The parameters of cell and readout of all seeds, and their last mean squared errors."""
    readout = rnnlab.Readout(outputs)
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(0.01, updates))
    )

    @jax.jit
    @jax.vmap
    def train(key: Key) -> tuple[PyTree, Array]:
        k_cell, k_readout, k_data = jax.random.split(key, 3)

        def update(carry: tuple, key: Key) -> tuple[tuple, Array]:
            params, state = carry
            start, xs, targets = sample(key)

            def loss(params: PyTree) -> Array:
                _, ys = rnnlab.unroll(cell, params[0], xs, start)
                return jnp.mean((readout(params[1], ys) - targets) ** 2)

            error, gradient = jax.value_and_grad(loss)(params)
            change, state = optimiser.update(gradient, state)
            return (optax.apply_updates(params, change), state), error

        inputs = sample(k_data)[1].shape[-1]
        params: PyTree = (cell.init(k_cell, inputs), readout.init(k_readout, cell.hidden_size))
        keys = jax.random.split(k_data, updates)
        carry, errors = jax.lax.scan(update, (params, optimiser.init(params)), keys)
        return carry[0], errors[-1]

    return train(jax.vmap(jax.random.key)(jnp.arange(seeds)))


def flip_flop(key: Key) -> tuple[PyTree, Array, Array]:
    """First states, pulses, and what they leave behind."""
    batch = rnnlab.tasks.flip_flop(64, BITS).sample(key, 32)
    return MEMORY.initial_state((32,)), batch.xs, batch.targets


def sine(key: Key) -> tuple[PyTree, Array, Array]:
    """First states close to zero, no input, and a sine wave."""
    wave = jnp.sin(2 * jnp.pi * jnp.arange(1, WAVE + 1) / PERIOD)
    targets = jnp.broadcast_to(wave[:, None, None], (WAVE, 8, 1))
    # The noise trains the motion to attract what is near it.
    noise = 0.1 * jax.random.normal(key, (8, GENERATOR.hidden_size))
    return GENERATOR.initial_state((8,))._replace(h=noise), jnp.zeros((WAVE, 8, 1)), targets


def memories(settings: Settings) -> tuple[list[Record], Record]:
    """The fixed points of each network that was trained on the flip-flop task, and a portrait."""
    seeds = settings.trained_seeds
    params, errors = trained(MEMORY, BITS, flip_flop, seeds, settings.updates // 2)
    rows, portraits = [], []
    for seed in range(seeds):
        of_cell, of_readout = jax.tree.map(lambda leaf, seed=seed: leaf[seed], params)
        _, xs, _ = flip_flop(jax.random.key(100 + seed))
        states, _ = rnnlab.unroll_states(MEMORY, of_cell, xs)
        key = jax.random.key(seed)
        starts = sample_states(key, states, settings.searches, noise=1.0)
        points = found(fixed_points, MEMORY, of_cell, jnp.zeros(BITS), starts)
        stored = np.sign(points.states @ of_readout.w + of_readout.b)[points.unstable == 0]
        few = sample_states(key, states, 32)
        ends = attractor_kind(
            key, MEMORY, of_cell, jnp.zeros(BITS), few, burn_in=settings.steps, steps=settings.steps
        )
        kinds = collections.Counter(points.kind)
        rows.append(
            {
                "error": float(errors[seed]),
                "points": dict(kinds),
                "memories": len(np.unique(stored, axis=0)),
                "ends": dict(collections.Counter(ends.kind)),
                "exponent": float(ends.exponent.max()),
            }
        )
        print(f"flip-flop {seed}: {rows[-1]}")
        portraits.append((of_cell, few, points))
    return rows, portrait(MEMORY, *portraits[0], steps=40)


def waves(settings: Settings) -> tuple[list[Record], Record]:
    """The cycles of each network that was trained to generate a sine wave, and a portrait."""
    seeds = settings.trained_seeds
    params, errors = trained(GENERATOR, 1, sine, seeds, settings.updates)
    rows, portraits = [], []
    for seed in range(seeds):
        of_cell, of_readout = jax.tree.map(lambda leaf, seed=seed: leaf[seed], params)
        key = jax.random.key(seed)
        start = GENERATOR.initial_state((32,))
        # The first half starts near the trained motion, the second anywhere.
        noise = jax.random.normal(key, (32, GENERATOR.hidden_size)).at[:16].multiply(0.1)
        starts = start._replace(h=noise)
        ends = attractor_kind(
            key, GENERATOR, of_cell, jnp.zeros(1), starts, burn_in=settings.steps,
            steps=settings.steps,
        )  # fmt: skip
        steps = jnp.zeros((2 * settings.steps, 32, 1))
        states, hs = rnnlab.unroll_states(GENERATOR, of_cell, steps, starts)
        outputs = np.asarray(rnnlab.Readout(1)(of_readout, hs))[settings.steps :, 0, 0]
        late = jax.tree.map(lambda leaf: leaf[settings.steps :], states)
        near = sample_states(key, late, settings.searches)
        cycles = found(limit_cycles, GENERATOR, of_cell, jnp.zeros(1), near, periods=(PERIOD,))
        points = found(fixed_points, GENERATOR, of_cell, jnp.zeros(1), near)
        rows.append(
            {
                "error": float(errors[seed]),
                "ends": dict(collections.Counter(ends.kind)),
                "periods": sorted(set(ends.period.tolist())),
                "exponents": [float(ends.exponent.min()), float(ends.exponent.max())],
                "mean_period": mean_period(outputs),
                "amplitude": float(np.abs(outputs).max()),
                "cycles": [
                    {"kind": kind, "multipliers": np.abs(values[:2]).tolist()}
                    for kind, values in zip(cycles.kind, cycles.multipliers, strict=True)
                ],
                "points": dict(collections.Counter(points.kind)),
            }
        )
        print(f"sine {seed}: {rows[-1]}")
        portraits.append((of_cell, starts, points))
    shown = next((place for place, row in enumerate(rows) if only_oscillates(row)), 0)
    drawn = portrait(GENERATOR, *portraits[shown], steps=10 * PERIOD)
    return rows, drawn | {"mean_period": rows[shown]["mean_period"]}


def only_oscillates(row: Record) -> bool:
    """Whether every start ends in an oscillation."""
    return set(row["ends"]) == {"oscillation"}


def mean_period(outputs: np.ndarray) -> float | None:
    """The mean number of steps between two upward zero crossings; None without two of them."""
    before, after = outputs[:-1], outputs[1:]
    (ups,) = np.nonzero((before < 0) & (after >= 0))
    if len(ups) < 2:
        return None
    # Between two samples the crossing is interpolated.
    times = ups + before[ups] / (before[ups] - after[ups])
    return float((times[-1] - times[0]) / (len(times) - 1))


def found(search: Any, *args: Any, **options: Any) -> Any:
    """The result of a search, which may be empty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return search(*args, **options)


def chaotic(settings: Settings) -> tuple[Record, Record]:
    """One random network of a large gain: its exponents and fixed points, and a portrait."""
    cell, params, starts = random_network(settings.hidden, CHAOTIC, 0, 4)
    xs = jnp.zeros((2 * settings.steps, 4, 1))
    spectrum = lyapunov_spectrum(cell, params, xs, starts, count=3, burn_in=settings.steps)
    states, _ = rnnlab.unroll_states(cell, params, xs, starts)
    near = sample_states(jax.random.key(0), states, settings.searches // 8)
    points = found(fixed_points, cell, params, jnp.zeros(1), near)
    last = jax.tree.map(lambda leaf: leaf[-1, :1], states)
    row = {
        "gain": CHAOTIC,
        "exponents": np.asarray(spectrum.mean).tolist(),
        "standard_error": float(np.asarray(spectrum.standard_error)[:, 0].mean()),
        "points": dict(collections.Counter(points.kind)),
    }
    print(f"random, g = {CHAOTIC:g}: {row}")
    return row, portrait(cell, params, last, points, steps=300)


def portrait(
    cell: rnnlab.RNN, params: PyTree, starts: PyTree, points: FixedPoints, steps: int
) -> Record:
    """Trajectories and fixed points in the plane of the first two principal components."""
    count = jax.tree.leaves(starts)[0].shape[0]
    inputs = params.w_x.shape[0]
    states, _ = rnnlab.unroll_states(cell, params, jnp.zeros((steps, count, inputs)), starts)
    paths = np.concatenate([np.asarray(starts.h)[None], np.asarray(states.h)])
    # The plane is that of the motion after its transient.
    flat = paths[steps // 2 :].reshape(-1, paths.shape[-1])
    centre = flat.mean(axis=0)
    _, sizes, axes = np.linalg.svd(flat - centre, full_matrices=False)
    variance = sizes**2 / np.sum(sizes**2)
    return {
        "variance": variance[:2].tolist(),
        "paths": np.round((paths - centre) @ axes[:2].T, 3).swapaxes(0, 1).tolist(),
        "points": np.round((points.states - centre) @ axes[:2].T, 3).tolist(),
        "kinds": list(points.kind),
    }


# Results


def run(quick: bool) -> Record:
    """All networks, and what the instruments find in them."""
    settings = QUICK if quick else FULL
    random = random_networks(settings)
    chaos, in_chaos = chaotic(settings)
    stored, in_memory = memories(settings)
    waving, in_wave = waves(settings)
    result = {
        "settings": settings._asdict(),
        "random": random,
        "chaotic": chaos,
        "flip_flop": stored,
        "sine": waving,
        "portraits": {"flip_flop": in_memory, "sine": in_wave, "chaos": in_chaos},
    }
    return {"finding": finding(result)} | result


def finding(result: Record) -> str:
    """One sentence for each kind of network."""
    total = sum(result["random"][0][kind] for kind in KINDS)
    parts = []
    for kind in ("point", "oscillation", "chaos"):
        gains = [row["gain"] for row in result["random"] if 2 * row[kind] > total]
        if gains:
            parts.append(f"{kind} at g = {_range(gains)}")
    random = "no kind has a majority at any gain" if not parts else "; ".join(parts)
    chaos = result["chaotic"]
    complete = sum(
        row["points"].get("stable", 0) == row["memories"] == 2**BITS for row in result["flip_flop"]
    )
    others = sum(kind != "point" for row in result["flip_flop"] for kind in row["ends"])
    learned = [row for row in result["sine"] if row["error"] < LEARNED]
    closed = [row for row in learned if only_oscillates(row)]
    cyclic = [row for row in learned if any(one["kind"] == "stable" for one in row["cycles"])]
    return (
        f"Random networks by the majority of {total} starts at each gain: {random}; "
        f"λ₁ = {chaos['exponents'][0]:+.3f} nats per step in one with g = {chaos['gain']:g}. "
        f"Of {len(result['flip_flop'])} networks trained on the flip-flop task, {complete} have "
        f"exactly {2**BITS} stable fixed points, one for each memory, and "
        f"{'every trajectory ends' if not others else 'not every trajectory ends'} at a point. "
        f"Of {len(result['sine'])} networks trained to generate a sine wave of period {PERIOD}, "
        f"{len(learned)} learned it (squared error below {LEARNED:g}); {len(cyclic)} of these have "
        f"a stable cycle of exactly {PERIOD} steps, and {len(closed)} oscillate from every start."
    )


def _range(gains: list[float]) -> str:
    return f"{gains[0]:g}" if len(gains) == 1 else f"{gains[0]:g} to {gains[-1]:g}"


def draw(result: Record, path: Path) -> None:
    """The kinds by the gain, and three portraits."""
    with drawing(path, 2, 2, (12, 9.6)) as (figure, (kinds, memory, wave, chaos)):
        _kinds(kinds, result["random"])
        portraits = result["portraits"]
        count = len(portraits["flip_flop"]["kinds"])
        _portrait(memory, portraits["flip_flop"], f"flip-flop task: {count} fixed points")
        period = portraits["sine"]["mean_period"]
        name = "no oscillation" if period is None else f"a cycle of {period:.3f} steps"
        _portrait(wave, portraits["sine"], f"sine generation: {name}")
        exponent = result["chaotic"]["exponents"][0]
        text = f"random, g = {CHAOTIC:g}: λ₁ = {exponent:+.3f} nats per step"
        _portrait(chaos, portraits["chaos"], text)
        title(figure, headline(result["random"]), 100)


def headline(rows: list[Record]) -> str:
    """The gains at which all starts are of one kind."""
    parts = []
    for kind, text in (("point", "rest up to"), ("chaos", "are chaotic from")):
        gains = [row["gain"] for row in rows if row[kind] == sum(row[name] for name in KINDS)]
        if gains:
            parts.append(f"{text} g = {gains[-1] if kind == 'point' else gains[0]:g}")
    if not parts:
        return "Without input a network rests, oscillates or moves chaotically"
    return f"Without input, all starts of random networks {' and '.join(parts)}"


def _kinds(axes: Axes, rows: list[Record]) -> None:
    places = np.arange(len(rows))
    total = sum(rows[0][kind] for kind in KINDS)
    bottom = np.zeros(len(rows))
    colours = dict(zip(KINDS, (COLOURS[3], COLOURS[5], COLOURS[2], COLOURS[8]), strict=True))
    for kind in KINDS:
        shares = np.array([row[kind] for row in rows]) / total
        axes.bar(places, shares, bottom=bottom, color=colours[kind], label=kind)
        bottom += shares
    axes.set_xticks(places, [f"{row['gain']:g}" for row in rows])
    axes.set(xlabel="gain g", ylabel="share of the starts", ylim=(0, 1))
    axes.set_title("random networks", fontsize=11)
    right = axes.twinx()
    exponents = []
    for place, row in zip(places, rows, strict=True):
        exponents += [(float(place), value) for value in row["exponents"]]
    band(right, exponents, name="λ₁", **look(0))
    right.axhline(0, color="0.3", linewidth=0.6, linestyle=":")
    right.set_ylabel("λ₁ (nats per step); band: range of the seeds")
    right.spines["right"].set_visible(True)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles + right.get_legend_handles_labels()[0], [*labels, "λ₁"], fontsize=8,
        loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=5, frameon=False,
    )  # fmt: skip


def _portrait(axes: Axes, record: Record, text: str) -> None:
    for index, line in enumerate(np.array(record["paths"])):
        axes.plot(*line.T, color=COLOURS[1], linewidth=0.6, alpha=0.6)
        name = "start" if index == 0 else None
        axes.plot(*line[0], ".", color="0.6", markersize=5, label=name)
    points = np.array(record["points"]).reshape(-1, 2)
    for kind, (marker, colour) in LOOK.items():
        chosen = points[[name == kind for name in record["kinds"]]]
        if len(chosen):
            axes.plot(
                *chosen.T, marker, color=colour, markersize=8, markeredgecolor="white",
                label=f"{len(chosen)} {kind} fixed point{'s' if len(chosen) > 1 else ''}",
            )  # fmt: skip
    shares = record["variance"]
    axes.set(
        xlabel=f"first principal component ({shares[0]:.0%} of the variance)",
        ylabel=f"second ({shares[1]:.0%})",
    )
    axes.set_title(text, fontsize=11)
    grid_lines(axes)
    axes.legend(fontsize=8, frameon=False)


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
