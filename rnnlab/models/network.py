"""The base of networks without recurrence, which a model takes in the place of a cell."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax import lax

from rnnlab import _check
from rnnlab.cells.base import within
from rnnlab.engines.sequence import select
from rnnlab.typing import Array, Dtype, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A causal network that reads a whole sequence at once: yₜ depends on x₁ … xₜ.

    Frozen and hashable. It has no state to carry from one call to the next. The models with one
    output for a sequence or for each step take it where they take a cell.

    Attributes:
        param_dtype: the dtype of the parameters.
    """

    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        param_dtype = _check.float_dtype("param_dtype", self.param_dtype)
        object.__setattr__(self, "param_dtype", param_dtype)

    @property
    def output_size(self) -> int:
        """H, the number of features of an output."""
        raise NotImplementedError

    def init(self, key: Key, input_size: int) -> Any:
        """Initial parameters for inputs of ``input_size`` features."""
        raise NotImplementedError

    def features(self, params: Any) -> int:
        """I, the number of features that these parameters read."""
        raise NotImplementedError

    def run(self, params: Any, xs: Array, starts: Array | None) -> Array:
        """The outputs ``[T, B, H]``.

        Args:
            params: from :meth:`init`.
            xs: ``[T, B, I]``.
            starts: ``[T, B]``, the first step that the output of a step may depend on; None where
                that is 0.
        """
        raise NotImplementedError

    def __call__(
        self,
        params: Any,
        xs: Array,
        *,
        lengths: Array | None = None,
        resets: Array | None = None,
    ) -> Array:
        """The outputs ``[T, B, H]`` for inputs ``[T, B, I]``; zero in the padding.

        Args:
            params: from :meth:`init`.
            xs: inputs, time first.
            lengths: ``[B]``, whole numbers in 0..T: the steps beyond are never read.
            resets: ``[T, B]``, True where another sequence begins, which sees nothing before it.

        Raises:
            ValueError: for inputs, lengths and resets that do not fit.
        """
        _check.sequence(xs)
        if xs.ndim != 3:
            raise ValueError(
                f"xs has shape {xs.shape}; a network without recurrence takes [T, B, I], with one "
                "axis for the batch"
            )
        features = self.features(params)
        if xs.shape[-1] != features:
            raise ValueError(
                f"xs has {xs.shape[-1]} features, but the parameters are for {features}; give "
                "inputs of that size, or new parameters"
            )
        steps, batch = xs.shape[0], xs.shape[1:-1]
        starts = None
        if resets is not None:
            starts = sequence_starts(_check.flags("resets", resets, (steps, *batch)))
        if lengths is None:
            return self.run(params, xs, starts)
        # Zeros before and after: what is in the padding, such as NaN, reaches neither a value nor
        # a gradient.
        valid = within(_check.lengths(lengths, steps, batch), steps)
        ys = self.run(params, select(valid, xs, jnp.zeros_like(xs)), starts)
        return select(valid, ys, jnp.zeros_like(ys))


def sequence_starts(resets: Array) -> Array:
    """The step at which the sequence of each step began, ``[T, B]``: the last reset, or 0."""
    steps = jnp.arange(resets.shape[0])[:, None]
    return lax.cummax(jnp.where(resets, steps, 0))


def delayed(xs: Array, delays: tuple[int, ...], starts: Array | None) -> Array:
    """The inputs at these delays side by side: [xₜ₋d for d in delays], ``[T, B, delays · I]``.

    Before the first step of a sequence there are zeros.
    """
    count = xs.shape[0]
    columns = []
    for delay in delays:
        # A delay beyond the sequence leaves nothing but zeros.
        late = min(delay, count)
        column = jnp.pad(xs, ((late, 0), (0, 0), (0, 0)))[:count]
        if starts is not None:
            is_seen = jnp.arange(count)[:, None] - delay >= starts
            column = jnp.where(is_seen[..., None], column, 0)
        columns.append(column)
    return jnp.concatenate(columns, axis=-1)
