"""The recording that suits a cell: of each cell inside, by the fused pass, or of the step alone."""

from rnnlab.cells.contract import map_leaves
from rnnlab.driver import RunOptions, is_composite
from rnnlab.gradients.backward import Recording
from rnnlab.gradients.composite import record_composite
from rnnlab.gradients.fused import record_fused
from rnnlab.gradients.stepwise import record_steps
from rnnlab.typing import Array, Cell, PyTree


def record(
    cell: Cell, params: PyTree, xs: Array, state: PyTree, options: RunOptions, keep: bool
) -> Recording:
    """Runs ``cell``; returns ``ys`` and what takes ∂L/∂ys back. ``keep`` keeps the contributions."""
    if is_composite(cell):
        recording = record_composite(cell, params, xs, state, options, keep, record)
        if recording is not None:
            return recording
        if options.key is not None:
            raise ValueError(
                f"{type(cell).__name__} has parameters of its own, so it is followed by its step, "
                "which has no dropout; leave key out"
            )
    if map_leaves(cell, params) is not None:
        return record_fused(cell, params, xs, state, options, keep)
    return record_steps(cell, params, xs, state, options, keep)
