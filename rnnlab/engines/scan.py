"""The reference engine: one ``lax.scan`` over the cell's step, differentiated by JAX itself."""

import jax.numpy as jnp
from jax import lax

from rnnlab.engines.sequence import EngineChoice, EngineInput, Marks, begin, select
from rnnlab.typing import Array, Cell, PyTree


def scan(
    cell: Cell,
    params: PyTree,
    sequence: EngineInput,
    engine: EngineChoice,
) -> tuple[PyTree, Array]:
    """``(state, ys)``: the final state, or with ``every`` each step's, ``[T, ...]``."""
    del engine  # it has no options
    xs, start, marks, reverse, every, _, reset_state = sequence

    def body(old: PyTree, inputs: tuple[Array, Marks]) -> tuple[PyTree, tuple[PyTree, Array]]:
        x, mark = inputs
        new, y = cell.step(params, begin(mark, reset_state, old), x)
        if mark.valid is not None:
            # The padding hands on old, not the state after a reset: there a reset does nothing.
            new = select(mark.valid, new, old)
            y = select(mark.valid, y, jnp.zeros_like(y))
        return new, (new if every else None, y)

    final, (states, ys) = lax.scan(body, start, (xs, marks), reverse=reverse)
    return (states if every else final), ys
