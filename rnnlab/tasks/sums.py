"""The adding and the multiplication problem: two marked numbers among many."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.tasks.base import Kind, Task
from rnnlab.typing import Array, Key

SCALES = {"sum": 1.0, "hochreiter": 1 / 4, "pascanu": 1 / 2}
"""The factor of x₁ + x₂ in the target."""

LEAST_LENGTH = {"sum": 2, "hochreiter": 6, "pascanu": 10}
"""The fewest steps that leave a place for both numbers."""


@dataclasses.dataclass(frozen=True)
class MarkedNumbers(Task):
    """The base of tasks with one target for two marked numbers among T.

    Attributes:
        length: T.
    """

    kind: ClassVar[Kind] = "numbers"

    length: int

    @property
    def steps(self) -> int:
        return self.length

    @property
    def input_size(self) -> int:
        return 2

    @property
    def outputs(self) -> int:
        return 1


@dataclasses.dataclass(frozen=True)
class Adding(MarkedNumbers):
    """The adding problem; see :func:`adding`.

    Attributes:
        scaling: whose version, "sum", "hochreiter" or "pascanu".
    """

    scaling: str = "sum"

    def __post_init__(self) -> None:
        _check.one_of("scaling", self.scaling, tuple(SCALES))
        self._store(length=_check.at_least("length", self.length, LEAST_LENGTH[self.scaling]))

    @property
    def lag(self) -> int:
        # Hochreiter's first pair is never one of the two.
        return self.length - 2 if self.scaling == "hochreiter" else self.length - 1

    def draw(self, key: Key, batch_size: int) -> Batch:
        k_values, k_positions = jax.random.split(key)
        first, second = self._positions(k_positions, batch_size)
        is_marked = marks(first, second, self.length)
        low = -1.0 if self.scaling == "hochreiter" else 0.0
        values = jax.random.uniform(k_values, is_marked.shape, jnp.float32, low, 1.0)
        markers = is_marked.astype(jnp.float32)
        if self.scaling == "hochreiter":
            markers = markers.at[0].set(-1.0).at[-1].set(-1.0)
        targets = SCALES[self.scaling] * jnp.sum(values, axis=0, where=is_marked)
        if self.scaling == "hochreiter":
            targets = 0.5 + targets
        return Batch(jnp.stack([values, markers], axis=-1), targets)

    def _positions(self, key: Key, batch_size: int) -> tuple[Array, Array]:
        """The steps of the two numbers, ``[B]`` each."""
        half = self.length // 2
        if self.scaling == "sum":
            return draw_two(key, batch_size, (0, half), (half, self.length))
        if self.scaling == "pascanu":
            tenth = self.length // 10
            return draw_two(key, batch_size, (0, tenth), (tenth, half))
        # The second is drawn from those that are left when the first is taken out.
        first, second = draw_two(key, batch_size, (1, min(10, half)), (1, half - 1))
        return first, second + (second >= first)

    def baseline(self) -> float:
        # A uniform number in [a, b] has the variance (b − a)²/12.
        width = 2 if self.scaling == "hochreiter" else 1
        return 2 * (width**2 / 12) * SCALES[self.scaling] ** 2


@dataclasses.dataclass(frozen=True)
class Multiplication(MarkedNumbers):
    """The multiplication problem; see :func:`multiplication`."""

    def __post_init__(self) -> None:
        self._store(length=_check.at_least("length", self.length, 2))

    def draw(self, key: Key, batch_size: int) -> Batch:
        k_values, k_positions = jax.random.split(key)
        half = self.length // 2
        first, second = draw_two(k_positions, batch_size, (0, half), (half, self.length))
        is_marked = marks(first, second, self.length)
        values = jax.random.uniform(k_values, is_marked.shape, jnp.float32)
        xs = jnp.stack([values, is_marked.astype(jnp.float32)], axis=-1)
        return Batch(xs, jnp.prod(values, axis=0, where=is_marked))

    def baseline(self) -> float:
        # E[x²]² − E[x]⁴ = 1/9 − 1/16
        return 7 / 144


def draw_two(
    key: Key, batch_size: int, first: tuple[int, int], second: tuple[int, int]
) -> tuple[Array, Array]:
    """A uniform position ``[B]`` in each of two ranges, whose ends are left out."""
    k_first, k_second = jax.random.split(key)
    return (
        jax.random.randint(k_first, (batch_size,), *first, dtype=jnp.int32),
        jax.random.randint(k_second, (batch_size,), *second, dtype=jnp.int32),
    )


def marks(first: Array, second: Array, length: int) -> Array:
    """``[T, B]``, True at the two positions."""
    steps = jnp.arange(length, dtype=jnp.int32)[:, None]
    return (steps == first) | (steps == second)


def adding(length: int = 200, scaling: str = "sum") -> Adding:
    """The adding problem: the sum of two marked numbers among T (Hochreiter & Schmidhuber 1997).

    xs ``[T, B, 2]``: channel 0 is a uniform number, channel 1 is 1 at two steps and 0 elsewhere.
    targets ``[B]``: the sum of the two numbers, scaled.

    ==============  ==========  ===============================  =============  ========
    scaling         numbers     positions                        target         baseline
    ==============  ==========  ===============================  =============  ========
    "sum"           [0, 1)      one in each half of T            x₁ + x₂        1/6
    "hochreiter"    [−1, 1)     one in 1 … 9, another in         ½ + (x₁+x₂)/4  1/24
                                1 … T/2 − 1, counted from 0
    "pascanu"       [0, 1)      in [0, T/10) and [T/10, T/2)     (x₁ + x₂)/2    1/24
    ==============  ==========  ===============================  =============  ========

    "sum" is the version of Arjovsky, Shah & Bengio (2016, arXiv 1511.06464), "hochreiter" that of
    Hochreiter & Schmidhuber (1997, Neural Computation 9, section 5.4), in which the marker of the
    first and of the last step is −1, and "pascanu" that of Pascanu, Mikolov & Bengio (2013, arXiv
    1211.5063). The last two papers draw the length up to a tenth above T; here it is T. Hochreiter
    & Schmidhuber count a marked first pair as 0; here the first pair is never marked.

    The baseline is the variance of the target, the error of the best constant, which the literature
    calls chance. The floor is 0. Solved means a mean squared error of at most a hundredth of the
    baseline: where that is 1/24, a root mean squared error of .02. Hochreiter & Schmidhuber ask for
    an absolute error below .04 in each sequence.

    >>> import jax
    >>> task = adding(50)
    >>> batch = task.sample(jax.random.key(0), 4)
    >>> batch.xs.shape, batch.targets.shape, round(task.baseline(), 4)
    ((50, 4, 2), (4,), 0.1667)

    Args:
        length: T, the steps of a sequence; at least 2, 6 for "hochreiter", 10 for "pascanu".
        scaling: "sum", "hochreiter" or "pascanu".

    Raises:
        ValueError: for a length below that, and an unknown scaling.
    """
    return Adding(length, scaling)


def multiplication(length: int = 200) -> Multiplication:
    """The multiplication problem: the product of two marked numbers among T.

    xs ``[T, B, 2]``: channel 0 is a uniform number in [0, 1), channel 1 is 1 at two steps, one in
    each half of T, and 0 elsewhere. targets ``[B]``: x₁ x₂ (Hochreiter & Schmidhuber 1997, Neural
    Computation 9, section 5.5, with the positions of :func:`adding`).

    The baseline is the variance of the target, E[x²]² − E[x]⁴ = 7/144, the error of the best
    constant. The floor is 0. Solved means a mean squared error of at most a hundredth of the
    baseline.

    >>> import jax
    >>> task = multiplication(50)
    >>> batch = task.sample(jax.random.key(0), 4)
    >>> batch.xs.shape, round(task.baseline(), 4)
    ((50, 4, 2), 0.0486)

    Args:
        length: T, the steps of a sequence, at least 2.

    Raises:
        ValueError: for a length below 2.
    """
    return Multiplication(length)
