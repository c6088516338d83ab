"""The map of a cell on state vectors, and its Jacobian's products with vectors."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.driver import prepare, settle
from rnnlab.typing import Array, Cell, PyTree

Step = Callable[[Array, Array], Array]
Pack = Callable[[PyTree], Array]
Unpack = Callable[[Array], PyTree]


class StateMap(NamedTuple):
    """A cell's map sₜ = F(sₜ₋₁, xₜ) on vectors ``[..., n]`` that concatenate the state's leaves."""

    step: Step  # F
    pack: Pack
    unpack: Unpack
    size: int  # n

    def push(self, state: Array, x: Array, columns: Array) -> tuple[Array, Array]:
        """The new state and J Q, with J = ∂F/∂s and Q ``[..., n, k]``."""

        def step(state: Array) -> Array:
            return self.step(state, x)

        def push_column(column: Array) -> tuple[Array, Array]:
            return jax.jvp(step, (state,), (column,))

        push_columns = jax.vmap(push_column, in_axes=-1, out_axes=(None, -1))
        new, pushed = push_columns(columns)
        return new, pushed

    def pull(self, state: Array, x: Array, columns: Array) -> Array:
        """Jᵀ Q, with Q ``[..., n, k]``."""
        _, vjp = jax.vjp(lambda s: self.step(s, x), state)

        def pull_column(column: Array) -> Array:
            (pulled,) = vjp(column)
            return pulled

        return jax.vmap(pull_column, in_axes=-1, out_axes=-1)(columns)

    def identity(self, state: Array, count: int | None = None) -> Array:
        """The first ``count`` unit vectors for every example, ``[..., n, k]``."""
        eye = jnp.eye(self.size, count, dtype=state.dtype)
        return jnp.broadcast_to(eye, (*state.shape, eye.shape[1]))


def state_map(
    cell: Cell,
    params: PyTree,
    xs: Array,
    state: PyTree | None,
) -> tuple[StateMap, Array, PyTree]:
    """``(map, xs, first state)``, checked.

    Parameters, inputs and states narrower than 32 bits are converted to float32, and so every
    instrument of the state computes in float32 at least: XLA has no QR in lower precision.

    Raises:
        ValueError: for a state without a Jacobian, NaN and infinity.
    """
    xs, state, _ = prepare(cell, params, xs, state)
    batch = xs.shape[1:-1]
    _check.linear_adjoint(cell)
    _check.differentiable("the state", state)
    _check.batched("the state", state, batch)
    initial = jax.eval_shape(lambda: cell.initial_state(batch))
    narrow = [_is_narrow(leaf.dtype) for leaf in jax.tree.leaves(initial)]
    if not any(narrow):
        # Checked before widening: a widened step hides that it rounds a 32-bit state to fewer bits.
        state = _settle(cell, params, xs, state)
    params, xs, state = at_least_float32((params, xs, state))
    wide = _Wide(cell)
    state = _settle(cast(Cell, wide), params, xs, state)
    _check.finite("xs", xs)
    _check.finite("params", params)
    _check.finite("the state", state)
    pack, unpack, size = _packing(state, len(batch))

    def step(vector: Array, x: Array) -> Array:
        state = unpack(vector)
        new, _ = wide.step(params, state, at_least_float32(x))
        return pack(new).astype(vector.dtype)

    return StateMap(step, pack, unpack, size), xs, state


def _packing(state: PyTree, batch_rank: int) -> tuple[Pack, Unpack, int]:
    """The functions from a state to its vector and back, and the length n of that vector."""
    leaves, tree = jax.tree.flatten(state)
    if not leaves:
        raise ValueError(
            "the cell has no state, so there is nothing to follow; give a recurrent cell"
        )
    shapes = [leaf.shape[batch_rank:] for leaf in leaves]
    dtypes = [leaf.dtype for leaf in leaves]
    starts = []
    size = 0
    for shape in shapes:
        starts.append(size)
        size += math.prod(shape)

    # Both read the batch axes off their argument, not off ``state``: instruments call them with
    # one state, with a batch, and under vmap, where the axes of a leaf are not those of ``state``.
    def pack(state: PyTree) -> Array:
        parts = []
        for leaf, shape in zip(jax.tree.leaves(state), shapes, strict=True):
            batch = leaf.shape[: leaf.ndim - len(shape)]
            parts.append(leaf.reshape(*batch, -1))
        return jnp.concatenate(parts, axis=-1)

    def unpack(vector: Array) -> PyTree:
        batch = vector.shape[:-1]
        parts = []
        for start, shape, dtype in zip(starts, shapes, dtypes, strict=True):
            end = start + math.prod(shape)
            part = vector[..., start:end]
            part = part.reshape(*batch, *shape)
            parts.append(part.astype(dtype))
        return jax.tree.unflatten(tree, parts)

    return pack, unpack, size


def _settle(cell: Cell, params: PyTree, xs: Array, state: PyTree) -> PyTree:
    x = jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype)
    return settle(cell, params, x, state)


@dataclasses.dataclass(frozen=True)
class _Wide:
    """The step of a cell whose new state and output are float32 at least."""

    cell: Cell

    def step(self, params: PyTree, state: PyTree, x: Array) -> tuple[PyTree, Any]:
        return at_least_float32(self.cell.step(params, state, x))


def _is_narrow(dtype: Any) -> bool:
    """Whether it is a floating dtype of fewer than 32 bits."""
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        return False
    return dtype.itemsize < 4


def at_least_float32(tree: PyTree) -> PyTree:
    """``tree`` with floats of fewer than 32 bits, such as bfloat16, as float32."""

    def widen(leaf: Array) -> Array:
        # Leaves may be Python numbers, which have no dtype and stay as they are.
        if _is_narrow(getattr(leaf, "dtype", None)):
            return jnp.asarray(leaf, jnp.float32)
        return leaf

    return jax.tree.map(widen, tree)
