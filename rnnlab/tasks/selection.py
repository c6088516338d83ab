"""Selective copy: recall in order what came at random positions among blanks."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.tasks.base import Kind, Task
from rnnlab.typing import Key


@dataclasses.dataclass(frozen=True)
class SelectiveCopy(Task):
    """Symbols at random positions, recalled in order; see :func:`selective_copy`.

    Attributes:
        length: the positions of the stream.
        items: the number of items in it.
        symbols: the number of different items.
    """

    kind: ClassVar[Kind] = "class each step"

    length: int
    items: int
    symbols: int

    def __post_init__(self) -> None:
        self._store(
            length=_check.positive_int("length", self.length),
            symbols=_check.at_least("symbols", self.symbols, 2),
            items=_check.positive_int("items", self.items),
        )
        if self.items > self.length:
            raise ValueError(
                f"items is {self.items}, but the stream has only {self.length} positions; give at "
                "most that many, or a longer stream"
            )

    @property
    def steps(self) -> int:
        return self.length + self.items

    @property
    def lag(self) -> int:
        # The i-th item comes at the i-th position of the stream at the earliest.
        return self.length

    @property
    def vocabulary_size(self) -> int:
        return self.symbols + 2

    @property
    def outputs(self) -> int:
        return self.symbols

    def draw(self, key: Key, batch_size: int) -> Batch:
        """``batch_size`` streams, each with items at positions of its own."""
        k_place, k_item = jax.random.split(key)
        first = jnp.arange(self.length)[:, None] < self.items
        first = jnp.broadcast_to(first, (self.length, batch_size))
        is_item = jax.random.permutation(k_place, first, axis=0, independent=True)
        shape = (self.items, batch_size)
        items = jax.random.randint(k_item, shape, 0, self.symbols, jnp.int32)
        # At an item, how many came before it.
        order = jnp.cumsum(is_item, axis=0, dtype=jnp.int32) - 1
        in_order = jnp.take_along_axis(items, jnp.maximum(order, 0), axis=0)
        stream = jnp.where(is_item, in_order, self.symbols)
        go = jnp.full_like(items, self.symbols + 1)
        xs = jnp.concatenate([stream, go])
        targets = jnp.concatenate([jnp.zeros_like(stream), items])
        is_recall = jnp.arange(self.steps)[:, None] >= self.length
        return Batch(xs, targets, mask=jnp.broadcast_to(is_recall, targets.shape))

    def baseline(self) -> float:
        """ln(symbols): the items are uniform."""
        return math.log(self.symbols)


def selective_copy(length: int = 64, items: int = 8, symbols: int = 8) -> SelectiveCopy:
    """Items at random positions among blanks, to be recalled in order.

    Gu & Dao 2023 (Mamba, arXiv 2312.00752), who take 4096 positions, 16 items and 16 codes. The
    distances vary, so that a network must select by content rather than by time, as it can in the
    copy task.

    Inputs are codes ``[T, B]``, T = length + items: items are 0 … K − 1 (K = ``symbols``), uniform
    and at uniform positions of the first ``length`` steps; the other positions hold a blank, K;
    then follows K + 1, "go", for as many steps as there are items. Targets ``[T, B]`` in the steps
    of "go", which alone count (``mask``), are the items in their order.

    The baseline is ln K, since every item is uniform and the input always "go"; the floor is 0.
    Solved is an accuracy of .99; the paper reports accuracies, 97.0 to 99.8 % for its selective
    layers.

    >>> import jax
    >>> batch = selective_copy(length=10, items=3).sample(jax.random.key(0), 2)
    >>> stream = batch.xs[:10, 0]
    >>> (stream[stream < 8] == batch.targets[10:, 0]).all().item()
    True

    Args:
        length: the positions of the stream.
        items: the number of items, at most ``length``.
        symbols: K, at least 2.

    Raises:
        ValueError: for arguments outside of these ranges.
    """
    return SelectiveCopy(length, items, symbols)
