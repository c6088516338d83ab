"""Gradient flow: how large the gradient is at every step, and what every step contributes to it."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab import _check
from rnnlab.driver import Course, has_layers, prepare
from rnnlab.gradients import Adjoint, record
from rnnlab.scaled import renormalise
from rnnlab.typing import Array, Cell, Key, PyTree

FELT = math.log(1000)
"""A gradient that has fallen by this much, in nats, is no longer felt: the horizon's threshold of 1/1000."""


class GradientFlow(NamedTuple):
    """Where a gradient comes from and how far back it reaches. Norms are Euclidean, logs natural (nats), lags in steps.

    Per-step norms are ``[T, ...]`` for a cell. For a stack each gets a leading axis, ``[L, T, ...]``, one entry for
    each recurrent layer (direction, of a bidirectional one), and ``decay_per_step`` and ``horizon`` are one for each.
    −inf marks a gradient that is exactly zero, as it is in padding.
    """

    loss: Array
    """L(y₁ … y_T), a scalar."""
    outputs: Array
    """y₁ … y_T, ``[T, ..., O]``."""
    log_norm_state: Array
    """ln‖∂L/∂hₜ‖ for every step and example. h is the state's field h, else what the step returns as its output, else
    the whole state."""
    log_norm_cell: Array | None
    """The same for the rest of the state, an LSTM's cₜ, with hₜ held fixed; None where there is no rest (in a stack:
    NaN for the layers that have none)."""
    log_norm_joint: Array
    """The same for the whole state."""
    log_norm_initial: Array
    """ln‖∂L/∂h₀‖, ``[...]``."""
    log_norm_by_lag: Array
    """``[T]``: the mean over the batch of ln‖∂L/∂h‖ at each lag behind the last step that its example ran; NaN where no
    example is so long."""
    contributions: PyTree
    """ln of the norm of each step's own contribution to ∂L/∂θ, ``[T]``, for every parameter, summed over the batch."""
    contribution_arrays: PyTree | None
    """The contributions themselves, ``[T, *parameter]``, where ``keep_contributions``; else None."""
    gradient: PyTree
    """∂L/∂θ, the sum of the contributions, like the parameters."""
    log_norm_gradient: PyTree
    """ln‖∂L/∂θ‖ for every parameter, finite even where ``gradient`` overflows or underflows."""
    decay_per_step: Array
    """How fast ``log_norm_by_lag`` falls, nats a step: minus the least-squares slope over the lags where it is finite.
    Positive where the gradient vanishes, negative where it explodes; NaN with fewer than two lags."""
    horizon: Any
    """The smallest lag at which ``log_norm_by_lag`` lies below ln(1/1000) under its value at lag 0, else None
    (a tuple for a stack). Under ``jit``, ``vmap`` or ``grad`` an integer array instead, with −1 for None."""
    finite: Array
    """Whether inputs, outputs, loss and gradient are free of NaN and infinity; where False, believe nothing else."""


def gradient_flow(
    cell: Cell,
    params: PyTree,
    xs: Array,
    loss: Callable[[Array], Array],
    initial_state: PyTree | None = None,
    *,
    lengths: Array | None = None,
    resets: Array | None = None,
    reverse: bool = False,
    key: Key | None = None,
    keep_contributions: bool = False,
) -> GradientFlow:
    """Per-step gradient norms and per-step contributions from one compiled backward pass.

    ∂L/∂θ = Σₜ ∂L/∂sₜ · ∂⁺sₜ/∂θ (Pascanu, Mikolov & Bengio 2013, arXiv 1211.5063, eq. 3–5): the norms of the first
    factor say how far back the gradient reaches, the terms of the sum what each step adds to it. ∂L/∂hₜ is the total
    derivative: through the later steps, through the output yₜ and, in a stack, through the layers above. The adjoint
    is carried with an exponent of its own for each example, so that 100 000 steps neither underflow nor overflow.

    Args:
        cell: any cell, stack, bidirectional cell or :class:`rnnlab.Step`.
        params: its parameters.
        xs: inputs, ``[T, ..., I]``.
        loss: ``loss(ys) -> scalar``, with ys ``[T, ..., O]``. A new function is compiled anew: define it once.
        initial_state, lengths, resets, reverse, key: as for :func:`rnnlab.unroll`.
        keep_contributions: also returns the contributions as arrays, T times the memory of the parameters.

    Raises:
        ValueError: as :func:`rnnlab.unroll` does, for a loss that is not a scalar, and for parameters or states that
            are not floats. A NaN raises nothing: it makes ``finite`` False.
    """
    xs, state, lengths, resets = prepare(cell, params, xs, initial_state, lengths, resets)
    _check.linear_adjoint(cell)
    _check.differentiable("params", params)
    _check.differentiable("the state", state)
    _check.batched("the state", state, xs.shape[1:-1])
    flow = _flow(
        cell,
        params,
        xs,
        state,
        lengths,
        resets,
        key,
        loss=loss,
        reverse=reverse,
        keep=keep_contributions,
    )
    if isinstance(flow.horizon, jax.core.Tracer):
        return flow
    horizon = np.asarray(flow.horizon)
    if horizon.ndim == 0:
        return flow._replace(horizon=None if horizon < 0 else int(horizon))
    return flow._replace(horizon=tuple(None if lag < 0 else int(lag) for lag in horizon))


