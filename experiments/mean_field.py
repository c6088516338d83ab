"""Where does a random network turn from order to chaos, and does its Lyapunov spectrum follow theory?

    # LAPACK with two threads is slow on a busy machine
    OPENBLAS_NUM_THREADS=1 python experiments/mean_field.py

h ← g J tanh(h) with J ~ N(0, 1/N), left alone. Below g = 1 it comes to rest at zero, where λᵢ = ln
|eigenvalue of gJ|, and these fill a disc evenly: λᵢ = ln g + ½ ln(1 − i/N) (Girko's circular law).
Above it mean-field theory gives λ₁ and the mean of all (Engelken, Wolf & Abbott 2023, arXiv
2006.02427). Writes benchmarks/results/mean_field.png and .svg.
"""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import rnnlab
from rnnlab.diagnostics import lyapunov_spectrum
from rnnlab.report.figures.style import band, drawing, look, title

SIZE, SEEDS, BURN_IN, WARM_UP, STEPS = 200, 3, 500, 100, 500
GAINS = (0.5, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0)
SHOWN = (0.8, 2.0)  # whole spectra

cell = rnnlab.RNN(SIZE, form="output-state", bias=False)
drawn = cell.init(jax.random.key(0), 1)
xs = jnp.zeros((BURN_IN + WARM_UP + STEPS, 1))


def spectrum(seed: int, gain: float) -> np.ndarray:
    """All exponents of one network, falling."""
    k_weights, k_start, k_directions = jax.random.split(jax.random.key(seed), 3)
    w_h = gain / math.sqrt(SIZE) * jax.random.normal(k_weights, (SIZE, SIZE))
    start = cell.initial_state()._replace(h=jax.random.normal(k_start, (SIZE,)))
    options = {"burn_in": BURN_IN, "warm_up": WARM_UP, "key": k_directions}
    return np.asarray(
        lyapunov_spectrum(cell, drawn._replace(w_h=w_h), xs, start, **options).exponents
    )


def theory(gain: float) -> tuple[float, float]:
    """λ₁ and the mean exponent: Δ = g² ⟨tanh²(√Δ z)⟩, λ₁ = ln g + ½ ln⟨(1 − tanh²)²⟩, ln g − ½ + ⟨ln(1 − tanh²)⟩."""
    z, weights = np.polynomial.hermite_e.hermegauss(201)
    weights = weights / weights.sum()
    delta = 1.0
    for _ in range(2000):
        delta = gain**2 * float(weights @ np.tanh(math.sqrt(delta) * z) ** 2)
    h = math.sqrt(delta) * np.abs(z)
    log_slope = 2 * (
        math.log(2) - h - np.log1p(np.exp(-2 * h))
    )  # ln(1 − tanh²), where tanh rounds to 1 too
    first = math.log(gain) + 0.5 * math.log(weights @ np.exp(2 * log_slope))
    return first, math.log(gain) - 0.5 + float(weights @ log_slope)


found = {gain: np.array([spectrum(seed, gain) for seed in range(SEEDS)]) for gain in GAINS}
print(f"{'g':>5}{'λ₁':>10}{'theory':>10}{'mean':>10}{'theory':>10}")
for gain, lines in found.items():
    first, mean = theory(gain)
    print(f"{gain:5g}{lines[:, 0].mean():10.4f}{first:10.4f}{lines.mean():10.4f}{mean:10.4f}")

crossing = [gain for gain in GAINS if found[gain][:, 0].mean() > 0]
with drawing(
    Path(__file__).parents[1] / "benchmarks" / "results" / "mean_field", 1, 2, (11, 4.8)
) as (
    figure,
    (left, right),
):
    index = np.arange(1.0, SIZE + 1)
    for number, gain in enumerate(SHOWN):
        points = [(i, value) for line in found[gain] for i, value in zip(index, line, strict=True)]
        band(left, points, name=f"g = {gain:g}, measured", color=look(number)["color"])
        if gain < 1:
            circular = math.log(gain) + 0.5 * np.log(1 - (index - 0.5) / SIZE)
            left.plot(index, circular, "--", color="#E69F00", label=f"g = {gain:g}, circular law")
        else:
            left.plot(
                1,
                theory(gain)[0],
                "*",
                color="#D55E00",
                markersize=13,
                zorder=4,
                label="λ₁ of mean-field theory",
            )
    left.set(xlabel="index i", ylabel="Lyapunov exponent λᵢ (nats per step)", ylim=(-5, 0.5))
    fine = np.geomspace(GAINS[0], GAINS[-1], 40)
    for place, (name, summary) in enumerate(
        {"λ₁": lambda s: s[:, 0], "mean of all": lambda s: s.mean(axis=1)}.items()
    ):
        points = [(gain, value) for gain in GAINS for value in summary(found[gain])]
        band(right, points, name=f"{name}, measured", **look(place), linestyle="none")
        right.plot(
            fine,
            [theory(gain)[place] for gain in fine],
            "--",
            color="#E69F00",
            label="theory" if place else "",
        )
    right.axhline(0, color="0.45", linewidth=0.8, linestyle=":")
    right.set(xlabel="gain g", ylabel="exponent (nats per step)", xscale="log")
    right.set_xticks(list(GAINS), [f"{gain:g}" for gain in GAINS])
    right.set_xticks([], minor=True)
    for axes in (left, right):
        axes.grid(visible=True, color="0.9", linewidth=0.6)
        axes.legend(frameon=False, fontsize=9)
    left.set_title(f"Whole spectra, N = {SIZE}; bands: range of {SEEDS} seeds", fontsize=10)
    right.set_title("Against the gain", fontsize=10)
    title(figure, f"Neighbouring states part from g = {crossing[0]:g} on, where theory says 1", 100)
