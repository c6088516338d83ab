"""The weights and biases for which one neuron has memory, and the folds at which it is lost.

    python experiments/bifurcation.py

dx/dt = −x + σ(w x + b) has memory where two of its fixed points are stable. For a given w, they
appear and disappear at two folds as b varies; in the plane of (w, b) the folds meet in a cusp.
Writes benchmarks/results/bifurcation.png.
"""

from pathlib import Path

import jax.numpy as jnp

from rnnlab.report.figures import one_neuron as figures
from rnnlab.theory import one_neuron

W = 5.0
PATH = Path(__file__).parents[1] / "benchmarks" / "results" / "bifurcation.png"

points = one_neuron.bifurcation_diagram(W, (-3.5, -1.5))
branches = [
    {"b": b, "x": x, "stable": bool(stable)}
    for b, x, stable in zip(points.b, points.x, points.stable, strict=True)
]
folds = [(float(b), float(x)) for b, x in zip(points.folds.b, points.folds.x, strict=True)]
diagram = {"w": W, "branches": branches, "folds": folds}

# Quadratic spacing: the folds bend most near the cusp at w = 4.
weights = 4 + 4 * jnp.linspace(0, 1, 200) ** 2
biases, cusp = one_neuron.fold_points(weights).b, one_neuron.cusp()
plane = {
    "w": weights,
    "upper": biases[:, 0],
    "lower": biases[:, 1],
    "cusp": (float(cusp.w), float(cusp.b)),
}
figures.bifurcation(diagram, plane, PATH)

for name, (b, x) in zip(("lower", "upper"), folds, strict=True):
    print(f"At w = {W:g} the {name} stable state disappears at b = {b:.5f}, x = {x:.5f}.")
middle = sum(b for b, _ in folds) / 2
between = one_neuron.neuron_fixed_points(W, middle)
print(f"Between the folds, at b = {middle:.3f}:")
for x, rate in zip(between.x, between.eigenvalues, strict=True):
    verb = "grow" if rate > 0 else "decay"
    print(f"  fixed point x = {float(x):.6f}: perturbations {verb} as exp({float(rate):+.4f} t)")
print(f"The folds meet at w = {float(cusp.w):g}, b = {float(cusp.b):g}. Figure: {PATH}")
