"""What does a step of gradient descent do at the wall of a loss, and how much does clipping depend on its threshold?

    python experiments/wall.py

One neuron forgets where it started unless its two weights lie on one side of a wall, at which its
loss leaps. Descents start all over the plane, with the gradient clipped at thresholds from a tenth
of its average norm (away from the wall) to infinity, on Pascanu's map and on the differential
equation, for which diffrax is needed (the extra "dynamics"). Writes benchmarks/results/wall.png.
"""

import functools
from pathlib import Path

import jax
import numpy as np
import optax

from rnnlab.report.figures import one_neuron as walls
from rnnlab.theory import one_neuron, wall_paths
from rnnlab.training import threshold_range

jax.config.update("jax_enable_x64", True)  # at the wall e^(λT) multiplies every rounding
# what ends so far from its start was thrown away: all starts and the minima lie nearer to each
# other
FAR = 3.0
STARTS = np.stack(
    np.meshgrid(np.linspace(4.2, 6.8, 14), np.linspace(-4.2, -1.7, 14)), axis=-1
).reshape(-1, 2)
TIMES_AVERAGE = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, np.inf)


def study(name, loss, wall, rate, steps, shown):
    """What is drawn of one loss surface, with a path clipped at ``shown`` times the average; prints its table."""
    shown = TIMES_AVERAGE.index(shown)
    at = loss(*STARTS.T)
    norms = np.hypot(at.d_w, at.d_b)
    average = float(threshold_range(norms[norms < 10 * np.median(norms)]).average)
    thresholds = average * np.array(TIMES_AVERAGE)
    optimisers = [optax.chain(optax.clip_by_global_norm(t), optax.sgd(rate)) for t in thresholds]
    paths = jax.vmap(lambda w, b: wall_paths(loss, (w, b), optimisers, steps))(*STARTS.T)
    w, b, final = np.asarray(paths.w), np.asarray(paths.b), np.asarray(paths.loss)[:, -1]
    strides = np.hypot(np.diff(w, axis=1), np.diff(b, axis=1))
    lost = ~(np.hypot(w[:, -1] - w[:, 0], b[:, -1] - b[:, 0]) < FAR)
    thrown = lost.mean(axis=0)
    print(
        f"{name}\n{'threshold':>12}{'× average':>12}{'thrown away':>14}{'median loss':>14}{'longest step':>14}"
    )
    for k, threshold in enumerate(thresholds):
        row = f"{threshold:12.3g}{TIMES_AVERAGE[k]:12g}{thrown[k]:14.1%}"
        print(f"{row}{np.median(final[:, k]):14.1e}{strides[:, :, k].max():14.3g}")
    leap = strides[:, :, -1] > FAR
    # Drawn is a path that starts above the wall, leaps soon where it is not clipped, and goes far
    # where it is.
    soon = leap[:, : steps // 3].any(axis=1) & (b[:, 0, 0] > wall(w[:, 0, 0]))
    which = np.argmax(np.where(soon, np.ptp(w[:, :, shown], axis=1), 0))
    before = np.argmax(leap[which]) + 1
    plain, clipped = ({"w": w[which, :, k], "b": b[which, :, k]} for k in (-1, shown))
    seen = [np.concatenate([plain[axis][:before], clipped[axis]]) for axis in "wb"]
    ws, bs = (
        np.linspace(1.15 * s.min() - 0.15 * s.max(), 1.15 * s.max() - 0.15 * s.min(), 300)
        for s in seen
    )
    return {
        "name": name, "w": ws, "b": bs, "loss": loss(ws[:, None], bs).loss, "wall": wall(ws), "plain": plain,
        "clipped": {"threshold": thresholds[shown], **clipped}, "thresholds": thresholds, "average": average,
        "thrown": thrown, "final": final,
    }  # fmt: skip


pascanu = study(
    "xₜ = w σ(xₜ₋₁) + b, loss (σ(x₅₀) − 0.7)², steps of 0.2 times the gradient",
    one_neuron.pascanu_loss, one_neuron.pascanu_wall, rate=0.2, steps=200, shown=5,
)  # fmt: skip
geometric = study(
    "dx/dt = −x + σ(w x + b), loss (0.855 − x(20))², steps of 3 times the gradient",
    functools.partial(one_neuron.geometric_loss, time=20.0), one_neuron.geometric_wall, rate=3.0, steps=60, shown=2,
)  # fmt: skip
walls.walls([pascanu, geometric], Path(__file__).parents[1] / "benchmarks" / "results" / "wall.png")
