"""Fixed points of a recurrent network: where its state rests, and what a small push does there."""

import functools
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from rnnlab import _check
from rnnlab.diagnostics.search import check_starts, distinct, newton, stability, within_reach
from rnnlab.diagnostics.state_map import state_map
from rnnlab.typing import Array, Cell, Key, PyTree

POLISH = 5
"""Steps of Newton's method at a point that has been found."""


class FixedPoints(NamedTuple):
    """N fixed points of h ↦ F(h, x), by rising q; numpy arrays."""

    states: np.ndarray
    """The points as vectors ``[N, n]``: the leaves of the state side by side."""
    q: np.ndarray
    """½ ‖F(h) − h‖² there, ``[N]``."""
    eigenvalues: np.ndarray
    """Of the Jacobian ∂F/∂h there, complex ``[N, n]``, by falling modulus."""
    eigenvectors: np.ndarray
    """Of the same, as columns, ``[N, n, n]``."""
    unstable: np.ndarray
    """How many eigenvalues lie outside of the unit circle (by more than the square root of the precision), ``[N]``:
    directions in which a push grows."""
    kind: tuple[str, ...]
    """"stable" (none of them), "unstable" (all of them) or "saddle", for each point."""
    time_constants: np.ndarray
    """−1/ln |eigenvalue| ``[N, n]``, steps in which a push falls to 1/e; negative where it grows by as much."""
    slow_states: np.ndarray
    """``[M, n]``: where the search came to rest with q above ``tolerance`` but at most ``slow``: points near which the
    state lingers."""
    slow_q: np.ndarray
    """½ ‖F(h) − h‖² at the slow points, ``[M]``."""


def fixed_points(
    cell: Cell,
    params: PyTree,
    x: Array,
    starts: PyTree,
    *,
    tolerance: float = 1e-12,
    unique: float = 1e-3,
    slow: float = 1e-6,
    outlier: float = 10.0,
    steps: int = 10_000,
    learning_rate: float = 0.02,
) -> FixedPoints:
    """Fixed points under a constant input, by minimising q(h) = ½ ‖F(h, x) − h‖² from many starting points at once.

    Sussillo & Barak 2013 (Neural Computation 25) and Golub & Sussillo 2018 (JOSS 3). Every minimum with q = 0 is a
    fixed point, also one that no trajectory would come to. Adam with a falling step, until all have arrived, and
    a few of Newton's steps at each point that has been found.

    Args:
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`.
        params: its parameters.
        x: the input that is held constant, ``[I]``.
        starts: states to start from with one leading axis, ``[S, ...]``, such as :func:`sample_states` draws.
        tolerance: the largest q of a fixed point.
        unique: two points nearer than this are one; the one with the smaller q is kept.
        slow: the largest q of a slow point.
        outlier: a point is dropped that lies further from the centre of the starts than this many times their mean
            distance from it.
        steps: of Adam, at most.
        learning_rate: its first step size.

    Raises:
        ValueError: as :func:`rnnlab.unroll` does, and for starts that are not finite or not states of the cell.

    Warns:
        UserWarning: where nothing is found; the result is then empty.
    """
    x, first = check_starts(cell, params, x, starts)
    found, q = jax.device_get(_minimise(cell, params, x, starts, tolerance, steps, learning_rate))
    near = np.isfinite(q) & within_reach(found, first, outlier)
    resting = near & (q <= tolerance)
    points = _distinct(found[resting], q[resting], unique)
    apart = np.linalg.norm(found[:, None] - points[0], axis=-1).min(axis=1, initial=np.inf)
    lingering = (
        near & (q > tolerance) & (q <= slow) & (apart > unique)
    )  # rounding may stop a start beside a point
    slow_points = _distinct(found[lingering], q[lingering], unique)
    if not len(points[0]):
        smallest = q[near].min(initial=np.inf)
        best = f"the smallest q is {smallest:.1e}, above the tolerance of {tolerance:.0e}"
        warnings.warn(
            f"no fixed point was found from {len(first)} starts: {best if smallest < np.inf else 'all lead away'}; "
            "try more steps or starts, or look at slow_states",
            stacklevel=2,
        )
    states, q, jacobians = jax.device_get(
        _polish(cell, params, x, jnp.asarray(points[0]), jnp.asarray(points[1]))
    )
    values, vectors = (
        np.linalg.eig(jacobians) if len(jacobians) else (np.zeros(states.shape, complex), jacobians)
    )
    order = np.argsort(-np.abs(values), axis=1)
    values = np.take_along_axis(values, order, axis=1)
    vectors = np.take_along_axis(vectors, order[:, None, :], axis=2)
    return FixedPoints(
        states, q, values, vectors, *stability(np.abs(values), 1, first.dtype), *slow_points
    )


