"""The fused engine: a backward pass of our own, one large product for each weight matrix in place of T small ones.

Forwards the states are kept, and with ``residuals="gates"`` also what the gates were; with "states" the gates are
made again from the states, a chunk of steps at a time, by one product for the chunk. Backwards, step by step,

    λₜ₋₁ = (∂gate/∂s)ᵀ λₜ + W_h δₜ,    δₜ = (∂gate/∂a)ᵀ λₜ    (λ = ∂L/∂s, δ = ∂L/∂a),

and only then, chunk by chunk, ∂L/∂W_h = Σₜ hₜ₋₁ δₜᵀ, ∂L/∂W_x = Σₜ xₜ δₜᵀ and ∂L/∂x = δ W_xᵀ.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.cells.contract import SPLIT, maps_of, splits
from rnnlab.engines.fold import folding, one_by_one
from rnnlab.engines.plan import Engine, Marks, Sequence, afresh, before, known, select
from rnnlab.engines.scan import scan
from rnnlab.engines.shards import on_shards, vary_together
from rnnlab.engines.steps import Columns, Lines, Rows, Steps
from rnnlab.typing import Array, Cell, PyTree


class _Static(NamedTuple):
    """What is fixed while tracing."""

    cell: Any
    reverse: bool
    every: bool  # the state after every step is wanted, or the final one
    gates: bool  # a gradient keeps what the gates were
    keep_states: bool = False  # the forward pass keeps every state
    keep_gates: bool = False  # and what the gates were


def fused(cell: Cell, params: PyTree, sequence: Sequence, engine: Engine) -> tuple[PyTree, Array]:
    """As ``scan``, for cells that give project, mix and gate; ValueError for others."""
    if reason := refusal(cell):
        raise ValueError(f"engine 'fused' cannot run this cell, since {reason}; use engine='scan'")
    gates = engine.residuals != "states"
    static = _Static(cell, sequence.reverse, sequence.every, gates)
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
    static: _Static, params: PyTree, xs: Array, state: PyTree, marks: Marks
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


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _run(
    static: _Static, params: PyTree, xs: Array, state: PyTree, marks: Marks
) -> tuple[PyTree, Array]:
    """``[T, B, I]`` in, ``(state or states, ys)`` out."""
    final, ys, memory = forward(
        static.cell, params, xs, state, marks, static.reverse, static.every, gates=False
    )
    return (_outside(static, params, memory) if static.every else final), ys


def _outside(static: _Static, params: PyTree, memory: "Memory") -> PyTree:
    """The states after each step as they were asked for."""
    steps = steps_of(static.cell, params, memory.xs)
    return steps.leave(steps.recall(memory.states))


@one_by_one
def _backward(
    static: _Static, params: PyTree, memory: "Memory", cotangents: tuple[PyTree, Array]
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
    static: _Static, params: PyTree, memory: "Memory", tangents: tuple[PyTree, Array, PyTree]
) -> Any:
    """The derivative of states and outputs along tangents of parameters, inputs and first state."""

    def plain(params: PyTree, xs: Array, state: PyTree) -> tuple[PyTree, Array]:
        sequence = Sequence(xs, state, memory.marks, static.reverse, static.every)
        return scan(static.cell, params, sequence, Engine("scan"))

    return jax.jvp(plain, (params, memory.xs, memory.state), tangents)[1]


@_run.defjvp
def _derivative(static: _Static, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    params, xs, state, marks = primals
    final, ys, memory = forward(
        static.cell, params, xs, state, marks, static.reverse, states=True, gates=static.gates
    )
    outs = (_outside(static, params, memory) if static.every else final), ys
    return outs, _along(static, params, memory, tangents[:3])


def steps_of(cell: Any, params: PyTree, xs: Array) -> Steps:
    """The cell in the layout that suits it, for inputs ``[T, B, I]``."""
    maps = maps_of(cell, params)
    if maps is None:
        return Rows(cell, params)
    one_gate = maps.joint == maps.w_h.shape[0] == maps.w_x.shape[1] == maps.w_h.shape[1]
    return (Lines if one_gate else Columns)(cell, params, maps, xs.shape[1])


class Memory(NamedTuple):
    """What the forward pass remembers."""

    xs: Array  # [T, B, I]
    state: PyTree  # before the first step
    marks: Marks
    states: PyTree  # after each step, as they are stored
    kept: PyTree  # what the steps kept; None where it is to be made again


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
    static = _Static(cell, reverse, False, gates, keep_states=states, keep_gates=gates)
    final, ys, all_states, kept = _forward(static, params, xs, state, marks)
    return final, ys, Memory(xs, state, marks, all_states, kept)


@one_by_one
def _forward(
    static: _Static, params: PyTree, xs: Array, state: PyTree, marks: Marks
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
