"""The LSTM with recurrent batch normalisation, in evaluation, and its statistics."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab import _check
from rnnlab.cells.base import affine, within
from rnnlab.cells.batch_norm import (
    BatchNormGains,
    BatchNormLSTM,
    BatchNormParams,
    NormalisedLSTM,
    after,
    memory,
)
from rnnlab.cells.lstm import LSTMState
from rnnlab.cells.moments import LSTMMoments, Moments, standardise
from rnnlab.typing import Array, Key


class PopulationParams(NamedTuple):
    """As :class:`BatchNormParams`, with the moments of each step, ``[steps, 4H]`` and c's H."""

    w_x: Array
    w_h: Array
    b: Array | None
    norm: BatchNormGains
    population: LSTMMoments


class PopulationState(NamedTuple):
    """c and h ``[..., H]``, and t ``[..., 1]``, the steps since the start or the last reset."""

    c: Array
    h: Array
    t: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class PopulationLSTM(NormalisedLSTM):
    """:class:`BatchNormLSTM` in evaluation: normalised by the moments that training data had.

    Each step t has moments of its own; those of the last one serve all later steps (Cooijmans et
    al. 2017, section 3.2). Examples do not depend on one another, so every engine and instrument
    takes this cell. The moments are constants: no gradient leads to them.
    :func:`population_statistics` makes the cell and its parameters; those of ``init`` have mean 0
    and variance 1.

    >>> cell = PopulationLSTM(8, steps=20)
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> params.population.c.mean.shape
    (20, 8)

    Attributes:
        steps: how many steps have moments.
    """

    steps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "steps", _check.positive_int("steps", self.steps))

    def init(self, key: Key, input_size: int) -> PopulationParams:
        """Initial parameters for inputs of ``input_size`` features."""

        def moments(size: int) -> Moments:
            shape = self.steps, size
            return Moments(jnp.zeros(shape, self.param_dtype), jnp.ones(shape, self.param_dtype))

        size = self.hidden_size
        population = LSTMMoments(moments(4 * size), moments(4 * size), moments(size))
        return PopulationParams(*self.draw_learned(key, input_size), population)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> PopulationState:
        c, h = self.zeros(batch_shape), self.zeros(batch_shape)
        # In half precision a counter would stop at 256 or 2048.
        t = jnp.zeros((*_check.batch_shape(batch_shape), 1), jnp.float32)
        return PopulationState(c, h, t)

    def project(self, params: PopulationParams, xs: Array) -> Array:
        """W_x x; the moments of the step and b follow in ``gate``."""
        return affine(xs, params.w_x, None, self.dtype)

    def mix(self, params: PopulationParams, state: PopulationState) -> Array:
        """W_h h."""
        return affine(state.h, params.w_h, None, self.dtype)

    def gate(
        self,
        params: PopulationParams,
        state: PopulationState,
        z: Array,
        a: Array,
    ) -> tuple[PopulationState, Array]:
        t = lax.stop_gradient(state.t)
        index = jnp.clip(t[..., 0].astype(jnp.int32), 0, self.steps - 1)

        def now(moment: Array) -> Array:
            return lax.stop_gradient(moment)[index]

        moments = jax.tree.map(now, params.population)
        norm, epsilon = params.norm, self.epsilon
        z = standardise(z, moments.x, norm.x, None, epsilon)
        a = standardise(a, moments.h, norm.h, None, epsilon)
        old = LSTMState(state.c, state.h)
        c, o = memory(params.b, old, z, a)
        read = standardise(c, moments.c, norm.c, norm.c_bias, epsilon)
        c, h = after(old, c, o, read)
        # Any later step has the last moments, so the counter need not go on.
        return PopulationState(c, h, jnp.minimum(t + 1, self.steps)), h


def population_statistics(
    cell: BatchNormLSTM, params: BatchNormParams, xs: Array, *, lengths: Array | None = None
) -> tuple[PopulationLSTM, PopulationParams]:
    """The cell for evaluation and its parameters, from training data.

    Runs the cell over ``xs`` as in training and keeps the moments of every step, T of them. Give as
    many sequences as fit into memory, in one batch: the moments are then those of the training data
    and not of a small batch.

    >>> cell = BatchNormLSTM(8)
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> xs = jax.random.normal(jax.random.key(1), (20, 32, 3))
    >>> evaluation_cell, evaluation_params = population_statistics(cell, params, xs)
    >>> evaluation_params.population.x.mean.shape
    (20, 32)

    Args:
        cell: the cell that was trained.
        params: its parameters.
        xs: inputs ``[T, ..., I]`` from the first step on, with at least two examples.
        lengths: ``[...]``: the steps beyond are padding. Steps that fewer than two examples reach
            get the moments of the step before.

    Raises:
        ValueError: for another cell, parameters that are not those of the cell, and inputs that are
            not a batch of sequences.
    """
    if not isinstance(cell, BatchNormLSTM):
        raise ValueError(
            f"cell is {_check.brief(cell)}; give the BatchNormLSTM that was trained, and take the "
            "layers of a stack one by one"
        )
    xs = _check.array("xs", xs)
    _check.sequence(xs)
    inputs = xs.shape[-1]
    wanted = jax.eval_shape(lambda key: cell.init(key, inputs), jax.random.key(0))
    _check.same_tree("params", params, wanted, f"make them for {inputs} input features")
    steps, batch = xs.shape[0], xs.shape[1:-1]
    if lengths is None:
        counts = jnp.ones(xs.shape[:-1], bool)
    else:
        counts = within(_check.lengths(lengths, steps, batch), steps)

    moments = _moments_of_steps(cell, params, xs, counts)
    options: dict[str, Any] = {}
    for field in dataclasses.fields(cell):
        options[field.name] = getattr(cell, field.name)
    evaluation = PopulationLSTM(**options, steps=steps)
    return evaluation, PopulationParams(*params, moments)


def _moments_of_steps(
    cell: BatchNormLSTM, params: BatchNormParams, xs: Array, counts: Array
) -> LSTMMoments:
    """The moments of each step, ``[T, F]``; those of the step before where too few count."""

    def step(state: LSTMState, inputs: tuple[Array, Array]) -> tuple[LSTMState, LSTMMoments]:
        x, count = inputs
        # A padded input may be anything, and NaN · 0 would be NaN.
        count = count[..., None]
        x = jnp.where(count, x, 0)
        new, moments = cell.step_and_moments(params, state, x, count)
        state = jax.tree.map(lambda now, old: jnp.where(count, now, old), new, state)
        return state, moments

    batch = xs.shape[1:-1]
    start = cell.initial_state(batch)
    after_one = jax.eval_shape(lambda: step(start, (xs[0], counts[0]))[0])
    start = jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), start, after_one)
    _, moments = lax.scan(step, start, (xs, counts))
    enough = counts.sum(axis=tuple(range(1, counts.ndim))) >= 2
    last = lax.cummax(jnp.where(enough, jnp.arange(xs.shape[0]), 0))
    return jax.tree.map(lambda leaf: leaf[last].astype(cell.param_dtype), moments)
