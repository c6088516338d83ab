"""The input of every engine: a sequence to run, and the options of the engine itself."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.typing import Array, PyTree


class EngineChoice(NamedTuple):
    """An engine by name and its options; None leaves the choice to the engine.

    Attributes:
        name: "auto", a key of ``ENGINES``, or "at once" where one product computes all steps.
        residuals: what "fused" keeps for the backward pass, "gates" or "states".
        segments: into how many parts "checkpointed" cuts the sequence, at each level.
    """

    name: str
    residuals: str | None = None
    segments: tuple[int, ...] | None = None


class Marks(NamedTuple):
    """Booleans for each step and example, ``[T, ...]``; None where no step is special."""

    valid: Array | None  # the step counts: it is not padding, and no mask leaves it out
    reset: Array | None  # the state is reset before the step


class EngineInput(NamedTuple):
    """A sequence and how to run it; the booleans are static.

    Attributes:
        xs: ``[T, ..., I]``.
        state: the state before the first step, in the dtype in which steps return it.
        marks: which steps count, and where the state is reset.
        reverse: runs from the last step to the first.
        every: returns the state after every step in place of the final one.
        masked: says that steps may be left out anywhere, not only at the end.
        reset_state: the state after a reset, like ``state``; None where nothing is reset.
    """

    xs: Array
    state: PyTree
    marks: Marks = Marks(None, None)
    reverse: bool = False
    every: bool = False
    masked: bool = False
    reset_state: PyTree = None


def begin(mark: Marks, reset_state: PyTree, state: PyTree) -> PyTree:
    """The state that a step starts from: ``reset_state`` where it is reset."""
    return state if mark.reset is None else select(mark.reset, reset_state, state)


def before(first: PyTree, after: PyTree, reverse: bool) -> PyTree:
    """The state before each step, ``[T, ...]``, from ``first`` and the state after each step."""

    def shift(edge: Array, rest: Array) -> Array:
        parts = [rest[1:], edge[None]] if reverse else [edge[None], rest[:-1]]
        return jnp.concatenate(parts)

    return jax.tree.map(shift, first, after)


def select(flags: Array, yes: PyTree, no: PyTree) -> PyTree:
    """``yes`` where ``flags [...]``, else ``no``; all leaves start with the axes of ``flags``."""

    def pick(a: Array, b: Array) -> Array:
        features = jnp.ndim(b) - flags.ndim
        return jnp.where(flags.reshape(flags.shape + (1,) * features), a, b)

    return jax.tree.map(pick, yes, no)


def known(size: int) -> bool:
    """Whether the size of an axis is a number, not a symbol that an exported program resolves."""
    return isinstance(size, int)


def one_axis(batch: tuple[int, ...], lead: int, tree: PyTree) -> PyTree:
    """Leaves with the axes ``batch`` behind ``lead`` others, as leaves with one batch axis."""
    size = math.prod(batch)
    end = lead + len(batch)

    def merge(leaf: Array) -> Array:
        return leaf.reshape(*leaf.shape[:lead], size, *leaf.shape[end:])

    return jax.tree.map(merge, tree)


def own_axes(batch: tuple[int, ...], lead: int, tree: PyTree) -> PyTree:
    """The inverse of :func:`one_axis`."""

    def split(leaf: Array) -> Array:
        return leaf.reshape(*leaf.shape[:lead], *batch, *leaf.shape[lead + 1 :])

    return jax.tree.map(split, tree)
