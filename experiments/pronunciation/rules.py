"""Spelling rules as baselines: the usual sound of a letter, alone or between its neighbours.

In training each letter of a word gets no phoneme, one or two, by the most likely alignment, whose
probabilities P(phonemes | letter) are estimated in turn with it (Viterbi training). A rule is then
the most frequent sound of a letter in a window of its neighbours; where training has not seen the
window often enough, a narrower one decides.
"""

import collections
import itertools
import math
from collections.abc import Callable, Sequence

from experiments.pronunciation.data import Lexicon, Phonemes

MOST = 2
"""Phonemes of one letter."""
ITERATIONS = 4
UNSEEN = -12.0
"""The log-probability of a sound that a letter did not have yet."""

Aligned = list[tuple[str, list[Phonemes]]]
"""Words, and the phonemes of each letter."""
Speak = Callable[[str], Phonemes]


def align(lexicon: Lexicon) -> Aligned:
    """The most likely sounds of the letters, for the usual pronunciation of each word.

    Words with more than two phonemes for each letter are left out.
    """
    # At first a letter has one phoneme rather than none or two, whatever it is.
    logs: dict[tuple[str, Phonemes], float] = {}
    aligned: Aligned = []
    for _ in range(ITERATIONS):
        aligned = []
        for word, variants in zip(*lexicon, strict=True):
            sounds = best_alignment(word, variants[0], logs)
            if sounds is not None:
                aligned.append((word, sounds))
        pairs: collections.Counter[tuple[str, Phonemes]] = collections.Counter()
        for word, sounds in aligned:
            pairs.update(zip(word, sounds, strict=True))
        letters = collections.Counter(letter for word, _ in aligned for letter in word)
        logs = {pair: math.log(count / letters[pair[0]]) for pair, count in pairs.items()}
    return aligned


def best_alignment(
    word: str, phonemes: Phonemes, logs: dict[tuple[str, Phonemes], float]
) -> list[Phonemes] | None:
    """The phonemes of each letter with the largest Σ ln P; None where there are too many."""
    best: dict[int, tuple[float, list[Phonemes]]] = {0: (0.0, [])}
    for place, letter in enumerate(word):
        after: dict[int, tuple[float, list[Phonemes]]] = {}
        left = len(word) - place - 1
        for used, (score, sounds) in best.items():
            for size in range(MOST + 1):
                end = used + size
                if end > len(phonemes) or len(phonemes) - end > MOST * left:
                    continue
                sound = phonemes[used:end]
                unseen = UNSEEN if logs else -float(size != 1)
                total = score + logs.get((letter, sound), unseen)
                if end not in after or total > after[end][0]:
                    after[end] = (total, [*sounds, sound])
        best = after
    return best[len(phonemes)][1] if len(phonemes) in best else None


def windows(width: int) -> list[tuple[int, int]]:
    """Letters before and after, from the widest window to none: (2, 2), (1, 2), (1, 1), …"""
    sizes = []
    for side in range(width, 0, -1):
        sizes += [(side, side), (side - 1, side)]
    return [*sizes, (0, 0)]


def seen(word: str, place: int, before: int, after: int) -> str:
    """The letters around a place, with spaces beyond the word."""
    padded = " " * before + word + " " * after
    return padded[place : place + before + 1 + after]


Tables = dict[tuple[int, int], dict[str, collections.Counter[Phonemes]]]
"""How often a letter has each sound, by its window, for each size of windows."""


def count(aligned: Aligned, width: int) -> Tables:
    """The sounds in all windows up to a width."""
    tables: Tables = {}
    for sides in windows(width):
        table = tables.setdefault(sides, collections.defaultdict(collections.Counter))
        for word, sounds in aligned:
            for place, sound in enumerate(sounds):
                table[seen(word, place, *sides)][sound] += 1
    return tables


def rules(tables: Tables, width: int, least: int) -> Speak:
    """The most frequent sound in the widest window that was seen at least so often."""
    chosen: dict[tuple[int, int], dict[str, Phonemes]] = {}
    for sides in windows(width):
        needed = 1 if sides == (0, 0) else least
        usual = {}
        for letters, sounds in tables[sides].items():
            if sounds.total() >= needed:
                usual[letters] = sounds.most_common(1)[0][0]
        chosen[sides] = usual

    def sound(word: str, place: int) -> Phonemes:
        for sides, table in chosen.items():
            found = table.get(seen(word, place, *sides))
            if found is not None:
                return found
        return ()

    def speak(word: str) -> Phonemes:
        return tuple(itertools.chain.from_iterable(sound(word, i) for i in range(len(word))))

    return speak


def best_rules(
    tables: Tables,
    error_rate: Callable[[Speak], float],
    widths: Sequence[int],
    least: Sequence[int],
) -> tuple[Speak, dict[str, int]]:
    """The rules with the lowest error rate, and their settings."""
    settings = list(itertools.product(widths, least))
    rates = [error_rate(rules(tables, *setting)) for setting in settings]
    width, needed = settings[rates.index(min(rates))]
    return rules(tables, width, needed), {"neighbours": width, "seen at least": needed}
