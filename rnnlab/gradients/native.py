"""Recording on the native engine: as :mod:`rnnlab.gradients.fused`, with the loops in C++.

The library takes λ back through a chunk of steps and writes down every λ and δ; norms and products
follow from these in the same way. Derivatives of the results come from the fused recording.
"""

import functools
from typing import Any, NamedTuple

import jax

from rnnlab.cells.contract import map_leaves
from rnnlab.driver import RunOptions
from rnnlab.engines.fused.backward import Chunk
from rnnlab.engines.fused.forward import Memory, layout_of
from rnnlab.engines.fused.layouts import Rows
from rnnlab.engines.native.adjoints import step_adjoints
from rnnlab.engines.native.engine import Static, refusal, remember, with_parts
from rnnlab.engines.sequence import EngineInput, own_axes
from rnnlab.gradients.backward import Recording
from rnnlab.gradients.fused import Recorded, Results, Run, recorded_run, taking_back
from rnnlab.gradients.scaled import Scaled, zero
from rnnlab.typing import Array, PyTree


def serves(
    cell: Any,
    params: PyTree,
    xs: Array,
    state: PyTree,
) -> bool:
    """Whether a run of ``cell`` can be recorded by the native engine.

    ``state`` is in the dtype in which steps return it.
    """
    if map_leaves(cell, params) is None or jax.device_count() > 1:
        return False
    return refusal(cell, params, EngineInput(xs, state)) is None


def record_native(
    cell: Any,
    params: PyTree,
    run: Run,
    batch: tuple[int, ...],
    options: RunOptions,
    keep: bool,
) -> Recording:
    """As :func:`rnnlab.gradients.fused.record_fused`."""
    static = Static(cell, options.reverse, every=False, gates=True)
    (_, ys), memory = remember(static, params, *run)
    kept = memory.hs, memory.cs, memory.gates

    def run_back(g: Scaled, adjoints_only: bool) -> Results:
        asked = Asked(cell, options.reverse, keep, adjoints_only)
        return _back(asked, params, run, kept, g)

    return own_axes(batch, 1, ys), taking_back(run_back, batch, options)


class Asked(NamedTuple):
    """What is fixed while tracing."""

    cell: Any
    reverse: bool
    keep: bool
    adjoints_only: bool


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _back(
    asked: Asked,
    params: PyTree,
    run: Run,
    kept: tuple[Array, Array, Array],
    g: Scaled,
) -> Results:
    xs, state, reset_state, marks = run
    hs, cs, gates = kept
    states = with_parts(state, hs, cs)
    memory = Memory(xs, state, reset_state, marks, states, gates)
    layout = _Outside(asked.cell, params, xs)
    recorded = _NativeRecorded(asked.cell, params, asked.reverse, asked.keep, layout, memory)
    return recorded.back(g, asked.adjoints_only)


class _Outside(Rows):
    """Arrays as they are outside of the loop, with the products of the layout of the cell."""

    def __init__(self, cell: Any, params: PyTree, xs: Array) -> None:
        super().__init__(cell, params)
        products = layout_of(cell, params, xs)
        self.to_params = products.to_params
        self.to_inputs = products.to_inputs


class _NativeRecorded(Recorded):
    """As its base, with the loop in the library."""

    def back(self, g: Scaled, adjoints_only: bool) -> Results:
        nothing = zero(self.memory.state, self.memory.xs.shape[1:2])
        return self.walk(nothing, self.of_valid_steps(g), adjoints_only)

    def steps_back(self, adjoint: Scaled, chunk: Chunk) -> tuple[Scaled, PyTree, Scaled]:
        steps = step_adjoints(
            self.cell,
            self.params,
            self.reverse,
            chunk.olds,
            chunk.states,
            chunk.kept,
            chunk.marks,
            chunk.extra,
            adjoint,
        )
        first = Scaled(steps.first, steps.first_exponent)
        return first, steps.adjoint, Scaled(steps.delta, steps.exponent)


@_back.defjvp
def _back_derivative(
    asked: Asked,
    primals: tuple,
    tangents: tuple,
) -> Any:
    """What is kept follows from parameters and inputs, so its tangents are left out."""
    params, (xs, state, reset_state, marks), _, g = primals
    d_params, (d_xs, d_state, d_reset_state, _), _, d_g = tangents

    def fused(params: PyTree, xs: Array, states: tuple, g: Scaled) -> Results:
        run = (xs, *states, marks)
        recorded, _ = recorded_run(asked.cell, params, run, asked.reverse, asked.keep)
        return recorded.back(g, asked.adjoints_only)

    inputs = params, xs, (state, reset_state), g
    d_inputs = d_params, d_xs, (d_state, d_reset_state), d_g
    _, derivative = jax.jvp(fused, inputs, d_inputs)
    return _back(asked, *primals), derivative
