"""What each cure does to the flow of the gradient, before any training on the task.

    python -m experiments.cures.run

``rnnlab cures`` trains a network with each cure and ranks them by what is learned. This experiment
looks at the start of these trainings: the norm of the gradient of the last target's loss in the
state, by lag, with each cure and without.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

import rnnlab
from experiments.common import Record, experiment
from rnnlab.report.figures.style import (
    band,
    drawing,
    grid_lines,
    legend_below,
    look,
    reference_line,
    title,
)
from rnnlab.studies import cures, task_training
from rnnlab.studies.cures_registry import PLAIN
from rnnlab.studies.cures_settings import CuresSettings

NO_START = ("clipping", "truncation", "rmsprop", "momentum", "omega")
"""Cures that change the training alone: their gradient begins as that of the unchanged network."""
FLOOR = -12.0
"""The lowest power of ten in the figure."""


def flow_by_lag(settings: CuresSettings, cure: str) -> np.ndarray:
    """log₁₀ of ‖∂L/∂s‖ at every lag relative to that at lag 0, ``[seeds, T]``."""
    task = cures.task_of(settings)
    chosen = cures.candidate(settings, task, cure)
    model = chosen.model

    def of_seed(key: jax.Array) -> jax.Array:
        k_init, k_prepare, k_data = jax.random.split(key, 3)
        batch = task.sample(k_data, task_training.FOLLOWED)
        params = model.init(k_init, batch)
        if chosen.prepare is not None:
            params = chosen.prepare(params, k_prepare)
        xs = task_training.embedded(model, params, batch.xs)

        def loss(ys: jax.Array) -> jax.Array:
            return model.score(model.head(params, ys, batch), batch)[0]

        flow = rnnlab.gradient_flow(model.cell, params.cell, xs, loss)
        # Of layers, the last one, whose output the loss reads.
        by_lag = flow.log_norm_by_lag
        by_lag = by_lag[-1] if by_lag.ndim == 2 else by_lag
        return (by_lag - by_lag[0]) / jnp.log(10.0)

    keys = jax.random.split(jax.random.key(0), settings.seeds)
    return np.asarray(jax.jit(jax.vmap(of_seed))(keys))


def run(quick: bool) -> Record:
    """The flow of the gradient for an RNN and an LSTM, with each cure."""
    lag, hidden, seeds = (10, 8, 2) if quick else (100, 64, 5)
    cells = ("rnn",) if quick else ("rnn", "lstm")
    tried = ("orthogonal", "gru") if quick else ()
    rows = []
    for cell in cells:
        settings = CuresSettings(cell, lag, cures=tried, hidden_size=hidden, seeds=seeds)
        for unit in cures.units(settings):
            # The instruments refuse statistics of a batch.
            if unit.cure in (*NO_START, "batch-norm"):
                continue
            lines = flow_by_lag(settings, unit.cure)
            at_lag = np.median(lines[:, lag])
            print(f"{cell:5} {unit.cure:14} 10^{at_lag:6.1f} at lag {lag}")
            row = {"cell": cell, "cure": unit.cure, "at_lag": round(float(at_lag), 3)}
            rows.append(row | {"by_lag": np.round(lines, 3).tolist()})
    return {
        "finding": " ".join(finding(rows, cell, lag) for cell in cells),
        "lag": lag,
        "hidden": hidden,
        "seeds": seeds,
        "rows": rows,
    }


def finding(rows: list[Record], cell: str, lag: int) -> str:
    """What is left of the gradient without a cure, and which cures leave more than 1/1000."""
    of_cell = [row for row in rows if row["cell"] == cell]
    plain = of_cell[0]["at_lag"]
    reaching = [row["cure"] for row in of_cell[1:] if row["at_lag"] > -3]
    short = [row["cure"] for row in of_cell[1:] if row["at_lag"] <= -3]
    text = (
        f"Before training, 10^{plain:.1f} of the gradient of {_article(cell)} with PyTorch's "
        f"weights is left {lag} steps back"
    )
    text += f"; more than 1/1000 with {', '.join(reaching) or 'no cure'}"
    if short:
        text += f", less with {', '.join(short)}"
    return text.replace("10^-", "10^−") + "."


def _article(cell: str) -> str:
    return f"an {cell.upper()}"


def draw(result: Record, path: Path) -> None:
    """A panel for each cure: the gradient with it, and without."""
    rows = result["rows"]
    names = list(dict.fromkeys(row["cure"] for row in rows if row["cure"] != PLAIN))
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    columns = 5
    lines = -(-len(names) // columns)
    size = (2.9 * columns, 2.6 * lines + 1.0)
    with drawing(path, lines, columns, size) as (figure, axes):
        for panel, name in zip(axes, names, strict=False):
            _panel(panel, rows, cells, name)
        for panel in axes[len(names) :]:
            panel.set_visible(False)
        title(
            figure,
            "Gradient of the loss in the state before training, relative to lag 0: grey without a "
            f"cure, coloured with it; median and range of {result['seeds']} seeds",
            110,
        )
        legend_below(figure, axes[0])


def _panel(axes: Axes, rows: list[Record], cells: list[str], name: str) -> None:
    for index, cell in enumerate(cells):
        style = look(index + 1)
        for row in rows:
            if row["cell"] != cell or row["cure"] not in (PLAIN, name):
                continue
            is_plain = row["cure"] == PLAIN
            points = []
            for line in row["by_lag"]:
                points += enumerate(np.maximum(line, FLOOR))
            colour = "0.6" if is_plain else style["color"]
            label = f"{cell}, {'unchanged' if is_plain else 'with the cure'}"
            dash = "--" if index else "-"
            band(axes, points, name=label, median=True, color=colour, linestyle=dash)
    reference_line(axes, -3)
    axes.set_ylim(FLOOR, 3)
    axes.set(xlabel="lag (steps)", ylabel="decades")
    axes.set_title(name, fontsize=10)
    grid_lines(axes)


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
