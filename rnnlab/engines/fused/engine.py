"""The fused engine: a backward pass of our own, one large product for each weight matrix in place of T small ones.

Forwards the states are kept, and with ``residuals="gates"`` also what the gates were; with "states" the gates are
made again from the states, a chunk of steps at a time, by one product for the chunk. Backwards, step by step,

    λₜ₋₁ = (∂gate/∂s)ᵀ λₜ + W_h δₜ,    δₜ = (∂gate/∂a)ᵀ λₜ    (λ = ∂L/∂s, δ = ∂L/∂a),

and only then, chunk by chunk, ∂L/∂W_h = Σₜ hₜ₋₁ δₜᵀ, ∂L/∂W_x = Σₜ xₜ δₜᵀ and ∂L/∂x = δ W_xᵀ.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.cells.contract import SPLIT, splits
from rnnlab.engines.batching import folding, one_by_one
from rnnlab.engines.fused.backward import Chunk, step_back, walk_back
from rnnlab.engines.fused.forward import Memory, Static, forward, one_axis, own_axes, steps_of
from rnnlab.engines.scan import scan
from rnnlab.engines.sequence import Engine, Marks, Sequence
from rnnlab.engines.shards import on_shards, vary_together
from rnnlab.typing import Array, Cell, PyTree


def fused(cell: Cell, params: PyTree, sequence: Sequence, engine: Engine) -> tuple[PyTree, Array]:
    """As ``scan``, for cells that give project, mix and gate; ValueError for others."""
    if reason := refusal(cell):
        raise ValueError(f"engine 'fused' cannot run this cell, since {reason}; use engine='scan'")
    gates = engine.residuals != "states"
    static = Static(cell, sequence.reverse, sequence.every, gates)
    return _fused(static, params, sequence.xs, sequence.state, sequence.marks)


def refusal(cell: Cell) -> str | None:
    """Why ``cell`` cannot be run by the fused engine; None where it can."""
    name = type(cell).__name__
    if not all(callable(getattr(cell, part, None)) for part in SPLIT):
        return f"{name} does not tell project, mix and gate apart"
    if not splits(cell):
        return f"{name} has a step of its own, but inherits some of project, mix and gate"
    return None


def bytes_kept(cell: Cell, params: PyTree, sequence: Sequence, gates: bool) -> int:
    """What the forward pass keeps for the way back, beside parameters and inputs."""
    xs, state, marks = sequence.xs, sequence.state, sequence.marks
    batch = xs.shape[1:-1]

    def kept(params: PyTree, xs: Array, state: PyTree, marks: Marks) -> PyTree:
        (xs, marks), state = one_axis(batch, 1, (xs, marks)), one_axis(batch, 0, state)
        memory = forward(
            cell, params, xs, state, marks, sequence.reverse, states=True, gates=gates
        )[2]
        return memory.states, memory.kept

    leaves = jax.tree.leaves(jax.eval_shape(kept, params, xs, state, marks))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


@folding
def _fused(
    static: Static, params: PyTree, xs: Array, state: PyTree, marks: Marks
) -> tuple[PyTree, Array]:
    def run_shard(
        params: PyTree, xs: Array, state: PyTree, lengths: None, marks: Marks
    ) -> tuple[PyTree, Array]:
        del lengths  # they are in the marks
        batch = xs.shape[1:-1]
        (xs, marks), state = one_axis(batch, 1, (xs, marks)), one_axis(batch, 0, state)
        params, xs, state, marks = vary_together((params, xs, state, marks))
        out: Any = _run(static, params, xs, state, marks)
        state, ys = out
        return own_axes(batch, int(static.every), state), own_axes(batch, 1, ys)

    # The driver has done so for what it was given. An axis that vmap has folded into the batch may
    # bring a sharding of its own.
    return on_shards(run_shard, params, xs, state, None, marks, static.every)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _run(
    static: Static, params: PyTree, xs: Array, state: PyTree, marks: Marks
) -> tuple[PyTree, Array]:
    """``[T, B, I]`` in, ``(state or states, ys)`` out."""
    final, ys, memory = forward(
        static.cell, params, xs, state, marks, static.reverse, static.every, gates=False
    )
    return (_outside(static, params, memory) if static.every else final), ys


def _outside(static: Static, params: PyTree, memory: Memory) -> PyTree:
    """The states after each step as they were asked for."""
    steps = steps_of(static.cell, params, memory.xs)
    return steps.leave(steps.recall(memory.states))


@one_by_one
def _backward(
    static: Static, params: PyTree, memory: Memory, cotangents: tuple[PyTree, Array]
) -> tuple[PyTree, Array, PyTree]:
    """∂L/∂θ, ∂L/∂xs and ∂L/∂s₀."""
    d_state, d_ys = cotangents
    steps = steps_of(static.cell, params, memory.xs)
    d_final, d_states = (
        (jax.tree.map(jnp.zeros_like, memory.state), d_state) if static.every else (d_state, None)
    )

    def one_step(carry: tuple[PyTree, PyTree], inputs: tuple) -> tuple[tuple[PyTree, PyTree], None]:
        (d_new, room), (number, old, new, kept, mark, d_y, d_here) = carry, inputs
        d_new = d_new if d_here is None else jax.tree.map(jnp.add, d_new, d_here)
        d_old, _, room = step_back(steps, mark, room, number, old, new, kept, d_new, d_y)
        return (d_old, room), None

    def chunk_back(
        carry: tuple[PyTree, PyTree], chunk: Chunk
    ) -> tuple[tuple[PyTree, PyTree], Array]:
        (d_new, total), (d_ys, d_states) = carry, chunk.extra
        d_ys, d_states = steps.enter((d_ys, d_states))
        room = chunk.room(steps, d_new, d_ys)
        inputs = chunk.numbers, chunk.olds, chunk.states, chunk.kept, chunk.marks, d_ys, d_states
        (d_old, room), _ = lax.scan(one_step, (d_new, room), inputs, reverse=not static.reverse)
        seen = steps.leave(room)
        d_params = steps.to_params(steps.leave(chunk.olds), chunk.xs, chunk.kept, seen)
        return (d_old, jax.tree.map(jnp.add, total, d_params)), steps.to_inputs(chunk.xs, seen)

    start = steps.enter(d_final), jax.tree.map(jnp.zeros_like, params)
    (d_state, d_params), d_xs = walk_back(
        chunk_back, start, static.cell, steps, memory, (d_ys, d_states), static.reverse
    )
    return d_params, d_xs, steps.leave(d_state)


@functools.partial(one_by_one, adjoint=_backward)
def _along(
    static: Static, params: PyTree, memory: Memory, tangents: tuple[PyTree, Array, PyTree]
) -> Any:
    """The derivative of states and outputs along tangents of parameters, inputs and first state."""

    def plain(params: PyTree, xs: Array, state: PyTree) -> tuple[PyTree, Array]:
        sequence = Sequence(xs, state, memory.marks, static.reverse, static.every)
        return scan(static.cell, params, sequence, Engine("scan"))

    return jax.jvp(plain, (params, memory.xs, memory.state), tangents)[1]


@_run.defjvp
def _derivative(static: Static, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    params, xs, state, marks = primals
    final, ys, memory = forward(
        static.cell, params, xs, state, marks, static.reverse, states=True, gates=static.gates
    )
    outs = (_outside(static, params, memory) if static.every else final), ys
    return outs, _along(static, params, memory, tangents[:3])
