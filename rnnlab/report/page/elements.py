"""Elements of the page's interactive figures: lines with bands, heat maps and axes, as plain dicts.

The dicts are what plotly.js draws. A colour is the name of a CSS property, such as ``--c0``; the
page fills in the colour of the light or the dark scheme.
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
from rnnlab.studies.records import column
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
"""The largest number of points of a line; more make the page large and slow, and cannot be seen."""
FLOOR = 12
"""Decades that an axis or a colour scale shows at first; zooming out shows the rest."""
FEW = (1, 2, 5)
MANY = (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
"""Digits of the ticks of an axis that spans few decades."""


class Figure(NamedTuple):
    """One figure, with one picture for each combination of what can be chosen."""

    about: str
    """How to read it: units, bands, marks."""
    names: tuple[str, ...]
    """What can be chosen, in the order of a picture's key."""
    pictures: list[Record]
    """Each with key, title (the finding), data and layout."""


class Table(NamedTuple):
    """Rows under named columns.

    None is a missing value. A pair holds a value to sort by and the text that is shown for it.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


class Section(NamedTuple):
    """The content of one study or training run."""

    heading: str
    finding: str
    """The title of the page, where this section is the first."""
    sentences: list[str]
    figures: list[Figure]
    tables: list[Table]


def power(decades: float) -> str:
    """10^decades in words, also beyond the range of floats.

    >>> power(-5000.5)
    '3.2 · 10⁻⁵⁰⁰¹'
    """
    if not np.isfinite(decades):
        return "–"
    if -3 <= decades < 4:
        return short(10**decades)
    whole = math.floor(decades)
    mantissa = f"{10 ** (decades - whole):.1f}"
    if mantissa == "10.0":
        # Rounding reached the next power of ten.
        mantissa = "1.0"
        whole += 1
    return f"{mantissa} · {power_of_ten(whole)}"


def line(
    xs: Sequence,
    seeds: np.ndarray,
    look: Record,
    show: Show,
    template: str = "{}",
    *,
    log: bool = False,
    median: bool = False,
    over: str = "seeds ",
) -> list[Record]:
    """The mean over the seeds, or their median, as a line, and their range as a band.

    Args:
        xs: the positions, ``[X]``.
        seeds: the values, ``[seeds, X]``.
        look: as from ``look`` or ``looks``: name, number, and optionally dash and legend.
        show: puts a value into words.
        template: the text of the hover box, with braces for the value.
        log: whether the x axis is logarithmic.
        median: draws the median instead of the mean.
        over: what the range in the hover box is called.
    """
    places = thinned(len(xs), log=log)
    xs = [xs[place] for place in places]
    seeds = seeds[:, places]
    # Without a seed there is no median; the mean of none is NaN.
    middle = median_over_seeds(seeds) if median and len(seeds) else mean_over(seeds)
    # Plotly reads names as HTML, so a hostile one could run a script.
    name = html.escape(look["name"])
    colour = f"--c{look['number'] % len(SYMBOLS)}"
    # Traces of one legend group are hidden and shown together, by one click.
    common = {"type": "scatter", "name": name, "legendgroup": name}
    line = common | {
        "mode": "lines+markers",
        "x": xs,
        "y": numbers(middle),
        "showlegend": look.get("legend", True),
        "line": {"color": colour, "width": 2, "dash": look.get("dash", "solid")},
        "marker": _marker(look["number"]),
        "text": _values_in_words(seeds, middle, show, template, over),
        "hovertemplate": f"{name}: %{{text}}<extra></extra>",
    }
    if len(seeds) < 2:
        return [line]
    return [common | _band(xs, seeds, colour), line]


def points(xs: Sequence, ys: Sequence, look: Record, texts: Sequence[str]) -> Record:
    """A marker for each pair of values, with a text in its hover box."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": html.escape(look["name"]),
        "x": list(xs),
        "y": list(ys),
        "text": list(map(html.escape, texts)),
        "hovertemplate": "%{text}<br>%{x:.3g}, %{y:.3g}<extra></extra>",
        "marker": {
            "symbol": SYMBOLS[look["number"] % len(SYMBOLS)],
            "size": 8,
            "opacity": 0.7,
            "color": f"--c{look['number'] % len(SYMBOLS)}",
        },
    }


def _marker(index: int) -> Record:
    symbol = SYMBOLS[index % len(SYMBOLS)]
    return {"symbol": symbol, "size": 8, "maxdisplayed": 9}


def _values_in_words(
    seeds: np.ndarray,
    middle: np.ndarray,
    show: Show,
    template: str,
    over: str,
) -> list[str]:
    """The text of the hover box at each x."""
    low, high = over_seeds(np.min, seeds), over_seeds(np.max, seeds)
    texts = []
    for value, least, most in zip(middle, low, high, strict=True):
        text = show(value)
        if len(seeds) > 1:
            text += f" ({over}{show(least)} to {show(most)})"
        texts.append(template.format(text))
    return texts


