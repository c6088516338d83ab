"""The explanation of an engine: which runs a cell, why, and what each would keep in memory."""

from typing import Any, NamedTuple

import jax
from jax.extend import core

from rnnlab import _check
from rnnlab._results import result
from rnnlab.driver import RunOptions, engine_input, is_composite, prepare, run
from rnnlab.engines.choose import choose, parse_engine, run_engine
from rnnlab.engines.sequence import EngineChoice, EngineInput, Marks, known
from rnnlab.typing import Array, Cell, Key, PyTree

CANDIDATES = {
    "scan": EngineChoice("scan"),
    "fused": EngineChoice("fused"),
    "fused, states": EngineChoice("fused", "states"),
    "native": EngineChoice("native"),
    "native, states": EngineChoice("native", "states"),
    "checkpointed": EngineChoice("checkpointed"),
    "cudnn": EngineChoice("cudnn"),
}


@result
class Explanation(NamedTuple):
    """The result of :func:`explain_engine`; printed, it is a table.

    Attributes:
        engine: the engine that runs the cell; of layers, the engine of each.
        why: the reason for that engine, in one sentence.
        residual_bytes: bytes that each engine keeps from the forward to the backward pass, beside
            parameters and inputs; an expression where a dimension is symbolic.
        refused: why the other engines cannot run the cell.
        layers: the same for each layer and direction; empty for a single cell.
    """

    engine: str
    why: str
    residual_bytes: dict[str, int]
    refused: dict[str, str]
    layers: tuple["Explanation", ...]

    def __str__(self) -> str:
        lines = [f"{self.engine}: {self.why}"]
        names = list(self.residual_bytes)
        # Expressions of symbolic dimensions cannot be compared.
        if all(map(known, self.residual_bytes.values())):
            names.sort(key=self.residual_bytes.__getitem__, reverse=True)
        for name in names:
            kept = self.residual_bytes[name]
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
    reset_state: PyTree | None = None,
    reverse: bool = False,
    engine: str = "auto",
    residuals: str | None = None,
    segments: int | tuple[int, ...] | None = None,
    key: Key | None = None,
) -> Explanation:
    """Says which engine :func:`rnnlab.unroll` would use, why, and what each costs.

    Nothing is computed. The arguments are those of ``unroll``, time first; any array may be given
    as a ``jax.ShapeDtypeStruct``. Bytes are read from the traced programs: what the forward pass
    keeps for the backward pass, without parameters and inputs, which are in memory anyway; of
    layers, the sum.

    >>> import jax, rnnlab
    >>> cell = rnnlab.MGU(512)
    >>> params = jax.eval_shape(lambda key: cell.init(key, 256), jax.random.key(0))
    >>> rnnlab.explain_engine(cell, params, jax.ShapeDtypeStruct((1000, 32, 256), "float32")).engine
    'fused'

    Returns:
        The :class:`Explanation`; printed, it is a table.

    Raises:
        ValueError: as ``unroll`` does.
    """
    asked = parse_engine(engine, residuals, segments)
    options = RunOptions(
        lengths=lengths,
        mask=mask,
        resets=resets,
        reset_state=reset_state,
        key=key,
        reverse=reverse,
        engine=asked,
    )
    xs, state, options = _prepared(cell, params, xs, initial_state, options)
    return _explain(cell, params, xs, state, options.replace(key=None))


def _prepared(cell: Cell, *arguments: PyTree) -> Any:
    """The result of :func:`rnnlab.driver.prepare`, as shapes."""
    leaves, tree = jax.tree.flatten(arguments)
    # Only shapes are traced. Arrays stay concrete, so that prepare checks their values too, such as
    # that lengths lie in 0..T.
    shapes = {
        index: leaf for index, leaf in enumerate(leaves) if isinstance(leaf, jax.ShapeDtypeStruct)
    }

    def prepared(traced: dict[int, Array]) -> Any:
        merged = [traced.get(index, leaf) for index, leaf in enumerate(leaves)]
        return prepare(cell, *jax.tree.unflatten(tree, merged))

    return jax.eval_shape(prepared, shapes)


