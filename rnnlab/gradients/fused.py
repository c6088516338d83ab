"""Recording of a cell with a gate adjoint: the fused backward pass with scaled adjoints.

Read :mod:`rnnlab.gradients.stepwise` first: it computes the same one step at a time, and a test
binds this file to it. Two things make the difference.

The loop back through time carries λ alone. Parameters and inputs need δₜ = ∂L/∂aₜ, which the loop
only writes down ("seen"), and large products for a whole chunk of steps do the rest.

Inside the loop arrays are flat, in the ``Layout`` that suits the cell; outside they are
``[n, B, features]``. ``enter`` and ``leave`` turn one into the other:

    outside the loop          in the loop, of one step        after the loop
    g      [n, B, O]   enter→ g       [O · B]
    olds   [n, B, H]          old     [H · B]
    kept   [n, gates · B]     kept    [gates · B]
                              λ, λ's exponent [H · B], [B]
                              seen: row n of [n, gates · B]   leave→ δ [n, B, gates]
                                                              δ W_xᵀ → ∂L/∂xs [n, B, I]
                                                              Σ xᵀ δ, Σ hᵀ δ → ∂L/∂θ
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.cells.contract import hidden_leaf
from rnnlab.driver import RunOptions, engine_input
from rnnlab.engines.fused.backward import Chunk, step_back, walk_back
from rnnlab.engines.fused.forward import forward, layout_of
from rnnlab.engines.fused.layouts import add_to_hidden
from rnnlab.engines.sequence import Marks, before, one_axis, own_axes, select
from rnnlab.gradients.backward import (
    Back,
    Backward,
    LayerAdjoint,
    Recording,
    StateNorms,
    parameter_gradients,
    state_norms,
    without_padding_norms,
)
from rnnlab.gradients.contribution_norms import log_contributions
from rnnlab.gradients.scaled import (
    NOTHING,
    Scaled,
    add,
    level,
    plain,
    power_of_two,
    renormalise,
    rescale,
    zero,
)
from rnnlab.typing import Array, PyTree

Run = tuple[Array, PyTree, PyTree, Marks]
"""xs ``[T, B, I]``, the first state, the state after a reset, and the marks."""


class Carry(NamedTuple):
    """The carry of the walk back through the chunks."""

    # λ, already including ∂L/∂y of its own step.
    adjoint: Scaled
    # ∂L/∂θ so far; None where only the adjoints are asked for.
    total: Scaled | None


class ChunkResults(NamedTuple):
    """The results of a chunk of n steps."""

    norms: tuple[Array, Array | None, Array]  # of h, of the rest, of the whole state, [n, B]
    log_contributions: PyTree | None  # [n] for each parameter
    contributions: PyTree | None  # [n, *parameter]
    dxs: Scaled  # [n, B, I]


class Results(NamedTuple):
    """The results of a whole backward pass."""

    chunks: ChunkResults  # n is T
    total: Scaled | None  # ∂L/∂θ; None where only the adjoints were asked for
    initial_norm: Array  # ln‖∂L/∂h₀‖, [B]


def record_fused(
    cell: Any,
    params: PyTree,
    run: Run,
    batch: tuple[int, ...],
    options: RunOptions,
    keep: bool,
) -> Recording:
    """Runs ``cell``; returns ``ys`` and a function that takes ∂L/∂ys back.

    ``run`` has one batch axis, ``batch`` are those of the outputs.
    """
    recorded, ys = recorded_run(cell, params, run, options.reverse, keep)
    return own_axes(batch, 1, ys), taking_back(recorded.back, batch, options)


def recorded_run(
    cell: Any,
    params: PyTree,
    run: Run,
    reverse: bool,
    keep: bool,
) -> tuple["Recorded", Array]:
    """The recorded forward pass, and its outputs ``[T, B, O]``."""
    _, ys, memory = forward(cell, params, *run, reverse, states=True, gates=True)
    layout = layout_of(cell, params, memory.xs)
    return Recorded(cell, params, reverse, keep, layout, memory), ys


def flat_input(
    cell: Any,
    params: PyTree,
    xs: Array,
    state: PyTree,
    options: RunOptions,
) -> Run:
    """What runs, with one batch axis, from checked inputs."""
    batch = xs.shape[1:-1]
    inputs = engine_input(cell, params, xs, state, options)
    xs, marks = one_axis(batch, 1, (inputs.xs, inputs.marks))
    state, reset_state = one_axis(batch, 0, (inputs.state, inputs.reset_state))
    return xs, state, reset_state, marks


def taking_back(
    run_back: Callable[[Scaled, bool], Results],
    batch: tuple[int, ...],
    options: RunOptions,
) -> Back:
    """The function that takes ∂L/∂ys back, from one for a single batch axis."""

    def back(g: Scaled, *, adjoints_only: bool = False) -> Backward:
        results = run_back(one_axis(batch, 1, g), adjoints_only)
        chunks = results.chunks
        h, c, whole = without_padding_norms(own_axes(batch, 1, chunks.norms), options)
        gradients = None
        if results.total is not None:
            gradients = parameter_gradients(
                results.total, chunks.log_contributions, chunks.contributions
            )
        initial = own_axes(batch, 0, results.initial_norm)
        adjoint = LayerAdjoint(StateNorms(h, c, whole, initial), options)
        return Backward((adjoint,), gradients, own_axes(batch, 1, chunks.dxs))

    return back


class Recorded:
    """A forward pass with all states and gates kept, and the backward pass through it."""

    def __init__(
        self,
        cell: Any,
        params: PyTree,
        reverse: bool,
        keep: bool,
        layout: Any,
        memory: Any,
    ) -> None:
        self.cell = cell
        self.params = params
        self.reverse = reverse
        self.keep = keep
        self.layout = layout
        self.memory = memory
        self.hidden = hidden_leaf(cell, memory.state)

    def back(self, g: Scaled, adjoints_only: bool) -> Results:
        """The whole backward pass; ``g`` is ∂L/∂ys ``[T, B, O]``."""
        layout = self.layout
        first, coming = _one_ahead(self.of_valid_steps(g), self.reverse)
        nothing = jax.tree.map(jnp.zeros_like, layout.enter(self.memory.state))
        entered = Scaled(layout.enter(first.mantissa), first.exponent)
        adjoint = _advance(self.cell, layout, nothing, first.exponent, entered)
        return self.walk(adjoint, coming, adjoints_only)

    def of_valid_steps(self, g: Scaled) -> Scaled:
        """∂L/∂ys with zeros at steps that do not count."""
        valid = self.memory.marks.valid
        if valid is None:
            return g
        return g._replace(mantissa=select(valid, g.mantissa, jnp.zeros_like(g.mantissa)))

    def walk(self, adjoint: Scaled, g: Scaled, adjoints_only: bool) -> Results:
        """The walk over all chunks, from the first λ and what each step gets of ∂L/∂ys."""
        total = None if adjoints_only else zero(self.params, ())
        start = Carry(adjoint, total)
        carry, chunks = walk_back(self.chunk_back, start, self.layout, self.memory, g, self.reverse)
        first = carry.adjoint
        initial, _, _ = self.norms(self.layout.leave(first.mantissa), first.exponent)
        return Results(chunks, carry.total, initial)

    def chunk_back(self, carry: Carry, chunk: Chunk) -> tuple[Carry, ChunkResults]:
        """The loop back through a chunk of steps, and then the products for all of them."""
        layout = self.layout
        adjoint, each, delta = self.steps_back(carry.adjoint, chunk)
        norms = self.norms(each, delta.exponent)
        delta = renormalise(delta.mantissa, delta.exponent, 2)
        dxs = Scaled(layout.to_inputs(chunk.xs, delta.mantissa), delta.exponent)
        if carry.total is None:
            return Carry(adjoint, None), ChunkResults(norms, None, None, dxs)

        olds = layout.leave(chunk.olds)
        h = self.cell.hidden(olds)
        logs = log_contributions(self.cell, self.params, chunk.xs, h, delta)
        # The batch shares the parameters, so their part is computed at one scale: the largest.
        top = delta.exponent.max()
        at_top = rescale(delta, jnp.broadcast_to(top, delta.exponent.shape))
        of_chunk = Scaled(layout.to_params(olds, chunk.xs, None, at_top), top)
        kept = _contributions(layout, olds, chunk.xs, delta) if self.keep else None
        total = add(carry.total, of_chunk)
        return Carry(adjoint, total), ChunkResults(norms, logs, kept, dxs)

    def steps_back(self, adjoint: Scaled, chunk: Chunk) -> tuple[Scaled, PyTree, Scaled]:
        """The loop: the carried λ, and of each step λ and δ at the same exponent, ``[n, B, ...]``.

        The carried λ is in the layout of the loop.
        """
        layout = self.layout
        g = Scaled(layout.enter(chunk.extra.mantissa), chunk.extra.exponent)
        inputs = (chunk.numbers, chunk.olds, chunk.states, chunk.kept, chunk.marks, g)
        room = chunk.room(layout, adjoint.mantissa, g.mantissa)
        (adjoint, seen), (each, exponent) = lax.scan(
            self.one_step, (adjoint, room), inputs, reverse=not self.reverse
        )
        return adjoint, layout.leave(each), Scaled(layout.leave(seen), exponent)

    def one_step(
        self, carry: tuple[Scaled, PyTree], inputs: tuple
    ) -> tuple[tuple[Scaled, PyTree], tuple[PyTree, Array]]:
        """One step back; returns the carry, and the λ of the step with its exponent."""
        adjoint, room = carry
        index, old, new, kept, mark, g = inputs
        d_new, exponent = adjoint
        # λ already includes ∂L/∂y of this step, so nothing enters through the output here.
        no_output = jnp.zeros_like(self.cell.hidden(d_new))
        d_old, _, room = step_back(self.layout, mark, room, index, old, new, kept, d_new, no_output)
        # ∂L/∂y of the next step is added here, so that the carry of the loop needs no scaling when
        # it is read.
        adjoint = _advance(self.cell, self.layout, d_old, exponent, g)
        return (adjoint, room), (d_new, exponent)

    def norms(self, adjoint: PyTree, exponent: Array) -> tuple[Array, Array | None, Array]:
        """Log-norms of an adjoint, leaves and ``exponent`` ``[..., B]``."""
        return state_norms(self.hidden, adjoint, exponent, exponent.ndim)


def _one_ahead(g: Scaled, reverse: bool) -> tuple[Scaled, Scaled]:
    """The first ∂L/∂y of the backward pass, and for every step the one that it needs next.

    The last step of the backward pass gets zero.
    """
    no_mantissa = jnp.zeros_like(g.mantissa[0])
    no_exponent = jnp.full_like(g.exponent[0], NOTHING)
    nothing = Scaled(no_mantissa, no_exponent)
    start = 0 if reverse else -1

    def at_start(leaf: Array) -> Array:
        return leaf[start]

    first = jax.tree.map(at_start, g)
    return first, before(nothing, g, reverse)


def _advance(
    cell: Any,
    layout: Any,
    d_old: Any,
    exponent: Array,
    g: Scaled,
) -> Scaled:
    """``d_old · 2^exponent`` plus ∂L/∂y, which enters through h, each example at its own scale.

    All scaling of a step happens here, in one product for each leaf, in the layout of the loop.
    """
    common = jnp.maximum(level(layout.leave(d_old), exponent, 1), g.exponent)

    def scaled(leaf: Array, exponent: Array) -> Array:
        # Only a leaf that is all zero would need a larger shift, and the power would be infinite.
        largest = int(jnp.finfo(leaf.dtype).maxexp) - 2
        shift = jnp.clip(exponent - common, -(2**20), largest)
        return layout.times(leaf, power_of_two(shift, leaf.dtype))

    def scaled_old(leaf: Array) -> Array:
        return scaled(leaf, exponent)

    total = jax.tree.map(scaled_old, d_old)
    entering = scaled(g.mantissa, g.exponent)
    return Scaled(add_to_hidden(cell, total, entering), common)


def _contributions(
    layout: Any,
    olds: PyTree,
    xs: Array,
    delta: Scaled,
) -> PyTree:
    """Each step's contribution itself, ``[n, *parameter]``."""
    top = delta.exponent.max(axis=1)
    at_top = rescale(delta, jnp.broadcast_to(top[:, None], delta.exponent.shape))

    def with_time(leaf: Array) -> Array:
        return leaf[None]

    def one_step(*step: PyTree) -> PyTree:
        # ``to_params`` sums over the steps it gets, so each step goes in as a chunk of one.
        return layout.to_params(*jax.tree.map(with_time, step))

    each_step = jax.vmap(one_step)
    return plain(Scaled(each_step(olds, xs, None, at_top), top))
