"""Who owes what to whom: the gradient split by the step at which a loss arises and the step at which a weight acts."""

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
from rnnlab.engines.fused.forward import one_axis
from rnnlab.engines.fused.layouts import add_to_hidden
from rnnlab.gradients.adjoint import Moment, Rows, adjoint_scan
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
"""How many rows a matrix of contributions has at most, where nothing else is asked for."""


@result
class BpttContributions(NamedTuple):
    """The terms ∂E_t/∂sₜ · ∂sₜ/∂sₖ · ∂⁺sₖ/∂θ of the gradient, for R rows of loss steps t and T steps k.

    Row r holds the losses of the steps ``last[r − 1] < t ≤ last[r]``, column k is the step at which the
    weights act. Logarithms are natural (nats), −inf where a term is exactly zero.

    Attributes:
        last: ``[R]``, the last step t of each row, counted from 1.
        log_norms: ``[R, T]`` for each parameter, ln of the norm of each term, summed over the batch.
        log_norm_state: ``[R, T]``, ln‖∂E_t/∂sₖ‖ of the whole state: the median over the batch.
        contribution_arrays: ``[R, T, *parameter]``, the terms themselves, where ``keep_contributions``;
            else None.
        gradient: ∂L/∂θ, the sum of all terms, like the parameters.
        loss_args_gradient: ∂L/∂ of each of ``loss_args``, where asked for; else None.
    """

    last: Array
    log_norms: PyTree
    log_norm_state: Array
    contribution_arrays: PyTree | None
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
    """The matrix of all terms of the gradient, by where its losses arise and where its weights act.

    ∂L/∂θ = Σₜ Σₖ≤ₜ ∂E_t/∂sₜ · ∂sₜ/∂sₖ · ∂⁺sₖ/∂θ (Pascanu, Mikolov & Bengio 2013, arXiv 1211.5063, eq. 3–5): what the
    loss E_t at step t owes to the weights as they acted at step k. For a loss that is no sum over steps, E_t stands for
    all that enters through yₜ. One pass back through time carries the adjoints of all rows beside one another, each
    with an exponent for every example, so that no lag is too long; norms come from Gram matrices of the batch where the
    cell allows it.

    Args:
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`.
        params: its parameters.
        xs: inputs, ``[T, ..., I]``.
        loss: ``loss(ys, *loss_args) -> scalar``, with ys ``[T, ..., O]``.
        *loss_args: what else the loss needs, such as labels; traced, so that new values compile nothing.
        initial_state: s₀, ``cell.initial_state`` by default.
        rows: R, into how many groups of neighbours the steps t are put; T for a row each, at most 50 by default. Time
            goes with R · T.
        keep_contributions: also returns the terms as arrays, R · T times the memory of the parameters.
        differentiate_loss_args: also returns the gradient with respect to ``loss_args``.

    Returns:
        A :class:`BpttContributions`.

    Raises:
        ValueError: as :func:`rnnlab.gradient_flow` does, for a bidirectional cell, which has no ``step``, and for more
            rows than steps.
    """
    xs, state = prepared(cell, params, xs, initial_state)
    count = even_rows(xs.shape[0]) if rows is None else _check.positive_int("rows", rows)
    if count > xs.shape[0]:
        raise ValueError(
            f"rows is {count}, but xs has {xs.shape[0]} steps; ask for at most so many"
        )
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


def prepared(cell: Cell, params: PyTree, xs: Array, state: PyTree | None) -> tuple[Array, PyTree]:
    """Checked ``(xs, initial state)``."""
    xs, state, _ = prepare(cell, params, xs, state)
    _check.linear_adjoint(cell)
    _check.differentiable("params", params)
    _check.differentiable("the state", state)
    _check.batched("the state", state, xs.shape[1:-1])
    for name, tree in (("xs", xs), ("params", params), ("the state", state)):
        _check.finite(name, tree)
    if not jax.tree.leaves(state):
        raise ValueError(
            "the cell has no state, so no gradient flows back in time; give one that remembers"
        )
    return xs, state


