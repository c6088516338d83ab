"""Gradient flow: how large the gradient is at every step, and what every step contributes to it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab import _check, _wording
from rnnlab._functions import ByValue
from rnnlab._results import result
from rnnlab.diagnostics.gradient import reach
from rnnlab.diagnostics.gradient.reach import ExampleReach
from rnnlab.driver import RunOptions, prepare, within
from rnnlab.gradients import record
from rnnlab.gradients.backward import Back, ParameterGradients, StateNorms
from rnnlab.gradients.loss import entering_gradient, loss_gradient, steps_read
from rnnlab.gradients.scaled import Scaled, log_norm, plain, renormalise
from rnnlab.typing import Array, Cell, Key, PyTree


@result
class GradientFlow(NamedTuple):
    """Where a gradient comes from and how far back it reaches.

    Norms are Euclidean, logarithms natural (nats), lags in steps; −inf marks a gradient that is exactly
    zero. In a stack, per-step norms and everything about the reach get a leading axis, one entry for
    each recurrent layer (and direction, of a bidirectional one).

    Attributes:
        loss: L(y₁ … y_T), a scalar.
        outputs: y₁ … y_T, ``[T, ..., O]``.
        log_norm_state: ``[T, ...]``, ln‖∂L/∂hₜ‖ of the whole loss, for every step and example; −inf in
            padding. h is the hidden state: what the cell's ``hidden`` names, else the state's field h,
            else what the step returns as its output, else the whole state.
        log_norm_cell: ``[T, ...]``, the same for the rest of the state, an LSTM's cₜ, with hₜ held fixed;
            None where there is no rest (in a stack, −inf for the layers that have none).
        log_norm_joint: ``[T, ...]``, the same for the whole state.
        log_norm_initial: ``[...]``, ln‖∂L/∂h₀‖.
        log_norm_input: ``[T, ...]``, ln‖∂L/∂xₜ‖ (without a layer axis).
        input_gradient: ``[T, ..., I]``, ∂L/∂xₜ.
        log_norm_by_lag: ``[T]``, ln‖∂E/∂s‖ of the whole state s (an LSTM's c and h) by the distance from
            the step at which the loss E is taken: the median over the examples of its fall from lag 0,
            added to the median there. −inf from ``lags`` on.
        lags: how many lags there are, a whole number: 0 … ``lags − 1``.
        horizon: the smallest lag, in steps, at which the gradient has fallen below 1/1000 in half of the
            examples; ``lags`` (T, for a loss at the last step) where there is none. Where examples have
            different lags it is the median of the product-limit estimate (Kaplan & Meier 1958), to
            which those that never fall count as long as they last.
        vanishes: whether there is such a lag.
        horizon_range: ``[2]``, the smallest and the largest horizon of an example.
        decay_per_step: how fast ln‖∂E/∂s‖ falls down to the horizon, nats a step: the median over the
            examples of minus the least-squares slope. Negative where the gradient explodes, inf where it
            is exactly zero after one step, 0 where there are fewer than two lags.
        decay_range: ``[2]``, the smallest and the largest decay of an example.
        late_decay_per_step: how fast it falls beyond the horizon; 0 where there are fewer than two lags.
        zero_share: the share of the examples in which the gradient becomes exactly zero, as behind a
            dead ReLU; 0 … 1.
        examples: the same for each example, with the step from which its lags count.
        contributions: ``[T]`` for each parameter, ln of the norm of what each step adds to ∂L/∂θ, summed
            over the batch.
        contribution_arrays: ``[T, *parameter]``, what each step adds to ∂L/∂θ, where
            ``keep_contributions``; else None.
        gradient: ∂L/∂θ, the sum of the contributions, like the parameters.
        log_norm_gradient: ln‖∂L/∂θ‖ of each parameter, finite even where ``gradient`` over- or underflows.
        loss_args_gradient: ∂L/∂ of each of ``loss_args``, where asked for; None otherwise, and for what
            is not a float.
        finite: whether inputs, outputs, loss and gradient are free of NaN and infinity; where False,
            nothing else means anything.
    """

    loss: Array
    outputs: Array
    log_norm_state: Array
    log_norm_cell: Array | None
    log_norm_joint: Array
    log_norm_initial: Array
    log_norm_input: Array
    input_gradient: Array
    log_norm_by_lag: Array
    lags: Array
    horizon: Array
    vanishes: Array
    horizon_range: Array
    decay_per_step: Array
    decay_range: Array
    late_decay_per_step: Array
    zero_share: Array
    examples: ExampleReach
    contributions: PyTree
    contribution_arrays: PyTree | None
    gradient: PyTree
    log_norm_gradient: PyTree
    loss_args_gradient: PyTree | None
    finite: Array

    def finding(self) -> str:
        """How far back the gradient reaches, in a sentence for each layer, and what was measured."""
        if not self.finite:
            return "inputs, outputs, loss or gradient hold NaN or infinity, so nothing can be said."
        layers = 1 if np.ndim(self.horizon) == 0 else len(self.horizon)
        sentences = [self._sentence(layer, layers) for layer in range(layers)]
        return "\n  ".join([*sentences, self._measured()])

    def _sentence(self, layer: int, layers: int) -> str:
        def own(values: Array) -> Any:
            return (
                np.asarray(values)[layer]
                if layers > 1 or np.ndim(self.horizon)
                else np.asarray(values)
            )

        each = own(self.examples.lags)
        count, counted = each.size, each[each > 0]
        low, high = own(self.horizon_range)
        sentence = _wording.reach(
            int(own(self.horizon)),
            bool(own(self.vanishes)),
            float(own(self.decay_per_step)),
            int(own(self.lags)),
            horizon_range=(int(low), int(high)),
            over=f"{count} examples",
            zero_share=float(own(self.zero_share)),
            least_lags=int(counted.min()) if counted.size else None,
        )
        return f"layer {layer}: {sentence}." if layers > 1 else f"{sentence}."

    def _measured(self) -> str:
        several = int(np.max(self.examples.loss_steps))
        steps = np.asarray(self.examples.loss_step)
        taken = steps[steps >= 0]
        if not taken.size:
            return "The loss does not depend on the outputs."
        first, last = int(taken.min()) + 1, int(taken.max()) + 1
        where = f"step {last}" if first == last else f"steps {first} to {last}"
        of = f" of {self.outputs.shape[0]}"
        if several <= 1:
            return f"The loss is taken at {where}{of}."
        return (
            f"The loss is taken at {several} steps. Each example follows one of them, {where}{of}, "
            "and its lags count from there."
        )


def gradient_flow(
    cell: Cell,
    params: PyTree,
    xs: Array,
    loss: Callable[..., Array],
    *loss_args: Any,
    initial_state: PyTree | None = None,
    lengths: Array | None = None,
    resets: Array | None = None,
    reverse: bool = False,
    key: Key | None = None,
    keep_contributions: bool = False,
    differentiate_loss_args: bool = False,
) -> GradientFlow:
    """Gradient norms at every step, each step's contribution, and how far back the gradient reaches.

    ∂L/∂θ = Σₜ ∂L/∂sₜ · ∂⁺sₜ/∂θ (Pascanu, Mikolov & Bengio 2013, arXiv 1211.5063, eq. 3–5): the norms of
    the first factor and the terms of the sum come from one compiled backward pass. ∂L/∂hₜ is the total
    derivative: through the later steps, through the output yₜ and, in a stack, through the layers above.
    The adjoint is carried with an exponent of its own for each example, so that 100 000 steps neither
    underflow nor overflow.

    How far back it reaches is asked of one loss step E at a time, since the norms of a loss over many
    steps add up what has travelled far and what has just entered: lags count from E's own step, and the
    norm is that of the whole state, since an LSTM's gradient travels through c as well as h. Where the
    loss enters at one step, that is the pass above. Where it enters at several, as in a language model, a
    second pass follows the adjoints alone, each example from a loss step of its own in the half with the
    longest history; for a loss that is no sum over steps, E stands for all that enters through one yₜ.

    Args:
        cell: any cell, stack, bidirectional cell or :class:`rnnlab.Step`.
        params: its parameters.
        xs: inputs, ``[T, ..., I]``.
        loss: ``loss(ys, *loss_args) -> scalar``, with ys ``[T, ..., O]``. A function is compiled once; one
            with the same code, written again, is found again unless it uses a variable that may be changed
            in place, such as a NumPy array: give arrays as ``loss_args``.
        *loss_args: what else the loss needs, such as labels or the weights of a readout: any pytrees of
            arrays. They are traced, so that new values compile nothing.
        initial_state, lengths, resets, reverse, key: as for :func:`rnnlab.unroll`.
        keep_contributions: also returns the contributions as arrays, T times the memory of the parameters.
        differentiate_loss_args: also returns the gradient with respect to ``loss_args``.

    Returns:
        A :class:`GradientFlow`; ``print`` it for a short table and the finding.

    Raises:
        ValueError: as :func:`rnnlab.unroll` does, for a loss that is not a real scalar, and for parameters or
            states that are not floats. A NaN raises nothing: it makes ``finite`` False.

    >>> import jax, rnnlab
    >>> cell = rnnlab.GRU(16)
    >>> params = cell.init(jax.random.key(0), input_size=4)
    >>> xs = jax.random.normal(jax.random.key(1), (60, 8, 4))
    >>> targets = jax.random.normal(jax.random.key(2), (60, 8, 16))
    >>> flow = rnnlab.gradient_flow(cell, params, xs, lambda ys, t: ((ys - t) ** 2).mean(), targets)
    >>> bool(flow.vanishes), int(flow.horizon) < 30
    (True, True)
    """
    options = RunOptions(lengths=lengths, resets=resets, key=key, reverse=reverse)
    extras = Extras(keep_contributions, differentiate_loss_args)
    compiled = compiled_flow(cell, params, xs, loss, loss_args, options, extras, initial_state)
    return with_reach(compiled, lengths)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("log_norm", "resets"),
    meta_fields=("reverse", "layered"),
)
@dataclasses.dataclass(frozen=True)
class Followed:
    """The adjoint of one loss step of each example in one recurrent layer, and how the layer was run."""

    log_norm: Array  # ln‖∂E/∂s‖, [T, ...]
    resets: Array | None  # [T, ...]
    reverse: bool
    layered: bool  # whether the layer is one of the cells of a composite


class CompiledFlow(NamedTuple):
    """What the compiled program of a gradient flow gives: all but the verdict on how far it reaches."""

    loss: Array
    outputs: Array
    adjoints: tuple[StateNorms, ...]  # one for each recurrent layer and direction
    params: ParameterGradients
    log_norm_input: Array
    input_gradient: Array
    loss_args_gradient: PyTree | None
    finite: Array
    followed: tuple[Followed, ...]
    loss_step: Array
    loss_steps: Array


class Extras(NamedTuple):
    """What else is asked of a gradient flow; fixed while tracing."""

    keep_contributions: bool = False
    differentiate_loss_args: bool = False
    one_step: bool = False
    """The loss reads one step of each example. Its program shows that only where the step is a
    constant; then no second pass is compiled."""


def compiled_flow(
    cell: Cell,
    params: PyTree,
    xs: Array,
    loss: Callable[..., Array],
    loss_args: tuple[Any, ...],
    options: RunOptions,
    extras: Extras,
    initial_state: PyTree | None = None,
) -> CompiledFlow:
    """The first half of :func:`gradient_flow`, checked and compiled."""
    xs, state, options = prepare(cell, params, xs, initial_state, options)
    loss_args = _check.loss_function(loss, loss_args)
    _check.linear_adjoint(cell)
    _check.differentiable("params", params)
    _check.differentiable("the state", state)
    _check.batched("the state", state, xs.shape[1:-1])
    return _flow(cell, params, xs, state, options, loss_args, loss=ByValue(loss), extras=extras)


@functools.partial(jax.jit, static_argnames=("cell", "loss", "extras"))
def _flow(
    cell: Cell,
    params: PyTree,
    xs: Array,
    state: PyTree,
    options: RunOptions,
    loss_args: tuple[Any, ...],
    *,
    loss: Callable[..., Array],
    extras: Extras,
) -> CompiledFlow:
    ys, back = record(cell, params, xs, state, options, extras.keep_contributions)
    value, g, args_gradient = loss_gradient(loss, ys, loss_args, extras.differentiate_loss_args)
    entering = entering_gradient(g)
    backward = back(entering)
    if not backward.adjoints or backward.params is None:
        raise ValueError(
            "the cell has no state, so no gradient flows back in time; give one that remembers"
        )
    enters = jnp.any(entering.mantissa != 0, axis=-1)
    if options.lengths is not None:
        enters = enters & within(options.lengths, xs.shape[0])
    step, count = reach.loss_step(enters, tuple(a.options.reverse for a in backward.adjoints))
    several = not extras.one_step and len(steps_read(loss, ys, loss_args)) > 1
    norms = [adjoint.norms.joint for adjoint in backward.adjoints]
    if several:
        norms = _followed_norms(back, norms, entering, step, count)
    followed = [
        Followed(norm, adjoint.options.resets, adjoint.options.reverse, adjoint.layered)
        for norm, adjoint in zip(norms, backward.adjoints, strict=True)
    ]

    # Padding may hold anything.
    read = [xs] if options.lengths is None else []
    sound = [jnp.isfinite(x).all() for x in (*read, ys, value)]
    sound += [norm < jnp.inf for norm in jax.tree.leaves(backward.params.log_gradient)]  # NaN too
    return CompiledFlow(
        loss=value,
        outputs=ys,
        adjoints=tuple(adjoint.norms for adjoint in backward.adjoints),
        params=backward.params,
        log_norm_input=log_norm(backward.dxs.mantissa, backward.dxs.exponent, xs.ndim - 1),
        input_gradient=plain(backward.dxs),
        loss_args_gradient=args_gradient,
        finite=jnp.stack(sound).all(),
        followed=tuple(followed),
        loss_step=step,
        loss_steps=count,
    )


def _followed_norms(
    back: Back, first_pass: list[Array], entering: Scaled, step: Array, count: Array
) -> list[Array]:
    """ln‖∂E/∂s‖ of one loss step of each example: of a second pass, where an example has several."""
    number = jnp.arange(entering.exponent.shape[0], dtype=step.dtype)
    alone = number.reshape(-1, *(1,) * step.ndim) == step[None]

    def second_pass() -> list[Array]:
        own = jnp.where(alone[..., None], entering.mantissa, jnp.zeros_like(entering.mantissa))
        found = back(renormalise(own, entering.exponent, alone.ndim), adjoints_only=True)
        return [adjoint.norms.joint for adjoint in found.adjoints]

    return lax.cond((count > 1).any(), second_pass, lambda: first_pass)


def examples_reach(compiled: CompiledFlow, lengths: Array | None) -> list[ExampleReach]:
    """How far back one loss step of each example reaches, in each recurrent layer.

    Computed with NumPy where the values are known, else traced.
    """
    step, count = compiled.loss_step, compiled.loss_steps
    given = compiled.followed, step, count, lengths
    if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(given)):
        given = jax.device_get(given)
    followed, step, count, lengths = given
    return [
        reach.from_steps(
            layer.log_norm, step, count, reverse=layer.reverse, lengths=lengths, resets=layer.resets
        )
        for layer in followed
    ]


def with_reach(compiled: CompiledFlow, lengths: Array | None) -> GradientFlow:
    """The second half of :func:`gradient_flow`: the verdict."""
    examples = examples_reach(
        compiled, None if lengths is None else _check.array("lengths", lengths)
    )
    over = [reach.over_examples(layer) for layer in examples]
    norms = compiled.adjoints[0]
    if compiled.followed[0].layered:
        norms = _stacked(compiled.adjoints)
        examples, over = [jax.tree.map(_side_by_side, *layers) for layers in (examples, over)]
    else:
        examples, over = examples[0], over[0]
    examples, over = jax.tree.map(jnp.asarray, (examples, over))
    return GradientFlow(
        loss=compiled.loss,
        outputs=compiled.outputs,
        log_norm_state=norms.h,
        log_norm_cell=norms.c,
        log_norm_joint=norms.joint,
        log_norm_initial=norms.initial,
        log_norm_input=compiled.log_norm_input,
        input_gradient=compiled.input_gradient,
        examples=examples,
        contributions=compiled.params.log_contributions,
        contribution_arrays=compiled.params.contributions,
        gradient=compiled.params.gradient,
        log_norm_gradient=compiled.params.log_gradient,
        loss_args_gradient=compiled.loss_args_gradient,
        finite=compiled.finite,
        **over._asdict(),
    )


def _side_by_side(*layers: Array) -> Array:
    return jnp.stack(layers)


def _stacked(adjoints: tuple[StateNorms, ...]) -> StateNorms:
    """The norms of several layers with a leading axis; −inf where a layer has no cell state and others do."""
    cells = [norms.c for norms in adjoints]
    if any(c is not None for c in cells):
        absent = jnp.full_like(adjoints[0].h, -jnp.inf)
        cells = [absent if c is None else c for c in cells]
    return StateNorms(
        h=jnp.stack([norms.h for norms in adjoints]),
        c=None if cells[0] is None else jnp.stack([c for c in cells if c is not None]),
        joint=jnp.stack([norms.joint for norms in adjoints]),
        initial=jnp.stack([norms.initial for norms in adjoints]),
    )
