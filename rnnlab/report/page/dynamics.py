"""The interactive figures of a dynamics study: records in, what plotly.js draws out."""

import html

import numpy as np

from rnnlab.report.page import elements
from rnnlab.report.sentences import counted, divergence, short, turning

KINDS = {
    "stable": ("circle", 3),
    "marginal": ("square", 5),
    "saddle": ("diamond", 6),
    "unstable": ("triangle-up", 2),
    "slow": ("x", 4),
}
"""Marker and colour of each kind of fixed point."""
DIVERGING = [[0, "#2166ac"], [0.5, "#f4f4f4"], [1, "#b2182b"]]


def spectrum(records: list[elements.Record], summary: list[elements.Record]) -> elements.Figure:
    """Lyapunov exponents by their index."""
    traces = []
    for (cell,), mine in elements.groups(records, "cell").items():
        indices, seeds = elements.seeds(mine, "index", "exponent")
        traces += elements.line(indices, seeds, elements.look(cell, records), short, "{} nats/step")
    known = [record for record in records if record.get("theory") is not None]
    traces += [
        _theory(cell, mine, first=number == 0)
        for number, ((cell,), mine) in enumerate(elements.groups(known, "cell").items())
    ]
    layout = elements.axes(
        {"title": "index"}, {"title": "Lyapunov exponent (nats/step)"}, "exponent %{x}"
    ) | elements.level(0, "")
    title = divergence(summary)
    about = f"Exponents above 0 are directions that grow, below 0 such that die out{elements.bands(records)}."
    about += " Theory: ln |eigenvalue| where the state has come to rest." if known else ""
    return elements.Figure(about, (), [elements.picture((), title, traces, layout)])


def _theory(cell: str, mine: list[elements.Record], *, first: bool) -> elements.Record:
    indices, seeds = elements.seeds(mine, "index", "theory")
    mean = elements.mean_over(seeds)
    return {
        "type": "scatter", "mode": "lines", "name": "theory", "legendgroup": "theory", "showlegend": first,
        "x": indices, "y": elements.numbers(mean), "line": {"color": "--c6", "width": 2, "dash": "dash"},
        "text": [f"{short(value)} nats/step" for value in mean],
        "hovertemplate": f"theory, {html.escape(cell)}: %{{text}}<extra></extra>",
    }  # fmt: skip


