"""The order of training: which examples make the i-th batch."""

import dataclasses
import functools
from typing import Any

import numpy as np

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.data.checks import check_batch

SEEDS = 2**32
"""Seeds lie below this: grain's shuffle takes 32 bits."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """``order[i]``: the indices of the examples in the i-th batch of training.

    It is a pure function of i and the fields, so that a training that goes on from step i reads
    what it would have read. Epoch e consists of the batches from e · ``batches_per_epoch`` on and
    has a permutation of its own, by grain's ``MapDataset``, which computes any single index without
    the others. Each example costs about 20 µs.

    >>> order = Order(count=10, batch_size=4, seed=0, shuffle=False, drop_remainder=False)
    >>> [order[i].tolist() for i in range(4)]
    [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [0, 1, 2, 3]]

    Attributes:
        count: N, the number of examples.
        batch_size: B.
        seed: chooses the permutations.
        shuffle: False for the order 0 … N − 1 in every epoch.
        drop_remainder: whether an epoch ends before the N mod B last examples of its permutation;
            otherwise its last batch holds these alone.
    """

    count: int
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    drop_remainder: bool = True

    def __post_init__(self) -> None:
        _check.positive_int("count", self.count)
        _check.positive_int("batch_size", self.batch_size)
        check_seed(self.seed)
        _check.flag("shuffle", self.shuffle)
        _check.flag("drop_remainder", self.drop_remainder)
        if self.drop_remainder and self.count < self.batch_size:
            raise ValueError(
                f"batch_size is {self.batch_size}, but there are only {self.count} examples; give "
                "a smaller batch_size, or drop_remainder=False"
            )

    @property
    def batches_per_epoch(self) -> int:
        if self.drop_remainder:
            return self.count // self.batch_size
        return -(-self.count // self.batch_size)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._indices[_check.natural("index", index)]

    @functools.cached_property
    def _indices(self) -> Any:
        # Here, since importing grain takes half a second.
        import grain

        indices = grain.MapDataset.range(self.count)
        if self.shuffle:
            # The seed goes through a hash before shuffle adds the epoch to it: otherwise epoch 1 of
            # seed 0 would be epoch 0 of seed 1.
            indices = indices.seed(int(self.seed)).shuffle()
        indices = indices.batch(self.batch_size, drop_remainder=self.drop_remainder)
        return indices.repeat(reseed_each_epoch=True)


def check_seed(seed: Any) -> int:
    """``seed`` as an ``int``; ValueError unless it is an integer in 0..2³² − 1."""
    seed = _check.natural("seed", seed)
    if seed >= SEEDS:
        raise ValueError(f"seed is {seed}; it must be below 2**32")
    return seed


@dataclasses.dataclass(frozen=True, eq=False)
class Batches:
    """``data[i] -> Batch``, see :func:`batches`.

    Attributes:
        examples: all N examples side by side.
        order: the examples of each batch.
    """

    examples: Batch
    order: Order

    @property
    def batches_per_epoch(self) -> int:
        return self.order.batches_per_epoch

    def __getitem__(self, index: int) -> Batch:
        columns = self.order[index]
        size = self.order.batch_size
        batch = select_columns(self.examples, np.resize(columns, size))
        if self.order.drop_remainder or self.order.count % size == 0:
            return batch
        # Every batch of such data has a mask, so that all have one shape and compile once.
        counts = np.arange(size) < columns.size
        mask = batch.mask
        if mask is None:
            mask = np.ones(mask_shape(batch), bool)
        return batch._replace(mask=np.asarray(mask, bool) & counts)


def batches(
    examples: Batch,
    batch_size: int,
    *,
    seed: int = 0,
    shuffle: bool = True,
    drop_remainder: bool = True,
) -> Batches:
    """Batches of B from N examples of the same length, in an order that depends on the seed alone.

    ``data[i]`` is a pure function of (examples, seed, i): any process computes it from i alone, and
    epochs follow one another, each in an order of its own.

    >>> import numpy as np
    >>> xs, labels = np.ones((20, 100, 3)), np.zeros(100, int)  # [T, N, I], [N]
    >>> data = batches(Batch(xs, labels), 32, seed=0)
    >>> data[0].xs.shape, data.batches_per_epoch
    ((20, 32, 3), 3)

    Args:
        examples: a :class:`Batch` of all examples: xs ``[T, N]`` or ``[T, N, I]``; targets
            ``[..., N]`` or ``[..., N, O]`` with time first, or ``[N]`` or ``[N, O]`` for each
            sequence. Targets ``[N, N]`` are read as time first unless a mask ``[N]`` is given.
        batch_size: B.
        seed: an integer in 0..2³² − 1.
        shuffle: False for the order 0 … N − 1.
        drop_remainder: True leaves out the N mod B last examples of each epoch. False fills the
            last batch with examples that its mask leaves out, so that all shapes are equal; every
            example then counts exactly once an epoch.

    Raises:
        ValueError: for bad data, see :func:`rnnlab.data.check_batch`, and fewer than B examples.
    """
    examples = as_numpy(examples)
    check_batch(examples)
    count = examples.xs.shape[1]
    order = Order(
        count=count,
        batch_size=batch_size,
        seed=seed,
        shuffle=shuffle,
        drop_remainder=drop_remainder,
    )
    return Batches(examples, order)


def as_numpy(batch: Batch) -> Batch:
    """``batch`` with arrays of NumPy."""
    return Batch(*[None if value is None else np.asarray(value) for value in batch])


def mask_shape(batch: Batch) -> tuple[int, ...]:
    """The shape of a mask over the targets of ``batch``."""
    if has_time(batch):
        return batch.targets.shape[:2]
    return batch.targets.shape[:1]


def has_time(batch: Batch) -> bool:
    """Whether the targets of ``batch`` have a time axis, before that of the examples."""
    if batch.mask is not None:
        return batch.mask.ndim == 2
    shape, count = batch.targets.shape, batch.xs.shape[1]
    return len(shape) >= 2 and shape[1] == count


def select_columns(batch: Batch, columns: np.ndarray) -> Batch:
    """The examples ``columns`` of ``batch``."""
    axis = 1 if has_time(batch) else 0
    return Batch(
        xs=batch.xs.take(columns, axis=1),
        targets=batch.targets.take(columns, axis=axis),
        mask=None if batch.mask is None else batch.mask.take(columns, axis=axis),
        lengths=None if batch.lengths is None else batch.lengths.take(columns),
        resets=None if batch.resets is None else batch.resets.take(columns, axis=1),
    )