def _band(xs: list, seeds: np.ndarray, colour: str) -> Record:
    x, y = outline(xs, over_seeds(np.min, seeds), over_seeds(np.max, seeds))
    return {
        "mode": "lines",
        "line": {"width": 0},
        "fill": "toself",
        "fillcolor": colour,
        "opacity": 0.2,
        "x": x,
        "y": y,
        "showlegend": False,
        "hoverinfo": "skip",
    }


def outline(xs: Sequence, low: np.ndarray, high: np.ndarray) -> tuple[list, list]:
    """The outline of a band: along its upper edge, and back along its lower one.

    Plotly cannot fill a polygon with gaps, so each stretch without a gap has its own polygon. None
    separates them.
    """
    x, y = [], []

    def is_finite(place: int) -> bool:
        return bool(np.isfinite(low[place]))

    for finite, stretch in itertools.groupby(range(len(xs)), is_finite):
        if finite:
            forward = list(stretch)
            backward = forward[::-1]
            x += [xs[place] for place in forward + backward]
            x.append(None)
            y += numbers(high[forward])
            y += numbers(low[backward])
            y.append(None)
    return x, y


def heat(xs: Sequence, ys: Sequence, grid: np.ndarray, bar: Record, hover: str) -> Record:
    """A heat map with a colour bar above it; ``hover`` is the template of the hover box."""
    above = {
        "orientation": "h",
        "x": 0.5,
        "y": 1.02,
        "yanchor": "bottom",
        "thickness": 12,
        "len": 1,
        "ypad": 4,
        "outlinewidth": 0,
    }
    return {
        "type": "heatmap",
        "x": list(xs),
        "y": list(ys),
        "z": list(map(numbers, grid)),
        "hoverongaps": False,
        "colorbar": above | bar,
        "hovertemplate": hover + "<extra></extra>",
    }


def axes(x: Record, y: Record, hover: str | None = None) -> Record:
    """The layout of two axes, from their titles and settings.

    ``hover`` is the title of a hover box with the values of all lines at one x; without it, the box
    is that of the nearest point.
    """
    layout = {
        "xaxis": x | {"title": {"text": x["title"]}},
        "yaxis": y | {"title": {"text": y["title"]}},
    }
    if hover is None:
        return layout | {"hovermode": "closest"}
    layout["xaxis"]["unifiedhovertitle"] = {"text": hover}
    # The distance −1 takes the nearest x, however far it is; by default the box disappears between
    # points.
    return layout | {"hovermode": "x unified", "hoverdistance": -1}


def level(y: float, text: str, *, side: str = "left") -> Record:
    """The layout of a dotted line at ``y``, with a short text on it, at the left or the right."""
    shape = {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": y,
        "y1": y,
        "line": {"color": "--muted", "width": 1.5, "dash": "dot"},
    }
    layout: Record = {"shapes": [shape]}
    if text:
        annotation = {
            "xref": "paper",
            "x": 0 if side == "left" else 1,
            "xanchor": side,
            "y": y,
            "yanchor": "bottom",
            "showarrow": False,
            "text": text,
            "font": {"color": "--muted"},
        }
        layout["annotations"] = [annotation]
    return layout


def log_axis(low: float, high: float) -> Record:
    """A logarithmic axis, with few enough ticks for a narrow page."""
    if high <= 100 * low:
        digits = FEW
    elif high <= 10_000 * low:
        digits = (1, 3)
    else:
        digits = (1,)
    first = math.floor(math.log10(max(low, 1)))
    last = math.floor(math.log10(max(high, 1)))
    ticks = []
    for exponent in range(first, last + 1):
        ticks += [digit * 10**exponent for digit in digits]
    return {"type": "log", "tickvals": ticks}


def spaced(values: list) -> tuple[list, Record]:
    """The positions of values on an axis, and its ticks.

    The positions are the logarithms where these are more evenly spaced than the values. The axis
    itself stays linear: on a logarithmic axis a heat map has its edges in the wrong places.
    """
    logs = np.log10(values) if values[0] > 0 else np.zeros(0)
    if _unevenness(np.array(values)) <= _unevenness(logs):
        return list(values), {}
    digits = FEW if values[-1] <= 100 * values[0] else (1,)
    first, last = math.floor(math.log10(values[0])), math.ceil(math.log10(values[-1]))
    ticks = _ticks(first, last, digits)
    inside = [tick for tick in ticks if values[0] <= tick <= values[-1]]
    return numbers(logs), _log_ticks(inside)


def _unevenness(values: np.ndarray) -> float:
    """The relative spread of the steps between values; infinite where there are not two steps."""
    steps = np.diff(values)
    if len(steps) < 2:
        return math.inf
    return float(np.std(steps) / np.mean(steps))


