"""Ways to run a cell over a sequence; one a file, every one bound to ``scan`` by tests."""

from collections.abc import Callable

import jax.numpy as jnp

from rnnlab import _check
from rnnlab.cells import Readout
from rnnlab.engines import fused as _fused
from rnnlab.engines.checkpointed import checkpointed
from rnnlab.engines.cudnn import cudnn
from rnnlab.engines.fused import fused
from rnnlab.engines.plan import Engine, Sequence, select
from rnnlab.engines.scan import scan
from rnnlab.typing import Array, Cell, PyTree

ENGINES: dict[str, Callable[[Cell, PyTree, Sequence, Engine], tuple[PyTree, Array]]] = {
    "scan": scan,
    "fused": fused,
    "checkpointed": checkpointed,
    "cudnn": cudnn,
}
PLANNED = ("associative", "newton", "pallas")


def wanted(name: str, residuals: str | None = None, segments: int | tuple[int, ...] | None = None) -> Engine:
    """What is asked for as one value; ValueError for a name or an option that is unknown or fits no such engine."""
    if name in PLANNED:
        raise ValueError(f"engine {name!r} is planned but not built yet; use engine='scan' or 'auto'")
    if name != "auto" and name not in ENGINES:
        raise ValueError(f"engine {name!r} is unknown; use one of {', '.join(map(repr, ('auto', *ENGINES)))}")
    if residuals is not None:
        _check.one_of("residuals", residuals, ("gates", "states"))
        if name != "fused":
            raise ValueError(f"residuals is an option of engine='fused', not of {name!r}; leave it out")
    if segments is None:
        return Engine(name, residuals)
    if name != "checkpointed":
        raise ValueError(f"segments is an option of engine='checkpointed', not of {name!r}; leave it out")
    levels = segments if isinstance(segments, tuple) else (segments,)
    if not levels:
        raise ValueError("segments holds no number; give one for each level, or leave it out")
    return Engine(name, residuals, tuple(_check.positive_int("segments", n) for n in levels))


def choose(cell: Cell, params: PyTree, sequence: Sequence, engine: Engine) -> tuple[Engine, str]:
    """The engine that runs one cell where ``engine`` was asked for, and why."""
    del params, sequence  # so far the cell decides
    if isinstance(cell, Readout):
        return Engine("at once"), "a readout has no state, so one product serves all steps"
    if engine.name != "auto":
        return engine, "it was asked for by name"
    if reason := _fused.refusal(cell):
        return Engine("scan"), f"{reason}, and only 'scan' runs such a step at full speed"
    return Engine("fused"), "the cell tells project, mix and gate apart, and 'fused' is the fastest for such cells"


def run_engine(cell: Cell, params: PyTree, sequence: Sequence, engine: Engine) -> tuple[PyTree, Array]:
    """``(state, ys)`` of one cell on the engine that was asked for; "auto" chooses."""
    engine, _ = choose(cell, params, sequence, engine)
    if engine.name == "at once":
        (_, ys), valid = cell.step(params, sequence.state, sequence.xs), sequence.marks.valid
        return sequence.state, ys if valid is None else select(valid, ys, jnp.zeros_like(ys))
    return ENGINES[engine.name](cell, params, sequence, engine)


__all__ = ["ENGINES", "PLANNED", "choose", "run_engine", "wanted"]
