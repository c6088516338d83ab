"""The contract between a cell's methods: which of them may stand in for which.

A subclass that overrides one method inherits fast versions of others that compute its parent's
equation. It must never be run by those.
"""

from typing import Any

import jax
from jax.extend import core

from rnnlab.cells.base import Maps
from rnnlab.typing import PyTree

SPLIT = ("project", "mix", "gate")
"""The three methods into which a cell may split its ``step``."""


def stands_in(cell: Any, fast: tuple[str, ...], slow: tuple[str, ...]) -> bool:
    """Whether the methods ``fast`` of ``cell`` still compute what its methods ``slow`` do.

    They do where the class that defines a fast method is the class that defines each of the slow
    ones, or is derived from it. A subclass that overrides ``gate`` alone inherits a
    ``gate_adjoint`` that belongs to another equation.
    """
    for fast_name in fast:
        for slow_name in slow:
            fast_class = _definer(cell, fast_name)
            slow_class = _definer(cell, slow_name)
            if fast_class is None or slow_class is None:
                return False
            if not issubclass(fast_class, slow_class):
                return False
    return True


def splits(cell: Any) -> bool:
    """Whether ``project``, ``mix`` and ``gate`` may be run in place of ``step``."""
    return stands_in(cell, SPLIT, ("step",))


def maps_of(cell: Any, params: PyTree) -> Maps | None:
    """The two linear maps of a cell that also defines the adjoint of its gate; None for others."""
    adjoint = stands_in(cell, ("gate_residuals", "gate_adjoint"), ("gate",))
    linear = stands_in(cell, ("maps",), ("project", "mix"))
    return cell.maps(params) if splits(cell) and adjoint and linear else None


def map_leaves(cell: Any, params: PyTree) -> tuple[int | None, ...] | None:
    """The index of the parameter leaf that is w_x, w_h, b and c; None for a map that is absent.

    None altogether where a map is computed from the parameters, or where a parameter is not one of
    the maps: then a parameter's gradient is not that of a map, and the norms of the maps' gradients
    say nothing about it.
    """
    maps = maps_of(cell, params)
    if maps is None:
        return None
    # Traced, since a transposed or scaled parameter has the shape of one, but is not one.
    traced = jax.make_jaxpr(lambda params: cell.maps(params)[:4])(params).jaxpr
    arguments = list(traced.invars)
    indices = []
    for var in traced.outvars:
        if isinstance(var, core.Literal) or var not in arguments:
            return None
        indices.append(arguments.index(var))
    if sorted(indices) != list(range(len(arguments))):
        return None
    remaining = iter(indices)
    return tuple(None if leaf is None else next(remaining) for leaf in maps[:4])


def hidden_leaf(cell: Any, state: PyTree) -> int | None:
    """The index of the state leaf that is h; None where there is none.

    h is what the cell's ``hidden`` returns, else the state's field h.
    """
    try:
        h = cell.hidden(state) if hasattr(cell, "hidden") else state.h
    except AttributeError:
        # The inherited ``hidden`` raises it as well, on a state without a field h.
        return None
    for index, leaf in enumerate(jax.tree.leaves(state)):
        if leaf is h:
            return index
    return None


def _definer(cell: Any, name: str) -> type | None:
    """The class that defines method ``name`` of ``cell``."""
    for kind in type(cell).__mro__:
        if name in vars(kind):
            return kind
    return None
