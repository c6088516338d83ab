"""A learned initial state: a linear map from a vector to the state of a cell."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from rnnlab.cells.base import lift
from rnnlab.cells.readout import Readout, ReadoutParams
from rnnlab.models.base import float_dtype
from rnnlab.typing import Array, PyTree


def is_mapped(leaf: Any) -> bool:
    """Whether a leaf ``[B, ...]`` of a state is set; counters and flags keep their value."""
    return jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.ndim > 1


def state_size(cell: Any) -> int:
    """The number of features of a cell's state, all leaves together."""
    state = jax.eval_shape(lambda: cell.initial_state((1,)))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state) if is_mapped(leaf))


def flat_state(state: PyTree) -> Array:
    """All features of a state side by side, ``[B, S]``."""
    leaves = filter(is_mapped, jax.tree.leaves(state))
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=-1)


def start_map(name: str, cell: Any) -> Readout:
    """The linear map to the state of a cell; ValueError for a cell without one."""
    size = state_size(cell)
    if not size:
        raise ValueError(
            f"{name} is a {type(cell).__name__}, which has no state to set; give a recurrent cell "
            "such as rnnlab.LSTM(128)"
        )
    return Readout(size, param_dtype=float_dtype(cell))


def start_state(cell: Any, params: ReadoutParams, vector: Array) -> PyTree:
    """s₀ = W v + b for ``v [B, C]``: each leaf takes its columns, in the order of the leaves."""
    columns = start_map("cell", cell)(params, vector)
    leaves, tree = jax.tree.flatten(cell.initial_state(vector.shape[:1]))
    mapped = []
    used = 0
    for leaf in leaves:
        if not is_mapped(leaf):
            mapped.append(leaf)
            continue
        size = math.prod(leaf.shape[1:])
        column = lift(columns[:, used : used + size], leaf)
        mapped.append(column.reshape(leaf.shape))
        used += size
    return jax.tree.unflatten(tree, mapped)
