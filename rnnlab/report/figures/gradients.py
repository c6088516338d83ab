"""The figures of a gradient study."""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from rnnlab.report.figures.style import (
    Record,
    band,
    decade_ticks,
    decades,
    drawing,
    legend_below,
    looks,
    reference_line,
    seed_bands,
    title,
)
from rnnlab.report.findings import relative_to_lag_0
from rnnlab.report.sentences import finding, label
from rnnlab.studies.records import column, select

FLOOR = 12
"""Decades above and below lag 0 that are drawn; values beyond are only in the tables."""


def gradient_norms(
    norms: list[Record],
    flow: list[Record],
    summary: list[Record],
    folder: Path,
) -> None:
    """Writes ``gradient_norms.png`` and ``.svg``: the norm against sequence length and lag."""
    with drawing(folder / "gradient_norms", 1, 2, (11, 4.8)) as (figure, (left, right)):
        _against_length(left, norms, summary)
        _against_lag(right, flow, summary)
        title(figure, finding(summary), 100)
        # Long handles show the dashes.
        legend_below(figure, right, handlelength=3)


def _against_length(axes: Axes, norms: list[Record], summary: list[Record]) -> None:
    for record, (_, style) in zip(summary, _looks(summary), strict=True):
        cell, phase = record["cell"], record["phase"]
        points = []
        for norm in select(norms, cell=cell, phase=phase, parameter="all"):
            log_norm = decades(norm["log_norm"])
            points.append((norm["length"], log_norm))
        points.sort(key=lambda point: point[0])
        band(axes, points, **style)
    axes.set_xscale("log")
    lengths = sorted(set(column(norms, "length")))
    axes.set_xticks(lengths, list(map(str, lengths)))
    axes.set_xticks([], minor=True)
    axes.set(xlabel="sequence length T (steps)", ylabel="gradient norm ‖∂L/∂θ‖")
    axes.set_title(f"All parameters, loss at the last step{seed_bands(norms)}", fontsize=10)
    decade_ticks(axes)


def _against_lag(axes: Axes, flow: list[Record], summary: list[Record]) -> None:
    lowest, highest = -3.5, 0.0
    longest = max(column(summary, "length"))
    phases = len(set(column(summary, "phase")))
    for record, (index, style) in zip(summary, _looks(summary), strict=True):
        lines = relative_to_lag_0(flow, record) / math.log(10)
        points = []
        for line in lines:
            # A log axis has no place for lag 0.
            points += list(enumerate(line[1:], 1))
        band(
            axes,
            points,
            name=label(record, phases),
            median=True,
            markevery=_spread(lines.shape[1] - 1, index),
            **style,
        )
        finite = lines[np.isfinite(lines)]
        lowest = min(lowest, finite.min(initial=0))
        highest = max(highest, finite.max(initial=0))
    _mark_horizon(axes)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(1, max(longest, 2))
    bottom, top = max(lowest, -FLOOR), min(highest, FLOOR)
    axes.set_ylim(bottom - 0.2, top + 0.5)
    axes.set(xlabel="lag (steps back from the last)")
    axes.set(ylabel="‖∂L/∂s‖ of the state, relative to lag 0")
    axes.set_title(f"Whole state (LSTM: c and h), T = {longest}", fontsize=10)
    decade_ticks(axes)


def _mark_horizon(axes: Axes) -> None:
    reference_line(axes, -3)
    axes.annotate(
        "1/1000",
        (1, -3),
        xytext=(3, 3),
        textcoords="offset points",
        fontsize=8,
        color="0.35",
    )


def _spread(count: int, index: int) -> list[int]:
    """About eight positions that are evenly spaced on a log axis.

    They differ between neighbouring lines: markers at the same lags would cover one another.
    """
    shift = 1 + 0.12 * (index % 3)
    places = shift * np.geomspace(1, max(count, 1), 9)
    positions = {min(int(place), count) - 1 for place in places}
    return sorted(positions)


def _looks(summary: list[Record]) -> list[tuple[int, Record]]:
    cells, phases = column(summary, "cell"), column(summary, "phase")
    return looks(list(zip(cells, phases, strict=True)))
