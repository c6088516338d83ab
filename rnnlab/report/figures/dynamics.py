"""The figures of a dynamics study: the spectrum, the phase portrait and the phase diagram."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm, ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from rnnlab.report.figures.style import (
    Record,
    band,
    drawing,
    grid_lines,
    layout,
    legend_below,
    look,
    plain,
    reference_line,
    seed_bands,
    title,
)
from rnnlab.report.sentences import counted, divergence, resting, short, turning
from rnnlab.studies.records import Records, column, select

KINDS = {
    "slow": ("s", "#999999", 5),
    "unstable": ("X", "#000000", 9),
    "saddle": ("^", "#D55E00", 9),
    "marginal": ("D", "#56B4E9", 9),
    "stable": ("o", "#009E73", 10),
}
"""Marker, colour and size of each kind of point; the most important kind is drawn last."""

PATHS = ("#56B4E9", "#0072B2", "#CC79A7")
"""Colours of the trajectories of a portrait."""

THEORY = {"color": "#E69F00", "linestyle": "--", "linewidth": 1.2, "zorder": 5}
"""The style of exact exponents."""

RATES = (-10, -3, -1, -0.3, -0.1, 0, 0.1, 0.3, 1, 3, 10)
"""Ticks of the colour bar of λ₁, nats per step."""


def draw(records: Records, summary: list[Record], folder: Path) -> None:
    """Writes all figures of the study."""
    spectrum(records["spectrum"], records["trace"], summary, folder)
    portrait(records["trajectories"], records["fixed_points"], summary, folder)
    phase(records["phase"], folder)


def spectrum(
    exponents: list[Record],
    trace: list[Record],
    summary: list[Record],
    folder: Path,
) -> None:
    """Writes ``spectrum.png`` and ``.svg``: the exponents by index, and how λ₁ converges."""
    with drawing(folder / "spectrum", 1, 2, (11, 4.8)) as (figure, (left, right)):
        for index, record in enumerate(summary):
            cell = record["cell"]
            style = look(index)
            band(left, _points(exponents, cell, "index"), 16, cell, **style)
            band(right, _points(trace, cell, "step"), 8, **style)
        _theory(left, exponents)
        for axes in (left, right):
            reference_line(axes, 0)
            grid_lines(axes)
        left.set(xlabel="index i", ylabel="Lyapunov exponent λᵢ (nats per step)")
        left.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True, min_n_ticks=1))
        left.set_title(f"Leading exponents{seed_bands(exponents)}", fontsize=10)
        last = max(column(trace, "step"))
        right.set(xlabel="steps averaged over", ylabel="estimate of λ₁ (nats per step)")
        right.set_xscale("log")
        right.set_xlim(0.9, 1.1 * last)
        plain(right.xaxis)
        right.set_title("Convergence of λ₁", fontsize=10)
        legend_below(figure, left)
        title(figure, divergence(summary), 100)


def _theory(axes: Axes, exponents: list[Record]) -> None:
    """Draws the exact exponents, the mean over the seeds, of the cells that have them."""
    by_cell: dict[str, dict[int, list[float]]] = {}
    for row in exponents:
        if row["theory"] is not None:
            by_index = by_cell.setdefault(row["cell"], {})
            by_index.setdefault(row["index"], []).append(row["theory"])
    # All cells share one style and therefore one entry in the legend.
    name = "theory: ln |eigenvalue| at the fixed point"
    for by_index in by_cell.values():
        indices = list(by_index)
        means = [sum(values) / len(values) for values in by_index.values()]
        axes.plot(indices, means, label=name, **THEORY)
        name = ""


def portrait(
    trajectories: list[Record],
    points: list[Record],
    summary: list[Record],
    folder: Path,
) -> None:
    """Writes ``portrait.png`` and ``.svg``: trajectories and fixed points of each cell.

    Each seed has principal components of its own, so only a cell's first seed is drawn.
    """
    rows, columns = layout(len(summary))
    size = (max(3.8 * columns, 6), 3.9 * rows + 0.8)
    several_seeds = len(set(column(trajectories, "seed"))) > 1
    with drawing(folder / "portrait", rows, columns, size) as (figure, panels):
        shown: set[str] = set()
        for axes, record in zip(panels, summary, strict=False):
            cell = record["cell"]
            of_cell = select(trajectories, cell=cell)
            seed = min(column(of_cell, "seed"))
            _trajectories(axes, select(of_cell, seed=seed))
            of_network = select(points, cell=cell, seed=seed)
            shown |= _fixed_points(axes, of_network)
            _component_axes(axes)
            name = f"{cell}, seed {seed}" if several_seeds else cell
            kinds = column(of_network, "kind")
            counts = {kind: kinds.count(kind) for kind in KINDS}
            counts_text = textwrap.fill(counted(counts), 44)
            axes.set_title(f"{name}\n{counts_text}", fontsize=10)
        _portrait_legend(figure, shown)
        width = 34 * columns if columns > 1 else 60
        title(figure, resting(summary), width)


def _trajectories(axes: Axes, rows: list[Record]) -> None:
    """Draws a line for each example, with a dot at its start."""
    examples = sorted(set(column(rows, "example")))
    for index, example in enumerate(examples):
        line = _components(select(rows, example=example))
        colour = PATHS[index % len(PATHS)]
        axes.plot(*line.T, color=colour, linewidth=0.7, alpha=0.6, zorder=1)
        axes.plot(*line[0], ".", color=colour, markersize=7, zorder=1)


def _fixed_points(axes: Axes, rows: list[Record]) -> set[str]:
    """Draws the points, each kind with its marker, and returns the kinds that occur."""
    shown = set()
    # Trajectories have order 1, so that every point covers them.
    for order, (kind, style) in enumerate(KINDS.items(), 2):
        of_kind = select(rows, kind=kind)
        if of_kind:
            shown.add(kind)
            xs, ys = _components(of_kind).T
            axes.plot(xs, ys, zorder=order, **_marks(*style))
    return shown


def _components(rows: list[Record]) -> np.ndarray:
    """The two principal components, ``[rows, 2]``."""
    first, second = column(rows, "pc1"), column(rows, "pc2")
    return np.array([first, second], float).T


def _component_axes(axes: Axes) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.set(xlabel="principal component 1 (units of the state)", ylabel="principal component 2")
    # Distances in the plane are distances of states only with equal scales.
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.08)
    axes.grid(visible=True, color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)


def _portrait_legend(figure: Figure, shown: set[str]) -> None:
    handles = []
    for kind in reversed(KINDS):
        if kind in shown:
            marks = _marks(*KINDS[kind])
            handles.append(Line2D([], [], label=kind, **marks))
    trajectory = Line2D(
        [],
        [],
        color="#0072B2",
        marker=".",
        linewidth=0.8,
        label="trajectory (dot: start)",
    )
    handles.append(trajectory)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)


def _marks(marker: str, colour: str, size: float) -> Record:
    return {
        "marker": marker,
        "markersize": size,
        "color": colour,
        "markeredgecolor": "white",
        "markeredgewidth": 0.6,
        "linestyle": "none",
    }


def phase(records: list[Record], folder: Path) -> None:
    """Writes ``phase.png`` and ``.svg``: λ₁ and horizon over recurrent gain and sequence length.

    A line marks λ₁ = 0.
    """
    cells = list(dict.fromkeys(column(records, "cell")))
    bands, columns = layout(len(cells))
    width, height = max(3.6 * columns + 1.6, 6.2), 5.8 * bands + 1
    known = [rate for rate in column(records, "exponent") if rate is not None]
    largest = max(map(abs, known), default=1)
    # The sign matters, and sizes differ by orders of magnitude: linear within 0.1 nats per step of
    # zero, nearly logarithmic beyond.
    rate_norm = AsinhNorm(0.1, -largest, largest)
    longest = max(column(records, "length"))
    reach_norm = LogNorm(1, longest)
    with drawing(folder / "phase", 2 * bands, columns, (width, height)) as (figure, panels):
        # A band of cells takes two rows of panels: λ₁ above, the horizon below.
        grid = panels.reshape(2 * bands, columns)
        for index, cell in enumerate(cells):
            band_index, place = divmod(index, columns)
            top, bottom = 2 * band_index, 2 * band_index + 1
            upper, lower = grid[top, place], grid[bottom, place]
            of_cell = select(records, cell=cell)
            rates = _map(upper, of_cell, "exponent", "RdBu_r", rate_norm)
            reaches = _map(lower, of_cell, "horizon", "viridis", reach_norm)
            upper.set_title(f"{cell}: λ₁", fontsize=10)
            lower.set_title(f"{cell}: horizon", fontsize=10)
            last_in_band = place == columns - 1 or index == len(cells) - 1
            if last_in_band:
                ticks = [tick for tick in RATES if abs(tick) <= largest]
                _rate_bar(figure, rates, list(grid[top]), ticks)
                _reach_bar(figure, reaches, list(grid[bottom]))
        _phase_legend(figure)
        title(figure, turning(records), 34 * columns + 10)


def _rate_bar(figure: Figure, mesh: Any, panels: list[Axes], ticks: list[float]) -> None:
    figure.colorbar(
        mesh,
        ax=panels,
        label="λ₁ (nats per step)",
        ticks=ticks,
        format=FuncFormatter(lambda value, _: short(value)),
    )


def _reach_bar(figure: Figure, mesh: Any, panels: list[Axes]) -> None:
    bar = figure.colorbar(mesh, ax=panels, label="horizon (steps)")
    plain(bar.ax.yaxis, (1, 2, 5))


def _phase_legend(figure: Figure) -> None:
    zero = Line2D([], [], color="black", linewidth=1.8, label="λ₁ = 0")
    beyond = Patch(
        facecolor="0.93",
        edgecolor="0.6",
        hatch="////",
        label="above 1/1000 at the first step",
    )
    missing = Patch(facecolor="white", edgecolor="0.6", label="no finite number")
    handles = [zero, beyond, missing]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)


def _map(axes: Axes, rows: list[Record], key: str, colours: str, norm: Normalize) -> Any:
    """A heat map over gain and length, both logarithmic; hatched above the horizon."""
    gains = sorted(set(column(rows, "value")))
    lengths = sorted(set(column(rows, "length")))
    borders = _edges(gains), _edges(lengths)
    values = _grid(rows, gains, lengths, key)
    vanishes = _grid(rows, gains, lengths, "vanishes")
    beyond = (vanishes == 0) & (key == "horizon")
    # There the horizon is only known to be longer than the sequence, so no colour would be right.
    values[beyond] = np.nan
    mesh = axes.pcolormesh(*borders, values, cmap=colours, norm=norm, rasterized=True)
    if key == "horizon":
        axes.pcolor(
            *borders,
            np.ma.masked_where(~beyond, beyond),
            cmap=ListedColormap(["0.93"]),
            hatch="////",
            edgecolor="0.6",
            linewidth=0,
        )
    exponents = _grid(rows, gains, lengths, "exponent")
    lowest = np.nanmin(exponents, initial=0)
    highest = np.nanmax(exponents, initial=0)
    # Matplotlib warns of a contour that is nowhere, and needs two rows for any.
    if len(lengths) > 1 and lowest < 0 < highest:
        axes.contour(gains, lengths, exponents, levels=[0], colors="black", linewidths=1.8)
    axes.set_yscale("log")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    plain(axes.yaxis, (1, 2, 5))
    # The minor ticks of a dozen panels take longer to draw than all the rest.
    axes.minorticks_off()
    axes.set(xlabel="recurrent gain g (1 = unscaled weights)", ylabel="sequence length T (steps)")
    return mesh


def _grid(
    rows: list[Record],
    gains: list[float],
    lengths: list[int],
    key: str,
) -> np.ndarray:
    """The values of ``key``, ``[lengths, gains]``, NaN for None."""
    grid = np.full((len(lengths), len(gains)), np.nan)
    for row in rows:
        if row[key] is not None:
            i = lengths.index(row["length"])
            j = gains.index(row["value"])
            grid[i, j] = row[key]
    return grid


def _points(rows: list[Record], cell: str, key: str) -> list[tuple[float, float | None]]:
    """Exponents of a cell over ``key``, of all seeds."""
    of_cell = select(rows, cell=cell)
    return list(zip(column(of_cell, key), column(of_cell, "exponent"), strict=True))


def _edges(centres: list[float]) -> np.ndarray:
    """The borders between values on a log axis, halfway between neighbours."""
    logs = np.log(centres)
    steps = np.diff(logs)
    between = logs[:-1] + steps / 2
    if not len(steps):
        # A single value has no neighbour, and any width will do.
        steps = np.array([0.5])
    first = logs[0] - steps[0] / 2
    last = logs[-1] + steps[-1] / 2
    return np.exp([first, *between, last])
