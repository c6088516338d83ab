"""The search for fixed points and for cycles: what it starts from, how it runs, and what is kept of it."""

import contextlib
import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab import _check
from rnnlab._results import result
from rnnlab.diagnostics.invariant_sets.enclosure import Box, trapping_box
from rnnlab.diagnostics.invariant_sets.float64 import (
    as_vectors,
    first,
    flat_map,
    in_double,
    precision_of,
)
from rnnlab.diagnostics.invariant_sets.root_finding import descend, rounding
from rnnlab.diagnostics.state.state_map import state_map
from rnnlab.typing import Array, Cell, PyTree

ROUNDINGS = 32
"""The default tolerance is what this many roundings of the state leave."""

LARGE = 1024
"""States of more numbers are searched with products of Jacobians and vectors in place of matrices."""

TRAVEL, TRAVELLERS = 1000, 64
"""Steps for which trajectories are followed from at most so many starts, to see which states they visit."""

SOLVERS = ("auto", "dense", "iterative")


@result
class Outcomes(NamedTuple):
    """What became of the starts of a search. The counts add up to the number of starts.

    Attributes:
        found: starts that led to one of the results, one for each result; a count, ``[P]`` for P periods.
        duplicates: starts that led to one of the results again, as ``found``.
        sooner: starts that led to a cycle that closes after a divisor of the period, as ``found``; 0 for fixed points.
        outliers: starts that led further away than ``outlier`` allows, as ``found``.
        slow: starts that ended at slow points, as ``found``; 0 for cycles.
        failed: starts that ended elsewhere, as ``found``.
    """

    found: np.ndarray
    duplicates: np.ndarray
    sooner: np.ndarray
    outliers: np.ndarray
    slow: np.ndarray
    failed: np.ndarray


class Search(NamedTuple):
    """A search that is ready to run; arrays in the precision in which it runs."""

    cell: Cell
    params: PyTree
    x: Array
    like: PyTree  # one state
    starts: np.ndarray  # [S, n]
    precision: float  # ε of the floats in which F is computed
    box: Box | None  # a box that F maps into itself
    centre: np.ndarray  # [n], the mean of the starts
    reach: float  # the greatest distance from it that is no outlier


class Reached(NamedTuple):
    """Where each start came to; numpy arrays."""

    states: np.ndarray  # [S, n]
    q: np.ndarray  # [S]
    limit: np.ndarray  # [S], the largest q of a solution there
    near: np.ndarray  # [S], whether it is no outlier
    solved: np.ndarray  # [S], whether q is at most that


def check_starts(cell: Cell, params: PyTree, x: Array, starts: PyTree) -> tuple[Array, np.ndarray]:
    """The constant input and the starts as vectors ``[S, n]``; ValueError where either is not what it should be."""
    x = _check.array("x", x)
    if x.ndim != 1:
        raise ValueError(f"x has shape {x.shape}; give the one input that is held constant, [I]")
    _check.finite("x", x)
    leaves = jax.tree.leaves(starts)
    count = np.shape(leaves[0])[0] if leaves and np.ndim(leaves[0]) else 0
    if not count:
        raise ValueError(
            "starts must hold states with one leading axis, [S, ...]; draw some with sample_states"
        )
    _check.hashable(cell)
    mend = f"give states like cell.initial_state(({count},)), such as sample_states draws"
    _check.same_tree("starts", starts, _check.shapes(cell.initial_state((count,))), mend)
    _check.finite("starts", starts)
    flat, _, starts = state_map(cell, params, jnp.broadcast_to(x, (1, count, *x.shape)), starts)
    return x, np.asarray(flat.pack(starts))


