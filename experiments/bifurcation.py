"""For which weights does one neuron remember, and where does that memory appear and vanish?

    python experiments/bifurcation.py

dx/dt = −x + σ(w x + b) remembers where two of its fixed points are stable. At one w they come and
go with b at two folds; in the plane of (w, b) the folds meet in a cusp. Writes
benchmarks/results/bifurcation.png.
"""

from pathlib import Path

import jax.numpy as jnp

from rnnlab.report.figures import one_neuron as walls
from rnnlab.theory import one_neuron

W = 5.0
found = one_neuron.bifurcation_diagram(W, (-3.5, -1.5))
diagram = {
    "w": W,
    "branches": [
        {"b": b, "x": x, "stable": bool(s)}
        for b, x, s in zip(found.b, found.x, found.stable, strict=True)
    ],
    "folds": [(float(b), float(x)) for b, x in zip(found.folds.b, found.folds.x, strict=True)],
}
weights = 4 + 4 * jnp.linspace(0, 1, 200) ** 2
folds, cusp = one_neuron.fold_points(weights), one_neuron.cusp()
plane = {
    "w": weights,
    "upper": folds.b[:, 0],
    "lower": folds.b[:, 1],
    "cusp": (float(cusp.w), float(cusp.b)),
}
target = Path(__file__).parents[1] / "benchmarks" / "results" / "bifurcation.png"
walls.bifurcation(diagram, plane, target)

for name, (b, x) in zip(("lower", "upper"), diagram["folds"], strict=True):
    print(f"at w = {W:g} the {name} state vanishes at b = {b:.5f}, x = {x:.5f}")
middle = sum(b for b, _ in diagram["folds"]) / 2
rests = one_neuron.neuron_fixed_points(W, middle)
for x, value in zip(rests.x, rests.eigenvalues, strict=True):
    fate = "grows" if value > 0 else "dies away"
    print(
        f"in between, at b = {middle:.3f}: x = {float(x):.6f}, where a push {fate} as exp({float(value):+.4f} t)"
    )
print(f"the folds meet at w = {float(cusp.w):g}, b = {float(cusp.b):g}; written to {target.name}")
