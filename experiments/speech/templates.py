"""Connected words by templates: one pass of dynamic time warping over all words at once."""

from collections.abc import Sequence

import numpy as np

SILENCE = -1
"""The label of the template of silence, which is not written."""


class Templates:
    """Examples of single words, one after the other as the states of one automaton.

    A frame stays in its state, goes on by one or two of the same template, or, after the end of a
    template, to the start of any, at the price of a penalty (Ney 1984, "The use of a one-stage
    dynamic programming algorithm for connected word recognition").
    """

    def __init__(self, examples: Sequence[np.ndarray], labels: Sequence[int]) -> None:
        """Templates ``[T, I]`` with their labels."""
        self.frames = np.concatenate(examples)
        sizes = np.array([len(example) for example in examples])
        self.ends = np.cumsum(sizes) - 1
        self.starts = self.ends - sizes + 1
        self.labels = np.array(labels)
        place = np.arange(len(self.frames)) - np.repeat(self.starts, sizes)
        self.can_move = [place >= 1, place >= 2]

    def __call__(self, frames: np.ndarray, penalty: float) -> list[int]:
        """The labels of a sound ``[T, I]``."""
        squares = np.sum(self.frames**2, axis=1)
        costs = np.sum(frames**2, axis=1)[:, None] - 2 * frames @ self.frames.T + squares
        total = np.full(len(squares), np.inf)
        total[self.starts] = costs[0, self.starts]
        # Where each state's template was entered, and which word ends best at each frame.
        entered = np.full(len(squares), -1)
        words, before = [], []
        for step in range(len(frames)):
            if step:
                total, entered = self._move(total, entered, penalty, step)
                total = total + costs[step]
            end = int(total[self.ends].argmin())
            words.append(int(self.labels[end]))
            before.append(int(entered[self.ends[end]]))
        return _trace(words, before)

    def _move(
        self, total: np.ndarray, entered: np.ndarray, penalty: float, step: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The least cost of reaching each state from the frame before, and where its word began."""
        options, origins = [total], [entered]
        for distance, is_possible in enumerate(self.can_move, 1):
            options.append(np.where(is_possible, np.roll(total, distance), np.inf))
            origins.append(np.roll(entered, distance))
        best = np.argmin(options, axis=0)
        rows = np.arange(len(total))
        reached, since = np.array(options)[best, rows], np.array(origins)[best, rows]
        new = total[self.ends].min() + penalty
        is_new = np.zeros(len(total), bool)
        is_new[self.starts] = new < reached[self.starts]
        return np.where(is_new, new, reached), np.where(is_new, step - 1, since)


def _trace(words: list[int], before: list[int]) -> list[int]:
    """The words on the best way to the last frame, without silence."""
    labels = []
    step = len(words) - 1
    while step >= 0:
        if words[step] != SILENCE:
            labels.append(words[step])
        step = before[step]
    return labels[::-1]
