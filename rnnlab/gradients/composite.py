"""Recording of a composite: each of its cells on its own, joined by the program between them."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

from rnnlab.driver import RunOptions, without_padding
from rnnlab.gradients.backward import Back, Backward, ParameterGradients, Recording
from rnnlab.gradients.scaled import Scaled, add, renormalise, zero
from rnnlab.typing import Array, PyTree

Record = Callable[..., Recording]
"""``record(cell, params, xs, state, options, keep) -> (ys, back)``."""


def record_composite(
    cell: Any,
    params: PyTree,
    xs: Array,
    state: PyTree,
    options: RunOptions,
    keep: bool,
    record: Record,
) -> Recording | None:
    """Records each cell of a composite; JAX differentiates what is between them.

    None where the composite has parameters of its own, or gives one to several cells: what a step
    contributes to such a parameter is not what it contributes in one cell.
    """
    leaves, tree = jax.tree.flatten(params)
    inside = _Inside(record, keep)
    xs = without_padding(xs, options)
    _, ys = cell.run_cells(params, xs, state, options, inside.record)
    if sorted(map(id, inside.leaves)) != sorted(map(id, leaves)):
        return None
    # Which leaf of ``params`` each parameter of the cells is.
    places = {id(leaf): place for place, leaf in enumerate(leaves)}
    order = [places[id(leaf)] for leaf in inside.leaves]

    def between(values: list[Array]) -> list[Array]:
        replay = _Replay(values[1:])
        _, ys = cell.run_cells(params, values[0], state, options, replay.run)
        return [*replay.read, without_padding(ys, options)]

    wires = Wires(between, [xs, *inside.outputs], xs.ndim - 1)

    def back(g: Scaled, *, adjoints_only: bool = False) -> Backward:
        count = len(inside.backs)
        arrived: dict[int, Scaled] = {}
        wires.pull(arrived, count, g)
        parts: list[Backward] = []
        for number in reversed(range(count)):
            coming = wires.take(arrived, number + 1)
            part = inside.backs[number](coming, adjoints_only=adjoints_only)
            wires.pull(arrived, number, part.dxs)
            parts.append(part)
        return _gather(parts[::-1], order, tree, wires.take(arrived, 0))

    return without_padding(ys, options), back


class _Inside:
    """The cells of a composite, recorded as the composite runs them."""

    def __init__(self, record_cell: Record, keep: bool) -> None:
        self.record_cell, self.keep = record_cell, keep
        self.backs: list[Back] = []
        self.outputs: list[Array] = []
        self.leaves: list[Any] = []

    def record(
        self, cell: Any, params: PyTree, xs: Array, state: PyTree, options: RunOptions
    ) -> tuple[PyTree, Array]:
        ys, back = self.record_cell(cell, params, xs, state, options, self.keep)
        self.backs.append(back)
        self.outputs.append(ys)
        self.leaves.extend(jax.tree.leaves(params))
        # The state after the run is not needed, only one of its form.
        return state, ys


class _Replay:
    """Stands in for the cells of a composite: gives outputs that are known, and notes what each cell reads."""

    def __init__(self, outputs: list[Array]) -> None:
        self.outputs = iter(outputs)
        self.read: list[Array] = []

    def run(self, *call: Any) -> tuple[PyTree, Array]:
        _, _, xs, state, _ = call
        self.read.append(xs)
        return state, next(self.outputs)


def _gather(parts: list[Backward], order: list[int], tree: Any, dxs: Scaled) -> Backward:
    """The backward passes of several cells as that of the cell made of them."""
    adjoints = [adjoint._replace(layered=True) for part in parts for adjoint in part.adjoints]
    found = [part.params for part in parts if part.params is not None]
    if not found:
        return Backward(tuple(adjoints), None, dxs)

    def together(trees: list[PyTree]) -> PyTree:
        values = jax.tree.leaves(trees)
        leaves = dict(zip(order, values, strict=True))
        return jax.tree.unflatten(tree, [leaves[place] for place in range(len(leaves))])

    kept = [part.contributions for part in found]
    gradients = ParameterGradients(
        gradient=together([part.gradient for part in found]),
        log_gradient=together([part.log_gradient for part in found]),
        log_contributions=together([part.log_contributions for part in found]),
        contributions=None if kept[0] is None else together(kept),
    )
    return Backward(tuple(adjoints), gradients, dxs)


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
        sources |= dict.fromkeys(equation.outvars, read)
    return [of(atom) for atom in program.outvars]
