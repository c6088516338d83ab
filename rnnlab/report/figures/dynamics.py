"""The figures of a dynamics study: the spectrum, the phase portrait and the phase diagram."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm, ListedColormap, LogNorm, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from rnnlab.report.figures.style import band, drawing, layout, look, plain, title
from rnnlab.report.sentences import counted, divergence, resting, short, turning
from rnnlab.studies.records import Records

KINDS = {
    "slow": ("s", "#999999", 5),
    "unstable": ("X", "#000000", 9),
    "saddle": ("^", "#D55E00", 9),
    "marginal": ("D", "#56B4E9", 9),
    "stable": ("o", "#009E73", 10),
}
"""Marker, colour and size of each kind of point; what matters most is drawn last."""

RATES = (-10, -3, -1, -0.3, -0.1, 0, 0.1, 0.3, 1, 3, 10)
"""Values of λ₁ that are named beside their colours, nats a step."""


def draw(records: Records, summary: list[dict[str, Any]], folder: Path) -> None:
    """All figures of the study."""
    spectrum(records["spectrum"], records["trace"], summary, folder)
    portrait(records["trajectories"], records["fixed_points"], summary, folder)
    phase(records["phase"], folder)


def spectrum(
    exponents: list[dict[str, Any]],
    trace: list[dict[str, Any]],
    summary: list[dict[str, Any]],
    folder: Path,
) -> None:
    """Writes ``spectrum.png`` and ``.svg``: the exponents by index, and how the estimate of λ₁ settled."""
    with drawing(folder / "spectrum", 1, 2, (11, 4.8)) as (figure, (left, right)):
        for number, record in enumerate(summary):
            style, name = look(number), record["cell"]
            band(left, _points(exponents, name, "index"), 16, name, **style)
            band(right, _points(trace, name, "step"), 8, **style)
        theory = [row for row in exponents if row["theory"] is not None]
        for number, cell in enumerate(dict.fromkeys(row["cell"] for row in theory)):
            exact: dict[int, list[float]] = {}
            for row in theory:
                if row["cell"] == cell:
                    exact.setdefault(row["index"], []).append(row["theory"])
            means = [sum(values) / len(values) for values in exact.values()]
            name = "" if number else "theory: ln |eigenvalue| at rest"
            left.plot(
                list(exact),
                means,
                color="#E69F00",
                linestyle="--",
                linewidth=1.2,
                label=name,
                zorder=5,
            )
        for axes in (left, right):
            axes.axhline(0, color="0.45", linewidth=0.8, linestyle=":")
            axes.grid(visible=True, color="0.9", linewidth=0.6)
        left.set(xlabel="index i", ylabel="Lyapunov exponent λᵢ (nats per step)")
        left.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True, min_n_ticks=1))
        right.set(
            xlabel="steps averaged over", ylabel="estimate of λ₁ (nats per step)", xscale="log"
        )
        right.set_xlim(0.9, 1.1 * max(row["step"] for row in trace))
        plain(right.xaxis)
        seeds = len({row["seed"] for row in exponents})
        left.set_title(
            "Leading exponents" + (f"; bands: range of {seeds} seeds" if seeds > 1 else ""),
            fontsize=10,
        )
        right.set_title("How the first exponent settles", fontsize=10)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False
        )
        title(figure, divergence(summary), 100)


def portrait(
    trajectories: list[dict[str, Any]],
    points: list[dict[str, Any]],
    summary: list[dict[str, Any]],
    folder: Path,
) -> None:
    """Writes ``portrait.png`` and ``.svg``: trajectories and fixed points of each cell's first seed."""
    rows, columns = layout(len(summary))
    seeds = len({row["seed"] for row in trajectories})
    with drawing(folder / "portrait", rows, columns, (max(3.8 * columns, 6), 3.9 * rows + 0.8)) as (
        figure,
        panels,
    ):
        shown = set()
        for axes, record in zip(panels, summary, strict=False):
            seed = min(row["seed"] for row in trajectories if row["cell"] == record["cell"])
            mine = [
                row for row in trajectories if (row["cell"], row["seed"]) == (record["cell"], seed)
            ]
            for number, example in enumerate(sorted({row["example"] for row in mine})):
                line = np.array(
                    [[row["pc1"], row["pc2"]] for row in mine if row["example"] == example], float
                )
                colour = ("#56B4E9", "#0072B2", "#CC79A7")[number % 3]
                axes.plot(*line.T, color=colour, linewidth=0.7, alpha=0.6, zorder=1)
                axes.plot(*line[0], ".", color=colour, markersize=7, zorder=1)
            here = [row for row in points if (row["cell"], row["seed"]) == (record["cell"], seed)]
            for order, (kind, (marker, colour, size)) in enumerate(KINDS.items(), 2):
                places = np.array(
                    [[row["pc1"], row["pc2"]] for row in here if row["kind"] == kind], float
                )
                if places.size:
                    shown.add(kind)
                    axes.plot(*places.T, **_marks(marker, colour, size), zorder=order)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(5))
                axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
            axes.set(
                xlabel="principal component 1 (units of the state)", ylabel="principal component 2"
            )
            axes.set_aspect("equal", adjustable="datalim")
            axes.margins(0.08)
            axes.grid(visible=True, color="0.92", linewidth=0.6)
            axes.set_axisbelow(True)
            name = f"{record['cell']}" + (f", seed {seed}" if seeds > 1 else "")
            found = counted({kind: sum(row["kind"] == kind for row in here) for kind in KINDS})
            axes.set_title(f"{name}\n{textwrap.fill(found, 44)}", fontsize=10)
        legend = [
            Line2D([], [], label=kind, **_marks(*KINDS[kind]))
            for kind in reversed(KINDS)
            if kind in shown
        ]
        legend.append(
            Line2D(
                [],
                [],
                color="#0072B2",
                marker=".",
                linewidth=0.8,
                label="trajectory, from the dot on",
            )
        )
        figure.legend(handles=legend, loc="outside lower center", ncols=len(legend), frameon=False)
        title(figure, resting(summary), 34 * columns if columns > 1 else 60)