def even_rows(steps: int) -> int:
    """At most ROWS groups of nearly the same size."""
    return math.ceil(steps / math.ceil(steps / ROWS))


class _Seen(NamedTuple):
    """What one step back gives for each of R rows."""

    logs: PyTree  # ln of the norm of each parameter's term, [R]
    size: Array  # ln of the norm of the adjoint, [R]
    terms: PyTree | None  # [R, *parameter]


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
    last = np.array([steps[-1] for steps in np.array_split(np.arange(1, len(xs) + 1), rows)])
    row = jnp.asarray(np.searchsorted(last, np.arange(1, len(xs) + 1)))
    total, seen = _back(cell, params, run, g, Rows(rows, row), keep)
    in_rows = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), seen)
    return BpttContributions(
        jnp.asarray(last), in_rows.logs, in_rows.size, in_rows.terms, plain(total), args_gradient
    )


def whole_gradient(cell: Cell, params: PyTree, run: Trajectory, g: Scaled) -> Scaled:
    """∂L/∂θ from a run and ∂L/∂ys, free of overflow."""
    one = Rows(1, jnp.zeros(len(run.xs), jnp.int32))
    return _back(cell, params, run, g, one, False)[0]


def _back(
    cell: Cell, params: PyTree, run: Trajectory, g: Scaled, rows: Rows, keep: bool
) -> tuple[Scaled, _Seen]:
    """∂L/∂θ, and what each step gives for each row."""
    back = _step_back if map_leaves(cell, params) is None else _fused_back
    return back(cell, params, run, g, rows, keep)


def _step_back(
    cell: Cell, params: PyTree, run: Trajectory, g: Scaled, rows: Rows, keep: bool
) -> tuple[Scaled, _Seen]:
    """For any cell: the derivative of the whole step, for all rows, one step after the other."""

    def collect(total: Scaled, moment: Moment) -> tuple[Scaled, _Seen]:
        # The batch shares the parameters, so their part is computed at one scale for each row.
        exponent = moment.adjoint.exponent
        top = exponent.reshape(rows.size, -1).max(axis=1)
        shift = jnp.broadcast_to(top.reshape(-1, *(1,) * (exponent.ndim - 1)), exponent.shape)
        terms = Scaled(moment.to_params(shift), top)
        logs = jax.tree.map(lambda leaf: log_norm(leaf, top, 1), terms.mantissa)
        size = _median_size(*moment.adjoint)
        return add(total, _summed(terms)), _Seen(logs, size, plain(terms) if keep else None)

    _, total, seen = adjoint_scan(cell, params, run, g, collect, zero(params, ()), rows)
    return total, seen


def _fused_back(
    cell: Any, params: PyTree, run: Trajectory, g: Scaled, rows: Rows, keep: bool
) -> tuple[Scaled, _Seen]:
    """For cells whose gate has its adjoint: gates are the rows' common ones, and terms are not formed but measured."""
    batch = run.xs.shape[1:-1]
    olds, xs, news, g = one_axis(batch, 1, (run.olds, run.xs, run.states, g))
    maps = cell.maps(params)
    w_back = maps.w_h.T

    def one_step(
        carry: tuple[Scaled, Scaled], inputs: tuple
    ) -> tuple[tuple[Scaled, Scaled], _Seen]:
        (coming, total), (old, x, new, g, number) = carry, inputs
        own = jnp.full_like(coming.exponent, NOTHING).at[number].set(g.exponent)
        exponent = jnp.maximum(coming.exponent, own)
        d_new = rescale(coming, exponent)
        here = rescale(g, exponent[number])
        d_h = cell.hidden(d_new)
        d_new = cell.with_hidden(d_new, d_h.at[number].add(here.astype(d_h.dtype)))

        _, kept = cell.gate_residuals(params, old, cell.project(params, x), cell.mix(params, old))
        # What the rows share has an axis of one row: JAX can be told to refuse to add it itself.
        of_rows = jax.tree.map(lambda leaf: leaf[None], (old, new, kept))
        adjoint = cell.gate_adjoint(params, *of_rows, d_new)
        joint, z, a = (_side_by_side(part, d_h) for part in (adjoint.joint, adjoint.z, adjoint.a))
        d_old = add_to_hidden(cell, adjoint.old, jnp.concatenate([joint, a], axis=-1) @ w_back)

        delta = Scaled((joint, z, a), exponent)
        total, seen = _terms(cell, params, maps, old, x, delta, total, keep)
        seen = seen._replace(size=_median_size(d_new, exponent))
        return (renormalise(d_old, exponent, 2), total), seen

    like = jax.tree.map(lambda leaf: jnp.zeros((rows.size, *leaf.shape[1:]), leaf.dtype), olds)
    carry = zero(like, (rows.size, xs.shape[1])), zero(maps[:4], ())
    inputs = olds, xs, news, g, rows.row
    (_, total), seen = lax.scan(one_step, carry, inputs, reverse=True)
    return total._replace(mantissa=to_params(cell, params, total.mantissa)), seen


