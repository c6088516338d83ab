"""Exact probabilities of words in a stream of random letters into which the word is planted."""

import functools
from typing import NamedTuple

import numpy as np


class WordRates(NamedTuple):
    """Exact probabilities, averaged over the steps of a stream.

    Attributes:
        joint: ``[V, 2]``: of each letter, without and with the end of the word at it.
        planted: that a word ends which was planted without a wrong letter.
    """

    joint: np.ndarray
    planted: float


@functools.cache
def word_rates(
    word: tuple[int, ...], size: int, length: int, planted: float, misspelled: float
) -> WordRates:
    """The rates of a Markov chain: how far a planted word is, and how much of the word is matched.

    Args:
        word: L codes.
        size: V, the number of letters.
        length: T, the steps.
        planted: the probability that a word begins, at each step outside of planted words.
        misspelled: the probability that a letter of a planted word is another one.
    """
    letters = len(word)
    emission = _emission(word, size, planted, misspelled)
    # [matched before, letter, matched after], 1 where the automaton goes from one to the other.
    automaton = np.eye(letters + 1)[matches(word, size)]
    intact = planted * (1 - misspelled) ** letters
    # [planted letters so far, matched letters so far]
    state = np.zeros((letters, letters + 1))
    state[0, 0] = 1.0
    joint = np.zeros((size, 2))
    planted_words = 0.0
    for step in range(length):
        if step + letters <= length:
            planted_words += state[0].sum() * intact
        after = np.einsum("pm,pql,mln->qln", state, emission, automaton, optimize=True)
        joint[:, 0] += after[:, :, :letters].sum((0, 2))
        joint[:, 1] += after[:, :, letters].sum(0)
        state = after.sum(1)
    return WordRates(joint / length, planted_words / length)


def _emission(word: tuple[int, ...], size: int, planted: float, misspelled: float) -> np.ndarray:
    """``[L, L, V]``: probabilities of a letter, given the planted letters before and with it.

    Outside of planted words, and after the last letter of one, 0 letters are planted so far.
    """
    letters = len(word)
    spelled = np.full((letters, size), misspelled / (size - 1))
    spelled[np.arange(letters), word] = 1 - misspelled
    emission = np.zeros((letters, letters, size))
    emission[0, 0] = (1 - planted) / size
    emission[0, 1] = planted * spelled[0]
    for place in range(1, letters):
        emission[place, (place + 1) % letters] = spelled[place]
    return emission


def matches(word: tuple[int, ...], size: int) -> np.ndarray:
    """The automaton of a word (Knuth, Morris & Pratt 1977).

    ``table[m, x]`` is the length of the longest beginning of the word in which the text ends after
    the letter x, where it ended in m letters of the word before.

    >>> matches((0, 1, 0), 2).tolist()
    [[1, 0], [1, 2], [3, 0], [1, 2]]

    Args:
        word: L codes.
        size: V, the number of letters.

    Returns:
        ``[L + 1, V]``; L is the whole word.
    """
    table = np.zeros((len(word) + 1, size), np.int64)
    table[0, word[0]] = 1
    # The row that is reached without the first letter: where matching goes on after a mismatch.
    restart = 0
    for place in range(1, len(word)):
        table[place] = table[restart]
        table[place, word[place]] = place + 1
        restart = table[restart, word[place]]
    table[len(word)] = table[restart]
    return table
