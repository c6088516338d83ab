"""Figures of one neuron: its bifurcation diagram, and paths of descent at the wall of its loss."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure

from rnnlab.report.figures.style import COLOURS, STYLE

BLACK, BLUE, RED = COLOURS[:3]
SHADE = LinearSegmentedColormap.from_list("light grey", ["1.0", "0.5"])
FLOOR = 1e-4
"""Losses below are white in a surface."""
LEAST = 1e-6
"""Losses in the end that are below are drawn as this one."""


def bifurcation(diagram: dict[str, Any], plane: dict[str, Any], path: Path) -> None:
    """Writes fixed points against b at one w, and the folds and their cusp in the plane of (w, b).

    Args:
        diagram: ``w``; ``branches``, each with ``b``, ``x`` and ``stable``; ``folds``, two pairs (b, x).
        plane: ``w``, with the b of the folds there as ``lower`` and ``upper``; ``cusp``, a pair (w, b).
        path: the file, PNG or SVG.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        _branches(left, diagram)
        _plane(right, diagram, plane)
        low, high = sorted(b for b, _ in diagram["folds"])
        w, b = plane["cusp"]
        finding = (
            f"At w = {diagram['w']:g} two states are stable for b from {_signed(low)} to {_signed(high)}; "
            f"below the cusp at w = {w:g}, b = {_signed(b)} there is but one"
        )
        figure.suptitle(finding, fontsize=12)
        figure.savefig(path, dpi=150)


def _branches(axes: Axes, diagram: dict[str, Any]) -> None:
    named = set()
    for branch in diagram["branches"]:
        kind = "stable" if branch["stable"] else "unstable"
        line = "-" if branch["stable"] else "--"
        colour = BLUE if branch["stable"] else RED
        axes.plot(
            branch["b"],
            branch["x"],
            line,
            color=colour,
            linewidth=2,
            label=kind if kind not in named else None,
        )
        named.add(kind)
    low, high = sorted(b for b, _ in diagram["folds"])
    axes.axvspan(low, high, color="0.93", zorder=0)
    for number, (b, x) in enumerate(diagram["folds"]):
        axes.plot(b, x, "o", color=BLACK, markersize=6, zorder=3, label=None if number else "fold")
        ahead = b == high
        axes.annotate(
            f"b = {_signed(b, 5)}\nx = {x:.4f}",
            (b, x),
            xytext=(8 if ahead else -8, 0),
            textcoords="offset points",
            ha="left" if ahead else "right",
            va="center",
            fontsize=9,
        )
    axes.set(xlabel="bias b", ylabel="fixed point x", ylim=(-0.02, 1.02))
    axes.set_title(
        f"Fixed points of dx/dt = −x + σ({diagram['w']:g} x + b); grey: two are stable", fontsize=10
    )
    axes.legend(frameon=False, loc="upper left")


def _plane(axes: Axes, diagram: dict[str, Any], plane: dict[str, Any]) -> None:
    w, lower, upper = (np.asarray(plane[name], float) for name in ("w", "lower", "upper"))
    axes.fill_between(w, lower, upper, color="0.93", zorder=0)
    for line in (lower, upper):
        axes.plot(w, line, color=BLACK, linewidth=1.4)
    axes.plot(*plane["cusp"], "D", color=RED, markersize=7, zorder=3)
    axes.annotate(f"cusp\nw = {plane['cusp'][0]:g}, b = {_signed(plane['cusp'][1])}", plane["cusp"], xytext=(-6, -14),
                  textcoords="offset points", ha="right", va="center", fontsize=9)  # fmt: skip
    axes.axvline(diagram["w"], color="0.45", linewidth=0.9, linestyle=":")
    axes.annotate(f"left: w = {diagram['w']:g}", (diagram["w"], 0), xycoords=("data", "axes fraction"), xytext=(5, 6),
                  textcoords="offset points", fontsize=9, color="0.35")  # fmt: skip
    for b, _ in diagram["folds"]:
        axes.plot(diagram["w"], b, "o", color=BLACK, markersize=6, zorder=3)
    place = np.searchsorted(w, w[0] + 0.8 * (w[-1] - w[0]))
    axes.annotate("three fixed points,\ntwo of them stable", (w[place], (lower[place] + upper[place]) / 2),
                  ha="center", va="center", fontsize=9)  # fmt: skip
    axes.annotate(
        "only the upper one", (0.8, 0.88), xycoords="axes fraction", ha="center", fontsize=9
    )
    axes.annotate(
        "only the lower one", (0.55, 0.22), xycoords="axes fraction", ha="center", fontsize=9
    )
    axes.set(
        xlabel="recurrent weight w", ylabel="bias b", xlim=(w[0] - 0.3 * (w[-1] - w[0]), w[-1])
    )
    axes.set_title("Where there are how many: folds (lines) and their cusp", fontsize=10)


def _signed(value: float, digits: int = 4) -> str:
    """With the minus sign that the axes have."""
    return f"{value:.{digits}g}".replace("-", "−")


