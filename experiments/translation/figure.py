"""The figure: scores of all ways, and where the first network looks."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from experiments.common import Record
from rnnlab.report.figures.style import COLOURS, drawing, grid_lines, look, title


def draw(result: Record, path: Path) -> None:
    """Exact matches of dates, scores of messages, and the attention to one of each."""
    with drawing(path, 2, 2, (12, 9.5)) as (figure, (left, right, date, message)):
        _dates(left, result["dates"])
        _messages(right, result["messages"])
        _attention(date, result["_date"])
        date.set_title("Attention to an unseen date", fontsize=10)
        shown = result["_message"]
        _attention(message, shown)
        message.set_title(
            f"Attention to an unseen message; it is written as:\n{shown['said']}", fontsize=10
        )
        title(figure, headline(result), 100)


def headline(result: Record) -> str:
    """The attention on dates, and the network on messages."""
    first, second = (
        np.mean(row["exact"])
        for way in ("with attention", "without attention")
        for row in result["dates"]
        if (row["way"], row["dates"], row["formats"]) == (way, 1, "seen formats")
    )
    bleu = {row["way"]: np.mean(row["bleu"]) for row in result["messages"]}
    return (
        f"Unseen dates right: {first:.1%} with attention, {second:.1%} without; BLEU of messages: "
        f"network {bleu['network']:.1%}, translation memory {bleu['translation memory']:.1%}, "
        f"dictionary {bleu['dictionary']:.1%}"
    )


def _dates(axes: Axes, records: list[Record]) -> None:
    """The exact matches of each way, one row for each kind of text."""
    rows = list(dict.fromkeys((row["dates"], row["formats"]) for row in records))
    ways = list(dict.fromkeys(row["way"] for row in records))
    named = set()
    for record in records:
        index = ways.index(record["way"])
        values = 100 * np.array(record["exact"])
        place = rows.index((record["dates"], record["formats"])) + 0.15 * (index - 2)
        label = None if index in named else record["way"]
        named.add(index)
        axes.plot(values, np.full(len(values), place), label=label, ls="none", **look(index))
    names = [f"{count} date{'s' * (count > 1)},\n{formats}" for count, formats in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.set(xlabel="unseen dates exactly right (%), each seed", xlim=(-3, 103))
    axes.legend(frameon=False, fontsize=8, loc="lower center")
    grid_lines(axes)


def _messages(axes: Axes, records: list[Record]) -> None:
    """BLEU, chrF and exact matches of each way."""
    for place, record in enumerate(records):
        for index, name in enumerate(("bleu", "chrf", "exact")):
            values = 100 * np.array(record[name])
            heights = np.full(len(values), place + 0.15 * (index - 1))
            label = {"bleu": "BLEU", "chrf": "chrF", "exact": "exact matches"}[name]
            style: Record = {"color": COLOURS[1 + index], "marker": "os^"[index], "ls": "none"}
            axes.plot(values, heights, label=label if place == 0 else None, **style)
    axes.set_yticks(range(len(records)), [record["way"] for record in records])
    axes.invert_yaxis()
    axes.set(xlabel="unseen messages: score (%), each seed", xlim=(-1, None))
    axes.legend(frameon=False, fontsize=8)
    grid_lines(axes)


def _attention(axes: Axes, drawn: Record) -> None:
    """What is written from left to right, and what is read from top to bottom."""
    axes.imshow(np.asarray(drawn["weights"]).T, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(drawn["target"])), drawn["target"], fontsize=9)
    axes.set_yticks(range(len(drawn["source"])), drawn["source"], fontsize=9)
    axes.set(xlabel="written (weight of attention, black: 1)", ylabel="read")
