"""Which engine runs a cell, why, and what each would keep for the backward pass."""

from typing import Any, NamedTuple

import jax
from jax.extend import core

from rnnlab import _check
from rnnlab._results import result
from rnnlab.driver import RunOptions, arrange, is_composite, prepare, run, settle
from rnnlab.engines.choose import choose, run_engine, wanted
from rnnlab.engines.sequence import Engine, Sequence, known
from rnnlab.typing import Array, Cell, Key, PyTree

CANDIDATES = {
    "scan": Engine("scan"),
    "fused": Engine("fused"),
    "fused, states": Engine("fused", "states"),
    "checkpointed": Engine("checkpointed"),
    "cudnn": Engine("cudnn"),
}


@result
class Explanation(NamedTuple):
    """What :func:`explain_engine` answers; printed, it is a table.

    Attributes:
        engine: the engine that runs the cell; of layers, the engine of each.
        why: why that one, in one sentence.
        residual_bytes: bytes that each engine keeps from the forward to the backward pass, beside
            parameters and inputs; an expression where a dimension is symbolic.
        refused: why the other engines cannot serve.
        layers: the same for each layer and direction; empty for a single cell.
    """

    engine: str
    why: str
    residual_bytes: dict[str, int]
    refused: dict[str, str]
    layers: tuple["Explanation", ...]

    def __str__(self) -> str:
        lines = [f"{self.engine}: {self.why}"]
        sizes = self.residual_bytes.items()
        if all(known(kept) for _, kept in sizes):
            sizes = sorted(sizes, key=lambda item: -item[1])
        for name, kept in sizes:
            size = f"{kept / 2**20:10.3f} MiB" if known(kept) else f"{kept} bytes"
            lines.append(f"  {name:15}{size} kept for the backward pass")
        lines += [f"  {name:15}{reason}" for name, reason in self.refused.items()]
        return "\n".join(lines)


Explanation.__repr__ = Explanation.__str__


def explain_engine(
    cell: Cell,
    params: PyTree,
    xs: Array,
    initial_state: PyTree | None = None,
    *,
    lengths: Array | None = None,
    mask: Array | None = None,
    resets: Array | None = None,
    reverse: bool = False,
    engine: str = "auto",
    residuals: str | None = None,
    segments: int | tuple[int, ...] | None = None,
    key: Key | None = None,
) -> Explanation:
    """Says which engine :func:`rnnlab.unroll` would use, why, and what each costs; computes nothing.

    The arguments are those of ``unroll``; any array may be given as a ``jax.ShapeDtypeStruct``. Bytes are read off the
    traced programs: what the forward pass hands to the backward pass, without parameters and inputs, which are there
    anyway; of layers, the sum.

    >>> import jax, rnnlab
    >>> cell = rnnlab.GRU(512)
    >>> params = jax.eval_shape(lambda key: cell.init(key, 256), jax.random.key(0))
    >>> rnnlab.explain_engine(cell, params, jax.ShapeDtypeStruct((1000, 32, 256), "float32")).engine
    'fused'

    Returns:
        The :class:`Explanation`; printed, it is a table.

    Raises:
        ValueError: as ``unroll`` does.
    """
    asked = wanted(engine, residuals, segments)
    options = RunOptions(
        lengths=lengths, mask=mask, resets=resets, key=key, reverse=reverse, engine=asked
    )
    xs, state, options = _prepared(cell, params, xs, initial_state, options)
    return _explain(cell, params, xs, state, options.replace(key=None))


def _prepared(cell: Cell, *given: PyTree) -> Any:
    """What :func:`rnnlab.driver.prepare` gives, as shapes; the values of arrays are checked, those of shapes not."""
    leaves, tree = jax.tree.flatten(given)
    shapes = {
        place: leaf for place, leaf in enumerate(leaves) if isinstance(leaf, jax.ShapeDtypeStruct)
    }

    def prepared(traced: dict[int, Array]) -> Any:
        merged = [traced.get(place, leaf) for place, leaf in enumerate(leaves)]
        return prepare(cell, *jax.tree.unflatten(tree, merged))

    return jax.eval_shape(prepared, shapes)


def _explain(
    cell: Any, params: PyTree, xs: Array, state: PyTree, options: RunOptions
) -> Explanation:
    if not is_composite(cell):
        xs, marks = jax.eval_shape(arrange, xs, options)
        masked = options.mask is not None
        sequence = Sequence(xs, state, marks, options.reverse, masked=masked)
        return _explain_one(cell, params, sequence, options.engine)
    inside = []

    def explained(
        inner: Cell, params: PyTree, xs: Array, state: PyTree, options: RunOptions
    ) -> tuple[PyTree, Array]:
        inside.append(_explain(inner, *_check.shapes((params, xs, state, options))))
        return run(inner, params, xs, state, options)

    def run_cells(*given: PyTree) -> tuple[PyTree, Array]:
        return cell.run_cells(*given, explained)

    jax.eval_shape(run_cells, params, xs, state, options)
    return _together(inside)


def _explain_one(cell: Any, params: PyTree, sequence: Sequence, asked: Engine) -> Explanation:
    taken, why = choose(cell, params, sequence, asked)
    kept, refused = {}, {}
    for name, candidate in CANDIDATES.items():
        try:
            kept[name] = _residual_bytes(cell, params, sequence, candidate)
        except ValueError as fault:
            refused[name] = str(fault).splitlines()[0]
    return Explanation(_name(taken), why, kept, refused, ())


def _together(inside: list[Explanation]) -> Explanation:
    """The explanation of a composite from those of its cells."""
    kept, refused = {}, {}
    for name in CANDIDATES:
        reasons = [each.refused[name] for each in inside if name in each.refused]
        if reasons:
            refused[name] = reasons[0]
        else:
            kept[name] = sum(each.residual_bytes[name] for each in inside)
    engines = ", ".join(each.engine for each in inside)
    return Explanation(engines, "each cell is run by itself", kept, refused, tuple(inside))


def _name(engine: Engine) -> str:
    return f"{engine.name}, {engine.residuals}" if engine.residuals else engine.name


def _given(params: PyTree, sequence: Sequence) -> tuple:
    return params, sequence.xs, sequence.state, sequence.marks


def _run(cell: Cell, sequence: Sequence, engine: Engine, *given: Any) -> tuple[PyTree, Array]:
    params, xs, state, marks = given
    state = settle(cell, params, xs[0], state, None if marks.valid is None else "lengths need")
    return run_engine(cell, params, sequence._replace(xs=xs, state=state, marks=marks), engine)


def _residual_bytes(cell: Cell, params: PyTree, sequence: Sequence, engine: Engine) -> int:
    def backward(params: PyTree, xs: Array, state: PyTree, marks: PyTree) -> PyTree:
        return jax.vjp(
            lambda *given: _run(cell, sequence, engine, *given, marks), params, xs, state
        )[1]

    traced = jax.make_jaxpr(backward)(*_given(params, sequence)).jaxpr
    there = {*traced.invars, *traced.constvars}
    kept = {var for var in traced.outvars if not isinstance(var, core.Literal) and var not in there}
    return sum(var.aval.size * var.aval.dtype.itemsize for var in kept)
