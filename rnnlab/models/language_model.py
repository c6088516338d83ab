"""The language model: the distribution of the next symbol."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.cells.base import spread
from rnnlab.cells.readout import ReadoutParams
from rnnlab.data.batch import Batch
from rnnlab.models.base import causal, float_dtype, inputs, output_size, targets
from rnnlab.models.embedding import Embedding
from rnnlab.models.scores import Scored, counted, symbols
from rnnlab.models.sequence import SequenceModel, embedding_for, init_keys, input_size
from rnnlab.typing import Array, Cell, Key, PyTree


class TiedReadoutParams(NamedTuple):
    """The bias b ``[V]`` of a readout whose matrix is that of the embedding."""

    b: Array


class LanguageModelParams(NamedTuple):
    """embedding ``[V, E]``, those of the cell, and the readout; with tied weights only its bias."""

    embedding: Array
    cell: Any
    readout: ReadoutParams | TiedReadoutParams


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageModel(SequenceModel):
    """The distribution of the next symbol; see :func:`language_model`.

    Attributes:
        tied: whether the readout multiplies by the transposed embedding.
    """

    tied: bool = False

    def __post_init__(self) -> None:
        # A state goes from one part of a text to the next, so a network without one will not do.
        output_size("cell", self.cell)
        super().__post_init__()
        _check.flag("tied", self.tied)
        causal("cell", self.cell, "a language model must not read the symbols that it predicts")
        size = self.embedding_size
        outputs = self.cell.output_size
        if self.tied and size != outputs:
            raise ValueError(
                f"embedding_size is {size}, but the outputs of the cell have {outputs} features "
                f"and tied weights need one size; give embedding_size={outputs}, or end the cell "
                f"in a projection, rnnlab.stack([cell, rnnlab.Readout({size})])"
            )

    @property
    def codes(self) -> int:
        return self.outputs

    @property
    def labels(self) -> int:
        return self.outputs

    @property
    def embedding(self) -> Embedding:
        return embedding_for(self.cell, self.outputs, self.embedding_size)

    def init(self, key: Key, batch: Batch) -> LanguageModelParams:
        k_embedding, k_cell, k_readout = init_keys(key, 3)
        embedding = self.embedding
        if self.tied:
            readout = TiedReadoutParams(jnp.zeros(self.outputs, float_dtype(self.cell)))
        else:
            readout = self.readout.init(k_readout, self.cell.output_size)
        return LanguageModelParams(
            embedding=embedding.init(k_embedding),
            cell=self.cell.init(k_cell, input_size(inputs(batch), embedding)),
            readout=readout,
        )

    def initial_state(self, batch_size: int) -> PyTree:
        """The state before the first symbol, of so many sequences side by side."""
        return self.cell.initial_state((_check.positive_int("batch_size", batch_size),))

    def run(
        self,
        params: LanguageModelParams,
        xs: Array,
        state: PyTree | None,
        *,
        resets: Array | None = None,
        lengths: Array | None = None,
        key: Key | None = None,
    ) -> tuple[PyTree, Array]:
        """Goes on from ``state`` with codes ``[T, B]``: ``(state, logits [T, B, V])``."""
        state, ys = self.read(params, xs, state, lengths=lengths, resets=resets, key=key)
        with jax.named_scope("readout"):
            return state, self.logits(params, ys)

    def logits(self, params: LanguageModelParams, ys: Array) -> Array:
        """The readout: outputs of the cell ``[..., H]`` as logits ``[..., V]``."""
        if not isinstance(params.readout, TiedReadoutParams):
            return self.readout(params.readout, ys)
        logits = self.embedding.attend(params.embedding, ys)
        return logits + spread(params.readout.b, logits)

    def apply(self, params: LanguageModelParams, batch: Batch, *, key: Key | None = None) -> Array:
        """The logits ``[T, B, V]``, from the initial state on."""
        xs = inputs(batch)
        _, logits = self.run(params, xs, None, resets=batch.resets, lengths=batch.lengths, key=key)
        return logits

    def score(self, outputs: Array, batch: Batch) -> Scored:
        """The mean cross-entropy, in nats, and "accuracy" and "bits_per_symbol"."""
        counts = counted(batch.mask, batch.lengths, outputs.shape[:-1])
        return symbols(outputs, targets(batch), counts)


def language_model(
    cell: Cell,
    vocabulary_size: int,
    *,
    embedding_size: int | None = None,
    tied: bool = False,
    dropout: float = 0.0,
    engine: str = "auto",
) -> LanguageModel:
    """A model of the next symbol: P(xₜ₊₁ | x₁ … xₜ) = softmax(W yₜ + b).

    y are the outputs of the cell on embeddings of the codes xs ``[T, B]``; the targets ``[T, B]``
    are the symbols that follow. ``apply`` returns logits ``[T, B, V]``; ``run`` goes on from a
    state, for truncated backpropagation and for generation. The loss is the mean cross-entropy, in
    nats; it is ln V for a uniform distribution.

    ``tied``: W is the transposed embedding (Press & Wolf 2017, arXiv 1608.05859).

    >>> import jax, jax.numpy as jnp, rnnlab
    >>> from rnnlab.models import language_model
    >>> model = language_model(rnnlab.LSTM(8), 10, tied=True)
    >>> codes = jnp.arange(84).reshape(21, 4) % 10
    >>> batch = rnnlab.data.Batch(codes[:-1], codes[1:])
    >>> params = model.init(jax.random.key(0), batch)
    >>> state, logits = model.run(params, batch.xs, model.initial_state(4))
    >>> logits.shape
    (20, 4, 10)

    Args:
        cell: any cell or layer that reads in one direction.
        vocabulary_size: V, the number of symbols.
        embedding_size: E; by default ``cell.hidden_size``, or with ``tied`` the number of the
            cell's outputs.
        tied: whether embedding and readout share their matrix.
        dropout: on the embedding and on the outputs of the cell, where a ``key`` is given.
        engine: how the cell runs, as in :func:`rnnlab.unroll`.

    Raises:
        ValueError: for sizes below 1, a bidirectional cell, tied weights of two sizes, a dropout
            outside [0, 1); when used, for inputs, targets and parameters that do not fit.
    """
    _check.flag("tied", tied)
    if tied and embedding_size is None:
        embedding_size = getattr(cell, "output_size", None)
    vocabulary_size = _check.positive_int("vocabulary_size", vocabulary_size)
    return LanguageModel(
        cell=cell,
        outputs=vocabulary_size,
        vocabulary_size=vocabulary_size,
        embedding_size=embedding_size,
        tied=tied,
        dropout=dropout,
        engine=engine,
    )
