"""The choice of the engine that runs a cell: by name, or by cell and memory."""

import os
from collections.abc import Callable

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.cells import Readout
from rnnlab.engines.checkpointed import checkpointed
from rnnlab.engines.cudnn import cudnn
from rnnlab.engines.fused.engine import bytes_kept, fused, refusal
from rnnlab.engines.native import engine as native_engine
from rnnlab.engines.scan import scan
from rnnlab.engines.sequence import EngineChoice, EngineInput, known, select
from rnnlab.engines.shards import varying_axes
from rnnlab.typing import Array, Cell, PyTree

ENGINES: dict[str, Callable[[Cell, PyTree, EngineInput, EngineChoice], tuple[PyTree, Array]]] = {
    "scan": scan,
    "fused": fused,
    "native": native_engine.native,
    "checkpointed": checkpointed,
    "cudnn": cudnn,
}
PLANNED = ("associative", "newton", "pallas")


def parse_engine(
    name: str, residuals: str | None = None, segments: int | tuple[int, ...] | None = None
) -> EngineChoice:
    """The engine and its options as one value.

    ValueError for an unknown name or option, and for an option of another engine.
    """
    _check_name(name)
    if residuals is not None:
        _check.one_of("residuals", residuals, ("gates", "states"))
        if name not in ("fused", "native"):
            raise ValueError(
                f"residuals is an option of 'fused' and 'native', not of {name!r}; leave it out"
            )
    if segments is None:
        return EngineChoice(name, residuals)
    if name != "checkpointed":
        raise ValueError(
            f"segments is an option of engine='checkpointed', not of {name!r}; leave it out"
        )
    levels = segments if isinstance(segments, tuple) else (segments,)
    if not levels:
        raise ValueError("segments holds no number; give one for each level, or leave it out")
    counts = tuple(_check.positive_int("segments", count) for count in levels)
    return EngineChoice(name, residuals, counts)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name in PLANNED:
        raise ValueError(
            f"engine {name!r} is planned but not built yet; use engine='scan' or 'auto'"
        )
    names = ("auto", *ENGINES)
    if not isinstance(name, str) or name not in names:
        shown = repr(name) if isinstance(name, str) else _check.brief(name)
        raise ValueError(f"engine {shown} is unknown; use one of {', '.join(map(repr, names))}")


def choose(
    cell: Cell,
    params: PyTree,
    sequence: EngineInput,
    engine: EngineChoice,
) -> tuple[EngineChoice, str]:
    """The engine that runs one cell where ``engine`` was asked for, and why."""
    if isinstance(cell, Readout) and not jax.tree.leaves(sequence.state):
        why = "a readout has no state, so one matrix product computes all steps"
        return EngineChoice("at once"), why
    if engine.name != "auto":
        return engine, "it was requested by name"
    if reason := refusal(cell):
        return EngineChoice("scan"), f"{reason}, and 'scan' is the fastest engine for such a cell"
    state = jax.tree.leaves(sequence.state)
    sizes = [leaf.size for leaf in (*jax.tree.leaves(sequence.xs), *state)]
    name, fast = _fastest(cell, params, sequence)
    if not all(map(known, sizes)):
        return EngineChoice(name), f"{fast}; its memory depends on symbolic dimensions"
    return _choose_by_memory(cell, params, sequence, name, fast)


def _fastest(
    cell: Cell,
    params: PyTree,
    sequence: EngineInput,
) -> tuple[str, str]:
    """The fastest engine for a cell that splits its step, and why."""
    reason = native_engine.refusal(cell, params, sequence)
    if reason is None and jax.device_count() > 1 and not varying_axes(sequence.xs):
        # Outside of shard_map XLA divides a sharded batch among devices itself, but it cannot
        # divide a call of a library.
        reason = "cannot be divided among several devices by XLA"
    if reason is None:
        return "native", "'native' is the fastest engine for this cell on a CPU"
    fast = "the cell splits its step, and 'fused' is the fastest engine for such cells"
    if jax.default_backend() == "cpu" and native_engine.cell_refusal(cell, params) is None:
        fast += f"; 'native' {reason}"
    return "fused", fast


def _choose_by_memory(
    cell: Cell,
    params: PyTree,
    sequence: EngineInput,
    name: str,
    fast: str,
) -> tuple[EngineChoice, str]:
    """The fastest engine that keeps no more than a quarter of the memory; ``fast`` says why."""
    limit = device_bytes() // 4
    steps = sequence.xs.shape[0]
    state = jax.tree.leaves(sequence.state)
    state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in state)
    # A step keeps far less than 16 states. Without this shortcut every small run would pay for
    # tracing the forward pass twice more.
    if 16 * state_bytes * steps <= limit:
        return EngineChoice(name), fast
    gates = _bytes_kept(name, cell, params, sequence, True)
    states = _bytes_kept(name, cell, params, sequence, False)
    if gates <= limit:
        return EngineChoice(name), fast
    if states <= limit:
        why = f"{_size(gates)} of gates would be more than a quarter of the memory"
        return EngineChoice(name, "states"), why
    why = f"{_size(states)} of states would be more than a quarter of the memory"
    return EngineChoice("checkpointed"), why


def _bytes_kept(
    name: str,
    cell: Cell,
    params: PyTree,
    sequence: EngineInput,
    gates: bool,
) -> int:
    if name == "native":
        return native_engine.bytes_kept(cell, sequence, gates)
    return bytes_kept(cell, params, sequence, gates)


def device_bytes() -> int:
    """The bytes of memory of the device that JAX uses by default."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        statistics = device.memory_stats() or {}
        if limit := statistics.get("bytes_limit"):
            return limit
    # A CPU has the machine's memory, and some devices report none.
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def run_engine(
    cell: Cell,
    params: PyTree,
    sequence: EngineInput,
    engine: EngineChoice,
) -> tuple[PyTree, Array]:
    """``(state, ys)`` of one cell on the engine that was asked for; "auto" chooses."""
    engine, _ = choose(cell, params, sequence, engine)
    if engine.name == "at once":
        _, ys = cell.step(params, sequence.state, sequence.xs)
        valid = sequence.marks.valid
        if valid is not None:
            ys = select(valid, ys, jnp.zeros_like(ys))
        return sequence.state, ys
    return ENGINES[engine.name](cell, params, sequence, engine)
