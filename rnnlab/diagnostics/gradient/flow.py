"""Gradient flow: the size of the gradient at every step, and the contribution of every step."""

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
from rnnlab.driver import RunOptions, prepare, valid_steps
from rnnlab.gradients import record
from rnnlab.gradients.backward import Back, ParameterGradients, StateNorms
from rnnlab.gradients.loss import entering_gradient, loss_gradient, steps_read
from rnnlab.gradients.scaled import Scaled, log_norm, plain, renormalise
from rnnlab.typing import Array, Cell, Key, PyTree


@result
class GradientFlow(NamedTuple):
    """Where a gradient comes from and how far back it reaches.

    Norms are Euclidean, logarithms natural (nats), lags in steps; −inf marks a gradient that is
    exactly zero. In a stack, per-step norms and everything about the reach get a leading axis, one
    entry for each recurrent layer (and direction, of a bidirectional one).

    Attributes:
        loss: L(y₁ … y_T), a scalar.
        outputs: y₁ … y_T, ``[T, ..., O]``.
        log_norm_h: ``[T, ...]``, ln‖∂L/∂hₜ‖ of the whole loss, for every step and example; −inf
            in padding. h is the hidden state: what the cell's ``hidden`` names, else the state's
            field h, else what the step returns as its output, else the whole state.
        log_norm_c: ``[T, ...]``, the same for the rest of the state, an LSTM's cₜ, with hₜ held
            fixed; None where there is no rest (in a stack, −inf for the layers that have none).
        log_norm_state: ``[T, ...]``, the same for the whole state.
        log_norm_h0: ``[...]``, ln‖∂L/∂h₀‖.
        log_norm_input: ``[T, ...]``, ln‖∂L/∂xₜ‖ (without a layer axis).
        input_gradient: ``[T, ..., I]``, ∂L/∂xₜ.
        log_norm_by_lag: ``[T]``, ln‖∂E/∂s‖ of the whole state s (an LSTM's c and h) by the distance
            from the step at which the loss E is taken: the median over the examples of its fall
            from lag 0, added to the median there. −inf from ``lags`` on.
        lags: the number of lags: 0 … ``lags − 1``.
        horizon: the smallest lag, in steps, at which the gradient has decayed below 1/1000 in half
            of the examples; ``lags`` (T, for a loss at the last step) where there is none. Where
            examples have different lags it is the median of the Kaplan–Meier estimate (1958), with
            examples that do not decay that far treated as right-censored.
        vanishes: whether there is such a lag.
        horizon_range: ``[2]``, the smallest and the largest horizon of an example.
        decay_per_step: how fast ln‖∂E/∂s‖ decays down to the horizon, nats per step: the median
            over the examples of minus the least-squares slope. Negative where the gradient
            explodes, inf where it is exactly zero after one step, 0 where there are fewer than two
            lags.
        decay_range: ``[2]``, the smallest and the largest decay of an example.
        late_decay_per_step: how fast it decays beyond the horizon; 0 where there are fewer than two
            lags.
        zero_share: the share of the examples in which the gradient becomes exactly zero, as behind
            a dead ReLU; 0 … 1.
        examples: the same for each example, with the step from which its lags count.
        log_contributions: ``[T]`` for each parameter, ln of the norm of each step's contribution to
            ∂L/∂θ, summed over the batch.
        contributions: ``[T, *parameter]``, the contributions themselves, where
            ``keep_contributions``; else None.
        gradient: ∂L/∂θ, the sum of the contributions, like the parameters.
        log_norm_gradient: ln‖∂L/∂θ‖ of each parameter, finite even where ``gradient`` overflows or
            underflows.
        loss_args_gradient: ∂L/∂ of each of ``loss_args``, where asked for; None otherwise, and for
            what is not a float.
        finite: whether inputs, outputs, loss and gradient are free of NaN and infinity; if
            False, the other fields are meaningless.
    """

    loss: Array
    outputs: Array
    log_norm_h: Array
    log_norm_c: Array | None
    log_norm_state: Array
    log_norm_h0: Array
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
    log_contributions: PyTree
    contributions: PyTree | None
    gradient: PyTree
    log_norm_gradient: PyTree
    loss_args_gradient: PyTree | None
    finite: Array

    def finding(self) -> str:
        """How far back the gradient reaches, a sentence for each layer, and what was measured."""
        if not self.finite:
            fault = "inputs, outputs, loss or gradient contain NaN or infinity"
            return f"{fault}; the reach is undefined."
        has_layers = np.ndim(self.horizon) > 0
        layers = len(self.horizon) if has_layers else 1
        sentences = [self._sentence(layer, layers) for layer in range(layers)]
        return "\n  ".join([*sentences, self._measured()])

    def _sentence(self, layer: int, layers: int) -> str:
        has_layers = np.ndim(self.horizon) > 0

        def of_layer(values: Array) -> Any:
            array = np.asarray(values)
            return array[layer] if has_layers else array

        lags = of_layer(self.examples.lags)
        counted = lags[lags > 0]
        low, high = of_layer(self.horizon_range)
        sentence = _wording.reach(
            int(of_layer(self.horizon)),
            bool(of_layer(self.vanishes)),
            float(of_layer(self.decay_per_step)),
            int(of_layer(self.lags)),
            horizon_range=(int(low), int(high)),
            over=f"{lags.size} examples",
            zero_share=float(of_layer(self.zero_share)),
            least_lags=int(counted.min()) if counted.size else None,
        )
        return f"layer {layer}: {sentence}." if layers > 1 else f"{sentence}."

    def _measured(self) -> str:
        count = int(np.max(self.examples.loss_steps))
        steps = np.asarray(self.examples.loss_step)
        taken = steps[steps >= 0]
        if not taken.size:
            return "The loss does not depend on the outputs."
        first = int(taken.min()) + 1
        last = int(taken.max()) + 1
        span = f"step {last}" if first == last else f"steps {first} to {last}"
        where = f"{span} of {self.outputs.shape[0]}"
        if count <= 1:
            return f"The loss is taken at {where}."
        return (
            f"The loss is taken at {count} steps. Each example follows one of them, {where}, "
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
    mask: Array | None = None,
    resets: Array | None = None,
    reset_state: PyTree | None = None,
    reverse: bool = False,
    key: Key | None = None,
    keep_contributions: bool = False,
    differentiate_loss_args: bool = False,
) -> GradientFlow:
    """Gradient norms at every step, each step's contribution, and the reach of the gradient.

    ∂L/∂θ = Σₜ ∂L/∂sₜ · ∂⁺sₜ/∂θ (Pascanu, Mikolov & Bengio 2013, arXiv 1211.5063, eq. 3–5): the
    norms of the first factor and the terms of the sum come from one compiled backward pass. ∂L/∂hₜ
    is the total derivative: through the later steps, through the output yₜ and, in a stack, through
    the layers above. The adjoint is carried with a separate exponent for each example, so that
    100 000 steps neither underflow nor overflow.

    The reach is measured for one loss step E at a time, since with a loss at many steps the norms
    mix contributions of near and distant losses: lags count from the step of E, and the norm is
    that of the whole state, since an LSTM's gradient travels through c as well as h. Where the loss
    enters at one step, that is the pass above. Where it enters at several, as in a language model,
    a second pass follows the adjoints alone, each example from a different loss step in the half
    with the longest history; for a loss that is not a sum over steps, E stands for all that enters
    through one yₜ.

    Args:
        cell: any cell, stack, bidirectional cell or :class:`rnnlab.Step`.
        params: its parameters.
        xs: inputs, ``[T, ..., I]``.
        loss: ``loss(ys, *loss_args) -> scalar``, with ys ``[T, ..., O]``. A function is compiled
            once; one with the same code, written again, counts as the same unless it uses a
            variable that may be changed in place, such as a NumPy array: pass arrays as
            ``loss_args``.
        *loss_args: further arguments of the loss, such as labels or the weights of a readout: any
            pytrees of arrays. They are traced, so that new values do not compile again.
        initial_state, lengths, mask, resets, reset_state, reverse, key: as for
            :func:`rnnlab.unroll`. Lags also count steps that the mask leaves out.
        keep_contributions: also returns the contributions as arrays, T times the memory of the
            parameters.
        differentiate_loss_args: also returns the gradient with respect to ``loss_args``.

    Returns:
        A :class:`GradientFlow`; ``print`` it for a short table and the finding.

    Raises:
        ValueError: as :func:`rnnlab.unroll` does, for a loss that is not a real scalar, and for
            parameters or states that are not floats. A NaN raises nothing: it makes ``finite``
            False.

    >>> import jax, rnnlab
    >>> cell = rnnlab.GRU(16)
    >>> params = cell.init(jax.random.key(0), input_size=4)
    >>> xs = jax.random.normal(jax.random.key(1), (60, 8, 4))
    >>> targets = jax.random.normal(jax.random.key(2), (60, 8, 16))
    >>> flow = rnnlab.gradient_flow(cell, params, xs, lambda ys, t: ((ys - t) ** 2).mean(), targets)
    >>> bool(flow.vanishes), int(flow.horizon) < 30
    (True, True)
    """
    options = RunOptions(
        lengths=lengths,
        mask=mask,
        resets=resets,
        reset_state=reset_state,
        key=key,
        reverse=reverse,
    )
    extras = Extras(keep_contributions, differentiate_loss_args)
    compiled = compiled_flow(cell, params, xs, loss, loss_args, options, extras, initial_state)
    return with_reach(compiled)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("log_norm", "resets"),
    meta_fields=("reverse", "layered"),
)
@dataclasses.dataclass(frozen=True)
class Followed:
    """The adjoint of one loss step of each example in one layer, and how the layer was run."""

    log_norm: Array  # ln‖∂E/∂s‖, [T, ...]
    resets: Array | None  # [T, ...]
    reverse: bool
    # Whether the layer is one of the cells of a composite.
    layered: bool


