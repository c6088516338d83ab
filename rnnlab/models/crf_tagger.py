"""The tagger whose labels depend on one another: a conditional random field on a cell."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.cells.readout import ReadoutParams
from rnnlab.data.batch import Batch
from rnnlab.models.base import float_dtype, targets
from rnnlab.models.generation import wide
from rnnlab.models.linear_chain import (
    Labelling,
    LinearChain,
    log_likelihood,
    marginals,
    viterbi,
)
from rnnlab.models.network import Network
from rnnlab.models.scores import Scored, check_labels, counted
from rnnlab.models.stepwise import StepwiseModel
from rnnlab.training.losses import masked_mean
from rnnlab.typing import Array, Cell, Key


class ChainParams(NamedTuple):
    """transitions ``[C, C]`` from each label (row) to the next, start ``[C]`` and end ``[C]``."""

    transitions: Array
    start: Array
    end: Array


class CrfTaggerParams(NamedTuple):
    """embedding ``[V, E]`` or None, those of the cell, of the readout, and of the chain."""

    embedding: Array | None
    cell: Any
    readout: ReadoutParams
    chain: ChainParams


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrfTagger(StepwiseModel):
    """A label for each step, judged as a whole; see :func:`crf_tagger`."""

    @property
    def labels(self) -> int:
        return self.outputs

    def init(self, key: Key, batch: Batch) -> CrfTaggerParams:
        """Initial parameters; those of the chain are zero, so that it begins as a tagger does."""
        params = super().init(key, batch)
        dtype = float_dtype(self.cell)
        zeros = jnp.zeros(self.outputs, dtype)
        chain = ChainParams(jnp.zeros((self.outputs, self.outputs), dtype), zeros, zeros)
        return CrfTaggerParams(params.embedding, params.cell, params.readout, chain)

    def apply(self, params: Any, batch: Batch, *, key: Key | None = None) -> Any:
        """The scores of all labels, a :class:`~rnnlab.models.linear_chain.LinearChain`."""
        return super().apply(params, batch, key=key)

    def head(self, params: Any, ys: Array, batch: Batch) -> Any:
        """The scores of all labels from the outputs of the cell, ``[T, B, H]``."""
        emissions = super().head(params, ys, batch)
        steps, count = emissions.shape[:2]
        lengths, resets = batch.lengths, batch.resets
        if lengths is not None:
            lengths = _check.lengths(lengths, steps, (count,))
        if resets is not None:
            resets = _check.flags("resets", resets, (steps, count))
        # Sums over thousands of steps need 32 bits.
        return LinearChain(
            emissions=wide(emissions),
            transitions=wide(params.chain.transitions),
            start=wide(params.chain.start),
            end=wide(params.chain.end),
            lengths=lengths,
            resets=resets,
        )

    def score(self, outputs: Any, batch: Batch) -> Scored:
        """The mean of −ln P(labels | inputs), in nats for each label, and "accuracy"."""
        labels = targets(batch)
        check_labels(labels, outputs.emissions.shape)
        counts = counted(batch.mask, outputs.lengths, labels.shape)
        known = jnp.ones(labels.shape, bool) if counts is None else counts
        is_legal = (labels >= 0) & (labels < self.outputs)
        logs = log_likelihood(outputs, jnp.where(is_legal, labels, 0), known)
        count = jnp.sum(known)
        value = -jnp.sum(logs) / jnp.maximum(count, 1)
        value = jnp.where(jnp.any(known & ~is_legal), jnp.nan, value)
        best = viterbi(jax.lax.stop_gradient(outputs))
        is_right = (best.labels == labels).astype(value.dtype)
        return value, {"accuracy": masked_mean(is_right, known), "count": count}

    def decode(self, params: Any, batch: Batch) -> Labelling:
        """The most likely labels of each sequence; the targets of the batch are not read."""
        return viterbi(self.apply(params, batch))

    def marginals(self, params: Any, batch: Batch) -> Array:
        """P(yₜ | x) of each label at each step, ``[T, B, classes]``; 0 in the padding."""
        return marginals(self.apply(params, batch))


def crf_tagger(
    cell: Cell | Network,
    classes: int,
    *,
    vocabulary_size: int | None = None,
    embedding_size: int | None = None,
    dropout: float = 0.0,
    engine: str = "auto",
) -> CrfTagger:
    """A tagger whose labels depend on one another: a linear-chain conditional random field.

    P(y | x) ∝ exp(start[y₁] + Σₜ (W hₜ + b)[yₜ] + Σₜ A[yₜ₋₁, yₜ] + end[y_T]), where h are the
    outputs of the cell, and start, A and end are learned (Huang, Xu & Yu 2015, arXiv 1508.01991).
    Where they are zero it is a :func:`tagger`, in its loss too.

    A batch is that of a tagger. The loss is −ln P of the labels that count, over their number, so
    that it is in nats for each label; labels that ``batch.mask`` leaves out are summed over.
    "accuracy" is that of the most likely labelling, which ``decode`` returns; ``marginals`` returns
    P(yₜ | x). ``apply`` returns a :class:`~rnnlab.models.linear_chain.LinearChain`. Each step costs
    C² sums more than in a tagger.

    >>> import jax, jax.numpy as jnp, rnnlab
    >>> from rnnlab.models import crf_tagger
    >>> model = crf_tagger(rnnlab.bidirectional(rnnlab.GRU(8)), 3, vocabulary_size=10)
    >>> codes = jnp.zeros((20, 4), int)
    >>> batch = rnnlab.data.Batch(codes, codes, lengths=jnp.array([20, 3, 7, 11]))
    >>> params = model.init(jax.random.key(0), batch)
    >>> model.decode(params, batch).labels.shape, model.marginals(params, batch).shape
    ((20, 4), (20, 4, 3))

    Args:
        cell: any cell or layer, or a network without recurrence such as :class:`Transformer`.
        classes: C, the number of labels.
        vocabulary_size: V, for inputs that are codes; None for vectors.
        embedding_size: E, the size of the embedding of codes; ``cell.hidden_size`` by default.
        dropout: on the embedding and on the outputs of the cell, where a ``key`` is given.
        engine: how the cell runs, as in :func:`rnnlab.unroll`.

    Raises:
        ValueError: as for a tagger.
    """
    return CrfTagger(
        cell=cell,
        outputs=_check.positive_int("classes", classes),
        vocabulary_size=vocabulary_size,
        embedding_size=embedding_size,
        dropout=dropout,
        engine=engine,
    )