def walls(surfaces: Sequence[dict[str, Any]], path: Path) -> None:
    """Writes a row for each loss surface: its wall with two paths, and what became of many paths at each threshold.

    Args:
        surfaces: each with ``name``; ``w`` [W], ``b`` [B] and ``loss`` [W, B]; ``wall``, b for each w; ``plain`` and
            ``clipped``, the ``w`` and ``b`` [N + 1] of a path each and, for the second, its ``threshold``; and of S
            starts ``thresholds`` [K], the last infinite, ``average``, a gradient's average norm, ``thrown`` [K], the
            share that a step threw away, and ``final`` [S, K], the losses in the end.
        path: the file, PNG or SVG.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11.5, 4.6 * len(surfaces) + 0.4), layout="constrained")
        grid = figure.add_gridspec(2 * len(surfaces), 2, width_ratios=(1.25, 1))
        for row, surface in enumerate(surfaces):
            _surface(figure, figure.add_subplot(grid[2 * row : 2 * row + 2, 0]), surface)
            below = figure.add_subplot(grid[2 * row + 1, 1])
            _thresholds(figure.add_subplot(grid[2 * row, 1], sharex=below), below, surface)
        free = " and ".join(f"{surface['thrown'][-1]:.0%}" for surface in surfaces)
        near = [
            surface["thrown"][np.asarray(surface["thresholds"]) <= 10 * surface["average"]]
            for surface in surfaces
        ]
        held = max(share.max() for share in near)
        finding = f"The wall throws {free} of unclipped descents away; with τ up to 10 × the average norm {held:.1%}"
        figure.suptitle(finding, fontsize=12)
        figure.savefig(path, dpi=150)


def _surface(figure: Figure, axes: Axes, surface: dict[str, Any]) -> None:
    ws, bs = np.asarray(surface["w"]), np.asarray(surface["b"])
    loss = np.maximum(np.asarray(surface["loss"]).T, FLOOR)
    image = axes.pcolormesh(
        ws, bs, loss, cmap=SHADE, norm=LogNorm(FLOOR, loss.max()), rasterized=True
    )
    figure.colorbar(image, ax=axes, label=f"loss (white: {FLOOR:g} and below)", pad=0.02)
    axes.plot(ws, surface["wall"], color=BLACK, linewidth=1.3, linestyle="--", label="the wall")
    plain, clipped = (
        (np.asarray(surface[name]["w"]), np.asarray(surface[name]["b"]))
        for name in ("plain", "clipped")
    )
    stride = np.hypot(np.diff(plain[0]), np.diff(plain[1]))
    leap = int(
        np.argmax(~(stride < np.hypot(np.ptp(ws), np.ptp(bs))))
    )  # the first step longer than the picture
    here, there = (tuple(float(part[k]) for part in plain) for k in (leap, leap + 1))
    axes.plot(*(part[: leap + 1] for part in plain), color=RED, marker="o", markersize=3.5, linewidth=1.2,
              label="not clipped")  # fmt: skip
    axes.plot(*clipped, color=BLUE, marker="o", markersize=2.5, linewidth=1,
              label=f"clipped at {surface['clipped']['threshold']:.2g}")  # fmt: skip
    axes.plot(*zip(here, there, strict=True), color=RED, linewidth=2)
    axes.annotate(f"step {leap + 1} goes to w = {_signed(there[0], 3)}, b = {_signed(there[1], 3)}", (0.97, 0.95),
                  xycoords="axes fraction", ha="right", fontsize=9, color=RED)  # fmt: skip
    axes.plot(plain[0][0], plain[1][0], "*", color=BLACK, markersize=12, zorder=4, label="start")
    axes.set(
        xlabel="recurrent weight w", ylabel="bias b", xlim=(ws[0], ws[-1]), ylim=(bs[0], bs[-1])
    )
    axes.set_title(surface["name"], fontsize=10)
    axes.legend(fontsize=8, loc="lower left", framealpha=0.95)


def _thresholds(above: Axes, below: Axes, surface: dict[str, Any]) -> None:
    """The share that is thrown away and the loss in the end, against the threshold."""
    taus = np.asarray(surface["thresholds"])[:-1] / surface["average"]
    thrown, final = np.asarray(surface["thrown"]), np.asarray(surface["final"])
    above.plot(taus, 100 * thrown[:-1], color=BLUE, marker="s", markersize=4)
    above.axhline(100 * thrown[-1], color=RED, linewidth=1.4, linestyle="--")
    above.set(ylabel="thrown away (%)", ylim=(-2, None))
    above.tick_params(labelbottom=False)
    above.set_title(f"{len(final)} starts; bands: quartiles; grey: ½ to 10 × average", fontsize=10)
    low, middle, high = np.nanquantile(np.maximum(final, LEAST), (0.25, 0.5, 0.75), axis=0)
    below.fill_between(taus, low[:-1], high[:-1], color=BLUE, alpha=0.15, linewidth=0)
    below.plot(taus, middle[:-1], color=BLUE, marker="s", markersize=4, label="clipped")
    below.axhspan(low[-1], high[-1], color=RED, alpha=0.1, linewidth=0)
    below.axhline(middle[-1], color=RED, linewidth=1.4, linestyle="--", label="not clipped")
    below.set(
        xscale="log",
        yscale="log",
        ylabel="loss in the end",
        xlabel="threshold τ / average gradient norm",
    )
    below.legend(fontsize=8, frameon=False, ncols=2)
    for axes in (above, below):
        axes.axvspan(0.5, 10, color="0.93", zorder=0)
        axes.grid(visible=True, color="0.9", linewidth=0.6)