class CompiledFlow(NamedTuple):
    """The results of the compiled program of a gradient flow: all but the summary of its reach."""

    loss: Array
    outputs: Array
    # One for each recurrent layer and direction.
    adjoints: tuple[StateNorms, ...]
    params: ParameterGradients
    log_norm_input: Array
    input_gradient: Array
    loss_args_gradient: PyTree | None
    finite: Array
    followed: tuple[Followed, ...]
    # Whether each step counts, [T, ...]; None where all do.
    valid: Array | None
    loss_step: Array
    loss_steps: Array


class Extras(NamedTuple):
    """Further options of a gradient flow, static while tracing."""

    keep_contributions: bool = False
    differentiate_loss_args: bool = False
    # Promises that the loss reads one step of each example, so that no second pass is compiled.
    # The program of the loss shows that only where the step is a constant.
    one_step: bool = False


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
    return _flow(
        cell,
        params,
        xs,
        state,
        options,
        loss_args,
        loss=ByValue(loss),
        extras=extras,
    )


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
            "the cell has no state, so no gradient flows back in time; give a recurrent cell"
        )
    enters = jnp.any(entering.mantissa != 0, axis=-1)
    valid = valid_steps(options, xs.shape[0])
    if valid is not None:
        enters = enters & valid
    reverse = tuple(adjoint.options.reverse for adjoint in backward.adjoints)
    step, count = reach.loss_step(enters, reverse)
    norms = [adjoint.norms.state for adjoint in backward.adjoints]
    # The second pass is compiled, which takes as long as the first, only where the loss may read
    # several steps.
    if not extras.one_step and len(steps_read(loss, ys, loss_args)) > 1:
        norms = _followed_norms(back, norms, entering, step, count)
    followed = []
    for norm, adjoint in zip(norms, backward.adjoints, strict=True):
        run = adjoint.options
        followed.append(Followed(norm, run.resets, run.reverse, adjoint.layered))

    # The inputs in the padding may be NaN; they do not reach the outputs.
    checked = [xs, ys, value] if valid is None else [ys, value]
    sound = [jnp.isfinite(array).all() for array in checked]
    # −inf is the log-norm of zero, so only inf and NaN count; NaN fails the comparison too.
    sound += [norm < jnp.inf for norm in jax.tree.leaves(backward.params.log_gradient)]
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
        valid=valid,
        loss_step=step,
        loss_steps=count,
    )


