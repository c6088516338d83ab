"""Phase diagrams: gradient reach and chaos over a grid of networks and sequence lengths."""

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
        values: ``[V]``, the values of what was varied.
        lengths: ``[N]``, T, steps.
        horizon: ``[V, N]``, the smallest lag, in steps, at which ‖∂L/∂sₜ‖ is below 1/1000 of its
            value at lag 0; the length T where there is none.
        vanishes: ``[V, N]``, whether there is such a lag.
        decay_per_step: ``[V, N]``, how fast ln‖∂L/∂sₜ‖ decays down to the horizon, nats per step;
            negative where the gradient explodes, inf where it is exactly zero after one step.
        exponent: ``[V, N]``, λ₁ over the T steps, nats per step: positive where nearby trajectories
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
    scaled_paths = []

    def scaled(path: Any, leaf: Array) -> Array:
        if getattr(path[-1], "name", None) != "w_h":
            return leaf
        scaled_paths.append(path)
        return leaf * jnp.asarray(gain, leaf.dtype)

    new = jax.tree_util.tree_map_with_path(scaled, params)
    if not scaled_paths:
        raise ValueError("params have no recurrent matrix w_h; give another function as vary")
    return new


def forget_bias(params: PyTree, bias: Array | float) -> PyTree:
    """``params`` with the forget gate's bias of every LSTM at ``bias``.

    An LSTM from PyTorch has two biases, of which only the sum matters: b takes the value and c
    becomes zero.
    """
    changed = []

    def is_lstm(node: Any) -> bool:
        return isinstance(node, LSTMParams)

    def biased(node: Any) -> Any:
        if not is_lstm(node):
            return node
        names = [name for name in ("b", "c") if getattr(node, name) is not None]
        if not names:
            return node
        changed.append(node)
        replaced = {}
        for name, value in zip(names, (bias, 0), strict=False):
            replaced[name] = _with_forget(getattr(node, name), value)
        return node._replace(**replaced)

    new = jax.tree.map(biased, params, is_leaf=is_lstm)
    if not changed:
        raise ValueError(
            "params hold no LSTM with a bias; give those of one, such as params of "
            "rnnlab.interop.from_torch"
        )
    return new


def _with_forget(biases: Array, value: Any) -> Array:
    """The biases ``[4H]`` of an LSTM, in the order i, f, g, o, with those of f at ``value``."""
    size = biases.size // 4
    forget = jnp.asarray(value, biases.dtype)
    return biases.at[size : 2 * size].set(forget)


