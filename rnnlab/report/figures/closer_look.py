"""The figures of a closer look: singular values, the matrix of contributions, and truncation."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from rnnlab._wording import power_of_ten
from rnnlab.report.figures.style import (
    Record,
    band,
    decades,
    drawing,
    grid_lines,
    layout,
    legend_below,
    looks,
    plain,
    reference_line,
    seed_bands,
    title,
)
from rnnlab.report.findings import contribution_reach, largest_singular_value, truncation_needed
from rnnlab.report.sentences import label
from rnnlab.studies.records import Records, column, select

DEEPEST = 12.0
"""Decades below the largest value that are drawn; lower values are only in the tables."""

Group = tuple[str, str]
"""A cell and a phase: untrained or trained."""


def draw(records: Records, folder: Path) -> None:
    """Writes all figures of a closer look."""
    rows = records["truncation"]
    phases = len(set(column(rows, "phase")))
    names = {}
    for row in rows:
        group = row["cell"], row["phase"]
        names[group] = label(row, phases)
    singular_values(records["singular_values"], names, folder)
    contributions(records["contributions"], names, folder)
    truncation(records["truncation"], names, folder)


def _of_group(rows: list[Record], group: Group) -> list[Record]:
    """The records of one cell and phase."""
    cell, phase = group
    return select(rows, cell=cell, phase=phase)


def _size(down: int, across: int) -> tuple[float, float]:
    """The size of a figure with panels and a colour bar, inches."""
    return max(4 * across, 6) + 1, 3.8 * down + 0.8


def singular_values(rows: list[Record], names: dict[Group, str], folder: Path) -> None:
    """Writes ``singular_values.png`` and ``.svg``: those of ∂s_T/∂s_k against the lag.

    Each rank has a line of its own.
    """
    down, across = layout(len(names))
    largest_rank = max(column(rows, "index"))
    norm = LogNorm(1, max(largest_rank, 2))
    colours = matplotlib.colormaps["viridis_r"]
    limits = _value_limits(rows)
    findings = []
    with drawing(folder / "singular_values", down, across, _size(down, across)) as (figure, panels):
        for axes, (group, name) in zip(panels, names.items(), strict=False):
            of_group = _of_group(rows, group)
            _rank_lines(axes, of_group, norm, colours)
            axes.set_ylim(limits)
            _value_axes(axes, name)
            _, log_value = largest_singular_value(of_group)
            # Lines are not broken between a name and its value.
            findings.append(f"{name}\N{NO-BREAK SPACE}{_power(log_value)}")
        bar = figure.colorbar(
            ScalarMappable(norm, colours),
            ax=list(panels[: len(names)]),
            label="rank (1 = largest)",
        )
        plain(bar.ax.yaxis)
        last = max(column(rows, "lag"))
        text = (
            f"Largest singular value of ∂s_T/∂s_k over {last} steps: "
            f"{', '.join(findings)}{seed_bands(rows)}"
        )
        title(figure, text, 34 * across + 20)


def _value_limits(rows: list[Record]) -> tuple[float, float]:
    """The range of all singular values in decades, not deeper than DEEPEST."""
    values = np.array(_decades(rows, "log_value"))
    finite = values[np.isfinite(values)]
    if not finite.size:
        finite = np.zeros(1)
    highest = finite.max()
    lowest = max(finite.min() - 0.5, highest - DEEPEST)
    return lowest, highest + 0.5


def _rank_lines(axes: Axes, rows: list[Record], norm: Normalize, colours: Colormap) -> None:
    ranks = set(column(rows, "index"))
    # The largest singular value is the most important, so its line comes last, above the others.
    for rank in sorted(ranks, reverse=True):
        of_rank = select(rows, index=rank)
        points = _points(of_rank, "lag", _decades(of_rank, "log_value"))
        colour = colours(norm(rank))
        band(axes, points, color=colour, linewidth=1.2)


def _decades(rows: list[Record], key: str) -> list[float]:
    return [decades(value) for value in column(rows, key)]


def _points(
    rows: list[Record],
    key: str,
    ys: Sequence[float | None],
) -> list[tuple[float, float | None]]:
    xs = column(rows, key)
    return list(zip(xs, ys, strict=True))


def _value_axes(axes: Axes, name: str) -> None:
    reference_line(axes, 0)
    axes.yaxis.set_major_formatter(FuncFormatter(_math_power))
    grid_lines(axes)
    axes.set(xlabel="lag T − k (steps)", ylabel="singular value of ∂s_T/∂s_k")
    axes.set(xscale="log", title=name)
    plain(axes.xaxis)


def _math_power(exponent: float, _: int) -> str:
    return f"$10^{{{exponent:g}}}$".replace("-", "−")


def contributions(rows: list[Record], names: dict[Group, str], folder: Path) -> None:
    """Writes ``contributions.png`` and ``.svg``: how weights at step k act on the loss at step t.

    The contributions are those of all parameters together.
    """
    down, across = layout(len(names))
    findings = []
    with drawing(folder / "contributions", down, across, _size(down, across)) as (figure, panels):
        mesh = None
        for axes, (group, name) in zip(panels, names.items(), strict=False):
            of_all = select(_of_group(rows, group), parameter="all")
            mesh = _matrix(axes, of_all)
            axes.set(xlabel="step k of the weights", ylabel="step t of the loss", title=name)
            axes.set_aspect("equal")
            reach = contribution_reach(of_all)
            findings.append(f"{name} {'all' if reach is None else reach}")
        if mesh is not None:
            _contribution_bar(figure, mesh, list(panels[: len(names)]))
        text = (
            "Largest lag with a contribution above 1/1000 of the largest (steps): "
            f"{', '.join(findings)}"
        )
        title(figure, text, 34 * across + 20)


def _matrix(axes: Axes, rows: list[Record]) -> ScalarMappable:
    """A heat map of the contributions, relative to the largest; grey where there is none."""
    steps = sorted(set(column(rows, "t")))
    shape = (len(steps), len(steps))
    grid = np.full(shape, np.nan)
    for row in rows:
        t, k = steps.index(row["t"]), steps.index(row["k"])
        grid[t, k] = decades(row["log_norm"])
    grid -= np.nanmax(grid)
    # Steps may be thinned out. A cell reaches from the step before it to its own.
    borders = np.array([0, *steps]) + 0.5
    mesh = axes.pcolormesh(
        borders,
        borders,
        np.maximum(grid, -DEEPEST),
        cmap="magma",
        norm=Normalize(-DEEPEST, 0),
        rasterized=True,
    )
    axes.set_facecolor("0.93")
    return mesh


def _contribution_bar(figure: Figure, mesh: ScalarMappable, panels: list[Axes]) -> None:
    bar = figure.colorbar(mesh, ax=panels, label="contribution, relative to the largest")
    ticks = list(range(-int(DEEPEST), 1, 3))
    labels = list(map(power_of_ten, ticks))
    bar.set_ticks(ticks, labels=labels)


def truncation(rows: list[Record], names: dict[Group, str], folder: Path) -> None:
    """Writes ``truncation.png`` and ``.svg``: the truncated gradient's cosine and relative norm."""
    findings = []
    styles = looks(list(names))
    with drawing(folder / "truncation", 1, 2, (11, 4.8)) as (figure, (left, right)):
        for (group, name), (_, style) in zip(names.items(), styles, strict=True):
            of_group = _of_group(rows, group)
            cosines = _points(of_group, "steps", column(of_group, "cosine"))
            norms = _points(of_group, "steps", column(of_group, "relative_norm"))
            band(left, cosines, name=name, **style)
            band(right, norms, name=name, **style)
            needed = truncation_needed(of_group)
            findings.append(f"{name} {needed or _more_than(of_group)}")
        for axes in (left, right):
            reference_line(axes, 1)
            axes.set(xlabel="truncated to K (steps)", xscale="log")
            grid_lines(axes)
            plain(axes.xaxis)
        left.set(ylabel="cosine with the full gradient")
        left.set_title(f"Direction{seed_bands(rows)}", fontsize=10)
        right.set(ylabel="norm relative to the full gradient")
        right.set_title("Norm", fontsize=10)
        # Long handles show the dashes.
        legend_below(figure, left, handlelength=3)
        text = f"Truncation length for a cosine of 0.99 (steps): {', '.join(findings)}"
        title(figure, text, 100)


def _more_than(rows: list[Record]) -> str:
    longest = max(column(rows, "steps"))
    return f"more than {longest}"


def _power(log_value: float | None) -> str:
    """A number from its natural logarithm; None is ln 0."""
    if log_value is None:
        return "zero"
    exponent = decades(log_value)
    if -3 < exponent < 4:
        return f"{10**exponent:.2g}"
    return power_of_ten(exponent)
