"""The encoder–decoder: its training, what it says, and where it looks while it writes."""

from typing import Any, NamedTuple

import jax
import numpy as np

import rnnlab
from experiments.common import Record
from experiments.pronunciation.data import END, LONGEST, Alphabet, Lexicon, encoded
from experiments.pronunciation.scores import Said
from experiments.training import trained_seeds
from rnnlab.data import batches
from rnnlab.models import EncoderDecoder, beam_decode, encoder_decoder

RATE = 1e-2
"""The first learning rate of Adam, which decays to zero."""
EMBEDDING = 32


class Trained(NamedTuple):
    """Networks of all seeds: the model, and parameters with leaves ``[R, ...]``."""

    model: EncoderDecoder
    params: Any

    def seed(self, index: int) -> Any:
        """The parameters of one network."""
        return jax.tree.map(lambda leaf: leaf[index], self.params)


def train(
    training: Lexicon, sounds: Alphabet, *, hidden: int, updates: int, batch: int, seeds: int
) -> Trained:
    """An encoder that reads letters both ways, and a decoder that attends to them."""
    model = encoder_decoder(
        rnnlab.bidirectional(rnnlab.GRU(hidden)),
        rnnlab.GRU(hidden),
        sounds.size,
        source_vocabulary_size=26,
        attention="dot",
        embedding_size=EMBEDDING,
        source_embedding_size=EMBEDDING,
    )
    data = batches(encoded(training, sounds), batch, seed=0)
    return Trained(model, trained_seeds(model, data, RATE, updates, seeds))


def spoken(network: Trained, lexicon: Lexicon, sounds: Alphabet, beams: int) -> list[Said]:
    """What each network says: the likeliest phonemes that a search finds."""
    batch = encoded(lexicon, sounds)
    said = []
    for index in range(len(jax.tree.leaves(network.params)[0])):
        params = network.seed(index)
        found = beam_decode(network.model, params, batch, LONGEST + 1, beams=beams, end=END)
        columns = np.asarray(found.codes[0]).T
        said.append([sounds.decode(column.tolist()) for column in columns])
    return said


def attention(network: Trained, lexicon: Lexicon, sounds: Alphabet) -> list[Record]:
    """Where the first network looks while it writes the usual pronunciation of each word."""
    if not lexicon.words:
        return []
    weights = np.asarray(network.model.attend(network.seed(0), encoded(lexicon, sounds)))
    drawn = []
    for column, (word, (said, *_)) in enumerate(zip(*lexicon, strict=True)):
        rows = weights[: len(said) + 1, column, : len(word)]
        drawn.append({"word": word, "said": [*said, "end"], "weights": rows.round(3).tolist()})
    return drawn
