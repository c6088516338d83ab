"""The decay of an LSTM's gradient against its forget bias b, compared with −ln σ(b).

    python -m experiments.forget_bias.run

Without weights, the gradient in the cell state decays by exactly σ(b) per step: ∂c_T/∂c_0 = σ(b)^T.
With weights, and noise as input, the paths through h contribute as well. Both are measured.
"""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from matplotlib.axes import Axes

import rnnlab
from experiments.common import Record, experiment
from rnnlab.diagnostics import decay_per_step, gradient_flow
from rnnlab.report.figures.style import drawing, grid_lines, look, title

INPUTS = 16


def loss(ys: jax.Array) -> jax.Array:
    """A loss of the last output; the decay does not depend on the choice."""
    return jnp.sum(ys[-1])


def decay(cell: rnnlab.LSTM, scale: float, seed: int, steps: int) -> float:
    """The decay of ln‖∂L/∂c‖ in nats per step, with all weights multiplied by ``scale``."""
    k_params, k_xs = jax.random.split(jax.random.key(seed))
    xs = jax.random.normal(k_xs, (steps, 16, INPUTS))
    params = cell.init(k_params, INPUTS)
    params = params._replace(w_x=scale * params.w_x, w_h=scale * params.w_h)
    flow = gradient_flow(cell, params, xs, loss)
    assert flow.log_norm_c is not None
    return float(decay_per_step(flow.log_norm_c.mean(axis=1)[::-1]))


def run(quick: bool) -> Record:
    """The decay for each forget bias, without weights and with those of each seed."""
    steps, hidden, seeds = (60, 8, 1) if quick else (300, 64, 5)
    rows = []
    print(f"{'forget bias':>12}{'−ln σ(b)':>12}{'no weights':>12}{'weights':>12}   nats/step")
    for forget_bias in (0.0, 1.0, 2.0, 3.0, math.log(steps - 1)):
        cell = rnnlab.LSTM(hidden, forget_bias=forget_bias)
        theory = math.log1p(math.exp(-forget_bias))
        alone = decay(cell, 0.0, 0, steps)
        decays = [decay(cell, 1.0, seed, steps) for seed in range(seeds)]
        mean = sum(decays) / seeds
        print(f"{forget_bias:12.3f}{theory:12.4f}{alone:12.4f}{mean:12.4f}")
        row = {"forget_bias": forget_bias, "theory": theory, "no_weights": alone}
        rows.append(row | {"weights": decays})
    error = max(abs(row["no_weights"] / row["theory"] - 1) for row in rows)
    first, last = rows[0], rows[-1]
    finding = (
        f"Without weights the decay is −ln σ(b) to within {error:.1e}; with weights and noise it "
        f"is {_range(first)} nats per step at b = 0, where −ln σ(b) is {first['theory']:.3f}, and "
        f"{_range(last)} at b = ln {steps - 1}, where it is {last['theory']:.4f}."
    )
    return {"finding": finding, "steps": steps, "hidden": hidden, "seeds": seeds, "rows": rows}


def _range(row: dict[str, Any]) -> str:
    return f"{min(row['weights']):.3f} to {max(row['weights']):.3f}"


def draw(result: Record, path: Path) -> None:
    """The decay against the forget bias."""
    with drawing(path, 1, 1, (7, 4.6)) as (figure, (axes,)):
        _lines(axes, result["rows"])
        grid_lines(axes)
        title(figure, "Paths through h add to σ(b): the gradient decays more slowly", 60)


def _lines(axes: Axes, rows: list[dict[str, Any]]) -> None:
    biases = [row["forget_bias"] for row in rows]
    axes.plot(biases, [row["theory"] for row in rows], "--", color="0.4", label="−ln σ(b)")
    axes.plot(
        biases, [row["no_weights"] for row in rows], **look(0), linestyle="none", label="no weights"
    )
    for index, row in enumerate(rows):
        label = "weights, each seed" if index == 0 else None
        xs = [row["forget_bias"]] * len(row["weights"])
        axes.plot(xs, row["weights"], **look(1), linestyle="none", label=label)
    axes.set(xlabel="forget bias b", ylabel="decay of ‖∂L/∂c‖ (nats per step)")
    axes.legend(frameon=False)


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
