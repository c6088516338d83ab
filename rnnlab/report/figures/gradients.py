"""The figures of a gradient study."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from rnnlab._wording import power_of_ten
from rnnlab.report.figures.style import band, decades, drawing, looks, title
from rnnlab.report.sentences import finding, label

FLOOR = 12
"""Decades above and below lag 0 that are drawn; what lies beyond is left to the numbers."""


def gradient_norms(
    norms: list[dict[str, Any]],
    flow: list[dict[str, Any]],
    summary: list[dict[str, Any]],
    folder: Path,
) -> None:
    """Writes ``gradient_norms.png`` and ``.svg``: the norm against sequence length, and against the lag."""
    with drawing(folder / "gradient_norms", 1, 2, (11, 4.8)) as (figure, (left, right)):
        _against_length(left, norms, summary)
        _against_lag(right, flow, summary)
        title(figure, finding(summary), 100)
        handles, labels = right.get_legend_handles_labels()
        columns = min(len(labels), 6)
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            handlelength=3,
        )


def _against_length(axes: Axes, norms: list[dict[str, Any]], summary: list[dict[str, Any]]) -> None:
    for (_, style), record in zip(_looks(summary), summary, strict=True):
        points = [
            (norm["length"], decades(norm["log_norm"]))
            for norm in norms
            if (norm["cell"], norm["phase"], norm["parameter"])
            == (record["cell"], record["phase"], "all")
        ]
        band(axes, sorted(points, key=lambda point: point[0]), **style)
    axes.set_xscale("log")
    lengths = sorted({norm["length"] for norm in norms})
    axes.set_xticks(lengths, [str(length) for length in lengths])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="sequence length T (steps)", ylabel="gradient norm ‖∂L/∂θ‖")
    seeds = len({norm["seed"] for norm in norms})
    bands = f"; bands: range of {seeds} seeds" if seeds > 1 else ""
    axes.set_title(f"All parameters, loss at the last step{bands}", fontsize=10)
    _decade_ticks(axes)


def _against_lag(axes: Axes, flow: list[dict[str, Any]], summary: list[dict[str, Any]]) -> None:
    lowest, highest, longest = -3.5, 0.0, 2
    for (index, style), record in zip(_looks(summary), summary, strict=True):
        seeds: dict[int, list[float]] = {}
        for step in flow:
            if all(step[key] == record[key] for key in ("cell", "phase", "length")):
                seeds.setdefault(step["seed"], []).append(decades(step["log_norm"]))
        lines = np.array(list(seeds.values()))  # records of a seed stand in order of lag
        lines = lines - lines[:, :1]
        points = [(lag, value) for line in lines for lag, value in enumerate(line[1:], 1)]
        marks = _spread(lines.shape[1] - 1, index)
        band(
            axes,
            points,
            name=label(record, len(_phases(summary))),
            median=True,
            markevery=marks,
            **style,
        )
        seen = lines[np.isfinite(lines)]
        lowest, highest = min(lowest, seen.min(initial=0)), max(highest, seen.max(initial=0))
        longest = max(longest, record["length"])
    axes.axhline(-3, color="0.45", linewidth=0.8, linestyle=":")
    axes.annotate(
        "1/1000",
        (1, -3),
        xytext=(3, 3),
        textcoords="offset points",
        fontsize=8,
        color="0.35",
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlim=(1, longest), ylim=(max(lowest, -FLOOR) - 0.2, min(highest, FLOOR) + 0.5))
    axes.set(
        xlabel="lag (steps back from the last)", ylabel="‖∂L/∂s‖ of the state, relative to lag 0"
    )
    axes.set_title(
        f"State (with an LSTM's cell), T = {max(record['length'] for record in summary)}",
        fontsize=10,
    )
    _decade_ticks(axes)


def _spread(count: int, index: int) -> list[int]:
    """About eight positions evenly apart on a log axis, another set for each line, so that markers do not collide."""
    wanted = np.geomspace(1, max(count, 1), 9) * (1 + 0.12 * (index % 3))
    return sorted({min(int(place), count) - 1 for place in wanted})


def _looks(summary: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    return looks([(record["cell"], record["phase"]) for record in summary])


def _phases(summary: list[dict[str, Any]]) -> set[str]:
    return {record["phase"] for record in summary}


def _decade_ticks(axes: Axes) -> None:
    """A logarithmic scale for values that are drawn as their logs, since they may leave the range of floats.

    Whole powers of ten; between them 2 and 5 where the axis spans few of them.
    """
    low, high = axes.get_ylim()
    if high - low > 3:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: power_of_ten(y)))
    else:
        digits = (1, 2, 5) if high - low > 0.7 else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
        values = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in digits]
        shown = [value for value in values if low <= math.log10(value) <= high]
        axes.set_yticks([math.log10(value) for value in shown], [f"{value:g}" for value in shown])
    axes.grid(visible=True, color="0.9", linewidth=0.6)
