"""Recording of any cell: the derivative of the whole step, one step after the other."""

import jax
import jax.numpy as jnp

from rnnlab.cells.contract import hidden_leaf
from rnnlab.driver import RunOptions, trajectory
from rnnlab.engines.sequence import select
from rnnlab.gradients.adjoint import Moment, adjoint_scan
from rnnlab.gradients.backward import (
    Adjoint,
    Backward,
    Recording,
    StateNorms,
    parameter_gradients,
    state_norms,
)
from rnnlab.gradients.scaled import Scaled, add, log_norm, plain, renormalise, zero
from rnnlab.gradients.split import split
from rnnlab.typing import Array, Cell, PyTree


def record_steps(
    cell: Cell, params: PyTree, xs: Array, state: PyTree, options: RunOptions, keep: bool
) -> Recording:
    """Runs ``cell``; returns ``ys`` and what takes ∂L/∂ys back."""
    batch = xs.ndim - 2
    run = trajectory(cell, params, xs, state, options)
    remembers = bool(jax.tree.leaves(run.start))
    hidden = hidden_leaf(cell, run.start)
    if hidden is None:
        hidden = split(cell.step, params, run.start, run.xs[0]).hidden

    def collect(total: Scaled | None, moment: Moment) -> tuple[Scaled | None, tuple]:
        norms = None
        if remembers:
            norms = state_norms(hidden, *moment.adjoint, batch)
            valid = moment.mark.valid
            if valid is not None:
                norms = jax.tree.map(lambda norm: jnp.where(valid, norm, -jnp.inf), norms)
        dxs = renormalise(*moment.d_x, batch)
        if total is None:
            return None, (norms, None, None, dxs)
        # The batch shares the parameters, so their part is computed at one scale: the largest.
        exponent = moment.adjoint.exponent
        top = exponent.max()
        own = Scaled(moment.to_params(jnp.broadcast_to(top, exponent.shape)), top)
        logs = jax.tree.map(lambda leaf: log_norm(leaf, top, 0), own.mantissa)
        return add(total, own), (norms, logs, plain(own) if keep else None, dxs)

    def back(g: Scaled, *, adjoints_only: bool = False) -> Backward:
        valid = run.marks.valid
        if valid is not None:
            g = Scaled(select(valid, g.mantissa, jnp.zeros_like(g.mantissa)), g.exponent)
        start = None if adjoints_only else zero(params, ())
        initial, total, outs = adjoint_scan(cell, params, run, g, collect, start)
        norms, logs, kept, dxs = outs
        adjoints = ()
        if remembers:
            h, c, joint = norms
            at_start = state_norms(hidden, *initial, batch)[0]
            adjoints = (Adjoint(StateNorms(h, c, joint, at_start), options),)
        found = None if total is None else parameter_gradients(total, logs, kept)
        return Backward(adjoints, found, dxs)

    return run.ys, back
