"""Recording of a composite: each of its cells separately, joined by the program between them."""

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

    None where the composite has parameters of its own, or shares one between several cells: a
    step's contribution to such a parameter is not the contribution within one cell.
    """
    leaves, tree = jax.tree.flatten(params)
    inside = _Inside(record, keep)
    xs = without_padding(xs, options)
    _, ys = cell.run_cells(params, xs, state, options, inside.record)
    recorded = sorted(map(id, inside.leaves))
    if recorded != sorted(map(id, leaves)):
        return None
    # The cells report their parameters in the order in which they run, which need not be the order
    # of the leaves of ``params``.
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
        parts: list[Backward] = []
        # The last target is the output of the composite.
        wires.pull(arrived, count, g)
        for index in reversed(range(count)):
            # Source 0 is the input of the composite; source i + 1 is the output of cell i.
            coming = wires.take(arrived, index + 1)
            part = inside.backs[index](coming, adjoints_only=adjoints_only)
            wires.pull(arrived, index, part.dxs)
            parts.append(part)
        parts.reverse()
        dxs = wires.take(arrived, 0)
        return _gather(parts, order, tree, dxs)

    return without_padding(ys, options), back


class _Inside:
    """The cells of a composite, recorded as the composite runs them."""

    def __init__(self, record_cell: Record, keep: bool) -> None:
        self.record_cell = record_cell
        self.keep = keep
        self.backs: list[Back] = []
        self.outputs: list[Array] = []
        self.leaves: list[Any] = []

    def record(
        self,
        cell: Any,
        params: PyTree,
        xs: Array,
        state: PyTree,
        options: RunOptions,
    ) -> tuple[PyTree, Array]:
        ys, back = self.record_cell(cell, params, xs, state, options, self.keep)
        self.backs.append(back)
        self.outputs.append(ys)
        self.leaves.extend(jax.tree.leaves(params))
        # Nobody reads the state after the run; the composite only needs one of the same structure.
        return state, ys


class _Replay:
    """A stand-in for the cells of a composite: returns known outputs and notes what each reads."""

    def __init__(self, outputs: list[Array]) -> None:
        self.outputs = iter(outputs)
        self.read: list[Array] = []

    def run(self, *call: Any) -> tuple[PyTree, Array]:
        _, _, xs, state, _ = call
        self.read.append(xs)
        return state, next(self.outputs)


def _gather(
    parts: list[Backward],
    order: list[int],
    tree: Any,
    dxs: Scaled,
) -> Backward:
    """The backward passes of several cells as one backward pass of the composite."""
    adjoints = []
    for part in parts:
        for adjoint in part.adjoints:
            layered = adjoint._replace(layered=True)
            adjoints.append(layered)

    params = [part.params for part in parts if part.params is not None]
    if not params:
        return Backward(tuple(adjoints), None, dxs)

    def together(trees: list[PyTree]) -> PyTree:
        values = jax.tree.leaves(trees)
        by_place = dict(zip(order, values, strict=True))
        leaves = [by_place[place] for place in range(len(by_place))]
        return jax.tree.unflatten(tree, leaves)

    kept = [part.contributions for part in params]
    gradients = ParameterGradients(
        gradient=together([part.gradient for part in params]),
        log_gradient=together([part.log_gradient for part in params]),
        log_contributions=together([part.log_contributions for part in params]),
        contributions=None if kept[0] is None else together(kept),
    )
    return Backward(tuple(adjoints), gradients, dxs)


class Wires:
    """The way of gradients from what cells read back to its sources, at any scale.

    Args:
        between: takes sources (the composite's inputs and the outputs of each cell) to targets
            (what each cell reads, and the composite's outputs). It treats each step and example
            separately, so that a gradient keeps its exponent.
        sources: the values at which it is differentiated.
        lead: how many axes steps and examples take.
    """

    def __init__(
        self,
        between: Callable[[list[Array]], list[Array]],
        sources: list[Array],
        lead: int,
    ) -> None:
        self.between = between
        self.sources = sources
        self.lead = lead
        program = jax.make_jaxpr(between)(sources).jaxpr
        # The source that a target is identical to, or None; its gradient needs no derivative.
        self.same = [_place(program.invars, var) for var in program.outvars]
        self.depends = _dependencies(program)

    def pull(self, arrived: dict[int, Scaled], target: int, g: Scaled) -> None:
        """Takes the gradient of a target to its sources, and adds it to what has ``arrived``."""
        source = self.same[target]
        if source is not None:
            _add(arrived, source, g)
            return
        # Only sources that the target depends on: the zero gradients of the others would give them
        # a scale, and cost a product.
        places = sorted(self.depends[target])
        inputs = [self.sources[place] for place in places]

        def computed(*values: Array) -> Array:
            sources = list(self.sources)
            for place, value in zip(places, values, strict=True):
                sources[place] = value
            return self.between(sources)[target]

        output, back = jax.vjp(computed, *inputs)
        gradients = back(g.mantissa.astype(output.dtype))
        for place, gradient in zip(places, gradients, strict=True):
            _add(arrived, place, renormalise(gradient, g.exponent, self.lead))

    def take(self, arrived: dict[int, Scaled], source: int) -> Scaled:
        """What has arrived at a source; zero where nothing has."""
        if source in arrived:
            return arrived[source]
        value = self.sources[source]
        batch = value.shape[: self.lead]
        return zero(value, batch)


def _add(arrived: dict[int, Scaled], place: int, part: Scaled) -> None:
    arrived[place] = add(arrived[place], part) if place in arrived else part


def _place(variables: list[Any], var: Any) -> int | None:
    """The place of ``var`` among the variables; None where it is none of them."""
    for place, other in enumerate(variables):
        if other is var:
            return place
    return None


def _dependencies(program: Any) -> list[set[int]]:
    """The inputs from which each output of a traced program is computed."""
    sources: dict[Any, set[int]] = {}
    for place, var in enumerate(program.invars):
        sources[var] = {place}

    def sources_of(atom: Any) -> set[int]:
        if isinstance(atom, core.Literal):
            return set()
        return sources.get(atom, set())

    for equation in program.eqns:
        read: set[int] = set()
        for atom in equation.invars:
            read |= sources_of(atom)
        sources |= dict.fromkeys(equation.outvars, read)
    return [sources_of(atom) for atom in program.outvars]
