"""The adjoints of single steps, for instruments: the call ``rnnlab_adjoints`` of the library."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from rnnlab.engines.native.engine import c_of, call, flags, weights_of, with_parts
from rnnlab.engines.sequence import Marks
from rnnlab.engines.shards import shape_like
from rnnlab.typing import Array, PyTree


class StepAdjoints(NamedTuple):
    """Every λ of some steps and what follows from it; numbers are mantissa · 2^exponent.

    Attributes:
        adjoint: λ after each step, with ∂L/∂y of the step, leaves ``[n, B, H]``.
        exponent: ``[n, B]``, of λ and of δ.
        delta: δ of the gates that see x and h, of those that see x, and of those that see h,
            ``[n, B, columns]``.
        first: λ before the first step, leaves ``[B, H]``.
        first_exponent: ``[B]``.
    """

    adjoint: PyTree
    exponent: Array
    delta: tuple[Array, Array, Array]
    first: PyTree
    first_exponent: Array


def step_adjoints(
    cell: Any,
    params: PyTree,
    reverse: bool,
    olds: Any,
    states: Any,
    gates: Array,
    marks: Marks,
    g: tuple[Array, Array],
    adjoint: tuple[Any, Array],
) -> StepAdjoints:
    """Takes the adjoint back through n steps, each example at an exponent of its own.

    Args:
        cell: a cell of the native engine.
        params: its parameters.
        reverse: whether the forward pass ran from the last step to the first.
        olds: the state from which each step started, leaves ``[n, B, H]``.
        states: the state after each step.
        gates: as the forward call stores them.
        marks: which steps count, and where the state was reset.
        g: mantissa ``[n, B, H]`` and exponent ``[n, B]`` of ∂L/∂y.
        adjoint: mantissa, leaves ``[B, H]``, and exponent ``[B]`` of λ after the last step,
            without its ∂L/∂y.
    """
    maps = cell.maps(params)
    mantissa, exponent = adjoint
    arguments = (
        olds.h,
        c_of(olds),
        states.h,
        c_of(states),
        gates,
        weights_of(cell, params).w_h,
        flags(marks.valid),
        flags(marks.reset),
        *g,
        mantissa.h,
        c_of(mantissa),
        exponent,
    )
    steps = gates.shape[0]
    each = (steps, *mantissa.h.shape)
    has_c = hasattr(mantissa, "c")
    widths = (maps.joint, maps.w_x.shape[1] - maps.joint, maps.w_h.shape[1] - maps.joint)
    like = [
        (each, gates.dtype),
        (each if has_c else (0,), gates.dtype),
        (each[:-1], exponent.dtype),
        ((*each[:-1], sum(widths)), gates.dtype),
        (each[1:], gates.dtype),
        (each[1:] if has_c else (0,), gates.dtype),
        (exponent.shape, exponent.dtype),
    ]
    results = [shape_like(shape, gates, dtype) for shape, dtype in like]
    h, c, exponents, delta, first_h, first_c, first_exponent = call(
        "adjoints", cell, reverse, results, arguments
    )
    cuts = (widths[0], widths[0] + widths[1])
    joint, z, a = jnp.split(delta, cuts, axis=-1)
    first = with_parts(mantissa, first_h, first_c)
    return StepAdjoints(with_parts(mantissa, h, c), exponents, (joint, z, a), first, first_exponent)
