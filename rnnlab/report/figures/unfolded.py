"""The unfolded network, with lines as wide as the gradient that passes along them."""

import numpy as np
from jax.tree_util import keystr, tree_leaves_with_path
from matplotlib.axes import Axes

from rnnlab import _check
from rnnlab.diagnostics import BpttContributions
from rnnlab.report.figures.style import COLOURS

WIDEST = 14.0
"""Points of the widest line."""
NUMBERED = 6
"""Up to so many steps, the share of each line is printed beside it."""
LOW = -1.0
"""The height at which the weights are drawn, in distances between two states."""


def unfolded(matrix: BpttContributions, axes: Axes, row: int, steps: int) -> None:
    """Draws the last ``steps`` steps up to the loss of ``row``; see :func:`report.unfolded`."""
    count = len(np.asarray(matrix.last))
    if not -count <= row < count:
        raise ValueError(f"row is {row}, but the matrix has {count} rows; give one of them, from 0")
    steps = _check.positive_int("steps", steps)
    last = int(np.asarray(matrix.last)[row])
    shown = np.arange(max(last - steps, 0), last)
    states = np.asarray(matrix.log_norm_state, float)[row, shown]
    _states(axes, _relative(states), shown, last)
    leaves = tree_leaves_with_path(matrix.log_contributions)
    rows = [np.asarray(leaf, float)[row, shown] for _, leaf in leaves]
    widths = _relative(np.stack(rows))
    for place, (path, _) in enumerate(leaves):
        _weights(axes, widths[place], shown, (place, len(leaves)), keystr(path).removeprefix("."))
    axes.set(xlim=(shown[0] - 0.3, last + 0.7), ylim=(LOW - 0.3, 1.15), xlabel="step k")
    axes.set_xticks(shown + 1 if len(shown) <= 2 * NUMBERED else shown[::5] + 1)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.legend(loc="upper left", frameon=False, title="width: norm of")


def _states(axes: Axes, widths: np.ndarray, shown: np.ndarray, last: int) -> None:
    """A circle for each state, and along the chain the gradient that comes back through it."""
    for place, step in enumerate(shown + 1):
        # The line that leaves a state to the right carries ∂E/∂sₖ.
        end = (step + 1, 0) if step < last else (step, 1)
        axes.plot(
            (step, end[0]), (0, end[1]), color="0.55", linewidth=WIDEST * widths[place],
            solid_capstyle="butt", zorder=1,
        )  # fmt: skip
        axes.plot((step, end[0]), (0, end[1]), color="0.3", linewidth=0.6, zorder=1)
        if len(shown) <= NUMBERED and step < last:
            axes.text(step + 0.5, 0.14, f"{widths[place]:.0%}", ha="center", color="0.3")
    size = 650 if len(shown) <= 2 * NUMBERED else 80
    places = [*(shown + 1), last]
    heights = [0] * len(shown) + [1]
    axes.scatter(places, heights, s=size, color="white", edgecolors="0.2", zorder=3)
    axes.text(last, 1, f"$E_{{{last}}}$", ha="center", va="center", zorder=4)
    if len(shown) <= 2 * NUMBERED:
        for step in shown + 1:
            axes.text(step, 0, f"$s_{{{step}}}$", ha="center", va="center", zorder=4)
    axes.plot([], [], color="0.55", linewidth=4, label="$\\partial E/\\partial s_k$")


def _weights(
    axes: Axes, widths: np.ndarray, shown: np.ndarray, place: tuple[int, int], name: str
) -> None:
    """From below into each state, a line for the term of one parameter at that step."""
    index, count = place
    colour = COLOURS[1 + index % (len(COLOURS) - 1)]
    offset = 0.8 * ((index + 0.5) / count - 0.5)
    for width, step in zip(widths, shown + 1, strict=True):
        line = ((step + offset, step + 0.3 * offset), (LOW, 0))
        axes.plot(*line, color=colour, linewidth=WIDEST * width, solid_capstyle="butt", zorder=2)
        axes.plot(*line, color=colour, linewidth=0.5, zorder=2)
        if len(shown) <= NUMBERED:
            axes.text(step + offset, LOW - 0.06, f"{width:.0%}", color=colour, ha="center",
                      va="top", fontsize=9)  # fmt: skip
    axes.plot([], [], color=colour, linewidth=4, label=f"term of {name}")


def _relative(log_norms: np.ndarray) -> np.ndarray:
    """Norms relative to the largest; 0 for what is exactly zero."""
    largest = np.max(log_norms)
    if not np.isfinite(largest):
        return np.zeros_like(log_norms)
    return np.exp(log_norms - largest)
