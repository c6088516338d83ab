"""Recording of a cell whose gate has its adjoint: the fused backward pass with scaled adjoints.

Read :mod:`rnnlab.gradients.stepwise` first: it computes the same one step after the other, and a test
binds this file to it. Two things make the difference.

The loop back through time carries λ alone. What parameters and inputs need is δₜ = ∂L/∂aₜ, which the
loop only writes down ("seen"), and large products for a whole chunk of steps do the rest.

Inside the loop arrays are flat, in the layout that the cell's ``Steps`` choose; outside they are
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
from rnnlab.driver import RunOptions, arrange, settle
from rnnlab.engines.fused.backward import Chunk, step_back, walk_back
from rnnlab.engines.fused.forward import forward, one_axis, own_axes, steps_of
from rnnlab.engines.fused.layouts import add_to_hidden
from rnnlab.engines.sequence import before, select
from rnnlab.gradients.backward import (
    Adjoint,
    Backward,
    Recording,
    StateNorms,
    parameter_gradients,
    state_norms,
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
    """What the walk back through the chunks carries."""

    adjoint: Scaled  # λ, with ∂L/∂y of its own step already in it
    total: Scaled | None  # ∂L/∂θ so far; None where only the adjoints are asked for


class ChunkResults(NamedTuple):
    """What a chunk of n steps gives."""

    norms: tuple[Array, Array | None, Array]  # of h, of the rest, of the whole state, [n, B]
    log_contributions: PyTree | None  # [n] for each parameter
    contributions: PyTree | None  # [n, *parameter]
    dxs: Scaled  # [n, B, I]


def record_fused(
    cell: Any, params: PyTree, xs: Array, state: PyTree, options: RunOptions, keep: bool
) -> Recording:
    """Runs ``cell``; returns ``ys`` and what takes ∂L/∂ys back."""
    batch = xs.shape[1:-1]
    xs, marks = arrange(xs, options)
    state = settle(cell, params, xs[0], state)
    xs, marks = one_axis(batch, 1, (xs, marks))
    state = one_axis(batch, 0, state)
    _, ys, memory = forward(
        cell, params, xs, state, marks, options.reverse, states=True, gates=True
    )
    recorded = _Recorded(cell, params, options.reverse, keep, steps_of(cell, params, xs), memory)

    def back(g: Scaled, *, adjoints_only: bool = False) -> Backward:
        carry, results = recorded.back(one_axis(batch, 1, g), adjoints_only)
        norms = results.norms
        if marks.valid is not None:
            norms = jax.tree.map(lambda norm: jnp.where(marks.valid, norm, -jnp.inf), norms)
        h, c, joint = own_axes(batch, 1, norms)
        initial = own_axes(
            batch, 0, recorded.norms(carry.adjoint.mantissa, carry.adjoint.exponent)[0]
        )
        found = None
        if carry.total is not None:
            found = parameter_gradients(
                carry.total, results.log_contributions, results.contributions
            )
        adjoint = Adjoint(StateNorms(h, c, joint, initial), options)
        return Backward((adjoint,), found, own_axes(batch, 1, results.dxs))

    return own_axes(batch, 1, ys), back


class _Recorded:
    """A forward pass of which states and gates are known, and the way back through it."""

    def __init__(
        self, cell: Any, params: PyTree, reverse: bool, keep: bool, steps: Any, memory: Any
    ) -> None:
        self.cell, self.params, self.reverse, self.keep = cell, params, reverse, keep
        self.steps, self.memory = steps, memory
        self.hidden = hidden_leaf(cell, memory.state)

    def back(self, g: Scaled, adjoints_only: bool) -> tuple[Carry, ChunkResults]:
        """All the way back; ``g`` is ∂L/∂ys ``[T, B, O]``."""
        steps, valid = self.steps, self.memory.marks.valid
        mantissa = g.mantissa
        if valid is not None:
            mantissa = select(valid, mantissa, jnp.zeros_like(mantissa))
        first, coming = _one_ahead(Scaled(mantissa, g.exponent), self.reverse)
        nothing = jax.tree.map(jnp.zeros_like, steps.enter(self.memory.state))
        entered = Scaled(steps.enter(first.mantissa), first.exponent)
        adjoint = _advance(self.cell, steps, nothing, first.exponent, entered)
        total = None if adjoints_only else zero(self.params, ())
        start = Carry(adjoint, total)
        return walk_back(
            self.chunk_back, start, self.cell, steps, self.memory, coming, self.reverse
        )

    def chunk_back(self, carry: Carry, chunk: Chunk) -> tuple[Carry, ChunkResults]:
        """The loop back through a chunk of steps, and then the products for all of them."""
        steps = self.steps
        g = Scaled(steps.enter(chunk.extra.mantissa), chunk.extra.exponent)
        inputs = chunk.numbers, chunk.olds, chunk.states, chunk.kept, chunk.marks, g
        room = chunk.room(steps, carry.adjoint.mantissa, g.mantissa)
        (adjoint, seen), (inside, exponent) = lax.scan(
            self.one_step, (carry.adjoint, room), inputs, reverse=not self.reverse
        )
        norms = self.norms(inside, exponent)
        seen = renormalise(steps.leave(seen), exponent, 2)
        dxs = Scaled(steps.to_inputs(chunk.xs, seen.mantissa), seen.exponent)
        if carry.total is None:
            return Carry(adjoint, None), ChunkResults(norms, None, None, dxs)

        olds = steps.leave(chunk.olds)
        logs = log_contributions(self.cell, self.params, chunk.xs, self.cell.hidden(olds), seen)
        # The batch shares the parameters, so their part is computed at one scale: the largest.
        top = seen.exponent.max()
        at_top = rescale(seen, jnp.broadcast_to(top, seen.exponent.shape))
        own = Scaled(steps.to_params(olds, chunk.xs, None, at_top), top)
        kept = _contributions(steps, olds, chunk.xs, seen) if self.keep else None
        return Carry(adjoint, add(carry.total, own)), ChunkResults(norms, logs, kept, dxs)

    def one_step(
        self, carry: tuple[Scaled, PyTree], inputs: tuple
    ) -> tuple[tuple[Scaled, PyTree], tuple[PyTree, Array]]:
        """One step back; gives the λ that enters the step, and its exponent."""
        (adjoint, room), (number, old, new, kept, mark, g) = carry, inputs
        d_new, exponent = adjoint
        # ∂L/∂y of this step is in λ already, so nothing enters through the output here.
        no_output = jnp.zeros_like(self.cell.hidden(d_new))
        d_old, inside, room = step_back(
            self.steps, mark, room, number, old, new, kept, d_new, no_output
        )
        # ∂L/∂y of the next step is added here, so that what the loop carries needs no scaling
        # when it is read.
        return (_advance(self.cell, self.steps, d_old, exponent, g), room), (inside, exponent)

    def norms(self, adjoint: PyTree, exponent: Array) -> tuple[Array, Array | None, Array]:
        """Log-norms of an adjoint in the layout of the loop; ``exponent [..., B]``."""
        return state_norms(self.hidden, self.steps.leave(adjoint), exponent, exponent.ndim)


def _one_ahead(g: Scaled, reverse: bool) -> tuple[Scaled, Scaled]:
    """The first of a sequence on the way back, and beside every step the one that comes next; nothing comes last."""
    nothing = Scaled(jnp.zeros_like(g.mantissa[0]), jnp.full_like(g.exponent[0], NOTHING))
    return jax.tree.map(lambda leaf: leaf[0 if reverse else -1], g), before(nothing, g, reverse)


def _advance(cell: Any, steps: Any, d_old: Any, exponent: Array, g: Scaled) -> Scaled:
    """``d_old · 2^exponent`` with ∂L/∂y added to that of h, which is the output, each example at a scale of its own.

    All scaling of a step is done here, in one product for each leaf, as the loop of ``steps`` reads it.
    """
    common = jnp.maximum(level(steps.leave(d_old), exponent, 1), g.exponent)

    def scaled(leaf: Array, own: Array) -> Array:
        most = int(jnp.finfo(leaf.dtype).maxexp) - 2  # only where all is zero would it be more
        return steps.times(leaf, power_of_two(jnp.clip(own - common, -(2**20), most), leaf.dtype))

    total = jax.tree.map(lambda leaf: scaled(leaf, exponent), d_old)
    return Scaled(add_to_hidden(cell, total, scaled(g.mantissa, g.exponent)), common)


def _contributions(steps: Any, olds: PyTree, xs: Array, seen: Scaled) -> PyTree:
    """Each step's contribution itself, ``[n, *parameter]``."""
    top = seen.exponent.max(axis=1)
    at_top = rescale(seen, jnp.broadcast_to(top[:, None], seen.exponent.shape))
    one_by_one = jax.vmap(
        lambda *step: steps.to_params(*jax.tree.map(lambda leaf: leaf[None], step))
    )
    return plain(Scaled(one_by_one(olds, xs, None, at_top), top))
