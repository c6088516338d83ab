"""What every engine is given: a sequence to run, and what was asked of the engine itself."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.typing import Array, Cell, PyTree


class Engine(NamedTuple):
    """An engine by name and what was asked of it; None leaves the choice to the engine."""

    name: str
    residuals: str | None = None  # what "fused" remembers: "gates" or "states"
    segments: tuple[int, ...] | None = (
        None  # how often "checkpointed" cuts the sequence, at each level
    )


class Marks(NamedTuple):
    """What is true of each step and example, ``[T, ...]`` booleans; None where nothing is out of the ordinary."""

    valid: Array | None  # the step lies within its example's length
    reset: Array | None  # the state starts afresh before the step


class Sequence(NamedTuple):
    """What is run, and which way; the last three are fixed while tracing."""

    xs: Array  # [T, ..., I]
    state: PyTree  # before the first step, in the dtype in which steps return it
    marks: Marks = Marks(None, None)
    reverse: bool = False  # from the last step to the first
    every: bool = False  # whether the state after every step is wanted, or the final one
    masked: bool = False  # whether steps may be left out anywhere, not only at the end


def afresh(cell: Cell, batch: tuple[int, ...], state: PyTree) -> PyTree:
    """The state in which ``cell`` starts, in the dtypes of ``state``."""
    fresh = cell.initial_state(batch)
    return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), fresh, state)


def begin(mark: Marks, fresh: PyTree, state: PyTree) -> PyTree:
    """The state that a step starts from: afresh where it is reset."""
    return state if mark.reset is None else select(mark.reset, fresh, state)


def before(first: PyTree, after: PyTree, reverse: bool) -> PyTree:
    """What stands before each step, ``[T, ...]``, from what stands after each and ``first``, before all."""

    def shift(edge: Array, rest: Array) -> Array:
        return jnp.concatenate([rest[1:], edge[None]] if reverse else [edge[None], rest[:-1]])

    return jax.tree.map(shift, first, after)


def select(flags: Array, yes: PyTree, no: PyTree) -> PyTree:
    """``yes`` where ``flags [...]``, else ``no``, for trees whose leaves start with the axes of ``flags``."""

    def pick(a: Array, b: Array) -> Array:
        return jnp.where(flags.reshape(flags.shape + (1,) * (jnp.ndim(b) - flags.ndim)), a, b)

    return jax.tree.map(pick, yes, no)


def known(size: int) -> bool:
    """Whether the size of an axis is a number; a symbolic one is unknown until an exported program runs."""
    return isinstance(size, int)
