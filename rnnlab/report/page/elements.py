"""What the interactive figures of a run's page are made of: lines with bands, heat maps, axes, as plain dictionaries.

A colour is the name of a CSS property, such as ``--c0``; the page puts in the colour of the light or dark scheme.
"""

import html
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnnlab._wording import power_of_ten
from rnnlab.report.findings import median_over_seeds
from rnnlab.report.sentences import label, short
from rnnlab.studies.settings import TRAINED, UNTRAINED

Record = dict[str, Any]
Show = Callable[[float], str]

SYMBOLS = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "triangle-down",
    "cross",
    "x",
    "star",
    "triangle-left",
)
POINTS = 300
"""The most points of a line."""
FLOOR = 12
"""Decades that an axis or a colour scale shows at first; zooming out shows the rest."""


class Figure(NamedTuple):
    """One figure, with one picture for each combination of what can be chosen."""

    about: str  # how to read it: units, bands, marks
    names: tuple[str, ...]  # what can be chosen, in the order of a picture's key
    pictures: list[Record]  # each with key, title (the finding), data and layout


def power(decades: float) -> str:
    """10^decades in words, also where that leaves the range of floats."""
    if not np.isfinite(decades):
        return "–"
    if -3 <= decades < 4:
        return short(10**decades)
    whole = math.floor(decades)
    mantissa = f"{10 ** (decades - whole):.1f}"
    if mantissa == "10.0":
        mantissa, whole = "1.0", whole + 1
    return f"{mantissa} · {power_of_ten(whole)}"


def line(
    xs: Sequence,
    seeds: np.ndarray,
    look: Record,
    show: Show,
    said: str = "{}",
    *,
    log: bool = False,
    median: bool = False,
) -> list[Record]:
    """The mean over the seeds, or their median, as a line, their range as a band.

    One click on the legend hides both.

    Hovering says the values, as ``show`` puts them into words, in place of the braces of ``said``.
    """
    places = thinned(len(xs), log=log)
    xs, seeds = [xs[place] for place in places], seeds[:, places]
    mean = median_over_seeds(seeds) if median and len(seeds) else mean_over(seeds)
    low, high = over_seeds(np.min, seeds), over_seeds(np.max, seeds)
    several = len(seeds) > 1
    texts = [
        said.format(show(middle) + (f" (seeds {show(least)} to {show(most)})" if several else ""))
        for middle, least, most in zip(mean, low, high, strict=True)
    ]
    name, colour = html.escape(look["name"]), f"--c{look['number'] % len(SYMBOLS)}"
    common = {"type": "scatter", "name": name, "legendgroup": name}
    line = common | {
        "mode": "lines+markers", "x": xs, "y": numbers(mean), "showlegend": look.get("legend", True),
        "line": {"color": colour, "width": 2, "dash": look.get("dash", "solid")},
        "marker": {"symbol": SYMBOLS[look["number"] % len(SYMBOLS)], "size": 8, "maxdisplayed": 9},
        "text": texts, "hovertemplate": f"{name}: %{{text}}<extra></extra>",
    }  # fmt: skip
    if not several:
        return [line]
    x, y = outline(xs, low, high)
    band = {
        "mode": "lines",
        "line": {"width": 0},
        "fill": "toself",
        "fillcolor": colour,
        "opacity": 0.2,
    }
    return [common | band | {"x": x, "y": y, "showlegend": False, "hoverinfo": "skip"}, line]


def outline(xs: Sequence, low: np.ndarray, high: np.ndarray) -> tuple[list, list]:
    """Around a band: there along its upper edge and back along its lower one, once for each stretch without a gap."""
    x, y = [], []
    for whole, stretch in itertools.groupby(
        range(len(xs)), lambda place: bool(np.isfinite(low[place]))
    ):
        if whole:
            there = list(stretch)
            x += [xs[place] for place in (*there, *reversed(there))] + [None]
            y += [*numbers(high[there]), *numbers(low[there][::-1]), None]
    return x, y


