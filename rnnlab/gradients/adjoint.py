"""The adjoint recursion of any cell: one step back after the other, by automatic differentiation.

The flow, the matrix of contributions and Pascanu's regulariser all go this way. They differ in what
they collect on it, and in how many adjoints they carry beside one another.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.driver import Trajectory
from rnnlab.engines.sequence import Marks, begin, select
from rnnlab.gradients.scaled import NOTHING, Scaled, renormalise, rescale, zero
from rnnlab.gradients.split import split
from rnnlab.typing import Array, Cell, PyTree


class Moment(NamedTuple):
    """One step on the way back. Leaves are ``[*batch, ...]``, with an axis of rows before it where there is one."""

    adjoint: Scaled  # λₜ = ∂L/∂sₜ, what enters through yₜ included
    inside: PyTree  # its mantissa, zero where the step lies in the padding
    at_output: PyTree  # ∂L/∂yₜ at the same exponent
    state_back: Callable[[PyTree], tuple[PyTree, PyTree, PyTree]]  # to θ, sₜ₋₁ and xₜ
    output_back: Callable[[PyTree], tuple[PyTree, PyTree, PyTree, PyTree]]  # to sₜ as well
    d_x: Scaled  # ∂L/∂xₜ
    mark: Marks

    def to_params(self, exponent: Array) -> PyTree:
        """What the step contributes to ∂L/∂θ, at another exponent, one that the batch shares."""
        inside = rescale(Scaled(self.inside, self.adjoint.exponent), exponent)
        at_output = rescale(Scaled(self.at_output, self.adjoint.exponent), exponent)
        through_state, through_output = self.state_back(inside)[0], self.output_back(at_output)[0]
        return jax.tree.map(jnp.add, through_state, through_output)


Collect = Callable[[Any, Moment], tuple[Any, PyTree]]
"""``collect(total, moment) -> (total, out)``, where ``out`` is kept for every step."""


class Rows(NamedTuple):
    """Adjoints of several losses beside one another."""

    size: int
    row: Array  # which of them the loss of each step belongs to, [T]


def adjoint_scan(
    cell: Cell,
    params: PyTree,
    run: Trajectory,
    g: Scaled,
    collect: Collect,
    total: Any,
    rows: Rows | None = None,
) -> tuple[Scaled, Any, PyTree]:
    """Goes back through a run.

    Args:
        cell: any cell with a ``step``.
        params: its parameters.
        run: every state of the run.
        g: ∂L/∂ys, mantissa ``[T, ..., O]`` and exponent ``[T, ...]``.
        collect: what is made of each step.
        total: what it adds to.
        rows: carries several adjoints; one by default.

    Returns:
        ∂L/∂s₀, the total, and what was collected, ``[T, ...]``.
    """
    batch = run.xs.shape[1:-1]
    shape = batch if rows is None else (rows.size, *batch)
    fresh = cell.initial_state(batch)
    parts = split(cell.step, params, run.start, run.xs[0])

    def step_back(carry: tuple[Scaled, Any], inputs: tuple) -> tuple[tuple[Scaled, Any], PyTree]:
        (coming, total), (old, x, g, mark, row) = carry, inputs
        old = begin(mark, fresh, old)
        new, state_back = jax.vjp(parts.state, params, old, x)
        _, output_back = jax.vjp(parts.output, params, old, x, new)
        if rows is not None:
            state_back, output_back = jax.vmap(state_back), jax.vmap(output_back)
            g = _in_row(g, row, rows.size)

        exponent = jnp.maximum(coming.exponent, g.exponent)
        at_output = rescale(g, exponent)
        _, d_old, d_x, d_new = output_back(at_output)
        adjoint = jax.tree.map(jnp.add, rescale(coming, exponent), d_new)
        inside = adjoint
        if mark.valid is not None:
            inside = select(mark.valid, adjoint, jax.tree.map(jnp.zeros_like, adjoint))
        _, through_old, through_x = state_back(inside)
        d_old, d_x = jax.tree.map(jnp.add, (d_old, d_x), (through_old, through_x))
        if mark.reset is not None:
            d_old = select(mark.reset, jax.tree.map(jnp.zeros_like, d_old), d_old)
        if mark.valid is not None:
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
        total, out = collect(total, moment)
        return (renormalise(d_old, exponent, len(shape)), total), out

    like = jax.tree.map(
        lambda leaf: jnp.zeros(shape + leaf.shape[len(batch) :], leaf.dtype), run.start
    )
    row = None if rows is None else rows.row
    inputs = run.olds, run.xs, g, run.marks, row
    (initial, total), outs = lax.scan(
        step_back, (zero(like, shape), total), inputs, reverse=not run.reverse
    )
    return initial, total, outs


def _in_row(g: Scaled, row: Array, count: int) -> Scaled:
    """``g`` as one of ``count`` rows, the others zero."""
    mantissa = jnp.zeros((count, *g.mantissa.shape), g.mantissa.dtype).at[row].set(g.mantissa)
    exponent = jnp.full((count, *g.exponent.shape), NOTHING, jnp.int32).at[row].set(g.exponent)
    return Scaled(mantissa, exponent)
