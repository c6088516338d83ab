"""The figure of a memory study: what each cell learns at each length, and its horizon."""

from pathlib import Path

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


def draw(scores: list[Record], folder: Path) -> None:
    """Writes ``memory.png`` and ``.svg``: a panel for each task, and one for the horizons."""
    budgets = count_budgets(scores)
    panels: dict[str, list[Record]] = {}
    for record in scores:
        panels.setdefault(group(record, budgets), []).append(record)
    cells = list(dict.fromkeys(column(scores, "cell")))
    rows, columns = layout(len(panels) + 1)
    size = (3.8 * columns, 3.4 * rows + 0.8)
    with drawing(folder / "memory", rows, columns, size) as (figure, axes):
        for panel, (name, records) in zip(axes, panels.items(), strict=False):
            _skills(panel, records, cells)
            panel.set_title(name, fontsize=10)
        _horizons(axes[len(panels)], scores, cells)
        title(
            figure,
            "Share of the gap between the loss without memory (0) and the lowest loss (1) that "
            f"training closes{seed_bands(scores)}",
            36 * columns,
        )
        legend_below(figure, axes[0])


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
        axes.plot(xs, ys, linestyle="none", markersize=5, alpha=0.7, **look(index))
    axes.axvline(1, color="0.45", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    plain(axes.xaxis, (1, 3))
    axes.set_ylim(-0.15, 1.08)
    axes.set(xlabel="horizon before training / lag", ylabel="gap closed")
    axes.set_title("Does the horizon tell what is learned?", fontsize=10)
    grid_lines(axes)
