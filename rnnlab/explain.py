"""The explanation of an engine: which runs a cell, why, and what each would keep in memory."""

from typing import Any, NamedTuple

import jax
from jax.extend import core

from rnnlab import _check
from rnnlab._results import result
from rnnlab.driver import RunOptions, after_reset, arrange, is_composite, prepare, run, settle
from rnnlab.engines.choose import choose, run_engine, wanted
from rnnlab.engines.sequence import Engine, Marks, Sequence, known
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

    Nothing is computed. The arguments are those of ``unroll``; any array may be given as a
    ``jax.ShapeDtypeStruct``. Bytes are read from the traced programs: what the forward pass hands
    to the backward pass, without parameters and inputs, which are in memory anyway; of layers, the
    sum.

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
        xs, marks = jax.eval_shape(arrange, xs, options)
        masked = options.mask is not None
        batch = xs.shape[1:-1]
        reset_state = jax.eval_shape(
            lambda *given: after_reset(cell, given[0], batch, given[1]), state, options
        )
        sequence = Sequence(
            xs, state, marks, options.reverse, masked=masked, reset_state=reset_state
        )
        return _explain_one(cell, params, sequence, options.engine)
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


def _explain_one(cell: Any, params: PyTree, sequence: Sequence, asked: Engine) -> Explanation:
    taken, why = choose(cell, params, sequence, asked)
    kept, refused = {}, {}
    for name, candidate in CANDIDATES.items():
        try:
            kept[name] = _residual_bytes(cell, params, sequence, candidate)
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
    return Explanation(engines, "each cell is run by itself", kept, refused, tuple(explanations))


def _name(engine: Engine) -> str:
    return f"{engine.name}, {engine.residuals}" if engine.residuals else engine.name


def _residual_bytes(cell: Cell, params: PyTree, sequence: Sequence, engine: Engine) -> int:
    """The bytes that the derivative of a run holds beside its arguments.

    ``jax.vjp`` returns a function that holds all residuals as its leaves: as the outputs of a
    traced program they can be counted without running anything.
    """

    def backward(params: PyTree, xs: Array, states: PyTree, marks: Marks) -> PyTree:
        output_for = None if marks.valid is None else "lengths need"

        def forward(params: PyTree, xs: Array, states: PyTree) -> tuple[PyTree, Array]:
            state, reset_state = states
            settled = settle(cell, params, xs[0], state, output_for)
            if reset_state is not None:
                reset_state = jax.tree.map(
                    lambda leaf, like: leaf.astype(like.dtype), reset_state, settled
                )
            part = sequence._replace(xs=xs, state=settled, marks=marks, reset_state=reset_state)
            return run_engine(cell, params, part, engine)

        _, pullback = jax.vjp(forward, params, xs, states)
        return pullback

    trace = jax.make_jaxpr(backward)
    states = sequence.state, sequence.reset_state
    traced = trace(params, sequence.xs, states, sequence.marks).jaxpr
    # A residual that is an argument costs nothing; one that is used twice is held once.
    arguments = {*traced.invars, *traced.constvars}
    residuals = set()
    for var in traced.outvars:
        if not isinstance(var, core.Literal) and var not in arguments:
            residuals.add(var)
    return sum(var.aval.size * var.aval.dtype.itemsize for var in residuals)
