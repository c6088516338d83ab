"""What truncated backpropagation through time loses."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab import _check
from rnnlab._functions import ByValue
from rnnlab._results import result
from rnnlab.diagnostics.gradient.contributions import prepared, whole_gradient
from rnnlab.driver import trajectory
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
    """The gradient of truncated backpropagation through time beside the full one, for N truncations.

    Attributes:
        steps: ``[N]``, K: how many steps each loss reaches back; 1 is only the step at which it arises.
        cosine: ``[N]``, the cosine between the truncated and the full gradient of all parameters
            together; 0 where one of them is zero.
        relative_norm: ``[N]``, the norm of the truncated gradient over that of the full one; 0 where
            both are zero.
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
        near = np.flatnonzero(np.asarray(self.cosine) >= 0.99)
        if not near.size:
            return f"no truncation up to {int(self.steps[-1])} steps has a cosine of 0.99."
        return f"{int(self.steps[near[0]])} steps give the direction (a cosine of 0.99)."


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
    """How far the gradient of truncated backpropagation through time points from the full one, and how long it is.

    Truncated to K steps the gradient is Σₜ Σₖ>ₜ₋ₖ ∂E_t/∂sₜ · ∂sₜ/∂sₖ · ∂⁺sₖ/∂θ: the terms of
    :func:`bptt_contributions` with a lag below K (Williams & Peng 1990; the rest is its bias: Tallec & Ollivier 2017,
    arXiv 1705.08209). All steps go back together, one lag after the other: time goes with T times the largest K.

    Args:
        cell, params, xs, loss, loss_args, initial_state: as for :func:`bptt_contributions`.
        steps: the truncations K, each in 1..T.
        differentiate_loss_args: also returns the gradient with respect to ``loss_args``.

    Returns:
        A :class:`TruncationBias`.

    Raises:
        ValueError: as :func:`bptt_contributions` does, and for a truncation that is not in 1..T.
    """
    xs, state = prepared(cell, params, xs, initial_state)
    wanted = tuple(sorted({_check.positive_int("each of steps", number) for number in steps}))
    if not wanted or wanted[-1] > xs.shape[0]:
        raise ValueError(
            f"steps are {wanted}; give at least one, and none beyond the {xs.shape[0]} steps of xs"
        )
    loss_args = _check.loss_function(loss, loss_args)
    given = {"loss": ByValue(loss), "steps": wanted, "of_args": differentiate_loss_args}
    return _truncated(cell, params, xs, state, loss_args, **given)


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
    olds, states = run.olds, run.states
    _, g, args_gradient = loss_gradient(loss, run.ys, loss_args, of_args)
    g = entering_gradient(g)
    lead = g.exponent.ndim  # time, and the batch
    parts = split(cell.step, params, run.start, xs[0])
    all_states = jax.vmap(parts.state, (None, 0, 0))
    all_outputs = jax.vmap(parts.output, (None, 0, 0, 0))
    _, f_back = jax.vjp(lambda params, olds: all_states(params, olds, xs), params, olds)
    _, y_back = jax.vjp(
        lambda params, olds, states: all_outputs(params, olds, xs, states), params, olds, states
    )
    _, beside, here = y_back(g.mantissa)
    here = lax.optimization_barrier(
        here
    )  # what is zero in it would be scaled while compiling: seconds

    def earlier(adjoint: PyTree, exponent: Array) -> Scaled:
        """What arrives at step k + 1, at step k."""
        last = jax.tree.map(
            lambda leaf: jnp.concatenate([leaf[1:], jnp.zeros_like(leaf[:1])]), adjoint
        )
        return renormalise(
            last, jnp.concatenate([exponent[1:], jnp.full_like(exponent[:1], NOTHING)]), lead
        )

    def one_lag(
        carry: tuple[Scaled, Scaled, PyTree], slot: Array
    ) -> tuple[tuple[Scaled, Scaled, PyTree], None]:
        adjoint, window, kept = carry
        total = add(window, adjoint)
        window = renormalise(total.mantissa, total.exponent, lead)
        kept = jax.tree.map(lambda rows, new: rows.at[slot].set(new, mode="drop"), kept, window)
        return (earlier(f_back(adjoint.mantissa)[1], adjoint.exponent), window, kept), None

    nothing = zero(states, g.exponent.shape)
    room = jax.tree.map(lambda leaf: jnp.zeros((len(steps), *leaf.shape), leaf.dtype), nothing)
    first = renormalise(here, g.exponent, lead)
    # The first step back is taken on its own: the output may owe something to the state before its step directly.
    (_, window, room), _ = one_lag(
        (first, nothing, room), jnp.int32(0 if steps[0] == 1 else len(steps))
    )
    second = earlier(jax.tree.map(jnp.add, f_back(here)[1], beside), g.exponent)
    count = np.arange(2, steps[-1] + 1)
    slots = np.where(np.isin(count, steps), np.searchsorted(steps, count), len(steps))
    (_, _, windows), _ = lax.scan(one_lag, (second, window, room), jnp.asarray(slots))

    def to_params(window: Scaled) -> Scaled:
        top = jnp.maximum(window.exponent.max(), g.exponent.max())
        shift = jnp.broadcast_to(top, g.exponent.shape)
        through_state = f_back(rescale(window, shift))[0]
        through_output = y_back(rescale(g, shift))[0]
        return Scaled(jax.tree.map(jnp.add, through_state, through_output), top)

    truncated = lax.map(to_params, windows)
    full = whole_gradient(cell, params, run, g)
    unit, log_full = _unit(full)
    units, logs = jax.vmap(_unit)(truncated)
    products = jax.tree.map(
        lambda each, one: jnp.sum(each * one[None], axis=tuple(range(1, each.ndim))), units, unit
    )
    cosine = sum(jax.tree.leaves(products), jnp.zeros((), log_full.dtype))
    both = jnp.isfinite(logs) & jnp.isfinite(log_full)
    return TruncationBias(
        steps=jnp.asarray(steps),
        cosine=cosine,
        relative_norm=jnp.where(both, jnp.exp(jnp.where(both, logs - log_full, 0)), 0),
        truncated=jax.vmap(plain)(truncated),
        gradient=plain(full),
        loss_args_gradient=args_gradient,
    )


def _unit(value: Scaled) -> tuple[PyTree, Array]:
    """The direction of ``value``, a tree of length one, and ln‖value‖; zero and −inf of zero."""
    own = renormalise(value.mantissa, value.exponent, 0)
    each = [
        log_norm(leaf, jnp.zeros_like(own.exponent), 0) for leaf in jax.tree.leaves(own.mantissa)
    ]
    log = merge(each)
    length = jnp.where(log == -jnp.inf, 1, jnp.exp(log))
    unit = jax.tree.map(lambda leaf: leaf / length.astype(leaf.dtype), own.mantissa)
    return unit, log + math.log(2) * own.exponent.astype(log.dtype)