def _followed_norms(
    back: Back,
    first_pass: list[Array],
    entering: Scaled,
    step: Array,
    count: Array,
) -> list[Array]:
    """ln‖∂E/∂s‖ of one loss step of each example: a second pass, where an example has several."""
    index = jnp.arange(entering.exponent.shape[0], dtype=step.dtype)
    is_followed = index.reshape(-1, *(1,) * step.ndim) == step[None]

    def second_pass() -> list[Array]:
        mask = is_followed[..., None]
        zeros = jnp.zeros_like(entering.mantissa)
        mantissa = jnp.where(mask, entering.mantissa, zeros)
        alone = renormalise(mantissa, entering.exponent, is_followed.ndim)
        backward = back(alone, adjoints_only=True)
        return [adjoint.norms.state for adjoint in backward.adjoints]

    def keep_first() -> list[Array]:
        return first_pass

    return lax.cond((count > 1).any(), second_pass, keep_first)


def examples_reach(compiled: CompiledFlow) -> list[ExampleReach]:
    """How far back one loss step of each example reaches, in each recurrent layer.

    Computed with NumPy where the values are known, else traced.
    """
    arrays = (compiled.followed, compiled.loss_step, compiled.loss_steps, compiled.valid)
    is_traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arrays))
    if not is_traced:
        # With JAX's arrays each of the many small operations would be compiled for every shape.
        arrays = jax.device_get(arrays)
    followed, step, count, valid = arrays
    layers = []
    for layer in followed:
        examples = reach.from_steps(
            layer.log_norm,
            step,
            count,
            reverse=layer.reverse,
            valid=valid,
            resets=layer.resets,
        )
        layers.append(examples)
    return layers


