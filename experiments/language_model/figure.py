"""The figure of the language models."""

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from experiments.common import Record, first_sentence
from experiments.language_model.writing import WAYS
from rnnlab.report.figures.style import drawing, grid_lines, look, title
from rnnlab.studies.records import column, select


def draw(result: Record, path: Path) -> None:
    """Bits per character, what each way repeats, the decay of the gradient, and samples."""
    with drawing(path, 2, 2, (13, 8)) as (figure, (bits, ways, decay, samples)):
        _bits(bits, result["models"])
        _ways(ways, result["written"])
        _decay(decay, result["models"])
        _samples(samples, result["samples"])
        title(figure, first_sentence(result["finding"]), 130)


def _bits(axes: Axes, kinds: dict[str, Record]) -> None:
    names = []
    for index, (kind, record) in enumerate(kinds.items()):
        rows = {
            f"n-grams of {kind}": [record["ngram"]["bits_per_character"]],
            f"LSTM on {kind}": column(record["seeds"], "bits_per_character"),
            f"mixture, {kind}": column(record["seeds"], "mixed_bits_per_character"),
        }
        for name, values in rows.items():
            style: Record = look(index + 1) | {"linestyle": "none"}
            axes.plot(values, np.full(len(values), len(names)), **style)
            names.append(name)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="bits per character of held-out articles; each seed")
    axes.set_title("Unknown words are spelled", fontsize=10)
    grid_lines(axes)


def _ways(axes: Axes, records: list[Record]) -> None:
    for index, way in enumerate(WAYS):
        rows = select(records, way=way)
        style: Record = look(index) | {"linestyle": "none", "label": way}
        shares = [100 * share for share in column(rows, "repeated_4grams")]
        axes.plot(shares, column(rows, "perplexity"), **style)
    axes.set(xlabel="4-grams that the text has had before (%)", yscale="log")
    axes.set(ylabel="perplexity under another seed's LSTM")
    axes.set_title("What the word LSTM writes, by the way it chooses words", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    grid_lines(axes)


def _decay(axes: Axes, kinds: dict[str, Record]) -> None:
    for index, (kind, record) in enumerate(kinds.items()):
        values = np.array(record["reach"]["log_norm_by_lag"]) / np.log(10)
        axes.plot(values, color=look(index + 1)["color"], label=f"LSTM on {kind}, in {kind}")
    axes.axhline(-3, color="0.45", linewidth=0.8, linestyle=":")
    axes.set(xlabel="lag (steps)", ylabel="log₁₀ of the gradient's norm, 0 at lag 0")
    axes.set_title("Gradient of one prediction, trained, first seed", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    grid_lines(axes)


def _samples(axes: Axes, samples: Record) -> None:
    lines = []
    for way, text in samples.items():
        shown = " ".join(text.replace("\n", "¶").split())
        lines.append(textwrap.fill(f"{way}: {shown}", 98, max_lines=3, subsequent_indent="    "))
    # A panel without lines would be taken for an empty one.
    axes.plot([], [])
    axes.text(0, 1, "\n".join(lines), fontsize=7.5, va="top", transform=axes.transAxes)
    axes.axis("off")