def heat(xs: Sequence, ys: Sequence, grid: np.ndarray, bar: Record, hover: str) -> Record:
    """A heat map with a colour bar above it; ``hover`` says a cell's values."""
    side = {"orientation": "h", "x": 0.5, "y": 1.02, "yanchor": "bottom", "thickness": 12, "len": 1, "ypad": 4,
            "outlinewidth": 0}  # fmt: skip
    return {
        "type": "heatmap", "x": list(xs), "y": list(ys), "z": [numbers(row) for row in grid], "hoverongaps": False,
        "colorbar": side | bar, "hovertemplate": hover + "<extra></extra>",
    }  # fmt: skip


def axes(x: Record, y: Record, hover: str | None = None) -> Record:
    """Two axes from their titles and settings; ``hover`` heads the box of values at one x."""
    layout = {
        "xaxis": x | {"title": {"text": x["title"]}},
        "yaxis": y | {"title": {"text": y["title"]}},
    }
    if hover is None:
        return layout | {"hovermode": "closest"}
    layout["xaxis"]["unifiedhovertitle"] = {"text": hover}
    return layout | {"hovermode": "x unified", "hoverdistance": -1}  # the nearest x, however far


def level(y: float, text: str) -> Record:
    """A dotted line at ``y``, with a word or two on it."""
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y}
    level: Record = {"shapes": [line | {"line": {"color": "--muted", "width": 1.5, "dash": "dot"}}]}
    if text:
        place = {
            "xref": "paper",
            "x": 0,
            "xanchor": "left",
            "y": y,
            "yanchor": "bottom",
            "showarrow": False,
        }
        level["annotations"] = [place | {"text": text, "font": {"color": "--muted"}}]
    return level


def log_axis(low: float, high: float) -> Record:
    """A logarithmic axis with so many numbers that a narrow page has room for them."""
    digits = (1, 2, 5) if high <= 100 * low else (1, 3) if high <= 10_000 * low else (1,)
    exponents = range(math.floor(math.log10(max(low, 1))), math.floor(math.log10(max(high, 1))) + 1)
    return {
        "type": "log",
        "tickvals": [digit * 10**exponent for exponent in exponents for digit in digits],
    }


def spaced(values: list) -> tuple[list, Record]:
    """Where values stand on an axis, and its ticks: at their logs where that spaces them more evenly.

    A heat map on a logarithmic axis would have its edges in wrong places, so the axis itself is linear.
    """
    steps = [np.diff(values), np.diff(np.log10(values)) if values[0] > 0 else np.zeros(0)]
    uneven = [np.std(step) / np.mean(step) if len(step) > 1 else np.inf for step in steps]
    if uneven[0] <= uneven[1]:
        return list(values), {}
    digits = (1, 2, 5) if values[-1] <= 100 * values[0] else (1,)
    exponents = range(math.floor(math.log10(values[0])), math.ceil(math.log10(values[-1])) + 1)
    ticks = [float(f"{digit}e{exponent}") for exponent in exponents for digit in digits]
    ticks = [tick for tick in ticks if values[0] <= tick <= values[-1]]
    labels = {
        "tickvals": [math.log10(tick) for tick in ticks],
        "ticktext": [f"{tick:g}" for tick in ticks],
    }
    return numbers(np.log10(values)), labels


def decades(logs: Iterable[float]) -> Record:
    """Ticks of an axis that holds log10 values: powers of ten; where it spans few of them, numbers."""
    seen = [value for value in logs if np.isfinite(value)] or [0.0]
    low, high = min(seen), max(seen)
    if high - low > 3 or abs(high) > 30:
        return {"tickprefix": "10<sup>", "ticksuffix": "</sup>"}
    digits = (1, 2, 5) if high - low > 0.7 else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
    exponents = range(math.floor(low) - 1, math.ceil(high) + 2)
    values = [float(f"{digit}e{exponent}") for exponent in exponents for digit in digits]
    return {
        "tickvals": [math.log10(value) for value in values],
        "ticktext": [f"{value:g}" for value in values],
    }


