"""The interactive figures of a gradient study: records in, what plotly.js draws out."""

import math

import numpy as np

from rnnlab.report.findings import (
    contribution_reach,
    largest_singular_value,
    truncation_needed,
)
from rnnlab.report.page import elements
from rnnlab.report.sentences import finding, short


def norms_by_length(
    norms: list[elements.Record], summary: list[elements.Record]
) -> elements.Figure:
    """‖∂L/∂θ‖ of all parameters against the sequence length."""
    lengths = sorted({norm["length"] for norm in norms})
    traces, found, seen = [], [], []
    for record, look in elements.looks(summary):
        mine = [
            n
            for n in norms
            if elements.agree(n, record, "cell", "phase") and n["parameter"] == "all"
        ]
        measured, seeds = elements.seeds(mine, "length", "log_norm")
        seeds = seeds / math.log(10)
        traces += elements.line(measured, seeds, look, elements.power, log=True)
        mean = elements.mean_over(seeds)
        seen += list(mean)
        found.append(
            f"{look['name']} "
            + (
                f"× {elements.power(mean[-1] - mean[0])}"
                if len(lengths) > 1
                else elements.power(mean[0])
            )
        )
    layout = elements.axes(
        {"title": "sequence length T (steps)", "type": "log", "tickvals": lengths},
        {"title": "‖∂L/∂θ‖", **elements.decades(seen)},
        "T = %{x} steps",
    )
    ends = f"From T = {lengths[0]} to T = {lengths[-1]} the gradient's norm changes"
    title = f"{ends if len(lengths) > 1 else f'Norm of the gradient at T = {lengths[0]}'}: {', '.join(found)}"
    about = f"Norm of the gradient for all parameters together, loss at the last step{elements.bands(norms)}."
    return elements.Figure(about, (), [elements.picture((), title, traces, layout)])


def flow_by_lag(flow: list[elements.Record], summary: list[elements.Record]) -> elements.Figure:
    """‖∂L/∂s‖ relative to lag 0, against the lag."""
    traces, seen = [], [-3.5, 0.0]
    for record, look in elements.looks(summary):
        mine = [step for step in flow if elements.agree(step, record, "cell", "phase", "length")]
        lags, seeds = elements.seeds(mine, "lag", "log_norm")
        seeds = (seeds - seeds[:, :1])[np.isfinite(seeds[:, 0])] / math.log(10)
        traces += elements.line(lags[1:], seeds[:, 1:], look, elements.power, log=True, median=True)
        seen += list(seeds[np.isfinite(seeds)])
    longest = max(record["length"] for record in summary)
    layout = elements.axes(
        {"title": "lag (steps back from the last)", **elements.log_axis(1, longest),
         "range": [0, math.log10(max(longest, 2))]},
        {"title": "‖∂L/∂s‖ relative to lag 0", **elements.decades(seen),
         "range": [max(min(seen), -elements.FLOOR) - 0.2, min(max(seen), elements.FLOOR) + 0.5]},
        "lag %{x} steps",
    ) | elements.level(-3, "1/1000")  # fmt: skip
    about = f"Gradient of the whole state (an LSTM's c and h), T = {longest} steps{elements.bands(flow, 'median')}."
    return elements.Figure(about, (), [elements.picture((), finding(summary), traces, layout)])


