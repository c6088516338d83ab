"""What the searches for fixed points and for cycles share: starts, steps, and how stable is what they find."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab import _check
from rnnlab.diagnostics.state_map import state_map
from rnnlab.typing import Array, Cell, PyTree


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


def newton(after: Callable[[Array], Array], h: Array, damping: Array) -> Array:
    """The δ that minimises ‖A δ + G‖² + μ ‖δ‖² with G(h) = F(h) − h, A = ∂G/∂h and μ = damping · ‖G‖², ``h [n]``.

    Newton's step on ``after(h) = h``, damped as by Levenberg & Marquardt (Yamashita & Fukushima 2001).
    """
    jacobian, end = jax.jacfwd(lambda h: (after(h),) * 2, has_aux=True)(h)
    eye = jnp.eye(h.size, dtype=h.dtype)
    a, g = jacobian - eye, end - h
    mu = damping * jnp.sum(g**2)
    return -jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(a.T @ a + mu * eye), a.T @ g)


def within_reach(found: np.ndarray, starts: np.ndarray, outlier: float) -> np.ndarray:
    """Whether each of ``found [S, n]`` is no more than ``outlier`` times further from the starts' centre than they."""
    centre = starts.mean(axis=0)
    usual = max(np.linalg.norm(starts - centre, axis=1).mean(), np.finfo(starts.dtype).tiny)
    return np.linalg.norm(found - centre, axis=1) <= outlier * usual


def distinct(orbits: np.ndarray, q: np.ndarray, unique: float) -> list[int]:
    """The numbers of one of each group of orbits ``[S, p, n]`` that come nearer than ``unique``, by rising q."""
    kept: list[int] = []
    for number in np.argsort(q, kind="stable"):
        apart = np.linalg.norm(orbits[kept] - orbits[number, 0], axis=-1)
        if apart.min(initial=np.inf) > unique:
            kept.append(int(number))
    return kept


def stability(
    modulus: np.ndarray, periods: np.ndarray | int, dtype: np.dtype
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """Unstable directions ``[N]``, kinds and time constants ``[N, n]`` of points or orbits from their |eigenvalues|.

    Outside of the unit circle is what lies there by more than the square root of the precision of ``dtype``.
    """
    unstable = (modulus > 1 + np.sqrt(np.finfo(dtype).eps)).sum(axis=1)
    kinds = tuple(
        "stable" if n == 0 else "unstable" if n == modulus.shape[1] else "saddle" for n in unstable
    )
    with np.errstate(divide="ignore"):
        return unstable, kinds, -periods / np.log(modulus)