def convergence(records: list[elements.Record]) -> elements.Figure:
    """The estimate of the largest exponent against the steps behind it."""
    traces, found = [], []
    for (cell,), mine in elements.groups(records, "cell").items():
        steps, seeds = elements.seeds(mine, "step", "exponent")
        traces += elements.line(
            steps, seeds, elements.look(cell, records), short, "{} nats/step", log=True
        )
        later = elements.mean_over(seeds)[len(steps) // 2 :]
        found.append(f"{cell} {short(later.max() - later.min())}")
    steps = [record["step"] for record in records]
    x = {"title": "steps", **elements.log_axis(min(steps), max(steps))}
    layout = elements.axes(
        x, {"title": "estimate of λ₁ (nats/step)"}, "after %{x} steps"
    ) | elements.level(0, "")
    title = (
        f"In the second half of the run the estimate of λ₁ moves by (nats/step): {', '.join(found)}"
    )
    about = f"The largest Lyapunov exponent as more steps are taken in{elements.bands(records)}."
    return elements.Figure(about, (), [elements.picture((), title, traces, layout)])


def portrait(points: list[elements.Record], trajectories: list[elements.Record]) -> elements.Figure:
    """Trajectories and fixed points of one network on its two principal components."""
    pictures = []
    for cell, seed in elements.groups([*trajectories, *points], "cell", "seed"):
        runs = [r for r in trajectories if (r["cell"], r["seed"]) == (cell, seed)]
        found = [p for p in points if (p["cell"], p["seed"]) == (cell, seed)]
        kinds = sorted(
            elements.groups(found, "kind").items(),
            key=lambda of: [*KINDS, of[0][0]].index(of[0][0]),
        )
        traces = [
            _path(run, first=number == 0)
            for number, run in enumerate(elements.groups(runs, "example").values())
        ]
        traces += [_fixed(kind, mine) for (kind,), mine in reversed(kinds)]  # the rarest on top
        counts = {kind: sum(point["kind"] == kind for point in found) for kind in KINDS}
        title = f"{cell}, seed {seed}: {counted(counts)}"
        axes = elements.axes(
            {"title": "first principal component"}, {"title": "second principal component"}
        )
        pictures.append(elements.picture((cell, str(seed)), title, traces, axes))
    about = "Lines: the state over time; markers: fixed and slow points, by stability."
    return elements.Figure(about, ("cell", "seed"), pictures)


def _path(run: list[elements.Record], *, first: bool) -> elements.Record:
    run = [run[place] for place in elements.thinned(len(run))]
    return {
        "type": "scatter", "mode": "lines", "name": "trajectories", "legendgroup": "trajectories", "showlegend": first,
        "x": elements.numbers([r["pc1"] for r in run]), "y": elements.numbers([r["pc2"] for r in run]),
        "text": [f"example {r['example']}, step {r['step']}" for r in run], "hovertemplate": "%{text}<extra></extra>",
        "line": {"color": "--muted", "width": 1}, "opacity": 0.5,
    }  # fmt: skip


def _fixed(kind: str, mine: list[elements.Record]) -> elements.Record:
    symbol, number = KINDS.get(kind, ("star", 0))
    texts = []
    for point in mine:
        slowest = point.get("slowest")
        text = f"{kind} point {point['number']}: unstable directions {point['unstable']}, q = {short(point['q'])}"
        texts.append(text + (f", slowest {slowest:.3g} steps" if slowest is not None else ""))
    return {
        "type": "scatter", "mode": "markers", "name": html.escape(kind), "legendgroup": html.escape(kind),
        "x": elements.numbers([p["pc1"] for p in mine]), "y": elements.numbers([p["pc2"] for p in mine]),
        "text": [html.escape(text) for text in texts], "hovertemplate": "%{text}<extra></extra>",
        "marker": {"symbol": symbol, "size": 11, "color": f"--c{number}", "line": {"color": "--card", "width": 1}},
    }  # fmt: skip


def phase_diagram(records: list[elements.Record]) -> elements.Figure:
    """λ₁, horizon and decay over a setting of the cell and the sequence length."""
    pictures = []
    shown = (("exponent", "λ₁", "nats/step"), ("horizon", "horizon", "steps"),
             ("decay_per_step", "decay", "nats/step"))  # fmt: skip
    for (cell, axis), mine in elements.groups(records, "cell", "axis").items():
        for key, name, unit in shown:
            values, lengths, grid = elements.table(mine, "value", "length", key)
            if not np.isfinite(grid).any():
                continue
            (xs, across), (ys, up) = elements.spaced(lengths), elements.spaced(values)
            hover = (
                f"{html.escape(axis)} = %{{customdata[1]:.3g}}, T = %{{customdata[0]}}"
                f"<br>{name} = %{{z:.3g}} {unit}"
            )
            heat = elements.heat(
                xs, ys, grid, {"title": {"text": f"{name} ({unit})", "side": "top"}}, hover
            )
            heat["customdata"] = [
                [[length, value] for length in lengths] for value in elements.numbers(values)
            ]
            heat |= (
                {"colorscale": DIVERGING, "zmid": 0}
                if key == "exponent"
                else {"colorscale": "Cividis"}
            )
            traces = [heat, _zero(xs, ys, grid)] if key == "exponent" else [heat]
            layout = elements.axes(
                {"title": "sequence length T (steps)", **across}, {"title": html.escape(axis), **up}
            )
            if key == "exponent":
                found = turning(mine)
            else:
                found = f"{cell}: {_extent(name, unit, grid)}"
            pictures.append(elements.picture((cell, axis, name), found, traces, layout))
    about = "The line is where λ₁ = 0; a horizon of T means that the gradient is above 1/1000 over the whole sequence."
    return elements.Figure(about, ("cell", "axis", "shown"), pictures)


def _zero(xs: list, ys: list, grid: np.ndarray) -> elements.Record:
    return {
        "type": "contour", "x": xs, "y": ys, "z": [elements.numbers(row) for row in grid], "showscale": False,
        "hoverinfo": "skip", "contours": {"coloring": "lines", "start": 0, "end": 0, "size": 1}, "line": {"width": 2.5},
        "colorscale": [[0, "#000000"], [1, "#000000"]],
    }  # fmt: skip


def _extent(name: str, unit: str, grid: np.ndarray) -> str:
    return f"{name} from {short(np.nanmin(grid))} to {short(np.nanmax(grid))} {unit}"
