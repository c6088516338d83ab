"""Gradient descent at the wall in the loss of one neuron, and the effect of the clipping threshold.

    python -m experiments.wall.run

One neuron forgets its initial state unless its weight and bias lie on one side of a wall, at which
the loss jumps. Descents start on a grid in the plane, with gradients clipped at thresholds from a
tenth of their average norm (away from the wall) to infinity, for Pascanu's map and for the
differential equation, which needs diffrax (the extra "dynamics").
"""

import functools
from pathlib import Path

import jax
import numpy as np
import optax

from experiments.common import Record, experiment
from rnnlab.report.figures import one_neuron as figures
from rnnlab.theory import one_neuron, wall_paths
from rnnlab.training import threshold_range

# A path that ends farther than this from its start was thrown away by the wall. All starts and the
# minima are closer to each other.
FAR = 3.0
MULTIPLES = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, np.inf)
"""Thresholds in units of the average norm."""


def study(name, loss, wall, starts, rate, steps, multiple):
    """The data of one loss surface for the figure; prints a table of its thresholds.

    Args:
        name: the title.
        loss: ``(w, b) -> LossSurface``.
        wall: the wall's b for each w.
        starts: w and b of each start, ``[S, 2]``.
        rate: the learning rate.
        steps: the length of a path, N.
        multiple: the threshold of the clipped path in the figure, one of MULTIPLES.
    """
    average = average_norm(loss, starts)
    thresholds = average * np.array(MULTIPLES)
    w, b, final = descend(loss, starts, thresholds, rate, steps)
    strides = np.hypot(np.diff(w, axis=1), np.diff(b, axis=1))
    distances = np.hypot(w[:, -1] - w[:, 0], b[:, -1] - b[:, 0])
    # Negated, so that NaN counts as thrown away.
    thrown = (~(distances < FAR)).mean(axis=0)
    tabulate(name, thresholds, thrown, final, strides)
    column = MULTIPLES.index(multiple)
    start, leap = example(w, b, strides, wall, column)
    plain = {"w": w[start, :, -1], "b": b[start, :, -1]}
    clipped = {"w": w[start, :, column], "b": b[start, :, column]}
    ws, bs = (grid(np.concatenate([plain[key][: leap + 1], clipped[key]])) for key in "wb")
    return {
        "name": name,
        "w": ws,
        "b": bs,
        "loss": loss(ws[:, None], bs).loss,
        "wall": wall(ws),
        "plain": plain,
        "clipped": {"threshold": thresholds[column], **clipped},
        "thresholds": thresholds,
        "average": average,
        "thrown": thrown,
        "final": final,
    }


def average_norm(loss, starts):
    """The average gradient norm over the starts, without those at the wall."""
    surface = loss(*starts.T)
    norms = np.hypot(surface.d_w, surface.d_b)
    return float(threshold_range(norms[norms < 10 * np.median(norms)]).average)


def descend(loss, starts, thresholds, rate, steps):
    """w and b ``[S, N + 1, K]`` and final losses ``[S, K]``, for S starts and K thresholds."""
    optimisers = [
        optax.chain(optax.clip_by_global_norm(threshold), optax.sgd(rate))
        for threshold in thresholds
    ]
    paths = jax.vmap(lambda w, b: wall_paths(loss, (w, b), optimisers, steps))(*starts.T)
    return np.asarray(paths.w), np.asarray(paths.b), np.asarray(paths.loss)[:, -1]


def tabulate(name, thresholds, thrown, final, strides):
    """Prints a row for each threshold."""
    print(name)
    print(
        f"{'threshold':>12}{'× average':>12}{'thrown away':>14}{'median loss':>14}"
        f"{'longest step':>14}"
    )
    for k, threshold in enumerate(thresholds):
        median, longest = np.median(final[:, k]), strides[:, :, k].max()
        print(f"{threshold:12.3g}{MULTIPLES[k]:12g}{thrown[k]:14.1%}{median:14.1e}{longest:14.3g}")


def example(w, b, strides, wall, column):
    """The start of the paths in the figure, and the step at which the unclipped one leaps.

    The unclipped path starts above the wall and leaps early; the clipped one covers the widest
    range of w.
    """
    leaps = strides[:, :, -1] > FAR
    early = leaps[:, : leaps.shape[1] // 3].any(axis=1)
    above = b[:, 0, 0] > wall(w[:, 0, 0])
    start = np.argmax(np.where(early & above, np.ptp(w[:, :, column], axis=1), 0))
    return start, np.argmax(leaps[start])


def grid(values):
    """300 points over the range of ``values``, with a margin of 15 % on each side."""
    low, high = values.min(), values.max()
    return np.linspace(1.15 * low - 0.15 * high, 1.15 * high - 0.15 * low, 300)


def run(quick: bool) -> Record:
    """Descents on both loss surfaces."""
    side = 4 if quick else 14
    starts = np.stack(
        np.meshgrid(np.linspace(4.2, 6.8, side), np.linspace(-4.2, -1.7, side)), axis=-1
    ).reshape(-1, 2)
    # At the wall, rounding errors grow by e^(λT).
    with jax.enable_x64(True):
        pascanu = study(
            "xₜ = w σ(xₜ₋₁) + b, loss (σ(x₅₀) − 0.7)², learning rate 0.2",
            one_neuron.pascanu_loss,
            one_neuron.pascanu_wall,
            starts,
            rate=0.2,
            steps=200,
            multiple=5,
        )
        geometric = study(
            "dx/dt = −x + σ(w x + b), loss (0.855 − x(20))², learning rate 3",
            functools.partial(one_neuron.geometric_loss, time=20.0),
            one_neuron.geometric_wall,
            starts,
            rate=3.0,
            steps=60,
            multiple=2,
        )
    rows = []
    for surface in (pascanu, geometric):
        row = {"name": surface["name"], "average": surface["average"]}
        rows.append(row | {"thrown": surface["thrown"].tolist()})
    return {
        "finding": f"{thrown_away(rows[0])}. {thrown_away(rows[1])}.",
        "starts": len(starts),
        "multiples": list(map(float, MULTIPLES)),
        "rows": rows,
        "_surfaces": [pascanu, geometric],
    }


def thrown_away(row):
    """The share of descents that the wall throws away, with and without clipping."""
    equation = row["name"].split(",")[0]
    at_average = row["thrown"][MULTIPLES.index(1)]
    return (
        f"At the wall of {equation}, {row['thrown'][-1]:.0%} of the unclipped descents are thrown "
        f"away, and {at_average:.0%} of those clipped at the average norm"
    )


def draw(result: Record, path: Path) -> None:
    """Both loss surfaces with a clipped and an unclipped descent, and all thresholds."""
    figures.walls(result["_surfaces"], path.with_suffix(".png"))


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
