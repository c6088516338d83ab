"""One figure of a single result, whatever the instrument."""

import math
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from jax.tree_util import keystr, tree_leaves_with_path
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnnlab.diagnostics import (
    VANISHED,
    AttractorKind,
    BpttContributions,
    FixedPoints,
    GradientFlow,
    JacobianProducts,
    LimitCycles,
    LyapunovSpectrum,
    PascanuBound,
    PhaseDiagram,
    TruncationBias,
)
from rnnlab.report.figures.style import COLOURS, STYLE, title
from rnnlab.report.figures.training import training
from rnnlab.report.figures.unfolded import unfolded
from rnnlab.report.training import run_metrics
from rnnlab.training import GradientLooks
from rnnlab.training.metrics import History

DRAWN = 50
"""At most so many examples are drawn as lines of their own."""


def plot(result: Any) -> Figure:
    """The figure of a result; see :func:`rnnlab.report.plot`."""
    if isinstance(result, History):
        # As many panels as it has kinds of metrics.
        return training(run_metrics(result.records))
    draw = _DRAW.get(type(result))
    if draw is None:
        names = ", ".join(sorted(kind.__name__ for kind in (*_DRAW, History)))
        raise ValueError(f"a {type(result).__name__} has no figure; give one of {names}")
    with matplotlib.rc_context(STYLE):
        columns = 2 if type(result) in _TWO_PANELS else 1
        figure = Figure(figsize=(6 * columns, 4.2), layout="constrained")
        draw(result, *figure.subplots(1, columns, squeeze=False)[0])
        if hasattr(result, "finding"):
            sentence = result.finding().splitlines()[0].strip()
            if sentence[:1].isascii():
                # A Greek letter is a symbol: λ₁ is not Λ₁.
                sentence = sentence[:1].upper() + sentence[1:]
            title(figure, sentence, 60 * columns)
    return figure


def plot_unfolded(matrix: BpttContributions, row: int, steps: int) -> Figure:
    """The figure of :func:`rnnlab.report.unfolded`."""
    with matplotlib.rc_context(STYLE):
        width = min(4 + min(steps, len(np.asarray(matrix.log_norm_state)[0])), 14)
        figure = Figure(figsize=(width, 4.2), layout="constrained")
        unfolded(matrix, figure.subplots(), row, steps)
    return figure


def _flow(flow: GradientFlow, left: Axes, right: Axes) -> None:
    """The norm of the gradient by lag, and what each step contributes to each parameter."""
    layered = np.ndim(flow.horizon) > 0
    medians = np.atleast_2d(flow.log_norm_by_lag)
    layers, lags = medians.shape
    examples = np.asarray(flow.examples.log_norm).reshape(layers, lags, -1)
    for layer, median in enumerate(medians):
        colour = COLOURS[layer % len(COLOURS)]
        for line in examples[layer].T[:DRAWN]:
            left.plot(_relative(line), color=colour, alpha=0.25, linewidth=0.6)
        name = f"layer {layer}" if layered else "median example"
        left.plot(_relative(median), color=colour, linewidth=1.8, label=name)
    left.axhline(-VANISHED, color="0.5", linestyle=":", label="1/1000")
    left.set(xlabel="lag (steps back from the loss)", ylabel="ln‖∂E/∂s‖, relative to lag 0")
    left.legend()
    for place, (path, log_norms) in enumerate(tree_leaves_with_path(flow.log_contributions)):
        steps = np.arange(1, len(log_norms) + 1)
        colour = COLOURS[place % len(COLOURS)]
        right.plot(steps, _finite(log_norms), color=colour, label=keystr(path).removeprefix("."))
    right.set(xlabel="step", ylabel="ln‖contribution to the gradient‖")
    right.legend()


def _contributions(matrix: BpttContributions, axes: Axes) -> None:
    """The gradient of the state by the step of the loss and the step before it."""
    values = _finite(matrix.log_norm_state)
    last = np.asarray(matrix.last)
    edges = np.concatenate([[0.5], last + 0.5])
    steps = np.arange(values.shape[1] + 1) + 0.5
    lowest = np.nanmax(values) - 3 * VANISHED
    image = axes.pcolormesh(steps, edges, values, cmap="viridis", vmin=lowest)
    axes.figure.colorbar(image, ax=axes, label="ln‖∂E_t/∂s_k‖")
    axes.set(xlabel="step k of the state", ylabel="step t of the loss")
    title(_figure(axes), "Gradient of each loss with respect to each earlier state", 60)


def _truncation(bias: TruncationBias, axes: Axes) -> None:
    """Direction and length of the truncated gradient."""
    axes.plot(bias.steps, bias.cosine, "o-", color=COLOURS[0], label="cosine")
    axes.plot(bias.steps, bias.relative_norm, "s-", color=COLOURS[1], label="relative norm")
    axes.set(
        xscale="log", xlabel="truncation length K (steps)", ylabel="relative to the full gradient"
    )
    axes.legend()


def _products(products: JacobianProducts, axes: Axes) -> None:
    """Singular values of the product of Jacobians by lag."""
    order = np.argsort(products.lags)
    lags = np.asarray(products.lags)[order]
    values = _finite(products.median_log_singular_values)[order]
    middle = values.shape[1] // 2
    for name, place, style in (
        ("largest", 0, "-"),
        ("median", middle, "--"),
        ("smallest", -1, ":"),
    ):
        axes.plot(lags, values[:, place], style, color=COLOURS[1], label=name)
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.set(xscale="log", xlabel="lag (steps)", ylabel="ln σ of ∂sₜ/∂sₖ")
    axes.legend(title="singular value")