def decades(logs: Iterable[float]) -> Record:
    """Ticks of an axis that holds log10 values: powers of ten; plain numbers on a short axis."""
    finite = [value for value in logs if np.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    if high - low > 3 or abs(high) > 30:
        return {"tickprefix": "10<sup>", "ticksuffix": "</sup>"}
    digits = FEW if high - low > 0.7 else MANY
    return _log_ticks(_ticks(math.floor(low) - 1, math.ceil(high) + 1, digits))


def _ticks(first: int, last: int, digits: tuple[float, ...]) -> list[float]:
    """Digits times powers of ten, from 10^first on to the decade of 10^last."""
    ticks = []
    for exponent in range(first, last + 1):
        # From text a float is the nearest one, which prints without rounding errors.
        ticks += [float(f"{digit}e{exponent}") for digit in digits]
    return ticks


def _log_ticks(ticks: list[float]) -> Record:
    """Ticks at the logarithms of numbers, labelled with the numbers."""
    places, texts = [], []
    for tick in ticks:
        places.append(math.log10(tick))
        texts.append(f"{tick:g}")
    return {"tickvals": places, "ticktext": texts}


def picture(key: tuple, title: str, data: list[Record], layout: Record) -> Record:
    """One picture of a figure, for one combination of what can be chosen."""
    return {"key": list(map(str, key)), "title": title, "data": data, "layout": layout}


def looks(summary: list[Record]) -> list[tuple[Record, Record]]:
    """Each record of a gradient study's summary with its name, colour, marker and dashes."""
    phases = len(set(column(summary, "phase")))
    # Dashes tell phases apart. With one phase there is nothing to tell apart.
    dashes = {UNTRAINED: "solid", TRAINED: "dash"} if phases > 1 else {}
    looks = []
    for record in summary:
        of_phase = {"name": label(record, phases), "dash": dashes.get(record["phase"], "solid")}
        looks.append((record, look(record["cell"], summary) | of_phase))
    return looks


def look(cell: str, records: list[Record]) -> Record:
    """The name of a cell, and its index among all cells, which sets colour and marker."""
    cells = list(dict.fromkeys(column(records, "cell")))
    return {"name": cell, "number": cells.index(cell)}


def phase_name(phase: Any) -> tuple[str]:
    """The phase of a network, untrained or trained, as part of a picture's key."""
    name = phase[0] if isinstance(phase, tuple) else phase
    return (str(name),)


def bands(records: list[Record], middle: str = "mean") -> str:
    """What line and band show, to follow a sentence; empty for one seed, which has no band."""
    seeds = len(set(column(records, "seed")))
    if seeds < 2:
        return ""
    return f"; line: {middle}, band: range of {seeds} seeds"


def groups(records: Iterable[Record], *names: str) -> dict[tuple, list[Record]]:
    """The records by the values of ``names``, in order of appearance; a missing name has None."""
    groups: dict[tuple, list[Record]] = {}
    for record in records:
        key = tuple(map(record.get, names))
        groups.setdefault(key, []).append(record)
    return groups


def seeds(records: list[Record], x: str, y: str) -> tuple[list, np.ndarray]:
    """The values of x in order, and y ``[seeds, X]``."""
    _, xs, grid = table(records, "seed", x, y)
    return xs, grid


def table(
    records: list[Record],
    row: str,
    column: str,
    value: str,
) -> tuple[list, list, np.ndarray]:
    """Rows, columns and the table of values, NaN where there is none."""
    rows, row_of = _places(records, row)
    columns, column_of = _places(records, column)
    grid = np.full((len(rows), len(columns)), np.nan)
    for record in records:
        if record.get(value) is not None:
            i = row_of[record[row]]
            j = column_of[record[column]]
            grid[i, j] = record[value]
    return rows, columns, grid


def _places(records: list[Record], name: str) -> tuple[list, dict[Any, int]]:
    """The values of ``name`` in order, and the index of each."""
    values = sorted(set(column(records, name)))
    # A search in the list would take time quadratic in the steps of a long trace.
    return values, dict(zip(values, range(len(values)), strict=True))


def mean_over(seeds: np.ndarray) -> np.ndarray:
    """The mean over the seeds; NaN where one has no value."""
    return over_seeds(np.mean, seeds)


def over_seeds(function: Callable[..., np.ndarray], seeds: np.ndarray) -> np.ndarray:
    """``function`` over the seeds; NaN where a seed has no value, or where there is no seed."""
    if not len(seeds):
        return np.full(seeds.shape[1], np.nan)
    return function(seeds, axis=0)


def thinned(count: int, *, log: bool = False) -> list[int]:
    """At most POINTS of ``count`` positions, with the first and the last one.

    They are evenly spaced on a linear or on a logarithmic axis.
    """
    if count <= POINTS:
        return list(range(count))
    if log:
        places = np.geomspace(1, count, POINTS) - 1
    else:
        places = np.linspace(0, count - 1, POINTS)
    return sorted(set(map(round, places)))


def numbers(values: Iterable[float | None]) -> list[float | None]:
    """Values for JSON: five digits, None where there is no finite number."""
    # More digits cannot be seen, and make the page larger.
    rounded = []
    for value in values:
        is_number = value is not None and np.isfinite(value)
        rounded.append(float(f"{value:.5g}") if is_number else None)
    return rounded


def steps(count: int) -> str:
    """A number of steps in words."""
    return "1 step" if count == 1 else f"{count} steps"
