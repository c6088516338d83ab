"""Several sequences in one row, with a reset at the start of each."""

import bisect
import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.data.order import Order, check_seed
from rnnlab.data.sequences import Sequences, read_sequences


@dataclasses.dataclass(frozen=True, eq=False)
class Packed:
    """``data[i] -> Batch``, see :func:`packed`.

    Attributes:
        sequences: the N checked sequences.
        plan: the indices of the sequences in each row, in their order in time.
        order: the rows of each batch.
        length: T, the steps of a row.
    """

    sequences: Sequences
    plan: tuple[tuple[int, ...], ...]
    order: Order
    length: int

    def __repr__(self) -> str:
        return _check.summary(
            self,
            sequences=len(self.sequences.xs),
            rows=self.order.batch_size,
            length=self.length,
            seed=self.order.seed,
            batches_per_epoch=self.batches_per_epoch,
        )

    @property
    def batches_per_epoch(self) -> int:
        return self.order.batches_per_epoch

    @property
    def padding_share(self) -> float:
        """Padded steps / all steps in an epoch, with the empty rows of its last batch."""
        return self._share(self.batches_per_epoch)

    @property
    def plain_padding_share(self) -> float:
        """The same with one sequence in each row."""
        return self._share(-(-self.sequences.lengths.size // self.order.batch_size))

    def _share(self, batch_count: int) -> float:
        steps = batch_count * self.order.batch_size * self.length
        return 1 - int(self.sequences.lengths.sum()) / steps

    @functools.cached_property
    def _features(self) -> tuple[int, ...]:
        """The last axis of the targets, if they have one."""
        return self.sequences.targets[0].shape[int(self.sequences.per_step) :]

    def __getitem__(self, index: int) -> Batch:
        rows = self.order[index]
        shape = self.length, self.order.batch_size
        data = self.sequences
        xs = np.zeros((*shape, *data.xs[0].shape[1:]), data.xs[0].dtype)
        targets = np.zeros((*shape, *self._features), data.targets[0].dtype)
        mask = np.zeros(shape, bool)
        resets = np.zeros(shape, bool)
        lengths = np.zeros(shape[1], np.int32)
        for column, row in enumerate(rows):
            start = 0
            for sequence in self.plan[row]:
                end = start + int(data.lengths[sequence])
                xs[start:end, column] = data.xs[sequence]
                # The target of a whole sequence stands at its last step.
                counted = slice(start if data.per_step else end - 1, end)
                targets[counted, column] = data.targets[sequence]
                mask[counted, column] = True
                resets[start, column] = True
                start = end
            lengths[column] = start
        return Batch(xs, targets, mask, lengths, resets)


def packed(
    sequences: Sequence[Any],
    targets: Sequence[Any],
    rows: int,
    length: int,
    *,
    seed: int = 0,
    shuffle: bool = True,
    vocabulary_size: int | None = None,
    classes: int | None = None,
) -> Packed:
    """Batches of one shape whose rows hold several sequences, one after another.

    ``resets`` is True at the first step of each sequence, so none sees another; ``mask`` is True
    where a target counts; ``lengths`` are the filled steps of each row, so that a backward
    direction starts at the last of them. The loss over the counted targets and its gradient are
    those of the sequences one by one.

    The rows are filled by best fit decreasing (Johnson 1974): the sequences from long to short,
    each into the fullest row that has room for it, which takes at most 11/9 of the fewest rows
    possible and a constant. Krell et al. 2021 (arXiv 2107.02027) pack texts in this way. The rows
    are the same in every epoch, and their order is not.

    >>> import numpy as np
    >>> sequences = [np.ones((steps, 3)) for steps in (6, 5, 4, 3, 2)]
    >>> data = packed(sequences, [0, 1, 0, 1, 1], rows=2, length=10)
    >>> data[0].xs.shape, data.padding_share, data.plain_padding_share
    ((10, 2, 3), 0.0, 0.6666666666666667)

    Args:
        sequences: N arrays, codes ``[T_n]`` or vectors ``[T_n, I]``.
        targets: for each sequence a label or a vector ``[O]``, which is placed at its last step, or
            ``[T_n]`` or ``[T_n, O]`` for its steps. Arrays with one axis that are all as long as
            their sequences are one target for each step.
        rows: B, the rows of a batch.
        length: T, the steps of a row.
        seed: an integer in 0..2³² − 1.
        shuffle: False for rows in the order in which they were opened.
        vocabulary_size, classes: V and the number of labels, if codes and labels are to be checked
            against them.

    Returns:
        Data whose batches have targets ``[T, B]`` or ``[T, B, O]``, and ``mask``, ``lengths`` and
        ``resets``; it tells its ``padding_share``.

    Raises:
        ValueError: for a sequence without steps or longer than a row, features or targets that do
            not fit, codes or labels out of range, NaN and infinity.
    """
    _check.positive_int("rows", rows)
    _check.positive_int("length", length)
    data = read_sequences(sequences, targets, vocabulary_size, classes)
    too_long = np.flatnonzero(data.lengths > length)
    if too_long.size:
        first = int(too_long[0])
        raise ValueError(
            f"sequences[{first}] has {data.lengths[first]} steps, but a row has {length}; give a "
            "larger length or cut the sequence"
        )
    plan = best_fit_decreasing(data.lengths.tolist(), int(length))
    order = Order(
        count=len(plan),
        batch_size=rows,
        seed=check_seed(seed),
        shuffle=shuffle,
        drop_remainder=False,
    )
    return Packed(data, plan, order, int(length))


def best_fit_decreasing(sizes: Sequence[int], capacity: int) -> tuple[tuple[int, ...], ...]:
    """The indices of the sizes in each row, whose sum is at most ``capacity``.

    >>> best_fit_decreasing([6, 5, 4, 3, 2], 10)
    ((0, 2), (1, 3, 4))
    """
    plan: list[list[int]] = []
    # The rows by their free steps, and the rising list of those that some row has.
    rows_with: dict[int, list[int]] = {}
    spaces: list[int] = []
    for index in _from_long_to_short(sizes):
        place = bisect.bisect_left(spaces, sizes[index])
        if place == len(spaces):
            row, space = len(plan), capacity
            plan.append([])
        else:
            space = spaces[place]
            row = rows_with[space].pop()
            if not rows_with[space]:
                del rows_with[space], spaces[place]
        plan[row].append(index)
        rest = space - sizes[index]
        if rest not in rows_with:
            rows_with[rest] = []
            bisect.insort(spaces, rest)
        rows_with[rest].append(row)
    return tuple(map(tuple, plan))


def _from_long_to_short(sizes: Sequence[int]) -> Iterable[int]:
    return sorted(range(len(sizes)), key=lambda index: -sizes[index])
