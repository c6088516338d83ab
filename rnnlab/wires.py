"""The program between the cells of a composite, and its derivative."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

from rnnlab.scaled import Scaled, add, renormalise, zero
from rnnlab.typing import Array


class Wires:
    """Takes gradients from what cells read back to what they were computed from, at any scale.

    Args:
        between: takes sources (the composite's inputs and the outputs of each cell) to targets (what
            each cell reads, and the composite's outputs). It treats each step and example by itself,
            so that a gradient keeps its exponent.
        sources: the values at which it is differentiated.
        lead: how many axes steps and examples take.
    """

    def __init__(
        self, between: Callable[[list[Array]], list[Array]], sources: list[Array], lead: int
    ) -> None:
        self.between, self.sources, self.lead = between, sources, lead
        program = jax.make_jaxpr(between)(sources).jaxpr
        self.same = [_place(program.invars, var) for var in program.outvars]
        self.depends = _dependencies(program)

    def values(self) -> list[Array]:
        """The targets."""
        return self.between(self.sources)

    def pull(self, arrived: dict[int, Scaled], target: int, g: Scaled) -> None:
        """Adds what the sources owe to the gradient of a target to what has ``arrived`` at each."""
        source = self.same[target]
        if source is not None:
            _add(arrived, source, g)
            return
        places = sorted(self.depends[target])

        def computed(*values: Array) -> Array:
            given = list(self.sources)
            for place, value in zip(places, values, strict=True):
                given[place] = value
            return self.between(given)[target]

        reached, back = jax.vjp(computed, *(self.sources[place] for place in places))
        for place, part in zip(places, back(g.mantissa.astype(reached.dtype)), strict=True):
            _add(arrived, place, renormalise(part, g.exponent, self.lead))

    def take(self, arrived: dict[int, Scaled], source: int) -> Scaled:
        """What has arrived at a source; zero where nothing has."""
        if source in arrived:
            return arrived[source]
        value = self.sources[source]
        return zero(value, value.shape[: self.lead])


def _add(arrived: dict[int, Scaled], place: int, part: Scaled) -> None:
    arrived[place] = add(arrived[place], part) if place in arrived else part


def _place(variables: list[Any], var: Any) -> int | None:
    """Which of the variables ``var`` is; None for none of them."""
    found = [place for place, other in enumerate(variables) if other is var]
    return found[0] if found else None


def _dependencies(program: Any) -> list[set[int]]:
    """The inputs from which each output of a traced program is computed."""
    sources: dict[Any, set[int]] = {var: {place} for place, var in enumerate(program.invars)}

    def of(atom: Any) -> set[int]:
        return set() if isinstance(atom, core.Literal) else sources.get(atom, set())

    for equation in program.eqns:
        read = set().union(*map(of, equation.invars))
        sources |= {var: read for var in equation.outvars}
    return [of(atom) for atom in program.outvars]
