"""Associative recall: the value that came with a key."""

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
class AssociativeRecall(Task):
    """The value of a key among pairs; see :func:`associative_recall`.

    Attributes:
        pairs: the number of pairs in a sequence.
        keys: the number of different keys.
        values: the number of different values.
    """

    kind: ClassVar[Kind] = "classes"

    pairs: int
    keys: int
    values: int

    def __post_init__(self) -> None:
        self._store(
            keys=_check.positive_int("keys", self.keys),
            values=_check.at_least("values", self.values, 2),
            pairs=_check.positive_int("pairs", self.pairs),
        )
        if self.pairs > self.keys:
            raise ValueError(
                f"pairs is {self.pairs}, but there are only {self.keys} keys, and each comes once; "
                "give fewer pairs, or more keys"
            )

    @property
    def steps(self) -> int:
        return 2 * self.pairs + 3

    @property
    def vocabulary_size(self) -> int:
        return self.keys + self.values + 1

    @property
    def outputs(self) -> int:
        return self.values

    def draw(self, key: Key, batch_size: int) -> Batch:
        """``batch_size`` sequences of pairs and a query."""
        k_key, k_value, k_query = jax.random.split(key, 3)
        all_keys = jnp.arange(self.keys, dtype=jnp.int32)[:, None]
        all_keys = jnp.broadcast_to(all_keys, (self.keys, batch_size))
        shuffled = jax.random.permutation(k_key, all_keys, axis=0, independent=True)
        keys = shuffled[: self.pairs]
        shape = (self.pairs, batch_size)
        values = jax.random.randint(k_value, shape, 0, self.values, jnp.int32)
        # key, value, key, value …
        pairs = jnp.stack([keys, self.keys + values], axis=1).reshape(-1, batch_size)
        asked = jax.random.randint(k_query, (1, batch_size), 0, self.pairs, jnp.int32)
        marks = jnp.full((2, batch_size), self.keys + self.values, jnp.int32)
        query = jnp.take_along_axis(keys, asked, axis=0)
        answer = jnp.take_along_axis(values, asked, axis=0)[0]
        return Batch(jnp.concatenate([pairs, marks, query]), answer)

    def baseline(self) -> float:
        """ln(values): the values are uniform."""
        return math.log(self.values)


def associative_recall(pairs: int = 4, *, keys: int = 26, values: int = 10) -> AssociativeRecall:
    """Pairs of a key and a value, then a key: give its value.

    As c9k8j3f1??c, whose answer is 9 (Ba et al. 2016, "Using fast weights to attend to the recent
    past", arXiv 1610.06258; Graves et al. 2014, arXiv 1410.5401, recall sequences of vectors).

    Inputs are codes ``[T, B]``, T = 2 pairs + 3: keys are 0 … keys − 1, values keys … keys + values
    − 1, and "?" is keys + values. The keys of an example differ from one another, and all values
    are independent and uniform; the query is one of the keys, each with the same probability.
    Targets ``[B]`` are the values without their offset, 0 … values − 1.

    The baseline is ln(values), that of a constant; the query alone says no more. The floor is 0.
    Solved is an accuracy of .99; the paper reports error rates.

    >>> import jax
    >>> batch = associative_recall(pairs=4).sample(jax.random.key(0), 2)
    >>> codes = batch.xs[:, 0].tolist()
    >>> codes[codes.index(codes[-1]) + 1] - 26 == batch.targets[0].item()
    True

    Args:
        pairs: the number of pairs, at most ``keys``.
        keys: the number of different keys.
        values: the number of different values, at least 2.

    Raises:
        ValueError: for arguments outside of these ranges.
    """
    return AssociativeRecall(pairs, keys, values)
