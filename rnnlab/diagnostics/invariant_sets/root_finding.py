"""Batched search for states with Fᵖ(h) = h, by damped least squares and implicit Euler."""

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
"""A start is abandoned where the damping, or the inverse of the time step, reaches this."""

PATIENCE = 10
"""A start is abandoned where q has not halved in so many steps of Levenberg–Marquardt."""

LONGEST_STEP = 1e16
"""The longest time step: beyond it a step equals Newton's to rounding."""

ROOM = 2**20
"""Entries of all Jacobians in memory at once, which sets the number of starts in progress."""

ROUNDINGS = 8
"""A search ends where the residual is at most so many roundings."""


class Ends(NamedTuple):
    """The end of the search from each of S starts."""

    states: Array  # h [S, n]
    q: Array  # ½ ‖Fᵖ(h) − h‖² [S]
    spread: Array  # ‖∂Fᵖ/∂h‖² [S], the sum of squares


class Task(NamedTuple):
    """A search as it is traced."""

    model: Model
    starts: Array  # [S, n]
    order: Array  # [S], indices of starts
    # how many of ``order``, from the first on, are searched from
    wanted: Array
    # the smallest and the largest value of each number of a state, [n]
    box: tuple[Array, Array]
    # the largest number of steps from a start
    steps: Array
    # ε of the floats in which F is computed
    precision: Array
    # whether the method is pseudo-transient continuation
    transient: Array


class Slots(NamedTuple):
    """The W starts in progress."""

    # the index of each start, [W]; S where there is none
    start: Array
    # whether its first state is not evaluated yet, [W]
    fresh: Array
    # the state to evaluate next, [W, n]
    trial: Array
    # the last state that was accepted, [W, n]
    h: Array
    g: Array  # G(h) [W, n]
    # A at h, with W as the leading axis
    model: Any
    q: Array  # [W]
    # the damping or the time step, [W]
    control: Array
    # steps so far, [W]
    tried: Array
    # q at the last look at progress, [W]
    before: Array
    # whether the start is finished, [W]
    done: Array


