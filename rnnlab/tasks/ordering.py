"""The temporal order problem: in which order did the relevant symbols come?"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.tasks.base import Kind, Task
from rnnlab.typing import Array, Key

WINDOWS = {2: (10, 50), 3: (10, 33, 66)}
"""Where the window of each relevant symbol begins, in percent of T; it is T/10 wide."""

RELEVANT, DISTRACTORS = 2, 4


@dataclasses.dataclass(frozen=True)
class TemporalOrder(Task):
    """The temporal order problem; see :func:`temporal_order`.

    Attributes:
        length: T.
        symbols: the number of relevant symbols in a sequence, 2 or 3.
    """

    kind: ClassVar[Kind] = "classes"

    length: int
    symbols: int

    def __post_init__(self) -> None:
        self._store(
            length=_check.at_least("length", self.length, 10),
            symbols=_check.positive_int("symbols", self.symbols),
        )
        if self.symbols not in WINDOWS:
            raise ValueError(
                f"symbols is {self.symbols}; give 2 or 3, the numbers of the experiments"
            )

    @property
    def steps(self) -> int:
        return self.length

    @property
    def lag(self) -> int:
        return self.length - 1 - self.starts[0]

    @property
    def vocabulary_size(self) -> int:
        return RELEVANT + DISTRACTORS

    @property
    def outputs(self) -> int:
        return RELEVANT**self.symbols

    @property
    def starts(self) -> tuple[int, ...]:
        """The first step of each window."""
        return tuple(percent * self.length // 100 for percent in WINDOWS[self.symbols])

    def draw(self, key: Key, batch_size: int) -> Batch:
        k_positions, k_relevant, k_distractors = jax.random.split(key, 3)
        size = (self.symbols, batch_size)
        relevant = jax.random.randint(k_relevant, size, 0, RELEVANT, dtype=jnp.int32)
        shape = (self.length, batch_size)
        xs = jax.random.randint(
            k_distractors, shape, RELEVANT, RELEVANT + DISTRACTORS, dtype=jnp.int32
        )
        steps = jnp.arange(self.length, dtype=jnp.int32)[:, None]
        positions = self._positions(k_positions, batch_size)
        for position, symbol in zip(positions, relevant, strict=True):
            xs = jnp.where(steps == position, symbol, xs)
        place_values = RELEVANT ** jnp.arange(self.symbols, dtype=jnp.int32)
        targets = jnp.sum(place_values[:, None] * relevant, axis=0, dtype=jnp.int32)
        return Batch(xs, targets)

    def _positions(self, key: Key, batch_size: int) -> Array:
        """The steps of the relevant symbols, ``[symbols, B]``."""
        size = (self.symbols, batch_size)
        offsets = jax.random.randint(key, size, 0, self.length // 10, dtype=jnp.int32)
        return jnp.array(self.starts, jnp.int32)[:, None] + offsets

    def baseline(self) -> float:
        return math.log(self.outputs)


def temporal_order(length: int = 100, symbols: int = 2) -> TemporalOrder:
    """The temporal order problem: which of A and B came first, second and third?

    xs ``[T, B]``: codes; A is 0, B is 1, and the distractors c, d, e, f are 2 to 5. One relevant
    symbol, A or B, stands at a uniform position in each of 2 or 3 windows that are T/10 wide;
    random distractors fill the other steps. The windows begin at T/10 and T/2 for two symbols, and
    at .1, .33 and .66 of T for three. targets ``[B]``: the class v₀ + 2 v₁ (+ 4 v₂), where v is 0
    for A and 1 for B.

    These are experiments 6a and 6b of Hochreiter & Schmidhuber (1997, Neural Computation 9) in the
    form of Pascanu, Mikolov & Bengio (2013, arXiv 1211.5063), with a fixed length and without
    symbols for the start and the end.

    The baseline is ln 4, and ln 8 for three symbols, that of equal probabilities, which the
    literature calls chance. The floor is 0. Solved means an accuracy of at least .99: Pascanu et
    al. ask for an error below 1 %.

    >>> import jax
    >>> task = temporal_order(100, symbols=3)
    >>> batch = task.sample(jax.random.key(0), 4)
    >>> batch.xs.shape, batch.targets.shape, round(task.baseline(), 4)
    ((100, 4), (4,), 2.0794)

    Args:
        length: T, the steps of a sequence, at least 10.
        symbols: the number of relevant symbols, 2 or 3.

    Raises:
        ValueError: for a length below 10, and another number of symbols.
    """
    return TemporalOrder(length, symbols)