def squares(last: Array) -> Array:
    """½ Σ y²: a loss whose gradient is the output itself."""
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

    At g = 1 the random network h ↦ g J tanh(h) turns from order, in which gradients vanish, to
    chaos, in which they explode (Sompolinsky, Crisanti & Sommers 1988); the line λ₁ = 0 is where
    they may keep their size (Engelken, Wolf & Abbott 2023, arXiv 2006.02427). All lengths of a
    network are one batch: each sequence is the beginning of ``xs``. ‖∂L/∂sₜ‖ is that of the whole
    state, in a stack over all layers.

    Args:
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`;
            :class:`rnnlab.layers.AnyDepth` to vary the depth.
        params: its parameters.
        xs: inputs, ``[T, ..., I]``, at least as long as the longest of ``lengths``.
        values: ``[V]``, the values passed to ``vary``.
        lengths: ``[N]``, whole numbers of steps of at least 1.
        vary: ``vary(params, value) -> params``: :func:`recurrent_gain`, :func:`forget_bias`,
            :func:`rnnlab.layers.depth` or another function.
        loss: ``loss(last, *loss_args) -> scalar`` of the outputs at the last step, ``[N, ..., O]``:
            a sum over examples. For a loss at every step call :func:`gradient_flow` for each value.
        loss_args: further arguments of the loss; traced, so that new values do not compile again.
        key: draws the first direction for λ₁, which turns along ``xs``
            (:func:`lyapunov_spectrum`); the same one in every call by default.

    Returns:
        A :class:`PhaseDiagram`.

    Raises:
        ValueError: as :func:`rnnlab.gradient_flow` does, for lengths outside of 1..T, and for
            values that are not one axis of numbers.

    >>> import jax, rnnlab
    >>> cell = rnnlab.RNN(32)
    >>> params = cell.init(jax.random.key(0), input_size=4)
    >>> xs = jax.random.normal(jax.random.key(1), (40, 8, 4))
    >>> diagram = phase_diagram(cell, params, xs, values=[0.5, 1.0, 1.5], lengths=[20, 40])
    >>> diagram.horizon.shape
    (3, 2)
    """
    values = _check.array("values", values)
    lengths = _check.array("lengths", lengths)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"values has shape {values.shape}; give one axis of them, [V]")
    if lengths.ndim != 1 or not lengths.size:
        raise ValueError(f"lengths has shape {lengths.shape}; give one axis of them, [N]")
    _check.finite("values", values)
    xs, _, _ = prepare(cell, params, xs, None)
    _check.finite("xs", xs)
    _check.finite("params", params)
    lengths = _check.lengths(lengths, xs.shape[0], lengths.shape, least=1)
    longest = int(np.max(np.asarray(lengths)))
    _check.function("vary", vary)
    loss_args = _check.loss_function(loss, loss_args)
    return _diagram(
        cell,
        params,
        xs[:longest],
        values,
        lengths,
        key,
        loss_args,
        vary=ByValue(vary),
        loss=ByValue(loss),
    )


_BY_LENGTH = ExampleReach(*[1 if name == "log_norm" else 0 for name in ExampleReach._fields])
"""The position of the axis of lengths in each field; time comes before it in the log-norms."""


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
    column = lengths.reshape(-1, *(1,) * len(batch))
    example_lengths = jnp.broadcast_to(column, (lengths.size, *batch))
    # Every length runs all T steps, the rest as padding: one program serves all lengths.
    beginnings = jnp.broadcast_to(xs[:, None], (xs.shape[0], lengths.size, *xs.shape[1:]))

    def at_the_end(ys: Array, example_lengths: Array, *loss_args: Any) -> Array:
        index = (example_lengths - 1)[None, ..., None]
        last = jnp.take_along_axis(ys, index, axis=0)[0]
        return loss(last, *loss_args)

    def one_network(value: Array) -> tuple[Array, ...]:
        varied = vary(params, value)
        flow = compiled_flow(
            cell,
            varied,
            beginnings,
            at_the_end,
            (example_lengths, *loss_args),
            RunOptions(lengths=example_lengths),
            Extras(one_step=True),
        )
        examples = _whole_state(examples_reach(flow))
        reach = jax.vmap(over_examples, in_axes=(_BY_LENGTH,))(examples)
        # One spectrum serves all lengths: its direction turns along the longest sequence.
        trace = lyapunov_spectrum(cell, varied, xs, key=key, count=1).trace[..., 0]
        batch_axes = tuple(range(1, trace.ndim))
        exponents = trace.mean(axis=batch_axes)[lengths - 1]
        return reach.horizon, reach.vanishes, reach.decay_per_step, exponents

    # vmap over networks turns every matrix product into a batch of small ones, which is slow on a
    # CPU.
    if jax.default_backend() == "cpu":
        results = lax.map(one_network, values)
    else:
        results = jax.vmap(one_network)(values)
    return PhaseDiagram(values, lengths, *results)


def _whole_state(layers: list[ExampleReach]) -> ExampleReach:
    """The reach of the gradient with respect to the states of all layers together."""
    first = layers[0]
    if len(layers) == 1:
        return first
    log_norm = merge([layer.log_norm for layer in layers])
    return example_reach(log_norm, first.loss_step, first.loss_steps, first.lags)
