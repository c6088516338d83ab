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
from rnnlab.diagnostics.flow import entering_gradient, loss_gradient
from rnnlab.diagnostics.reach import median
from rnnlab.driver import Course, prepare, run, settle
from rnnlab.engines.fused import one_axis
from rnnlab.engines.plan import before
from rnnlab.engines.steps import add_to_hidden
from rnnlab.gradients import log_contributions, state_norms, to_params
from rnnlab.output import split
from rnnlab.scaled import NOTHING, Scaled, add, log_norm, plain, renormalise, rescale, zero
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
    xs, state, _, _ = prepare(cell, params, xs, state, None, None)
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
    state = settle(cell, params, xs[0], state)
    states, ys = run(cell, params, xs, state, Course(every=True))
    _, g, args_gradient = loss_gradient(loss, ys, loss_args, of_args)
    g = entering_gradient(g)
    last = np.array([steps[-1] for steps in np.array_split(np.arange(1, len(xs) + 1), rows)])
    row = jnp.asarray(np.searchsorted(last, np.arange(1, len(xs) + 1)))
    olds = before(state, states, False)
    total, seen = _back(cell, params, (olds, xs, states), g, row, rows, keep)
    in_rows = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), seen)
    return BpttContributions(
        jnp.asarray(last), in_rows.logs, in_rows.size, in_rows.terms, plain(total), args_gradient
    )


def whole_gradient(cell: Cell, params: PyTree, steps: tuple, g: Scaled) -> Scaled:
    """∂L/∂θ from the ``steps`` (the states before, the inputs, the states after) and ∂L/∂y, free of overflow."""
    return _back(cell, params, steps, g, jnp.zeros(len(steps[1]), jnp.int32), 1, False)[0]


def _back(
    cell: Cell, params: PyTree, steps: tuple, g: Scaled, row: Array, rows: int, keep: bool
) -> tuple[Scaled, _Seen]:
    """∂L/∂θ, and what each step gives for each row; ``row`` says which row the loss of a step belongs to."""
    back = _step_back if map_leaves(cell, params) is None else _fused_back
    return back(cell, params, steps, g, row, rows, keep)


def _step_back(
    cell: Cell, params: PyTree, steps: tuple, g: Scaled, row: Array, rows: int, keep: bool
) -> tuple[Scaled, _Seen]:
    """For any cell: the derivative of the whole step, for all rows, one step after the other."""
    olds, xs, _ = steps
    start = jax.tree.map(lambda leaf: leaf[0], olds)
    batch = xs.shape[1:-1]
    lead = len(batch) + 1  # the rows, and the batch
    parts = split(cell.step, params, start, xs[0])

    def one_step(
        carry: tuple[Scaled, Scaled], inputs: tuple
    ) -> tuple[tuple[Scaled, Scaled], _Seen]:
        adjoint, total = carry
        (old, x), g, number = inputs
        after, f_back = jax.vjp(parts.state, params, old, x)
        _, y_back = jax.vjp(parts.output, params, old, x, after)
        f_back, y_back = jax.vmap(f_back), jax.vmap(y_back)

        own = Scaled(
            jnp.zeros((rows, *g.mantissa.shape), g.mantissa.dtype).at[number].set(g.mantissa),
            jnp.full((rows, *batch), NOTHING, jnp.int32).at[number].set(g.exponent),
        )
        exponent = jnp.maximum(adjoint.exponent, own.exponent)
        at_state, at_output = rescale(adjoint, exponent), rescale(own, exponent)
        _, d_old, _, d_after = y_back(at_output)
        at_state = jax.tree.map(jnp.add, at_state, d_after)
        d_old = jax.tree.map(jnp.add, d_old, f_back(at_state)[1])

        # The parameters are shared by the batch, so their part is taken at the batch's largest scale.
        top = exponent.reshape(rows, -1).max(axis=1)
        shift = jnp.broadcast_to(top.reshape(-1, *(1,) * len(batch)), exponent.shape)
        at_state_top = rescale(Scaled(at_state, exponent), shift)
        d_params = jax.tree.map(
            jnp.add, f_back(at_state_top)[0], y_back(rescale(Scaled(at_output, exponent), shift))[0]
        )
        terms = Scaled(d_params, top)
        logs = jax.tree.map(lambda leaf: log_norm(leaf, top, 1), d_params)
        size = _median_size(at_state, exponent)
        seen = _Seen(logs, size, plain(terms) if keep else None)
        return (renormalise(d_old, exponent, lead), add(total, _summed(terms))), seen

    none = jax.tree.map(lambda leaf: jnp.zeros((rows, *leaf.shape), leaf.dtype), start)
    carry = zero(none, (rows, *batch)), zero(params, ())
    (_, total), seen = lax.scan(one_step, carry, ((olds, xs), g, row), reverse=True)
    return total, seen


def _fused_back(
    cell: Any, params: PyTree, steps: tuple, g: Scaled, row: Array, rows: int, keep: bool
) -> tuple[Scaled, _Seen]:
    """For cells whose gate has its adjoint: gates are the rows' common ones, and terms are not formed but measured."""
    xs = steps[1]
    olds, xs, news, g = one_axis(xs.shape[1:-1], 1, (*steps, g))
    maps = cell.maps(params)
    w_back = maps.w_h.T

    def one_step(
        carry: tuple[Scaled, Scaled], inputs: tuple
    ) -> tuple[tuple[Scaled, Scaled], _Seen]:
        (adjoint, total), (old, x, new, g, number) = carry, inputs
        own = jnp.full_like(adjoint.exponent, NOTHING).at[number].set(g.exponent)
        exponent = jnp.maximum(adjoint.exponent, own)
        d_new = rescale(adjoint, exponent)
        here = rescale(g, exponent[number])
        d_h = cell.hidden(d_new)
        d_new = cell.with_hidden(d_new, d_h.at[number].add(here.astype(d_h.dtype)))

        _, kept = cell.gate_residuals(params, old, cell.project(params, x), cell.mix(params, old))
        # What the rows share has an axis of one row: JAX can be told to refuse to add it itself.
        of_rows = jax.tree.map(lambda leaf: leaf[None], (old, new, kept))
        adj = cell.gate_adjoint(params, *of_rows, d_new)
        joint, z, a = (_side_by_side(part, d_h) for part in (adj.joint, adj.z, adj.a))
        d_old = add_to_hidden(cell, adj.old, jnp.concatenate([joint, a], axis=-1) @ w_back)
        h = cell.hidden(old)

        delta = Scaled((joint, z, a), exponent)
        logs = log_contributions(cell, params, x[None], h[None], delta)
        top = exponent.max(axis=1)
        at_top = rescale(delta, jnp.broadcast_to(top[:, None], exponent.shape))
        whole = _summed(Scaled(at_top, top))
        d_maps = _to_maps(maps, h, x, whole.mantissa)
        terms = None
        if keep:
            each = jax.vmap(functools.partial(_to_maps, maps, h, x))(at_top)
            terms = to_params(cell, params, plain(Scaled(each, top)))
        new_total = add(total, Scaled(d_maps, whole.exponent))
        return (renormalise(d_old, exponent, 2), new_total), _Seen(
            logs, _median_size(d_new, exponent), terms
        )

    none = jax.tree.map(lambda leaf: jnp.zeros((rows, *leaf.shape[1:]), leaf.dtype), olds)
    carry = zero(none, (rows, xs.shape[1])), zero(maps[:4], ())
    (_, total), seen = lax.scan(one_step, carry, (olds, xs, news, g, row), reverse=True)
    return total._replace(mantissa=to_params(cell, params, total.mantissa)), seen


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
