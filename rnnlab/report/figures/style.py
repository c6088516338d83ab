"""What the figures share: a frame that is written as PNG and SVG, lines with bands, logarithmic axes."""

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
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from rnnlab.report.findings import median_over_seeds
from rnnlab.studies.settings import TRAINED, UNTRAINED

# Okabe and Ito's colours, told apart with every kind of colour vision, in an order of rising lightness for grey print.
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
DASHES = {UNTRAINED: (None, None), TRAINED: (5, 2)}
STYLE: Any = {"font.size": 10, "svg.hashsalt": "rnnlab", "svg.fonttype": "none", "axes.spines.top": False,
         "axes.spines.right": False, "hatch.linewidth": 0.5}  # fmt: skip


@contextlib.contextmanager
def drawing(
    path: Path, rows: int, columns: int, size: tuple[float, float]
) -> Iterator[tuple[Figure, np.ndarray]]:
    """A figure with its panels, which is written as PNG and SVG; panels that stay empty are taken out."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        yield figure, panels
        for axes in panels:
            if not axes.has_data():
                axes.remove()
        figure.savefig(path.with_suffix(".png"), dpi=150)
        figure.set_layout_engine(
            "none"
        )  # what is laid out stays where it is, and takes no second time
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def layout(count: int) -> tuple[int, int]:
    """Rows and columns for so many panels."""
    columns = min(count, 3)
    return math.ceil(count / columns), columns


def look(number: int) -> dict[str, Any]:
    """Colour and marker of the cell with this number."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def looks(groups: Sequence[tuple[str, str]]) -> list[tuple[int, dict[str, Any]]]:
    """The number of each group's cell, and its style: colour and marker by the cell, dashes by when it was measured."""
    cells = list(dict.fromkeys(cell for cell, _ in groups))
    dashes = (
        DASHES if len({phase for _, phase in groups}) > 1 else dict.fromkeys(DASHES, (None, None))
    )
    return [
        (n, look(n) | {"dashes": dashes[phase]})
        for n, phase in ((cells.index(c), phase) for c, phase in groups)
    ]


def band(
    axes: Axes,
    points: Sequence[tuple[float, float | None]],
    marks: int | None = None,
    name: str = "",
    *,
    median: bool = False,
    **style: Any,
) -> None:
    """The mean over the seeds, or their median, as a line, and their range as a band.

    ``points`` are (x, y) of all seeds, y None where it is missing.

    ``marks`` is how many markers there are at most, where the style has one and does not say where; None for one at
    every x.
    """
    if not points:
        return
    by_x: dict[float, list[float | None]] = {}
    for x, y in points:
        by_x.setdefault(x, []).append(y)
    lines = np.array(list(by_x.values()), float)
    every = 1 if marks is None else max(len(by_x) // marks, 1)
    drawn = {"linewidth": 1.6, "markersize": 5, "markevery": every, **style}
    middle = median_over_seeds(lines.T) if median else lines.mean(axis=1)
    axes.plot(list(by_x), middle, label=name, **drawn)
    axes.fill_between(
        list(by_x),
        lines.min(axis=1),
        lines.max(axis=1),
        color=style["color"],
        alpha=0.18,
        linewidth=0,
    )


def decades(log_norm: float | None) -> float:
    """A natural logarithm as powers of ten; NaN for a missing one."""
    return math.nan if log_norm is None else log_norm / math.log(10)


def plain(axis: Any, digits: tuple[int, ...] = (1,)) -> None:
    """Whole numbers on a log axis in place of powers of ten."""
    axis.set_major_locator(LogLocator(subs=digits))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def title(figure: Figure, text: str, width: int) -> None:
    """The finding, above all panels."""
    figure.suptitle(textwrap.fill(text, width, break_on_hyphens=False), fontsize=12)
