"""The interactive figures of a dynamics study, as data for plotly.js."""

import html

import numpy as np

from rnnlab.report.page import elements
from rnnlab.report.page.elements import Record, groups, numbers
from rnnlab.report.sentences import counted, divergence, short, turning
from rnnlab.studies.records import column, select

KINDS = {
    "stable": ("circle", 3),
    "marginal": ("square", 5),
    "saddle": ("diamond", 6),
    "unstable": ("triangle-up", 2),
    "slow": ("x", 4),
}
"""Marker and colour of each kind of fixed point."""
OTHER = ("star", 0)
"""Marker and colour of a kind that a later version may write."""
DIVERGING = [[0, "#2166ac"], [0.5, "#f4f4f4"], [1, "#b2182b"]]
MAPS = (
    ("exponent", "λ₁", "nats/step"),
    ("horizon", "horizon", "steps"),
    ("decay_per_step", "decay", "nats/step"),
)
"""Key, name and unit of what a phase diagram shows."""


def spectrum(records: list[Record], summary: list[Record]) -> elements.Figure:
    """Lyapunov exponents by their index."""
    traces = []
    for (cell,), of_cell in groups(records, "cell").items():
        indices, seeds = elements.seeds(of_cell, "index", "exponent")
        look = elements.look(cell, records)
        traces += elements.line(indices, seeds, look, short, "{} nats/step")
    known = [record for record in records if record.get("theory") is not None]
    first = True
    for (cell,), of_cell in groups(known, "cell").items():
        traces.append(_theory(cell, of_cell, first=first))
        first = False
    layout = elements.axes(
        {"title": "index"},
        {"title": "Lyapunov exponent (nats/step)"},
        "exponent %{x}",
    )
    layout |= elements.level(0, "")
    about = (
        "Perturbations grow in directions with exponents above 0, and decay in those below 0"
        f"{elements.bands(records)}."
    )
    if known:
        about += " Theory: ln |eigenvalue| at the fixed point that the state reached."
    picture = elements.picture((), divergence(summary), traces, layout)
    return elements.Figure(about, (), [picture])


def _theory(cell: str, records: list[Record], *, first: bool) -> Record:
    """The exact exponents of one cell; only the ``first`` cell has an entry in the legend."""
    indices, seeds = elements.seeds(records, "index", "theory")
    mean = elements.mean_over(seeds)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "theory",
        "legendgroup": "theory",
        "showlegend": first,
        "x": indices,
        "y": numbers(mean),
        "line": {"color": "--c6", "width": 2, "dash": "dash"},
        "text": [f"{short(value)} nats/step" for value in mean],
        "hovertemplate": f"theory, {html.escape(cell)}: %{{text}}<extra></extra>",
    }


def convergence(records: list[Record]) -> elements.Figure:
    """The estimate of the largest exponent against the steps behind it."""
    traces, findings = [], []
    for (cell,), of_cell in groups(records, "cell").items():
        steps, seeds = elements.seeds(of_cell, "step", "exponent")
        look = elements.look(cell, records)
        traces += elements.line(steps, seeds, look, short, "{} nats/step", log=True)
        middle = len(steps) // 2
        later = elements.mean_over(seeds)[middle:]
        findings.append(f"{cell} {short(later.max() - later.min())}")
    steps = column(records, "step")
    layout = elements.axes(
        {"title": "steps", **elements.log_axis(min(steps), max(steps))},
        {"title": "estimate of λ₁ (nats/step)"},
        "after %{x} steps",
    )
    layout |= elements.level(0, "")
    span = "Range of the λ₁ estimate in the second half of the run (nats/step)"
    title = f"{span}: {', '.join(findings)}"
    about = f"The largest Lyapunov exponent, averaged over more steps{elements.bands(records)}."
    return elements.Figure(about, (), [elements.picture((), title, traces, layout)])


def portrait(points: list[Record], trajectories: list[Record]) -> elements.Figure:
    """Trajectories and fixed points of one network on its two principal components."""
    pictures = []
    for cell, seed in groups([*trajectories, *points], "cell", "seed"):
        runs = select(trajectories, cell=cell, seed=seed)
        of_network = select(points, cell=cell, seed=seed)
        traces = _paths(runs) + _fixed_points(of_network)
        kinds = column(of_network, "kind")
        counts = {kind: kinds.count(kind) for kind in KINDS}
        title = f"{cell}, seed {seed}: {counted(counts)}"
        layout = elements.axes(
            {"title": "first principal component"},
            {"title": "second principal component"},
        )
        pictures.append(elements.picture((cell, str(seed)), title, traces, layout))
    about = "Lines: the state over time; markers: fixed and slow points, by stability."
    return elements.Figure(about, ("cell", "seed"), pictures)


def _paths(runs: list[Record]) -> list[Record]:
    """A line for each example; they share one entry in the legend."""
    traces = []
    for run in groups(runs, "example").values():
        traces.append(_path(run, first=not traces))
    return traces


