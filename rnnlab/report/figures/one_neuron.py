"""Figures of one neuron: its bifurcation diagram, and paths of descent at the wall of its loss."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure

from rnnlab.report.figures.style import COLOURS, STYLE, Record, grid_lines

BLACK, BLUE, RED = COLOURS[:3]
SHADE = LinearSegmentedColormap.from_list("light grey", ["1.0", "0.5"])
FLOOR = 1e-4
"""Losses up to this one are white in a surface."""
LEAST = 1e-6
"""Smaller final losses are drawn as this one: a log axis has no place for zero."""
NEAR = 10
"""Thresholds up to this multiple of the average norm count as useful ones."""

FOLD: Any = {
    "color": BLACK,
    "marker": "o",
    "markersize": 6,
    "linestyle": "none",
    "zorder": 3,
}
CENTRED: Any = {"ha": "center", "va": "center", "fontsize": 9}
CLIPPED: Any = {"color": BLUE, "marker": "s", "markersize": 4}
UNCLIPPED: Any = {"color": RED, "linewidth": 1.4, "linestyle": "--"}
QUARTILES = (0.25, 0.5, 0.75)
IN_AXES: Any = {"xycoords": "axes fraction", "ha": "center", "fontsize": 9}


def bifurcation(diagram: Record, plane: Record, path: Path) -> None:
    """Writes fixed points against b at one w, and the folds and their cusp in the plane of (w, b).

    Args:
        diagram: ``w``; ``branches``, each with ``b``, ``x`` and ``stable``; ``folds``, two pairs
            (b, x).
        plane: ``w``, with the b of the folds there as ``lower`` and ``upper``; ``cusp``, a pair
            (w, b).
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
            f"At w = {diagram['w']:g} two states are stable for b from {_signed(low)} to "
            f"{_signed(high)}; below the cusp at w = {w:g}, b = {_signed(b)} there is only one"
        )
        figure.suptitle(finding, fontsize=12)
        figure.savefig(path, dpi=150)


def _branches(axes: Axes, diagram: Record) -> None:
    """Fixed points x against b; the area between the folds, where two are stable, is grey."""
    named = set()
    for branch in diagram["branches"]:
        if branch["stable"]:
            kind, line, colour = "stable", "-", BLUE
        else:
            kind, line, colour = "unstable", "--", RED
        # Several branches are of one kind; the legend names a kind once.
        name = None if kind in named else kind
        named.add(kind)
        axes.plot(branch["b"], branch["x"], line, color=colour, linewidth=2, label=name)
    low, high = sorted(b for b, _ in diagram["folds"])
    axes.axvspan(low, high, color="0.93", zorder=0)
    name = "fold"
    for b, x in diagram["folds"]:
        axes.plot(b, x, label=name, **FOLD)
        name = None
        _name_fold(axes, b, x, on_right=b == high)
    w = diagram["w"]
    axes.set(xlabel="bias b", ylabel="fixed point x")
    axes.set_ylim(-0.02, 1.02)
    axes.set_title(
        f"Fixed points of dx/dt = −x + σ({w:g} x + b); grey: two are stable", fontsize=10
    )
    axes.legend(frameon=False, loc="upper left")


def _name_fold(axes: Axes, b: float, x: float, *, on_right: bool) -> None:
    """Writes the coordinates of a fold outside of the grey area."""
    axes.annotate(
        f"b = {_signed(b, 5)}\nx = {x:.4f}",
        (b, x),
        xytext=(8 if on_right else -8, 0),
        textcoords="offset points",
        ha="left" if on_right else "right",
        va="center",
        fontsize=9,
    )


