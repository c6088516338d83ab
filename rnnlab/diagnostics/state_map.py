"""The state of a cell as one vector, and what a step does to vectors beside it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab import _check
from rnnlab.driver import prepare, settle
from rnnlab.typing import Array, Cell, PyTree


class StateMap(NamedTuple):
    """A cell's map sₜ = F(sₜ₋₁, xₜ) on vectors ``[..., n]``: the leaves of its state side by side."""

    step: Callable[[Array, Array], Array]  # F
    pack: Callable[[PyTree], Array]
    unpack: Callable[[Array], PyTree]
    size: int  # n

    def push(self, state: Array, x: Array, columns: Array) -> tuple[Array, Array]:
        """The new state and J Q, with J = ∂F/∂s and Q ``[..., n, k]``."""

        def along(column: Array) -> tuple[Array, Array]:
            return jax.jvp(lambda s: self.step(s, x), (state,), (column,))

        new, pushed = jax.vmap(along, in_axes=-1, out_axes=(None, -1))(columns)
        return new, pushed

    def pull(self, state: Array, x: Array, columns: Array) -> Array:
        """Jᵀ Q, with Q ``[..., n, k]``."""
        _, back = jax.vjp(lambda s: self.step(s, x), state)
        return jax.vmap(lambda column: back(column)[0], in_axes=-1, out_axes=-1)(columns)

    def identity(self, state: Array, count: int | None = None) -> Array:
        """The first ``count`` unit vectors for every example, ``[..., n, k]``."""
        eye = jnp.eye(self.size, count, dtype=state.dtype)
        return jnp.broadcast_to(eye, (*state.shape, eye.shape[1]))


def state_map(cell: Cell, params: PyTree, xs: Array, state: PyTree | None) -> tuple[StateMap, Array, Array]:
    """``(map, xs, first state [..., n])``, checked; ValueError for a state without a Jacobian, NaN and infinity."""
    xs, state, _, _ = prepare(cell, params, xs, state, None, None)
    batch = xs.shape[1:-1]
    _check.linear_adjoint(cell)
    _check.differentiable("the state", state)
    _check.batched("the state", state, batch)
    state = settle(cell, params, xs[0], state)
    for name, tree in (("xs", xs), ("params", params), ("the state", state)):
        _check.finite(name, tree)
    leaves, tree = jax.tree.flatten(state)
    if not leaves:
        raise ValueError("the cell has no state, so there is nothing to follow; give one that remembers")
    shapes = [leaf.shape[len(batch) :] for leaf in leaves]
    ends = [0]
    for leaf in leaves:
        ends.append(ends[-1] + leaf[(0,) * len(batch)].size)

    def pack(state: PyTree) -> Array:
        flat = [
            leaf.reshape(*leaf.shape[: leaf.ndim - len(s)], -1)
            for leaf, s in zip(jax.tree.leaves(state), shapes, strict=True)
        ]
        return jnp.concatenate(flat, axis=-1)

    def unpack(vector: Array) -> PyTree:
        parts = [
            vector[..., a:b].reshape(*vector.shape[:-1], *shape).astype(leaf.dtype)
            for a, b, shape, leaf in zip(ends[:-1], ends[1:], shapes, leaves, strict=True)
        ]
        return jax.tree.unflatten(tree, parts)

    def step(vector: Array, x: Array) -> Array:
        return pack(cell.step(params, unpack(vector), x)[0]).astype(vector.dtype)

    return StateMap(step, pack, unpack, ends[-1]), xs, pack(state)


def check_starts(cell: Cell, params: PyTree, x: Array, starts: PyTree) -> tuple[Array, np.ndarray]:
    """The constant input and the starts as vectors ``[S, n]``; ValueError where either is not what it should be."""
    x = _check.array("x", x)
    if x.ndim != 1:
        raise ValueError(f"x has shape {x.shape}; give the one input that is held constant, [I]")
    leaves = jax.tree.leaves(starts)
    count = np.shape(leaves[0])[0] if leaves and np.ndim(leaves[0]) else 0
    if not count:
        raise ValueError("starts must hold states with one leading axis, [S, ...]; draw some with sample_states")
    _check.hashable(cell)
    mend = f"give states like cell.initial_state(({count},)), such as sample_states draws"
    _check.same_tree("starts", starts, _check.shapes(cell.initial_state((count,))), mend)
    _check.finite("starts", starts)
    _, _, first = state_map(cell, params, jnp.broadcast_to(x, (1, count, *x.shape)), starts)
    return x, np.asarray(first)


def newton(after: Callable[[Array], Array], h: Array, damping: Array) -> Array:
    """The δ that minimises ‖A δ + G‖² + μ ‖δ‖² with G(h) = F(h) − h, A = ∂G/∂h and μ = damping · ‖G‖², ``h [n]``.

    Newton's step on ``after(h) = h``, damped as by Levenberg & Marquardt (Yamashita & Fukushima 2001).
    """
    jacobian, end = jax.jacfwd(lambda h: (after(h),) * 2, has_aux=True)(h)
    eye = jnp.eye(h.size, dtype=h.dtype)
    a, g = jacobian - eye, end - h
    mu = damping * jnp.sum(g**2)
    return -jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(a.T @ a + mu * eye), a.T @ g)
