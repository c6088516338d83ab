"""The weights and biases for which one neuron has memory, and the folds at which it is lost.

    python -m experiments.bifurcation.run

dx/dt = −x + σ(w x + b) has memory where two of its fixed points are stable. For a given w, they
appear and disappear at two folds as b varies; in the plane of (w, b) the folds meet in a cusp.
"""

from pathlib import Path

import jax.numpy as jnp

from experiments.common import Record, experiment
from rnnlab.report.figures import one_neuron as figures
from rnnlab.theory import one_neuron

W = 5.0


def run(quick: bool) -> Record:
    """The folds at one weight, the fixed points between them, and the cusp."""
    del quick  # A second, as it is.
    folds = one_neuron.fold_points(jnp.asarray(W))
    names = zip(("lower", "upper"), folds.b.tolist(), folds.x.tolist(), strict=True)
    for name, b, x in names:
        print(f"At w = {W:g} the {name} stable state disappears at b = {b:.5f}, x = {x:.5f}.")
    middle = float(folds.b.mean())
    between = one_neuron.neuron_fixed_points(W, middle)
    print(f"Between the folds, at b = {middle:.3f}:")
    for x, rate in zip(between.x.tolist(), between.eigenvalues.tolist(), strict=True):
        verb = "grow" if rate > 0 else "decay"
        print(
            f"  fixed point x = {float(x):.6f}: perturbations {verb} as exp({float(rate):+.4f} t)"
        )
    cusp = one_neuron.cusp()
    low, high = sorted(folds.b.tolist())
    finding = (
        f"At w = {W:g} it has two stable states for {low:.4f} < b < {high:.4f} and one otherwise; "
        f"the two folds meet at w = {float(cusp.w):g}, b = {float(cusp.b):g}, below which no bias "
        "gives it memory."
    )
    return {
        "finding": finding.replace("-", "−"),
        "w": W,
        "folds": {"b": folds.b.tolist(), "x": folds.x.tolist()},
        "between": {"b": middle, "x": between.x.tolist(), "rates": between.eigenvalues.tolist()},
        "cusp": {"w": float(cusp.w), "b": float(cusp.b)},
    }


def draw(result: Record, path: Path) -> None:
    """The branches of fixed points at one weight, and the folds in the plane of (w, b)."""
    points = one_neuron.bifurcation_diagram(W, (-3.5, -1.5))
    branches = [
        {"b": b, "x": x, "stable": bool(stable)}
        for b, x, stable in zip(points.b, points.x, points.stable, strict=True)
    ]
    folds = [(float(b), float(x)) for b, x in zip(points.folds.b, points.folds.x, strict=True)]
    # Quadratic spacing: the folds bend most near the cusp at w = 4.
    weights = 4 + 4 * jnp.linspace(0, 1, 200) ** 2
    biases = one_neuron.fold_points(weights).b
    plane = {
        "w": weights,
        "upper": biases[:, 0],
        "lower": biases[:, 1],
        "cusp": (result["cusp"]["w"], result["cusp"]["b"]),
    }
    figures.bifurcation(
        {"w": W, "branches": branches, "folds": folds}, plane, path.with_suffix(".png")
    )


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