@functools.partial(jax.jit, static_argnames=("cell", "loss", "reverse", "keep"))
def _flow(
    cell: Cell,
    params: PyTree,
    xs: Array,
    state: PyTree,
    lengths: Array | None,
    resets: Array | None,
    key: Key | None,
    *,
    loss: Callable[[Array], Array],
    reverse: bool,
    keep: bool,
) -> GradientFlow:
    ys, back = record(cell, params, xs, state, Course(lengths, resets, key, reverse), keep)
    _check.scalar_loss(loss, ys)
    value, g = jax.value_and_grad(loss)(ys)
    g = lax.optimization_barrier(
        g
    )  # a constant g, as that of a linear loss, would be scaled while compiling: seconds
    backward = back(renormalise(g, jnp.zeros(g.shape[:-1], jnp.int32), g.ndim - 1))
    if not backward.adjoints:
        raise ValueError(
            "the cell has no state, so no gradient flows back in time; give one that remembers"
        )
    adjoint = _as_layers(backward.adjoints) if has_layers(cell) else backward.adjoints[0]
    seen = [xs] if lengths is None else []  # padding may hold anything
    sound = [jnp.isfinite(x).all() for x in (*seen, ys, value)]
    sound += [
        norm < jnp.inf for norm in jax.tree.leaves(backward.log_gradient)
    ]  # False for NaN too
    return GradientFlow(
        loss=value,
        outputs=ys,
        log_norm_state=adjoint.h,
        log_norm_cell=adjoint.c,
        log_norm_joint=adjoint.joint,
        log_norm_initial=adjoint.initial,
        log_norm_by_lag=adjoint.by_lag,
        contributions=backward.log_contributions,
        contribution_arrays=backward.contributions,
        gradient=backward.gradient,
        log_norm_gradient=backward.log_gradient,
        decay_per_step=decay_per_step(adjoint.by_lag),
        horizon=horizon(adjoint.by_lag),
        finite=jnp.stack(sound).all(),
    )


def decay_per_step(by_lag: Array) -> Array:
    """Minus the least-squares slope of log-norms ``[..., T]`` over their lags, nats a step; NaN where none fits."""
    there = jnp.isfinite(by_lag)
    count = there.sum(axis=-1)
    lags = jnp.arange(by_lag.shape[-1], dtype=by_lag.dtype)
    centred = jnp.where(
        there, lags - jnp.mean(lags * jnp.ones_like(by_lag), -1, where=there, keepdims=True), 0
    )
    slope = jnp.sum(centred * jnp.where(there, by_lag, 0), -1) / jnp.sum(centred**2, -1)
    return jnp.where(count < 2, jnp.nan, -slope)


def horizon(by_lag: Array) -> Array:
    """The smallest lag at which log-norms ``[..., T]`` lie more than ln 1000 under lag 0; −1 where there is none."""
    fallen = by_lag < by_lag[..., :1] - FELT
    return jnp.where(fallen.any(axis=-1), fallen.argmax(axis=-1), -1)


def _as_layers(adjoints: tuple[Adjoint, ...]) -> Adjoint:
    """The adjoints of several layers as one with a leading axis; NaN where a layer has no cell state and others do."""
    if any(adjoint.c is not None for adjoint in adjoints):
        adjoints = tuple(
            a if a.c is not None else a._replace(c=jnp.full_like(a.h, jnp.nan)) for a in adjoints
        )
    return jax.tree.map(lambda *layers: jnp.stack(layers), *adjoints)
