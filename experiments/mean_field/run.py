"""The order-to-chaos transition of a random network and its Lyapunov spectrum, against theory.

    # On a busy machine LAPACK is slow with two threads.
    OPENBLAS_NUM_THREADS=1 python experiments/mean_field.py

The network is h ← g J tanh(h) with J ~ N(0, 1/N), without input. For g < 1 the state converges to
zero, where the exponents are ln|eigenvalue of gJ|. The eigenvalues fill a disc uniformly (Girko's
circular law), hence λᵢ = ln g + ½ ln(1 − i/N). For g > 1 mean-field theory gives λ₁ and the mean
exponent (Engelken, Wolf & Abbott 2023, arXiv 2006.02427). Writes benchmarks/results/mean_field.png
and .svg.
"""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

import rnnlab
from rnnlab.diagnostics import lyapunov_spectrum
from rnnlab.report.figures.style import band, drawing, grid_lines, look, reference_line, title

SIZE, SEEDS, BURN_IN, WARM_UP, STEPS = 200, 3, 500, 100, 500
GAINS = (0.5, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0)
SHOWN = (0.8, 2.0)  # gains of the spectra in the figure
PATH = Path(__file__).parents[1] / "benchmarks" / "results" / "mean_field"

cell = rnnlab.RNN(SIZE, form="output-state", bias=False)
params = cell.init(jax.random.key(0), 1)
xs = jnp.zeros((BURN_IN + WARM_UP + STEPS, 1))


def spectrum(seed: int, gain: float) -> np.ndarray:
    """All exponents of one network, in descending order."""
    k_weights, k_start, k_directions = jax.random.split(jax.random.key(seed), 3)
    w_h = gain / math.sqrt(SIZE) * jax.random.normal(k_weights, (SIZE, SIZE))
    start = cell.initial_state()._replace(h=jax.random.normal(k_start, (SIZE,)))
    result = lyapunov_spectrum(
        cell,
        params._replace(w_h=w_h),
        xs,
        start,
        burn_in=BURN_IN,
        warm_up=WARM_UP,
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
    index = np.arange(1.0, SIZE + 1)
    for number, gain in enumerate(SHOWN):
        points: list[tuple[float, float]] = []
        for exponents in spectra[gain]:
            points += zip(index, exponents, strict=True)
        band(axes, points, name=f"g = {gain:g}, measured", color=look(number)["color"])
        if gain < 1:
            circular = math.log(gain) + 0.5 * np.log(1 - (index - 0.5) / SIZE)
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
    axes.set_title(f"Spectra, N = {SIZE}; bands: range of {SEEDS} seeds", fontsize=10)


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


spectra: dict[float, np.ndarray] = {}
print(f"{'g':>5}{'λ₁':>10}{'theory':>10}{'mean':>10}{'theory':>10}")
for gain in GAINS:
    spectra[gain] = np.array([spectrum(seed, gain) for seed in range(SEEDS)])
    largest, mean = theory(gain)
    print(
        f"{gain:5g}{spectra[gain][:, 0].mean():10.4f}{largest:10.4f}"
        f"{spectra[gain].mean():10.4f}{mean:10.4f}"
    )

chaotic = [gain for gain in GAINS if spectra[gain][:, 0].mean() > 0]
with drawing(PATH, 1, 2, (11, 4.8)) as (figure, (left, right)):
    draw_spectra(left, spectra)
    draw_gains(right, spectra)
    for axes in (left, right):
        grid_lines(axes)
        axes.legend(frameon=False, fontsize=9)
    finding = f"Nearby trajectories diverge from g = {chaotic[0]:g} on; theory: above g = 1"
    title(figure, finding, 100)
