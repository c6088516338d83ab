"""The figure: losses on the three tasks, what is kept, predictability, and costs."""

import math
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from experiments.alternatives.problems import WINDOW
from experiments.alternatives.sentences import excesses, headline
from experiments.common import Record
from rnnlab.report.figures.style import band, drawing, grid_lines, look, plain, title

ORDER = (
    "AR",
    "feed-forward",
    "TDNN",
    "Transformer",
    "RNN",
    "LSTM",
    "GRU",
    "HMM",
    "LDS",
    "chrono LSTM",
    "chrono GRU",
)


def figure(result: Record, path: Path) -> None:
    """Writes ``path.png`` and ``path.svg``."""
    tasks = result["tasks"]
    with drawing(path, 2, 4, (17, 8.6)) as (whole, panels):
        losses(panels[0], tasks["bits"], "nats per step")
        panels[0].set_title(f"Store {result['bits']} bits, within the window", fontsize=10)
        excess(panels[1], tasks["oscillator"])
        losses(panels[2], tasks["long lag"], "nats")
        panels[2].set_title("Order of two symbols, beyond the window", fontsize=10)
        memory(panels[3], result)
        predictability(panels[4], result["noise"])
        growth_panel(panels[5], result["costs"], "seconds", "loss and gradient (CPU seconds)")
        growth_panel(panels[6], result["costs"], "bytes", "loss and gradient (bytes)")
        speed(panels[7], tasks)
        for axes in panels:
            grid_lines(axes)
        title(whole, headline(result), 150)


def named(rows: list[Record]) -> list[Record]:
    """The rows from the bottom of a panel to its top."""
    return sorted(rows, key=lambda row: -ORDER.index(row["model"]))


def dots(axes: Axes, xs: Any, ys: Any, model: str, **options: Any) -> None:
    """Markers in the style of a model."""
    style: dict[str, Any] = look(ORDER.index(model)) | {"linestyle": "none"} | options
    axes.plot(xs, ys, **style)


def losses(axes: Axes, task: Record, unit: str) -> None:
    """The loss of every seed; the baseline and the floor as lines."""
    rows = named(task["rows"])
    for place, row in enumerate(rows):
        dots(axes, row["losses"], [place] * len(row["losses"]), row["model"])
    axes.set_yticks(range(len(rows)), [row["model"] for row in rows])
    axes.axvline(task["baseline"], color="0.45", linestyle=":", label="without memory")
    axes.axvline(task["floor"], color="0.2", linestyle="--", label="exact optimum")
    axes.set_xlabel(f"loss ({unit})")
    axes.legend(frameon=False, fontsize=8, loc="center")


def excess(axes: Axes, task: Record) -> None:
    """By how much every loss exceeds that of the exact filter on the same sequences."""
    shares = excesses(task)
    rows = named(task["rows"])
    names = []
    for place, row in enumerate(rows):
        model = row["model"]
        values = [100 * share for share in shares[model]]
        dots(axes, values, [place] * len(values), model)
        names.append(f"{model}: {row['parameters']}, {row['carried']}")
    axes.set_yticks(range(len(rows)), names)
    axes.axvline(0, color="0.2", linestyle="--", label="Kalman filter, exact optimum")
    window = 100 * (task["window_floor"] / task["floor"] - 1)
    axes.axvline(window, color="0.6", linestyle="-.", label=f"best window of {WINDOW}")
    baseline = 100 * (task["baseline"] / task["floor"] - 1)
    axes.set_xlabel(f"error above the optimum (%); last value only: {baseline:.0f} %")
    axes.set_title("Oscillator (parameters, numbers carried)", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="center right")


def memory(axes: Axes, result: Record) -> None:
    """Nats that are kept against the number of states or units."""
    rows = result["states"]
    states = [row["states"] for row in rows]
    axes.plot(states, [row["bound"] for row in rows], "--", color="0.3", label="ln N, the bound")
    dots(axes, states, [row["built"] for row in rows], "AR", label="HMM, built")
    band(axes, spread(rows, "states", "fitted"), name="HMM, fitted", **look(2))
    band(axes, spread(result["units"], "units", "kept"), name="RNN", **look(1))
    full = result["bits"] * math.log(2)
    axes.axhline(full, color="0.45", linestyle=":", label=f"{result['bits']} bits")
    axes.set_xscale("log", base=2)
    plain(axes.xaxis, (1, 2, 4, 8))
    axes.set_xticks(states, list(map(str, states)))
    axes.set(xlabel="states N of the HMM, units of the RNN", ylabel="kept (nats)")
    axes.set_title("What N states or units keep", fontsize=10)
    axes.legend(frameon=False, fontsize=8)


def predictability(axes: Axes, noise: Record) -> None:
    """The share of the variance that is predicted against the noise."""
    rows = noise["exact"]
    levels = [row["noise"] for row in rows]
    for name, label, style in (
        ("filter", "Kalman filter, exact optimum", "-"),
        ("window", f"best window of {WINDOW}, exact", "-."),
        ("last value", "best from the last value, exact", ":"),
    ):
        axes.plot(levels, [row[name] for row in rows], style, color="0.3", label=label)
    for name in ("GRU", "LDS"):
        points = spread(noise["fitted"], "noise", name)
        xs, ys = zip(*points, strict=True)
        dots(axes, xs, ys, name, label=name)
    axes.set_xscale("log")
    plain(axes.xaxis, (1, 3))
    axes.set(xlabel="noise of the measurement (signal: 1)", ylabel="share of variance predicted")
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
