"""The forward pass, with what it remembers for the way back."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.cells.contract import maps_of
from rnnlab.engines.batching import one_by_one
from rnnlab.engines.fused.layouts import Columns, Lines, Rows, Steps
from rnnlab.engines.sequence import Marks, afresh, select
from rnnlab.typing import Array, PyTree


class Static(NamedTuple):
    """What is fixed while tracing."""

    cell: Any
    reverse: bool
    every: bool  # the state after every step is wanted, or the final one
    gates: bool  # a gradient keeps what the gates were
    keep_states: bool = False  # the forward pass keeps every state
    keep_gates: bool = False  # and what the gates were


class Memory(NamedTuple):
    """What the forward pass remembers."""

    xs: Array  # [T, B, I]
    state: PyTree  # before the first step
    marks: Marks
    states: PyTree  # after each step, as they are stored
    kept: PyTree  # what the steps kept; None where it is to be made again


def forward(
    cell: Any,
    params: PyTree,
    xs: Array,
    state: PyTree,
    marks: Marks,
    reverse: bool,
    states: bool,
    gates: bool,
) -> tuple[PyTree, Array, Memory]:
    """The final state, the outputs ``[T, B, O]``, and what is to be remembered of states and gates."""
    # Inputs do not pass through the operation, so that they are remembered as they are and not as results of it.
    static = Static(cell, reverse, False, gates, keep_states=states, keep_gates=gates)
    final, ys, all_states, kept = _forward(static, params, xs, state, marks)
    return final, ys, Memory(xs, state, marks, all_states, kept)


@one_by_one
def _forward(
    static: Static, params: PyTree, xs: Array, state: PyTree, marks: Marks
) -> tuple[PyTree, Array, PyTree, PyTree]:
    """The final state, the outputs, and of every step the state and what the step kept."""
    steps = steps_of(static.cell, params, xs)
    fresh = steps.enter(afresh(static.cell, xs.shape[1:2], state))

    def body(
        old: PyTree, inputs: tuple[Array, Marks]
    ) -> tuple[PyTree, tuple[PyTree, PyTree, PyTree]]:
        x, mark = inputs
        start = old if mark.reset is None else steps.choose(mark.reset, fresh, old)
        new, y, kept = steps.step(start, steps.enter(x))
        if mark.valid is not None:
            new = steps.choose(mark.valid, new, old)
        states = steps.store(new) if static.keep_states else None
        beside = steps.leave(y) if steps.outputs(states) is None else None
        return new, (states, beside, kept if static.keep_gates else None)

    final, (states, beside, kept) = lax.scan(
        body, steps.enter(state), (xs, marks), reverse=static.reverse
    )
    ys: Any = steps.outputs(states) if beside is None else beside
    if marks.valid is not None:
        ys = select(marks.valid, ys, jnp.zeros_like(ys))
    return steps.leave(final), ys, states, kept


def steps_of(cell: Any, params: PyTree, xs: Array) -> Steps:
    """The cell in the layout that suits it, for inputs ``[T, B, I]``."""
    maps = maps_of(cell, params)
    if maps is None:
        return Rows(cell, params)
    one_gate = maps.joint == maps.w_h.shape[0] == maps.w_x.shape[1] == maps.w_h.shape[1]
    return (Lines if one_gate else Columns)(cell, params, maps, xs.shape[1])


def one_axis(batch: tuple[int, ...], lead: int, tree: PyTree) -> PyTree:
    """Leaves with the axes ``batch`` behind ``lead`` others, as leaves with one batch axis."""
    size, end = math.prod(batch), lead + len(batch)
    return jax.tree.map(
        lambda leaf: leaf.reshape(*leaf.shape[:lead], size, *leaf.shape[end:]), tree
    )


def own_axes(batch: tuple[int, ...], lead: int, tree: PyTree) -> PyTree:
    """The inverse of :func:`one_axis`."""
    return jax.tree.map(
        lambda leaf: leaf.reshape(*leaf.shape[:lead], *batch, *leaf.shape[lead + 1 :]), tree
    )
