"""A model of the next steps of a sequence of vectors."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.cells.readout import Readout, ReadoutParams
from rnnlab.data.batch import Batch
from rnnlab.driver import unroll
from rnnlab.models.base import (
    Model,
    causal,
    drop,
    float_dtype,
    inputs,
    output_size,
    split,
    targets,
    unpacked,
)
from rnnlab.models.loops import feed_back, is_sampled, itself, sample_inputs, step_with
from rnnlab.models.pooling import last_outputs
from rnnlab.models.scores import Scored, counted, squared_error
from rnnlab.models.sequence import checked, init_keys, input_size
from rnnlab.typing import Array, Cell, Key, PyTree


class ForecasterParams(NamedTuple):
    """Those of the cell and of the readout, to all steps at once or to the next one."""

    cell: Any
    readout: ReadoutParams


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forecaster(Model):
    """Forecasts of several steps; see :func:`forecaster`.

    Attributes:
        cell: any cell or layer of rnnlab.
        horizon: the number of steps ahead.
        outputs: O, the number of features of a forecast.
        feed_back: whether each forecast is the input of the next step.
    """

    cell: Any
    horizon: int
    outputs: int
    feed_back: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        output_size("cell", self.cell)
        _check.flag("feed_back", self.feed_back)
        if self.feed_back:
            causal("cell", self.cell, "feed_back=True goes on step by step")

    @property
    def readout(self) -> Readout:
        """The last layer."""
        steps = 1 if self.feed_back else self.horizon
        return Readout(steps * self.outputs, param_dtype=float_dtype(self.cell))

    def init(self, key: Key, batch: Batch) -> ForecasterParams:
        k_cell, k_readout = init_keys(key, 2)
        size = input_size(inputs(batch), None)
        if self.feed_back and size != self.outputs:
            raise ValueError(
                f"xs has {size} features and a forecast {self.outputs}, but feed_back=True makes "
                f"each forecast the next input; give outputs={size}, or feed_back=False"
            )
        return ForecasterParams(
            cell=self.cell.init(k_cell, size),
            readout=self.readout.init(k_readout, self.cell.output_size),
        )

    def apply(self, params: ForecasterParams, batch: Batch, *, key: Key | None = None) -> Array:
        """The forecasts ``[horizon, B, O]``; with ``feed_back`` each is read as the next input."""
        k_read, k_loop = split(key, 2)
        state, last = self._read(params, batch, k_read)
        if not self.feed_back:
            flat = self._forecast(params, last, k_loop)
            steps = flat.reshape(-1, self.horizon, self.outputs)
            return jnp.swapaxes(steps, 0, 1)
        k_first, k_rest = split(k_loop, 2)
        first = self._forecast(params, last, k_first)
        if self.horizon == 1:
            return first[None]
        rest = feed_back(self._advance(params), itself, state, first, self.horizon - 1, k_rest)
        return jnp.concatenate([first[None], rest])

    def score(self, outputs: Array, batch: Batch) -> Scored:
        """The mean squared error over the steps that count, and the absolute one, "mae"."""
        counts = counted(batch.mask, None, outputs.shape[:-1])
        return squared_error(outputs, targets(batch), counts)

    def loss(
        self,
        params: ForecasterParams,
        batch: Batch,
        key: Key | None = None,
        *,
        sampling: Array | float = 0.0,
    ) -> Scored:
        """``(value, metrics)``: the mean squared error over the targets that count.

        Without a key it is that of :meth:`apply`, the forecasts as they are used. With a key and
        ``feed_back`` each step reads the target of the step before or, with probability
        ``sampling``, its own forecast (Bengio et al. 2015, arXiv 1506.03099); the gradient passes
        through the forecasts that are read.
        """
        is_mixed = is_sampled(sampling, key)
        if is_mixed and not self.feed_back:
            raise ValueError(
                "sampling is given, but feed_back=False reads no forecasts; leave sampling out"
            )
        if key is None or not self.feed_back:
            return super().loss(params, batch, key)
        outputs = self._forced(params, batch, key, sampling if is_mixed else None)
        return self.score(outputs, batch)

    def _forced(
        self, params: ForecasterParams, batch: Batch, key: Key, sampling: Array | float | None
    ) -> Array:
        """The forecasts where each step reads the target before it, or its own forecast."""
        _check.key("key", key)
        k_read, k_first, k_rest = jax.random.split(key, 3)
        state, last = self._read(params, batch, k_read)
        first = self._forecast(params, last, k_first)
        if self.horizon == 1:
            return first[None]
        xs = self._known(targets(batch), first, batch)
        if sampling is None:
            rest = self._at_once(params, state, xs, k_rest)
        else:
            k_coin, k_loop = jax.random.split(k_rest)
            # The first input of the loop is a forecast too, so a coin is thrown for it as well.
            coins = jax.random.bernoulli(k_coin, sampling, first.shape[:1])
            xs = xs.at[0].set(jnp.where(coins[:, None], first, xs[0]))
            rest = sample_inputs(self._advance(params), itself, state, xs, k_loop, sampling)
        return jnp.concatenate([first[None], rest])

    def _known(self, numbers: Array, like: Array, batch: Batch) -> Array:
        """The targets that are inputs, ``[horizon − 1, B, O]``; 0 where one does not count."""
        if numbers.ndim == 2 and self.outputs == 1:
            numbers = numbers[..., None]
        shape = self.horizon, *like.shape
        if numbers.shape != shape:
            raise ValueError(
                f"targets has shape {numbers.shape}, but {shape} is needed; give a target for each "
                "step of the horizon"
            )
        counts = counted(batch.mask, None, shape[:-1])
        if counts is not None:
            # A target that is missing may be NaN.
            is_missing = ~counts[..., None] & ~jnp.isfinite(numbers)
            numbers = jnp.where(is_missing, 0, numbers)
        return numbers[:-1].astype(like.dtype)

    def _read(
        self, params: ForecasterParams, batch: Batch, key: Key | None
    ) -> tuple[PyTree, Array]:
        """The state and the outputs ``[B, H]`` after the last valid step."""
        xs = checked(self, params, unpacked(batch), None)
        with jax.named_scope("cell"):
            state, ys = unroll(
                self.cell,
                params.cell,
                xs,
                lengths=batch.lengths,
                key=key,
                engine=self.engine,
            )
        lengths = None if batch.lengths is None else _check.array("lengths", batch.lengths)
        return state, last_outputs(self.cell, ys, lengths)

    def _forecast(self, params: ForecasterParams, y: Array, key: Key | None) -> Array:
        with jax.named_scope("readout"):
            return self.readout(params.readout, drop(key, self.dropout, y))

    def _at_once(self, params: ForecasterParams, state: PyTree, xs: Array, key: Key) -> Array:
        k_cell, k_outputs = jax.random.split(key)
        with jax.named_scope("cell"):
            _, ys = unroll(self.cell, params.cell, xs, state, key=k_cell, engine=self.engine)
        return self._forecast(params, ys, k_outputs)

    def _advance(self, params: ForecasterParams) -> Any:
        def advance(state: PyTree, x: Array, key: Key | None) -> tuple[PyTree, Array]:
            k_cell, k_outputs = split(key, 2)
            with jax.named_scope("cell"):
                state, y = step_with(self.cell, params.cell, state, x, k_cell)
            return state, self._forecast(params, y, k_outputs)

        return advance


def forecaster(
    cell: Cell,
    *,
    horizon: int,
    outputs: int,
    feed_back: bool = False,
    dropout: float = 0.0,
    engine: str = "auto",
) -> Forecaster:
    """A model that forecasts several steps of a sequence of vectors.

    Directly: (ŷ₁ … ŷ_horizon) = W h + b, all from the outputs h after the last valid step.
    ``feed_back``: ŷₖ = W hₖ + b, one step at a time, and ŷₖ is the next input of the cell; then
    inputs and forecasts have the same features. In training, which has a key, the next input is the
    target instead, or the forecast with probability ``sampling``; see :meth:`Forecaster.loss`.

    A batch has xs ``[T, B, I]``, targets ``[horizon, B, outputs]`` and a mask ``[horizon, B]``;
    ``apply`` returns forecasts shaped like the targets. The loss is the mean squared error.

    >>> import jax, jax.numpy as jnp, rnnlab
    >>> from rnnlab.models import forecaster
    >>> model = forecaster(rnnlab.GRU(8), horizon=5, outputs=2, feed_back=True)
    >>> batch = rnnlab.data.Batch(jnp.ones((20, 4, 2)), jnp.zeros((5, 4, 2)))
    >>> params = model.init(jax.random.key(0), batch)
    >>> model.apply(params, batch).shape
    (5, 4, 2)
    >>> loss, metrics = model.loss(params, batch, jax.random.key(1), sampling=0.5)

    Args:
        cell: any cell or layer; with ``feed_back`` one that reads in one direction.
        horizon: the number of steps ahead.
        outputs: O, the number of features of a forecast.
        feed_back: whether each forecast is the input of the next step.
        dropout: on the outputs of the cell, where a ``key`` is given.
        engine: how the cell runs, as in :func:`rnnlab.unroll`.

    Raises:
        ValueError: for sizes below 1, a bidirectional cell with ``feed_back``, a dropout outside
            [0, 1); when used, for inputs, targets and parameters that do not fit, and for a batch
            with resets, which pack several sequences into one.
    """
    return Forecaster(
        cell=cell,
        horizon=_check.positive_int("horizon", horizon),
        outputs=_check.positive_int("outputs", outputs),
        feed_back=feed_back,
        dropout=dropout,
        engine=engine,
    )
