"""The engine that runs a cell: asked for by name, or chosen."""

import os
from collections.abc import Callable

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.cells import Readout
from rnnlab.engines.checkpointed import checkpointed
from rnnlab.engines.cudnn import cudnn
from rnnlab.engines.fused.engine import bytes_kept, fused, refusal
from rnnlab.engines.scan import scan
from rnnlab.engines.sequence import Engine, Sequence, known, select
from rnnlab.typing import Array, Cell, PyTree

ENGINES: dict[str, Callable[[Cell, PyTree, Sequence, Engine], tuple[PyTree, Array]]] = {
    "scan": scan,
    "fused": fused,
    "checkpointed": checkpointed,
    "cudnn": cudnn,
}
PLANNED = ("associative", "newton", "pallas")


def wanted(
    name: str, residuals: str | None = None, segments: int | tuple[int, ...] | None = None
) -> Engine:
    """What is asked for as one value; ValueError for a name or an option that is unknown or fits no such engine."""
    if not isinstance(name, str):
        raise ValueError(
            f"engine {_check.brief(name)} is unknown; use one of {', '.join(map(repr, ('auto', *ENGINES)))}"
        )
    if name in PLANNED:
        raise ValueError(
            f"engine {name!r} is planned but not built yet; use engine='scan' or 'auto'"
        )
    if name != "auto" and name not in ENGINES:
        raise ValueError(
            f"engine {name!r} is unknown; use one of {', '.join(map(repr, ('auto', *ENGINES)))}"
        )
    if residuals is not None:
        _check.one_of("residuals", residuals, ("gates", "states"))
        if name != "fused":
            raise ValueError(
                f"residuals is an option of engine='fused', not of {name!r}; leave it out"
            )
    if segments is None:
        return Engine(name, residuals)
    if name != "checkpointed":
        raise ValueError(
            f"segments is an option of engine='checkpointed', not of {name!r}; leave it out"
        )
    levels = segments if isinstance(segments, tuple) else (segments,)
    if not levels:
        raise ValueError("segments holds no number; give one for each level, or leave it out")
    return Engine(name, residuals, tuple(_check.positive_int("segments", n) for n in levels))


def choose(cell: Cell, params: PyTree, sequence: Sequence, engine: Engine) -> tuple[Engine, str]:
    """The engine that runs one cell where ``engine`` was asked for, and why."""
    if isinstance(cell, Readout) and not jax.tree.leaves(sequence.state):
        return Engine("at once"), "a readout has no state, so one product serves all steps"
    if engine.name != "auto":
        return engine, "it was asked for by name"
    if reason := refusal(cell):
        return Engine("scan"), f"{reason}, and only 'scan' runs such a step at full speed"
    fast = "the cell tells project, mix and gate apart, and 'fused' is the fastest for such cells"
    sizes = jax.tree.leaves((sequence.xs, sequence.state))
    if not all(known(leaf.size) for leaf in sizes):
        return Engine("fused"), f"{fast}; what it keeps depends on dimensions not known yet"
    room = memory() // 4
    a_step = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(sequence.state))
    if 16 * a_step * sequence.xs.shape[0] <= room:  # far more than a step keeps
        return Engine("fused"), fast
    gates, states = (bytes_kept(cell, params, sequence, with_gates) for with_gates in (True, False))
    if gates <= room:
        return Engine("fused"), fast
    if states <= room:
        return Engine(
            "fused", "states"
        ), f"{_size(gates)} of gates would be more than a quarter of the memory"
    return Engine(
        "checkpointed"
    ), f"{_size(states)} of states would be more than a quarter of the memory"


def memory() -> int:
    """The bytes of memory of the device that JAX uses by default."""
    device = jax.devices()[0]
    limit = None if device.platform == "cpu" else (device.memory_stats() or {}).get("bytes_limit")
    return limit or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def run_engine(
    cell: Cell, params: PyTree, sequence: Sequence, engine: Engine
) -> tuple[PyTree, Array]:
    """``(state, ys)`` of one cell on the engine that was asked for; "auto" chooses."""
    engine, _ = choose(cell, params, sequence, engine)
    if engine.name == "at once":
        (_, ys), valid = cell.step(params, sequence.state, sequence.xs), sequence.marks.valid
        return sequence.state, ys if valid is None else select(valid, ys, jnp.zeros_like(ys))
    return ENGINES[engine.name](cell, params, sequence, engine)
