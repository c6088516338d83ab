"""The interactive figures of a gradient study, as data for plotly.js."""

import math
from collections.abc import Iterable

import numpy as np

from rnnlab.report.findings import (
    contribution_reach,
    largest_singular_value,
    relative_to_lag_0,
    truncation_needed,
)
from rnnlab.report.page import elements
from rnnlab.report.page.elements import Record, groups
from rnnlab.report.sentences import finding, short
from rnnlab.studies.records import column, select

DASHES = {"largest": "solid", "median": "dash", "smallest": "dot"}
"""The dashes of the singular values that are shown."""


def norms_by_length(norms: list[Record], summary: list[Record]) -> elements.Figure:
    """‖∂L/∂θ‖ of all parameters against the sequence length."""
    lengths = sorted(set(column(norms, "length")))
    traces, findings, means = [], [], []
    for record, look in elements.looks(summary):
        cell, phase = record["cell"], record["phase"]
        of_all = select(norms, cell=cell, phase=phase, parameter="all")
        measured, log_norms = elements.seeds(of_all, "length", "log_norm")
        seeds = log_norms / math.log(10)
        traces += elements.line(measured, seeds, look, elements.power, log=True)
        mean = elements.mean_over(seeds)
        means += list(mean)
        if len(lengths) > 1:
            change = elements.power(mean[-1] - mean[0])
            findings.append(f"{look['name']} × {change}")
        else:
            findings.append(f"{look['name']} {elements.power(mean[0])}")
    layout = elements.axes(
        {"title": "sequence length T (steps)", "type": "log", "tickvals": lengths},
        {"title": "‖∂L/∂θ‖", **elements.decades(means)},
        "T = %{x} steps",
    )
    if len(lengths) > 1:
        start = f"Change of the gradient norm from T = {lengths[0]} to T = {lengths[-1]}"
    else:
        start = f"Norm of the gradient at T = {lengths[0]}"
    title = f"{start}: {', '.join(findings)}"
    about = (
        "Norm of the gradient for all parameters together, loss at the last step"
        f"{elements.bands(norms)}."
    )
    return elements.Figure(about, (), [elements.picture((), title, traces, layout)])


def flow_by_lag(flow: list[Record], summary: list[Record]) -> elements.Figure:
    """‖∂L/∂s‖ relative to lag 0, against the lag."""
    traces, shown = [], [-3.5, 0.0]
    for record, look in elements.looks(summary):
        seeds = relative_to_lag_0(flow, record) / math.log(10)
        # A seed without a finite norm at lag 0 has nothing to be relative to.
        seeds = seeds[np.isfinite(seeds[:, 0])]
        # A log axis has no place for lag 0.
        lags = list(range(1, seeds.shape[1]))
        traces += elements.line(lags, seeds[:, 1:], look, elements.power, log=True, median=True)
        shown += _finite(seeds.ravel())
    longest = max(column(summary, "length"))
    bottom, top = max(min(shown), -elements.FLOOR), min(max(shown), elements.FLOOR)
    x = {
        "title": "lag (steps back from the last)",
        **elements.log_axis(1, longest),
        "range": [0, math.log10(max(longest, 2))],
    }
    y = {
        "title": "‖∂L/∂s‖ relative to lag 0",
        **elements.decades(shown),
        "range": [bottom - 0.2, top + 0.5],
    }
    layout = elements.axes(x, y, "lag %{x} steps")
    layout |= elements.level(-3, "1/1000")
    about = (
        f"Gradient of the whole state (an LSTM's c and h), T = {longest} steps"
        f"{elements.bands(flow, 'median')}."
    )
    return elements.Figure(about, (), [elements.picture((), finding(summary), traces, layout)])


def singular_values(records: list[Record]) -> elements.Figure:
    """The largest, the median and the smallest singular value of the state's Jacobian by lag."""
    pictures = []
    for phase, of_phase in groups(records, "phase").items():
        traces, findings = [], []
        values: list[float] = []
        for (cell,), of_cell in groups(of_phase, "cell").items():
            look = elements.look(cell, of_phase)
            cell_traces, means = _three_lines(of_cell, look)
            traces += cell_traces
            values += _finite(means)
            _, log_value = largest_singular_value(of_cell)
            change = "zero" if log_value is None else elements.power(log_value / math.log(10))
            findings.append(f"{cell} {change}")
        top, bottom = max(values, default=0.0), min(values, default=0.0)
        lowest = max(bottom, top - 2 * elements.FLOOR)
        y = {
            "title": "singular value of ∂sₜ/∂sₜ₋ₗ",
            **elements.decades(values),
            "range": [lowest - 0.5, top + 0.5],
        }
        layout = elements.axes({"title": "lag (steps)"}, y, "lag %{x} steps")
        last = max(column(of_phase, "lag"))
        title = f"Largest singular value over {last} steps: {', '.join(findings)}"
        key = elements.phase_name(phase)
        pictures.append(elements.picture(key, title, traces, layout))
    about = (
        "Singular values for the whole state s, by lag. Solid: the largest; dashed: the median; "
        f"dotted: the smallest{elements.bands(records)}."
    )
    return elements.Figure(about, ("phase",), pictures)