def singular_values(records: list[elements.Record]) -> elements.Figure:
    """The largest, the median and the smallest singular value of the state's Jacobian against the lag."""
    pictures = []
    for phase, of_phase in elements.groups(records, "phase").items():
        traces, found, seen = [], [], []
        last = max(record["lag"] for record in of_phase)
        for (cell,), mine in elements.groups(of_phase, "cell").items():
            indices = sorted({record["index"] for record in mine})
            chosen = {
                "largest": indices[0],
                "median": indices[len(indices) // 2],
                "smallest": indices[-1],
            }
            for (name, index), dash in zip(chosen.items(), ("solid", "dash", "dot"), strict=True):
                lags, seeds = elements.seeds(
                    [r for r in mine if r["index"] == index], "lag", "log_value"
                )
                seeds = seeds / math.log(10)
                look = elements.look(cell, of_phase) | {"dash": dash, "legend": name == "largest"}
                traces += elements.line(lags, seeds, look, elements.power, f"{name}: {{}}")
                seen += list(elements.mean_over(seeds))
            _, value = largest_singular_value(mine)
            found.append(
                f"{cell} {'zero' if value is None else elements.power(value / math.log(10))}"
            )
        top = max((y for y in seen if np.isfinite(y)), default=0.0)
        bottom = min((y for y in seen if np.isfinite(y)), default=0.0)
        layout = elements.axes(
            {"title": "lag (steps)"},
            {"title": "singular value of ∂sₜ/∂sₜ₋ₗ", **elements.decades(seen),
             "range": [max(bottom, top - 2 * elements.FLOOR) - 0.5, top + 0.5]},
            "lag %{x} steps",
        )  # fmt: skip
        title = f"Over {last} steps the largest singular value becomes {', '.join(found)}"
        pictures.append(elements.picture(elements.phase_name(phase), title, traces, layout))
    about = "Of the whole state s over the lag. Solid: the largest; dashed: the median; dotted: the smallest"
    return elements.Figure(f"{about}{elements.bands(records)}.", ("phase",), pictures)


def contributions(records: list[elements.Record]) -> elements.Figure:
    """The (t, k) matrix: what step k adds to the gradient of the error at step t."""
    pictures = []
    for (cell, phase, parameter), mine in elements.groups(
        records, "cell", "phase", "parameter"
    ).items():
        ts, ks, grid = elements.table(mine, "t", "k", "log_norm")
        grid = grid / math.log(10)
        finite = grid[np.isfinite(grid)]
        top = finite.max(initial=-np.inf)
        bottom = max(finite.min(initial=np.inf), top - elements.FLOOR)
        scale = {"zmin": bottom, "zmax": top} if finite.size else {}
        bar = {
            "title": {"text": "norm", "side": "top"},
            **elements.decades([bottom, top]),
        }
        heat = elements.heat(ks, ts, grid, bar, "t = %{y}, k = %{x}<br>10<sup>%{z:.2f}</sup>") | {
            "colorscale": "Cividis", **scale}  # fmt: skip
        layout = elements.axes(
            {"title": "step k that contributes"}, {"title": "step t of the error"}
        )
        counts = contribution_reach(mine)
        far = (
            "over the whole sequence" if counts is None else f"up to {elements.steps(counts)} back"
        )
        found = f"contributions are above 1/1000 of the largest {far}"
        title = f"{cell}, {parameter}: {found if finite.size else 'no contribution is finite'}"
        pictures.append(
            elements.picture((cell, *elements.phase_name(phase), parameter), title, [heat], layout)
        )
    pictures.sort(key=lambda picture: picture["key"][-1] != "all")  # shown first where it is there
    about = (
        f"‖∂Eₜ/∂hₜ · ∂hₜ/∂hₖ · ∂⁺hₖ/∂θ‖; colours end {elements.FLOOR} decades below the largest."
    )
    return elements.Figure(about, ("cell", "phase", "parameter"), pictures)


def truncation(records: list[elements.Record]) -> elements.Figure:
    """Cosine and norm of the truncated gradient, relative to the full one, against the truncation."""
    pictures = []
    for phase, of_phase in elements.groups(records, "phase").items():
        traces, needed, cosines = [], [], []
        for (cell,), mine in elements.groups(of_phase, "cell").items():
            look = elements.look(cell, of_phase)
            steps, seeds = elements.seeds(mine, "steps", "cosine")
            traces += elements.line(steps, seeds, look, short, "cosine {}", log=True)
            enough = truncation_needed(mine)
            needed.append(f"{cell} {f'more than {steps[-1]}' if enough is None else enough}")
            cosines += list(seeds[np.isfinite(seeds)])
            steps, seeds = elements.seeds(mine, "steps", "relative_norm")
            of_norm = elements.line(
                steps, seeds, look | {"legend": False}, short, "norm {}", log=True
            )
            traces += [trace | {"yaxis": "y2"} for trace in of_norm]
        layout = elements.axes(
            {"title": "truncated after (steps)", "type": "log", "tickvals": sorted({r["steps"] for r in of_phase}),
             "anchor": "y2"},
            {"title": "cosine", "domain": [0.54, 1], "range": [min([0.0, *cosines]) - 0.05, 1.05]},
            "%{x} steps",
        )  # fmt: skip
        layout |= {
            "yaxis2": {
                "title": {"text": "relative norm"},
                "domain": [0, 0.46],
                "rangemode": "tozero",
            }
        }
        layout |= {"hoversubplots": "axis"}
        title = (
            f"Steps that give the full gradient's direction (cosine of 0.99): {', '.join(needed)}"
        )
        pictures.append(elements.picture(elements.phase_name(phase), title, traces, layout))
    about = f"Truncated gradient and full one: cosine between them, and ratio of their norms{elements.bands(records)}."
    return elements.Figure(about, ("phase",), pictures)
