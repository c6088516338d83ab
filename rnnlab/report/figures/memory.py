"""The figure of a memory study: what each cell learns at each length, and its horizon."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from rnnlab.report.figures.style import (
    Record,
    band,
    drawing,
    grid_lines,
    layout,
    legend_below,
    look,
    plain,
    reference_line,
    seed_bands,
    title,
)
from rnnlab.report.findings import shown_skill
from rnnlab.report.memory_sentences import count_budgets, group
from rnnlab.studies.records import column, select

CLOSED = (
    "Share of the gap between the loss without memory (0) and the lowest loss (1) that training "
    "closes"
)


def draw(scores: list[Record], folder: Path) -> None:
    """Writes ``memory.png`` and ``.svg``: what is learned, and a panel for the horizons.

    There is a panel for each task, or a grid of tasks and cells where each task has one length.
    """
    cells = list(dict.fromkeys(column(scores, "cell")))
    if _has_one_length(scores):
        _draw_grids(scores, cells, folder)
        return
    budgets = count_budgets(scores)
    panels: dict[str, list[Record]] = {}
    for record in scores:
        panels.setdefault(group(record, budgets), []).append(record)
    rows, columns = layout(len(panels) + 1)
    size = (3.8 * columns, 3.4 * rows + 0.8)
    with drawing(folder / "memory", rows, columns, size) as (figure, axes):
        for panel, (name, records) in zip(axes, panels.items(), strict=False):
            _skills(panel, records, cells)
            panel.set_title(name, fontsize=10)
        _horizons(axes[len(panels)], scores, cells)
        title(figure, f"{CLOSED}{seed_bands(scores)}", 36 * columns)
        legend_below(figure, axes[0])


def _has_one_length(scores: list[Record]) -> bool:
    """Whether there are several tasks, each at one length: curves would be single points."""
    lengths = {(record["task"], record["length"]) for record in scores}
    return 1 < len(lengths) == len(set(column(scores, "task")))


def _draw_grids(scores: list[Record], cells: list[str], folder: Path) -> None:
    budgets = sorted(set(column(scores, "budget")))
    tasks = list(dict.fromkeys(column(scores, "task")))
    width = (1 + len(budgets)) * (2.2 + 0.42 * len(cells))
    with drawing(
        folder / "memory", 1, 1 + len(budgets), (max(width, 9.0), 2.8 + 0.36 * len(tasks))
    ) as (figure, axes):
        for panel, budget in zip(axes, budgets, strict=False):
            _grid(panel, select(scores, budget=budget), cells, tasks)
            panel.set_title(f"{budget} parameters", fontsize=10)
        _horizons(axes[-1], scores, cells)
        seeds = len(set(column(scores, "seed")))
        text = f"{CLOSED} (per cent, median of {seeds} seeds; brackets: seeds that learn the task)"
        title(figure, text, int(width * 8))
        legend_below(figure, axes[-1])


def _grid(axes: Axes, records: list[Record], cells: list[str], tasks: list[str]) -> None:
    """The share of the gap that each cell closes on each task, as colours and numbers."""
    values = np.full((len(tasks), len(cells)), np.nan)
    for row, task in enumerate(tasks):
        for place, cell in enumerate(cells):
            found = select(records, task=task, cell=cell)
            if not found:
                continue
            # A loss that is not finite has closed nothing.
            shares = [shown_skill(record) for record in found]
            share = float(np.median([-0.1 if value is None else value for value in shares]))
            values[row, place] = share
            solved = sum(record["solved_after"] is not None for record in found)
            text = f"{100 * max(share, 0):.0f}" + (f"\n({solved})" if solved else "")
            colour = "white" if share < 0.6 else "black"
            axes.text(place, row, text, ha="center", va="center", fontsize=6.5, color=colour)
    axes.imshow(values, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(cells)), cells, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(tasks)), tasks, fontsize=8)


def _skills(axes: Axes, records: list[Record], cells: list[str]) -> None:
    """The share of the gap that each cell closes, against the length."""
    for index, cell in enumerate(cells):
        of_cell = select(records, cell=cell)
        points = [(record["length"], shown_skill(record)) for record in of_cell]
        points.sort(key=lambda point: point[0])
        band(axes, points, name=cell, median=True, **look(index))
    axes.set_xscale("log")
    lengths = sorted(set(column(records, "length")))
    axes.set_xticks(lengths, list(map(str, lengths)))
    axes.set_xticks([], minor=True)
    axes.set_ylim(-0.15, 1.08)
    reference_line(axes, 0)
    reference_line(axes, 1)
    axes.set(xlabel="length", ylabel="gap closed")
    grid_lines(axes)


def _horizons(axes: Axes, scores: list[Record], cells: list[str]) -> None:
    """The gap that a network closes against its horizon before training, relative to the lag."""
    for index, cell in enumerate(cells):
        records = select(scores, cell=cell)
        xs, ys = [], []
        for record in records:
            if record["skill"] is not None and record["horizon_before"]:
                xs.append(record["horizon_before"] / record["lag"])
                ys.append(shown_skill(record))
        style = {"linestyle": "none", "markersize": 5, "alpha": 0.7}
        axes.plot(xs, ys, label=cell, **style, **look(index))
    axes.axvline(1, color="0.45", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    plain(axes.xaxis, (1, 3))
    axes.set_ylim(-0.15, 1.08)
    axes.set(xlabel="horizon before training / lag", ylabel="gap closed")
    axes.set_title("Does the horizon tell what is learned?", fontsize=10)
    grid_lines(axes)
