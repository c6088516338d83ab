"""Models with one output for a whole sequence: the classifier and the regressor."""

import dataclasses

import jax
import numpy as np

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.data.checks import check_time_first
from rnnlab.models.base import float_dtype, targets, unpacked
from rnnlab.models.network import Network
from rnnlab.models.pooling import POOLS, PoolingParams, init_pooling, pool
from rnnlab.models.scores import Scored, classification, counted, squared_error
from rnnlab.models.sequence import SequenceModel, SequenceParams
from rnnlab.typing import Array, Cell, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class PooledModel(SequenceModel):
    """The base of the models from many steps to one output.

    Attributes:
        pool: how the outputs of all steps become one vector.
    """

    pool: str = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.one_of("pool", self.pool, POOLS)

    def init_pooling(self, key: Key) -> PoolingParams | None:
        return init_pooling(self.pool, key, self.cell.output_size, float_dtype(self.cell))

    def apply(self, params: SequenceParams, batch: Batch, *, key: Key | None = None) -> Array:
        """The outputs ``[B, O]``."""
        _, ys = self.read(params, unpacked(batch), lengths=batch.lengths, key=key)
        return self.head(params, ys, batch)

    def score(self, outputs: Array, batch: Batch) -> Scored:
        """The loss and the metrics of ``outputs``; ValueError where xs have the batch first."""
        goal = targets(batch)
        check_time_first(np.shape(batch.xs), goal.shape)
        return self.judge(outputs, goal, counted(batch.mask, None, outputs.shape[:-1]))

    def judge(self, outputs: Array, goal: Array, counts: Array | None) -> Scored:
        """The loss and the metrics of outputs, over the targets that count."""
        raise NotImplementedError

    def head(self, params: SequenceParams, ys: Array, batch: Batch) -> Array:
        """The outputs ``[B, O]`` from those of the cell at all steps, ``[T, B, H]``."""
        lengths = None if batch.lengths is None else _check.array("lengths", batch.lengths)
        with jax.named_scope("pooling"):
            pooled = pool(self.pool, self.cell, params.pooling, ys, lengths)
        with jax.named_scope("readout"):
            return self.readout(params.readout, pooled)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classifier(PooledModel):
    """A label for each sequence; see :func:`classifier`."""

    @property
    def labels(self) -> int:
        return self.outputs

    def judge(self, outputs: Array, goal: Array, counts: Array | None) -> Scored:
        """The mean cross-entropy over sequences, in nats, and "accuracy"."""
        return classification(outputs, goal, counts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regressor(PooledModel):
    """Numbers for each sequence; see :func:`regressor`."""

    def judge(self, outputs: Array, goal: Array, counts: Array | None) -> Scored:
        """The mean squared error over sequences and outputs, and the absolute one, "mae"."""
        return squared_error(outputs, goal, counts)


def classifier(
    cell: Cell | Network,
    classes: int,
    *,
    pool: str = "last",
    vocabulary_size: int | None = None,
    embedding_size: int | None = None,
    dropout: float = 0.0,
    engine: str = "auto",
) -> Classifier:
    """A model that gives each sequence a label.

    logits = W pool(y₁ … y_T) + b, where y are the outputs of the cell. The padding beyond
    ``batch.lengths`` is never read.

    A batch has xs ``[T, B]`` or ``[T, B, I]``, targets ``[B]`` in 0..classes−1 and a mask ``[B]``;
    ``apply`` returns logits ``[B, classes]``. The loss is the mean cross-entropy, in nats.

    >>> import jax, jax.numpy as jnp, rnnlab
    >>> from rnnlab.models import classifier
    >>> model = classifier(rnnlab.GRU(8), 3, vocabulary_size=10)
    >>> batch = rnnlab.data.Batch(jnp.zeros((20, 4), int), jnp.array([0, 1, 2, 0]))
    >>> params = model.init(jax.random.key(0), batch)
    >>> loss, metrics = model.loss(params, batch)
    >>> model.apply(params, batch).shape, list(metrics)
    ((4, 3), ['accuracy', 'count'])

    Args:
        cell: any cell or layer, or a network without recurrence such as :class:`Transformer`.
        classes: the number of labels.
        pool: "last" takes the outputs at the last valid step (of a bidirectional cell, the
            backward direction at the first step, where it has read everything); "mean" and "max" go
            over the valid steps; "attention" is a learned mean (Yang et al. 2016).
        vocabulary_size: V, for inputs that are codes; None for vectors.
        embedding_size: E, the size of the embedding of codes; ``cell.hidden_size`` by default.
        dropout: on the embedding and on the outputs of the cell, where a ``key`` is given.
        engine: how the cell runs, as in :func:`rnnlab.unroll`.

    Raises:
        ValueError: for sizes below 1, an unknown pool, a dropout outside [0, 1); when used, for
            inputs, targets and parameters that do not fit, and for a batch with resets, which pack
            several sequences into one.
    """
    return Classifier(
        cell=cell,
        outputs=_check.positive_int("classes", classes),
        pool=pool,
        vocabulary_size=vocabulary_size,
        embedding_size=embedding_size,
        dropout=dropout,
        engine=engine,
    )


def regressor(
    cell: Cell | Network,
    outputs: int,
    *,
    pool: str = "last",
    vocabulary_size: int | None = None,
    embedding_size: int | None = None,
    dropout: float = 0.0,
    engine: str = "auto",
) -> Regressor:
    """A model that gives each sequence one or more numbers.

    ŷ = W pool(y₁ … y_T) + b. A batch has targets ``[B, outputs]``, or ``[B]`` for one output, and a
    mask ``[B]``; ``apply`` returns ``[B, outputs]``. The loss is the mean squared error. The
    options are those of :func:`classifier`.

    >>> import jax, jax.numpy as jnp, rnnlab
    >>> from rnnlab.models import regressor
    >>> model = regressor(rnnlab.LSTM(8), 1, pool="mean")
    >>> batch = rnnlab.data.Batch(jnp.ones((20, 4, 2)), jnp.zeros(4))
    >>> params = model.init(jax.random.key(0), batch)
    >>> loss, metrics = model.loss(params, batch)
    >>> list(metrics)
    ['mae', 'count']

    Raises:
        ValueError: as for a classifier.
    """
    return Regressor(
        cell=cell,
        outputs=_check.positive_int("outputs", outputs),
        pool=pool,
        vocabulary_size=vocabulary_size,
        embedding_size=embedding_size,
        dropout=dropout,
        engine=engine,
    )
