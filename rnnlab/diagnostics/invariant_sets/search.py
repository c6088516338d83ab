"""The search for fixed points and cycles: its starts, its run, and the selection of results."""

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
"""The default tolerance is the q that so many roundings of the state leave."""

LARGE = 1024
"""Larger states are searched with products of Jacobians and vectors in place of matrices."""

TRAVEL, TRAVELLERS = 1000, 64
"""Steps of the trajectories that show which states the network visits, and how many there are."""

SOLVERS = ("auto", "dense", "iterative")


@result
class Outcomes(NamedTuple):
    """The outcomes of the starts of a search. The counts add up to the number of starts.

    Attributes:
        found: starts that led to one of the results, one for each result; a count, ``[P]`` for P
            periods.
        duplicates: starts that led to one of the results again, as ``found``.
        sooner: starts that led to a cycle that closes after a divisor of the period, as ``found``;
            0 for fixed points.
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
    # one state, for its structure
    like: PyTree
    starts: np.ndarray  # [S, n]
    # ε of the floats in which F is computed
    precision: float
    # a box that F maps into itself
    box: Box | None
    # the mean of the starts, [n]
    centre: np.ndarray
    # the largest distance from the centre that is not an outlier
    reach: float


class Reached(NamedTuple):
    """The end of the search from each start; numpy arrays."""

    states: np.ndarray  # [S, n]
    q: np.ndarray  # [S]
    # the largest q of a solution at each state, [S]
    limit: np.ndarray
    # whether it is not an outlier, [S]
    near: np.ndarray
    # whether q is at most the limit, [S]
    solved: np.ndarray


def check_starts(
    cell: Cell,
    params: PyTree,
    x: Array,
    starts: PyTree,
) -> tuple[Array, np.ndarray]:
    """The constant input and the starts as vectors ``[S, n]``; ValueError where either is wrong."""
    x = _check.array("x", x)
    if x.ndim != 1:
        raise ValueError(f"x has shape {x.shape}; give the one input that is held constant, [I]")
    _check.finite("x", x)
    leaves = jax.tree.leaves(starts)
    count = 0
    if leaves and np.ndim(leaves[0]):
        count = np.shape(leaves[0])[0]
    if not count:
        raise ValueError(
            "starts must hold states with one leading axis, [S, ...]; draw some with sample_states"
        )
    _check.hashable(cell)
    fix = f"give states like cell.initial_state(({count},)), such as sample_states draws"
    expected = _check.shapes(cell.initial_state((count,)))
    _check.same_tree("starts", starts, expected, fix)
    _check.finite("starts", starts)
    xs = jnp.broadcast_to(x, (1, count, *x.shape))
    flat, _, starts = state_map(cell, params, xs, starts)
    return x, np.asarray(flat.pack(starts))


def prepare(
    cell: Cell,
    params: PyTree,
    x: Array,
    starts: PyTree,
    outlier: float,
) -> Search:
    """A search from checked starts, to be called and run where 64-bit floats are enabled.

    Without a box, results are bounded by the states that the network visits: by the larger of the
    mean distance of the starts from their centre, and of the distance to which the median
    trajectory of 1000 steps leads from there. The second is for starts that lie close together,
    which say nothing about the states that matter.
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

    def step(h: Array) -> Array:
        return flat.step(h, x)

    centre = vectors.mean(axis=0)
    travellers = min(TRAVELLERS, len(vectors))
    indices = np.linspace(0, len(vectors) - 1, travellers).astype(int)
    visited = _travel(cell, params, x, like, vectors[indices], centre)
    lo, hi, far = jax.device_get(visited)
    lo = np.minimum(lo, vectors.min(axis=0))
    hi = np.maximum(hi, vectors.max(axis=0))
    box = trapping_box(step, Box(lo, hi))
    scatter = np.linalg.norm(vectors - centre, axis=1).mean()
    reach = outlier * max(scatter, float(np.median(far)))
    precision = precision_of(step, vectors[0])
    return Search(cell, params, x, like, vectors, precision, box, centre, reach)


