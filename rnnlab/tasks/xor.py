"""The delayed XOR of two successive bits of a random stream."""

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
class DelayedXor(Task):
    """The delayed XOR; see :func:`delayed_xor`.

    Attributes:
        length: T.
        delay: the steps between the later of the two bits and the target.
    """

    kind: ClassVar[Kind] = "class each step"

    length: int
    delay: int

    def __post_init__(self) -> None:
        delay = _check.natural("delay", self.delay)
        self._store(delay=delay, length=_check.at_least("length", self.length, delay + 2))

    @property
    def steps(self) -> int:
        return self.length

    @property
    def lag(self) -> int:
        return self.delay + 1

    @property
    def vocabulary_size(self) -> int:
        return 2

    @property
    def outputs(self) -> int:
        return 2

    def draw(self, key: Key, batch_size: int) -> Batch:
        shape = (self.length, batch_size)
        bits = jax.random.randint(key, shape, 0, 2, dtype=jnp.int32)
        differs = bits[1:] ^ bits[:-1]
        undefined = jnp.zeros((self.lag, batch_size), jnp.int32)
        targets = jnp.concatenate([undefined, differs[: self.length - self.lag]])
        is_defined = jnp.arange(self.length)[:, None] >= self.lag
        return Batch(bits, targets, mask=jnp.broadcast_to(is_defined, shape))

    def baseline(self) -> float:
        return math.log(2)


def delayed_xor(length: int | None = None, delay: int = 10) -> DelayedXor:
    """The delayed XOR: at each step, whether two successive bits differed some steps ago.

    xs ``[T, B]``: random bits, codes 0 and 1. targets ``[T, B]``: yₜ = xₜ₋d xor xₜ₋d₋₁ for the
    delay d, a class 0 or 1. The mask leaves out the first d + 1 steps, where it is undefined. This
    is the delayed parity of Bertschinger & Natschläger (2004, Neural Computation 16) for two bits;
    with d = 0 it is the temporal XOR.

    The baseline is ln 2: the current bit says nothing about the target, also for d = 0. The floor
    is 0. Solved means an accuracy of at least .99.

    >>> import jax
    >>> task = delayed_xor(50, delay=5)
    >>> batch = task.sample(jax.random.key(0), 4)
    >>> batch.xs.shape, int(batch.mask.sum()), round(task.baseline(), 4)
    ((50, 4), 176, 0.6931)

    Args:
        length: T, the steps of a sequence, at least delay + 2; 2 (delay + 1) by default, so that
            the target is defined in half of them.
        delay: d, the steps between the later of the two bits and the target.

    Raises:
        ValueError: for a negative delay, and a length below delay + 2.
    """
    if length is None:
        # A wrong delay is refused as one, not for the length that would follow from it.
        length = 2 * (_check.natural("delay", delay) + 1)
    return DelayedXor(length, delay)
