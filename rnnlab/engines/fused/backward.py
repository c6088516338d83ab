"""The backward pass through time: one step of the adjoint, and the walk over chunks of steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.engines.fused.forward import Memory
from rnnlab.engines.fused.layouts import Layout
from rnnlab.engines.sequence import Marks, before, known
from rnnlab.typing import Array, PyTree


class Chunk(NamedTuple):
    """Some consecutive steps of the backward pass; states in the layout of the loop."""

    olds: PyTree  # the state from which each step started
    states: PyTree
    xs: Array
    kept: PyTree
    marks: Marks
    extra: PyTree

    @property
    def numbers(self) -> Array:
        """The index of each step in the chunk."""
        return jnp.arange(self.xs.shape[0])

    def room(
        self,
        layout: Layout,
        d_new: PyTree,
        d_ys: Array,
    ) -> PyTree:
        """An empty buffer for the factors of the gradients of all steps of the chunk."""
        timed = (self.olds, self.states, self.kept, d_ys)
        old, new, kept, d_y = jax.tree.map(lambda leaf: leaf[0], timed)
        return layout.room(self.xs.shape[0], old, new, kept, d_new, d_y)


def step_back(
    layout: Layout,
    mark: Marks,
    room: PyTree,
    index: Array,
    old: PyTree,
    new: PyTree,
    kept: PyTree,
    d_new: PyTree,
    d_y: Array,
) -> tuple[PyTree, PyTree, PyTree]:
    """One step of the adjoint: λₜ₋₁ from λₜ, in the given layout.

    A step in the padding hands λ on unchanged and contributes nothing. A reset passes λ on to the
    state after a reset, and nothing to the step before.

    Returns:
        ∂L/∂sₜ₋₁, the part for the state after a reset (None without resets), and ``room``.
    """
    entered = d_new
    if mark.valid is not None:
        # Zeros before the step, so that a step in the padding adds nothing to a weight's gradient.
        nothing = jax.tree.map(jnp.zeros_like, (d_new, d_y))
        entered, d_y = layout.select(mark.valid, (d_new, d_y), nothing)
    d_old, room = layout.back(room, index, old, new, kept, entered, d_y)
    d_reset = None
    if mark.reset is not None:
        zeros = jax.tree.map(jnp.zeros_like, d_old)
        d_reset = layout.select(mark.reset, d_old, zeros)
        d_old = layout.select(mark.reset, zeros, d_old)
    if mark.valid is not None:
        # After the reset and not before it: in the padding the forward pass ignores a reset too.
        # There d_reset is zero already, since nothing entered.
        d_old = layout.select(mark.valid, d_old, d_new)
    return d_old, d_reset, room


def walk_back(
    body: Callable[[Any, Chunk], tuple[Any, PyTree]],
    carry: Any,
    layout: Layout,
    memory: Memory,
    extra: PyTree,
    reverse: bool,
) -> tuple[Any, PyTree]:
    """``body(carry, chunk) -> (carry, outs)`` over chunks of steps, from the last to the first.

    Chunks bound the memory: the factors of the gradients, and recomputed gates, exist for one chunk
    at a time. Within a chunk one product serves all steps.

    Returns:
        The final carry, and outs ``[T, ...]`` in order of time.
    """
    length, batch = memory.xs.shape[:2]
    size = chunk_size(length, batch)
    after_reset = layout.enter(memory.reset_state)
    start = layout.store(layout.enter(memory.state))

    def run(carry: Any, part: tuple) -> tuple[Any, PyTree]:
        edge, (xs, _, _, marks, states, kept), extra = part
        olds = layout.recall(before(edge, states, reverse))
        if marks.reset is not None:
            # Gates and weight gradients need the state from which the step really started.
            olds = jax.vmap(layout.select, (0, None, 0))(marks.reset, after_reset, olds)
        kept = layout.remember(olds, xs) if kept is None else kept
        return body(carry, Chunk(olds, layout.recall(states), xs, kept, marks, extra))

    # Two states have no time axis, so they are taken out of what is cut into chunks.
    timed = (memory._replace(state=None, reset_state=None), extra)
    edges = jax.tree.map(
        lambda first, states: _edges(first, states, size, reverse), start, memory.states
    )
    count, left = divmod(length, size)
    cut = count * size
    whole = jax.tree.map(lambda leaf: leaf[:cut].reshape(count, size, *leaf.shape[1:]), timed)
    rest = jax.tree.map(lambda leaf: leaf[cut:], timed)

    def run_whole(carry: Any) -> tuple[Any, PyTree]:
        entered = jax.tree.map(lambda leaf: leaf[:count], edges)
        carry, outs = lax.scan(run, carry, (entered, *whole), reverse=not reverse)
        return carry, jax.tree.map(lambda leaf: leaf.reshape(cut, *leaf.shape[2:]), outs)

    def run_rest(carry: Any) -> tuple[Any, PyTree]:
        entered = jax.tree.map(lambda leaf: leaf[-1], edges)
        return run(carry, (entered, *rest))

    if not left:
        return run_whole(carry)
    # The shorter chunk holds the last steps in time. The backward pass meets it first, but last
    # where the forward pass ran in reverse.
    if reverse:
        carry, outs = run_whole(carry)
        carry, last = run_rest(carry)
    else:
        carry, last = run_rest(carry)
        carry, outs = run_whole(carry)
    return carry, jax.tree.map(lambda *leaves: jnp.concatenate(leaves), outs, last)


def chunk_size(steps: int, batch: int) -> int:
    """How many steps share one product: some 1024 rows, and if possible a divisor of ``steps``.

    All of them where the number of steps is symbolic.
    """
    if not known(steps):
        return steps
    rows = max(1024 // batch, 8) if known(batch) else 32
    longest = min(rows, 128, steps)
    # A divisor leaves no shorter chunk, whose loop would be compiled a second time.
    for size in range(longest, max(longest // 2, 1) - 1, -1):
        if steps % size == 0:
            return size
    return longest


def _edges(
    first: Array,
    states: Array,
    size: int,
    reverse: bool,
) -> Array:
    """The state that enters each chunk: ``first``, then the state after every ``size`` steps."""
    if reverse:
        return jnp.concatenate([states[size::size], first[None]])
    return jnp.concatenate([first[None], states[size - 1 : -1 : size]])
