"""Labels without a network: the most frequent one of a character, alone or in a window."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from experiments.labelling.data import Windows

Window = tuple[int, int]
"""How many characters before and after the one that is labelled."""

WIDTHS: tuple[Window, ...] = ((0, 0), (0, 1), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6))


Counts = dict[Window, dict[bytes, Counter[int]]]


class WindowTable:
    """The most frequent label in the widest window that training saw.

    Where it did not see a window often enough, the next narrower one decides, down to the character
    alone.
    """

    def __init__(self, counts: Counts, least: int) -> None:
        """From the labels of each window; those seen fewer than ``least`` times are left out."""
        self.tables: dict[Window, dict[bytes, int]] = {}
        for width, windows in counts.items():
            enough = 1 if width == (0, 0) else least
            self.tables[width] = {
                key: labels.most_common(1)[0][0]
                for key, labels in windows.items()
                if labels.total() >= enough
            }

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """The labels of characters ``[T, N]``; that of space for one that training did not see."""
        result = np.zeros(codes.shape, np.int32)
        for column in range(codes.shape[1]):
            # From narrow to wide: a wider window replaces what a narrower one says.
            for width, table in self.tables.items():
                for place, key in enumerate(_keys(codes[:, column], width)):
                    if key in table:
                        result[place, column] = table[key]
        return result


def count_labels(training: Windows, widths: Sequence[Window]) -> Counts:
    """How often each label is that of each window, from the narrowest to the widest."""
    counts: Counts = {}
    for width in sorted(widths):
        windows: defaultdict[bytes, Counter[int]] = defaultdict(Counter)
        for column in range(training.codes.shape[1]):
            labels = training.labels[:, column].tolist()
            keys = _keys(training.codes[:, column], width)
            for key, label in zip(keys, labels, strict=True):
                windows[key][label] += 1
        counts[width] = windows
    return counts


def _keys(codes: np.ndarray, width: Window) -> Iterator[bytes]:
    """The window around each character; beyond the ends is a code that no character has."""
    before, after = width
    around = np.pad(codes, width, constant_values=255).astype(np.uint8).tobytes()
    for place in range(len(codes)):
        yield around[place : place + before + 1 + after]


def majority(training: Windows) -> WindowTable:
    """The most frequent label of each character."""
    return WindowTable(count_labels(training, WIDTHS[:1]), 1)


def best_windows(
    training: Windows, validation: Windows, largest: int = len(WIDTHS)
) -> tuple[WindowTable, str]:
    """The widest window and the least count that validation prefers, and their names."""
    best = (-1.0, majority(training), "")
    counts = count_labels(training, WIDTHS[:largest])
    for before, after in WIDTHS[1:largest]:
        narrower = {width: counts[width] for width in counts if width <= (before, after)}
        for least in (1, 2, 4):
            table = WindowTable(narrower, least)
            accuracy = float(np.mean(table(validation.codes) == validation.labels))
            name = f"{before} before, {after} after, seen {least} times"
            best = max(best, (accuracy, table, name), key=lambda entry: entry[0])
    return best[1], best[2]