def _path(run: list[Record], *, first: bool) -> Record:
    run = [run[place] for place in elements.thinned(len(run))]
    texts = [f"example {record['example']}, step {record['step']}" for record in run]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "trajectories",
        "legendgroup": "trajectories",
        "showlegend": first,
        "x": numbers(column(run, "pc1")),
        "y": numbers(column(run, "pc2")),
        "text": texts,
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"color": "--muted", "width": 1},
        "opacity": 0.5,
    }


def _fixed_points(points: list[Record]) -> list[Record]:
    """Markers for each kind of point."""
    by_kind = groups(points, "kind")
    kinds = [kind for (kind,) in by_kind]
    order = [*KINDS, *kinds]
    traces = []
    # Plotly draws the last trace on top, so the frequent slow points come first.
    for kind in sorted(kinds, key=order.index, reverse=True):
        of_kind = by_kind[kind,]
        traces.append(_points_of_kind(kind, of_kind))
    return traces


def _points_of_kind(kind: str, points: list[Record]) -> Record:
    symbol, colour = KINDS.get(kind, OTHER)
    texts = []
    for point in points:
        text = _point_in_words(kind, point)
        texts.append(html.escape(text))
    return {
        "type": "scatter",
        "mode": "markers",
        "name": html.escape(kind),
        "legendgroup": html.escape(kind),
        "x": numbers(column(points, "pc1")),
        "y": numbers(column(points, "pc2")),
        "text": texts,
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "symbol": symbol,
            "size": 11,
            "color": f"--c{colour}",
            "line": {"color": "--card", "width": 1},
        },
    }


def _point_in_words(kind: str, point: Record) -> str:
    text = (
        f"{kind} point {point['number']}: unstable directions {point['unstable']}, "
        f"q = {short(point['q'])}"
    )
    slowest = point.get("slowest")
    if slowest is not None:
        text += f", slowest {slowest:.3g} steps"
    return text


def phase_diagram(records: list[Record]) -> elements.Figure:
    """λ₁, horizon and decay over a setting of the cell and the sequence length."""
    pictures = []
    for (cell, axis), of_cell in groups(records, "cell", "axis").items():
        for key, name, unit in MAPS:
            values, lengths, grid = elements.table(of_cell, "value", "length", key)
            if not np.isfinite(grid).any():
                continue
            xs, length_axis = elements.spaced(lengths)
            ys, value_axis = elements.spaced(values)
            traces = [_heat(xs, ys, grid, axis, name, unit)]
            # The positions can be logarithms. The hover box shows the values themselves.
            traces[0]["customdata"] = _pairs(lengths, numbers(values))
            if key == "exponent":
                # Zero is the middle of the colours, so that the colour shows the sign.
                traces[0] |= {"colorscale": DIVERGING, "zmid": 0}
                traces.append(_zero(xs, ys, grid))
                title = turning(of_cell)
            else:
                traces[0] |= {"colorscale": "Cividis"}
                title = f"{cell}: {_extent(name, unit, grid)}"
            layout = elements.axes(
                {"title": "sequence length T (steps)", **length_axis},
                {"title": html.escape(axis), **value_axis},
            )
            pictures.append(elements.picture((cell, axis, name), title, traces, layout))
    about = (
        "The line is where λ₁ = 0; a horizon of T means that the gradient is above 1/1000 over the "
        "whole sequence."
    )
    return elements.Figure(about, ("cell", "axis", "shown"), pictures)


def _heat(xs: list, ys: list, grid: np.ndarray, axis: str, name: str, unit: str) -> Record:
    hover = (
        f"{html.escape(axis)} = %{{customdata[1]:.3g}}, T = %{{customdata[0]}}"
        f"<br>{name} = %{{z:.3g}} {unit}"
    )
    bar = {"title": {"text": f"{name} ({unit})", "side": "top"}}
    return elements.heat(xs, ys, grid, bar, hover)


def _pairs(lengths: list, values: list) -> list[list[list]]:
    """Length and value of each place of a heat map, a row for each value."""
    rows = []
    for value in values:
        row = [[length, value] for length in lengths]
        rows.append(row)
    return rows


def _zero(xs: list, ys: list, grid: np.ndarray) -> Record:
    """The line at zero."""
    return {
        "type": "contour",
        "x": xs,
        "y": ys,
        "z": list(map(numbers, grid)),
        "showscale": False,
        "hoverinfo": "skip",
        "contours": {"coloring": "lines", "start": 0, "end": 0, "size": 1},
        "line": {"width": 2.5},
        "colorscale": [[0, "#000000"], [1, "#000000"]],
    }


def _extent(name: str, unit: str, grid: np.ndarray) -> str:
    low, high = short(np.nanmin(grid)), short(np.nanmax(grid))
    return f"{name} from {low} to {high} {unit}"
