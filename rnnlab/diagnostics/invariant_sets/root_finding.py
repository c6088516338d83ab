"""Batched search for states with Fᵖ(h) = h: Levenberg–Marquardt and pseudo-transient continuation."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.diagnostics.invariant_sets.linear_models import Dense, Iterative, Model
from rnnlab.diagnostics.state.state_map import state_map
from rnnlab.engines.sequence import select
from rnnlab.typing import Array, Cell, PyTree

STUCK = 1e12
"""A start is given up where the damping, or the inverse of the time step, comes to this."""

PATIENCE = 10
"""A start is given up where q has not halved in this many steps of Levenberg–Marquardt."""

LONGEST_STEP = 1e16
"""The longest time step: beyond it a step is Newton's to rounding."""

ROOM = 2**20
"""Entries of all Jacobians that are worked on at once, which sets the number of starts in work."""

ROUNDINGS = 8
"""A search ends where the residual is at most this many roundings."""


class Ends(NamedTuple):
    """Where each of S starts came to."""

    states: Array  # h [S, n]
    q: Array  # ½ ‖Fᵖ(h) − h‖² [S]
    spread: Array  # ‖∂Fᵖ/∂h‖² [S], the sum of squares


class Task(NamedTuple):
    """A search as it is traced."""

    model: Model
    starts: Array  # [S, n]
    order: Array  # [S], numbers of starts
    wanted: Array  # how many of these, from the first on, are to be done
    box: tuple[Array, Array]  # the least and the greatest value of each number of a state, [n]
    steps: Array  # how many steps a start may take
    precision: Array  # ε of the floats in which F is computed
    transient: Array  # which of the two methods


class Slots(NamedTuple):
    """The W starts in work."""

    start: Array  # [W], the number of each; S where there is none
    fresh: Array  # [W], whether its first state is not evaluated yet
    trial: Array  # [W, n], the state to be evaluated
    h: Array  # [W, n], the state reached
    g: Array  # [W, n], G(h)
    model: Any  # A at h, with W as the leading axis
    q: Array  # [W]
    control: Array  # [W], the damping or the time step
    tried: Array  # [W], steps so far
    before: Array  # [W], q some steps ago
    done: Array  # [W], whether the start is finished


