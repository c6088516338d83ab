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

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.cells.contract import hidden_leaf
from rnnlab.driver import RunOptions, engine_input
from rnnlab.engines.fused.backward import Chunk, step_back, walk_back
from rnnlab.engines.fused.forward import forward, layout_of, one_axis, own_axes
from rnnlab.engines.fused.layouts import add_to_hidden
from rnnlab.engines.sequence import before, select
from rnnlab.gradients.backward import (
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


def record_fused(
    cell: Any,
    params: PyTree,
    xs: Array,
    state: PyTree,
    options: RunOptions,
    keep: bool,
) -> Recording:
    """Runs ``cell``; returns ``ys`` and a function that takes ∂L/∂ys back."""
    batch = xs.shape[1:-1]
    inputs = engine_input(cell, params, xs, state, options)
    xs, marks = one_axis(batch, 1, (inputs.xs, inputs.marks))
    state, reset_state = one_axis(batch, 0, (inputs.state, inputs.reset_state))
    _, ys, memory = forward(
        cell,
        params,
        xs,
        state,
        reset_state,
        marks,
        options.reverse,
        states=True,
        gates=True,
    )
    layout = layout_of(cell, params, xs)
    recorded = _Recorded(cell, params, options.reverse, keep, layout, memory)

    def back(g: Scaled, *, adjoints_only: bool = False) -> Backward:
        carry, results = recorded.back(one_axis(batch, 1, g), adjoints_only)
        h, c, whole = without_padding_norms(own_axes(batch, 1, results.norms), options)
        initial_norms = recorded.norms(carry.adjoint.mantissa, carry.adjoint.exponent)
        initial = own_axes(batch, 0, initial_norms[0])
        gradients = None
        if carry.total is not None:
            gradients = parameter_gradients(
                carry.total, results.log_contributions, results.contributions
            )
        adjoint = LayerAdjoint(StateNorms(h, c, whole, initial), options)
        return Backward((adjoint,), gradients, own_axes(batch, 1, results.dxs))

    return own_axes(batch, 1, ys), back


class _Recorded:
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

    def back(self, g: Scaled, adjoints_only: bool) -> tuple[Carry, ChunkResults]:
        """The whole backward pass; ``g`` is ∂L/∂ys ``[T, B, O]``."""
        layout = self.layout
        valid = self.memory.marks.valid
        mantissa = g.mantissa
        if valid is not None:
            mantissa = select(valid, mantissa, jnp.zeros_like(mantissa))
        first, coming = _one_ahead(Scaled(mantissa, g.exponent), self.reverse)
        nothing = jax.tree.map(jnp.zeros_like, layout.enter(self.memory.state))
        entered = Scaled(layout.enter(first.mantissa), first.exponent)
        adjoint = _advance(self.cell, layout, nothing, first.exponent, entered)
        total = None if adjoints_only else zero(self.params, ())
        start = Carry(adjoint, total)
        return walk_back(self.chunk_back, start, layout, self.memory, coming, self.reverse)

    def chunk_back(self, carry: Carry, chunk: Chunk) -> tuple[Carry, ChunkResults]:
        """The loop back through a chunk of steps, and then the products for all of them."""
        layout = self.layout
        g = Scaled(layout.enter(chunk.extra.mantissa), chunk.extra.exponent)
        inputs = (chunk.numbers, chunk.olds, chunk.states, chunk.kept, chunk.marks, g)
        room = chunk.room(layout, carry.adjoint.mantissa, g.mantissa)
        start = (carry.adjoint, room)
        (adjoint, seen), (each, exponent) = lax.scan(
            self.one_step, start, inputs, reverse=not self.reverse
        )
        norms = self.norms(each, exponent)
        delta = renormalise(layout.leave(seen), exponent, 2)
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
        """Log-norms of an adjoint in the layout of the loop; ``exponent [..., B]``."""
        return state_norms(self.hidden, self.layout.leave(adjoint), exponent, exponent.ndim)


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
