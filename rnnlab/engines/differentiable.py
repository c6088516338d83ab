"""An engine made of two passes: a forward pass, and a backward pass that is its derivative.

JAX differentiates an engine by its operations. A backward pass of our own takes the place of that
for reverse mode; forward mode and derivatives of the derivative follow ``scan``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from rnnlab.engines.batching import folding, one_by_one
from rnnlab.engines.scan import scan
from rnnlab.engines.sequence import EngineChoice, EngineInput, Marks, one_axis, own_axes
from rnnlab.engines.shards import on_shards, vary_together
from rnnlab.typing import Array, PyTree


class Memory(Protocol):
    """What a forward pass remembers for the backward pass, at least."""

    @property
    def xs(self) -> Array:  # [T, B, I]
        ...

    @property
    def state(self) -> PyTree:  # before the first step
        ...

    @property
    def reset_state(self) -> PyTree:  # after a reset; None where there are none
        ...

    @property
    def marks(self) -> Marks: ...


class Passes(NamedTuple):
    """The two passes of an engine, over one batch axis: xs ``[T, B, I]``, states ``[B, ...]``.

    ``static``, a named tuple that every pass gets first, has the fields cell, reverse, every, and
    d_xs: whether ∂L/∂xs is wanted. Where it is not, the backward pass may return anything for it.

    Attributes:
        name: of the engine; operations of a traced program are named after it.
        run: ``run(static, params, xs, state, reset_state, marks) -> (state or states, ys)``.
        remember: the same, as ``((state or states, ys), memory)``.
        backward: ``backward(static, params, memory, cotangents)``, the cotangents of ``(state or
            states, ys)``: ∂L/∂θ, ∂L/∂xs, ∂L/∂s₀, and ∂L/∂s of the state after a reset (None without
            resets).
    """

    name: str
    run: Callable[..., tuple[PyTree, Array]]
    remember: Callable[..., tuple[tuple[PyTree, Array], Any]]
    backward: Callable[..., tuple[PyTree, Array, PyTree, PyTree]]


def differentiable(passes: Passes) -> Callable[..., tuple[PyTree, Array]]:
    """``run(static, params, xs, states, marks)`` with a derivative, for any batch axes."""
    run = _with_derivative(passes)

    def run_shard(
        static: Any,
        params: PyTree,
        xs: Array,
        states: tuple[PyTree, PyTree],
        marks: Marks,
    ) -> tuple[PyTree, Array]:
        batch = xs.shape[1:-1]
        xs, marks = one_axis(batch, 1, (xs, marks))
        states = one_axis(batch, 0, states)
        params, xs, states, marks = vary_together((params, xs, states, marks))
        out: Any = run(static, params, xs, *states, marks)
        state, ys = out
        return own_axes(batch, int(static.every), state), own_axes(batch, 1, ys)

    def run_folded(
        static: Any,
        params: PyTree,
        xs: Array,
        states: tuple[PyTree, PyTree],
        marks: Marks,
    ) -> tuple[PyTree, Array]:
        def shard(
            params: PyTree,
            xs: Array,
            states: tuple[PyTree, PyTree],
            lengths: None,
            marks: Marks,
        ) -> tuple[PyTree, Array]:
            del lengths  # the marks contain them
            return run_shard(static, params, xs, states, marks)

        # The driver has divided what it was given already. An axis that vmap has folded into the
        # batch may bring a sharding of its own.
        return on_shards(shard, params, xs, states, None, marks, static.every)

    run_folded.__name__ = f"_{passes.name}"
    return folding(run_folded)


def _with_derivative(passes: Passes) -> Callable[..., tuple[PyTree, Array]]:
    """``passes.run`` with a custom JVP.

    A custom VJP would refuse forward mode. The tangents pass through ``along``, which is linear in
    them, and reverse mode is the transpose of that: ``passes.backward``.
    """

    def along(
        static: Any,
        params: PyTree,
        memory: Memory,
        tangents: tuple[PyTree, Array, PyTree, PyTree],
    ) -> Any:
        # Computed by ``scan``, not from the memory. The memory is an argument for the transpose,
        # which reads it.
        primals = params, memory.xs, memory.state, memory.reset_state
        _, out_tangents = jax.jvp(by_engine(scan, static, memory.marks), primals, tangents)
        return out_tangents

    along.__name__ = f"_{passes.name}_along"
    along = one_by_one(along, adjoint=passes.backward)
    run = jax.custom_jvp(passes.run, nondiff_argnums=(0,))

    def _derivative(
        static: Any,
        primals: tuple,
        tangents: tuple,
    ) -> tuple[Any, Any]:
        params, *_ = primals
        outs, memory = passes.remember(static, *primals)
        static = static._replace(d_xs=not _is_zero(tangents[1]))
        # The marks are booleans, so their tangents are left out.
        dense = jax.tree.map(_instantiated, primals[:4], tangents[:4])
        return outs, along(static, params, memory, dense)

    run.defjvp(_derivative, symbolic_zeros=True)
    return run


def by_engine(
    engine: Callable[[Any, PyTree, EngineInput, EngineChoice], tuple[PyTree, Array]],
    static: Any,
    marks: Marks,
) -> Callable[..., tuple[PyTree, Array]]:
    """``run(params, xs, state, reset_state)`` on another engine, for derivatives by it."""

    def run(
        params: PyTree,
        xs: Array,
        state: PyTree,
        reset_state: PyTree,
    ) -> tuple[PyTree, Array]:
        sequence = EngineInput(
            xs, state, marks, static.reverse, static.every, reset_state=reset_state
        )
        return engine(static.cell, params, sequence, EngineChoice(engine.__name__))

    return run


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _instantiated(primal: Array, tangent: Any) -> Array:
    return jnp.zeros_like(primal) if _is_zero(tangent) else tangent
