"""The embedded Reber grammar: the last symbol but one repeats the second."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.tasks.base import Kind, Task
from rnnlab.tasks.entropy import conditional_entropy
from rnnlab.tasks.legality import legal_first
from rnnlab.tasks.reber_grammar import (
    END,
    FOLLOW,
    ILLEGAL,
    NEXT,
    SHORTEST,
    SYMBOL,
    SYMBOLS,
    bigrams,
    grammar,
    symbols_by_state,
)
from rnnlab.typing import Array, Key


@dataclasses.dataclass(frozen=True)
class EmbeddedReber(Task):
    """Strings of the embedded Reber grammar; see :func:`embedded_reber`.

    Attributes:
        max_length: the largest number of symbols in a string.
    """

    kind: ClassVar[Kind] = "class each step"

    max_length: int

    def __post_init__(self) -> None:
        self._store(max_length=_check.at_least("max_length", self.max_length, SHORTEST))

    @property
    def steps(self) -> int:
        return self.max_length - 1

    @property
    def lag(self) -> int:
        # The second symbol, at step 1, is the target of step max_length − 3.
        return self.max_length - 4

    @property
    def vocabulary_size(self) -> int:
        return len(SYMBOLS)

    @property
    def outputs(self) -> int:
        return len(SYMBOLS)

    def draw(self, key: Key, batch_size: int) -> Batch:
        """``batch_size`` strings of at most ``max_length`` symbols."""
        chances = jnp.asarray(grammar(self.max_length).choice[:, :, 1], jnp.float32)
        uniforms = jax.random.uniform(key, (self.max_length, batch_size), jnp.float32)
        symbols, nexts = jnp.asarray(SYMBOL), jnp.asarray(NEXT)

        def step(state: Array, inputs: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
            chance, uniform = inputs
            arc = (uniform < chance[state]).astype(jnp.int32)
            return nexts[state, arc], (symbols[state, arc], state != END)

        start = jnp.zeros(batch_size, jnp.int32)
        _, (codes, is_symbol) = jax.lax.scan(step, start, (chances, uniforms))
        # The last symbol is a target only.
        lengths = jnp.sum(is_symbol[1:], axis=0, dtype=jnp.int32)
        return Batch(codes[:-1], codes[1:], mask=is_symbol[1:], lengths=lengths)

    def baseline(self) -> float:
        """H(next symbol | symbol) in nats, averaged over the targets."""
        return conditional_entropy(bigrams(self.max_length))

    def floor(self) -> float:
        """The entropy of a string, divided by the mean number of its targets, in nats."""
        return conditional_entropy(symbols_by_state(self.max_length))

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Whether "passed" is 1; without it, whether the loss is near the floor.

        "passed" is the share of strings that pass the criterion of the paper, the mean of
        :func:`passed`. Near the floor is a hundredth of the baseline above it at most.
        """
        if "passed" in metrics:
            return metrics["passed"] >= 1.0
        return self.is_near_floor(metrics)


def legal(codes: Array) -> Array:
    """The symbols that may follow each prefix of strings, ``[T, ..., 7]`` booleans.

    None follows a whole string, nor a prefix that is not of the grammar.

    >>> after_b = legal(jnp.array([0]))[0]
    >>> [symbol for symbol, is_legal in zip(SYMBOLS, after_b, strict=True) if is_legal]
    ['T', 'P']

    Args:
        codes: ``[T, ...]``, whole numbers in 0..6.

    Raises:
        ValueError: for codes that are not whole numbers.
    """
    codes = _check.codes("codes", codes)
    follow = jnp.asarray(FOLLOW)

    def step(state: Array, code: Array) -> tuple[Array, Array]:
        state = follow[state, code]
        return state, follow[state] != ILLEGAL

    start = jnp.zeros(codes.shape[1:], jnp.int32)
    _, is_legal = jax.lax.scan(step, start, codes)
    return is_legal


def passed(logits: Array, batch: Batch) -> Array:
    """Which strings a network predicts correctly, ``[B]`` booleans.

    At every step that counts, the logits of all legal next symbols must be larger than those of all
    others (Hochreiter & Schmidhuber 1997, on 256 training and 256 unseen strings).

    >>> batch = embedded_reber().sample(jax.random.key(0), 256)
    >>> passed(legal(batch.xs).astype(float), batch).all().item()
    True

    Args:
        logits: ``[T, B, 7]``, what a tagger gives.
        batch: from :meth:`EmbeddedReber.sample`.

    Raises:
        ValueError: for logits of another shape.
    """
    return legal_first(logits, legal(batch.xs), batch.mask)


def embedded_reber(max_length: int = 40) -> EmbeddedReber:
    """Strings of the embedded Reber grammar: predict the next symbol at each step.

    A string is B, then T or P, a string of Reber's grammar, the same T or P again, and E
    (Hochreiter & Schmidhuber 1997, "Long short-term memory", Neural Computation 9, section 5.1).
    Where two symbols are legal, each has probability ½. Strings have 9 symbols at least, 12 on
    average, and can be of any length; those of more than ``max_length`` symbols, one in 787 at 30
    and one in 17 639 at 40, are left out, as if they were drawn again. This is exact and has no
    loop of unknown length: near the limit the choices have the probabilities that they have in
    strings that end in time.

    Inputs are codes ``[T, B]``, T = max_length − 1: all symbols of a string but the last, padded.
    Targets ``[T, B]`` are the symbols one step later; those of the string count (``mask`` and
    ``lengths``). The codes are those of ``SYMBOLS``, B T P S X V E. The longest lag is that from
    the second symbol to its repetition.

    The baseline is H(next symbol | symbol) from exact counts of pairs in a string, the floor the
    entropy of a string divided by the mean number of targets, both in nats for a target. A network
    that only forgets the second symbol is above the floor by ln 2 nats for each string.

    Solved is a network that ranks all legal symbols before all others at each step of all of 256
    unseen strings, where metrics hold "passed", the mean of :func:`passed`. From the loss alone, it
    is at most the floor plus a hundredth of the baseline, a fifth of what forgetting the second
    symbol costs, on a thousand strings or more.

    >>> import jax, rnnlab
    >>> task = embedded_reber()
    >>> batch = task.sample(jax.random.key(0), 32)
    >>> text = rnnlab.data.decode(batch.xs[: batch.lengths[0], 0], SYMBOLS)
    >>> text[1] == text[-1]
    True

    Args:
        max_length: the largest number of symbols, at least 9.

    Raises:
        ValueError: for a ``max_length`` below 9.
    """
    return EmbeddedReber(max_length)
