"""The figures of a closer look: singular values, the matrix of contributions, and truncation."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import FuncFormatter

from rnnlab._wording import power_of_ten
from rnnlab.report.figures.style import band, decades, drawing, layout, looks, plain, title
from rnnlab.report.findings import contribution_reach, largest_singular_value, truncation_needed
from rnnlab.report.sentences import label
from rnnlab.studies.records import Records

DEEPEST = 12.0
"""Decades below the largest that are drawn; what lies lower is left to the numbers."""

Group = tuple[str, str]  # a cell, and when


def draw(records: Records, folder: Path) -> None:
    """All figures of a closer look."""
    groups = list(dict.fromkeys((row["cell"], row["phase"]) for row in records["truncation"]))
    phases = len({phase for _, phase in groups})
    names = {group: label({"cell": group[0], "phase": group[1]}, phases) for group in groups}
    singular_values(records["singular_values"], names, folder)
    contributions(records["contributions"], names, folder)
    truncation(records["truncation"], names, folder)


def _of(rows: list[dict[str, Any]], group: Group) -> list[dict[str, Any]]:
    """The records of one cell and phase."""
    return [row for row in rows if (row["cell"], row["phase"]) == group]


def singular_values(rows: list[dict[str, Any]], names: dict[Group, str], folder: Path) -> None:
    """Writes ``singular_values.png`` and ``.svg``: those of ∂s_T/∂s_k against the lag, a line for each."""
    down, across = layout(len(names))
    size = max(row["index"] for row in rows)
    values = np.array([decades(row["log_value"]) for row in rows])
    seen = values[np.isfinite(values)] if np.isfinite(values).any() else np.zeros(1)
    ranks, colours = LogNorm(1, max(size, 2)), matplotlib.colormaps["viridis_r"]
    found = []
    with drawing(
        folder / "singular_values", down, across, (max(4 * across, 6) + 1, 3.8 * down + 0.8)
    ) as (
        figure,
        panels,
    ):
        for axes, (group, name) in zip(panels, names.items(), strict=False):
            own = _of(rows, group)
            for index in sorted({row["index"] for row in own}, reverse=True):
                points = [
                    (row["lag"], decades(row["log_value"])) for row in own if row["index"] == index
                ]
                band(axes, points, color=colours(ranks(index)), linewidth=1.2)
            _, value = largest_singular_value(own)
            found.append(f"{name} {_power(value)}")
            axes.axhline(0, color="0.45", linewidth=0.8, linestyle=":")
            axes.set_ylim(max(seen.min() - 0.5, seen.max() - DEEPEST), seen.max() + 0.5)
            axes.yaxis.set_major_formatter(
                FuncFormatter(lambda y, _: f"$10^{{{y:g}}}$".replace("-", "−"))
            )
            axes.grid(visible=True, color="0.9", linewidth=0.6)
            axes.set(
                xlabel="lag T − k (steps)",
                ylabel="singular value of ∂s_T/∂s_k",
                xscale="log",
                title=name,
            )
            plain(axes.xaxis)
        bar = figure.colorbar(
            ScalarMappable(ranks, colours),
            ax=list(panels[: len(names)]),
            label="rank (1 = largest)",
        )
        plain(bar.ax.yaxis)
        seeds = len({row["seed"] for row in rows})
        bands = f"; bands: range of {seeds} seeds" if seeds > 1 else ""
        last = max(row["lag"] for row in rows)
        text = f"Over {last} steps the largest singular value of ∂s_T/∂s_k becomes {', '.join(found)}{bands}"
        title(figure, text, 34 * across + 20)


def contributions(rows: list[dict[str, Any]], names: dict[Group, str], folder: Path) -> None:
    """Writes ``contributions.png`` and ``.svg``: what the loss at t owes to the weights at k, all parameters."""
    down, across = layout(len(names))
    found = []
    with drawing(
        folder / "contributions", down, across, (max(4 * across, 6) + 1, 3.8 * down + 0.8)
    ) as (
        figure,
        panels,
    ):
        mesh = None
        for axes, (group, name) in zip(panels, names.items(), strict=False):
            own = [row for row in _of(rows, group) if row["parameter"] == "all"]
            steps = sorted({row["t"] for row in own})
            place = {step: number for number, step in enumerate(steps)}
            grid = np.full((len(steps), len(steps)), np.nan)
            for row in own:
                grid[place[row["t"]], place[row["k"]]] = decades(row["log_norm"])
            grid -= np.nanmax(grid)
            borders = np.array([0, *steps]) + 0.5
            norm = Normalize(-DEEPEST, 0)
            mesh = axes.pcolormesh(
                borders,
                borders,
                np.maximum(grid, -DEEPEST),
                cmap="magma",
                norm=norm,
                rasterized=True,
            )
            axes.set_facecolor("0.93")
            axes.set(xlabel="weights act at k (step)", ylabel="loss arises at t (step)", title=name)
            axes.set_aspect("equal")
            counts = contribution_reach(own)
            found.append(f"{name} {'all' if counts is None else counts}")
        if mesh is not None:
            bar = figure.colorbar(
                mesh, ax=list(panels[: len(names)]), label="contribution, relative to the largest"
            )
            ticks = range(-int(DEEPEST), 1, 3)
            bar.set_ticks(list(ticks), labels=[power_of_ten(tick) for tick in ticks])
        text = f"Steps back up to which contributions are above 1/1000 of the largest: {', '.join(found)}"
        title(figure, text, 34 * across + 20)


def truncation(rows: list[dict[str, Any]], names: dict[Group, str], folder: Path) -> None:
    """Writes ``truncation.png`` and ``.svg``: cosine and relative norm of the truncated gradient."""
    found = []
    with drawing(folder / "truncation", 1, 2, (11, 4.8)) as (figure, (left, right)):
        for (group, name), (_, style) in zip(names.items(), looks(list(names)), strict=True):
            own = _of(rows, group)
            for axes, key in ((left, "cosine"), (right, "relative_norm")):
                points = [(row["steps"], row[key]) for row in own]
                band(axes, points, name=name, **style)
            needed = truncation_needed(own)
            found.append(f"{name} {needed or _more_than(own)}")
        for axes in (left, right):
            axes.axhline(1, color="0.45", linewidth=0.8, linestyle=":")
            axes.set(xlabel="truncated to K (steps)", xscale="log")
            axes.grid(visible=True, color="0.9", linewidth=0.6)
            plain(axes.xaxis)
        left.set(ylabel="cosine with the full gradient")
        right.set(ylabel="norm relative to the full gradient")
        seeds = len({row["seed"] for row in rows})
        left.set_title(
            "Direction" + (f"; bands: range of {seeds} seeds" if seeds > 1 else ""), fontsize=10
        )
        right.set_title("Length", fontsize=10)
        handles, labels = left.get_legend_handles_labels()
        columns = min(len(labels), 6)
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            handlelength=3,
        )
        title(
            figure,
            f"Steps that a truncation must keep for a cosine of 0.99: {', '.join(found)}",
            100,
        )


def _more_than(rows: list[dict[str, Any]]) -> str:
    return f"more than {max(row['steps'] for row in rows)}"


def _power(log_value: float | None) -> str:
    """A number that is given by its logarithm."""
    if log_value is None:
        return "zero"
    exponent = decades(log_value)
    return f"{10**exponent:.2g}" if -3 < exponent < 4 else power_of_ten(exponent)
