"""Numbers, sentences and pictures of results and of runs; the only place that draws."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
