"""Word detection: is this letter the last one of a given word?"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.tasks.base import Kind, Task
from rnnlab.tasks.entropy import conditional_entropy
from rnnlab.tasks.planting import WordRates, word_rates
from rnnlab.typing import Array, Key


@dataclasses.dataclass(frozen=True)
class WordDetection(Task):
    """Where a word ends in a stream of letters; see :func:`word_detection`.

    Attributes:
        word: L letters.
        length: T, the number of letters in a stream.
        planted: the probability that a word begins at a step outside of planted words.
        misspelled: the probability that a letter of a planted word is wrong.
        others: letters of the alphabet besides those of the word.
    """

    kind: ClassVar[Kind] = "class each step"

    word: str
    length: int
    planted: float
    misspelled: float
    others: str

    def __post_init__(self) -> None:
        _check_letters(self.word, self.others)
        self._store(length=_check.positive_int("length", self.length))
        if self.length < len(self.word):
            raise ValueError(
                f"length is {self.length}, too short for {self.word!r}; give at least "
                f"{len(self.word)}"
            )
        self._store(
            planted=float(_check.fraction("planted", self.planted, closed=True)),
            misspelled=float(_check.fraction("misspelled", self.misspelled, closed=False)),
        )

    @property
    def alphabet(self) -> tuple[str, ...]:
        """The V letters, code by code."""
        return tuple(sorted({*self.word, *self.others}))

    @property
    def codes(self) -> tuple[int, ...]:
        """The word as codes."""
        return tuple(map(self.alphabet.index, self.word))

    @property
    def steps(self) -> int:
        return self.length

    @property
    def lag(self) -> int:
        return len(self.word) - 1

    @property
    def vocabulary_size(self) -> int:
        return len(self.alphabet)

    @property
    def outputs(self) -> int:
        return 2

    def draw(self, key: Key, batch_size: int) -> Batch:
        """``batch_size`` streams, each of which begins outside of a planted word."""
        k_start, k_letter, k_wrong, k_shift = jax.random.split(key, 4)
        shape = (self.length, batch_size)
        size = self.vocabulary_size
        starts = jax.random.uniform(k_start, shape, jnp.float32) < self.planted
        letters = jax.random.randint(k_letter, shape, 0, size, jnp.int32)
        is_wrong = jax.random.uniform(k_wrong, shape, jnp.float32) < self.misspelled
        # Never 0 modulo V, so that a wrong letter is another one.
        shifts = jax.random.randint(k_shift, shape, 1, size, jnp.int32)
        places = _places(starts, len(self.word))
        planted = jnp.asarray(self.codes, jnp.int32)[jnp.maximum(places, 0)]
        planted = jnp.where(is_wrong, (planted + shifts) % size, planted)
        xs = jnp.where(places < 0, letters, planted)
        return Batch(xs, self.detect(xs))

    def detect(self, xs: Array) -> Array:
        """The targets of codes ``xs [T, B]``: 1 where the last letters are the word, else 0."""
        steps = xs.shape[0]
        # No letter is −1, so no word ends before it is complete.
        before = jnp.full((len(self.word) - 1, *xs.shape[1:]), -1, jnp.int32)
        letters = jnp.concatenate([before, xs])
        is_word = jnp.ones(xs.shape, bool)
        for place, code in enumerate(self.codes):
            is_word &= letters[place : place + steps] == code
        return is_word.astype(jnp.int32)

    def positive_rate(self) -> float:
        """The exact expected share of steps whose target is 1."""
        return float(self._rates().joint[:, 1].sum())

    def accidental_rate(self) -> float:
        """The part of :meth:`positive_rate` that was not planted there, letter for letter.

        In a stream of random letters alone it would be V^−L at each step from the L-th on.
        """
        return self.positive_rate() - self._rates().planted

    def baseline(self) -> float:
        """H(yₜ | xₜ) in nats, averaged over the steps; see :func:`word_detection`."""
        return conditional_entropy(self._rates().joint)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Whether the loss is at most a hundredth of the baseline."""
        return self.is_near_floor(metrics)

    def _rates(self) -> WordRates:
        size = self.vocabulary_size
        return word_rates(self.codes, size, self.length, self.planted, self.misspelled)


