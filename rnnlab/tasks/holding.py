"""The flip-flop task: hold the sign of the last pulse of each channel."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.tasks.base import Kind, Task
from rnnlab.typing import Array, Key


@dataclasses.dataclass(frozen=True)
class FlipFlop(Task):
    """The flip-flop task; see :func:`flip_flop`.

    Attributes:
        length: T.
        bits: the number of channels.
        probability: that of a pulse, at each step of each channel.
    """

    kind: ClassVar[Kind] = "numbers each step"

    length: int
    bits: int
    probability: float

    def __post_init__(self) -> None:
        self._store(
            length=_check.at_least("length", self.length, 2),
            bits=_check.positive_int("bits", self.bits),
            probability=float(_check.fraction("probability", self.probability, closed=False)),
        )

    @property
    def steps(self) -> int:
        return self.length

    @property
    def input_size(self) -> int:
        return self.bits

    @property
    def outputs(self) -> int:
        return self.bits

    def draw(self, key: Key, batch_size: int) -> Batch:
        k_time, k_sign = jax.random.split(key)
        shape = (self.length, batch_size, self.bits)
        has_pulse = jax.random.bernoulli(k_time, jnp.float32(self.probability), shape)
        # The value that an output holds is defined from the first step on.
        has_pulse = has_pulse.at[0].set(True)
        is_up = jax.random.bernoulli(k_sign, jnp.float32(0.5), shape)
        signs = jnp.where(is_up, jnp.float32(1), jnp.float32(-1))
        xs = jnp.where(has_pulse, signs, 0)
        return Batch(xs, jax.lax.associative_scan(_hold, xs))

    def baseline(self) -> float:
        # Without a pulse, 0 is best and its squared error is 1.
        return (1 - self.probability) * (self.length - 1) / self.length


def _hold(old: Array, new: Array) -> Array:
    return jnp.where(new == 0, old, new)


def flip_flop(length: int = 64, bits: int = 3, probability: float = 0.5) -> FlipFlop:
    """The flip-flop task: each output holds the last pulse of its channel.

    xs ``[T, B, bits]``: each channel has a pulse of +1 or −1, equally likely, with
    ``probability`` at each step, and 0 elsewhere; every channel has a pulse at the first step.
    targets ``[T, B, bits]``: the last pulse of the channel, that of the step itself included
    (Sussillo & Barak 2013, Neural Computation 25).

    The baseline is (1 − probability)(T − 1)/T: a predictor that sees only the current input is
    right where a pulse is present; elsewhere 0 is best, with a squared error of 1. The floor is 0.
    Solved means a mean squared error of at most a hundredth of the baseline.

    >>> import jax
    >>> task = flip_flop(64, bits=3)
    >>> batch = task.sample(jax.random.key(0), 4)
    >>> batch.xs.shape, batch.targets.shape, round(task.baseline(), 4)
    ((64, 4, 3), (64, 4, 3), 0.4922)

    Args:
        length: T, the steps of a sequence, at least 2.
        bits: the number of channels.
        probability: that of a pulse, in [0, 1); at 0 only that of the first step is left.

    Raises:
        ValueError: for a length below 2, no bits and a probability outside [0, 1).
    """
    return FlipFlop(length, bits, probability)
