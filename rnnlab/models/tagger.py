"""A model with one label for each step."""

import dataclasses

import jax

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.models.base import inputs, targets
from rnnlab.models.scores import Scored, classification, counted
from rnnlab.models.sequence import SequenceModel, SequenceParams
from rnnlab.typing import Array, Cell, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tagger(SequenceModel):
    """A label for each step; see :func:`tagger`."""

    def apply(self, params: SequenceParams, batch: Batch, *, key: Key | None = None) -> Array:
        """The logits ``[T, B, classes]``."""
        xs = inputs(batch)
        _, ys = self.read(params, xs, lengths=batch.lengths, resets=batch.resets, key=key)
        with jax.named_scope("readout"):
            return self.readout(params.readout, ys)

    def score(self, outputs: Array, batch: Batch) -> Scored:
        """The mean cross-entropy over the steps that count, in nats, and "accuracy"."""
        counts = counted(batch.mask, batch.lengths, outputs.shape[:-1])
        return classification(outputs, targets(batch), counts)


def tagger(
    cell: Cell,
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
        cell: any cell or layer.
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