def _terms(
    cell: Any,
    params: PyTree,
    maps: Maps,
    old: PyTree,
    x: Array,
    delta: Scaled,
    total: Scaled,
    keep: bool,
) -> tuple[Scaled, _Seen]:
    """What a step contributes for each row, from δ ``[R, B, gates]``; the gradient of the maps grows by it."""
    h = cell.hidden(old)
    logs = log_contributions(cell, params, x[None], h[None], delta)
    top = delta.exponent.max(axis=1)
    at_top = rescale(delta, jnp.broadcast_to(top[:, None], delta.exponent.shape))
    whole = _summed(Scaled(at_top, top))
    own = Scaled(_to_maps(maps, h, x, whole.mantissa), whole.exponent)
    terms = None
    if keep:
        each = jax.vmap(functools.partial(_to_maps, maps, h, x))(at_top)
        terms = to_params(cell, params, plain(Scaled(each, top)))
    return add(total, own), _Seen(logs, top, terms)


def _side_by_side(blocks: tuple[Array, ...], like: Array) -> Array:
    return (
        jnp.concatenate(blocks, axis=-1) if blocks else jnp.zeros((*like.shape[:-1], 0), like.dtype)
    )


def _to_maps(
    maps: Maps, h: Array, x: Array, delta: tuple[Array, Array, Array]
) -> tuple[Array | None, ...]:
    """The term of one step for w_x, w_h, b and c: Σ_b of inputs ⊗ δ, ``[B, ...]`` each."""
    joint, z, a = delta
    d_z, d_a = jnp.concatenate([joint, z], axis=-1), jnp.concatenate([joint, a], axis=-1)
    d_w_x = (x.T @ d_z).astype(maps.w_x.dtype)
    d_w_h = (h.T @ d_a).astype(maps.w_h.dtype)
    d_b = None if maps.b is None else d_z.sum(axis=0).astype(maps.b.dtype)
    d_c = None
    if maps.c is not None:
        d_c = d_a.sum(axis=0)[d_a.shape[-1] - maps.c.size :].astype(maps.c.dtype)
    return d_w_x, d_w_h, d_b, d_c


def _summed(terms: Scaled) -> Scaled:
    """The sum over the rows, at the largest of their scales."""
    top = terms.exponent.max()
    at_top = rescale(terms, jnp.broadcast_to(top, terms.exponent.shape))
    return Scaled(jax.tree.map(lambda leaf: leaf.sum(axis=0), at_top), top)


def _median_size(adjoint: PyTree, exponent: Array) -> Array:
    """ln‖·‖ of each row's adjoint, ``[R]``: the lower median over the batch."""
    _, _, norms = state_norms(None, adjoint, exponent, exponent.ndim)
    return median(norms.reshape(norms.shape[0], -1))
