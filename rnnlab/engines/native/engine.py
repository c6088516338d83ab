"""The native engine: RNN, LSTM and GRU on a CPU, as two calls into a C++ library.

The forward call runs all steps, the backward call the whole backward pass. Each thread takes some
examples of the batch through all steps, so threads wait for one another once per call. The library
computes one product of [x, h] and the weights for each step and applies the gates while it lies in
the cache; ``layer.h`` is the place to start reading.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab.cells import GRU, LSTM, RNN, LeakyRNN
from rnnlab.cells.base import Maps
from rnnlab.cells.contract import maps_of
from rnnlab.engines.differentiable import Passes, by_engine, differentiable
from rnnlab.engines.fused.engine import fused
from rnnlab.engines.native.library import Absent, Library, library, register
from rnnlab.engines.sequence import EngineChoice, EngineInput, Marks, known, select
from rnnlab.engines.shards import shape_like
from rnnlab.typing import Array, Cell, PyTree

# In the order of interface.h.
CELLS = (RNN, LeakyRNN, LSTM, GRU)
ACTIVATIONS = ("tanh", "relu", "sigmoid", "identity")


class Static(NamedTuple):
    """What is fixed while tracing."""

    cell: Any
    reverse: bool
    every: bool  # return the state after every step, or only the final one
    gates: bool  # a gradient keeps the values of the gates
    d_xs: bool = True  # ∂L/∂xs is wanted


class Memory(NamedTuple):
    """What the forward pass keeps."""

    xs: Array  # [T, B, I]
    state: PyTree  # before the first step
    reset_state: PyTree  # after a reset; None where there are none
    marks: Marks
    hs: Array  # [T, B, H], after each step
    cs: Array  # the same of c; empty for a cell without it
    gates: Array  # as the library stores them; empty where they are not kept


def native(
    cell: Cell,
    params: PyTree,
    sequence: EngineInput,
    engine: EngineChoice,
) -> tuple[PyTree, Array]:
    """As ``scan``; ValueError for what the library cannot run."""
    if reason := refusal(cell, params, sequence):
        raise ValueError(f"engine 'native' {reason}; use engine='auto'")
    gates = engine.residuals != "states"
    static = Static(cell, sequence.reverse, sequence.every, gates)
    states = sequence.state, sequence.reset_state
    return _native(static, params, sequence.xs, states, sequence.marks)


def refusal(
    cell: Any,
    params: PyTree,
    sequence: EngineInput,
) -> str | None:
    """Why the native engine cannot run ``cell``, after "it"; None where it can."""
    if jax.default_backend() != "cpu":
        return f"is for CPUs, and JAX runs on {jax.default_backend()}"
    if reason := cell_refusal(cell, params):
        return reason
    leaves = jax.tree.leaves((params, sequence.xs, sequence.state))
    dtypes = {str(leaf.dtype) for leaf in leaves}
    if cell.dtype is not None:
        dtypes.add(str(cell.dtype))
    if dtypes not in ({"float32"}, {"float64"}):
        found = " and ".join(sorted(dtypes))
        return f"needs a single dtype, float32 or float64, and this has {found}"
    if not all(known(size) for leaf in leaves for size in leaf.shape):
        return "needs sizes that are numbers, and some are symbols"
    found = library()
    return found.reason if isinstance(found, Absent) else None


def cell_refusal(cell: Any, params: PyTree) -> str | None:
    """Why the library has no code for ``cell``; None where it has."""
    name = type(cell).__name__
    if type(cell) not in CELLS:
        return f"has no code for {name}, only for RNN, LeakyRNN, LSTM and GRU"
    if maps_of(cell, params) is None:
        return f"has no code for these options of {name}"
    return None


def bytes_kept(
    cell: Any,
    sequence: EngineInput,
    gates: bool,
) -> int:
    """What the forward pass keeps for the backward pass, beside parameters and inputs."""
    steps = sequence.xs.shape[0]
    states = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(sequence.state))
    h = cell.hidden(sequence.state)
    examples = h.size // cell.hidden_size
    kept = _numbers_kept(cell, h.dtype) if gates else 0
    return steps * (states + examples * kept * h.dtype.itemsize)


def _numbers_kept(cell: Any, dtype: Any) -> int:
    found = library()
    assert isinstance(found, Library)
    return found.numbers_kept(CELLS.index(type(cell)), cell.hidden_size, dtype.itemsize == 8)


class Weights(NamedTuple):
    """The weights as the library takes them.

    Attributes:
        w_x: ``[I, (J + X) H]``, the columns of gates that see x and h, and of those that see x.
        w_h: ``[H, (J + A) H]``, of gates that see x and h, and of those that see h.
        bias: ``[(J + X + A) H]``.
    """

    w_x: Array
    w_h: Array
    bias: Array


def weights_of(cell: Any, params: PyTree) -> Weights:
    """The weights of a cell with maps."""
    maps = cell.maps(params)
    w_x, w_h, joint = maps.w_x, maps.w_h, maps.joint
    b = jnp.zeros_like(w_x[0]) if maps.b is None else maps.b
    c = _second_bias(maps)
    bias = jnp.concatenate([b[:joint] + c[:joint], b[joint:], c[joint:]])
    return Weights(w_x, w_h, bias)


def _second_bias(maps: Maps) -> Array:
    """c with zeros for the columns that it leaves out."""
    columns = maps.w_h.shape[1]
    if maps.c is None:
        return jnp.zeros_like(maps.w_h[0])
    return jnp.pad(maps.c, (columns - maps.c.size, 0))


def _attributes(cell: Any) -> dict[str, Any]:
    activation = getattr(cell, "activation", "tanh")
    return {
        "cell": np.int64(CELLS.index(type(cell))),
        "activation": np.int64(ACTIVATIONS.index(activation)),
        "alpha": np.float64(getattr(cell, "alpha", 1.0)),
    }


def c_of(state: Any) -> Array:
    """The part c of a state as the library takes it: empty where there is none."""
    return getattr(state, "c", jnp.zeros(0, state.h.dtype))


def flags(mark: Array | None) -> Array:
    """A mark as the library takes it: empty where no step is special."""
    return jnp.zeros(0, bool) if mark is None else mark


class Inputs(NamedTuple):
    """The arrays that both calls begin with; what is absent is empty, ``[0]``."""

    xs: Array
    h: Array
    c: Array
    weights: Weights
    valid: Array
    resets: Array
    reset_h: Array
    reset_c: Array


def _inputs(
    static: Static,
    params: PyTree,
    xs: Array,
    state: Any,
    reset_state: Any,
    marks: Marks,
) -> Inputs:
    nothing = jnp.zeros(0, xs.dtype)
    return Inputs(
        xs=xs,
        h=state.h,
        c=c_of(state),
        weights=weights_of(static.cell, params),
        valid=flags(marks.valid),
        resets=flags(marks.reset),
        reset_h=nothing if reset_state is None else reset_state.h,
        reset_c=nothing if reset_state is None else c_of(reset_state),
    )


def call(
    function: str,
    cell: Any,
    reverse: bool,
    results: list[Any],
    *arguments: PyTree,
) -> list[Array]:
    """The results of one call of the library."""
    register()
    leaves = jax.tree.leaves(arguments)
    attributes = _attributes(cell) | {
        "reverse": reverse,
        "doubles": leaves[0].dtype == jnp.float64,
    }
    # Under vmap, an array that is not mapped gets an axis of 1, and the library shares it.
    call = jax.ffi.ffi_call(f"rnnlab_{function}", results, vmap_method="expand_dims")
    return list(call(*leaves, **attributes))


def _forward_call(
    static: Static,
    inputs: Inputs,
    every_c: bool,
    gates: bool,
) -> list[Array]:
    """hs ``[T, B, H]``, the last h and c, cs and the gates; empty where not asked for."""
    xs, h, c = inputs.xs, inputs.h, inputs.c
    steps, batch = xs.shape[:2]
    hs_shape = (steps, *h.shape)
    cs_shape = hs_shape if every_c and c.size else (0,)
    gates_shape = (steps, batch, _numbers_kept(static.cell, xs.dtype)) if gates else (0,)
    shapes = [hs_shape, h.shape, c.shape, cs_shape, gates_shape]
    results = [shape_like(shape, xs) for shape in shapes]
    return call("forward", static.cell, static.reverse, results, inputs)


def _outs(
    static: Static,
    state: Any,
    marks: Marks,
    results: list[Array],
) -> tuple[PyTree, Array]:
    """``(state or states, ys)`` from the results of the forward call."""
    hs, h, c, cs, _ = results
    if static.every:
        h, c = hs, cs
    ys = hs
    if marks.valid is not None:
        ys = select(marks.valid, ys, jnp.zeros_like(ys))
    return with_parts(state, h, c), ys


def with_parts(state: Any, h: Array, c: Array) -> Any:
    """A state like ``state``."""
    return state._replace(h=h, c=c) if hasattr(state, "c") else state._replace(h=h)


def _run_native(
    static: Static,
    params: PyTree,
    xs: Array,
    state: PyTree,
    reset_state: PyTree,
    marks: Marks,
) -> tuple[PyTree, Array]:
    """``[T, B, I]`` in, ``(state or states, ys)`` out; keeps nothing for a backward pass."""
    inputs = _inputs(static, params, xs, state, reset_state, marks)
    results = _forward_call(static, inputs, every_c=static.every, gates=False)
    return _outs(static, state, marks, results)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _keep(
    static: Static,
    params: PyTree,
    xs: Array,
    state: PyTree,
    reset_state: PyTree,
    marks: Marks,
) -> Any:
    inputs = _inputs(static, params, xs, state, reset_state, marks)
    results = _forward_call(static, inputs, every_c=True, gates=static.gates)
    hs, _, _, cs, gates = results
    return _outs(static, state, marks, results), (hs, cs, gates)


@_keep.defjvp
def _keep_derivative(
    static: Static,
    primals: tuple,
    tangents: tuple,
) -> Any:
    outs, kept = _keep(static, *primals)
    marks = primals[4]
    _, out_tangents = jax.jvp(by_engine(fused, static, marks), primals[:4], tangents[:4])
    # The backward pass is a function of the parameters and inputs: see its derivative.
    return (outs, kept), (out_tangents, jax.tree.map(jnp.zeros_like, kept))


def remember(
    static: Static,
    params: PyTree,
    xs: Array,
    state: PyTree,
    reset_state: PyTree,
    marks: Marks,
) -> tuple[tuple[PyTree, Array], Memory]:
    """As ``_run_native``, with the memory for the backward pass.

    Derivatives of the outputs are right; what the memory holds is taken as constant.
    """
    outs, kept = _keep(static, params, xs, state, reset_state, marks)
    return outs, Memory(xs, state, reset_state, marks, *kept)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _backward(
    static: Static,
    params: PyTree,
    memory: Memory,
    cotangents: tuple[Any, Array],
) -> tuple[PyTree, Array, PyTree, PyTree]:
    """∂L/∂θ, ∂L/∂xs, ∂L/∂s₀, and ∂L/∂s of the state after a reset (None without resets)."""
    d_state, d_hs = cotangents
    state, marks = memory.state, memory.marks
    inputs = _inputs(static, params, memory.xs, state, memory.reset_state, marks)
    if marks.valid is not None:
        # The output of a step that does not count is zero, whatever the state is.
        d_hs = select(marks.valid, d_hs, jnp.zeros_like(d_hs))
    nothing = jnp.zeros(0, d_hs.dtype)
    d_h, d_c = d_state.h, c_of(d_state)
    d_cs = nothing
    if static.every:
        # The final state is the last of the states, so its cotangent comes in with theirs.
        d_hs, d_cs = d_hs + d_h, d_c
        d_h, d_c = jnp.zeros_like(inputs.h), jnp.zeros_like(inputs.c)
    weights = inputs.weights
    d_xs_like = inputs.xs if static.d_xs else nothing
    d_like = (d_xs_like, inputs.h, inputs.c, inputs.reset_h, inputs.reset_c, *weights)
    results = [shape_like(leaf.shape, inputs.xs) for leaf in d_like]
    adjoints = (memory.hs, memory.cs, memory.gates, d_hs, d_h, d_c, d_cs)
    d_xs, d_h0, d_c0, d_reset_h, d_reset_c, *d_weights = call(
        "backward", static.cell, static.reverse, results, inputs, adjoints
    )
    if not static.d_xs:
        d_xs = jnp.zeros_like(inputs.xs)
    _, to_params = jax.vjp(lambda params: weights_of(static.cell, params), params)
    (d_params,) = to_params(Weights(*d_weights))
    d_reset = None
    if memory.reset_state is not None:
        d_reset = with_parts(memory.reset_state, d_reset_h, d_reset_c)
    return d_params, d_xs, with_parts(state, d_h0, d_c0), d_reset


@_backward.defjvp
def _backward_derivative(
    static: Static,
    primals: tuple,
    tangents: tuple,
) -> Any:
    """What the memory holds follows from parameters and inputs, so its tangents are left out."""
    params, memory, cotangents = primals
    d_params, d_memory, d_cotangents = tangents

    def plain(cotangents: PyTree, *inputs: PyTree) -> PyTree:
        _, pull = jax.vjp(by_engine(fused, static, memory.marks), *inputs)
        return pull(cotangents)

    inputs = cotangents, params, memory.xs, memory.state, memory.reset_state
    d_inputs = d_cotangents, d_params, d_memory.xs, d_memory.state, d_memory.reset_state
    _, derivative = jax.jvp(plain, inputs, d_inputs)
    return _backward(static, *primals), derivative


_native = differentiable(Passes("native", _run_native, remember, _backward))
