"""A lower bound on the time of the work in ``speed.py``, and the figure that shows it.

    python benchmarks/speed.py --only sweep

The bound is the larger of two times, as in the roofline model: operations over the throughput of a
large matrix product, and bytes over the bandwidth of a large sum, both measured.

- Operations: 2·T·B·G·H·(I + H) forward, with G = 1 (RNN), 4 (LSTM) or 3 (GRU) gates, and twice as
  many backward. Elementwise operations are not counted.
- Bytes: inputs, outputs and parameters move once, and in the backward pass so do their gradients.
  Weights that are read again come from the cache.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
from _peers import Work
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from rnnlab.report.figures.style import STYLE, grid_lines, legend_below, look
from rnnlab.studies.records import column, select

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
AXES = {"T": "steps T", "H": "hidden units H = inputs I", "B": "sequences B"}
FLOAT32_BYTES = 4


def floor(work: Work, rates: dict[str, float]) -> float:
    """The lower bound on forward + backward, in seconds."""
    gates = GATES[work.cell]
    weights = gates * work.H * (work.I + work.H)
    biases = gates * work.H
    activations = work.T * work.B * (work.I + work.H)
    operations = 3 * 2 * work.T * work.B * weights
    # Twice: every array has a gradient of the same size.
    traffic = FLOAT32_BYTES * 2 * (activations + weights + biases)
    return max(operations / rates["operations_per_second"], traffic / rates["bytes_per_second"])


def rates(with_torch: bool) -> dict[str, float]:
    """Throughput and bandwidth in float32, the better of JAX and PyTorch."""
    side, count = (8192, 2**28) if jax.default_backend() == "gpu" else (2048, 2**26)
    product, addition = _jax_seconds(side, count)
    if with_torch:
        torch_product, torch_addition = _torch_seconds(side, count)
        product, addition = min(product, torch_product), min(addition, torch_addition)
    return {
        "operations_per_second": 2 * side**3 / product,
        "bytes_per_second": 2 * FLOAT32_BYTES * count / addition,
    }


def _jax_seconds(side: int, count: int) -> tuple[float, float]:
    """Seconds of a product of two square matrices, and of an addition to a vector."""
    matrix, vector = jnp.ones((side, side)), jnp.ones(count)
    matmul = jax.jit(jnp.matmul)
    # In place: with a new output, page faults would cost more than the addition.
    increment = jax.jit(lambda x: x + 1, donate_argnums=0)

    def product() -> None:
        jax.block_until_ready(matmul(matrix, matrix))

    def addition() -> None:
        nonlocal vector
        vector = jax.block_until_ready(increment(vector))

    return _fastest(product), _fastest(addition)


def _torch_seconds(side: int, count: int) -> tuple[float, float]:
    """The same by PyTorch."""
    import torch  # pyright: ignore[reportMissingImports]

    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    matrix, vector = torch.ones((side, side), device=device), torch.ones(count, device=device)

    def synchronize() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def product() -> None:
        torch.matmul(matrix, matrix)
        synchronize()

    def addition() -> None:
        vector.add_(1)
        synchronize()

    return _fastest(product), _fastest(addition)


def _fastest(call: Callable[[], None], rounds: int = 8) -> float:
    """Seconds of the fastest call."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def draw(records: Sequence[dict[str, Any]], bases: Sequence[Work], path: Path) -> None:
    """Writes a figure of time against T, H and B, each with the other two as in its base.

    There is a row of panels for each base, which differ in their cell.
    """
    with matplotlib.rc_context(STYLE):
        height = 1.6 + 3.2 * len(bases)
        figure = Figure(figsize=(11, height), layout="constrained")
        rows = figure.subplots(len(bases), 3, sharey="row", squeeze=False)
        findings = []
        for panels, base in zip(rows, bases, strict=True):
            of_cell = select(records, cell=base.cell)
            for axes, axis in zip(panels, AXES, strict=True):
                _panel(axes, of_cell, axis, base)
            panels[0].set_ylabel(f"{base.cell.upper()}: gradient (ms)")
            findings.append(_finding(of_cell, base.cell))
        figure.suptitle("\n".join(findings), fontsize=12)
        legend_below(figure, rows[0][0])
        figure.savefig(path, dpi=150)


def _panel(axes: Axes, records: Sequence[dict[str, Any]], axis: str, base: Work) -> None:
    """Time against one size, with a line for each contender and the lower bound."""
    fixed = {name: getattr(base, name) for name in AXES if name != axis}
    varied = sorted(select(records, **fixed), key=lambda record: record[axis])
    for index, name in enumerate(dict.fromkeys(column(records, "contender"))):
        rows = select(varied, contender=name)
        axes.plot(
            column(rows, axis),
            [1e3 * row["minimum"] for row in rows],
            markersize=5,
            linewidth=1.6,
            label="rnnlab" if name == "auto" else name,
            **look(index),
        )
    bounds = {row[axis]: 1e3 * row["floor"] for row in varied}
    sizes = list(bounds)
    axes.plot(sizes, list(bounds.values()), color="0.5", linestyle="--", label="lower bound")
    axes.set(xscale="log", yscale="log", xlabel=AXES[axis])
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_title(", ".join(f"{name} = {value}" for name, value in fixed.items()), fontsize=10)
    grid_lines(axes)


def _finding(records: Sequence[dict[str, Any]], cell: str) -> str:
    """The title: rnnlab's time over PyTorch's, and over the lower bound."""
    times = _by_sizes(select(records, contender="auto"), "minimum")
    references = {
        "× PyTorch's time": _by_sizes(select(records, contender="PyTorch"), "minimum"),
        "× the lower bound": _by_sizes(records, "floor"),
    }
    parts = []
    for unit, reference in references.items():
        ratios = [times[sizes] / reference[sizes] for sizes in times if sizes in reference]
        if ratios:
            parts.append(f"{_short(min(ratios))} to {_short(max(ratios))} {unit}")
    return f"{cell.upper()}: rnnlab takes {' and '.join(parts)}" if parts else cell.upper()


def _by_sizes(records: Sequence[dict[str, Any]], key: str) -> dict[tuple[int, ...], float]:
    """The value of ``key`` for each T, H and B."""
    sizes = zip(*(column(records, axis) for axis in AXES), strict=True)
    return dict(zip(sizes, column(records, key), strict=True))


def _short(ratio: float) -> str:
    return f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}"
