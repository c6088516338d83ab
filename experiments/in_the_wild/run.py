"""Published recurrent networks that ship inside pip packages, beside untrained ones of their shape.

    python -m experiments.in_the_wild.run

For each: the horizon of the gradient of the last output, λ₁ along its inputs, and, for a constant
input, the attractors, fixed points and cycles. The last part compares PyTorch and rnnlab on the
speaker encoder: where λ₁ is positive, the roundings of two exact libraries grow apart.

The packages are installed by hand, see README.md; those that are missing are left out, and named.
"""

import collections
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

import rnnlab
from experiments.common import Record, experiment
from experiments.in_the_wild import networks, sounds
from experiments.in_the_wild.networks import Published
from rnnlab.diagnostics import (
    attractor_kind,
    decay_per_step,
    fixed_points,
    gradient_flow,
    limit_cycles,
    lyapunov_spectrum,
    sample_states,
)
from rnnlab.report.figures.style import COLOURS, drawing, grid_lines, reference_line, title
from rnnlab.typing import Array, PyTree

UNTRAINED = 3
"""Untrained networks, whose horizons and exponents are measured."""
STARTS = 4
LARGEST = 1024
"""The largest state whose fixed points and cycles are searched for."""
NOISE = (0.03, 0.1, 0.3, 1.0)
"""Standard deviations of the noise on which two libraries are compared."""
NEAR_ZERO = 0.01
"""Nats per step: a factor of e in 100 steps."""
REST = 1000
"""Steps with a constant input before attractors are looked at, and while they are."""


# One network


def measure(network: Published, quick: bool) -> Record:
    """The trained network and untrained ones under the same instruments."""
    untrained_seeds = 1 if quick else UNTRAINED
    trained = along_inputs(network, network.params)
    untrained = [along_inputs(network, network.draw(seed)) for seed in range(untrained_seeds)]
    record: Record = {
        "name": network.name,
        "inputs": network.inputs,
        "resting": network.resting,
        "check": network.check,
        "steps": len(network.xs),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(network.params)),
        "trained": trained | at_rest(network, network.params, quick),
        "untrained": [untrained[0] | at_rest(network, network.draw(0), quick), *untrained[1:]],
    }
    record["sentence"] = sentence(record)
    print(f"{record['sentence']}\n")
    return record


def last_output(ys: Array, direction: Array) -> Array:
    """The component of the last output in a direction."""
    return jnp.sum(ys[-1] @ direction)


def along_inputs(network: Published, params: PyTree) -> Record:
    """The horizon and λ₁ on the inputs of the network."""
    cell, xs = network.cell, network.xs
    direction = jax.random.normal(jax.random.key(1), (cell.output_size,))
    flow = gradient_flow(cell, params, xs, last_output, direction)
    # Of layers, the last one: its gradient is what the loss sees first.
    log_norm = np.atleast_2d(flow.log_norm_by_lag)[-1]
    # The state settles in one pass over the inputs, directions align in the next.
    passes = jnp.tile(xs, (4, 1, 1))
    spectrum = lyapunov_spectrum(cell, params, passes, count=1, burn_in=len(xs), warm_up=len(xs))
    return {
        "horizon": int(np.atleast_1d(flow.horizon)[-1]),
        "lags": int(np.atleast_1d(flow.lags)[-1]),
        "decay": float(decay_per_step(jnp.asarray(log_norm))),
        "exponent": float(spectrum.mean[0]),
        "spread": float(spectrum.spread[0]),
    }


def at_rest(network: Published, params: PyTree, quick: bool) -> Record:
    """The attractors, fixed points and cycles under a constant input."""
    cell, x = network.cell, network.rest
    steps = 200 if quick else REST
    key = jax.random.key(0)
    states, _ = rnnlab.unroll_states(cell, params, network.xs)
    starts = sample_states(key, states, STARTS)
    ends = attractor_kind(key, cell, params, x, starts, burn_in=steps, steps=steps)
    constant = jnp.broadcast_to(x, (steps, STARTS, *x.shape))
    settled, _ = rnnlab.unroll(cell, params, constant, starts)
    size = sum(leaf[0].size for leaf in jax.tree.leaves(settled))
    points = None
    if size <= LARGEST and not quick:
        half = STARTS // 2
        both = jax.tree.map(lambda a, b: jnp.concatenate([a[:half], b[half:]]), starts, settled)
        points = points_of(layers_of(cell, params), x, layer_states(both))
    record: Record = {
        "ends": dict(collections.Counter(ends.kind)),
        "periods": sorted(set(ends.period.tolist())),
        "exponent_at_rest": float(ends.exponent.max()),
        "points": None if points is None else dict(collections.Counter(k for k, _ in points)),
        "slowest_modes": None if points is None else [steps for _, steps in points],
        "cycles": {},
    }
    periods = [period for period in record["periods"] if 1 < period <= 16][:2]
    if periods and points is not None:
        cycles = found(limit_cycles, cell, params, x, settled, periods=periods)
        record["cycles"] = {
            str(period): kind for period, kind in zip(cycles.periods, cycles.kind, strict=True)
        }
    return record