def _check_letters(word: object, others: object) -> None:
    if not isinstance(word, str) or len(word) < 2:
        raise ValueError(f"word is {_check.brief(word)}; give a string of at least two letters")
    if not isinstance(others, str):
        raise ValueError(
            f"others is {_check.brief(others)}; give a string of further letters, such as 'BEFG'"
        )
    if len({*word, *others}) < 2:
        raise ValueError(
            f"word is {word!r}, and no stream of this one letter is random; give others, such as "
            "'BEFG'"
        )


def _places(starts: Array, letters: int) -> Array:
    """Which letter of a planted word each step holds, ``[T, B]``; −1 outside of planted words.

    Args:
        starts: ``[T, B]``, whether a word begins if the step is outside of another one.
        letters: L, the length of the word.
    """

    def step(place: Array, start: Array) -> tuple[Array, Array]:
        is_inside = (place >= 0) & (place < letters - 1)
        first = jnp.where(start, 0, -1).astype(jnp.int32)
        place = jnp.where(is_inside, place + 1, first)
        return place, place

    outside = jnp.full(starts.shape[1:], -1, jnp.int32)
    _, places = jax.lax.scan(step, outside, starts)
    return places


def word_detection(
    word: str = "UDACITY",
    length: int = 50,
    *,
    planted: float = 0.2,
    misspelled: float = 0.1,
    others: str = "",
) -> WordDetection:
    """A stream of letters: tell at each step whether the word ends here.

    Inputs are codes ``[T, B]`` of the letters of ``task.alphabet``, T = ``length``. Targets
    ``[T, B]`` are 1 where the last L letters are the word and 0 elsewhere; all count.

    At each step outside of planted words, a word begins with probability ``planted``, and otherwise
    the letter is uniform. Each letter of a planted word is another one with probability
    ``misspelled``, so that all L letters matter. The end of the stream may cut a word off. A word
    that comes about in any other way counts as well, with probability ``task.accidental_rate()`` at
    a step; all words have ``task.positive_rate()``. Both are exact, from the Markov chain of
    planted letters and the automaton of the word (Knuth, Morris & Pratt 1977, "Fast pattern
    matching in strings", SIAM Journal on Computing 6).

    The baseline is H(yₜ | xₜ), the loss of the best predictor that sees only the letter. A word can
    end only in its last letter, so this is P(last) H(P(word) / P(last)), where P are probabilities
    averaged over the steps and H(p) = −p ln p − (1 − p) ln(1 − p). The floor is 0. Solved is a loss
    of at most a hundredth of the baseline: an accuracy of .99 needs fewer than L letters.

    >>> import jax
    >>> task = word_detection("UDACITY", 50)
    >>> task.sample(jax.random.key(0), 8).xs.shape, task.alphabet
    ((50, 8), ('A', 'C', 'D', 'I', 'T', 'U', 'Y'))
    >>> from rnnlab.data import encode_with
    >>> text = encode_with("UDACITYU", {}, task.alphabet)
    >>> task.detect(text.codes[:, None])[:, 0].tolist()
    [0, 0, 0, 0, 0, 0, 1, 0]

    Args:
        word: L ≥ 2 letters.
        length: T ≥ L, the steps.
        planted: the probability that a word begins, above 0 and at most 1.
        misspelled: the probability that a letter of a planted word is wrong, below 1.
        others: letters of the alphabet besides those of the word.

    Raises:
        ValueError: for arguments outside of these ranges, and an alphabet of one letter.
    """
    return WordDetection(word, length, planted, misspelled, others)
