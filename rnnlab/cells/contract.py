"""Which of a cell's methods may stand in for others: a subclass must never be run by its parent's equation."""

from typing import Any

import jax
from jax.extend import core

from rnnlab.cells.base import Maps
from rnnlab.typing import PyTree

SPLIT = ("project", "mix", "gate")
"""The three methods into which a cell may split its ``step``."""


def stands_in(cell: Any, fast: tuple[str, ...], slow: tuple[str, ...]) -> bool:
    """Whether the methods ``fast`` of ``cell`` still compute what its methods ``slow`` do.

    They do where the class that defines a fast method is the class that defines each of the slow ones, or is derived
    from it. A subclass that overrides ``gate`` alone inherits a ``gate_adjoint`` that belongs to another equation.
    """
    definers = [_definer(cell, name) for name in fast]
    replaced = [_definer(cell, name) for name in slow]
    return all(
        mine is not None and theirs is not None and issubclass(mine, theirs)
        for mine in definers
        for theirs in replaced
    )


def splits(cell: Any) -> bool:
    """Whether ``project``, ``mix`` and ``gate`` may be run in place of ``step``."""
    return stands_in(cell, SPLIT, ("step",))


def maps_of(cell: Any, params: PyTree) -> Maps | None:
    """The two linear maps of a cell that gives, with them, the adjoint of its gate; None for others."""
    adjoint = stands_in(cell, ("gate_residuals", "gate_adjoint"), ("gate",))
    linear = stands_in(cell, ("maps",), ("project", "mix"))
    return cell.maps(params) if splits(cell) and adjoint and linear else None


def map_leaves(cell: Any, params: PyTree) -> tuple[int | None, ...] | None:
    """Which leaf of the parameters each map is: of w_x, w_h, b and c; None for a map that is absent.

    None altogether where a map is computed from the parameters, or where a parameter is not one of the maps: then a
    parameter's gradient is not that of a map, and the norms of the maps' gradients say nothing about it.
    """
    maps = maps_of(cell, params)
    if maps is None:
        return None
    traced = jax.make_jaxpr(lambda params: cell.maps(params)[:4])(params).jaxpr
    given = list(traced.invars)
    found = []
    for var in traced.outvars:
        if isinstance(var, core.Literal) or var not in given:
            return None
        found.append(given.index(var))
    if sorted(found) != list(range(len(given))):
        return None
    left = iter(found)
    return tuple(None if leaf is None else next(left) for leaf in maps[:4])


def hidden_leaf(cell: Any, state: PyTree) -> int | None:
    """Which leaf of the state is h: what the cell's ``hidden`` returns, else the state's field h; None for neither."""
    leaves = jax.tree.leaves(state)
    try:
        h = cell.hidden(state) if hasattr(cell, "hidden") else state.h
    except AttributeError:  # also that of the inherited method, on a state without a field h
        return None
    return next((number for number, leaf in enumerate(leaves) if leaf is h), None)


def _definer(cell: Any, name: str) -> type | None:
    """The class that defines method ``name`` of ``cell``."""
    return next((kind for kind in type(cell).__mro__ if name in vars(kind)), None)