Carry = tuple[Array, Slots, Array]
"""The ends so far, the starts in progress, and the number of starts that are assigned."""


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
    """Moves ``starts [S, n]`` to states with Fᵖ(h) = h, for a ``period`` p of at most ``longest``.

    Levenberg–Marquardt finds points of every kind. Its step is the δ that minimises
    ‖A δ + G‖² + μ ‖δ‖², with G(h) = Fᵖ(h) − h, A = ∂G/∂h and μ a multiple of ‖G‖² that falls with
    success (Levenberg 1944; Marquardt 1963; Moré 1978; Yamashita & Fukushima 2001), and q = ½ ‖G‖²
    falls with every accepted step. It can end in a minimum with q > 0, and it is slow where gates
    are nearly closed: q is tiny there, but so is its slope.

    With ``transient``, the step is one of implicit Euler along dh/dt = W G(h), where W divides each
    row by the norm of that row of A, and the time step grows as W G falls, until it is Newton's
    (pseudo-transient continuation, Kelley & Keyes 1998, SIAM J. Numer. Anal. 35, with local time
    steps). Where a gate keeps all but 1e-8 of a number, its rows of G and A are 1e-8 of the others;
    W compensates for that. The method finds the points that trajectories converge to.

    W starts are in progress at a time, and a slot whose start is finished takes the next. So only
    steps that are needed are computed, where a batch that waits for its slowest member would take
    several times as long.

    Args:
        cell: as for :func:`fixed_points`, like ``params`` and ``x``; all have the starts' dtype.
        params: its parameters.
        x: the input that is held constant, ``[I]``.
        like: a state, for its structure.
        starts: states as vectors.
        todo: indices of starts ``[S]``, and how many of them, from the first on, to search from.
        period: p.
        box: the smallest and the largest value of each number of a state; the search stays between.
        steps: the largest number of steps from a start.
        precision: ε of the floats in which F is computed.
        transient: whether the method is pseudo-transient continuation.
        longest: bound of the period.
        dense: whether A is a matrix, or products with vectors.

    Returns:
        The end of the search from each start; q is inf for those that were not searched from.
    """
    flat, _, _ = state_map(cell, params, x[None], like)
    count, size = starts.shape
    model = _model(flat.step, x, period, longest, dense)
    order, wanted = todo
    task = Task(model, starts, order, wanted, box, steps, precision, transient)
    entries = size**2 if dense else size
    room = max(2, min(256, ROOM // entries))
    width = min(count, room)

    def body(carry: Carry) -> Carry:
        ends, slots, assigned = carry
        slots, assigned = _refill(task, slots, assigned)
        slots = _evaluate(task, _propose(task, slots))
        spread = jax.vmap(model.spread)(slots.model)
        # One array for all that is kept: each scatter costs as much to compile as a cell.
        columns = [slots.h, slots.q[:, None], spread[:, None]]
        reached = jnp.concatenate(columns, axis=1)
        # Slots without a start have index S, which is not a row: they are dropped.
        ends = ends.at[slots.start].set(reached, mode="drop")
        slots = _mark_done(task, slots, spread)
        return ends, slots, assigned

    def unfinished(carry: Carry) -> Array:
        _, slots, assigned = carry
        return (assigned < task.wanted) | ~slots.done.all()

    unknown = jnp.array([jnp.inf, 0], starts.dtype)
    unknown = jnp.broadcast_to(unknown, (count, 2))
    ends = jnp.concatenate([starts, unknown], axis=1)
    nothing = jnp.zeros((), order.dtype)
    first = ends, _empty(task, width), nothing
    ends, _, _ = lax.while_loop(unfinished, body, first)
    return Ends(
        states=ends[:, :size],
        q=ends[:, size],
        spread=ends[:, size + 1],
    )


def _model(
    step: Callable[[Array, Array], Array],
    x: Array,
    period: Array,
    longest: int,
    dense: bool,
) -> Model:
    """G(h) = Fᵖ(h) − h, with a linear model that suits the size of the state."""

    def repeated(h: Array) -> Array:
        return lax.fori_loop(0, period, lambda _, h: step(h, x), h)

    def masked(h: Array) -> Array:
        # A loop of unknown length has no transpose: run the longest, and mask steps beyond p.
        def advance(h: Array, index: Array) -> tuple[Array, None]:
            return jnp.where(index < period, step(h, x), h), None

        last, _ = lax.scan(advance, h, jnp.arange(longest))
        return last

    if dense:
        return Dense(lambda h: repeated(h) - h)
    return Iterative(lambda h: masked(h) - h)


def _empty(task: Task, width: int) -> Slots:
    """Slots without a start."""
    count, size = task.starts.shape
    dtype = task.starts.dtype

    def zeros(leaf: jax.ShapeDtypeStruct) -> Array:
        return jnp.zeros(leaf.shape, leaf.dtype)

    vectors = jnp.zeros((width, size), dtype)
    scalars = jnp.zeros(width, dtype)
    # Only shapes, so that no step is evaluated at a state that is not a start.
    _, model = jax.eval_shape(jax.vmap(task.model.at), vectors)
    return Slots(
        start=jnp.full(width, count, task.order.dtype),
        fresh=jnp.zeros(width, bool),
        trial=vectors,
        h=vectors,
        g=vectors,
        model=jax.tree.map(zeros, model),
        q=scalars,
        control=scalars,
        tried=jnp.zeros(width, task.order.dtype),
        before=scalars,
        done=jnp.ones(width, bool),
    )


def _refill(task: Task, slots: Slots, assigned: Array) -> tuple[Slots, Array]:
    """Slots whose finished starts are replaced, and how many starts are assigned by now."""
    count = len(task.starts)
    done = slots.done
    # The cumulative sum numbers the free slots, so that each takes a start of its own.
    turn = assigned + jnp.cumsum(done, dtype=assigned.dtype) - 1
    following = task.order[jnp.minimum(turn, count - 1)]
    start = jnp.where(turn < task.wanted, following, count)
    start = start.astype(slots.start.dtype)
    fresh = slots._replace(
        start=start,
        fresh=jnp.ones_like(slots.fresh),
        h=task.starts[jnp.minimum(start, count - 1)],
        q=jnp.full_like(slots.q, jnp.inf),
        control=jnp.ones_like(slots.control),
        tried=jnp.zeros_like(slots.tried),
        before=jnp.full_like(slots.q, jnp.inf),
    )
    slots = select(done, fresh, slots)
    assigned = assigned + done.sum(dtype=assigned.dtype)
    return slots, assigned


def _propose(task: Task, slots: Slots) -> Slots:
    """Slots with the state that each start tries next."""

    def damped(slots: Slots) -> Array:
        mu = slots.control * jnp.sum(slots.g**2, axis=-1)
        step = jax.vmap(task.model.damped)
        return step(slots.model, slots.g, mu)

    def implicit(slots: Slots) -> Array:
        weights = _weights(task, slots.model)
        step = jax.vmap(task.model.implicit)
        return step(slots.model, slots.g, weights, slots.control)

    # The method is traced, so that one program serves both searches.
    step = lax.cond(task.transient, implicit, damped, slots)
    lo, hi = task.box
    trial = jnp.clip(slots.h + step, lo[None], hi[None])
    # A fresh slot has no model to step from yet: its start itself is evaluated.
    trial = jnp.where(slots.fresh[:, None], slots.h, trial)
    return slots._replace(trial=trial)


def _evaluate(task: Task, slots: Slots) -> Slots:
    """Slots in which good trial states are accepted, with the next damping or time step."""
    g, model = jax.vmap(task.model.at)(slots.trial)
    q = 0.5 * jnp.sum(g**2, axis=-1)
    old_size = _size(task, slots, slots.g, slots.h)
    new_size = _size(task, slots, g, slots.trial)
    fall = old_size / new_size
    # A time step that is too long for an unstable direction leads out of the box and is clipped.
    moved = (slots.trial != slots.h).any(axis=-1)
    good = jnp.where(task.transient, moved & (fall > 0.5), q < slots.q)
    good = jnp.where(slots.fresh, jnp.isfinite(q), good)

    damping = slots.control * jnp.where(good, 0.1, 10)
    dt = slots.control * jnp.where(good, jnp.minimum(fall, 10), 0.25)
    dt = jnp.minimum(dt, LONGEST_STEP)
    control = jnp.where(task.transient, dt, damping)
    reached = slots._replace(h=slots.trial, g=g, model=model, q=q)
    slots = select(good, reached, slots)
    # The first state is not a step, so its success says nothing about the damping or the time step.
    return slots._replace(
        control=jnp.where(slots.fresh, slots.control, control),
        fresh=slots.fresh & ~good,
        tried=slots.tried + 1,
    )


def _size(task: Task, slots: Slots, g: Array, h: Array) -> Array:
    """‖W G‖ with the weights of each slot."""
    # Entries that are only rounding are left out, since W would make them as large as the others.
    rounded = jnp.abs(g) <= ROUNDINGS * task.precision * (1 + jnp.abs(h))
    weights = _weights(task, slots.model)
    weighted = weights * jnp.where(rounded, 0, g)
    return jnp.linalg.norm(weighted, axis=-1)


def _mark_done(task: Task, slots: Slots, spread: Array) -> Slots:
    """Marks slots whose start is finished: at a solution, stuck, or after all its steps."""
    limit = rounding(slots.h, spread, ROUNDINGS * task.precision)
    arrived = slots.q <= limit
    damping = jnp.where(task.transient, 1 / slots.control, slots.control)
    stuck = damping > STUCK

    look = slots.tried % PATIENCE == 0
    # Not for pseudo-transient continuation, in which q may rise on the way to a solution.
    stale = look & (slots.q > slots.before / 2) & ~task.transient

    # A slot whose first state has no finite value stays fresh, and one without a start is over.
    exhausted = slots.tried > task.steps
    over = slots.fresh | exhausted | (slots.start == len(task.starts))
    return slots._replace(
        before=jnp.where(look, slots.q, slots.before),
        done=arrived | stuck | stale | over,
    )


def rounding(h: Any, spread: Any, precision: Any) -> Any:
    """q of a residual that is ``precision`` of the state.

    ½ ε² (1 + ‖h‖²/n) (n + ‖∂Fᵖ/∂h‖²): every number of the states along the orbit is rounded by
    about ε, and later steps amplify that by ∂Fᵖ/∂h. For ``h [..., n]`` and ``spread [...]``, which
    is ‖∂Fᵖ/∂h‖², of JAX or NumPy.
    """
    size = h.shape[-1]
    scale = 1 + (h**2).sum(axis=-1) / size
    return 0.5 * precision**2 * scale * (size + spread)


def _weights(task: Task, model: Any) -> Array:
    """1/‖Aᵢ‖; rows of A below rounding count as rounding."""
    rows = jax.vmap(task.model.rows)(model)
    precision = jnp.finfo(rows.dtype).eps
    return 1 / jnp.maximum(rows, precision)
