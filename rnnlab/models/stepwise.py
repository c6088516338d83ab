"""Models with an output for each step: the tagger and the step regressor."""

import dataclasses

import jax

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.models.base import inputs, targets
from rnnlab.models.network import Network
from rnnlab.models.scores import Scored, classification, counted, squared_error
from rnnlab.models.sequence import SequenceModel, SequenceParams
from rnnlab.typing import Array, Cell, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepwiseModel(SequenceModel):
    """The base of the models with an output for each step."""

    def apply(self, params: SequenceParams, batch: Batch, *, key: Key | None = None) -> Array:
        """The outputs ``[T, B, O]``."""
        xs = inputs(batch)
        _, ys = self.read(params, xs, lengths=batch.lengths, resets=batch.resets, key=key)
        return self.head(params, ys, batch)

    def head(self, params: SequenceParams, ys: Array, batch: Batch) -> Array:
        """The outputs ``[T, B, O]`` from those of the cell, ``[T, B, H]``."""
        del batch
        with jax.named_scope("readout"):
            return self.readout(params.readout, ys)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tagger(StepwiseModel):
    """A label for each step; see :func:`tagger`."""

    @property
    def labels(self) -> int:
        return self.outputs

    def score(self, outputs: Array, batch: Batch) -> Scored:
        """The mean cross-entropy over the steps that count, in nats, and "accuracy"."""
        counts = counted(batch.mask, batch.lengths, outputs.shape[:-1])
        return classification(outputs, targets(batch), counts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepRegressor(StepwiseModel):
    """Numbers for each step; see :func:`step_regressor`."""

    def score(self, outputs: Array, batch: Batch) -> Scored:
        """The mean squared error over steps that count and outputs, and the absolute one, "mae"."""
        counts = counted(batch.mask, batch.lengths, outputs.shape[:-1])
        return squared_error(outputs, targets(batch), counts)


def tagger(
    cell: Cell | Network,
    classes: int,
    *,
    vocabulary_size: int | None = None,
    embedding_size: int | None = None,
    dropout: float = 0.0,
    engine: str = "auto",
) -> Tagger:
    """A model that gives each step a label.

    logitsₜ = W yₜ + b, where y are the outputs of the cell. A batch has xs ``[T, B]`` or
    ``[T, B, I]`` and targets ``[T, B]`` in 0..classes−1; those count that are within
    ``batch.lengths`` and in ``batch.mask [T, B]``. ``apply`` returns ``[T, B, classes]``.

    >>> import jax, jax.numpy as jnp, rnnlab
    >>> from rnnlab.models import tagger
    >>> model = tagger(rnnlab.bidirectional(rnnlab.GRU(8)), 3, vocabulary_size=10)
    >>> codes = jnp.zeros((20, 4), int)
    >>> batch = rnnlab.data.Batch(codes, codes, lengths=jnp.array([20, 3, 7, 11]))
    >>> params = model.init(jax.random.key(0), batch)
    >>> model.apply(params, batch).shape
    (20, 4, 3)

    Args:
        cell: any cell or layer, or a network without recurrence such as :class:`Transformer`.
        classes: the number of labels.
        vocabulary_size: V, for inputs that are codes; None for vectors.
        embedding_size: E, the size of the embedding of codes; ``cell.hidden_size`` by default.
        dropout: on the embedding and on the outputs of the cell, where a ``key`` is given.
        engine: how the cell runs, as in :func:`rnnlab.unroll`.

    Raises:
        ValueError: for sizes below 1 and a dropout outside [0, 1); when used, for inputs,
            targets and parameters that do not fit.
    """
    return Tagger(
        cell=cell,
        outputs=_check.positive_int("classes", classes),
        vocabulary_size=vocabulary_size,
        embedding_size=embedding_size,
        dropout=dropout,
        engine=engine,
    )


def step_regressor(
    cell: Cell | Network,
    outputs: int,
    *,
    vocabulary_size: int | None = None,
    embedding_size: int | None = None,
    dropout: float = 0.0,
    engine: str = "auto",
) -> StepRegressor:
    """A model that gives each step one or more numbers.

    ŷₜ = W yₜ + b, where y are the outputs of the cell. A batch has targets ``[T, B, outputs]``, or
    ``[T, B]`` for one output; ``apply`` returns ``[T, B, outputs]``. The loss is the mean squared
    error over the steps that count, as in :func:`tagger`, which has the same options.

    >>> import jax, jax.numpy as jnp, rnnlab
    >>> from rnnlab.models import step_regressor
    >>> model = step_regressor(rnnlab.GRU(8), 3)
    >>> xs = jnp.ones((20, 4, 3))
    >>> params = model.init(jax.random.key(0), rnnlab.data.Batch(xs, xs))
    >>> loss, metrics = model.loss(params, rnnlab.data.Batch(xs, xs))
    >>> list(metrics)
    ['mae', 'count']

    Raises:
        ValueError: as for a tagger.
    """
    return StepRegressor(
        cell=cell,
        outputs=_check.positive_int("outputs", outputs),
        vocabulary_size=vocabulary_size,
        embedding_size=embedding_size,
        dropout=dropout,
        engine=engine,
    )
