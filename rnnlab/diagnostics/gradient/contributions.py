"""The matrix of contributions: the gradient by loss step and by the step where a weight acts."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab import _check
from rnnlab._functions import ByValue
from rnnlab._results import result
from rnnlab.cells.base import Maps
from rnnlab.cells.contract import map_leaves
from rnnlab.diagnostics.gradient.reach import median
from rnnlab.driver import Trajectory, prepare, trajectory
from rnnlab.engines.fused.layouts import add_to_hidden
from rnnlab.engines.sequence import one_axis
from rnnlab.gradients.adjoint import LossRows, Moment, adjoint_scan
from rnnlab.gradients.backward import state_norms
from rnnlab.gradients.contribution_norms import log_contributions, to_params
from rnnlab.gradients.loss import entering_gradient, loss_gradient
from rnnlab.gradients.scaled import (
    NOTHING,
    Scaled,
    add,
    log_norm,
    plain,
    renormalise,
    rescale,
    zero,
)
from rnnlab.typing import Array, Cell, PyTree

ROWS = 50
"""The largest default number of rows of a matrix of contributions."""


@result
class BpttContributions(NamedTuple):
    """The terms ∂E_t/∂sₜ · ∂sₜ/∂sₖ · ∂⁺sₖ/∂θ of the gradient, for R rows of loss steps and T steps.

    Row r holds the losses of the steps ``last[r − 1] < t ≤ last[r]``, column k is the step at which
    the weights act. Logarithms are natural (nats), −inf where a term is exactly zero.

    Attributes:
        last: ``[R]``, the last step t of each row, counted from 1.
        log_contributions: ``[R, T]`` for each parameter, ln of the norm of each term, summed over
            the batch.
        log_norm_state: ``[R, T]``, ln‖∂E_t/∂sₖ‖ of the whole state: the median over the batch.
        contributions: ``[R, T, *parameter]``, the terms themselves, where
            ``keep_contributions``; else None.
        gradient: ∂L/∂θ, the sum of all terms, like the parameters.
        loss_args_gradient: ∂L/∂ of each of ``loss_args``, where asked for; else None.
    """

    last: Array
    log_contributions: PyTree
    log_norm_state: Array
    contributions: PyTree | None
    gradient: PyTree
    loss_args_gradient: PyTree | None


def bptt_contributions(
    cell: Cell,
    params: PyTree,
    xs: Array,
    loss: Callable[..., Array],
    *loss_args: Any,
    initial_state: PyTree | None = None,
    rows: int | None = None,
    keep_contributions: bool = False,
    differentiate_loss_args: bool = False,
) -> BpttContributions:
    """The matrix of all terms of the gradient, by loss step and by the step where the weights act.

    ∂L/∂θ = Σₜ Σₖ≤ₜ ∂E_t/∂sₜ · ∂sₜ/∂sₖ · ∂⁺sₖ/∂θ (Pascanu, Mikolov & Bengio 2013, arXiv 1211.5063,
    eq. 3–5): the part of the gradient of the loss E_t at step t that comes from the weights as they
    acted at step k. For a loss that is not a sum over steps, E_t stands for all that enters through
    yₜ. One pass back through time carries the adjoints of all rows in parallel, each with an
    exponent for every example, so that no lag is too long; norms come from Gram matrices of the
    batch where the cell allows it.

    Args:
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`.
        params: its parameters.
        xs: inputs, ``[T, ..., I]``.
        loss: ``loss(ys, *loss_args) -> scalar``, with ys ``[T, ..., O]``.
        *loss_args: further arguments of the loss, such as labels; traced, so that new values do not
            compile again.
        initial_state: s₀, ``cell.initial_state`` by default.
        rows: R, the number of groups of neighbouring loss steps; T for a row each, at most 50 by
            default. Time grows with R · T.
        keep_contributions: also returns the terms as arrays, R · T times the memory of the
            parameters.
        differentiate_loss_args: also returns the gradient with respect to ``loss_args``.

    Returns:
        A :class:`BpttContributions`.

    Raises:
        ValueError: as :func:`rnnlab.gradient_flow` does, for a bidirectional cell, which has no
            ``step``, and for more rows than steps.

    >>> import jax, rnnlab
    >>> cell = rnnlab.GRU(16)
    >>> params = cell.init(jax.random.key(0), input_size=4)
    >>> xs = jax.random.normal(jax.random.key(1), (60, 8, 4))
    >>> terms = bptt_contributions(cell, params, xs, lambda ys: (ys**2).mean(), rows=20)
    >>> terms.log_norm_state.shape
    (20, 60)
    """
    xs, state = prepared(cell, params, xs, initial_state)
    steps = xs.shape[0]
    count = even_rows(steps) if rows is None else _check.positive_int("rows", rows)
    if count > steps:
        raise ValueError(f"rows is {count}, but xs has {steps} steps; ask for at most that many")
    loss_args = _check.loss_function(loss, loss_args)
    return _matrix(
        cell,
        params,
        xs,
        state,
        loss_args,
        loss=ByValue(loss),
        rows=count,
        keep=keep_contributions,
        of_args=differentiate_loss_args,
    )


def prepared(
    cell: Cell,
    params: PyTree,
    xs: Array,
    state: PyTree | None,
) -> tuple[Array, PyTree]:
    """Checked ``(xs, initial state)``."""
    xs, state, _ = prepare(cell, params, xs, state)
    _check.linear_adjoint(cell)
    _check.differentiable("params", params)
    _check.differentiable("the state", state)
    _check.batched("the state", state, xs.shape[1:-1])
    _check.finite("xs", xs)
    _check.finite("params", params)
    _check.finite("the state", state)
    if not jax.tree.leaves(state):
        raise ValueError(
            "the cell has no state, so no gradient flows back in time; give a recurrent cell"
        )
    return xs, state


def even_rows(steps: int) -> int:
    """At most ROWS groups of nearly the same size."""
    group = math.ceil(steps / ROWS)
    return math.ceil(steps / group)


class _StepResults(NamedTuple):
    """The results of one step back, for each of R rows."""

    # ln of the norm of each parameter's term, [R].
    logs: PyTree
    # ln of the norm of the adjoint, [R].
    size: Array
    # The terms themselves, [R, *parameter], where asked for.
    terms: PyTree | None


@functools.partial(jax.jit, static_argnames=("cell", "loss", "rows", "keep", "of_args"))
def _matrix(
    cell: Cell,
    params: PyTree,
    xs: Array,
    state: PyTree,
    loss_args: tuple[Any, ...],
    *,
    loss: Callable[..., Array],
    rows: int,
    keep: bool,
    of_args: bool,
) -> BpttContributions:
    run = trajectory(cell, params, xs, state)
    _, g, args_gradient = loss_gradient(loss, run.ys, loss_args, of_args)
    g = entering_gradient(g)
    steps = np.arange(1, len(xs) + 1)
    last = np.array([group[-1] for group in np.array_split(steps, rows)])
    row = jnp.asarray(np.searchsorted(last, steps))
    total, results = _back(cell, params, run, g, LossRows(rows, row), keep)

    def rows_first(leaf: Array) -> Array:
        return jnp.swapaxes(leaf, 0, 1)

    results = jax.tree.map(rows_first, results)
    return BpttContributions(
        last=jnp.asarray(last),
        log_contributions=results.logs,
        log_norm_state=results.size,
        contributions=results.terms,
        gradient=plain(total),
        loss_args_gradient=args_gradient,
    )


def whole_gradient(
    cell: Cell,
    params: PyTree,
    run: Trajectory,
    g: Scaled,
) -> Scaled:
    """∂L/∂θ from a run and ∂L/∂ys, free of overflow."""
    row = jnp.zeros(len(run.xs), jnp.int32)
    total, _ = _back(cell, params, run, g, LossRows(1, row), keep=False)
    return total


def _back(
    cell: Cell,
    params: PyTree,
    run: Trajectory,
    g: Scaled,
    rows: LossRows,
    keep: bool,
) -> tuple[Scaled, _StepResults]:
    """∂L/∂θ, and the results of each step for each row."""
    back = _step_back if map_leaves(cell, params) is None else _fused_back
    return back(cell, params, run, g, rows, keep)


def _step_back(
    cell: Cell,
    params: PyTree,
    run: Trajectory,
    g: Scaled,
    rows: LossRows,
    keep: bool,
) -> tuple[Scaled, _StepResults]:
    """For any cell: the derivative of the whole step, for all rows, one step at a time."""

    def collect(total: Scaled, moment: Moment) -> tuple[Scaled, _StepResults]:
        # The batch shares the parameters, so their part is computed at one scale for each row.
        exponent = moment.adjoint.exponent
        top = exponent.reshape(rows.size, -1).max(axis=1)
        one_by_row = top.reshape(-1, *(1,) * (exponent.ndim - 1))
        shift = jnp.broadcast_to(one_by_row, exponent.shape)
        terms = Scaled(moment.to_params(shift), top)

        def parameter_norm(leaf: Array) -> Array:
            return log_norm(leaf, top, 1)

        logs = jax.tree.map(parameter_norm, terms.mantissa)
        size = _median_size(*moment.adjoint)
        total = add(total, _summed(terms))
        return total, _StepResults(logs, size, plain(terms) if keep else None)

    start = zero(params, ())
    _, total, results = adjoint_scan(cell, params, run, g, collect, start, rows)
    return total, results


def _fused_back(
    cell: Any,
    params: PyTree,
    run: Trajectory,
    g: Scaled,
    rows: LossRows,
    keep: bool,
) -> tuple[Scaled, _StepResults]:
    """For cells with a gate adjoint: all rows share the gates, and norms come without the terms."""
    batch = run.xs.shape[1:-1]
    olds, xs, news, g = one_axis(batch, 1, (run.olds, run.xs, run.states, g))
    maps = cell.maps(params)
    w_back = maps.w_h.T

    def one_step(
        carry: tuple[Scaled, Scaled], inputs: tuple
    ) -> tuple[tuple[Scaled, Scaled], _StepResults]:
        coming, total = carry
        old, x, new, g, row = inputs
        # ∂L/∂yₜ enters the row of its step only.
        entering = jnp.full_like(coming.exponent, NOTHING).at[row].set(g.exponent)
        exponent = jnp.maximum(coming.exponent, entering)
        d_new = rescale(coming, exponent)
        d_y = rescale(g, exponent[row])
        d_h = cell.hidden(d_new)
        d_new = cell.with_hidden(d_new, d_h.at[row].add(d_y.astype(d_h.dtype)))

        adjoint = _gate_adjoint(cell, params, old, x, new, d_new)
        joint, z, a = _deltas(adjoint, d_h)
        d_a = jnp.concatenate([joint, a], axis=-1)
        d_old = add_to_hidden(cell, adjoint.old, d_a @ w_back)

        delta = Scaled((joint, z, a), exponent)
        total, results = _terms(cell, params, maps, old, x, delta, total, keep)
        results = results._replace(size=_median_size(d_new, exponent))
        return (renormalise(d_old, exponent, 2), total), results

    def zeros(leaf: Array) -> Array:
        return jnp.zeros((rows.size, *leaf.shape[1:]), leaf.dtype)

    adjoint = zero(jax.tree.map(zeros, olds), (rows.size, xs.shape[1]))
    # The gradient is summed in the form of the maps w_x, w_h, b and c, and rearranged once.
    total = zero(maps[:4], ())
    inputs = (olds, xs, news, g, rows.row)
    (_, total), results = lax.scan(one_step, (adjoint, total), inputs, reverse=True)
    gradient = to_params(cell, params, total.mantissa)
    return total._replace(mantissa=gradient), results


def _gate_adjoint(
    cell: Any,
    params: PyTree,
    old: PyTree,
    x: Array,
    new: PyTree,
    d_new: PyTree,
) -> Any:
    """The gate adjoint of one step, for all rows."""
    projected = cell.project(params, x)
    mixed = cell.mix(params, old)
    _, residuals = cell.gate_residuals(params, old, projected, mixed)

    def with_row(leaf: Array) -> Array:
        return leaf[None]

    # The rows share the forward step, whose arrays get an axis of one row. It must be explicit: JAX
    # can be configured to refuse implicit broadcasting between ranks.
    shared = jax.tree.map(with_row, (old, new, residuals))
    return cell.gate_adjoint(params, *shared, d_new)


def _terms(
    cell: Any,
    params: PyTree,
    maps: Maps,
    old: PyTree,
    x: Array,
    delta: Scaled,
    total: Scaled,
    keep: bool,
) -> tuple[Scaled, _StepResults]:
    """The terms of one step for each row, from δ ``[R, B, gates]``, added to the total."""
    h = cell.hidden(old)
    logs = log_contributions(cell, params, x[None], h[None], delta)
    top = delta.exponent.max(axis=1)
    at_top = rescale(delta, jnp.broadcast_to(top[:, None], delta.exponent.shape))
    # The gradient needs only the sum over the rows, so δ is summed before the large product.
    summed = _summed(Scaled(at_top, top))
    of_step = Scaled(_to_maps(maps, h, x, summed.mantissa), summed.exponent)
    terms = None
    if keep:
        row_to_maps = functools.partial(_to_maps, maps, h, x)
        of_rows = jax.vmap(row_to_maps)(at_top)
        terms = to_params(cell, params, plain(Scaled(of_rows, top)))
    return add(total, of_step), _StepResults(logs, top, terms)


def _deltas(adjoint: Any, like: Array) -> tuple[Array, Array, Array]:
    """δ of the gates that both maps share, of those of w_x only, and of those of w_h only."""
    joint = _joined(adjoint.joint, like)
    z = _joined(adjoint.z, like)
    a = _joined(adjoint.a, like)
    return joint, z, a


def _joined(blocks: tuple[Array, ...], like: Array) -> Array:
    """The blocks along the last axis; of length zero without blocks."""
    if not blocks:
        return jnp.zeros((*like.shape[:-1], 0), like.dtype)
    return jnp.concatenate(blocks, axis=-1)


def _to_maps(
    maps: Maps,
    h: Array,
    x: Array,
    delta: tuple[Array, Array, Array],
) -> tuple[Array | None, ...]:
    """The term of one step for w_x, w_h, b and c: Σ_b of inputs ⊗ δ, ``[B, ...]`` each."""
    joint, z, a = delta
    d_z = jnp.concatenate([joint, z], axis=-1)
    d_a = jnp.concatenate([joint, a], axis=-1)
    d_w_x = (x.T @ d_z).astype(maps.w_x.dtype)
    d_w_h = (h.T @ d_a).astype(maps.w_h.dtype)
    d_b = None
    if maps.b is not None:
        d_b = d_z.sum(axis=0).astype(maps.b.dtype)
    d_c = None
    if maps.c is not None:
        # c may serve the last gates only, as the cₙ of a GRU does.
        start = d_a.shape[-1] - maps.c.size
        d_c = d_a.sum(axis=0)[start:].astype(maps.c.dtype)
    return d_w_x, d_w_h, d_b, d_c


def _summed(terms: Scaled) -> Scaled:
    """The sum over the rows, at the largest of their scales."""
    top = terms.exponent.max()
    at_top = rescale(terms, jnp.broadcast_to(top, terms.exponent.shape))

    def over_rows(leaf: Array) -> Array:
        return leaf.sum(axis=0)

    return Scaled(jax.tree.map(over_rows, at_top), top)


def _median_size(adjoint: PyTree, exponent: Array) -> Array:
    """ln‖·‖ of each row's adjoint, ``[R]``: the lower median over the batch."""
    _, _, norms = state_norms(None, adjoint, exponent, exponent.ndim)
    return median(norms.reshape(norms.shape[0], -1))