def _explain(
    cell: Any, params: PyTree, xs: Array, state: PyTree, options: RunOptions
) -> Explanation:
    if not is_composite(cell):
        return _explain_one(cell, params, _input_shapes(cell, params, xs, state, options), options)
    explanations = []

    def explained(
        inner: Cell, params: PyTree, xs: Array, state: PyTree, options: RunOptions
    ) -> tuple[PyTree, Array]:
        shapes = _check.shapes((params, xs, state, options))
        explanations.append(_explain(inner, *shapes))
        return run(inner, params, xs, state, options)

    def run_cells(*arguments: PyTree) -> tuple[PyTree, Array]:
        return cell.run_cells(*arguments, explained)

    # The composite runs its cells itself, with a run that explains each on the way.
    jax.eval_shape(run_cells, params, xs, state, options)
    return _together(explanations)


def _input_shapes(
    cell: Cell, params: PyTree, xs: Array, state: PyTree, options: RunOptions
) -> EngineInput:
    """The input of the engine, with shapes in place of arrays."""

    def arrays(*arguments: Any) -> EngineInput:
        built = engine_input(cell, *arguments)
        # A traced function returns arrays only.
        return built._replace(reverse=None, every=None, masked=None)

    shapes = jax.eval_shape(arrays, params, xs, state, options)
    masked = options.mask is not None
    return shapes._replace(reverse=options.reverse, every=options.every, masked=masked)


def _explain_one(
    cell: Any, params: PyTree, inputs: EngineInput, options: RunOptions
) -> Explanation:
    taken, why = choose(cell, params, inputs, options.engine)
    kept, refused = {}, {}
    for name, candidate in CANDIDATES.items():
        try:
            kept[name] = _residual_bytes(cell, params, inputs, candidate)
        except ValueError as fault:
            refused[name] = str(fault).splitlines()[0]
    return Explanation(_name(taken), why, kept, refused, ())


def _together(explanations: list[Explanation]) -> Explanation:
    """The explanation of a composite from those of its cells."""
    kept, refused = {}, {}
    for name in CANDIDATES:
        refusing = [each for each in explanations if name in each.refused]
        if refusing:
            refused[name] = refusing[0].refused[name]
        else:
            kept[name] = sum(each.residual_bytes[name] for each in explanations)
    engines = ", ".join(each.engine for each in explanations)
    why = "the engine is chosen for each cell separately"
    return Explanation(engines, why, kept, refused, tuple(explanations))


def _name(engine: EngineChoice) -> str:
    return f"{engine.name}, {engine.residuals}" if engine.residuals else engine.name


def _residual_bytes(cell: Cell, params: PyTree, inputs: EngineInput, engine: EngineChoice) -> int:
    """The bytes that the derivative of a run holds beside its arguments.

    ``jax.vjp`` returns a function that holds all residuals as its leaves: as the outputs of a
    traced program they can be counted without running anything.
    """

    def backward(params: PyTree, xs: Array, states: PyTree, marks: Marks) -> PyTree:
        def forward(params: PyTree, xs: Array, states: PyTree) -> tuple[PyTree, Array]:
            state, reset_state = states
            given = inputs._replace(xs=xs, state=state, marks=marks, reset_state=reset_state)
            return run_engine(cell, params, given, engine)

        _, pullback = jax.vjp(forward, params, xs, states)
        return pullback

    trace = jax.make_jaxpr(backward)
    states = inputs.state, inputs.reset_state
    traced = trace(params, inputs.xs, states, inputs.marks).jaxpr
    # A residual that is an argument costs nothing; one that is used twice is held once.
    arguments = {*traced.invars, *traced.constvars}
    residuals = set()
    for var in traced.outvars:
        if not isinstance(var, core.Literal) and var not in arguments:
            residuals.add(var)
    return sum(var.aval.size * var.aval.dtype.itemsize for var in residuals)
