"""Numbers, sentences and pictures of results and of runs; the only place that draws."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rnnlab.diagnostics import BpttContributions


def plot(result: Any) -> "Figure":
    """One figure of a result of an instrument; write it with ``figure.savefig("flow.png")``.

    Args:
        result: what a function of :mod:`rnnlab.diagnostics`, or ``read_monitor``, returns; or the
            metrics of a training run, ``run.metrics`` or those of ``read_metrics``.

    Returns:
        A matplotlib ``Figure``. No window is opened, and pyplot is not imported.

    Raises:
        ValueError: for anything else, and for metrics without a finite number.

    >>> import jax, rnnlab
    >>> cell = rnnlab.GRU(16)
    >>> params = cell.init(jax.random.key(0), 4)
    >>> xs = jax.random.normal(jax.random.key(1), (60, 8, 4))
    >>> flow = rnnlab.gradient_flow(cell, params, xs, lambda ys: (ys[-1] ** 2).mean())
    >>> len(rnnlab.report.plot(flow).axes)
    2
    """
    # matplotlib takes a second to import.
    from rnnlab.report.results import plot as draw

    return draw(result)


def unfolded(matrix: "BpttContributions", *, row: int = -1, steps: int = 12) -> "Figure":
    """The unfolded network, with lines as wide as what they add to the gradient.

    E_t is the loss of one row of the matrix of contributions. The line that leaves state k is as
    wide as ‖∂E_t/∂sₖ‖, and the lines that enter it from below as the terms
    ∂E_t/∂sₖ · ∂⁺sₖ/∂θ of its parameters; both relative to the widest of their kind. A gradient that
    vanishes can be seen to get thinner from right to left. With at most 6 steps the numbers are
    printed too.

    Args:
        matrix: from :func:`rnnlab.diagnostics.bptt_contributions`.
        row: the row, by default the last.
        steps: the number of steps up to the loss that are drawn.

    Returns:
        A matplotlib ``Figure``. No window is opened, and pyplot is not imported.

    Raises:
        ValueError: for a row that the matrix does not have, and for steps that are not positive.

    >>> import jax, rnnlab
    >>> cell = rnnlab.LSTM(8)
    >>> params = cell.init(jax.random.key(0), 4)
    >>> xs = jax.random.normal(jax.random.key(1), (12, 4))
    >>> matrix = rnnlab.diagnostics.bptt_contributions(cell, params, xs, lambda ys: ys[-1].sum())
    >>> figure = rnnlab.report.unfolded(matrix)  # figure.savefig("unfolded.png")
    """
    from rnnlab.report.results import plot_unfolded

    return plot_unfolded(matrix, row, steps)
