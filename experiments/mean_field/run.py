"""The order-to-chaos transition of a random network and its Lyapunov spectrum, against theory.

    python -m experiments.mean_field.run

The network is h ← g J tanh(h) with J ~ N(0, 1/N), without input. For g < 1 the state converges to
zero, where the exponents are ln|eigenvalue of gJ|. The eigenvalues fill a disc uniformly (Girko's
circular law), hence λᵢ = ln g + ½ ln(1 − i/N). For g > 1 mean-field theory gives λ₁ and the mean
exponent (Engelken, Wolf & Abbott 2023, arXiv 2006.02427).
"""

import math
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

import rnnlab
from experiments.common import Record, experiment
from rnnlab.diagnostics import lyapunov_spectrum
from rnnlab.report.figures.style import band, drawing, grid_lines, look, reference_line, title

GAINS = (0.5, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0)
SHOWN = (0.8, 2.0)  # gains of the spectra in the figure


class Plan(NamedTuple):
    """The size of the experiment: units N, seeds, and steps of the three parts of a run."""

    size: int = 200
    seeds: int = 3
    burn_in: int = 500
    warm_up: int = 100
    steps: int = 500


QUICK = Plan(size=20, seeds=2, burn_in=50, warm_up=10, steps=50)


def spectrum(plan: Plan, seed: int, gain: float) -> np.ndarray:
    """All exponents of one network, in descending order."""
    cell = rnnlab.RNN(plan.size, form="output-state", bias=False)
    params = cell.init(jax.random.key(0), 1)
    xs = jnp.zeros((plan.burn_in + plan.warm_up + plan.steps, 1))
    k_weights, k_start, k_directions = jax.random.split(jax.random.key(seed), 3)
    size = plan.size
    w_h = gain / math.sqrt(size) * jax.random.normal(k_weights, (size, size))
    start = cell.initial_state()._replace(h=jax.random.normal(k_start, (size,)))
    result = lyapunov_spectrum(
        cell,
        params._replace(w_h=w_h),
        xs,
        start,
        burn_in=plan.burn_in,
        warm_up=plan.warm_up,
        key=k_directions,
    )
    return np.asarray(result.exponents)


def theory(gain: float) -> tuple[float, float]:
    """λ₁ and the mean exponent in mean-field theory, with Δ = g² ⟨tanh²(√Δ z)⟩.

    λ₁ = ln g + ½ ln⟨(1 − tanh²)²⟩; the mean is ln g − ½ + ⟨ln(1 − tanh²)⟩.
    """
    z, weights = np.polynomial.hermite_e.hermegauss(201)
    weights = weights / weights.sum()
    delta = 1.0
    for _ in range(2000):
        delta = gain**2 * float(weights @ np.tanh(math.sqrt(delta) * z) ** 2)
    h = math.sqrt(delta) * np.abs(z)
    # ln(1 − tanh²(h)), in a form that stays finite where tanh rounds to 1.
    log_slope = 2 * (math.log(2) - h - np.log1p(np.exp(-2 * h)))
    largest = math.log(gain) + 0.5 * math.log(weights @ np.exp(2 * log_slope))
    return largest, math.log(gain) - 0.5 + float(weights @ log_slope)


def draw_spectra(axes: Axes, spectra: dict[float, np.ndarray]) -> None:
    """Exponents against their index."""
    seeds, size = next(iter(spectra.values())).shape
    index = np.arange(1.0, size + 1)
    for number, gain in enumerate(SHOWN):
        points: list[tuple[float, float]] = []
        for exponents in spectra[gain]:
            points += zip(index, exponents, strict=True)
        band(axes, points, name=f"g = {gain:g}, measured", color=look(number)["color"])
        if gain < 1:
            circular = math.log(gain) + 0.5 * np.log(1 - (index - 0.5) / size)
            axes.plot(index, circular, "--", color="#E69F00", label=f"g = {gain:g}, circular law")
        else:
            axes.plot(
                1,
                theory(gain)[0],
                "*",
                color="#D55E00",
                markersize=13,
                zorder=4,
                label="λ₁ of mean-field theory",
            )
    axes.set(xlabel="index i", ylabel="Lyapunov exponent λᵢ (nats per step)", ylim=(-5, 0.5))
    axes.set_title(f"Spectra, N = {size}; bands: range of {seeds} seeds", fontsize=10)


def draw_gains(axes: Axes, spectra: dict[float, np.ndarray]) -> None:
    """The largest and the mean exponent against the gain."""
    largest: list[tuple[float, float]] = []
    mean: list[tuple[float, float]] = []
    for gain, exponents in spectra.items():
        largest += [(gain, value) for value in exponents[:, 0]]
        mean += [(gain, value) for value in exponents.mean(axis=1)]
    band(axes, largest, name="λ₁, measured", **look(0), linestyle="none")
    band(axes, mean, name="mean exponent, measured", **look(1), linestyle="none")
    fine = np.geomspace(GAINS[0], GAINS[-1], 40)
    curves = np.array([theory(gain) for gain in fine])
    axes.plot(fine, curves[:, 0], "--", color="#E69F00")
    axes.plot(fine, curves[:, 1], "--", color="#E69F00", label="theory")
    reference_line(axes, 0)
    axes.set(xlabel="gain g", ylabel="exponent (nats per step)", xscale="log")
    axes.set_xticks(list(GAINS), [f"{gain:g}" for gain in GAINS])
    axes.set_xticks([], minor=True)
    axes.set_title("Largest and mean exponent", fontsize=10)


def run(quick: bool) -> Record:
    """The spectra of all networks, beside theory."""
    # On a busy machine LAPACK is slow with two threads.
    rnnlab.quick_start()
    plan = QUICK if quick else Plan()
    rows = []
    print(f"{'g':>5}{'λ₁':>10}{'theory':>10}{'mean':>10}{'theory':>10}")
    for gain in GAINS:
        exponents = np.array([spectrum(plan, seed, gain) for seed in range(plan.seeds)])
        largest, mean = theory(gain)
        print(
            f"{gain:5g}{exponents[:, 0].mean():10.4f}{largest:10.4f}"
            f"{exponents.mean():10.4f}{mean:10.4f}"
        )
        row = {"gain": gain, "theory_largest": largest, "theory_mean": mean}
        rows.append(row | {"exponents": np.round(exponents, 5).tolist()})
    return {"finding": finding(rows), "plan": plan._asdict(), "rows": rows}


def finding(rows: list[Record]) -> str:
    """From which gain on trajectories diverge, and how far theory is off, in one sentence."""
    chaotic, errors = [], []
    for row in rows:
        exponents = np.asarray(row["exponents"])
        if exponents[:, 0].mean() > 0:
            chaotic.append(row["gain"])
        if row["gain"] > 1:
            errors.append(abs(exponents.mean() - row["theory_mean"]))
    start = f"from g = {chaotic[0]:g} on" if chaotic else "at no gain"
    return (
        f"Nearby trajectories diverge {start} (theory: above g = 1); above it, the measured mean "
        f"exponent is within {max(errors):.3f} nats per step of mean-field theory."
    )


def draw(result: Record, path: Path) -> None:
    """Spectra at two gains, and the largest and the mean exponent over all gains."""
    spectra = {row["gain"]: np.asarray(row["exponents"]) for row in result["rows"]}
    with drawing(path, 1, 2, (11, 4.8)) as (figure, (left, right)):
        draw_spectra(left, spectra)
        draw_gains(right, spectra)
        for axes in (left, right):
            grid_lines(axes)
            axes.legend(frameon=False, fontsize=9)
        title(figure, result["finding"], 100)


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