@functools.partial(jax.jit, static_argnames="cell")
def _travel(
    cell: Cell,
    params: PyTree,
    x: Array,
    like: PyTree,
    starts: Array,
    centre: Array,
) -> tuple[Array, Array, Array]:
    """The smallest and largest values on the way ``[n]``, and the largest distances ``[S]``."""
    flat, _, _ = state_map(cell, params, x[None], like)

    def step(carry: tuple[Array, ...], _: None) -> tuple[tuple[Array, ...], None]:
        h, lo, hi, far = carry
        distance = jnp.linalg.norm(h - centre[None], axis=-1)
        far = jnp.where(jnp.isfinite(distance), jnp.maximum(far, distance), far)
        h = jax.vmap(flat.step, (0, None))(h, x)
        # A trajectory that overflows must not make the box infinite or NaN.
        finite = jnp.where(jnp.isfinite(h), h, starts)
        lo = jnp.minimum(lo, finite)
        hi = jnp.maximum(hi, finite)
        return (h, lo, hi, far), None

    at_starts = starts, starts, starts, jnp.zeros(len(starts), starts.dtype)
    (_, lo, hi, far), _ = lax.scan(step, at_starts, length=TRAVEL)
    return lo.min(axis=0), hi.max(axis=0), far


def run(
    search: Search,
    period: int,
    longest: int,
    tolerance: float | None,
    steps: int,
    solver: str,
) -> Reached:
    """Levenberg–Marquardt from every start, then pseudo-transient continuation where it failed."""
    count, size = search.starts.shape
    dense = size <= LARGE if solver == "auto" else solver == "dense"
    dtype = search.starts.dtype
    infinite = np.full(size, np.inf, dtype)
    lo, hi = (-infinite, infinite) if search.box is None else search.box
    box = Box(lo.astype(dtype), hi.astype(dtype))

    def attempt(todo: np.ndarray, transient: bool) -> Reached:
        # Padded to S, and scalars as arrays: both methods and all periods share one program.
        order = np.concatenate([todo, np.zeros(count - len(todo), todo.dtype)])
        ends = descend(
            search.cell,
            search.params,
            search.x,
            search.like,
            search.starts,
            (order, np.asarray(len(todo))),
            np.asarray(period),
            box,
            np.asarray(steps),
            np.asarray(search.precision, dtype),
            np.asarray(transient),
            longest=longest,
            dense=dense,
        )
        states, q, spread = jax.device_get(ends)
        return _reached(search, states, q, spread, tolerance)

    damped = attempt(np.arange(count), False)
    todo = np.flatnonzero(~(damped.solved & damped.near))
    if not len(todo):
        return damped
    continued = attempt(todo, True)
    better = continued.solved & continued.near

    def choose(new: np.ndarray, old: np.ndarray) -> np.ndarray:
        trailing = (1,) * (old.ndim - 1)
        return np.where(better.reshape(-1, *trailing), new, old)

    return jax.tree.map(choose, continued, damped)


def _reached(
    search: Search,
    states: np.ndarray,
    q: np.ndarray,
    spread: np.ndarray,
    tolerance: float | None,
) -> Reached:
    # Numbers may overflow in states that have left all bounds.
    with np.errstate(over="ignore", invalid="ignore"):
        limit = rounding(states, spread, ROUNDINGS * search.precision)
        distance = np.linalg.norm(states - search.centre, axis=1)
    if tolerance is not None:
        limit = np.full_like(limit, tolerance)
    # The search never leaves a box, so there nothing is an outlier.
    inside = (search.box is not None) | (distance <= search.reach)
    near = np.isfinite(q) & inside
    return Reached(states, q, limit, near, q <= limit)


@functools.partial(jax.jit, static_argnames=("cell", "length"))
def orbits(
    cell: Cell,
    params: PyTree,
    x: Array,
    like: PyTree,
    states: Array,
    length: int,
) -> Array:
    """The first ``length`` states from each of ``states [S, n]`` on: ``[S, length, n]``."""
    flat, _, _ = state_map(cell, params, x[None], like)
    step = jax.vmap(flat.step, (0, None))
    _, visited = lax.scan(lambda h, _: (step(h, x), h), states, length=length)
    return jnp.swapaxes(visited, 0, 1)


