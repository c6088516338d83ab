"""The encoder–decoder with and without attention: training, what it writes, where it looks."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import rnnlab
from experiments.training import trained_seeds
from rnnlab.data import Batch, batches
from rnnlab.models import EncoderDecoder, beam_decode, encoder_decoder
from rnnlab.text import BOS, EOS, Vocabulary

Codes = Sequence[np.ndarray]
"""The codes of each text."""


class Size(NamedTuple):
    """A network and its training.

    Attributes:
        hidden: H, of the decoder; the encoder has half in each direction.
        embedding: E, of both vocabularies.
        updates: of AdamW.
        rate: the first learning rate, which decays to zero.
        batch: B.
        dropout: on embeddings and before the readout.
        decay: of weights.
    """

    hidden: int = 128
    embedding: int = 32
    updates: int = 800
    rate: float = 1e-2
    batch: int = 64
    dropout: float = 0.0
    decay: float = 1e-3


class Trained(NamedTuple):
    """Networks of all seeds: the model, and parameters with leaves ``[R, ...]``."""

    model: EncoderDecoder
    params: Any
    target: Vocabulary

    @property
    def seeds(self) -> int:
        return len(jax.tree.leaves(self.params)[0])

    def seed(self, index: int) -> Any:
        """The parameters of one network."""
        return jax.tree.map(lambda leaf: leaf[index], self.params)


def as_batch(sources: Codes, targets: Codes | None) -> Batch:
    """Padded sources with their lengths, and targets with those steps that count."""
    xs, lengths = padded(sources)
    if targets is None:
        return Batch(xs, None, lengths=lengths)
    ys, sizes = padded(targets)
    return Batch(xs, ys, np.arange(len(ys))[:, None] < sizes, lengths)


def padded(sequences: Codes) -> tuple[np.ndarray, np.ndarray]:
    """Codes ``[T, N]``, behind their end that of padding, and lengths ``[N]``."""
    lengths = np.array([len(codes) for codes in sequences], np.int32)
    together = np.zeros((lengths.max(), len(sequences)), np.int32)
    for column, codes in enumerate(sequences):
        together[: len(codes), column] = codes
    return together, lengths


def train(
    examples: Batch,
    source: int,
    target: Vocabulary,
    attention: str | None,
    size: Size,
    seeds: int,
) -> Trained:
    """Networks that read ``source`` different codes, one for each seed, in one program."""
    start = target.code(BOS)
    assert start is not None
    model = encoder_decoder(
        rnnlab.bidirectional(rnnlab.GRU(size.hidden // 2)),
        rnnlab.GRU(size.hidden),
        len(target),
        source_vocabulary_size=source,
        attention=attention,
        embedding_size=size.embedding,
        source_embedding_size=size.embedding,
        start=start,
        dropout=size.dropout,
    )
    data = batches(examples, size.batch, seed=0)
    params = trained_seeds(model, data, size.rate, size.updates, seeds, weight_decay=size.decay)
    return Trained(model, params, target)


def write(network: Trained, sources: Codes, steps: int, beams: int) -> list[list[list[int]]]:
    """The codes that each network writes before its end, for each source."""
    end = network.target.code(EOS)
    assert end is not None
    batch = as_batch(sources, None)

    def decode(params: Any) -> Any:
        return beam_decode(network.model, params, batch, steps, beams=beams, end=end).codes[0]

    found = np.asarray(jax.vmap(decode)(network.params))
    return [[until(column, end) for column in codes.T.tolist()] for codes in found]


def until(codes: list[int], end: int) -> list[int]:
    """The codes before the end."""
    return codes[: codes.index(end)] if end in codes else codes


def losses(network: Trained, examples: Batch) -> list[float]:
    """The mean cross-entropy of each network, in nats for each symbol."""
    loss = jax.jit(jax.vmap(lambda params: network.model.loss(params, examples)[0]))
    return np.asarray(loss(network.params), float).round(3).tolist()


def attention(network: Trained, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Where the first network looks while it writes a target, ``[T_out, T_in]``."""
    batch = as_batch([source], [target])
    return np.asarray(network.model.attend(network.seed(0), batch))[:, 0]
