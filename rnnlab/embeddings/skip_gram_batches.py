"""The updates of an epoch of skip-gram: blocks of centres, their contexts and negatives."""

from typing import Any, NamedTuple

import numpy as np

from rnnlab.embeddings.corpus import CodedCorpus, subsampled

BLOCK = 32
"""Centres whose contexts are scored in one matrix product."""
MOST_BLOCKS = 16
"""Blocks of one update, if no word is frequent."""
OCCURRENCES = 8
"""About how often the most frequent word may occur in an update.

Its gradients are summed; many of them at once would overshoot, and in small vocabularies diverge.
"""
SHARED = 32
"""Negative words that the centres of a block share."""
STEPS = 8
"""The number of updates of an epoch is a multiple of it."""


class Plan(NamedTuple):
    """The settings that all updates share.

    Attributes:
        window: W, the maximum distance of a pair.
        negatives: the number of negatives of each pair.
    """

    window: int
    negatives: int


class Batches(NamedTuple):
    """S updates of R blocks each; P tokens are padding where the document is −1.

    Attributes:
        codes, documents: ``[S, R, BLOCK + 2 W]``; the centres are those in the middle.
        reach: ``[S, R, BLOCK]``, the maximum distance of the pairs of each centre.
        negatives: ``[S, R, SHARED]``.
    """

    codes: Any
    documents: Any
    reach: Any
    negatives: Any


def batches_of(
    corpus: CodedCorpus,
    plan: Plan,
    sample: float,
    negative_table: np.ndarray,
    random: np.random.Generator,
    farthest: int | None = None,
) -> Batches:
    """The updates of an epoch; blocks are in random order.

    ``farthest`` is W where the window of the plan is less, since no document is longer.
    """
    kept = subsampled(corpus, sample, random)
    blocks = _blocks(np.bincount(corpus.codes[kept], minlength=1).max() / max(kept.size, 1))
    per_update = BLOCK * blocks
    # A multiple, so that few programs are compiled.
    steps = STEPS * max(1, -(-kept.size // (STEPS * per_update)))
    padded = steps * per_update + 2 * plan.window
    codes = np.zeros(padded, np.int32)
    documents = np.full(padded, -1, np.int32)
    inside = slice(plan.window, plan.window + kept.size)
    codes[inside], documents[inside] = corpus.codes[kept], corpus.documents[kept]
    width = BLOCK + 2 * plan.window
    # A word that occurs in neighbouring blocks would otherwise be in all of one update.
    starts = BLOCK * random.permutation(steps * blocks)
    places = (starts[:, None] + np.arange(width)).reshape(steps, blocks, width)
    # Distances are int32.
    high = min(farthest or plan.window, 2**31 - 2) + 1
    reach = random.integers(1, high, (steps, blocks, BLOCK), dtype=np.int32)
    reach = np.minimum(reach, plan.window)
    drawn = random.integers(negative_table.size, size=(steps, blocks, SHARED))
    return Batches(codes[places], documents[places], reach, negative_table[drawn])


def _blocks(frequency: float) -> int:
    """The number of blocks of an update, a power of two, by the frequency of the commonest word."""
    blocks = MOST_BLOCKS
    while blocks > 1 and blocks * BLOCK * frequency > OCCURRENCES:
        blocks //= 2
    return blocks