def layers_of(cell: Any, params: PyTree) -> list[tuple[Any, PyTree]]:
    """The layers of a stack with their parameters; a cell is one layer."""
    if isinstance(cell, rnnlab.layers.Stack):
        return list(zip(cell.cells, params.layers, strict=True))
    return [(cell, params)]


def layer_states(state: PyTree) -> list[PyTree]:
    """The states of the layers of a stack; that of a cell is one."""
    return list(state.layers) if hasattr(state, "layers") else [state]


def points_of(
    layers: list[tuple[Any, PyTree]], x: Array, starts: list[PyTree]
) -> list[tuple[str, float]]:
    """The kind of each fixed point of a stack, and the steps in which its slowest mode decays.

    A layer rests where the one below does, and reads its output, so that points are found layer by
    layer. The Jacobian is block triangular: its eigenvalues are those of all layers.
    """
    (cell, params), *above = layers
    points = found(fixed_points, cell, params, x, starts[0], steps=40)
    results = []
    for state, kind, times in zip(points.states, points.kind, points.time_constants, strict=True):
        own = kind, float(times[0])
        if not above:
            results.append(own)
            continue
        # The output is h, the last part of the state: all of it in a GRU, half in an LSTM.
        y = jnp.asarray(state[-cell.output_size :], x.dtype)
        results += [_weaker(own, other) for other in points_of(above, y, starts[1:])]
    return results


def _weaker(one: tuple[str, float], other: tuple[str, float]) -> tuple[str, float]:
    """The less stable kind of two layers, and the slower mode."""
    kinds = {one[0], other[0]}
    kind = next(kind for kind in ("saddle", "unstable", "marginal", "stable") if kind in kinds)
    if kind == "unstable" and len(kinds) > 1:
        kind = "saddle"
    # A negative time is one of growth.
    slower = max((one[1], other[1]), key=lambda time: (time < 0, time))
    return kind, slower


