"""The figure: the scores, the bits by context, and a tune with its continuation as piano rolls."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from experiments.common import Record, first_sentence
from experiments.melody.continuation import UNITS
from experiments.melody.data import BAR, parse_token
from rnnlab.report.figures.style import COLOURS, drawing, grid_lines, look, title

BARS = 13
"""How many bars of a tune are drawn."""


def draw(result: Record, path: Path) -> None:
    """The scores, the bits by context, and the rolls."""
    with drawing(path, 2, 2, (13, 8)) as (figure, panels):
        _scores(panels[0], result["records"])
        _contexts(panels[1], result["records"])
        example = result["_example"]
        for axes, name in zip(panels[2:], ("true", "continued"), strict=True):
            _roll(axes, example[name], example["opening"])
        panels[2].set_title(f"“{example['title']}”, held out", fontsize=10)
        about = "The GRU goes on after the grey bars (nucleus 0.9)"
        panels[3].set_title(about, fontsize=10)
        title(figure, first_sentence(result["finding"]), 130)


def _scores(axes: Axes, records: list[Record]) -> None:
    names = list(dict.fromkeys(record["name"] for record in records))
    for place, name in enumerate(names):
        costs = [record["bits_per_note"] for record in records if record["name"] == name]
        style: Record = look(place + 1) | {"linestyle": "none", "markersize": 7}
        axes.plot(costs, [place] * len(costs), **style)
        axes.annotate(
            f"{np.mean(costs):.2f}", (max(costs), place), (8, 0), textcoords="offset points",
            va="center", fontsize=9,
        )  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(len(names) - 0.5, -0.5), xlabel="bits per note")
    axes.set_title("Held-out tunes; each seed of the network", fontsize=10)
    axes.margins(x=0.15)
    grid_lines(axes)


def _contexts(axes: Axes, records: list[Record]) -> None:
    rows = [record for record in records if "contexts" in record]
    # A record has the whole tune first.
    whole, *cut = rows[0]["contexts"]
    names = [*cut, whole]
    for index, row in enumerate(rows):
        costs = [row["contexts"][name] for name in names]
        label = "GRU, each seed" if index == 0 else None
        axes.plot(range(len(costs)), costs, color=COLOURS[2], marker="o", lw=1, label=label)
    axes.set_xticks(range(len(names)), names)
    axes.set(xlabel="tokens that are read before the note", ylabel="bits of a note")
    axes.set_title("What the context is worth", fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    grid_lines(axes)


def _roll(axes: Axes, tokens: Sequence[str], given: int) -> None:
    """The notes of the first bars, semitones above the tonic, by time."""
    time, bars = 0.0, 0
    for place, token in enumerate(tokens[1:], 1):
        if token == BAR:
            bars += 1
            axes.axvline(time, color="0.85", linewidth=0.8, zorder=0)
            if bars == BARS:
                break
        note = parse_token(token)
        if note is None:
            continue
        pitch, units = note[0], float(note[1])
        if pitch is not None:
            colour = "0.55" if place < given else COLOURS[1]
            axes.barh(pitch, units * 0.92, left=time, height=0.8, color=colour)
        time += units
    per_bar = UNITS[tokens[0].split()[0]]
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel=f"units ({per_bar} in a bar)", ylabel="semitones above the tonic")