@functools.partial(jax.jit, static_argnames=("cell", "longest", "dense"))
def descend(
    cell: Cell,
    params: PyTree,
    x: Array,
    like: PyTree,
    starts: Array,
    todo: tuple[Array, Array],
    period: Array,
    box: tuple[Array, Array],
    steps: Array,
    precision: Array,
    transient: Array,
    *,
    longest: int,
    dense: bool,
) -> Ends:
    """Takes ``starts [S, n]`` to states with Fᵖ(h) = h, where the ``period`` p is at most ``longest``.

    Levenberg–Marquardt finds points of every kind. Its step is the δ that minimises ‖A δ + G‖² + μ ‖δ‖², with
    G(h) = Fᵖ(h) − h, A = ∂G/∂h and μ a multiple of ‖G‖² that falls with success (Levenberg 1944; Marquardt 1963; Moré
    1978; Yamashita & Fukushima 2001), and q = ½ ‖G‖² falls with every step taken. It can end in a minimum with q > 0,
    and it creeps where gates are nearly closed: q is tiny there, but its slope is, too.

    With ``transient``, the step is one of implicit Euler along dh/dt = W G(h), where W divides each row by the norm of
    that row of A, and the time step grows as W G falls, until it is Newton's (pseudo-transient continuation, Kelley &
    Keyes 1998, SIAM J. Numer. Anal. 35, with local time steps). Where a gate keeps all but 1e-8 of a number, its rows
    of G and A are 1e-8 of the others; W makes up for it. It finds the points that trajectories come to.

    W starts are in work at a time, and a slot whose start is finished takes the next. So the work is that of the steps
    that are needed, where a batch that waits for its slowest member would take several times as long.

    Args:
        cell: as for :func:`fixed_points`, like ``params`` and ``x``; all are of the dtype of the starts.
        params: its parameters.
        x: the input that is held constant, ``[I]``.
        like: a state, for its structure.
        starts: states as vectors.
        todo: numbers of starts ``[S]``, and how many of them, from the first on, are searched from.
        period: p.
        box: the least and the greatest value of each number of a state; the search stays between them.
        steps: how many a start may take.
        precision: ε of the floats in which F is computed.
        transient: which of the two methods.
        longest: bound of the period.
        dense: whether A is a matrix, or products with vectors.

    Returns:
        Where the starts came to; q is inf for those that were not to be searched from.
    """
    flat, _, _ = state_map(cell, params, x[None], like)
    count, size = starts.shape
    model = _model(flat.step, x, period, longest, dense)
    task = Task(model, starts, *todo, box, steps, precision, transient)
    width = min(count, max(2, min(256, ROOM // size ** (2 if dense else 1))))

    def body(carry: tuple[Array, Slots, Array]) -> tuple[Array, Slots, Array]:
        ends, slots, given = carry
        slots, given = _refill(task, slots, given)
        slots = _judge(task, _advance(task, slots))
        spread = jax.vmap(model.spread)(slots.model)
        # One array for all that is kept: each scatter costs as much to compile as a cell.
        reached = jnp.concatenate([slots.h, slots.q[:, None], spread[:, None]], axis=1)
        ends = ends.at[slots.start].set(reached, mode="drop")
        return ends, _look(task, slots, spread), given

    def unfinished(carry: tuple[Array, Slots, Array]) -> Array:
        _, slots, given = carry
        return (given < task.wanted) | ~slots.done.all()

    unknown = jnp.array([jnp.inf, 0], starts.dtype)
    ends = jnp.concatenate([starts, jnp.broadcast_to(unknown, (count, 2))], axis=1)
    nothing = jnp.zeros((), todo[0].dtype)
    ends, _, _ = lax.while_loop(unfinished, body, (ends, _empty(task, width), nothing))
    return Ends(ends[:, :size], ends[:, size], ends[:, size + 1])


def _model(
    step: Callable[[Array, Array], Array], x: Array, period: Array, longest: int, dense: bool
) -> Model:
    """G(h) = Fᵖ(h) − h, with a local model that suits the size of the state."""

    def after(h: Array) -> Array:
        return lax.fori_loop(0, period, lambda _, h: step(h, x), h)

    def after_bounded(h: Array) -> Array:
        # A loop of unknown length has no transpose: run the longest, and skip what is too much.
        return lax.scan(
            lambda h, number: (jnp.where(number < period, step(h, x), h), None),
            h,
            jnp.arange(longest),
        )[0]

    if dense:
        return Dense(lambda h: after(h) - h)
    return Iterative(lambda h: after_bounded(h) - h)


def _empty(task: Task, width: int) -> Slots:
    """Slots without a start."""
    count, size = task.starts.shape
    dtype = task.starts.dtype
    vectors, numbers = jnp.zeros((width, size), dtype), jnp.zeros(width, dtype)
    _, model = jax.eval_shape(jax.vmap(task.model.at), vectors)
    return Slots(
        start=jnp.full(width, count, task.order.dtype),
        fresh=jnp.zeros(width, bool),
        trial=vectors,
        h=vectors,
        g=vectors,
        model=jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), model),
        q=numbers,
        control=numbers,
        tried=jnp.zeros(width, task.order.dtype),
        before=numbers,
        done=jnp.ones(width, bool),
    )


def _refill(task: Task, slots: Slots, given: Array) -> tuple[Slots, Array]:
    """Slots that are done with their next start, and how many starts are given out by now."""
    count, done = len(task.starts), slots.done
    turn = given + jnp.cumsum(done, dtype=given.dtype) - 1
    following = task.order[jnp.minimum(turn, count - 1)]
    start = jnp.where(turn < task.wanted, following, count).astype(slots.start.dtype)
    fresh = slots._replace(
        start=start,
        fresh=jnp.ones_like(slots.fresh),
        h=task.starts[jnp.minimum(start, count - 1)],
        q=jnp.full_like(slots.q, jnp.inf),
        control=jnp.ones_like(slots.control),
        tried=jnp.zeros_like(slots.tried),
        before=jnp.full_like(slots.q, jnp.inf),
    )
    return select(done, fresh, slots), given + done.sum(dtype=given.dtype)


def _advance(task: Task, slots: Slots) -> Slots:
    """The state that each start tries next."""

    def damped(slots: Slots) -> Array:
        mu = slots.control * jnp.sum(slots.g**2, axis=-1)
        return jax.vmap(task.model.damped)(slots.model, slots.g, mu)

    def implicit(slots: Slots) -> Array:
        weights = _weights(task, slots.model)
        return jax.vmap(task.model.implicit)(slots.model, slots.g, weights, slots.control)

    step = lax.cond(task.transient, implicit, damped, slots)
    lo, hi = task.box
    trial = jnp.clip(slots.h + step, lo[None], hi[None])
    return slots._replace(trial=jnp.where(slots.fresh[:, None], slots.h, trial))


def _judge(task: Task, slots: Slots) -> Slots:
    """Takes the step to the trial state where it is a good one, and sets the next damping or time step."""
    g, model = jax.vmap(task.model.at)(slots.trial)
    q = 0.5 * jnp.sum(g**2, axis=-1)
    fall = _size(task, slots, slots.g, slots.h) / _size(task, slots, g, slots.trial)
    # A time step that is too long for an unstable direction leads out of the box, and so nowhere.
    moved = (slots.trial != slots.h).any(axis=-1)
    good = jnp.where(task.transient, moved & (fall > 0.5), q < slots.q)
    good = jnp.where(slots.fresh, jnp.isfinite(q), good)

    damping = slots.control * jnp.where(good, 0.1, 10)
    dt = slots.control * jnp.where(good, jnp.minimum(fall, 10), 0.25)
    control = jnp.where(task.transient, jnp.minimum(dt, LONGEST_STEP), damping)
    reached = slots._replace(h=slots.trial, g=g, model=model, q=q)
    slots = select(good, reached, slots)
    return slots._replace(
        control=jnp.where(slots.fresh, slots.control, control),
        fresh=slots.fresh & ~good,
        tried=slots.tried + 1,
    )


def _size(task: Task, slots: Slots, g: Array, h: Array) -> Array:
    """‖W G‖ with the weights of each slot, of all that is more than rounding, which W makes large as well."""
    rounded = jnp.abs(g) <= ROUNDINGS * task.precision * (1 + jnp.abs(h))
    return jnp.linalg.norm(_weights(task, slots.model) * jnp.where(rounded, 0, g), axis=-1)


def _look(task: Task, slots: Slots, spread: Array) -> Slots:
    """Marks the slots that are done with their start: at a solution, stuck, or after all their steps."""
    arrived = slots.q <= rounding(slots.h, spread, ROUNDINGS * task.precision)
    stuck = jnp.where(task.transient, 1 / slots.control, slots.control) > STUCK

    look = slots.tried % PATIENCE == 0
    stale = look & (slots.q > slots.before / 2) & ~task.transient

    # A slot whose first state has no finite value stays fresh, and one without a start has all steps behind it.
    over = slots.fresh | (slots.tried > task.steps) | (slots.start == len(task.starts))
    return slots._replace(
        before=jnp.where(look, slots.q, slots.before), done=arrived | stuck | stale | over
    )


def rounding(h: Any, spread: Any, precision: Any) -> Any:
    """q of a residual that is ``precision`` of the state, for ``h [..., n]`` and ‖∂Fᵖ/∂h‖² ``[...]`` of JAX or NumPy.

    ½ ε² (1 + ‖h‖²/n) (n + ‖∂Fᵖ/∂h‖²): rounding of a number of about ε in each number of the states on the way, which
    the later steps make larger by ∂Fᵖ/∂h.
    """
    size = h.shape[-1]
    scale = 1 + (h**2).sum(axis=-1) / size
    return 0.5 * precision**2 * scale * (size + spread)


def _weights(task: Task, model: Any) -> Array:
    """1/‖Aᵢ‖; rows of A below rounding count as rounding."""
    rows = jax.vmap(task.model.rows)(model)
    return 1 / jnp.maximum(rows, jnp.finfo(rows.dtype).eps)