def phase(records: list[dict[str, Any]], folder: Path) -> None:
    """Writes ``phase.png`` and ``.svg``: λ₁ and horizon over recurrent gain and length, with the line of λ₁ = 0."""
    cells = list(dict.fromkeys(row["cell"] for row in records))
    bands, columns = layout(len(cells))
    most = max((abs(row["exponent"]) for row in records if row["exponent"] is not None), default=1)
    rate = AsinhNorm(0.1, -most, most)  # nearly logarithmic beyond 0.1 nats a step
    reach = LogNorm(1, max(row["length"] for row in records))
    with drawing(
        folder / "phase", 2 * bands, columns, (max(3.6 * columns + 1.6, 6.2), 5.8 * bands + 1)
    ) as (
        figure,
        panels,
    ):
        grid = panels.reshape(2 * bands, columns)
        for number, cell in enumerate(cells):
            band, column = divmod(number, columns)
            mine = [row for row in records if row["cell"] == cell]
            upper, lower = grid[2 * band : 2 * band + 2, column]
            warm = _map(upper, mine, "exponent", "RdBu_r", rate)
            far = _map(lower, mine, "horizon", "viridis", reach)
            for axes, name in ((upper, "λ₁"), (lower, "horizon")):
                axes.set_title(f"{cell}: {name}", fontsize=10)
                axes.set(
                    xlabel="recurrent gain g (1 = as drawn)", ylabel="sequence length T (steps)"
                )
            if column == min(columns, len(cells) - band * columns) - 1:
                ticks = [tick for tick in RATES if abs(tick) <= most]
                figure.colorbar(
                    warm,
                    ax=list(grid[2 * band]),
                    label="λ₁ (nats per step)",
                    ticks=ticks,
                    format=FuncFormatter(lambda value, _: short(value)),
                )
                plain(
                    figure.colorbar(
                        far, ax=list(grid[2 * band + 1]), label="horizon (steps)"
                    ).ax.yaxis,
                    (1, 2, 5),
                )
        legend = [
            Line2D([], [], color="black", linewidth=1.8, label="λ₁ = 0"),
            Patch(
                facecolor="0.93",
                edgecolor="0.6",
                hatch="////",
                label="above 1/1000 at the first step",
            ),
            Patch(facecolor="white", edgecolor="0.6", label="no finite number"),
        ]
        figure.legend(handles=legend, loc="outside lower center", ncols=3, frameon=False)
        title(figure, turning(records), 34 * columns + 10)


def _map(axes: Axes, rows: list[dict[str, Any]], key: str, colours: str, norm: Normalize) -> Any:
    """A heat map over gain and length, both logarithmic; hatched where the gradient does not vanish."""
    gains, lengths = (sorted({row[name] for row in rows}) for name in ("value", "length"))
    found = {(row["length"], row["value"]): row for row in rows}
    borders = _edges(gains), _edges(lengths)

    def grid(key: str) -> np.ndarray:
        return np.array([[found[length, gain][key] for gain in gains] for length in lengths], float)

    values = grid(key)
    reaches = (grid("vanishes") == 0) & (key == "horizon")
    values[reaches] = np.nan
    mesh = axes.pcolormesh(*borders, values, cmap=colours, norm=norm, rasterized=True)
    if key == "horizon":
        grey = ListedColormap(["0.93"])
        axes.pcolor(
            *borders,
            np.ma.masked_where(~reaches, reaches),
            cmap=grey,
            hatch="////",
            edgecolor="0.6",
            linewidth=0,
        )
    exponents = grid("exponent")
    if len(lengths) > 1 and np.nanmin(exponents, initial=0) < 0 < np.nanmax(exponents, initial=0):
        axes.contour(gains, lengths, exponents, levels=[0], colors="black", linewidths=1.8)
    axes.set_yscale("log")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    plain(axes.yaxis, (1, 2, 5))
    axes.minorticks_off()  # of a dozen panels they take longer to draw than all the rest
    return mesh


def _points(rows: list[dict[str, Any]], cell: str, key: str) -> list[tuple[float, float | None]]:
    """Exponents of a cell over ``key``, of all seeds."""
    return [(row[key], row["exponent"]) for row in rows if row["cell"] == cell]


def _marks(marker: str, colour: str, size: float) -> dict[str, Any]:
    return {
        "marker": marker,
        "markersize": size,
        "color": colour,
        "markeredgecolor": "white",
        "markeredgewidth": 0.6,
        "linestyle": "none",
    }


def _edges(centres: list[float]) -> np.ndarray:
    """The borders between values that lie evenly on a log axis."""
    logs = np.log(centres)
    steps = np.diff(logs) if len(logs) > 1 else np.array([0.5])
    between = logs[:-1] + steps / 2 if len(logs) > 1 else np.array([])
    return np.exp(np.concatenate([[logs[0] - steps[0] / 2], between, [logs[-1] + steps[-1] / 2]]))
