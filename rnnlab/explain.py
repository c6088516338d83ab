"""Which engine runs a cell, why, and what each would keep for the backward pass."""

from typing import Any, NamedTuple

import jax
from jax.extend import core

from rnnlab._results import result
from rnnlab.driver import arrange, check_options, has_layers, prepare, settle
from rnnlab.engines import choose, run_engine, wanted
from rnnlab.engines.plan import Engine, Sequence, known
from rnnlab.layers import Bidirectional, Stack
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
    check_options(key, reverse)
    given = params, xs, initial_state, lengths, resets
    xs, state, lengths, resets = _prepared(cell, *given)
    xs, marks = jax.eval_shape(arrange, xs, lengths, resets)
    return _explain(cell, params, Sequence(xs, state, marks, reverse), asked)[0]


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


def _explain(cell: Any, params: Any, sequence: Sequence, asked: Engine) -> tuple[Explanation, Any]:
    """The explanation of a cell, and the form of its outputs."""
    if isinstance(cell, Stack) and has_layers(cell):
        layers = []
        for below, weights, state in zip(
            cell.cells, params.layers, sequence.state.layers, strict=True
        ):
            layer, ys = _explain(below, weights, sequence._replace(state=state), asked)
            layers.append(layer)
            sequence = sequence._replace(xs=ys)
        return _together(layers, "each layer is run by itself"), sequence.xs
    if isinstance(cell, Bidirectional):
        ways = zip((cell.forward, cell.backward), params, sequence.state, strict=True)
        layers, outputs = zip(
            *(_explain(c, p, sequence._replace(state=s), asked) for c, p, s in ways), strict=True
        )
        width = sum(ys.shape[-1] for ys in outputs)
        ys = jax.ShapeDtypeStruct((*outputs[0].shape[:-1], width), outputs[0].dtype)
        return _together(list(layers), "each direction is run by itself"), ys
    taken, why = choose(cell, params, sequence, asked)
    kept, refused = {}, {}
    for name, candidate in CANDIDATES.items():
        try:
            kept[name] = _residual_bytes(cell, params, sequence, candidate)
        except ValueError as fault:
            refused[name] = str(fault).splitlines()[0]
    final, ys = jax.eval_shape(
        lambda *given: _run(cell, sequence, taken, *given), *_given(params, sequence)
    )
    del final
    return Explanation(_name(taken), why, kept, refused, ()), ys


def _together(layers: list[Explanation], why: str) -> Explanation:
    kept, refused = {}, {}
    for name in CANDIDATES:
        if missing := [layer.refused[name] for layer in layers if name in layer.refused]:
            refused[name] = missing[0]
        else:
            kept[name] = sum(layer.residual_bytes[name] for layer in layers)
    return Explanation(
        ", ".join(layer.engine for layer in layers), why, kept, refused, tuple(layers)
    )


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