def _plane(axes: Axes, diagram: Record, plane: Record) -> None:
    """The folds in the plane of (w, b), and how many fixed points each region has."""
    w = np.asarray(plane["w"], float)
    lower = np.asarray(plane["lower"], float)
    upper = np.asarray(plane["upper"], float)
    axes.fill_between(w, lower, upper, color="0.93", zorder=0)
    for line in (lower, upper):
        axes.plot(w, line, color=BLACK, linewidth=1.4)
    axes.plot(*plane["cusp"], "D", color=RED, markersize=7, zorder=3)
    _name_cusp(axes, *plane["cusp"])
    _mark_section(axes, diagram)
    width = w[-1] - w[0]
    # Four fifths along w the area between the folds is wide enough for the text.
    index = np.searchsorted(w, w[0] + 0.8 * width)
    middle = (lower[index] + upper[index]) / 2
    axes.annotate("three fixed points,\ntwo of them stable", (w[index], middle), **CENTRED)
    axes.annotate("only the upper one", (0.8, 0.88), **IN_AXES)
    axes.annotate("only the lower one", (0.55, 0.22), **IN_AXES)
    axes.set(xlabel="recurrent weight w", ylabel="bias b")
    axes.set_xlim(w[0] - 0.3 * width, w[-1])
    axes.set_title("Regions by their fixed points, with folds (lines) and cusp", fontsize=10)


def _name_cusp(axes: Axes, w: float, b: float) -> None:
    axes.annotate(
        f"cusp\nw = {w:g}, b = {_signed(b)}",
        (w, b),
        xytext=(-6, -14),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=9,
    )


def _mark_section(axes: Axes, diagram: Record) -> None:
    """Marks the w of the left panel, and the folds there."""
    w = diagram["w"]
    axes.axvline(w, color="0.45", linewidth=0.9, linestyle=":")
    axes.annotate(
        f"left: w = {w:g}",
        (w, 0),
        xycoords=("data", "axes fraction"),
        xytext=(5, 6),
        textcoords="offset points",
        fontsize=9,
        color="0.35",
    )
    for b, _ in diagram["folds"]:
        axes.plot(w, b, **FOLD)


def _signed(value: float, digits: int = 4) -> str:
    """A number with the minus sign of the axes."""
    return f"{value:.{digits}g}".replace("-", "−")


