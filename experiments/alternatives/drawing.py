"""The figure: losses on the three tasks, what is kept, predictability, and costs."""

import math
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from rnnlab.report.figures.style import band, drawing, grid_lines, look, plain, title

Record = dict[str, Any]

ORDER = ("AR", "window", "TDNN", "Transformer", "RNN", "LSTM", "GRU", "HMM", "LDS")
NAMES = {
    "bits": "Store {bits} bits, within the window",
    "oscillator": "Noisy linear oscillator",
    "long lag": "Order of two symbols, beyond the window",
}
UNITS = {
    "bits": "nats per step",
    "oscillator": "mean squared error",
    "long lag": "nats",
}


def figure(result: Record, path: Path) -> None:
    """Writes ``path.png`` and ``path.svg``."""
    with drawing(path, 2, 4, (17, 8)) as (whole, panels):
        for axes, name in zip(panels, NAMES, strict=False):
            losses(axes, result["tasks"][name], NAMES[name].format(bits=result["bits"]))
            axes.set_xlabel(f"loss ({UNITS[name]})")
        memory(panels[3], result)
        predictability(panels[4], result["noise"])
        growth_panel(panels[5], result["costs"], "seconds", "time of loss and gradient (CPU s)")
        growth_panel(panels[6], result["costs"], "bytes", "memory (bytes)")
        speed(panels[7], result["tasks"])
        for axes in panels:
            grid_lines(axes)
        title(whole, headline(result), 130)


def headline(result: Record) -> str:
    """The title, from the numbers."""
    best = {}
    for name in ("oscillator", "long lag"):
        rows = result["tasks"][name]["rows"]
        best[name] = min(rows, key=lambda row: sum(row["losses"]))["model"]
    most = result["states"][-1]
    return (
        f"Each task favours another model: the oscillator {best['oscillator']}, the long lag "
        f"{best['long lag']}; {most['states']} states hold at most {most['bound']:.2f} nats"
    )


def losses(axes: Axes, task: Record, name: str) -> None:
    """The loss of every seed; the baseline and the floor as lines."""
    rows = {row["model"]: row for row in task["rows"]}
    shown = [model for model in ORDER if model in rows]
    for place, model in enumerate(reversed(shown)):
        values = rows[model]["losses"]
        axes.plot(values, [place] * len(values), **look(ORDER.index(model)), linestyle="none")
    axes.set_yticks(range(len(shown)), list(reversed(shown)))
    axes.axvline(task["baseline"], color="0.45", linestyle=":", label="without memory")
    axes.axvline(task["floor"], color="0.2", linestyle="--", label="exact optimum")
    if "window_floor" in task:
        label = "best window of 16"
        axes.axvline(task["window_floor"], color="0.6", linestyle="-.", label=label)
    axes.set_title(name, fontsize=10)
    axes.legend(frameon=False, fontsize=8)


def memory(axes: Axes, result: Record) -> None:
    """Nats that are kept against the number of states or units."""
    rows = result["states"]
    states = [row["states"] for row in rows]
    axes.plot(states, [row["bound"] for row in rows], "--", color="0.3", label="ln N, the bound")
    axes.plot(
        states, [row["built"] for row in rows], **look(0), linestyle="none", label="HMM, built"
    )
    band(axes, spread(rows, "states", "fitted"), name="HMM, fitted", **look(2))
    band(axes, spread(result["units"], "units", "kept"), name="RNN", **look(1))
    full = result["bits"] * math.log(2)
    axes.axhline(full, color="0.45", linestyle=":", label=f"{result['bits']} bits")
    axes.set_xscale("log", base=2)
    plain(axes.xaxis, (1, 2, 4, 8))
    axes.set_xticks(states, list(map(str, states)))
    axes.set(xlabel="states N of the HMM, units of the RNN", ylabel="kept (nats)")
    axes.set_title("What N states keep, and what N units keep", fontsize=10)
    axes.legend(frameon=False, fontsize=8)


def predictability(axes: Axes, rows: list[Record]) -> None:
    """The share of the variance that is predicted against the noise."""
    levels = [row["noise"] for row in rows]
    for name, label, style in (
        ("kalman", "Kalman filter, exact optimum", "-"),
        ("window", "best window of 16, exact", "-."),
        ("last value", "best from the last value, exact", ":"),
    ):
        axes.plot(levels, [row[name] for row in rows], style, color="0.3", label=label)
    for name, index in (("GRU", 6), ("LDS", 8)):
        points = spread(rows, "noise", name)
        axes.plot(*zip(*points, strict=True), **look(index), linestyle="none", label=name)
    axes.set_xscale("log")
    plain(axes.xaxis, (1, 3))
    axes.set(
        xlabel="noise of the measurement (signal: 1)", ylabel="predicted share of the variance"
    )
    axes.set_title("The oscillator by its noise", fontsize=10)
    axes.legend(frameon=False, fontsize=8)


def growth_panel(axes: Axes, rows: list[Record], what: str, label: str) -> None:
    """A cost against the length, for each network."""
    for name in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == name]
        lengths = [row["length"] for row in own]
        axes.plot(lengths, [row[what] for row in own], label=name, **look(ORDER.index(name)))
    axes.set(xlabel="steps of a sequence", ylabel=label, xscale="log", yscale="log")
    lengths = sorted({row["length"] for row in rows})
    axes.set_xticks(lengths, list(map(str, lengths)))
    axes.minorticks_off()
    axes.set_title("Loss and gradient, 20 000 parameters", fontsize=10)
    axes.legend(frameon=False, fontsize=8)


def speed(axes: Axes, tasks: Record) -> None:
    """The seconds of all updates of one seed, or of one fit."""
    for index, (name, task) in enumerate(tasks.items()):
        for number, row in enumerate(task["rows"]):
            place = len(ORDER) - 1 - ORDER.index(row["model"])
            value = row.get("seconds_per_fit")
            if value is None:
                value = row["seconds_per_update"] * row["updates"]
            label = None if number else name
            style: dict[str, Any] = look(index + 1) | {"linestyle": "none"}
            axes.plot(value, place, label=label, **style)
    axes.set_yticks(range(len(ORDER)), list(reversed(ORDER)))
    axes.set(xlabel="CPU seconds of one training or fit", xscale="log")
    axes.set_title("Time until solved, or for all updates", fontsize=10)
    axes.legend(frameon=False, fontsize=8)


def spread(rows: list[Record], x: str, y: str) -> list[tuple[float, float | None]]:
    """A point for each seed."""
    points: list[tuple[float, float | None]] = []
    for row in rows:
        points += [(row[x], value) for value in row[y]]
    return points
