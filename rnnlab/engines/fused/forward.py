"""The forward pass of the fused engine, with what it keeps for the backward pass."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from rnnlab.cells.contract import maps_of
from rnnlab.engines.batching import one_by_one
from rnnlab.engines.fused.layouts import Columns, Layout, Lines, Rows
from rnnlab.engines.sequence import Marks, select
from rnnlab.typing import Array, PyTree


class Static(NamedTuple):
    """What is fixed while tracing."""

    cell: Any
    reverse: bool
    every: bool  # return the state after every step, or only the final one
    gates: bool  # a gradient keeps the values of the gates
    keep_states: bool = False  # the forward pass keeps every state
    keep_gates: bool = False  # and the values of the gates
    d_xs: bool = True  # not read: XLA removes what is not used


class Memory(NamedTuple):
    """What the forward pass keeps."""

    xs: Array  # [T, B, I]
    state: PyTree  # before the first step
    reset_state: PyTree  # after a reset; None where there are none
    marks: Marks
    states: PyTree  # after each step, as the layout stores them
    kept: PyTree  # what each step kept; None where the backward pass recomputes it


def forward(
    cell: Any,
    params: PyTree,
    xs: Array,
    state: PyTree,
    reset_state: PyTree,
    marks: Marks,
    reverse: bool,
    states: bool,
    gates: bool,
) -> tuple[PyTree, Array, Memory]:
    """The final state, the outputs ``[T, B, O]``, and the memory of states and gates."""
    static = Static(cell, reverse, False, gates, keep_states=states, keep_gates=gates)
    final, ys, all_states, kept = _forward(static, params, xs, state, reset_state, marks)
    # Inputs are remembered as they came in. Returned by the operation they would be results of it,
    # and a gradient would hold a second copy of them.
    return final, ys, Memory(xs, state, reset_state, marks, all_states, kept)


@one_by_one
def _forward(
    static: Static,
    params: PyTree,
    xs: Array,
    state: PyTree,
    reset_state: PyTree,
    marks: Marks,
) -> tuple[PyTree, Array, PyTree, PyTree]:
    """The final state, the outputs, and of every step the state and what the step kept."""
    layout = layout_of(static.cell, params, xs)
    after_reset = layout.enter(reset_state)

    def body(
        old: PyTree, inputs: tuple[Array, Marks]
    ) -> tuple[PyTree, tuple[PyTree, PyTree, PyTree]]:
        x, mark = inputs
        start = old if mark.reset is None else layout.select(mark.reset, after_reset, old)
        new, y, kept = layout.step(start, layout.enter(x))
        if mark.valid is not None:
            # A step in the padding hands on old, not start: a reset there does nothing.
            new = layout.select(mark.valid, new, old)
        states = layout.store(new) if static.keep_states else None
        # An output that can be read from the stored state would otherwise be stored twice.
        separate_y = layout.leave(y) if layout.outputs(states) is None else None
        return new, (states, separate_y, kept if static.keep_gates else None)

    start = layout.enter(state)
    final, (states, separate_ys, kept) = lax.scan(body, start, (xs, marks), reverse=static.reverse)
    ys: Any = layout.outputs(states) if separate_ys is None else separate_ys
    if marks.valid is not None:
        ys = select(marks.valid, ys, jnp.zeros_like(ys))
    return layout.leave(final), ys, states, kept


def layout_of(cell: Any, params: PyTree, xs: Array) -> Layout:
    """The cell in the layout that suits it, for inputs ``[T, B, I]``."""
    maps = maps_of(cell, params)
    if maps is None:
        return Rows(cell, params)
    hidden_size, columns = maps.w_h.shape
    one_gate = maps.joint == hidden_size == maps.w_x.shape[1] == columns
    layout = Lines if one_gate else Columns
    return layout(cell, params, maps, xs.shape[1])
