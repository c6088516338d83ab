"""Strings aⁿbⁿ: a network must count to know where they end."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.tasks.base import Kind, Task
from rnnlab.tasks.entropy import conditional_entropy
from rnnlab.tasks.legality import legal_first
from rnnlab.typing import Array, Key

SYMBOLS = ("a", "b", "$", "")
"""Code by code: a, b, the end of a string (EOS) and any unknown symbol (UNK), which never comes."""

A, B, EOS, _ = range(len(SYMBOLS))


@dataclasses.dataclass(frozen=True)
class AnBn(Task):
    """Strings aⁿbⁿ; see :func:`anbn`.

    Attributes:
        max_n: the largest n.
    """

    kind: ClassVar[Kind] = "class each step"

    max_n: int

    def __post_init__(self) -> None:
        self._store(max_n=_check.at_least("max_n", self.max_n, 2))

    @property
    def steps(self) -> int:
        return 2 * self.max_n + 1

    @property
    def lag(self) -> int:
        # From the first a, at step 1, to the end, which is the target of step 2n.
        return 2 * self.max_n - 1

    @property
    def vocabulary_size(self) -> int:
        return len(SYMBOLS)

    @property
    def outputs(self) -> int:
        return len(SYMBOLS)

    def draw(self, key: Key, batch_size: int) -> Batch:
        """``batch_size`` strings, each with an n of its own, uniform in 1..max_n."""
        counts = jax.random.randint(key, (batch_size,), 1, self.max_n + 1, jnp.int32)
        return _strings(counts, self.steps)

    def strings(self, counts: Iterable[int]) -> Batch:
        """The string aⁿbⁿ of each n in ``counts``, however long, side by side.

        >>> anbn(5).strings([7, 100]).xs.shape
        (201, 2)

        Raises:
            ValueError: for no counts, and for one below 1.
        """
        counts = [_check.positive_int("a count", count) for count in counts]
        if not counts:
            raise ValueError("counts is empty; give at least one n, such as [10]")
        return _strings(jnp.array(counts, jnp.int32), 2 * max(counts) + 1)

    def baseline(self) -> float:
        """2m H(1/m) / (2m + 1) with m = (max_n + 1) / 2; see :func:`anbn`."""
        mean = (self.max_n + 1) / 2
        # Expected successors in a string: its start is followed by an a, an a by m − 1 a's and
        # one b, and a b by m − 1 b's and the end.
        after_start = [1, 0, 0]
        after_a = [mean - 1, 1, 0]
        after_b = [0, mean - 1, 1]
        return conditional_entropy([after_start, after_a, after_b])

    def floor(self) -> float:
        """ln(max_n) / (max_n + 2), the entropy of n in a string of max_n + 2 targets on average."""
        return math.log(self.max_n) / (self.max_n + 2)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Whether the loss exceeds the floor by at most a hundredth of the baseline."""
        return self.is_near_floor(metrics)


def _strings(counts: Array, steps: int) -> Batch:
    """The strings of ``counts [B]``, padded to ``steps``."""
    step = jnp.arange(steps + 1, dtype=jnp.int32)[:, None]
    letters = jnp.where(step <= counts, A, B)
    is_letter = (step >= 1) & (step <= 2 * counts)
    symbols = jnp.where(is_letter, letters, EOS).astype(jnp.int32)
    lengths = 2 * counts + 1
    return Batch(symbols[:-1], symbols[1:], mask=step[:-1] < lengths, lengths=lengths)


def accepted(logits: Array, batch: Batch) -> Array:
    """Which strings a network accepts, ``[B]`` booleans.

    From the first b on, the largest logit must be that of the next symbol: of a b n − 1 times, and
    then of the end. What comes before cannot be predicted. The share of accepted strings that are
    longer than those of training shows whether a network has learned to count.

    >>> batch = anbn(5).strings([1, 8])
    >>> logits = jax.nn.one_hot(batch.targets, 4)
    >>> accepted(logits, batch).tolist()
    [True, True]
    >>> accepted(logits.at[16, 1, EOS].set(-1.0), batch).tolist()  # the last b of the second
    [True, False]

    Args:
        logits: ``[T, B, 4]``, what a tagger gives.
        batch: from :meth:`AnBn.sample` or :meth:`AnBn.strings`.

    Raises:
        ValueError: for logits of another shape.
    """
    is_determined = batch.mask & (batch.xs == B)
    is_next = batch.targets[..., None] == jnp.arange(len(SYMBOLS))
    return legal_first(logits, is_next, is_determined)


def anbn(max_n: int = 5) -> AnBn:
    """Strings aⁿbⁿ, n uniform in 1..max_n: predict the next symbol at each step.

    Gers & Schmidhuber 2001 ("LSTM recurrent networks learn simple context-free and
    context-sensitive languages", IEEE Transactions on Neural Networks 12).

    Inputs are codes ``[T, B]``, T = 2 max_n + 1: EOS a … a b … b, padded with EOS. Targets
    ``[T, B]`` are the symbols one step later, the last of them EOS; the 2n + 1 of each string count
    (``mask`` and ``lengths``). The codes are those of ``SYMBOLS``: a = 0, b = 1, EOS = 2, UNK = 3.

    With m = (max_n + 1) / 2, the mean of n, and H(p) = −p ln p − (1 − p) ln(1 − p), a counted
    target costs the best predictor that sees the current symbol alone 2m H(1/m) / (2m + 1) nats.
    One with memory pays only for n, since after k a's a b follows with probability
    1/(max_n − k + 1): the floor is ln(max_n) / (2m + 1).

    Solved is a loss of at most the floor plus a hundredth of the baseline; "accuracy" is no
    measure, since no network can predict the first b. In the paper a network must predict every
    symbol that is determined, also in strings beyond those of training: see :func:`accepted` and
    ``strings``.

    >>> task = anbn(5)
    >>> batch = task.strings([2])
    >>> "".join(SYMBOLS[code] for code in batch.xs[:, 0]), batch.targets[:, 0].tolist()
    ('$aabb', [0, 0, 1, 1, 2])
    >>> round(task.baseline(), 4), round(task.floor(), 4)
    (0.5456, 0.2299)

    Raises:
        ValueError: for a ``max_n`` below 2.
    """
    return AnBn(max_n)
