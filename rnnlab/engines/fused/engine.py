"""The fused engine: a backward pass of our own, with one large product for each weight matrix.

JAX's own derivative of a scan has T small products instead. The forward pass keeps the states, and
with ``residuals="gates"`` also the values of the gates; with "states" the gates are recomputed
from the states, by one product for a chunk of steps at a time. Backwards, step by step,

    λₜ₋₁ = (∂gate/∂s)ᵀ λₜ + W_h δₜ,    δₜ = (∂gate/∂a)ᵀ λₜ    (λ = ∂L/∂s, δ = ∂L/∂a),

and only then, chunk by chunk, ∂L/∂W_h = Σₜ hₜ₋₁ δₜᵀ, ∂L/∂W_x = Σₜ xₜ δₜᵀ and ∂L/∂x = δ W_xᵀ.
"""

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.cells.contract import SPLIT, splits
from rnnlab.engines.batching import one_by_one
from rnnlab.engines.differentiable import Passes, differentiable
from rnnlab.engines.fused.backward import Chunk, step_back, walk_back
from rnnlab.engines.fused.forward import Memory, Static, forward, layout_of
from rnnlab.engines.sequence import EngineChoice, EngineInput, Marks, one_axis
from rnnlab.typing import Array, Cell, PyTree


def fused(
    cell: Cell,
    params: PyTree,
    sequence: EngineInput,
    engine: EngineChoice,
) -> tuple[PyTree, Array]:
    """As ``scan``, for cells with project, mix and gate; ValueError for others."""
    if reason := refusal(cell):
        raise ValueError(f"engine 'fused' cannot run this cell, since {reason}; use engine='scan'")
    gates = engine.residuals != "states"
    static = Static(cell, sequence.reverse, sequence.every, gates)
    states = sequence.state, sequence.reset_state
    return _fused(static, params, sequence.xs, states, sequence.marks)


def refusal(cell: Cell) -> str | None:
    """Why the fused engine cannot run ``cell``; None where it can."""
    name = type(cell).__name__
    for part in SPLIT:
        if not callable(getattr(cell, part, None)):
            return f"{name} does not split its step into project, mix and gate"
    if not splits(cell):
        return f"{name} overrides step but inherits some of project, mix and gate"
    return None


def bytes_kept(
    cell: Cell,
    params: PyTree,
    sequence: EngineInput,
    gates: bool,
) -> int:
    """What the forward pass keeps for the backward pass, beside parameters and inputs."""
    xs, marks, reverse = sequence.xs, sequence.marks, sequence.reverse
    states = sequence.state, sequence.reset_state
    batch = xs.shape[1:-1]

    def kept(
        params: PyTree,
        xs: Array,
        states: PyTree,
        marks: Marks,
    ) -> PyTree:
        xs, marks = one_axis(batch, 1, (xs, marks))
        state, reset_state = one_axis(batch, 0, states)
        _, _, memory = forward(
            cell, params, xs, state, reset_state, marks, reverse, states=True, gates=gates
        )
        return memory.states, memory.kept

    leaves = jax.tree.leaves(jax.eval_shape(kept, params, xs, states, marks))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def _run(
    static: Static,
    params: PyTree,
    xs: Array,
    state: PyTree,
    reset_state: PyTree,
    marks: Marks,
) -> tuple[PyTree, Array]:
    """``[T, B, I]`` in, ``(state or states, ys)`` out; keeps nothing for a backward pass."""
    inputs = (params, xs, state, reset_state, marks)
    final, ys, memory = forward(
        static.cell, *inputs, static.reverse, states=static.every, gates=False
    )
    if static.every:
        return _outside(static, params, memory), ys
    return final, ys


def _remember(
    static: Static,
    params: PyTree,
    xs: Array,
    state: PyTree,
    reset_state: PyTree,
    marks: Marks,
) -> tuple[tuple[PyTree, Array], Memory]:
    """As ``_run``, with the memory for the backward pass."""
    inputs = (params, xs, state, reset_state, marks)
    final, ys, memory = forward(
        static.cell, *inputs, static.reverse, states=True, gates=static.gates
    )
    if static.every:
        final = _outside(static, params, memory)
    return (final, ys), memory


def _outside(
    static: Static,
    params: PyTree,
    memory: Memory,
) -> PyTree:
    """The states after each step, in the layout outside of the loop."""
    layout = layout_of(static.cell, params, memory.xs)
    return layout.leave(layout.recall(memory.states))


@one_by_one
def _backward(
    static: Static,
    params: PyTree,
    memory: Memory,
    cotangents: tuple[PyTree, Array],
) -> tuple[PyTree, Array, PyTree, PyTree]:
    """∂L/∂θ, ∂L/∂xs, ∂L/∂s₀, and ∂L/∂s of the state after a reset (None without resets)."""
    d_state, d_ys = cotangents
    layout = layout_of(static.cell, params, memory.xs)
    if static.every:
        # The final state is the last of the states, so its cotangent comes in with theirs.
        d_final, d_states = jax.tree.map(jnp.zeros_like, memory.state), d_state
    else:
        d_final, d_states = d_state, None

    def one_step(carry: tuple, inputs: tuple) -> tuple[tuple, None]:
        d_new, d_reset, room = carry
        index, old, new, kept, mark, d_y, d_here = inputs
        if d_here is not None:
            d_new = jax.tree.map(jnp.add, d_new, d_here)
        d_old, d_reset_here, room = step_back(layout, mark, room, index, old, new, kept, d_new, d_y)
        d_reset = jax.tree.map(jnp.add, d_reset, d_reset_here)
        return (d_old, d_reset, room), None

    def chunk_back(carry: tuple, chunk: Chunk) -> tuple[tuple, Array]:
        d_new, d_reset, total = carry
        d_ys, d_states = layout.enter(chunk.extra)
        room = chunk.room(layout, d_new, d_ys)
        inputs = (
            chunk.numbers,
            chunk.olds,
            chunk.states,
            chunk.kept,
            chunk.marks,
            d_ys,
            d_states,
        )
        # The buffer is carried and not stacked by the loop, so that each gate's block is written in
        # place; see _write in layouts.
        (d_old, d_reset, room), _ = lax.scan(
            one_step, (d_new, d_reset, room), inputs, reverse=not static.reverse
        )
        seen = layout.leave(room)
        olds = layout.leave(chunk.olds)
        d_params = layout.to_params(olds, chunk.xs, chunk.kept, seen)
        total = jax.tree.map(jnp.add, total, d_params)
        return (d_old, d_reset, total), layout.to_inputs(chunk.xs, seen)

    no_reset = jax.tree.map(jnp.zeros_like, memory.reset_state)
    start = layout.enter(d_final), layout.enter(no_reset), jax.tree.map(jnp.zeros_like, params)
    (d_state, d_reset, d_params), d_xs = walk_back(
        chunk_back, start, layout, memory, (d_ys, d_states), static.reverse
    )
    return d_params, d_xs, layout.leave(d_state), layout.leave(d_reset)


_fused = differentiable(Passes("fused", _run, _remember, _backward))