def prepare(cell: Cell, params: PyTree, x: Array, starts: PyTree, outlier: float) -> Search:
    """A search from checked starts. Call it, and what it is given to, where 64-bit floats are enabled.

    Without a box, results are bounded by what the network visits: the larger of the mean distance of the starts from
    their centre, and of the distance to which the median trajectory of 1000 steps leads from there. The second is for
    starts that lie close together, which say nothing about the states that matter.
    """
    params, x, starts = in_double(cell, params, x, starts)
    like = first(starts)
    flat = flat_map(cell, params, x, like)
    vectors = as_vectors(starts)
    if jnp.finfo(vectors.dtype).bits < 32:
        raise ValueError(
            f"the step computes in {vectors.dtype} alone, which is too coarse to search in; "
            "give a cell that computes in float32 or float64"
        )
    centre = vectors.mean(axis=0)
    some = vectors[np.linspace(0, len(vectors) - 1, min(TRAVELLERS, len(vectors))).astype(int)]
    lo, hi, far = jax.device_get(_travel(cell, params, x, like, some, centre))
    hull = Box(np.minimum(lo, vectors.min(axis=0)), np.maximum(hi, vectors.max(axis=0)))
    box = trapping_box(lambda h: flat.step(h, x), hull)
    scatter = np.linalg.norm(vectors - centre, axis=1).mean()
    reach = outlier * max(scatter, float(np.median(far)))
    precision = precision_of(lambda h: flat.step(h, x), vectors[0])
    return Search(cell, params, x, like, vectors, precision, box, centre, reach)


@functools.partial(jax.jit, static_argnames="cell")
def _travel(
    cell: Cell, params: PyTree, x: Array, like: PyTree, starts: Array, centre: Array
) -> tuple[Array, Array, Array]:
    """The least and the greatest numbers of the states visited ``[n]``, and the largest distances ``[S]``."""
    flat, _, _ = state_map(cell, params, x[None], like)

    def step(carry: tuple[Array, ...], _: None) -> tuple[tuple[Array, ...], None]:
        h, lo, hi, far = carry
        away = jnp.linalg.norm(h - centre[None], axis=-1)
        far = jnp.where(jnp.isfinite(away), jnp.maximum(far, away), far)
        h = jax.vmap(flat.step, (0, None))(h, x)
        sound = jnp.where(jnp.isfinite(h), h, starts)
        return (h, jnp.minimum(lo, sound), jnp.maximum(hi, sound), far), None

    begun = starts, starts, starts, jnp.zeros(len(starts), starts.dtype)
    (_, lo, hi, far), _ = lax.scan(step, begun, length=TRAVEL)
    return lo.min(axis=0), hi.max(axis=0), far


def run(
    search: Search,
    period: int,
    longest: int,
    tolerance: float | None,
    steps: int,
    solver: str,
) -> Reached:
    """Levenberg–Marquardt from every start, then pseudo-transient continuation from those where it failed."""
    count, size = search.starts.shape
    dense = size <= LARGE if solver == "auto" else solver == "dense"
    dtype = search.starts.dtype
    free = np.full(size, np.inf, dtype)
    box = Box(-free, free) if search.box is None else search.box
    box = Box(*(end.astype(dtype) for end in box))

    def attempt(todo: np.ndarray, transient: bool) -> Reached:
        order = np.concatenate([todo, np.zeros(count - len(todo), todo.dtype)])
        ends = descend(
            search.cell, search.params, search.x, search.like, search.starts,
            (order, np.asarray(len(todo))), np.asarray(period), box, np.asarray(steps),
            np.asarray(search.precision, dtype), np.asarray(transient), longest=longest, dense=dense,
        )  # fmt: skip
        states, q, spread = jax.device_get(ends)
        return _reached(search, states, q, spread, tolerance)

    found = attempt(np.arange(count), False)
    todo = np.flatnonzero(~(found.solved & found.near))
    if not len(todo):
        return found
    second = attempt(todo, True)
    better = second.solved & second.near
    return jax.tree.map(
        lambda new, old: np.where(better.reshape(-1, *(1,) * (old.ndim - 1)), new, old),
        second,
        found,
    )


def _reached(
    search: Search, states: np.ndarray, q: np.ndarray, spread: np.ndarray, tolerance: float | None
) -> Reached:
    # Numbers may overflow in states that have left all bounds.
    with np.errstate(over="ignore", invalid="ignore"):
        limit = rounding(states, spread, ROUNDINGS * search.precision)
        away = np.linalg.norm(states - search.centre, axis=1)
    if tolerance is not None:
        limit = np.full_like(limit, tolerance)
    near = np.isfinite(q) & ((search.box is not None) | (away <= search.reach))
    return Reached(states, q, limit, near, q <= limit)


