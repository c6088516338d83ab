"""Recording of any cell: the derivative of the whole step, one step at a time."""

import jax
import jax.numpy as jnp

from rnnlab.cells.contract import hidden_leaf
from rnnlab.driver import RunOptions, trajectory
from rnnlab.engines.sequence import select
from rnnlab.gradients.adjoint import Moment, adjoint_scan
from rnnlab.gradients.backward import (
    Backward,
    LayerAdjoint,
    Recording,
    StateNorms,
    parameter_gradients,
    state_norms,
    without_padding_norms,
)
from rnnlab.gradients.scaled import Scaled, add, log_norm, plain, renormalise, zero
from rnnlab.gradients.split import split
from rnnlab.typing import Array, Cell, PyTree


def record_steps(
    cell: Cell,
    params: PyTree,
    xs: Array,
    state: PyTree,
    options: RunOptions,
    keep: bool,
) -> Recording:
    """Runs ``cell``; returns ``ys`` and a function that takes ∂L/∂ys back."""
    batch = xs.ndim - 2
    run = trajectory(cell, params, xs, state, options)
    remembers = bool(jax.tree.leaves(run.start))
    hidden = hidden_leaf(cell, run.start)
    if hidden is None:
        hidden = split(cell.step, params, run.start, run.xs[0]).hidden

    def collect(total: Scaled | None, moment: Moment) -> tuple[Scaled | None, tuple]:
        norms = state_norms(hidden, *moment.adjoint, batch) if remembers else None
        dxs = renormalise(*moment.d_x, batch)
        if total is None:
            return None, (norms, None, None, dxs)
        total, logs, kept = _contribution(total, moment, keep)
        return total, (norms, logs, kept, dxs)

    def back(g: Scaled, *, adjoints_only: bool = False) -> Backward:
        valid = run.marks.valid
        if valid is not None:
            # The outputs in the padding are not part of the loss, whatever the loss makes of them.
            mantissa = select(valid, g.mantissa, jnp.zeros_like(g.mantissa))
            g = Scaled(mantissa, g.exponent)
        start = None if adjoints_only else zero(params, ())
        initial, total, outs = adjoint_scan(cell, params, run, g, collect, start)
        norms, logs, kept, dxs = outs
        adjoints = ()
        if remembers:
            h, c, whole = without_padding_norms(norms, options)
            log_initial = state_norms(hidden, *initial, batch)[0]
            adjoints = (LayerAdjoint(StateNorms(h, c, whole, log_initial), options),)
        gradients = None if total is None else parameter_gradients(total, logs, kept)
        return Backward(adjoints, gradients, dxs)

    return run.ys, back


def _contribution(
    total: Scaled, moment: Moment, keep: bool
) -> tuple[Scaled, PyTree, PyTree | None]:
    """The total with the step's contribution, the log-norms of that and, where ``keep``, itself."""
    # The batch shares the parameters, so their part is computed at one scale: the largest.
    exponent = moment.adjoint.exponent
    top = exponent.max()
    at_top = moment.to_params(jnp.broadcast_to(top, exponent.shape))
    contribution = Scaled(at_top, top)

    def parameter_norm(leaf: Array) -> Array:
        return log_norm(leaf, top, 0)

    logs = jax.tree.map(parameter_norm, contribution.mantissa)
    total = add(total, contribution)
    return total, logs, plain(contribution) if keep else None
