"""Motif finders without a network: position weight matrices by EM, and counts of k-mers."""

import itertools
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from experiments.dna.data import Form, Motif, Sequences, log_mean, log_odds, stationary

MAX, MEAN = "maximum", "mean of odds"
"""How the scores of all places become one of the sequence."""


class Scan(NamedTuple):
    """A position weight matrix and how it scores.

    Attributes:
        matrix: the logarithm of the odds of each letter, ``[w, 4]``.
        pool: :data:`MAX` or :data:`MEAN`.
        about: how it was found.
    """

    matrix: np.ndarray
    pool: str
    about: str

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """The score of each sequence, ``[N]``."""
        scores = log_odds(codes, self.matrix)
        return scores.max(axis=1) if self.pool == MAX else log_mean(scores)


def best_scan(matrices: dict[str, np.ndarray], validation: Sequences) -> Scan:
    """Of matrices of probabilities and both ways to pool, the one with the best AUROC."""
    scans = [
        Scan(np.log(matrix / stationary()), pool, about)
        for about, matrix in matrices.items()
        for pool in (MAX, MEAN)
    ]

    def area(scan: Scan) -> float:
        return float(roc_auc_score(validation.labels, scan(validation.codes)))

    return max(scans, key=area)


def true_matrices(motif: Motif) -> dict[str, np.ndarray]:
    """What a single matrix can know of a motif.

    The mean of the forms where they are of one width; else each form, with the letters of the
    background in its gaps.
    """
    rows = [_with_gaps(form) for form in motif.forms]
    if len({len(matrix) for matrix in rows}) == 1:
        return {"true matrix": np.mean(rows, axis=0)}
    named = {f"true matrix, gap {form.gaps}": _with_gaps(form) for form in motif.forms}
    return named | {"true matrix of one site": motif.forms[0].sites[0]}


def _with_gaps(form: Form) -> np.ndarray:
    matrix = np.tile(stationary(), (form.width, 1))
    for start, site in zip(form.starts, form.sites, strict=True):
        matrix[start : start + len(site)] = site
    return matrix


def fitted_matrices(
    training: Sequences, widths: tuple[int, ...], starts: int, rounds: int
) -> dict[str, np.ndarray]:
    """For each width the likeliest matrix with one occurrence in each sequence with the motif."""
    codes = training.codes[training.labels == 1]
    words = enriched(codes, training.codes[training.labels == 0], starts)
    fitted = {}
    for width in widths:
        tried = [_expectation_maximisation(codes, word, width, rounds) for word in words]
        fitted[f"EM, width {width}"] = max(tried, key=lambda pair: pair[0])[1]
    return fitted


def enriched(codes: np.ndarray, others: np.ndarray, count: int, size: int = 6) -> list[np.ndarray]:
    """The words that occur most above what the dinucleotides of the other sequences make likely."""
    seen = np.bincount(_words(codes, size).ravel(), minlength=4**size)
    pairs = np.bincount(_words(others, 2).ravel(), minlength=16).reshape(4, 4) + 1.0
    steps = pairs / pairs.sum(axis=1, keepdims=True)
    letters = np.array(list(itertools.product(range(4), repeat=size)))
    likely = (pairs.sum(axis=1) / pairs.sum())[letters[:, 0]]
    for place in range(1, size):
        likely = likely * steps[letters[:, place - 1], letters[:, place]]
    expected = likely * seen.sum()
    order = np.argsort((expected - seen) / np.sqrt(expected))
    return list(letters[order[:count]])


def _words(codes: np.ndarray, size: int) -> np.ndarray:
    """The word from each place on, as a number in base 4, ``[N, L − size + 1]``."""
    places = codes.shape[1] - size + 1
    total = np.zeros((len(codes), places), int)
    for offset in range(size):
        total = 4 * total + codes[:, offset : offset + places]
    return total


def _expectation_maximisation(
    codes: np.ndarray, word: np.ndarray, width: int, rounds: int
) -> tuple[float, np.ndarray]:
    """ln P of the sequences over the background, and the matrix, from a word in its middle."""
    matrix = np.tile(stationary(), (width, 1))
    first = max((width - len(word)) // 2, 0)
    for place, letter in enumerate(word[:width]):
        matrix[first + place] = 0.1
        matrix[first + place, letter] = 0.7
    likelihood = -np.inf
    places = codes.shape[1] - width + 1
    for _ in range(rounds):
        scores = log_odds(codes, np.log(matrix / stationary()))
        totals = log_mean(scores)
        likelihood = float(totals.sum())
        # E: the probability of each place. M: the letters at each place of the matrix.
        shares = np.exp(scores - totals[:, None]) / places
        for row in range(width):
            letters = codes[:, row : row + places].ravel()
            matrix[row] = np.bincount(letters, shares.ravel(), minlength=4) + 0.25
        matrix /= matrix.sum(axis=1, keepdims=True)
    return likelihood, matrix


class Counts(NamedTuple):
    """A logistic regression on the numbers of k-mers."""

    size: int
    strength: float
    model: LogisticRegression

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """The score of each sequence, ``[N]``."""
        return self.model.decision_function(counted(codes, self.size))


def counted(codes: np.ndarray, size: int) -> np.ndarray:
    """How often each k-mer occurs, ``[N, 4^k]``."""
    words = _words(codes, size) + 4**size * np.arange(len(codes))[:, None]
    counts = np.bincount(words.ravel(), minlength=len(codes) * 4**size)
    return counts.reshape(len(codes), -1)


def best_counts(
    training: Sequences, validation: Sequences, sizes: tuple[int, ...], strengths: tuple[float, ...]
) -> Counts:
    """Of all sizes and strengths, the one with the best AUROC."""
    tried = []
    for size in sizes:
        features = counted(training.codes, size)
        for strength in strengths:
            model = LogisticRegression(C=strength, max_iter=300)
            tried.append(Counts(size, strength, model.fit(features, training.labels)))

    def area(model: Counts) -> float:
        return float(roc_auc_score(validation.labels, model(validation.codes)))

    return max(tried, key=area)
