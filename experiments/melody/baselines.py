"""The next token without a network: n-grams, and what followed the last time in the same tune."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rnnlab.data import ngram

LONGEST = 16
"""Tokens of a repeated passage that are told apart; longer ones count as such."""

WEIGHTS = np.linspace(0, 0.98, 99)
"""Those that are tried for the guess."""


class Repeats(NamedTuple):
    """For each target ``[N]``, the latest passage of its tune that is like the one before it.

    Attributes:
        lengths: of the passage, in tokens; 0 where nothing repeats.
        guesses: the token that followed it; −1 where nothing repeats.
        earlier: the place of that token among the targets; −1 where nothing repeats.
    """

    lengths: np.ndarray
    guesses: np.ndarray
    earlier: np.ndarray


def repeats(tunes: Sequence[np.ndarray]) -> Repeats:
    """The longest passages that came before, up to :data:`LONGEST`; the last of equal ones."""
    parts = []
    offset = 0
    for codes in tunes:
        lengths, places = _repeats_of(codes[:-1])
        guesses = np.where(places < 0, -1, codes[places + 1])
        parts.append((lengths, guesses, np.where(places < 0, -1, offset + places)))
        offset += len(codes) - 1
    return Repeats(*[np.concatenate(columns) for columns in zip(*parts, strict=True)])


def _repeats_of(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each place the length of the passage that ends there and before, and where it ended."""
    lengths = np.zeros(len(codes), int)
    places = np.full(len(codes), -1)
    # common[s]: how many tokens up to place s are those up to the current place.
    common = np.zeros(len(codes), int)
    for place in range(1, len(codes)):
        grown = np.concatenate([[0], common[: place - 1]]) + 1
        common[:place] = np.where(codes[:place] == codes[place], grown, 0)
        found = np.minimum(common[:place], LONGEST)
        if found.any():
            places[place] = place - 1 - np.argmax(found[::-1])
            lengths[place] = found[places[place]]
    return lengths, places


def with_repeats(probabilities: np.ndarray, found: Repeats, weights: np.ndarray) -> np.ndarray:
    """P of each token ``[N, V]``, mixed with the guess: w + (1 − w) P for it, else (1 − w) P.

    ``weights [LONGEST + 1]`` is w by the length of the passage; that of length 0 must be 0.
    """
    share = weights[found.lengths]
    mixed = probabilities * (1 - share)[:, None]
    rows = np.flatnonzero(found.lengths)
    mixed[rows, found.guesses[rows]] += share[rows]
    return mixed


def fit_weights(likelihoods: np.ndarray, right: np.ndarray, found: Repeats) -> np.ndarray:
    """The weight of the guess, by the length of the passage, under which the targets are likeliest.

    Args:
        likelihoods: P of each target without the guess, ``[N]``.
        right: where the guess is the target, ``[N]``.
        found: the passages.
    """
    weights = np.zeros(LONGEST + 1)
    for length in range(1, LONGEST + 1):
        rows = found.lengths == length
        share = WEIGHTS[:, None]
        mixed = share * right[rows] + (1 - share) * likelihoods[rows]
        weights[length] = WEIGHTS[np.log(mixed).sum(axis=1).argmax()]
    return weights


def best_ngram(
    training: np.ndarray, validation: Sequence[np.ndarray], orders: Sequence[int], size: int
) -> ngram.NGram:
    """Of Kneser–Ney models of several orders, the one that validation prefers."""
    models = [ngram.fit(training, order, size) for order in orders]
    return min(models, key=lambda model: sum(model.bits(codes)[1:].sum() for codes in validation))


def distributions(model: ngram.NGram, tunes: Sequence[np.ndarray]) -> np.ndarray:
    """P of each token at each target of the tunes, ``[N, V]``, by what precedes it in its tune."""
    rows = []
    known: dict[bytes, np.ndarray] = {}
    for codes in tunes:
        for place in range(1, len(codes)):
            context = codes[max(place - model.order + 1, 0) : place]
            key = context.tobytes()
            if key not in known:
                known[key] = model.probabilities(context).astype(np.float32)
            rows.append(known[key])
    return np.stack(rows)
