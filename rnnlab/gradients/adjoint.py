"""The adjoint recursion of any cell, one step at a time, by automatic differentiation.

The gradient flow, the matrix of contributions and Pascanu's regulariser all use this backward pass.
They differ in what they collect at each step, and in how many adjoints they carry in parallel.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab import _check
from rnnlab.driver import Trajectory
from rnnlab.engines.sequence import Marks, begin, select
from rnnlab.gradients.scaled import NOTHING, Scaled, renormalise, rescale, zero
from rnnlab.gradients.split import split
from rnnlab.typing import Array, Cell, PyTree


class Moment(NamedTuple):
    """One step of the backward pass.

    Leaves are ``[*batch, ...]``, with an axis of rows in front where there are rows.
    """

    # λₜ = ∂L/∂sₜ, including what enters through yₜ.
    adjoint: Scaled
    # The mantissa of the adjoint, zero where the step lies in the padding.
    inside: PyTree
    # ∂L/∂yₜ at the exponent of the adjoint.
    at_output: PyTree
    # From ∂L/∂sₜ to θ, sₜ₋₁ and xₜ.
    state_back: Callable[[PyTree], tuple[PyTree, PyTree, PyTree]]
    # From ∂L/∂yₜ to θ, sₜ₋₁, xₜ and sₜ.
    output_back: Callable[[PyTree], tuple[PyTree, PyTree, PyTree, PyTree]]
    # ∂L/∂xₜ.
    d_x: Scaled
    mark: Marks

    def to_params(self, exponent: Array) -> PyTree:
        """The step's contribution to ∂L/∂θ, at another exponent that the whole batch shares."""
        inside = rescale(Scaled(self.inside, self.adjoint.exponent), exponent)
        at_output = rescale(Scaled(self.at_output, self.adjoint.exponent), exponent)
        through_state = self.state_back(inside)[0]
        through_output = self.output_back(at_output)[0]
        return jax.tree.map(jnp.add, through_state, through_output)


Collect = Callable[[Any, Moment], tuple[Any, PyTree]]
"""``collect(total, moment) -> (total, out)``, where ``out`` is kept for every step."""


class LossRows(NamedTuple):
    """Adjoints of several losses, carried in parallel."""

    size: int
    # The row that the loss of each step belongs to, [T].
    row: Array


def adjoint_scan(
    cell: Cell,
    params: PyTree,
    run: Trajectory,
    g: Scaled,
    collect: Collect,
    total: Any,
    rows: LossRows | None = None,
) -> tuple[Scaled, Any, PyTree]:
    """The backward pass through a run.

    Args:
        cell: any cell with a ``step``.
        params: its parameters.
        run: every state of the run.
        g: ∂L/∂ys, mantissa ``[T, ..., O]`` and exponent ``[T, ...]``.
        collect: called at every step with the total so far and the :class:`Moment`.
        total: the total to start from.
        rows: carries several adjoints; one by default.

    Returns:
        ∂L/∂s₀, the total, and what was collected, ``[T, ...]``.
    """
    # Each example has an exponent of its own, which no other example's gradient may enter.
    _check.independent_examples(cell)
    batch = run.xs.shape[1:-1]
    shape = batch if rows is None else (rows.size, *batch)
    parts = split(cell.step, params, run.start, run.xs[0])

    def step_back(carry: tuple[Scaled, Any], inputs: tuple) -> tuple[tuple[Scaled, Any], PyTree]:
        coming, total = carry
        old, x, g, mark, row = inputs
        old = begin(mark, run.reset_state, old)
        new, state_back = jax.vjp(parts.state, params, old, x)
        _, output_back = jax.vjp(parts.output, params, old, x, new)
        if rows is not None:
            # All rows share the forward step, so only its transpose gets the axis of rows.
            state_back = jax.vmap(state_back)
            output_back = jax.vmap(output_back)
            g = _in_row(g, row, rows.size)

        moment, d_old = _moment(state_back, output_back, coming, g, mark)
        total, out = collect(total, moment)
        adjoint = renormalise(d_old, moment.adjoint.exponent, len(shape))
        return (adjoint, total), out

    def zeros(leaf: Array) -> Array:
        features = leaf.shape[len(batch) :]
        return jnp.zeros(shape + features, leaf.dtype)

    like = jax.tree.map(zeros, run.start)
    row = None if rows is None else rows.row
    inputs = (run.olds, run.xs, g, run.marks, row)
    carry = (zero(like, shape), total)
    (initial, total), outs = lax.scan(step_back, carry, inputs, reverse=not run.reverse)
    return initial, total, outs


def _moment(
    state_back: Callable[..., Any],
    output_back: Callable[..., Any],
    coming: Scaled,
    g: Scaled,
    mark: Marks,
) -> tuple[Moment, PyTree]:
    """The moment of a step, and the mantissa of ∂L/∂sₜ₋₁, from what comes from the next step."""
    exponent = jnp.maximum(coming.exponent, g.exponent)
    at_output = rescale(g, exponent)
    _, d_old, d_x, d_new = output_back(at_output)
    adjoint = jax.tree.map(jnp.add, rescale(coming, exponent), d_new)
    inside = adjoint
    if mark.valid is not None:
        zeros = jax.tree.map(jnp.zeros_like, adjoint)
        inside = select(mark.valid, adjoint, zeros)

    _, through_old, through_x = state_back(inside)
    d_old, d_x = jax.tree.map(jnp.add, (d_old, d_x), (through_old, through_x))
    if mark.reset is not None:
        # After a reset the step does not depend on the old state.
        zeros = jax.tree.map(jnp.zeros_like, d_old)
        d_old = select(mark.reset, zeros, d_old)
    if mark.valid is not None:
        # A step in the padding copies its state, so the adjoint passes through unchanged.
        d_old = select(mark.valid, d_old, adjoint)

    moment = Moment(
        adjoint=Scaled(adjoint, exponent),
        inside=inside,
        at_output=at_output,
        state_back=state_back,
        output_back=output_back,
        d_x=Scaled(d_x, exponent),
        mark=mark,
    )
    return moment, d_old


def _in_row(g: Scaled, row: Array, count: int) -> Scaled:
    """``g`` as one of ``count`` rows, the others zero."""
    zeros = jnp.zeros((count, *g.mantissa.shape), g.mantissa.dtype)
    mantissa = zeros.at[row].set(g.mantissa)
    nothing = jnp.full((count, *g.exponent.shape), NOTHING, jnp.int32)
    exponent = nothing.at[row].set(g.exponent)
    return Scaled(mantissa, exponent)
