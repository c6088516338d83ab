"""Sequences of different lengths in buckets, each padded to the bucket's own length."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.data.boundaries import bucket_boundaries
from rnnlab.data.order import Order, check_seed
from rnnlab.data.sequences import Sequences, listed, pad, read_sequences


@dataclasses.dataclass(frozen=True, eq=False)
class Bucketed:
    """``data[i] -> Batch``, see :func:`bucketed`.

    Attributes:
        sequences: the N checked sequences.
        boundaries: the padded length of each bucket that holds a sequence, rising.
        batch_size: B.
        seed: chooses the order.
        shuffle: whether examples and batches are in random order.
    """

    sequences: Sequences
    boundaries: tuple[int, ...]
    batch_size: int
    seed: int
    shuffle: bool

    def __repr__(self) -> str:
        return _check.summary(
            self,
            sequences=len(self.sequences.xs),
            boundaries=self.boundaries,
            batch_size=self.batch_size,
            seed=self.seed,
            batches_per_epoch=self.batches_per_epoch,
        )

    @functools.cached_property
    def members(self) -> list[np.ndarray]:
        """The indices of the sequences in each bucket."""
        bucket = np.searchsorted(self.boundaries, self.sequences.lengths)
        return [np.flatnonzero(bucket == place) for place in range(len(self.boundaries))]

    @functools.cached_property
    def _orders(self) -> list[Order]:
        orders = []
        for place, members in enumerate(self.members):
            orders.append(self._order(members.size, self.batch_size, place))
        return orders

    @functools.cached_property
    def _ends(self) -> np.ndarray:
        """How many batches an epoch has up to each bucket."""
        return np.cumsum([order.batches_per_epoch for order in self._orders])

    @functools.cached_property
    def _batch_order(self) -> Order:
        return self._order(self.batches_per_epoch, 1, len(self.boundaries))

    def _order(self, count: int, batch_size: int, stream: int) -> Order:
        # Each bucket has a seed of its own: equal ones would permute equal buckets alike.
        seed = int(np.random.SeedSequence([self.seed, stream]).generate_state(1)[0])
        return Order(
            count=count,
            batch_size=batch_size,
            seed=seed,
            shuffle=self.shuffle,
            drop_remainder=False,
        )

    @property
    def batches_per_epoch(self) -> int:
        return int(self._ends[-1])

    @property
    def padding_share(self) -> float:
        """Padded steps / all steps in an epoch; a column that only fills a batch is padding."""
        steps = 0
        for boundary, order in zip(self.boundaries, self._orders, strict=True):
            steps += boundary * order.batches_per_epoch * self.batch_size
        return 1 - int(self.sequences.lengths.sum()) / steps

    @property
    def plain_padding_share(self) -> float:
        """The same for batches that are all padded to the longest sequence."""
        lengths = self.sequences.lengths
        batch_count = -(-lengths.size // self.batch_size)
        return 1 - int(lengths.sum()) / int(batch_count * self.batch_size * lengths.max())

    def __getitem__(self, index: int) -> Batch:
        index = _check.natural("index", index)
        epoch = index // self.batches_per_epoch
        slot = int(self._batch_order[index][0])
        bucket = int(np.searchsorted(self._ends, slot, side="right"))
        order = self._orders[bucket]
        place = slot - (int(self._ends[bucket]) - order.batches_per_epoch)
        columns = self.members[bucket][order[epoch * order.batches_per_epoch + place]]
        return self._batch(columns, self.boundaries[bucket])

    def _batch(self, columns: np.ndarray, steps: int) -> Batch:
        counts = np.arange(self.batch_size) < columns.size
        # A batch that is not full repeats examples, whose mask is False: their length is not 0, so
        # that a mean over their steps exists.
        columns = np.resize(columns, self.batch_size)
        lengths = self.sequences.lengths[columns]
        xs = pad([self.sequences.xs[column] for column in columns], steps)
        targets = [self.sequences.targets[column] for column in columns]
        if not self.sequences.per_step:
            return Batch(xs, np.stack(targets), mask=counts, lengths=lengths)
        valid = np.arange(steps)[:, None] < lengths
        return Batch(xs, pad(targets, steps), mask=valid & counts, lengths=lengths)


def bucketed(
    sequences: Sequence[Any],
    targets: Sequence[Any],
    batch_size: int,
    *,
    boundaries: Sequence[int] | None = None,
    buckets: int = 4,
    seed: int = 0,
    shuffle: bool = True,
    vocabulary_size: int | None = None,
    classes: int | None = None,
) -> Bucketed:
    """Batches of sequences of similar lengths, padded to the length of their bucket.

    There are as many shapes as buckets, so at most that many compilations. Every epoch counts each
    sequence exactly once; the last batch of a bucket is filled with examples that its mask leaves
    out. The loss and its gradient are those of the sequences alone, see ``mask`` and ``lengths``.

    >>> import numpy as np
    >>> sequences = [np.ones((steps, 3)) for steps in (2, 3, 9, 10)]
    >>> data = bucketed(sequences, [0, 1, 0, 1], 2, buckets=2)
    >>> data.boundaries, round(data.padding_share, 3), round(data.plain_padding_share, 3)
    ((3, 10), 0.077, 0.4)

    Args:
        sequences: N arrays, codes ``[T_n]`` or vectors ``[T_n, I]``.
        targets: for each sequence a label or a vector ``[O]``, or ``[T_n]`` or ``[T_n, O]`` for its
            steps. Arrays with one axis that are all as long as their sequences are one target for
            each step.
        batch_size: B.
        boundaries: the padded length of each bucket, rising. By default
            :func:`bucket_boundaries` chooses them.
        buckets: how many to choose.
        seed: an integer in 0..2³² − 1.
        shuffle: False for the given order in each bucket, and buckets from short to long.
        vocabulary_size, classes: V and the number of labels, if codes and labels are to be checked
            against them.

    Returns:
        Data whose batches have ``mask`` and ``lengths``; it tells its ``padding_share``.

    Raises:
        ValueError: for a sequence without steps or longer than the last boundary, features or
            targets that do not fit, codes or labels out of range, NaN and infinity.
    """
    _check.positive_int("batch_size", batch_size)
    _check.flag("shuffle", shuffle)
    data = read_sequences(sequences, targets, vocabulary_size, classes)
    if boundaries is None:
        boundaries = bucket_boundaries(data.lengths, buckets)
    boundaries = listed("boundaries", boundaries, "the length of each bucket")
    edges = np.array([_check.positive_int("each of boundaries", edge) for edge in boundaries])
    if edges.size == 0 or (np.diff(edges) <= 0).any():
        raise ValueError(f"boundaries is {edges.tolist()}; give rising lengths")
    too_long = np.flatnonzero(data.lengths > edges[-1])
    if too_long.size:
        first = int(too_long[0])
        raise ValueError(
            f"sequences[{first}] has {data.lengths[first]} steps, but the last boundary is "
            f"{edges[-1]}; raise it or cut the sequence"
        )
    used = np.unique(np.searchsorted(edges, data.lengths))
    return Bucketed(
        data, tuple(edges[used].tolist()), int(batch_size), check_seed(seed), bool(shuffle)
    )
