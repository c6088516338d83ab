"""Double precision for a search, where the cell can compute in it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from rnnlab.diagnostics.state.state_map import StateMap, state_map
from rnnlab.typing import Array, Cell, PyTree


def in_double(
    cell: Cell,
    params: PyTree,
    x: Array,
    starts: PyTree,
) -> tuple[PyTree, Array, PyTree]:
    """Parameters, input and starts as 64-bit floats, unless the cell's step rejects these.

    In 32 bits, the Jacobian less the identity loses all digits where a gate keeps all but 1e-8 of a
    number, and a cycle of period 8 whose multiplier is 256 closes to 1e-5 at best.
    """
    wide_params = _in_double(params)
    wide_x = _in_double(x)
    wide_starts = _in_double(starts)
    try:
        flat_map(cell, wide_params, wide_x, first(wide_starts))
    except (TypeError, ValueError):
        return params, x, starts
    return wide_params, wide_x, wide_starts


def _in_double(tree: PyTree) -> PyTree:
    def widen(leaf: Any) -> Any:
        # Python numbers have no dtype, and become arrays as well where they are floats.
        dtype = getattr(leaf, "dtype", np.dtype(type(leaf)))
        if not jnp.issubdtype(dtype, jnp.floating):
            return leaf
        # By NumPy, since JAX would compile a program for every shape.
        return jax.device_put(np.asarray(leaf, np.float64))

    return jax.tree.map(widen, tree)


def flat_map(cell: Cell, params: PyTree, x: Array, like: PyTree) -> StateMap:
    """The cell's map on vectors, outside of a compiled program."""
    # ``device_put`` of a NumPy array, since ``x[None]`` would be compiled.
    xs = jax.device_put(np.asarray(x)[None])
    flat, _, _ = state_map(cell, params, xs, like)
    return flat


def first(states: PyTree) -> PyTree:
    """The first of states with one leading axis."""

    def take(leaf: Any) -> Array:
        return jax.device_put(np.asarray(leaf)[0])

    return jax.tree.map(take, states)


def as_vectors(states: PyTree) -> np.ndarray:
    """States with one leading axis as vectors ``[S, n]``: the concatenation of their leaves."""
    columns = []
    for leaf in jax.tree.leaves(states):
        array = np.asarray(leaf)
        columns.append(array.reshape(len(array), -1))
    return np.concatenate(columns, axis=1)


def precision_of(step: Callable[[Array], Array], h: np.ndarray) -> float:
    """ε of the coarsest floats that ``step`` computes with on the way from ``h`` to its result."""
    traced = jax.make_jaxpr(step)(h)
    dependent = set(traced.jaxpr.invars)
    precisions = [jnp.finfo(h.dtype).eps]
    precisions += _precisions(traced.jaxpr, dependent)
    return float(max(precisions))


def _precisions(jaxpr: Any, dependent: set) -> list[float]:
    """ε of every floating value of a program that depends on some of its inputs."""
    # Values that do not depend on the state, such as parameters stored in bfloat16, are left out:
    # they change the map, but not how exactly it is computed.
    precisions = []
    for eqn in jaxpr.eqns:
        variables = {atom for atom in eqn.invars if not isinstance(atom, core.Literal)}
        if not variables & dependent:
            continue
        dependent.update(eqn.outvars)
        for variable in eqn.outvars:
            dtype = getattr(variable.aval, "dtype", None)
            if dtype is not None and jnp.issubdtype(dtype, jnp.floating):
                precisions.append(jnp.finfo(dtype).eps)
        for inner in core.jaxprs_in_params(eqn.params):
            precisions += _precisions(inner, set(inner.invars))
    return precisions
