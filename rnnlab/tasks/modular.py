"""Counting modulo m: parity and sums of digits, at any length."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.tasks.base import Kind, Task
from rnnlab.tasks.entropy import conditional_entropy
from rnnlab.typing import Array, Key


@dataclasses.dataclass(frozen=True)
class ModularCounting(Task):
    """The sum of all digits modulo m; see :func:`modular_counting`.

    Attributes:
        length: T, the number of digits.
        modulus: m, and the number of different digits.
    """

    kind: ClassVar[Kind] = "classes"

    length: int
    modulus: int

    def __post_init__(self) -> None:
        self._store(
            length=_check.positive_int("length", self.length),
            modulus=_check.at_least("modulus", self.modulus, 2),
        )

    @property
    def steps(self) -> int:
        return self.length

    @property
    def vocabulary_size(self) -> int:
        return self.modulus

    @property
    def outputs(self) -> int:
        return self.modulus

    def draw(self, key: Key, batch_size: int) -> Batch:
        """``batch_size`` strings of uniform digits."""
        shape = (self.length, batch_size)
        xs = jax.random.randint(key, shape, 0, self.modulus, jnp.int32)
        return Batch(xs, self._count(xs))

    def _count(self, xs: Array) -> Array:
        return jnp.sum(xs, axis=0, dtype=jnp.int32) % self.modulus

    def baseline(self) -> float:
        """ln m: the sum is uniform; 0 for one digit, which is the sum itself."""
        return math.log(self.modulus) if self.length > 1 else 0.0


@dataclasses.dataclass(frozen=True)
class RunningModularCounting(ModularCounting):
    """The sum so far modulo m, at each step; see :func:`modular_counting`."""

    kind: ClassVar[Kind] = "class each step"

    def _count(self, xs: Array) -> Array:
        return jnp.cumsum(xs, axis=0, dtype=jnp.int32) % self.modulus

    def baseline(self) -> float:
        """H(yₜ | xₜ): slightly below ln m, since y₁ = x₁; see :func:`modular_counting`."""
        first = 1 / self.length
        # yₜ − xₜ mod m, which xₜ says nothing about: 0 at the first step, uniform at all others.
        earlier = [(1 - first) / self.modulus] * self.modulus
        earlier[0] += first
        return conditional_entropy([earlier])


def modular_counting(
    length: int = 40, modulus: int = 5, *, each_step: bool = False
) -> ModularCounting:
    """The sum of random digits modulo m, at the end or so far.

    Inputs are codes ``[T, B]``, uniform digits 0..m − 1, T = ``length``. Targets are y = Σₜ xₜ mod
    m, ``[B]``, or with ``each_step`` yₜ = Σ_{s ≤ t} xₛ mod m, ``[T, B]``; all count.

    At the end the baseline is ln m, that of a constant. At each step it is the best predictor's
    that sees only xₜ and does not know t: y₁ = x₁, but later sums are independent of the digit, so
    yₜ = xₜ has probability p = 1/T + (1 − 1/T)/m, any other sum q = (1 − 1/T)/m, and the baseline
    is −p ln p − (m − 1) q ln q. The floor is 0; solved is an accuracy of .99.

    What matters is a length that training did not hold: ``dataclasses.replace(task, length=256)``.
    Delétang et al. 2023 (arXiv 2207.02098) train on lengths up to 40 and test up to 500; a linear
    recurrence with eigenvalues in [0, 1] cannot count at such lengths, one with −1 or complex
    eigenvalues can (Grazzi et al. 2024, arXiv 2411.12537).

    >>> import dataclasses, jax
    >>> task = modular_counting(length=40, modulus=5)
    >>> longer = dataclasses.replace(task, length=256)
    >>> longer.sample(jax.random.key(0), 8).xs.shape, round(longer.baseline(), 4)
    ((256, 8), 1.6094)

    Args:
        length: T.
        modulus: m, at least 2.
        each_step: whether there is a target at each step rather than at the end.

    Raises:
        ValueError: for a length below 1 and a modulus below 2.
    """
    _check.flag("each_step", each_step)
    if each_step:
        return RunningModularCounting(length, modulus)
    return ModularCounting(length, modulus)


def parity(length: int = 40, *, each_step: bool = False) -> ModularCounting:
    """Whether the number of ones among random bits is odd, at the end or so far.

    It is :func:`modular_counting` with m = 2: inputs are bits ``[T, B]``, targets ``[B]``, or
    ``[T, B]`` with ``each_step``. The baseline is ln 2 at the end.

    >>> import jax
    >>> batch = parity(3, each_step=True).sample(jax.random.key(0), 2)
    >>> (batch.xs.cumsum(0) % 2 == batch.targets).all().item()
    True

    Raises:
        ValueError: for a length below 1.
    """
    return modular_counting(length, 2, each_step=each_step)
