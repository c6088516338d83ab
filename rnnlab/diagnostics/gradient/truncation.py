"""The bias of truncated backpropagation through time."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab import _check, _wording
from rnnlab._functions import ByValue
from rnnlab._results import result
from rnnlab.diagnostics.gradient.contributions import prepared, whole_gradient
from rnnlab.driver import Trajectory, trajectory
from rnnlab.gradients.loss import entering_gradient, loss_gradient
from rnnlab.gradients.scaled import (
    NOTHING,
    Scaled,
    add,
    log_norm,
    merge,
    plain,
    renormalise,
    rescale,
    zero,
)
from rnnlab.gradients.split import split
from rnnlab.typing import Array, Cell, PyTree


@result
class TruncationBias(NamedTuple):
    """The gradient of truncated backpropagation through time and the full one, for N truncations.

    Attributes:
        steps: ``[N]``, K: how many steps each loss reaches back; 1 is only the step at which it
            arises.
        cosine: ``[N]``, the cosine between the truncated and the full gradient of all parameters
            together; 0 where one of them is zero.
        relative_norm: ``[N]``, the norm of the truncated gradient over that of the full one; 0
            where both are zero.
        truncated: ``[N, *parameter]``, the truncated gradients.
        gradient: ∂L/∂θ, like the parameters.
        loss_args_gradient: ∂L/∂ of each of ``loss_args``, where asked for; else None.
    """

    steps: Array
    cosine: Array
    relative_norm: Array
    truncated: PyTree
    gradient: PyTree
    loss_args_gradient: PyTree | None

    def finding(self) -> str:
        """The shortest truncation that keeps the direction."""
        close = np.flatnonzero(np.asarray(self.cosine) >= 0.99)
        if not close.size:
            longest = int(self.steps[-1])
            return f"no truncation up to {longest} steps has a cosine of 0.99."
        shortest = int(self.steps[close[0]])
        length = _wording.steps(shortest)
        return f"a truncation to {length} keeps the direction (cosine of at least 0.99)."


def truncation_bias(
    cell: Cell,
    params: PyTree,
    xs: Array,
    loss: Callable[..., Array],
    *loss_args: Any,
    steps: Sequence[int],
    initial_state: PyTree | None = None,
    differentiate_loss_args: bool = False,
) -> TruncationBias:
    """Direction and size of the gradient of truncated backpropagation, relative to the full one.

    Truncated to K steps the gradient is Σₜ Σₖ ∂E_t/∂sₜ · ∂sₜ/∂sₖ · ∂⁺sₖ/∂θ over t − K < k ≤ t: the
    terms of :func:`bptt_contributions` with a lag below K (Williams & Peng 1990; the rest is its
    bias: Tallec & Ollivier 2017, arXiv 1705.08209). All steps go back together, one lag at a time:
    time grows with T times the largest K.

    Args:
        cell, params, xs, loss, loss_args, initial_state: as for :func:`bptt_contributions`.
        steps: the truncations K, each in 1..T.
        differentiate_loss_args: also returns the gradient with respect to ``loss_args``.

    Returns:
        A :class:`TruncationBias`.

    Raises:
        ValueError: as :func:`bptt_contributions` does, and for a truncation that is not in 1..T.

    >>> import jax, rnnlab
    >>> cell = rnnlab.GRU(16)
    >>> params = cell.init(jax.random.key(0), input_size=4)
    >>> xs = jax.random.normal(jax.random.key(1), (60, 8, 4))
    >>> bias = truncation_bias(cell, params, xs, lambda ys: (ys**2).mean(), steps=[1, 10, 60])
    >>> bool(bias.cosine[-1] > 0.999)
    True
    """
    xs, state = prepared(cell, params, xs, initial_state)
    truncations = {_check.positive_int("each of steps", count) for count in steps}
    ordered = tuple(sorted(truncations))
    if not ordered or ordered[-1] > xs.shape[0]:
        raise ValueError(
            f"steps are {ordered}; give at least one, and none beyond the {xs.shape[0]} steps of xs"
        )
    loss_args = _check.loss_function(loss, loss_args)
    return _truncated(
        cell,
        params,
        xs,
        state,
        loss_args,
        loss=ByValue(loss),
        steps=ordered,
        of_args=differentiate_loss_args,
    )


@functools.partial(jax.jit, static_argnames=("cell", "loss", "steps", "of_args"))
def _truncated(
    cell: Cell,
    params: PyTree,
    xs: Array,
    state: PyTree,
    loss_args: tuple[Any, ...],
    *,
    loss: Callable[..., Array],
    steps: tuple[int, ...],
    of_args: bool,
) -> TruncationBias:
    run = trajectory(cell, params, xs, state)
    _, g, args_gradient = loss_gradient(loss, run.ys, loss_args, of_args)
    g = entering_gradient(g)
    step_back = _step_derivatives(cell, params, run, xs)
    windows = _windows(step_back, run.states, g, steps)

    def to_params(window: Scaled) -> Scaled:
        return _window_gradient(step_back, window, g)

    # One at a time: in parallel N truncations would need N times the memory of a backward pass.
    truncated = lax.map(to_params, windows)
    full = whole_gradient(cell, params, run, g)
    cosine, relative_norm = _compare(truncated, full)
    return TruncationBias(
        steps=jnp.asarray(steps),
        cosine=cosine,
        relative_norm=relative_norm,
        truncated=jax.vmap(plain)(truncated),
        gradient=plain(full),
        loss_args_gradient=args_gradient,
    )


class _StepDerivatives(NamedTuple):
    """The transposed derivatives of all steps of a run at once, ``[T, ...]`` each."""

    # From ∂L/∂sₜ to θ, summed over the steps, and sₜ₋₁.
    state_back: Callable[[PyTree], tuple[PyTree, PyTree]]
    # From ∂L/∂yₜ to θ, sₜ₋₁ and sₜ.
    output_back: Callable[[Array], tuple[PyTree, PyTree, PyTree]]


def _step_derivatives(
    cell: Cell,
    params: PyTree,
    run: Trajectory,
    xs: Array,
) -> _StepDerivatives:
    parts = split(cell.step, params, run.start, xs[0])
    all_states = jax.vmap(parts.state, (None, 0, 0))
    all_outputs = jax.vmap(parts.output, (None, 0, 0, 0))

    def states(params: PyTree, olds: PyTree) -> PyTree:
        return all_states(params, olds, xs)

    def outputs(params: PyTree, olds: PyTree, news: PyTree) -> Array:
        return all_outputs(params, olds, xs, news)

    _, state_back = jax.vjp(states, params, run.olds)
    _, output_back = jax.vjp(outputs, params, run.olds, run.states)
    return _StepDerivatives(state_back, output_back)


def _windows(
    step_back: _StepDerivatives,
    states: PyTree,
    g: Scaled,
    steps: tuple[int, ...],
) -> Scaled:
    """The adjoint of every step from the losses of the next K steps, for each K, ``[N, T, ...]``.

    After lag k the adjoint of step t is what the loss of step t + k sends back to it, so the sum
    over the lags below K is the adjoint that truncation to K steps leaves.
    """
    lead = g.exponent.ndim  # time, and the batch
    _, d_olds, d_news = step_back.output_back(g.mantissa)
    # Where XLA sees that part of it is constantly zero, it scales that part while it compiles,
    # which takes seconds.
    d_news = lax.optimization_barrier(d_news)

    def one_lag(
        carry: tuple[Scaled, Scaled, PyTree], slot: Array
    ) -> tuple[tuple[Scaled, Scaled, PyTree], None]:
        adjoint, window, kept = carry
        total = add(window, adjoint)
        window = renormalise(total.mantissa, total.exponent, lead)

        def keep(rows: Array, row: Array) -> Array:
            return rows.at[slot].set(row, mode="drop")

        kept = jax.tree.map(keep, kept, window)
        _, d_state = step_back.state_back(adjoint.mantissa)
        return (_one_step_earlier(d_state, adjoint.exponent), window, kept), None

    # A lag whose window is not asked for gets a slot behind the last one, where writing is dropped.
    dropped = len(steps)

    def room(leaf: Array) -> Array:
        return jnp.zeros((len(steps), *leaf.shape), leaf.dtype)

    nothing = zero(states, g.exponent.shape)
    kept = jax.tree.map(room, nothing)
    first = renormalise(d_news, g.exponent, lead)
    # The first step back stands outside of the scan, since the output may also depend directly on
    # the state before its step.
    slot = jnp.int32(0 if steps[0] == 1 else dropped)
    (_, window, kept), _ = one_lag((first, nothing, kept), slot)
    _, d_state = step_back.state_back(d_news)
    d_state = jax.tree.map(jnp.add, d_state, d_olds)
    second = _one_step_earlier(d_state, g.exponent)
    counts = np.arange(2, steps[-1] + 1)
    slots = np.where(np.isin(counts, steps), np.searchsorted(steps, counts), dropped)
    carry = (second, window, kept)
    (_, _, windows), _ = lax.scan(one_lag, carry, jnp.asarray(slots))
    return windows


def _one_step_earlier(d_olds: PyTree, exponent: Array) -> Scaled:
    """∂L/∂sₜ₋₁ of each step t, moved to the place of step t − 1; zero for the last step."""

    def earlier(leaf: Array) -> Array:
        return jnp.concatenate([leaf[1:], jnp.zeros_like(leaf[:1])])

    adjoint = jax.tree.map(earlier, d_olds)
    rest = exponent[1:]
    nothing = jnp.full_like(exponent[:1], NOTHING)
    return renormalise(adjoint, jnp.concatenate([rest, nothing]), exponent.ndim)


def _window_gradient(step_back: _StepDerivatives, window: Scaled, g: Scaled) -> Scaled:
    """∂L/∂θ through the adjoints of a window, and directly through the outputs."""
    # The batch shares the parameters, so their part is computed at one scale: the largest.
    top = jnp.maximum(window.exponent.max(), g.exponent.max())
    shift = jnp.broadcast_to(top, g.exponent.shape)
    through_state = step_back.state_back(rescale(window, shift))[0]
    through_output = step_back.output_back(rescale(g, shift))[0]
    return Scaled(jax.tree.map(jnp.add, through_state, through_output), top)


def _compare(truncated: Scaled, full: Scaled) -> tuple[Array, Array]:
    """Cosine and relative norm of the truncated gradients, ``[N]`` each."""
    full_unit, log_full = _unit(full)
    units, log_norms = jax.vmap(_unit)(truncated)

    def product(rows: Array, row: Array) -> Array:
        features = tuple(range(1, rows.ndim))
        return jnp.sum(rows * row[None], axis=features)

    products = jax.tree.map(product, units, full_unit)
    cosine = sum(jax.tree.leaves(products), jnp.zeros((), log_full.dtype))
    both = jnp.isfinite(log_norms) & jnp.isfinite(log_full)
    # The inner ``where`` avoids −inf − (−inf), which is NaN.
    ratio = jnp.exp(jnp.where(both, log_norms - log_full, 0))
    return cosine, jnp.where(both, ratio, 0)


def _unit(value: Scaled) -> tuple[PyTree, Array]:
    """The direction of ``value``, a tree of length one, and ln‖value‖; zero and −inf of zero."""
    scaled = renormalise(value.mantissa, value.exponent, 0)
    leaves = jax.tree.leaves(scaled.mantissa)
    log_norms = [log_norm(leaf, jnp.zeros_like(scaled.exponent), 0) for leaf in leaves]
    log = merge(log_norms)
    length = jnp.where(log == -jnp.inf, 1, jnp.exp(log))

    def divided(leaf: Array) -> Array:
        return leaf / length.astype(leaf.dtype)

    unit = jax.tree.map(divided, scaled.mantissa)
    shift = math.log(2) * scaled.exponent.astype(log.dtype)
    return unit, log + shift