@functools.partial(jax.jit, static_argnames="cell")
def jacobians(
    cell: Cell,
    params: PyTree,
    x: Array,
    like: PyTree,
    states: Array,
) -> Array:
    """∂F/∂h at each of ``states [p, n]``, ``[p, n, n]``."""
    flat, _, _ = state_map(cell, params, x[None], like)
    jacobian = jax.jacfwd(lambda h: flat.step(h, x))
    # Not vmap, which would hold the intermediate values of all states at once.
    return lax.map(jacobian, states)


def distinct(paths: np.ndarray, q: np.ndarray, unique: float) -> list[int]:
    """The indices of one of each group of equal orbits ``[S, p, n]``, by rising q.

    Two are equal where they stay closer than ``unique`` all the way, for some choice of the first
    state of one.
    """
    kept: list[int] = []
    period = paths.shape[1]
    for index in np.argsort(q, kind="stable"):
        nearest = np.inf
        for shift in range(period):
            shifted = np.roll(paths[index], shift, axis=0)
            distances = np.linalg.norm(paths[kept] - shifted, axis=-1).max(axis=1)
            nearest = np.min(distances, initial=nearest)
        if nearest > unique:
            kept.append(int(index))
    return kept


def stability(
    log_moduli: np.ndarray,
    periods: np.ndarray | int,
    marginal: float,
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], np.ndarray]:
    """Unstable and marginal directions ``[N]``, kinds, and time constants ``[N, n]``.

    From ln |mᵢ| of the eigenvalues ``[N, n]`` of points or orbits, by which a perturbation grows in
    ``periods`` steps.
    """
    rates = log_moduli / periods
    circle = np.abs(np.expm1(rates)) <= marginal
    unstable = ((rates > 0) & ~circle).sum(axis=1)
    on_circle = circle.sum(axis=1)
    divisor = np.where(circle, 1, rates)
    with np.errstate(divide="ignore"):
        times = np.where(circle, np.inf, -1 / divisor)
    size = rates.shape[1]
    kinds = []
    for outside, on in zip(unstable, on_circle, strict=True):
        kind = _kind(outside, on, size)
        kinds.append(kind)
    return unstable, on_circle, tuple(kinds), times


def _kind(unstable: int, on_circle: int, size: int) -> str:
    if unstable == size:
        return "unstable"
    if unstable:
        return "saddle"
    return "marginal" if on_circle else "stable"


def default_marginal(marginal: float | None, dtype: np.dtype, size: int) -> float:
    """How far rounding of the parameters may move an eigenvalue, unless ``marginal`` is set."""
    if marginal is None:
        return float(ROUNDINGS * np.sqrt(size) * jnp.finfo(dtype).eps)
    return float(marginal)


def check_options(steps: int, solver: str, **thresholds: float | None) -> None:
    """ValueError for options that are out of range; ``thresholds`` must not be negative."""
    _check.positive_int("steps", steps)
    _check.one_of("solver", solver, SOLVERS)
    for name, value in thresholds.items():
        # Not ``value < 0``, which NaN would pass.
        if value is not None and not value >= 0:
            raise ValueError(f"{name} is {value}; it must be a number of at least 0")


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """64-bit floats, and no error on NaN: a step that fails is NaN, and is not accepted."""
    with jax.enable_x64(True), jax.debug_nans(False):
        yield


def nothing_found(
    fault: str,
    reached: Reached,
    among: np.ndarray,
    none: str,
    steps: int,
    must_exist: bool,
) -> str:
    """The warning for a search without a result: the smallest q, and whether a result exists."""
    reason = none
    if among.any():
        best = int(np.where(among, reached.q, np.inf).argmin())
        q = reached.q[best]
        limit = reached.limit[best]
        reason = f"the smallest q is {q:.1e}, above the tolerance of {limit:.1e},"
    exists = "whether one exists is not known"
    if must_exist:
        exists = "one exists, since F maps a box around the starts into itself"
    return (
        f"{fault}: {reason} after at most {steps} steps of Levenberg–Marquardt and {steps} of "
        f"pseudo-transient continuation from each; {exists}; try more steps, more starts"
    )