def with_reach(compiled: CompiledFlow) -> GradientFlow:
    """The second half of :func:`gradient_flow`: the summary of the reach."""
    examples = examples_reach(compiled)
    over = [reach.over_examples(layer) for layer in examples]
    if compiled.followed[0].layered:
        norms = _stacked(compiled.adjoints)
        examples = jax.tree.map(_side_by_side, *examples)
        over = jax.tree.map(_side_by_side, *over)
    else:
        norms = compiled.adjoints[0]
        examples = examples[0]
        over = over[0]
    examples, over = jax.tree.map(jnp.asarray, (examples, over))
    return GradientFlow(
        loss=compiled.loss,
        outputs=compiled.outputs,
        log_norm_h=norms.h,
        log_norm_c=norms.c,
        log_norm_state=norms.state,
        log_norm_h0=norms.h0,
        log_norm_input=compiled.log_norm_input,
        input_gradient=compiled.input_gradient,
        examples=examples,
        log_contributions=compiled.params.log_contributions,
        contributions=compiled.params.contributions,
        gradient=compiled.params.gradient,
        log_norm_gradient=compiled.params.log_gradient,
        loss_args_gradient=compiled.loss_args_gradient,
        finite=compiled.finite,
        **over._asdict(),
    )


def _side_by_side(*layers: Array) -> Array:
    return jnp.stack(layers)


def _stacked(adjoints: tuple[StateNorms, ...]) -> StateNorms:
    """The norms of several layers with a leading axis.

    −inf where a layer has no cell state and others do.
    """
    h, cells, state, h0 = zip(*adjoints, strict=True)
    if any(c is not None for c in cells):
        absent = jnp.full_like(h[0], -jnp.inf)
        cells = [absent if c is None else c for c in cells]
    return StateNorms(
        h=_side_by_side(*h),
        c=None if cells[0] is None else _side_by_side(*cells),
        state=_side_by_side(*state),
        h0=_side_by_side(*h0),
    )
