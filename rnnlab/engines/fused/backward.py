"""The way back through time: one step of the adjoint, and the walk over chunks of steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.engines.fused.forward import Memory
from rnnlab.engines.fused.layouts import Steps
from rnnlab.engines.sequence import Marks, afresh, before, known
from rnnlab.typing import Array, PyTree


class Chunk(NamedTuple):
    """Some steps on the way back; states as the loop reads them."""

    olds: PyTree  # the state from which each step started
    states: PyTree
    xs: Array
    kept: PyTree
    marks: Marks
    extra: PyTree

    @property
    def numbers(self) -> Array:
        """The steps' places in the chunk."""
        return jnp.arange(self.xs.shape[0])

    def room(self, steps: Steps, d_new: PyTree, d_ys: Array) -> PyTree:
        """Where the way back through the chunk puts what it sees."""
        old, new, kept, d_y = jax.tree.map(
            lambda leaf: leaf[0], (self.olds, self.states, self.kept, d_ys)
        )
        return steps.room(self.xs.shape[0], old, new, kept, d_new, d_y)


def step_back(
    steps: Steps,
    mark: Marks,
    room: PyTree,
    number: Array,
    old: PyTree,
    new: PyTree,
    kept: PyTree,
    d_new: PyTree,
    d_y: Array,
) -> tuple[PyTree, PyTree, PyTree]:
    """One step of the adjoint: λₜ₋₁ from λₜ, in the layout of ``steps``.

    A step in the padding hands λ on as it is and sees nothing of it; a reset lets nothing past.

    Returns:
        ∂L/∂sₜ₋₁, the part of ∂L/∂sₜ that entered the step, and ``room``.
    """
    inside = d_new
    if mark.valid is not None:
        nothing = jax.tree.map(jnp.zeros_like, (d_new, d_y))
        inside, d_y = steps.choose(mark.valid, (d_new, d_y), nothing)
    d_old, room = steps.back(room, number, old, new, kept, inside, d_y)
    if mark.reset is not None:
        d_old = steps.choose(mark.reset, jax.tree.map(jnp.zeros_like, d_old), d_old)
    if mark.valid is not None:
        d_old = steps.choose(mark.valid, d_old, d_new)
    return d_old, inside, room


def walk_back(
    body: Callable[[Any, Chunk], tuple[Any, PyTree]],
    carry: Any,
    cell: Any,
    steps: Steps,
    memory: Memory,
    extra: PyTree,
    reverse: bool,
) -> tuple[Any, PyTree]:
    """``body(carry, chunk) -> (carry, outs)`` over chunks of steps, last first; outs ``[T, ...]`` in order of time."""
    length, batch = memory.xs.shape[:2]
    size = chunk_size(length, batch)
    fresh = steps.enter(afresh(cell, (batch,), memory.state))
    start = steps.store(steps.enter(memory.state))

    def run(carry: Any, part: tuple) -> tuple[Any, PyTree]:
        edge, (xs, _, marks, states, kept), extra = part
        olds = steps.recall(before(edge, states, reverse))
        if marks.reset is not None:
            olds = jax.vmap(steps.choose, (0, None, 0))(marks.reset, fresh, olds)
        kept = steps.remember(olds, xs) if kept is None else kept
        return body(carry, Chunk(olds, steps.recall(states), xs, kept, marks, extra))

    timed = memory._replace(state=None)
    edges = jax.tree.map(
        lambda first, rest: _edges(first, rest, size, reverse), start, memory.states
    )
    count, left = divmod(length, size)
    whole = jax.tree.map(
        lambda leaf: leaf[: count * size].reshape(count, size, *leaf.shape[1:]), (timed, extra)
    )
    rest = jax.tree.map(lambda leaf: leaf[count * size :], (timed, extra))

    def run_whole(carry: Any) -> tuple[Any, PyTree]:
        entered = jax.tree.map(lambda leaf: leaf[:count], edges)
        carry, outs = lax.scan(run, carry, (entered, *whole), reverse=not reverse)
        return carry, jax.tree.map(lambda leaf: leaf.reshape(count * size, *leaf.shape[2:]), outs)

    def run_rest(carry: Any) -> tuple[Any, PyTree]:
        return run(carry, (jax.tree.map(lambda leaf: leaf[-1], edges), *rest))

    if not left:
        return run_whole(carry)
    if reverse:
        carry, outs = run_whole(carry)
        carry, last = run_rest(carry)
    else:
        carry, last = run_rest(carry)
        carry, outs = run_whole(carry)
    return carry, jax.tree.map(lambda *leaves: jnp.concatenate(leaves), outs, last)


def chunk_size(steps: int, batch: int) -> int:
    """How many steps share one product: some 1024 rows, and if possible a divisor of ``steps``.

    All of them where their number is symbolic.
    """
    if not known(steps):
        return steps
    rows = max(1024 // batch, 8) if known(batch) else 32
    wish = min(rows, 128, steps)
    near = [n for n in range(max(wish // 2, 1), wish + 1) if steps % n == 0]
    return near[-1] if near else wish


def _edges(first: Array, states: Array, size: int, reverse: bool) -> Array:
    """The state that enters each chunk."""
    if reverse:
        return jnp.concatenate([states[size::size], first[None]])
    return jnp.concatenate([first[None], states[size - 1 : -1 : size]])