def walls(surfaces: Sequence[Record], path: Path) -> None:
    """Writes a row for each loss surface: its wall with two paths, and the results of many paths.

    Args:
        surfaces: records with the following entries, for W values of w, B of b, N steps, K
            thresholds and S starts.
            ``name``; ``w`` [W], ``b`` [B] and ``loss`` [W, B]; ``wall`` [W], its b for each w.
            ``plain`` and ``clipped``: ``w`` and ``b`` [N + 1] of one path each; ``clipped`` also
            has its ``threshold``.
            ``thresholds`` [K], the last one infinite; ``average``, the average norm of a gradient;
            ``thrown`` [K], the share of paths that a step threw away; ``final`` [S, K], the final
            losses.
        path: the file, PNG or SVG.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11.5, 4.6 * len(surfaces) + 0.4), layout="constrained")
        grid = figure.add_gridspec(2 * len(surfaces), 2, width_ratios=(1.25, 1))
        for index, surface in enumerate(surfaces):
            top, bottom = 2 * index, 2 * index + 1
            left = figure.add_subplot(grid[top : bottom + 1, 0])
            _surface(figure, left, surface)
            below = figure.add_subplot(grid[bottom, 1])
            above = figure.add_subplot(grid[top, 1], sharex=below)
            _thresholds(above, below, surface)
        figure.suptitle(_wall_finding(surfaces), fontsize=12)
        figure.savefig(path, dpi=150)


def _wall_finding(surfaces: Sequence[Record]) -> str:
    unclipped, clipped = [], []
    for surface in surfaces:
        thrown = np.asarray(surface["thrown"])
        near = np.asarray(surface["thresholds"]) <= NEAR * surface["average"]
        unclipped.append(f"{thrown[-1]:.0%}")
        clipped.append(thrown[near].max())
    return (
        f"Without clipping, {' and '.join(unclipped)} of the descents jump far away at the wall; "
        f"with τ up to {NEAR} × the average norm, at most {max(clipped):.1%}"
    )


def _surface(figure: Figure, axes: Axes, surface: Record) -> None:
    """The loss, its wall, and a path with and one without clipping."""
    ws = np.asarray(surface["w"])
    bs = np.asarray(surface["b"])
    loss = np.asarray(surface["loss"]).T
    loss = np.maximum(loss, FLOOR)
    norm = LogNorm(FLOOR, loss.max())
    image = axes.pcolormesh(ws, bs, loss, cmap=SHADE, norm=norm, rasterized=True)
    figure.colorbar(image, ax=axes, label=f"loss (white: {FLOOR:g} and below)", pad=0.02)
    axes.plot(ws, surface["wall"], color=BLACK, linewidth=1.3, linestyle="--", label="the wall")
    diagonal = np.hypot(np.ptp(ws), np.ptp(bs))
    _paths(axes, surface, diagonal)
    axes.set(xlabel="recurrent weight w", ylabel="bias b")
    axes.set_xlim(ws[0], ws[-1])
    axes.set_ylim(bs[0], bs[-1])
    axes.set_title(surface["name"], fontsize=10)
    axes.legend(fontsize=8, loc="lower left", framealpha=0.95)


def _paths(axes: Axes, surface: Record, diagonal: float) -> None:
    """The two paths; the one without clipping up to the step that leaves the picture."""
    plain, clipped = surface["plain"], surface["clipped"]
    w = np.asarray(plain["w"])
    b = np.asarray(plain["b"])
    strides = np.hypot(np.diff(w), np.diff(b))
    # The first step longer than the picture. The negation makes a step to NaN such a step too.
    leap = int(np.argmax(~(strides < diagonal)))
    axes.plot(
        w[: leap + 1],
        b[: leap + 1],
        color=RED,
        marker="o",
        markersize=3.5,
        linewidth=1.2,
        label="not clipped",
    )
    axes.plot(
        np.asarray(clipped["w"]),
        np.asarray(clipped["b"]),
        color=BLUE,
        marker="o",
        markersize=2.5,
        linewidth=1,
        label=f"clipped at {clipped['threshold']:.2g}",
    )
    last = slice(leap, leap + 2)
    axes.plot(w[last], b[last], color=RED, linewidth=2)
    _, end_w = w[last]
    _, end_b = b[last]
    axes.annotate(
        f"step {leap + 1} goes to w = {_signed(end_w, 3)}, b = {_signed(end_b, 3)}",
        (0.97, 0.95),
        xycoords="axes fraction",
        ha="right",
        fontsize=9,
        color=RED,
    )
    axes.plot(w[0], b[0], "*", color=BLACK, markersize=12, zorder=4, label="start")


def _thresholds(above: Axes, below: Axes, surface: Record) -> None:
    """The share that is thrown away and the final loss, against the threshold."""
    # The last threshold is infinite, that is, no clipping; it has no place on the axis, and is
    # drawn as a level.
    taus = np.asarray(surface["thresholds"])[:-1] / surface["average"]
    thrown = 100 * np.asarray(surface["thrown"])
    final = np.asarray(surface["final"])
    above.plot(taus, thrown[:-1], **CLIPPED)
    above.axhline(thrown[-1], **UNCLIPPED)
    above.set(ylabel="thrown away (%)", ylim=(-2, None))
    above.tick_params(labelbottom=False)
    above.set_title(
        f"{len(final)} starts; bands: quartiles; grey: ½ to {NEAR} × average", fontsize=10
    )
    # Paths that were thrown far away may end in NaN.
    final = np.maximum(final, LEAST)
    low, middle, high = np.nanquantile(final, QUARTILES, axis=0)
    below.fill_between(taus, low[:-1], high[:-1], color=BLUE, alpha=0.15, linewidth=0)
    below.plot(taus, middle[:-1], label="clipped", **CLIPPED)
    below.axhspan(low[-1], high[-1], color=RED, alpha=0.1, linewidth=0)
    below.axhline(middle[-1], label="not clipped", **UNCLIPPED)
    below.set(xscale="log", yscale="log")
    below.set(ylabel="final loss", xlabel="threshold τ / average gradient norm")
    below.legend(fontsize=8, frameon=False, ncols=2)
    for axes in (above, below):
        axes.axvspan(0.5, NEAR, color="0.93", zorder=0)
        grid_lines(axes)
