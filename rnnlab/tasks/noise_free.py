"""The noise-free long time lag: the last symbol repeats the first."""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.tasks.base import Kind, Task
from rnnlab.typing import Key


@dataclasses.dataclass(frozen=True)
class NoiseFreeLongLag(Task):
    """The noise-free long time lag; see :func:`noise_free_long_lag`.

    Attributes:
        delay: p, the steps between the first symbol and its repetition.
        only_last: whether the last symbol is the only target that counts.
    """

    kind: ClassVar[Kind] = "class each step"

    delay: int
    only_last: bool = False

    def __post_init__(self) -> None:
        _check.flag("only_last", self.only_last)
        self._store(
            delay=_check.at_least("delay", self.delay, 2),
            only_last=bool(self.only_last),
        )

    @property
    def steps(self) -> int:
        return self.delay

    @property
    def vocabulary_size(self) -> int:
        return self.delay + 1

    @property
    def outputs(self) -> int:
        return self.delay + 1

    def draw(self, key: Key, batch_size: int) -> Batch:
        p = self.delay
        ends = jax.random.randint(key, (1, batch_size), p - 1, p + 1, dtype=jnp.int32)
        middle = jnp.arange(p - 1, dtype=jnp.int32)[:, None]
        middle = jnp.broadcast_to(middle, (p - 1, batch_size))
        symbols = jnp.concatenate([ends, middle, ends])
        mask = None
        if self.only_last:
            is_last = jnp.arange(p)[:, None] == p - 1
            mask = jnp.broadcast_to(is_last, (p, batch_size))
        return Batch(symbols[:-1], symbols[1:], mask=mask)

    def baseline(self) -> float:
        return math.log(2) if self.only_last else math.log(2) / self.delay

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Whether the loss is at most a hundredth of the baseline.

        The accuracy without memory is 1 − 1/(2p) over all steps, so it would not tell.
        """
        return self.is_near_floor(metrics)


def noise_free_long_lag(delay: int = 100, *, only_last: bool = False) -> NoiseFreeLongLag:
    """The noise-free long time lag: predict each next symbol, and the last is the first again.

    The sequences are (y, a₁, …, aₙ, y) and (x, a₁, …, aₙ, x), equally likely, with n = p − 1
    (Hochreiter & Schmidhuber 1997, Neural Computation 9, experiment 2a). xs ``[p, B]``: codes of
    all symbols but the last; a₁, …, aₙ are 0, …, p − 2, x is p − 1 and y is p. targets
    ``[p, B]``: the next symbol, a class of p + 1. With ``only_last`` the mask leaves only the last
    step, at which the first symbol is wanted.

    The baseline is ln 2/p, and ln 2 with ``only_last``: a predictor that sees only the current
    symbol knows the next one, except after aₙ, where x and y are equally likely. The floor is
    0: the first symbol, which nothing predicts, is not a target. Solved means a loss of at most a
    hundredth of the baseline; the paper asks for outputs within .25 of the target at every step.

    >>> import jax
    >>> task = noise_free_long_lag(5)
    >>> batch = task.sample(jax.random.key(0), 8)
    >>> batch.xs.shape, batch.xs[1:, 0].tolist(), round(task.baseline(), 4)
    ((5, 8), [0, 1, 2, 3], 0.1386)

    Args:
        delay: p, the steps between the first symbol and its repetition; at least 2.
        only_last: whether the last symbol is the only target that counts.

    Raises:
        ValueError: for a delay below 2.
    """
    return NoiseFreeLongLag(delay, only_last)