@functools.partial(jax.jit, static_argnames=("cell", "length"))
def orbits(cell: Cell, params: PyTree, x: Array, like: PyTree, states: Array, length: int) -> Array:
    """The first ``length`` states of the trajectory from each of ``states [S, n]``: ``[S, length, n]``."""
    flat, _, _ = state_map(cell, params, x[None], like)
    step = jax.vmap(flat.step, (0, None))
    _, visited = lax.scan(lambda h, _: (step(h, x), h), states, length=length)
    return jnp.swapaxes(visited, 0, 1)


@functools.partial(jax.jit, static_argnames="cell")
def jacobians(cell: Cell, params: PyTree, x: Array, like: PyTree, states: Array) -> Array:
    """∂F/∂h at each of ``states [p, n]``, ``[p, n, n]``."""
    flat, _, _ = state_map(cell, params, x[None], like)
    return lax.map(jax.jacfwd(lambda h: flat.step(h, x)), states)


def distinct(paths: np.ndarray, q: np.ndarray, unique: float) -> list[int]:
    """The numbers of one of each group of orbits ``[S, p, n]`` that are the same, by rising q.

    Two are the same where, begun at the right state of one, they stay nearer than ``unique`` all the way.
    """
    kept: list[int] = []
    period = paths.shape[1]
    for number in np.argsort(q, kind="stable"):
        turned = (np.roll(paths[number], shift, axis=0) for shift in range(period))
        apart = [np.linalg.norm(paths[kept] - path, axis=-1).max(axis=1) for path in turned]
        if np.min(apart, initial=np.inf) > unique:
            kept.append(int(number))
    return kept


def stability(
    log_moduli: np.ndarray, periods: np.ndarray | int, marginal: float
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], np.ndarray]:
    """Unstable and marginal directions ``[N]``, kinds, and time constants ``[N, n]``, of points or orbits.

    From ln |mᵢ| of the eigenvalues ``[N, n]``, with which a push grows in ``periods`` steps.
    """
    rates = log_moduli / periods
    circle = np.abs(np.expm1(rates)) <= marginal
    unstable = ((rates > 0) & ~circle).sum(axis=1)
    on_circle = circle.sum(axis=1)
    with np.errstate(divide="ignore"):
        times = np.where(circle, np.inf, -1 / np.where(circle, 1, rates))
    pairs = zip(unstable, on_circle, strict=True)
    return unstable, on_circle, tuple(_kind(*pair, rates.shape[1]) for pair in pairs), times


def _kind(unstable: int, on_circle: int, size: int) -> str:
    if unstable == size:
        return "unstable"
    if unstable:
        return "saddle"
    return "marginal" if on_circle else "stable"


def default_marginal(marginal: float | None, dtype: np.dtype, size: int) -> float:
    """How far from the unit circle rounding of the parameters may move an eigenvalue, unless it is given."""
    if marginal is None:
        return float(ROUNDINGS * np.sqrt(size) * jnp.finfo(dtype).eps)
    return float(marginal)


def check_options(steps: int, solver: str, **numbers: float | None) -> None:
    """ValueError for options that are out of range; ``numbers`` are those that must not be negative."""
    _check.positive_int("steps", steps)
    _check.one_of("solver", solver, SOLVERS)
    for name, value in numbers.items():
        if value is not None and not value >= 0:
            raise ValueError(f"{name} is {value}; it must be a number of at least 0")


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """64-bit floats, and leave to make NaN: a step that fails is NaN, and is not taken."""
    with jax.enable_x64(True), jax.debug_nans(False):
        yield


def nothing_found(
    fault: str, reached: Reached, among: np.ndarray, none: str, steps: int, must_exist: bool
) -> str:
    """What a warning says of a search without a result: how near the best start came, and whether one exists."""
    if among.any():
        best = int(np.where(among, reached.q, np.inf).argmin())
        q, limit = reached.q[best], reached.limit[best]
        told = f"the smallest q is {q:.1e}, above the tolerance of {limit:.1e},"
    else:
        told = none
    exists = "one exists, since F maps a box around the starts into itself"
    return (
        f"{fault}: {told} after at most {steps} steps of Levenberg–Marquardt and {steps} of pseudo-transient "
        f"continuation from each; {exists if must_exist else 'whether one exists is not known'}; "
        "try more steps, more starts"
    )
