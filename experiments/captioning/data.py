"""Images of one digit or of two, and the spelled names of their numbers."""

from typing import NamedTuple

import numpy as np

from rnnlab.data import Batch
from rnnlab.tasks import digits

UNITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen")
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
LETTERS = "\n-abcdefghijklmnopqrstuvwxyz"
"""What is written; the first stands before a name and ends it."""

END = 0
SIDE = 8
"""Pixels of a digit's height and width."""

UNSEEN = tuple(10 * tens + (3 * tens + shift) % 9 + 1 for tens in range(2, 10) for shift in (0, 4))
"""Numbers that are never learned from, two of each row of ten from 20 to 99."""


class Images(NamedTuple):
    """N images and their numbers.

    Attributes:
        pixels: ``[N, 8, W]``, 0 to 1, 1 for ink.
        numbers: ``[N]``.
    """

    pixels: np.ndarray
    numbers: np.ndarray

    @property
    def vectors(self) -> np.ndarray:
        """``[N, 8 · W]``."""
        return self.pixels.reshape(len(self.pixels), -1)

    @property
    def columns(self) -> np.ndarray:
        """The columns from left to right, ``[W, N, 8]``."""
        return np.moveaxis(self.pixels, 2, 0)


class Parts(NamedTuple):
    """Made of different images of digits; "unseen" has numbers that are not in training."""

    training: Images
    validation: Images
    test: Images
    unseen: Images | None = None


def name(number: int) -> str:
    """The English name of a number below 100.

    >>> name(47)
    'forty-seven'
    """
    if number < 10:
        return UNITS[number]
    if number < 20:
        names = (*TEENS, "eighteen", "nineteen")
        return names[number - 10]
    tens, unit = divmod(number, 10)
    return TENS[tens - 2] + (f"-{UNITS[unit]}" if unit else "")


def one_digit() -> Parts:
    """The digits of scikit-learn; of each digit every fifth training image is for validation."""
    training, test = _images("train"), _images("test")
    place = np.zeros(len(training.numbers), int)
    for digit in range(10):
        is_digit = training.numbers == digit
        place[is_digit] = np.arange(is_digit.sum())
    is_held_out = place % 5 == 4
    return Parts(_chosen(training, ~is_held_out), _chosen(training, is_held_out), test)


def two_digits(counts: tuple[int, int]) -> Parts:
    """Two images side by side: so many for training, and for each of the other parts."""
    single = one_digit()
    random = np.random.default_rng(0)
    seen = np.setdiff1d(np.arange(10, 100), UNSEEN)
    return Parts(
        _pairs(single.training, seen, counts[0], random),
        _pairs(single.validation, seen, counts[1], random),
        _pairs(single.test, seen, counts[1], random),
        _pairs(single.test, np.array(UNSEEN), counts[1], random),
    )


def _images(split: str) -> Images:
    batch = digits(split=split).examples()
    pixels = np.asarray(batch.xs)[..., 0].T.reshape(-1, SIDE, SIDE)
    return Images(pixels, np.asarray(batch.targets))


def _chosen(images: Images, which: np.ndarray) -> Images:
    return Images(images.pixels[which], images.numbers[which])


def _pairs(single: Images, numbers: np.ndarray, count: int, random: np.random.Generator) -> Images:
    places = [np.flatnonzero(single.numbers == digit) for digit in range(10)]
    drawn = random.choice(numbers, count)
    halves = []
    for written in (drawn // 10, drawn % 10):
        chosen = [random.choice(places[digit]) for digit in written]
        halves.append(single.pixels[chosen])
    return Images(np.concatenate(halves, axis=2), drawn)


def written(numbers: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The codes of the names and their end, ``[steps, N]``, and which of them count."""
    codes = np.full((steps, len(numbers)), END, np.int32)
    counts = np.zeros((steps, len(numbers)), bool)
    for column, number in enumerate(numbers):
        letters = [LETTERS.index(letter) for letter in name(number)]
        codes[: len(letters), column] = letters
        counts[: len(letters) + 1, column] = True
    return codes, counts


def spelled(codes: np.ndarray) -> list[str]:
    """The texts of codes ``[steps, N]``, each up to its end."""
    rows = ["".join(LETTERS[code] for code in column) for column in codes.T]
    return [row.split(LETTERS[END])[0] for row in rows]


def as_batch(images: Images, steps: int, by_column: bool) -> Batch:
    """Images with their names: columns ``[W, N, 8]``, or vectors ``[N, 8 · W]``."""
    codes, counts = written(images.numbers, steps)
    return Batch(images.columns if by_column else images.vectors, codes, mask=counts)