def _three_lines(records: list[Record], look: Record) -> tuple[list[Record], list[float]]:
    """The lines of the three singular values of one cell, and their means in decades."""
    indices = sorted(set(column(records, "index")))
    chosen = {
        "largest": indices[0],
        "median": indices[len(indices) // 2],
        "smallest": indices[-1],
    }
    traces, means = [], []
    for name, index in chosen.items():
        lags, log_values = elements.seeds(select(records, index=index), "lag", "log_value")
        seeds = log_values / math.log(10)
        # The three lines share one entry in the legend.
        line_look = look | {"dash": DASHES[name], "legend": name == "largest"}
        traces += elements.line(lags, seeds, line_look, elements.power, f"{name}: {{}}")
        means += list(elements.mean_over(seeds))
    return traces, means


def _finite(values: Iterable[float]) -> list[float]:
    return list(filter(np.isfinite, values))


def contributions(records: list[Record]) -> elements.Figure:
    """The (t, k) matrix: what step k adds to the gradient of the loss at step t."""
    pictures = []
    for group, of_group in groups(records, "cell", "phase", "parameter").items():
        cell, phase, parameter = group
        ts, ks, log_norms = elements.table(of_group, "t", "k", "log_norm")
        grid = log_norms / math.log(10)
        layout = elements.axes(
            {"title": "step k that contributes"},
            {"title": "step t of the loss"},
        )
        if np.isfinite(grid).any():
            text = f"contributions are above 1/1000 of the largest {_reach(of_group)}"
        else:
            text = "no contribution is finite"
        title = f"{cell}, {parameter}: {text}"
        key = (cell, *elements.phase_name(phase), parameter)
        heat = _contribution_heat(ts, ks, grid)
        pictures.append(elements.picture(key, title, [heat], layout))
    # The first picture is shown first: that of all parameters, where there is one.
    pictures.sort(key=lambda picture: picture["key"][-1] != "all")
    about = (
        "‖∂Lₜ/∂hₜ · ∂hₜ/∂hₖ · ∂⁺hₖ/∂θ‖ with the loss Lₜ at step t; "
        f"colours end {elements.FLOOR} decades below the largest."
    )
    return elements.Figure(about, ("cell", "phase", "parameter"), pictures)


def _contribution_heat(ts: list, ks: list, grid: np.ndarray) -> Record:
    finite = grid[np.isfinite(grid)]
    top = finite.max(initial=-np.inf)
    bottom = max(finite.min(initial=np.inf), top - elements.FLOOR)
    bar = {
        "title": {"text": "norm", "side": "top"},
        **elements.decades([bottom, top]),
    }
    heat = elements.heat(ks, ts, grid, bar, "t = %{y}, k = %{x}<br>10<sup>%{z:.2f}</sup>")
    heat["colorscale"] = "Cividis"
    # Infinite limits, as of no finite value, are not JSON.
    if finite.size:
        heat |= {"zmin": bottom, "zmax": top}
    return heat


def _reach(records: list[Record]) -> str:
    reach = contribution_reach(records)
    if reach is None:
        return "over the whole sequence"
    return f"up to {elements.steps(reach)} back"


def truncation(records: list[Record]) -> elements.Figure:
    """The truncated gradient's cosine with the full one, and its relative norm, by truncation."""
    pictures = []
    for phase, of_phase in groups(records, "phase").items():
        traces, findings, cosines = [], [], [0.0]
        for (cell,), of_cell in groups(of_phase, "cell").items():
            look = elements.look(cell, of_phase)
            steps, seeds = elements.seeds(of_cell, "steps", "cosine")
            traces += elements.line(steps, seeds, look, short, "cosine {}", log=True)
            traces += _norm_lines(of_cell, look)
            cosines += _finite(seeds.ravel())
            needed = truncation_needed(of_cell)
            findings.append(f"{cell} {f'more than {steps[-1]}' if needed is None else needed}")
        layout = _truncation_layout(of_phase, min(cosines))
        title = f"Truncation length for a cosine of 0.99 (steps): {', '.join(findings)}"
        key = elements.phase_name(phase)
        pictures.append(elements.picture(key, title, traces, layout))
    about = (
        "Truncated and full gradient: cosine between them, and ratio of norms"
        f"{elements.bands(records)}."
    )
    return elements.Figure(about, ("phase",), pictures)


def _norm_lines(records: list[Record], look: Record) -> list[Record]:
    """The relative norm, for the lower axis; the line of the cosine has the entry in the legend."""
    steps, seeds = elements.seeds(records, "steps", "relative_norm")
    look = look | {"legend": False}
    lines = elements.line(steps, seeds, look, short, "norm {}", log=True)
    for trace in lines:
        trace["yaxis"] = "y2"
    return lines


def _truncation_layout(records: list[Record], lowest: float) -> Record:
    """Two y axes on one x axis: the cosine above, the relative norm below."""
    x = {
        "title": "truncated after (steps)",
        "type": "log",
        "tickvals": sorted(set(column(records, "steps"))),
        "anchor": "y2",
    }
    y = {
        "title": "cosine",
        "domain": [0.54, 1],
        "range": [lowest - 0.05, 1.05],
    }
    layout = elements.axes(x, y, "%{x} steps")
    layout["yaxis2"] = {
        "title": {"text": "relative norm"},
        "domain": [0, 0.46],
        "rangemode": "tozero",
    }
    # The hover box holds the values of both axes.
    layout["hoversubplots"] = "axis"
    return layout
