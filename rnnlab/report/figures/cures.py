"""The figure of a study of cures: what each of them does to learning, horizon and time."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from rnnlab.report.cures_sentences import advice
from rnnlab.report.figures.style import (
    COLOURS,
    Record,
    drawing,
    grid_lines,
    legend_below,
    title,
)

BEFORE, AFTER = COLOURS[1], COLOURS[2]


def draw(summary: list[Record], folder: Path) -> None:
    """Writes ``cures.png`` and ``.svg``, the best cure on top."""
    names = [record["cure"] for record in summary]
    places = np.arange(len(names))[::-1]
    height = 1.8 + 0.3 * len(names)
    with drawing(folder / "cures", 1, 3, (12, height)) as (figure, (left, middle, right)):
        _learned(left, places, summary)
        _horizons(middle, places, summary)
        _times(right, places, summary)
        left.set_yticks(places, names)
        for axes in (middle, right):
            axes.set_yticks(places, [""] * len(names))
        for axes in (left, middle, right):
            axes.set_ylim(-0.7, len(names) + 0.2)
        legend_below(figure, middle)
        title(figure, advice(summary), 120)


def _learned(axes: Axes, places: np.ndarray, summary: list[Record]) -> None:
    """The share of the gap that is closed, and the updates of those that learn the task."""
    for place, record in zip(places, summary, strict=True):
        closed = min(max(record["skill"] or 0.0, 0.0), 1.0)
        colour = BEFORE if record["solved"] else COLOURS[8]
        axes.barh(place, closed, color=colour, height=0.6)
        if record["solved"]:
            text = f"{record['solved_after']} updates"
            if record["solved"] < record["seeds"]:
                text += f", {record['solved']} of {record['seeds']} seeds"
            axes.text(0.02, place, text, va="center", fontsize=8, color="white")
    axes.set_xlim(0, 1.02)
    axes.set(xlabel="gap closed (blue: learned)")
    axes.set_title("Learning", fontsize=10)
    grid_lines(axes)
    axes.set_axisbelow(True)


def _horizons(axes: Axes, places: np.ndarray, summary: list[Record]) -> None:
    """The horizon before and after the training."""
    lag = summary[0]["lag"]
    for place, record in zip(places, summary, strict=True):
        before, after = record["horizon_before"], record["horizon_after"]
        if before is None or after is None:
            continue
        axes.plot([before, after], [place, place], color="0.75", linewidth=1.5, zorder=1)
        axes.plot(before, place, marker="o", color=BEFORE, zorder=2)
        axes.plot(after, place, marker="^", color=AFTER, zorder=2)
    axes.plot([], [], marker="o", color=BEFORE, linestyle="none", label="before training")
    axes.plot([], [], marker="^", color=AFTER, linestyle="none", label="after")
    axes.axvline(lag, color="0.45", linewidth=0.8, linestyle=":")
    axes.text(lag, places.max() + 0.75, "lag ", fontsize=8, color="0.35", ha="right", va="center")
    axes.set_xlim(0, None)
    axes.set(xlabel="horizon (steps)")
    axes.set_title("Lag at which the gradient is below 1/1000", fontsize=10)
    grid_lines(axes)


def _times(axes: Axes, places: np.ndarray, summary: list[Record]) -> None:
    """The time of an update, relative to the unchanged network."""
    for place, record in zip(places, summary, strict=True):
        if record["time_ratio"] is not None:
            axes.barh(place, record["time_ratio"], color=COLOURS[3], height=0.6)
    axes.axvline(1, color="0.45", linewidth=0.8, linestyle=":")
    axes.set(xlabel="time of an update / unchanged")
    axes.set_title("Cost", fontsize=10)
    grid_lines(axes)
    axes.set_axisbelow(True)
