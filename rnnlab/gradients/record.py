"""The choice of recording: each cell of a composite, the native or the fused pass, or steps."""

from rnnlab.cells.contract import map_leaves
from rnnlab.driver import RunOptions, is_composite
from rnnlab.gradients.backward import Recording
from rnnlab.gradients.composite import record_composite
from rnnlab.gradients.fused import flat_input, record_fused
from rnnlab.gradients.native import record_native, serves
from rnnlab.gradients.stepwise import record_steps
from rnnlab.typing import Array, Cell, PyTree


def record(
    cell: Cell,
    params: PyTree,
    xs: Array,
    state: PyTree,
    options: RunOptions,
    keep: bool,
) -> Recording:
    """Runs ``cell``; returns ``ys`` and a function that takes ∂L/∂ys back.

    ``keep`` keeps the contributions as arrays.
    """
    if is_composite(cell):
        recording = record_composite(cell, params, xs, state, options, keep, record)
        if recording is not None:
            return recording
        if options.key is not None:
            # Without the key dropout would be silently off, and the gradient that of another run.
            raise ValueError(
                f"{type(cell).__name__} has its own parameters, so its gradient is computed from "
                "step, which has no dropout; omit key"
            )
    if map_leaves(cell, params) is None:
        return record_steps(cell, params, xs, state, options, keep)
    batch = xs.shape[1:-1]
    run = flat_input(cell, params, xs, state, options)
    record_cell = record_native if serves(cell, params, run[0], run[1]) else record_fused
    return record_cell(cell, params, run, batch, options, keep)
