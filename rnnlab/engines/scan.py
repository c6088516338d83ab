"""The reference engine: one ``lax.scan`` over the cell's step, differentiated by JAX itself."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.typing import Array, Cell, PyTree


class Marks(NamedTuple):
    """What is true of each step and example, ``[T, ...]`` booleans; None where nothing is out of the ordinary."""

    valid: Array | None  # the step lies within its example's length
    reset: Array | None  # the state starts afresh before the step


def scan(
    cell: Cell, params: PyTree, xs: Array, state: PyTree, marks: Marks, reverse: bool, every: bool
) -> tuple[PyTree, Array]:
    """``(state, ys)`` after the last step, or with ``every`` the states after each step, ``[T, ...]``."""
    fresh = cell.initial_state(xs.shape[1:-1])

    def body(old: PyTree, inputs: tuple[Array, Marks]) -> tuple[PyTree, tuple[PyTree, Array]]:
        x, mark = inputs
        new, y = cell.step(params, begin(mark, fresh, old), x)
        if mark.valid is not None:
            new, y = select(mark.valid, new, old), select(mark.valid, y, jnp.zeros_like(y))
        return new, (new if every else None, y)

    final, (states, ys) = lax.scan(body, state, (xs, marks), reverse=reverse)
    return (states if every else final), ys


def begin(mark: Marks, fresh: PyTree, state: PyTree) -> PyTree:
    """The state that a step starts from: afresh where it is reset."""
    return state if mark.reset is None else select(mark.reset, fresh, state)


def select(flags: Array, yes: PyTree, no: PyTree) -> PyTree:
    """``yes`` where ``flags [...]``, else ``no``, for trees whose leaves start with the axes of ``flags``."""

    def pick(a: Array, b: Array) -> Array:
        return jnp.where(flags.reshape(flags.shape + (1,) * (jnp.ndim(b) - flags.ndim)), a, b)

    return jax.tree.map(pick, yes, no)