def sample_states(key: Key, states: PyTree, count: int, noise: float = 0.0) -> PyTree:
    """States drawn from those of trajectories, ``[count, ...]``: where a search for fixed points may start.

    Args:
        key: draws them, with replacement, and the noise.
        states: ``[T, B, ...]``, as :func:`rnnlab.unroll_states` returns them.
        count: how many.
        noise: the standard deviation of what is added to every number.

    Raises:
        ValueError: for a count below 1, a noise that is not a number of at least 0, and states without ``[T, B]``.
    """
    count = _check.positive_int("count", count)
    if not (noise >= 0 and np.isfinite(noise)):
        raise ValueError(f"noise is {noise}; it must be a number of at least 0")
    leaves, tree = jax.tree.flatten(states)
    if not leaves or min(np.ndim(leaf) for leaf in leaves) < 2:
        raise ValueError("states must have leaves [T, B, ...]; give those of rnnlab.unroll_states")
    k_which, k_noise = jax.random.split(key)
    steps, batch = leaves[0].shape[:2]
    which = jax.random.randint(k_which, (count,), 0, steps * batch)
    drawn = [leaf.reshape(steps * batch, *leaf.shape[2:])[which] for leaf in leaves]
    keys = jax.random.split(k_noise, len(drawn))
    return jax.tree.unflatten(
        tree,
        [
            leaf + noise * jax.random.normal(k, leaf.shape, leaf.dtype)
            for k, leaf in zip(keys, drawn, strict=True)
        ],
    )


@functools.partial(jax.jit, static_argnames=("cell", "steps"))
def _minimise(
    cell: Cell,
    params: PyTree,
    x: Array,
    starts: PyTree,
    tolerance: float,
    steps: int,
    learning_rate: float,
) -> tuple[Array, Array]:
    """Where each start comes to, ``[S, n]``, and q there."""
    count = jax.tree.leaves(starts)[0].shape[0]
    flat, xs, starts = state_map(cell, params, jnp.broadcast_to(x, (1, count, *x.shape)), starts)
    first = flat.pack(starts)
    optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def q(h: Array) -> Array:
        return 0.5 * jnp.sum((flat.step(h, xs[0]) - h) ** 2, axis=-1)

    def total(h: Array) -> tuple[Array, Array]:
        each = q(h)
        return each.sum(), each

    def unfinished(carry: tuple) -> Array:
        number, _, _, each = carry
        return (number < steps) & (each > tolerance).any()

    def improve(carry: tuple) -> tuple:
        number, h, memory, _ = carry
        slope, each = jax.grad(total, has_aux=True)(h)
        change, memory = optimiser.update(slope, memory)
        return number + 1, jnp.where((each > tolerance)[:, None], h + change, h), memory, each

    carry = 0, first, optimiser.init(first), q(first)
    _, h, _, _ = lax.while_loop(unfinished, improve, carry)
    return h, q(h)


@functools.partial(jax.jit, static_argnames="cell")
def _polish(
    cell: Cell, params: PyTree, x: Array, points: Array, q: Array
) -> tuple[Array, Array, Array]:
    """The points ``[N, n]`` after a few steps of Newton's where these bring them nearer, q, and ∂F/∂h ``[N, n, n]``."""
    flat, _, _ = state_map(cell, params, x[None], None)

    def after(h: Array) -> Array:
        return flat.step(h, x)

    def improve(_: int, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        h, best = carry
        new = h + newton(after, h, jnp.ones((), h.dtype))
        each = 0.5 * jnp.sum((after(new) - new) ** 2)
        return jnp.where(each < best, new, h), jnp.minimum(each, best)

    def one(h: Array, q: Array) -> tuple[Array, Array, Array]:
        h, q = lax.fori_loop(0, POLISH, improve, (h, q))
        return h, q, jax.jacfwd(after)(h)

    return jax.vmap(one)(points, q)


def _distinct(points: np.ndarray, q: np.ndarray, unique: float) -> tuple[np.ndarray, np.ndarray]:
    """One of each group of points that lie nearer than ``unique``, by rising q."""
    kept = distinct(points[:, None], q, unique)
    return points[kept], q[kept]
