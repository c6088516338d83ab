"""The order of training: which examples make the i-th batch."""

import dataclasses
import functools
from typing import Any

import numpy as np

from rnnlab import _check

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
