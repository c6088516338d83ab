"""The table of a model: the parameters and operations of each part."""

import collections
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from rnnlab import _check
from rnnlab._results import result
from rnnlab.typing import PyTree


@result
class Part(NamedTuple):
    """One row of a :class:`Table`.

    Attributes:
        name: the field of the model's parameters.
        shapes: the shape of each array, by its path.
        parameters: the number of entries in all arrays.
        operations: the additions and multiplications of its matrix products.
    """

    name: str
    shapes: dict[str, tuple[int, ...]]
    parameters: int
    operations: int


@result
class Table(NamedTuple):
    """The parts of a model; printed, it is a table.

    Attributes:
        parts: a row for each part.
        parameters: the number of all parameters.
        operations: those of ``model.apply`` on the whole batch, forward, without dropout. Only
            matrix products count, two operations for each multiply-add; an embedding is a look-up
            and counts none.
    """

    parts: tuple[Part, ...]
    parameters: int
    operations: int

    def __str__(self) -> str:
        rows = [("part", "parameters", "operations", "shapes")]
        for part in self.parts:
            shapes = [f"{path} {list(shape)}".strip() for path, shape in part.shapes.items()]
            first, *rest = shapes or [""]
            rows.append((part.name, f"{part.parameters:,}", f"{part.operations:,}", first))
            rows += [("", "", "", shape) for shape in rest]
        rows.append(("total", f"{self.parameters:,}", f"{self.operations:,}", ""))
        columns = list(zip(*rows, strict=True))
        widths = [max(map(len, column)) for column in columns]
        lines = []
        for name, parameters, operations, shape in rows:
            line = f"{name:{widths[0]}}  {parameters:>{widths[1]}}  {operations:>{widths[2]}}"
            lines.append(f"{line}  {shape}".rstrip())
        lines.append("operations: multiplications and additions of matrix products, forward")
        return "\n".join(lines)


Table.__repr__ = Table.__str__


def count(model: Any, batch: Any) -> Table:
    """The table of a model whose ``apply`` names its parts by ``jax.named_scope``."""
    batch = _check.shapes(batch)
    params = jax.eval_shape(model.init, jax.random.key(0), batch)
    traced = jax.make_jaxpr(model.apply)(params, batch)
    operations = collections.Counter()
    for part, amount in _products(traced.jaxpr, params._fields, None, 1):
        operations[part] += amount
    parts = []
    for name in params._fields:
        shapes = _shapes(getattr(params, name))
        size = sum(int(np.prod(shape)) for shape in shapes.values())
        if size or operations[name]:
            parts.append(Part(name, shapes, size, operations[name]))
    total = sum(part.parameters for part in parts)
    return Table(tuple(parts), total, operations.total())


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        shapes[jax.tree_util.keystr(path).lstrip(".")] = leaf.shape
    return shapes


def _products(
    jaxpr: Any, names: tuple[str, ...], part: str | None, times: int
) -> Iterator[tuple[str | None, int]]:
    """The matrix products of a traced program: their part, and operations ``times`` repeated."""
    for equation in jaxpr.eqns:
        own = part or _part(equation, names)
        if equation.primitive.name == "dot_general":
            yield own, times * _operations(equation)
        repeats = times
        if equation.primitive.name == "scan":
            repeats *= equation.params["length"]
        for inner in _programs(equation.params):
            yield from _products(inner, names, own, repeats)


def _part(equation: Any, names: tuple[str, ...]) -> str | None:
    """The outermost scope of an equation that is the name of a part."""
    for scope in str(equation.source_info.name_stack).split("/"):
        if scope in names:
            return scope
    return None


def _operations(equation: Any) -> int:
    """2 · entries of the product · terms of each."""
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    terms = int(np.prod([left[axis] for axis in contracted]))
    return 2 * terms * int(np.prod(equation.outvars[0].aval.shape))


def _programs(params: dict[str, Any]) -> Iterator[Any]:
    """The programs inside of an equation: a loop's step, or a compiled function."""
    for value in params.values():
        entries = value if isinstance(value, tuple | list) else (value,)
        for entry in entries:
            if isinstance(entry, core.ClosedJaxpr):
                yield entry.jaxpr
            elif isinstance(entry, core.Jaxpr):
                yield entry
