"""The copy task: recall a list of symbols after a delay that is fixed or drawn."""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.tasks.base import Kind, Task
from rnnlab.typing import Array, Key


@dataclasses.dataclass(frozen=True)
class CopyMemory(Task):
    """The copy task; see :func:`copy_memory`.

    Attributes:
        delay: the steps between the end of the list and the first that is recalled.
        symbols: the number of symbols in lists.
        items: the length of a list.
    """

    kind: ClassVar[Kind] = "class each step"

    delay: int
    symbols: int
    items: int

    def __post_init__(self) -> None:
        self._store(
            delay=_check.positive_int("delay", self.delay),
            symbols=_check.at_least("symbols", self.symbols, 2),
            items=_check.positive_int("items", self.items),
        )

    @property
    def steps(self) -> int:
        return self.delay + 2 * self.items

    @property
    def lag(self) -> int:
        return self.delay + self.items

    @property
    def vocabulary_size(self) -> int:
        return self.symbols + 2

    @property
    def outputs(self) -> int:
        return self.symbols + 1

    @property
    def blank(self) -> int:
        """The code of an empty step; it is a class as well."""
        return self.symbols

    @property
    def delimiter(self) -> int:
        """The code of the signal to recall."""
        return self.symbols + 1

    def draw(self, key: Key, batch_size: int) -> Batch:
        k_items, k_delays = jax.random.split(key)
        size = (self.items, batch_size)
        items = jax.random.randint(k_items, size, 0, self.symbols, dtype=jnp.int32)
        start = self.items + self._delays(k_delays, batch_size)
        steps = jnp.arange(self.steps, dtype=jnp.int32)[:, None]
        blanks = jnp.full((self.steps - self.items, batch_size), self.blank, jnp.int32)
        xs = jnp.concatenate([items, blanks])
        xs = jnp.where(steps == start - 1, self.delimiter, xs)
        index = steps - start
        recalled = jnp.take_along_axis(items, jnp.clip(index, 0, self.items - 1), axis=0)
        is_recall = (index >= 0) & (index < self.items)
        return Batch(xs, jnp.where(is_recall, recalled, self.blank))

    def _delays(self, key: Key, batch_size: int) -> Array:
        """The delay of each example, ``[B]``."""
        return jnp.full(batch_size, self.delay, jnp.int32)

    def baseline(self) -> float:
        return self.items * math.log(self.symbols) / self.steps

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Whether the loss is at most a hundredth of the baseline.

        After a long delay nearly all targets are blank, and the accuracy without memory is above
        .99.
        """
        return self.is_near_floor(metrics)


@dataclasses.dataclass(frozen=True)
class CopyWithPadding(CopyMemory):
    """The copy task with a delay that is drawn; see :func:`copy_with_padding`.

    Attributes:
        delay: the longest delay.
    """

    def _delays(self, key: Key, batch_size: int) -> Array:
        return jax.random.randint(key, (batch_size,), 1, self.delay + 1, dtype=jnp.int32)

    def baseline(self) -> float:
        # Delays d in 1..D for which step t, counted from the end of the list, is one of the recall:
        # d <= t < d + items.
        t = np.arange(self.steps - self.items)
        shortest = np.maximum(t - self.items + 1, 1)
        longest = np.minimum(t, self.delay)
        p_recall = np.maximum(longest - shortest + 1, 0) / self.delay
        # The delimiter of a delay d stands at step d - 1.
        p_blank = 1 - (t < self.delay) / self.delay
        loss = _entropy(p_recall) + _entropy(p_blank - p_recall) - _entropy(p_blank)
        loss += p_recall * math.log(self.symbols)
        return float(loss.sum() / self.steps)


def _entropy(p: np.ndarray) -> np.ndarray:
    """−p ln p, elementwise; 0 for p = 0."""
    return -p * np.log(np.where(p > 0, p, 1))


def copy_memory(delay: int = 100, symbols: int = 8, items: int = 10) -> CopyMemory:
    """The copy task: recall a list of symbols after a fixed delay.

    xs ``[T, B]``, T = delay + 2 items: codes of random ``items`` out of ``symbols``, then
    delay − 1 blanks, the delimiter, and ``items`` blanks. Symbols are 0, 1, …, then comes the
    blank, then the delimiter. targets ``[T, B]``: blank until the delimiter has been read, then the
    items in their order; the classes are the symbols and the blank, and all steps count. Item i is
    recalled delay + items steps later. In the form of Arjovsky, Shah & Bengio (2016, arXiv
    1511.06464), after Hochreiter & Schmidhuber (1997, Neural Computation 9).

    The baseline is items ln(symbols)/T: a predictor that knows the step but has no memory says
    blank before the recall, which it cannot miss, and gives all symbols the same probability
    during the recall. The floor is 0. Solved means a loss of at most a hundredth of the baseline.

    >>> import jax
    >>> task = copy_memory(delay=100)
    >>> batch = task.sample(jax.random.key(0), 4)
    >>> batch.xs.shape, task.vocabulary_size, task.outputs, round(task.baseline(), 4)
    ((120, 4), 10, 9, 0.1733)

    Args:
        delay: the steps between the end of the list and the first that is recalled; Arjovsky's T.
        symbols: the number of symbols in lists, at least 2.
        items: the length of a list.

    Raises:
        ValueError: for a delay below 1, fewer than 2 symbols, and no items.
    """
    return CopyMemory(delay, symbols, items)


def copy_with_padding(delay: int = 100, symbols: int = 8, items: int = 10) -> CopyWithPadding:
    """The copy task with another delay in each example, so that counting steps does not help.

    As :func:`copy_memory`, with a delay d of each example that is uniform in 1, …, delay: ``items``
    codes, d − 1 blanks, the delimiter, and ``items`` blanks during which the items are the
    targets. Blanks pad xs and targets ``[T, B]`` to T = delay + 2 items, and all steps count: a
    model must learn when to recall, and when to stop. Such delays are in Henaff, Szlam & LeCun
    (2016, arXiv 1602.06662) and Tallec & Ollivier (2018, arXiv 1804.11188).

    The baseline is that of a predictor that knows the step and the current code. With b the
    probability that step t is blank and q that it is blank and in the recall, it loses
    q ln(b/q) + (b − q) ln(b/(b − q)) + q ln(symbols) at that step; the baseline is the mean over
    steps. A predictor that remembers the delimiter, but no item, reaches items ln(symbols)/T. The
    floor is 0. Solved means a loss of at most a hundredth of the baseline.

    >>> import jax
    >>> task = copy_with_padding(delay=100)
    >>> batch = task.sample(jax.random.key(0), 4)
    >>> batch.xs.shape, round(task.baseline(), 2)
    ((120, 4), 0.45)

    Args:
        delay: the longest delay.
        symbols: the number of symbols in lists, at least 2.
        items: the length of a list.

    Raises:
        ValueError: for a delay below 1, fewer than 2 symbols, and no items.
    """
    return CopyWithPadding(delay, symbols, items)
