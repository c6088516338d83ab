"""Phase diagrams: how far a gradient reaches and whether states part, over a grid of networks and lengths."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab import _check
from rnnlab._functions import ByValue
from rnnlab._results import result
from rnnlab.cells.lstm import LSTMParams
from rnnlab.diagnostics.gradient.flow import Extras, compiled_flow, examples_reach
from rnnlab.diagnostics.gradient.reach import ExampleReach, example_reach, over_examples
from rnnlab.diagnostics.state.lyapunov import lyapunov_spectrum
from rnnlab.driver import RunOptions, prepare
from rnnlab.gradients.scaled import merge
from rnnlab.typing import Array, Cell, Key, PyTree


@result
class PhaseDiagram(NamedTuple):
    """V networks at N sequence lengths; the median over the batch.

    Attributes:
        values: ``[V]``, what was varied.
        lengths: ``[N]``, T, steps.
        horizon: ``[V, N]``, the smallest lag, in steps, at which ‖∂L/∂sₜ‖ is below 1/1000 of its value
            at lag 0; the length T where there is none.
        vanishes: ``[V, N]``, whether there is such a lag.
        decay_per_step: ``[V, N]``, how fast ln‖∂L/∂sₜ‖ falls down to the horizon, nats a step; negative
            where the gradient explodes, inf where it is exactly zero after one step.
        exponent: ``[V, N]``, λ₁ over the T steps, nats a step: positive where nearby trajectories
            diverge; the mean over the batch.
    """

    values: Array
    lengths: Array
    horizon: Array
    vanishes: Array
    decay_per_step: Array
    exponent: Array


def recurrent_gain(params: PyTree, gain: Array) -> PyTree:
    """``params`` with every recurrent matrix ``w_h`` times ``gain``: the g of g · W_h."""
    found = []

    def scaled(path: Any, leaf: Array) -> Array:
        if getattr(path[-1], "name", None) != "w_h":
            return leaf
        found.append(path)
        return leaf * jnp.asarray(gain, leaf.dtype)

    new = jax.tree_util.tree_map_with_path(scaled, params)
    if not found:
        raise ValueError("params have no recurrent matrix w_h; give a function of your own as vary")
    return new


def forget_bias(params: PyTree, bias: Array) -> PyTree:
    """``params`` with the forget gate's bias of every LSTM at ``bias``.

    An LSTM from PyTorch has two biases, whose sum is what acts: b takes the value and c becomes zero.
    """
    found = []

    def biased(node: Any) -> Any:
        biases = ("b", "c")
        there = [name for name in biases if getattr(node, name, None) is not None]
        if not isinstance(node, LSTMParams) or not there:
            return node
        found.append(node)
        values = dict(zip(there, (bias, 0), strict=False))
        return node._replace(
            **{name: _with_forget(getattr(node, name), value) for name, value in values.items()}
        )

    new = jax.tree.map(biased, params, is_leaf=lambda node: isinstance(node, LSTMParams))
    if not found:
        raise ValueError(
            "params hold no LSTM with a bias; give those of one, such as params of rnnlab.interop.from_torch"
        )
    return new


def _with_forget(biases: Array, value: Any) -> Array:
    """The biases ``[4H]`` of an LSTM, gates in the order i, f, g, o, with those of f at ``value``."""
    size = biases.size // 4
    return biases.at[size : 2 * size].set(jnp.asarray(value, biases.dtype))


def squares(last: Array) -> Array:
    """½ Σ y²: a loss whose gradient points along the output itself."""
    return 0.5 * jnp.sum(last**2)


def phase_diagram(
    cell: Cell,
    params: PyTree,
    xs: Array,
    values: Array,
    lengths: Array,
    *,
    vary: Callable[[PyTree, Array], PyTree] = recurrent_gain,
    loss: Callable[..., Array] = squares,
    loss_args: tuple[Any, ...] = (),
    key: Key | None = None,
) -> PhaseDiagram:
    """Horizon, decay and λ₁ over a grid of networks and sequence lengths, in one compiled call.

    At g = 1 the random network h ↦ g J tanh(h) turns from order, in which gradients vanish, to chaos, in which they
    explode (Sompolinsky, Crisanti & Sommers 1988); the line λ₁ = 0 is where they may keep their size (Engelken, Wolf &
    Abbott 2023, arXiv 2006.02427). All lengths of a network are one batch: each sequence is the beginning of ``xs``.
    ‖∂L/∂sₜ‖ is that of the whole state, in a stack over all layers.

    Args:
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`;
            :class:`rnnlab.layers.AnyDepth` to vary the depth.
        params: its parameters.
        xs: inputs, ``[T, ..., I]``, at least as long as the longest of ``lengths``.
        values: ``[V]``, what ``vary`` is given.
        lengths: ``[N]``, whole numbers of steps of at least 1.
        vary: ``vary(params, value) -> params``: :func:`recurrent_gain`, :func:`forget_bias`,
            :func:`rnnlab.layers.depth` or a
            function of your own.
        loss: ``loss(last, *loss_args) -> scalar`` of the outputs at the last step, ``[N, ..., O]``: a sum over
            examples. For a loss at every step call :func:`gradient_flow` for each value.
        loss_args: what else the loss needs; traced, so that new values compile nothing.
        key: draws the first direction for λ₁, which turns along ``xs`` (:func:`lyapunov_spectrum`);
            the same one in every call by default.

    Returns:
        A :class:`PhaseDiagram`.

    Raises:
        ValueError: as :func:`rnnlab.gradient_flow` does, for lengths outside of 1..T, and for values that are not one
            axis of numbers.
    """
    values, lengths = _check.array("values", values), _check.array("lengths", lengths)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"values has shape {values.shape}; give one axis of them, [V]")
    if lengths.ndim != 1 or not lengths.size:
        raise ValueError(f"lengths has shape {lengths.shape}; give one axis of them, [N]")
    _check.finite("values", values)
    xs, _, _ = prepare(cell, params, xs, None)
    for name, tree in (("xs", xs), ("params", params)):
        _check.finite(name, tree)
    lengths = _check.lengths(lengths, xs.shape[0], lengths.shape, least=1)
    longest = int(np.max(np.asarray(lengths)))
    _check.function("vary", vary)
    loss_args = _check.loss_function(loss, loss_args)
    functions = {"vary": ByValue(vary), "loss": ByValue(loss)}
    return _diagram(cell, params, xs[:longest], values, lengths, key, loss_args, **functions)


_BY_LENGTH = ExampleReach(*[1 if name == "log_norm" else 0 for name in ExampleReach._fields])
"""Where the axis of lengths is among the examples; time comes first in the log-norms."""


@functools.partial(jax.jit, static_argnames=("cell", "vary", "loss"))
def _diagram(
    cell: Cell,
    params: PyTree,
    xs: Array,
    values: Array,
    lengths: Array,
    key: Key | None,
    loss_args: tuple[Any, ...],
    *,
    vary: Callable[[PyTree, Array], PyTree],
    loss: Callable[..., Array],
) -> PhaseDiagram:
    batch = xs.shape[1:-1]
    each = jnp.broadcast_to(lengths.reshape(-1, *(1,) * len(batch)), (lengths.size, *batch))
    beginnings = jnp.broadcast_to(xs[:, None], (xs.shape[0], lengths.size, *xs.shape[1:]))

    def at_the_end(ys: Array, each: Array, *loss_args: Any) -> Array:
        last = jnp.take_along_axis(ys, (each - 1)[None, ..., None], axis=0)[0]
        return loss(last, *loss_args)

    def one_network(value: Array) -> tuple[Array, ...]:
        varied = vary(params, value)
        flow = compiled_flow(
            cell,
            varied,
            beginnings,
            at_the_end,
            (each, *loss_args),
            RunOptions(lengths=each),
            Extras(one_step=True),
        )
        layers = examples_reach(flow, each)
        examples = layers[0]
        if len(layers) > 1:
            norms = merge([layer.log_norm for layer in layers])
            examples = example_reach(norms, examples.loss_step, examples.loss_steps, examples.lags)
        over = jax.vmap(over_examples, in_axes=(_BY_LENGTH,))(examples)
        # One spectrum for all lengths: its direction turns along the longest of them.
        trace = lyapunov_spectrum(cell, varied, xs, key=key, count=1).trace[..., 0]
        exponents = trace.mean(axis=tuple(range(1, trace.ndim)))[lengths - 1]
        return over.horizon, over.vanishes, over.decay_per_step, exponents

    # Several networks at once would turn every product into a batch of small ones, which a CPU does badly.
    found = (
        lax.map(one_network, values)
        if jax.default_backend() == "cpu"
        else jax.vmap(one_network)(values)
    )
    return PhaseDiagram(values, lengths, *found)
