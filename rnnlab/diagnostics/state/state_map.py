"""The state of a cell as one vector, and what a step does to vectors beside it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.driver import prepare, settle
from rnnlab.typing import Array, Cell, PyTree


class StateMap(NamedTuple):
    """A cell's map sₜ = F(sₜ₋₁, xₜ) on vectors ``[..., n]``, the leaves of its state side by side."""

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


def state_map(
    cell: Cell, params: PyTree, xs: Array, state: PyTree | None
) -> tuple[StateMap, Array, PyTree]:
    """``(map, xs, first state)``, checked.

    Parameters, inputs and states of fewer than 32 bits are taken in float32, and with them computes
    every instrument of the state: decompositions exist in no lower precision.

    Raises:
        ValueError: for a state without a Jacobian, NaN and infinity.
    """
    xs, state, _ = prepare(cell, params, xs, state)
    batch = xs.shape[1:-1]
    _check.linear_adjoint(cell)
    _check.differentiable("the state", state)
    _check.batched("the state", state, batch)
    own = jax.eval_shape(lambda: cell.initial_state(batch))
    if not any(_is_narrow(leaf.dtype) for leaf in jax.tree.leaves(own)):
        # Widened below, a step that rounds a state of 32 bits to fewer would pass.
        state = _settled(cell, params, xs, state)
    params, xs, state = at_least_float32((params, xs, state))
    wide = _Wide(cell)
    state = _settled(cast(Cell, wide), params, xs, state)
    for name, tree in (("xs", xs), ("params", params), ("the state", state)):
        _check.finite(name, tree)
    leaves, tree = jax.tree.flatten(state)
    if not leaves:
        raise ValueError(
            "the cell has no state, so there is nothing to follow; give one that remembers"
        )
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
        new, _ = wide.step(params, unpack(vector), at_least_float32(x))
        return pack(new).astype(vector.dtype)

    return StateMap(step, pack, unpack, ends[-1]), xs, state


def _settled(cell: Cell, params: PyTree, xs: Array, state: PyTree) -> PyTree:
    return settle(cell, params, jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype), state)


@dataclasses.dataclass(frozen=True)
class _Wide:
    """The step of a cell in at least float32, also where it rounds its state to fewer bits."""

    cell: Cell

    def step(self, params: PyTree, state: PyTree, x: Array) -> tuple[PyTree, Any]:
        return at_least_float32(self.cell.step(params, state, x))


def _is_narrow(dtype: Any) -> bool:
    """Whether it is a float of fewer than 32 bits."""
    return dtype is not None and jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4


def at_least_float32(tree: PyTree) -> PyTree:
    """``tree`` with floats of fewer than 32 bits, such as bfloat16, as float32."""

    def widened(leaf: Array) -> Array:
        narrow = _is_narrow(getattr(leaf, "dtype", None))
        return jnp.asarray(leaf, jnp.float32) if narrow else leaf

    return jax.tree.map(widened, tree)
