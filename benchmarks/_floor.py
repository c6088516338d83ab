"""The least time that the work of ``speed.py`` can take on this machine, and the figure that shows it.

Arithmetic, with G = 1 (RNN), 4 (LSTM) or 3 (GRU) gates: 2·T·B·G·H·(I + H) operations forward and
twice that again backward; what is done element by element is left out. Bytes: inputs, outputs and
parameters move once, for the backward pass their gradients too; weights that are read again come
from the cache. The floor is the larger of operations over the rate of a large matrix product and
bytes over the bandwidth of a large sum.
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

from rnnlab.report.figures.style import COLOURS, MARKERS

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
AXES = {"T": "steps T", "H": "hidden units H = inputs I", "B": "sequences B"}


def floor(work: Work, rates: dict[str, float]) -> float:
    """Seconds of forward + backward."""
    weights = GATES[work.cell] * work.H * (work.I + work.H)
    operations = 3 * 2 * work.T * work.B * weights
    numbers = 2 * (work.T * work.B * (work.I + work.H) + weights + GATES[work.cell] * work.H)
    return max(operations / rates["operations_per_second"], 4 * numbers / rates["bytes_per_second"])


def rates(with_torch: bool) -> dict[str, float]:
    """What a large product and a large sum reach in float32, the better of JAX and PyTorch."""
    side, count = (8192, 2**28) if jax.default_backend() == "gpu" else (2048, 2**26)
    measured = [_jax_seconds(side, count)] + ([_torch_seconds(side, count)] if with_torch else [])
    product, addition = (min(seconds) for seconds in zip(*measured, strict=True))
    return {
        "operations_per_second": 2 * side**3 / product,
        "bytes_per_second": 2 * 4 * count / addition,
    }


def _jax_seconds(side: int, count: int) -> tuple[float, float]:
    square, long = jnp.ones((side, side)), jnp.ones(count)
    multiply, add = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1, donate_argnums=0)

    def addition() -> None:
        nonlocal long  # in place: fresh pages would cost more than the sum
        long = jax.block_until_ready(add(long))

    return _best(lambda: jax.block_until_ready(multiply(square, square))), _best(addition)


def _torch_seconds(side: int, count: int) -> tuple[float, float]:
    import torch  # pyright: ignore[reportMissingImports]

    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    square, long = torch.ones((side, side), device=device), torch.ones(count, device=device)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    return _best(lambda: (torch.matmul(square, square), wait())), _best(
        lambda: (long.add_(1), wait())
    )


def _best(call: Callable[[], Any], rounds: int = 8) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def draw(records: Sequence[dict[str, Any]], base: Work, path: Path) -> None:
    """Time against T, H and B, each with the other two as in ``base``."""
    style: Any = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(11, 4.8), layout="constrained")
        panels = figure.subplots(1, 3, sharey=True)
        for axes, axis in zip(panels, AXES, strict=True):
            _panel(axes, records, axis, base)
        panels[0].set_ylabel("forward + backward, fastest call (ms)")
        figure.suptitle(_finding(records, base.cell), fontsize=12)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        figure.savefig(path, dpi=150)


def _panel(axes: Axes, records: Sequence[dict[str, Any]], axis: str, base: Work) -> None:
    others = {name: getattr(base, name) for name in AXES if name != axis}
    here = sorted(
        (r for r in records if others.items() <= r.items()), key=lambda record: record[axis]
    )
    for index, name in enumerate(dict.fromkeys(record["contender"] for record in records)):
        mine = [record for record in here if record["contender"] == name]
        places, times = [r[axis] for r in mine], [1e3 * r["minimum"] for r in mine]
        shown = "rnnlab" if name == "auto" else name
        axes.plot(
            places,
            times,
            color=COLOURS[index],
            marker=MARKERS[index],
            markersize=5,
            linewidth=1.6,
            label=shown,
        )
    floors = {record[axis]: 1e3 * record["floor"] for record in here}
    axes.plot(
        list(floors),
        list(floors.values()),
        color="0.5",
        linestyle="--",
        label="what this machine allows",
    )
    axes.set(xscale="log", yscale="log", xlabel=AXES[axis])
    axes.set_xticks(list(floors), [str(place) for place in floors])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_title(", ".join(f"{name} = {value}" for name, value in others.items()), fontsize=10)
    axes.grid(visible=True, color="0.9", linewidth=0.6)


def _finding(records: Sequence[dict[str, Any]], cell: str) -> str:
    """The title says what was found."""
    times = {name: {tuple(r[axis] for axis in AXES): r["minimum"] for r in records if r["contender"] == name}
             for name in ("auto", "PyTorch")}  # fmt: skip
    floors = {tuple(record[axis] for axis in AXES): record["floor"] for record in records}
    parts = []
    for other, words in (
        (times["PyTorch"], "of PyTorch's time"),
        (floors, "times what this machine allows"),
    ):
        ratios = [
            seconds / other[place] for place, seconds in times["auto"].items() if place in other
        ]
        if ratios:
            low, high = (
                f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}"
                for ratio in (min(ratios), max(ratios))
            )
            parts.append(f"{low} to {high} {words}")
    return f"{cell.upper()}: rnnlab takes {', '.join(parts)}" if parts else cell.upper()
