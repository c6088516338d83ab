"""Double precision for a search, where the cell can compute in it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from rnnlab.diagnostics.state.state_map import StateMap, state_map
from rnnlab.typing import Array, Cell, PyTree


def in_double(cell: Cell, params: PyTree, x: Array, starts: PyTree) -> tuple[PyTree, Array, PyTree]:
    """Parameters, input and starts as 64-bit floats; as they are where the cell's step insists on other ones.

    In 32 bits, Jacobians less the identity lose all digits where a gate keeps all but 1e-8 of a number, and a cycle of
    period 8 whose multiplier is 256 closes to 1e-5 at best.
    """
    doubled = _in_double(params), _in_double(x), _in_double(starts)
    try:
        flat_map(cell, doubled[0], doubled[1], first(doubled[2]))
    except (TypeError, ValueError):
        return params, x, starts
    return doubled


def _in_double(tree: PyTree) -> PyTree:
    # By NumPy, since JAX would compile a program for every shape.
    def convert(leaf: Any) -> Any:
        floating = jnp.issubdtype(getattr(leaf, "dtype", np.dtype(type(leaf))), jnp.floating)
        return jax.device_put(np.asarray(leaf, np.float64)) if floating else leaf

    return jax.tree.map(convert, tree)


def flat_map(cell: Cell, params: PyTree, x: Array, like: PyTree) -> StateMap:
    """The cell's map on vectors, outside of a compiled program."""
    return state_map(cell, params, jax.device_put(np.asarray(x)[None]), like)[0]


def first(states: PyTree) -> PyTree:
    """The first of states with one leading axis."""
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf)[0]), states)


def as_vectors(states: PyTree) -> np.ndarray:
    """States with one leading axis as vectors ``[S, n]``: their leaves side by side."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(states)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def precision_of(step: Callable[[Array], Array], h: np.ndarray) -> float:
    """ε of the coarsest floats that ``step`` computes with on the way from ``h`` to its result."""
    traced = jax.make_jaxpr(step)(h)
    own = jnp.finfo(h.dtype).eps
    return float(max([own, *_precisions(traced.jaxpr, set(traced.jaxpr.invars))]))


def _precisions(jaxpr: Any, dependent: set) -> list[float]:
    """ε of everything floating that depends on some of the inputs of a program."""
    found = []
    for eqn in jaxpr.eqns:
        if not any(not isinstance(atom, core.Literal) and atom in dependent for atom in eqn.invars):
            continue
        dependent.update(eqn.outvars)
        dtypes = [var.aval.dtype for var in eqn.outvars if hasattr(var.aval, "dtype")]
        found += [jnp.finfo(dtype).eps for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]
        for inner in core.jaxprs_in_params(eqn.params):
            found += _precisions(inner, set(inner.invars))
    return found