def picture(key: tuple, title: str, data: list[Record], layout: Record) -> Record:
    """One picture of a figure, for one choice of what can be chosen."""
    return {"key": [str(part) for part in key], "title": title, "data": data, "layout": layout}


def looks(summary: list[Record]) -> list[tuple[Record, Record]]:
    """Each record of a gradient study's summary with its name, colour, marker and dashes."""
    phases = len({record["phase"] for record in summary})
    dash = {UNTRAINED: "solid", TRAINED: "dash"} if phases > 1 else {}
    return [
        (
            r,
            look(r["cell"], summary)
            | {"name": label(r, phases), "dash": dash.get(r["phase"], "solid")},
        )
        for r in summary
    ]


def look(cell: str, records: list[Record]) -> Record:
    """The name of a cell, and its place among all, which gives it colour and marker."""
    return {
        "name": cell,
        "number": list(dict.fromkeys(record["cell"] for record in records)).index(cell),
    }


def phase_name(phase: Any) -> tuple[str]:
    """When a network was measured, in words, as part of a picture's key."""
    return (str(phase[0] if isinstance(phase, tuple) else phase),)


def bands(records: list[Record], middle: str = "mean") -> str:
    """What the bands of a figure are, where it has some."""
    seeds = len({record["seed"] for record in records})
    return f"; line: {middle}, band: range of {seeds} seeds" if seeds > 1 else ""


def agree(record: Record, other: Record, *names: str) -> bool:
    """Whether two records have the same values of ``names``."""
    return all(record[name] == other[name] for name in names)


def groups(records: list[Record], *names: str) -> dict[tuple, list[Record]]:
    """The records by the values of ``names``, in order of appearance; a name that is missing has the value None."""
    groups: dict[tuple, list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(record.get(name) for name in names), []).append(record)
    return groups


def seeds(records: list[Record], x: str, y: str) -> tuple[list, np.ndarray]:
    """The values of x in order, and y [seeds, X]."""
    _, xs, grid = table(records, "seed", x, y)
    return xs, grid


def table(
    records: list[Record], row: str, column: str, value: str
) -> tuple[list, list, np.ndarray]:
    """Rows, columns and the table of values, NaN where there is none."""
    rows, columns = (sorted({record[name] for record in records}) for name in (row, column))
    row_of, column_of = (
        {name: place for place, name in enumerate(names)} for names in (rows, columns)
    )
    grid = np.full((len(rows), len(columns)), np.nan)
    for record in records:
        if record.get(value) is not None:
            grid[row_of[record[row]], column_of[record[column]]] = record[value]
    return rows, columns, grid


def mean_over(seeds: np.ndarray) -> np.ndarray:
    """The mean over the seeds; NaN where one has no value."""
    return over_seeds(np.mean, seeds)


def over_seeds(what: Callable[..., np.ndarray], seeds: np.ndarray) -> np.ndarray:
    """``what`` over the seeds; NaN where a seed has no value, or where there is no seed."""
    return what(seeds, axis=0) if len(seeds) else np.full(seeds.shape[1], np.nan)


def thinned(count: int, *, log: bool = False) -> list[int]:
    """At most POINTS of ``count`` places, the first and the last among them; evenly apart, or on a log axis."""
    if count <= POINTS:
        return list(range(count))
    places = np.geomspace(1, count, POINTS) - 1 if log else np.linspace(0, count - 1, POINTS)
    return sorted({round(place) for place in places})


def numbers(values: Iterable[float]) -> list[float | None]:
    """For JSON: five digits, None where there is no number."""
    return [
        float(f"{value:.5g}") if value is not None and np.isfinite(value) else None
        for value in values
    ]


def steps(count: int) -> str:
    """So many steps, in words."""
    return "1 step" if count == 1 else f"{count} steps"