def _bound(bound: PascanuBound, axes: Axes) -> None:
    """The bound by lag, and the norms that were measured for each example."""
    lags = np.asarray(bound.lags)
    order = np.argsort(lags)
    examples = _finite(bound.log_norm).reshape(lags.size, -1)
    for index, example in enumerate(examples.T[:DRAWN]):
        name = "measured, each example" if index == 0 else None
        axes.plot(lags[order], example[order], ".", color=COLOURS[1], alpha=0.6, label=name)
    log_bound = _finite(bound.log_bound)[order]
    axes.plot(lags[order], log_bound, color="0.3", label="bound (γ σ_max)^lag")
    axes.set(xlabel="lag (steps)", ylabel="ln‖∂hₜ/∂hₖ‖")
    axes.legend()


def _attractors(ends: AttractorKind, axes: Axes) -> None:
    """The largest exponent of each trajectory, by the kind of its attractor."""
    exponents = _finite(ends.exponent)
    errors = np.where(np.isfinite(ends.standard_error), ends.standard_error, 0)
    index = np.arange(exponents.size)
    for place, name in enumerate(dict.fromkeys(ends.kind)):
        chosen = np.array([kind == name for kind in ends.kind])
        axes.errorbar(
            index[chosen],
            exponents[chosen],
            yerr=errors[chosen],
            fmt="o",
            markersize=4,
            color=COLOURS[place],
            label=name,
        )
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.set(xlabel="trajectory", ylabel="λ₁ (nats per step)")
    axes.legend()


def _spectrum(spectrum: LyapunovSpectrum, axes: Axes) -> None:
    """The exponents, with their spread over the examples."""
    mean = _finite(spectrum.mean)
    spread = np.where(np.isfinite(spectrum.spread), spectrum.spread, 0)
    index = np.arange(1, mean.size + 1)
    axes.errorbar(index, mean, yerr=spread, fmt="o-", color=COLOURS[1], markersize=4)
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.set(xlabel="index", ylabel="Lyapunov exponent (nats per step)")


def _phase(diagram: PhaseDiagram, left: Axes, right: Axes) -> None:
    """Horizon and first exponent over what was varied and the length."""
    values, lengths = np.asarray(diagram.values), np.asarray(diagram.lengths)
    limit = float(np.nanmax(np.abs(_finite(diagram.exponent)), initial=1e-12))
    horizon = left.pcolormesh(values, lengths, _finite(diagram.horizon).T, shading="nearest")
    exponent = right.pcolormesh(
        values, lengths, _finite(diagram.exponent).T, shading="nearest", cmap="RdBu_r",
        vmin=-limit, vmax=limit,
    )  # fmt: skip
    panels = (left, horizon, "horizon (steps)"), (right, exponent, "λ₁ (nats per step)")
    for axes, image, label in panels:
        axes.figure.colorbar(image, ax=axes, label=label)
        axes.set(xlabel="varied value", ylabel="length T (steps)")
        if len(lengths) > 1:
            axes.set_yscale("log")
    title(_figure(left), "How far gradients reach, and whether nearby trajectories diverge", 100)


def _points(points: FixedPoints, axes: Axes) -> None:
    _eigenvalues(points.eigenvalues, points.kind, axes)


def _cycles(cycles: LimitCycles, axes: Axes) -> None:
    _eigenvalues(cycles.multipliers, cycles.kind, axes)


def _eigenvalues(values: np.ndarray, kinds: tuple[str, ...], axes: Axes) -> None:
    """Eigenvalues in the complex plane, by the kind of point."""
    angle = np.linspace(0, 2 * math.pi, 200)
    axes.plot(np.cos(angle), np.sin(angle), color="0.5", linewidth=0.8)
    names = list(dict.fromkeys(kinds))
    for place, name in enumerate(names):
        chosen = np.array([kind == name for kind in kinds])
        of_kind = np.asarray(values)[chosen].ravel()
        axes.plot(
            np.real(of_kind), np.imag(of_kind), "o", markersize=4, color=COLOURS[place], label=name
        )
    axes.set(xlabel="real part", ylabel="imaginary part", aspect="equal")
    if names:
        axes.legend()


def _looks(looks: GradientLooks, axes: Axes) -> None:
    """The norms of a monitor against the training step; the mean over seeds."""
    for place, (name, log_norms) in enumerate(looks.log_norm.items()):
        lines = _finite(log_norms).reshape(-1, log_norms.shape[-1])
        steps = np.asarray(looks.steps).reshape(-1, log_norms.shape[-1])[0]
        axes.plot(steps, lines.mean(axis=0), color=COLOURS[place % len(COLOURS)], label=name)
    axes.set(xlabel="training step", ylabel="ln‖∂L/∂θ‖")
    axes.legend()
    title(_figure(axes), "The gradient during training", 60)


def _relative(log_norms: Any) -> np.ndarray:
    """Log-norms by lag relative to the first; NaN, which is not drawn, for zero."""
    values = _finite(log_norms)
    return values - values[0]


def _finite(values: Any) -> np.ndarray:
    numbers = np.asarray(values, float)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _figure(axes: Axes) -> Figure:
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    return figure


_DRAW: dict[type, Callable[..., None]] = {
    GradientFlow: _flow,
    BpttContributions: _contributions,
    TruncationBias: _truncation,
    JacobianProducts: _products,
    LyapunovSpectrum: _spectrum,
    PascanuBound: _bound,
    AttractorKind: _attractors,
    PhaseDiagram: _phase,
    FixedPoints: _points,
    LimitCycles: _cycles,
    GradientLooks: _looks,
}

_TWO_PANELS = (GradientFlow, PhaseDiagram)
