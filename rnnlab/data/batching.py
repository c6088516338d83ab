"""Batches of examples of the same length."""

import dataclasses

import numpy as np

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.data.checks import check_batch, check_is_batch
from rnnlab.data.order import Order


@dataclasses.dataclass(frozen=True, eq=False)
class Batches:
    """``data[i] -> Batch``, see :func:`batches`.

    Attributes:
        examples: all N examples side by side.
        order: the examples of each batch.
    """

    examples: Batch
    order: Order

    def __repr__(self) -> str:
        return _check.summary(
            self,
            examples=self.order.count,
            steps=self.examples.xs.shape[0],
            batch_size=self.order.batch_size,
            seed=self.order.seed,
            batches_per_epoch=self.batches_per_epoch,
        )

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
    vocabulary_size: int | None = None,
    classes: int | None = None,
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
        vocabulary_size, classes: V and the number of labels, if codes and labels are to be checked
            against them.

    Raises:
        ValueError: for bad data, see :func:`rnnlab.data.check_batch`, and fewer than B examples.
    """
    examples = as_numpy(examples)
    check_batch(examples, vocabulary_size=vocabulary_size, classes=classes)
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
    """``batch`` with arrays of NumPy; ValueError for anything but a batch."""
    check_is_batch(batch)
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
