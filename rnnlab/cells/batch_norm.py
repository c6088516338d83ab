"""The LSTM with recurrent batch normalisation, in training."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.cells.base import Recurrent, affine, keep_precision, lift, spread, within
from rnnlab.cells.lstm import LSTMState
from rnnlab.cells.moments import LSTMMoments, batch_moments, standardise
from rnnlab.typing import Array, Key, PyTree


class BatchNormGains(NamedTuple):
    """Gains x and h of the two products, ``[4H]`` each, and gain and bias of c, ``[H]``."""

    x: Array
    h: Array
    c: Array
    c_bias: Array


class BatchNormParams(NamedTuple):
    """w_x ``[I, 4H]``, w_h ``[H, 4H]``, b ``[4H]`` or None, gates in the order i, f, g, o."""

    w_x: Array
    w_h: Array
    b: Array | None
    norm: BatchNormGains


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormalisedLSTM(Recurrent):
    """What :class:`BatchNormLSTM` and :class:`PopulationLSTM` share: options and weights.

    Attributes:
        gain: initial value γ of all gains; the paper found 0.1, since with 1 the gradient vanishes
            in the slopes of tanh.
        epsilon: ε.
        forget_bias: initial value of b_f; None is 1, or the value that ``bias_init`` draws.
        bias_init: draws b as ``(4, H)``, rows i, f, g, o.
    """

    gain: float = 0.1
    epsilon: float = 1e-5
    forget_bias: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.number("gain", self.gain)
        _check.number("epsilon", self.epsilon)
        if self.epsilon <= 0:
            raise ValueError(f"epsilon is {self.epsilon}; it must be above 0, such as 1e-5")
        if self.recurrent_bias:
            raise ValueError(f"{type(self).__name__} has one bias; leave recurrent_bias False")
        _check.initial_bias(self, "forget_bias")

    def draw_learned(self, key: Key, input_size: int) -> BatchNormParams:
        """The parameters that are learned."""
        _check.to_init(key, input_size)
        k_in, k_rec, k_bias = jax.random.split(key, 3)
        size = self.hidden_size
        gain = jnp.full(4 * size, self.gain, self.param_dtype)
        zeros = jnp.zeros(size, self.param_dtype)
        return BatchNormParams(
            w_x=self.draw_weights(self.kernel_init, k_in, input_size, 4),
            w_h=self.draw_weights(self.recurrent_init, k_rec, size, 4),
            b=self.draw_biases(k_bias, 4) if self.bias else None,
            norm=BatchNormGains(x=gain, h=gain, c=gain[:size], c_bias=zeros),
        )

    def draw_biases(self, key: Key, gates: int) -> Array:
        biases = super().draw_biases(key, gates)
        if self.bias_init is not None:
            return biases
        size = self.hidden_size
        forget_bias = 1.0 if self.forget_bias is None else self.forget_bias
        return biases.at[size : 2 * size].set(forget_bias)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchNormLSTM(NormalisedLSTM):
    """LSTM with recurrent batch normalisation (Cooijmans et al. 2017, arXiv 1603.09025), to train.

    (i, f, g, o)ₜ = BN(W_x xₜ; γ_x) + BN(W_h hₜ₋₁; γ_h) + b
    cₜ = σ(fₜ) ⊙ cₜ₋₁ + σ(iₜ) ⊙ tanh(gₜ)        hₜ = σ(oₜ) ⊙ tanh(BN(cₜ; γ_c, β_c))
    BN(v; γ, β) = γ ⊙ (v − mean v)/√(var v + ε) + β

    Mean and variance are those of the batch, anew at each step, over the examples whose step
    counts: with ``lengths`` or a ``mask`` the padding is left out. Resets do not divide a batch.
    So an example's output depends on the other examples, and the cell is for training alone;
    :func:`population_statistics` gives the cell for evaluation. The instruments refuse this one,
    since an example has no gradient of its own here, and so does the fused engine. Where a batch is
    divided among devices, each device normalises over its own part.
    Shapes: x ``[..., I]`` with at least one batch axis, c, h and the output ``[..., H]``.
    Raises ValueError for a batch of fewer than two examples, a ``hidden_size`` below 1, an
    ``epsilon`` that is not above 0, ``recurrent_bias``, and a ``forget_bias`` beside ``bias_init``.

    >>> cell = BatchNormLSTM(8)
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> xs = jax.random.normal(jax.random.key(1), (20, 32, 3))
    >>> params.norm.x.shape
    (32,)
    """

    couples_examples = True

    def init(self, key: Key, input_size: int) -> BatchNormParams:
        """Initial parameters for inputs of ``input_size`` features."""
        return self.draw_learned(key, input_size)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> LSTMState:
        return LSTMState(c=self.zeros(batch_shape), h=self.zeros(batch_shape))

    def step(self, params: BatchNormParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        """One step of a whole batch, all of whose examples count."""
        state, _ = self.step_and_moments(params, state, x, None)
        return state, state.h

    def step_and_moments(
        self, params: BatchNormParams, state: LSTMState, x: Array, counts: Array | None
    ) -> tuple[LSTMState, LSTMMoments]:
        """The state after a step, and the moments of the batch; ``counts [..., 1]`` is 0 or 1."""
        if math.prod(x.shape[:-1]) == 1:
            raise ValueError(
                f"{type(self).__name__} normalises over a batch, but x has shape {x.shape}; give "
                "at least two examples, or evaluate with the cell of population_statistics"
            )
        z = affine(x, params.w_x, None, self.dtype)
        a = affine(state.h, params.w_h, None, self.dtype)
        norm, epsilon = params.norm, self.epsilon
        of_x = batch_moments(z, counts)
        of_h = batch_moments(a, counts)
        z = standardise(z, of_x, norm.x, None, epsilon)
        a = standardise(a, of_h, norm.h, None, epsilon)
        c, o = memory(params.b, state, z, a)
        of_c = batch_moments(c, counts)
        read = standardise(c, of_c, norm.c, norm.c_bias, epsilon)
        return after(state, c, o, read), LSTMMoments(of_x, of_h, of_c)

    @property
    def cells(self) -> tuple[Any, ...]:
        """The cell of one step."""
        return (CountingStep(self, False),)

    def run_cells(
        self, params: BatchNormParams, xs: Array, state: LSTMState, options: Any, run: Callable
    ) -> tuple[PyTree, Array]:
        """Runs a whole sequence; which steps count travels beside the inputs."""
        counts = options.mask
        if options.lengths is not None:
            valid = within(options.lengths, xs.shape[0])
            counts = valid if counts is None else valid & counts
        if counts is None:
            return run(CountingStep(self, False), params, xs, state, options)
        xs = jnp.concatenate([xs, counts[..., None].astype(xs.dtype)], axis=-1)
        return run(CountingStep(self, True), params, xs, state, options)


@dataclasses.dataclass(frozen=True)
class CountingStep:
    """The step of a :class:`BatchNormLSTM`; whether it counts may follow the inputs."""

    cell: BatchNormLSTM
    counting: bool

    couples_examples = True

    def init(self, key: Key, input_size: int) -> BatchNormParams:
        """The parameters of the cell."""
        return self.cell.init(key, input_size - self.counting)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> LSTMState:
        return self.cell.initial_state(batch_shape)

    def step(self, params: BatchNormParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        """One step of a whole batch."""
        counts = None
        if self.counting:
            x, counts = x[..., :-1], x[..., -1:]
        state, _ = self.cell.step_and_moments(params, state, x, counts)
        return state, state.h


def memory(b: Array | None, state: LSTMState, z: Array, a: Array) -> tuple[Array, Array]:
    """The new cell state c and the gate o, from normalised products z and a."""
    sums = z + a
    if b is not None:
        sums = sums + spread(b.astype(sums.dtype), sums)
    i, f, g, o = jnp.split(sums, 4, axis=-1)
    written = jax.nn.sigmoid(i) * jnp.tanh(g)
    c = lift(jax.nn.sigmoid(f), state.c) * state.c + lift(written, state.c)
    return c, jax.nn.sigmoid(o)


def after(state: LSTMState, c: Array, o: Array, read: Array) -> LSTMState:
    """The new state; only the output reads the normalised c, as with layer normalisation."""
    h = lift(o, c) * jnp.tanh(read)
    return keep_precision(LSTMState(c, h), LSTMState(state.c, state.h))
