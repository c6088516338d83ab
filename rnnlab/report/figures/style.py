"""The common style of the figures: colours, markers, lines with bands, logarithmic axes, files."""

import contextlib
import math
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from rnnlab._wording import power_of_ten
from rnnlab.report.findings import median_over_seeds
from rnnlab.studies.records import column
from rnnlab.studies.settings import TRAINED, UNTRAINED

Record = dict[str, Any]

# The palette of Okabe and Ito is readable with every kind of colour vision. The order is by rising
# lightness, so that a grey print can be read as well.
COLOURS = (
    "#000000",
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#F0E442",
    "#999999",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<")
SOLID = (None, None)
DASHES = {UNTRAINED: SOLID, TRAINED: (5, 2)}
FEW = (1, 2, 5)
MANY = (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
"""Digits of the ticks of an axis that spans few decades."""
STYLE: Any = {
    "font.size": 10,
    # Without a fixed salt the ids in an SVG are random, and equal figures would give unequal files.
    "svg.hashsalt": "rnnlab",
    # Text stays text, which can be searched and read aloud; by default it becomes outlines.
    "svg.fonttype": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.5,
}


@contextlib.contextmanager
def drawing(
    path: Path,
    rows: int,
    columns: int,
    size: tuple[float, float],
) -> Iterator[tuple[Figure, np.ndarray]]:
    """A figure with its panels, written as PNG and SVG on exit; empty panels are removed."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        yield figure, panels
        for axes in panels:
            if not axes.has_data():
                axes.remove()
        figure.savefig(path.with_suffix(".png"), dpi=150)
        # The first file has computed the layout. A second computation would take as long again, and
        # could move the panels, so that the two files would differ.
        figure.set_layout_engine("none")
        # A date would make the files of two equal runs differ.
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def layout(count: int) -> tuple[int, int]:
    """Rows and columns for ``count`` panels."""
    columns = min(count, 3)
    rows = math.ceil(count / columns)
    return rows, columns


def look(index: int) -> Record:
    """Colour and marker of the cell with this index."""
    # Where colours repeat, the marker is another one.
    shift = index // len(COLOURS)
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[(index + shift) % len(MARKERS)],
    }


def looks(groups: Sequence[tuple[str, str]]) -> list[tuple[int, Record]]:
    """The index of each group's cell, and the group's style.

    A group is a cell and a phase. The cell sets colour and marker, the phase sets the dashes.
    """
    cells: list[str] = []
    phases: set[str] = set()
    for cell, phase in groups:
        if cell not in cells:
            cells.append(cell)
        phases.add(phase)
    styles = []
    for cell, phase in groups:
        index = cells.index(cell)
        # Dashes tell phases apart. With one phase there is nothing to tell apart.
        dashes = DASHES[phase] if len(phases) > 1 else SOLID
        styles.append((index, look(index) | {"dashes": dashes}))
    return styles


def band(
    axes: Axes,
    points: Sequence[tuple[float, float | None]],
    marks: int | None = None,
    name: str = "",
    *,
    median: bool = False,
    **style: Any,
) -> None:
    """Draws the mean over the seeds, or their median, as a line, and their range as a band.

    Args:
        axes: the panel.
        points: (x, y) of all seeds; y is None where it is missing.
        marks: the largest number of markers, unless the style sets ``markevery``; None for a marker
            at every x.
        name: the entry in the legend.
        median: draws the median instead of the mean.
        style: options of matplotlib's ``plot``; must include ``color``.
    """
    if not points:
        return
    by_x: dict[float, list[float | None]] = {}
    for x, y in points:
        by_x.setdefault(x, []).append(y)
    xs = list(by_x)
    seeds = np.array(list(by_x.values()), float)
    middle = median_over_seeds(seeds.T) if median else seeds.mean(axis=1)
    every = 1 if marks is None else max(len(xs) // marks, 1)
    defaults = {"linewidth": 1.6, "markersize": 5, "markevery": every}
    axes.plot(xs, middle, label=name, **(defaults | style))
    axes.fill_between(
        xs,
        seeds.min(axis=1),
        seeds.max(axis=1),
        color=style["color"],
        alpha=0.18,
        linewidth=0,
    )


def seed_bands(rows: Sequence[Record]) -> str:
    """What the bands show, to follow a title; empty for one seed, which has no band."""
    seeds = len(set(column(rows, "seed")))
    if seeds < 2:
        return ""
    return f"; bands: range of {seeds} seeds"


def decades(log_norm: float | None) -> float:
    """A natural logarithm as a power of ten; NaN for a missing one."""
    if log_norm is None:
        return math.nan
    return log_norm / math.log(10)


def plain(axis: Any, digits: tuple[int, ...] = (1,)) -> None:
    """Plain numbers on a log axis, in place of powers of ten."""
    axis.set_major_locator(LogLocator(subs=digits))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def decade_ticks(axes: Axes) -> None:
    """Ticks for an axis that holds logarithms: powers of ten; plain numbers on a short axis.

    The logarithms are drawn because the values themselves can leave the range of floats, in which
    case matplotlib's own log scale shows nothing.
    """
    low, high = axes.get_ylim()
    # Far from 1 the floats end, and a plain number would be long.
    if high - low > 3 or max(abs(low), abs(high)) > 30:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
        formatter = FuncFormatter(lambda y, _: power_of_ten(y))
        axes.yaxis.set_major_formatter(formatter)
    else:
        digits = FEW if high - low > 0.7 else MANY
        places, labels = [], []
        for exponent in range(math.floor(low), math.ceil(high) + 1):
            for digit in digits:
                value = digit * 10.0**exponent
                if low <= math.log10(value) <= high:
                    places.append(math.log10(value))
                    labels.append(f"{value:g}")
        axes.set_yticks(places, labels)
    grid_lines(axes)


def grid_lines(axes: Axes) -> None:
    """Light grid lines, behind bars and bands."""
    axes.set_axisbelow(True)
    axes.grid(visible=True, color="0.9", linewidth=0.6)


def reference_line(axes: Axes, y: float) -> None:
    """A dotted horizontal line at ``y``."""
    axes.axhline(y, color="0.45", linewidth=0.8, linestyle=":")


def legend_below(figure: Figure, axes: Axes, **options: Any) -> None:
    """A legend for the lines of ``axes``, below all panels."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(len(labels), 6),
        frameon=False,
        **options,
    )


def title(figure: Figure, text: str, width: int) -> None:
    """The finding, above all panels, wrapped to ``width`` characters."""
    figure.suptitle(textwrap.fill(text, width, break_on_hyphens=False), fontsize=12)