def found(search: Any, *args: Any, **options: Any) -> Any:
    """The result of a search, which may be empty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return search(*args, **options)


def sentence(record: Record) -> str:
    """What training did to one network."""
    trained, untrained = record["trained"], record["untrained"]
    horizons = [row["horizon"] for row in untrained]
    exponents = [row["exponent"] for row in untrained]
    before, after = float(np.mean(horizons)), trained["horizon"]
    change = "lengthened" if after > before else "shortened" if after < before else "kept"
    rose = "raised" if trained["exponent"] > float(np.mean(exponents)) else "lowered"
    return (
        f"{record['name'].capitalize()} ({record['inputs']}): training {change} the horizon to "
        f"{after} of {record['steps']} steps (untrained: {_between(horizons)}) and {rose} λ₁ to "
        f"{trained['exponent']:+.3f} nats per step (untrained: {_between(exponents, '+.3f')}); "
        f"with {record['resting']} as input its {STARTS} starts end as {_ends(trained)}, those of "
        f"an untrained one as {_ends(untrained[0])}."
    )


def _between(values: list[Any], form: str = "g") -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def _ends(record: Record) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in record["ends"].items())
    if record["points"] is None:
        return kinds
    points = [f"{count} {kind}" for kind, count in record["points"].items()]
    return f"{kinds} (fixed points: {', '.join(points) or 'none found'})"


# Two libraries


def two_libraries(quick: bool) -> list[Record]:
    """The speaker encoder in PyTorch and in rnnlab, on speech and on noise of several sizes."""
    if networks.missing("resemblyzer") or quick:
        return []
    network = networks.speaker_encoder()[0]
    noise = np.asarray(jax.random.normal(jax.random.key(0), network.xs.shape))
    inputs = {"speech": np.asarray(network.xs)}
    inputs |= {f"noise of {size:g}": np.float32(size) * noise for size in NOISE}
    records = []
    for name, xs in inputs.items():
        measured = along_inputs(network._replace(xs=jnp.asarray(xs)), network.params)
        record = {"inputs": name, "steps": len(xs)} | measured
        for bits in ("float32", "float64"):
            curve = difference(network, xs, np.dtype(bits))
            record[bits] = np.median(curve, axis=1).tolist()
            record[f"{bits}_last"] = [float(curve[-1].min()), float(curve[-1].max())]
        records.append(record)
        low, high = record["float32_last"]
        print(
            f"{name}: λ₁ = {record['exponent']:+.4f}, differences of {low:.1e} to {high:.1e} in "
            f"float32 and up to {record['float64_last'][1]:.1e} in float64"
        )
    return records


def difference(network: Published, xs: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """‖h of PyTorch − h of rnnlab‖ / ‖h‖ of the last layer, ``[T, B]``."""
    import torch

    module = torch.nn.LSTM(40, 256, 3)
    module.load_state_dict(rnnlab.interop.to_torch(network.cell, network.params))
    module = module.to(torch.float64 if dtype == np.float64 else torch.float32)
    with torch.no_grad():
        theirs = module(torch.from_numpy(xs.astype(dtype)))[0].numpy()
    with jax.enable_x64(dtype == np.float64):
        cell, params = rnnlab.interop.from_torch(module.state_dict())
        ours = np.asarray(rnnlab.unroll(cell, params, jnp.asarray(xs, dtype))[1])
    return np.linalg.norm(ours - theirs, axis=-1) / np.linalg.norm(theirs, axis=-1)


# All networks


def run(quick: bool) -> Record:
    """All packages that are installed; a quick run measures one network."""
    records, skipped = [], []
    for package, read, requirement in networks.published():
        reason = networks.missing(package)
        if reason is None and quick and (records or package != "g2p_en"):
            reason = f"{package} is left out of a quick run"
        if reason is not None:
            skipped.append(reason)
            print(f"{reason}; pip install --no-deps {requirement}")
            continue
        found_networks = read()[: 1 if quick else None]
        records += [measure(network, quick) for network in found_networks]
    result = {
        "untrained_seeds": 1 if quick else UNTRAINED,
        "starts": STARTS,
        "speech": sounds.speech()[1],
        "networks": records,
        "left_out": skipped,
        "libraries": two_libraries(quick),
    }
    return {"finding": finding(result)} | result


def finding(result: Record) -> str:
    """How many networks changed in which way."""
    records = result["networks"]
    if not records:
        return "None of the packages is installed, so nothing was measured."
    trained = [row["trained"] for row in records]
    untrained = [one for row in records for one in row["untrained"]]
    ends = {
        kind: [row["name"] for row in records if set(row["trained"]["ends"]) == {kind}]
        for kind in ("point", "oscillation", "chaos")
    }
    steps = records[0]["steps"]
    reaches = [row["horizon"] for row in trained]
    whole = sum(reach >= steps for reach in reaches)
    text = (
        f"In {whole} of {len(records)} published networks the gradient stays above 1/1000 over all "
        f"{steps} steps, with untrained weights it falls below after "
        f"{_all(untrained, 'horizon')} steps; λ₁ on their inputs is "
        f"{_all(trained, 'exponent', '+.3f')} nats per step, that of untrained networks "
        f"{_all(untrained, 'exponent', '+.3f')}: training brought it to within {NEAR_ZERO:g} of "
        f"zero in {near_zero(records)}. With a constant input all starts of "
        f"{_named(ends['point'])} come to rest within {2 * REST} steps, and those of "
        f"{_named(ends['chaos'])} are chaotic; of the untrained networks one of each shape was "
        f"followed, and {_resting(records)} of {len(records)} come to rest."
    )
    if result["libraries"]:
        text += f" {_two(result['libraries'])}"
    return text


def _resting(records: list[Record]) -> int:
    """The number of shapes whose untrained network comes to rest from every start."""
    return sum(set(row["untrained"][0]["ends"]) == {"point"} for row in records)


def near_zero(records: list[Record]) -> int:
    """The number of published networks whose λ₁ is close to zero."""
    return sum(abs(row["trained"]["exponent"]) < NEAR_ZERO for row in records)


def _all(rows: list[Record], name: str, form: str = "g") -> str:
    return _between([row[name] for row in rows], form)


def _two(libraries: list[Record]) -> str:
    """Where PyTorch and rnnlab differ most, and on speech."""
    speech, *noises = libraries
    most = max(noises, key=lambda row: row["float32_last"][1])
    low, high = most["float32_last"]
    return (
        f"PyTorch and rnnlab differ most on {most['inputs']} (λ₁ = {most['exponent']:+.3f}): by "
        f"{low:.0e} to {high:.0e} of the speaker encoder's output after {most['steps']} steps in "
        f"float32 and by up to {most['float64_last'][1]:.0e} in float64; on speech by up to "
        f"{speech['float32_last'][1]:.0e} in float32."
    )


def _named(names: list[str]) -> str:
    if not names:
        return "none"
    return ", ".join(f"the {name}" for name in names)


def draw(result: Record, path: Path) -> None:
    """Horizons and exponents of all networks, and the difference between two libraries."""
    with drawing(path, 1, 3, (15, 4.8)) as (figure, (left, middle, right)):
        records = result["networks"]
        if records:
            _horizons(left, records)
            _exponents(middle, records)
            text = (
                f"Training brought λ₁ to within {NEAR_ZERO:g} nats per step of zero in "
                f"{near_zero(records)} of {len(records)} published networks"
            )
            title(figure, text, 110)
        if result["libraries"]:
            _differences(right, result["libraries"])


def _horizons(axes: Axes, records: list[Record]) -> None:
    steps = records[0]["steps"]
    for place, row in enumerate(records):
        for one in row["untrained"]:
            axes.plot(one["horizon"], place, "s", color=COLOURS[5], markersize=7)
        reach = row["trained"]["horizon"]
        axes.plot(reach, place, "o", color=COLOURS[2], markersize=8)
        if reach >= steps:
            axes.text(reach - 4, place, "or more", ha="right", va="center", fontsize=8)
    axes.set(xlabel=f"horizon (steps back from step {steps})", xlim=(0, 1.05 * steps))
    _rows(axes, records)


def _exponents(axes: Axes, records: list[Record]) -> None:
    for place, row in enumerate(records):
        for one in row["untrained"]:
            axes.errorbar(
                one["exponent"], place, xerr=one["spread"], fmt="s", color=COLOURS[5],
                markersize=7,
            )  # fmt: skip
        trained = row["trained"]
        axes.errorbar(
            trained["exponent"], place, xerr=trained["spread"], fmt="o", color=COLOURS[2],
            markersize=8,
        )  # fmt: skip
    axes.axvline(0, color="0.4", linewidth=0.8, linestyle=":")
    axes.set(xlabel="λ₁ on its inputs (nats per step)")
    axes.plot([], [], "o", color=COLOURS[2], label="as published")
    axes.plot([], [], "s", color=COLOURS[5], label="untrained")
    axes.legend(frameon=False, fontsize=9, loc="best")
    _rows(axes, records)
    axes.set_yticklabels([])


def _rows(axes: Axes, records: list[Record]) -> None:
    axes.set_yticks(range(len(records)), [row["name"] for row in records])
    axes.set_ylim(len(records) - 0.5, -0.5)
    grid_lines(axes)


def _differences(axes: Axes, libraries: list[Record]) -> None:
    for place, row in enumerate(libraries):
        steps = np.arange(1, row["steps"] + 1)
        colour = COLOURS[place]
        label = f"{row['inputs']}, λ₁ = {row['exponent']:+.3f}"
        axes.plot(steps, row["float32"], color=colour, label=label)
        axes.plot(steps, row["float64"], "--", color=colour)
    reference_line(axes, 1)
    axes.set(yscale="log", xlabel="step", ylabel="‖h of PyTorch − h of rnnlab‖ / ‖h‖, median")
    axes.set_title("speaker encoder; float32, and float64 (dashed)", fontsize=10)
    grid_lines(axes)
    # Between the lines of the two precisions.
    axes.legend(frameon=False, fontsize=8, loc="center", bbox_to_anchor=(0.6, 0.4))


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
