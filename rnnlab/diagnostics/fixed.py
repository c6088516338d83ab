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
from rnnlab.diagnostics.state_map import state_map
from rnnlab.typing import Array, Cell, Key, PyTree


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
    """How many eigenvalues lie outside of the unit circle, ``[N]``: directions in which a push grows."""
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
    fixed point, also one that no trajectory would come to. Adam with a falling step, until all have arrived.

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
    x = _check.array("x", x)
    if x.ndim != 1:
        raise ValueError(f"x has shape {x.shape}; give the one constant input, [I]")
    leaves = jax.tree.leaves(starts)
    count = np.shape(leaves[0])[0] if leaves and np.ndim(leaves[0]) else 0
    if not count:
        raise ValueError("starts must hold states with one leading axis, [S, ...]; draw some with sample_states")
    _check.hashable(cell)
    mend = f"give states like cell.initial_state(({count},)), such as sample_states draws"
    _check.same_tree("starts", starts, _check.shapes(cell.initial_state((count,))), mend)
    _check.finite("starts", starts)
    _, _, first = state_map(cell, params, jnp.broadcast_to(x, (1, count, *x.shape)), starts)
    found, q = jax.device_get(_minimise(cell, params, x, starts, tolerance, steps, learning_rate))
    first = np.asarray(first)
    centre = first.mean(axis=0)
    away, usual = np.linalg.norm(found - centre, axis=1), np.linalg.norm(first - centre, axis=1).mean()
    near = np.isfinite(q) & (away <= outlier * max(usual, np.finfo(first.dtype).tiny))
    resting = near & (q <= tolerance)
    points = _distinct(found[resting], q[resting], unique)
    lingering = near & (q > tolerance) & (q <= slow)
    slow_points = _distinct(found[lingering], q[lingering], unique)
    if not len(points[0]):
        best = f"the smallest q is {np.nanmin(q):.1e}" if np.isfinite(q).any() else "every q is NaN"
        warnings.warn(
            f"no fixed point was found from {count} starts: {best}, above the tolerance of {tolerance:.0e}; "
            "try more steps or starts, or look at slow_states",
            stacklevel=2,
        )
    jacobians = jax.device_get(_jacobians(cell, params, x, jnp.asarray(points[0])))
    values, vectors = np.linalg.eig(jacobians) if len(jacobians) else (np.zeros(points[0].shape, complex), jacobians)
    order = np.argsort(-np.abs(values), axis=1)
    values = np.take_along_axis(values, order, axis=1)
    vectors = np.take_along_axis(vectors, order[:, None, :], axis=2)
    modulus = np.abs(values)
    unstable = (modulus > 1).sum(axis=1)
    with np.errstate(divide="ignore"):
        time_constants = -1 / np.log(modulus)
    kinds = tuple("stable" if n == 0 else "unstable" if n == modulus.shape[1] else "saddle" for n in unstable)
    return FixedPoints(*points, values, vectors, unstable, kinds, time_constants, *slow_points)


def sample_states(key: Key, states: PyTree, count: int, noise: float = 0.0) -> PyTree:
    """States drawn from those of trajectories, ``[count, ...]``: where a search for fixed points may start.

    Args:
        key: draws them, with replacement, and the noise.
        states: ``[T, B, ...]``, as :func:`rnnlab.unroll_states` returns them.
        count: how many.
        noise: the standard deviation of what is added to every number.
    """
    count = _check.positive_int("count", count)
    k_which, k_noise = jax.random.split(key)
    leaves, tree = jax.tree.flatten(states)
    steps, batch = leaves[0].shape[:2]
    which = jax.random.randint(k_which, (count,), 0, steps * batch)
    drawn = [leaf.reshape(steps * batch, *leaf.shape[2:])[which] for leaf in leaves]
    keys = jax.random.split(k_noise, len(drawn))
    return jax.tree.unflatten(
        tree, [leaf + noise * jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, drawn, strict=True)]
    )


@functools.partial(jax.jit, static_argnames=("cell", "steps"))
def _minimise(
    cell: Cell, params: PyTree, x: Array, starts: PyTree, tolerance: float, steps: int, learning_rate: float
) -> tuple[Array, Array]:
    """Where each start comes to, ``[S, n]``, and q there."""
    count = jax.tree.leaves(starts)[0].shape[0]
    flat, xs, first = state_map(cell, params, jnp.broadcast_to(x, (1, count, *x.shape)), starts)
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
def _jacobians(cell: Cell, params: PyTree, x: Array, points: Array) -> Array:
    """∂F/∂h at each point, ``[N, n, n]``."""
    flat, _, _ = state_map(cell, params, x[None], None)
    return jax.vmap(jax.jacfwd(lambda h: flat.step(h, x)))(points)


def _distinct(points: np.ndarray, q: np.ndarray, unique: float) -> tuple[np.ndarray, np.ndarray]:
    """One of each group of points that lie nearer than ``unique``, by rising q."""
    kept: list[int] = []
    for number in np.argsort(q, kind="stable"):
        if not kept or np.linalg.norm(points[kept] - points[number], axis=1).min() > unique:
            kept.append(int(number))
    return points[kept], q[kept]
