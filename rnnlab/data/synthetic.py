"""Synthetic data: each batch from a key of its own."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.data.order import SEEDS, check_seed
from rnnlab.typing import Array, Key


@dataclasses.dataclass(frozen=True, eq=False)
class Generated:
    """``data[i] -> Batch``, see :func:`generated`."""

    sample: Callable[[Key, int], Batch]
    batch_size: int
    seed: int
    batches_per_epoch: None = None

    def __getitem__(self, index: int) -> Batch:
        index = _check.natural("index", index)
        if index >= SEEDS:
            # fold_in would take it modulo 2³², and the batches would begin again.
            raise ValueError(f"index is {index}; generated data ends at 2**32 batches")
        return self._compiled(np.uint32(index))

    @functools.cached_property
    def _compiled(self) -> Any:
        def draw(index: Array) -> Batch:
            key = jax.random.fold_in(jax.random.key(self.seed), index)
            return self.sample(key, self.batch_size)

        return jax.jit(draw)


def generated(sample: Callable[[Key, int], Batch], batch_size: int, *, seed: int = 0) -> Generated:
    """Batches of a synthetic task: ``data[i] = sample(fold_in(key(seed), i), batch_size)``.

    It never ends, so ``batches_per_epoch`` is None. The sampler is compiled once.

    >>> import jax
    >>> def sample(key, batch_size):
    ...     xs = jax.random.normal(key, (20, batch_size, 1))
    ...     return Batch(xs, xs.sum(0))
    >>> generated(sample, 8, seed=0)[0].xs.shape
    (20, 8, 1)

    Args:
        sample: a pure function of a JAX key and the batch size, such as the ``sample`` of a task.
        batch_size: B, the number of examples in each batch.
        seed: an integer in 0..2³² − 1; another seed gives other batches.

    Raises:
        ValueError: for a ``sample`` that is not a function, a size below 1 and a seed out of range.
    """
    if not callable(sample):
        raise ValueError(
            f"sample is {_check.brief(sample)}; it must be a function of a key and a batch "
            "size, such as the sample of a task"
        )
    return Generated(sample, _check.positive_int("batch_size", batch_size), check_seed(seed))
