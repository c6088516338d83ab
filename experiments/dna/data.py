"""Generated DNA: a background with the dinucleotides of human DNA, and motifs planted in it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LETTERS = "ACGT"

BACKGROUND = np.array(
    [
        [0.300, 0.205, 0.285, 0.210],
        [0.322, 0.298, 0.078, 0.302],
        [0.248, 0.246, 0.298, 0.208],
        [0.177, 0.239, 0.292, 0.292],
    ]
)
"""P(next letter | letter) in human DNA outside of CpG islands (Durbin et al. 1998, "Biological
sequence analysis", section 3.1); a C is rarely followed by a G."""
BACKGROUND /= BACKGROUND.sum(axis=1, keepdims=True)


class Form(NamedTuple):
    """One way to write a motif: sites, and the letters of background between them.

    Attributes:
        sites: the probabilities of letters at the places of each site, ``[w, 4]``.
        gaps: letters between a site and the next, one fewer than sites.
    """

    sites: tuple[np.ndarray, ...]
    gaps: tuple[int, ...] = ()

    @property
    def starts(self) -> tuple[int, ...]:
        """The first place of each site."""
        sizes = [len(site) for site in self.sites]
        starts = [0]
        for size, gap in zip(sizes[:-1], self.gaps, strict=True):
            starts.append(starts[-1] + size + gap)
        return tuple(starts)

    @property
    def width(self) -> int:
        """All places from the first site to the last."""
        return self.starts[-1] + len(self.sites[-1])


class Motif(NamedTuple):
    """What the two kinds of sequences hold; one form is drawn for each sequence.

    Attributes:
        forms: of the sequences with the motif.
        decoys: of those without it; none for plain background.
    """

    forms: tuple[Form, ...]
    decoys: tuple[Form, ...] = ()


class Sequences(NamedTuple):
    """N sequences.

    Attributes:
        codes: ``[N, L]``, places in :data:`LETTERS`.
        labels: ``[N]``, 1 for those with the motif.
        first: ``[N]``, the place where the form begins; −1 where there is none.
        widths: ``[N]``, its width; 0 where there is none.
    """

    codes: np.ndarray
    labels: np.ndarray
    first: np.ndarray
    widths: np.ndarray


def site(consensus: str, share: float) -> np.ndarray:
    """Probabilities ``[w, 4]``: ``share`` for the letter that is written, the rest is divided."""
    codes = [LETTERS.index(letter) for letter in consensus]
    probabilities = np.full((len(codes), 4), (1 - share) / 3)
    probabilities[np.arange(len(codes)), codes] = share
    return probabilities


def _motifs() -> dict[str, Motif]:
    half = site("AGGTCA", 0.93)
    pair = [Form((half, half), (gap,)) for gap in range(1, 6)]
    apart = [Form((half, half), (gap,)) for gap in range(9, 24)]
    first, second = site("TTGCGCAA", 0.93), site("TGACGTCA", 0.93)
    # The letters at the second half's places go with those of the first half's, or do not.
    mixed = [np.concatenate([first[:4], second[4:]]), np.concatenate([second[:4], first[4:]])]
    return {
        "one site": Motif((Form((site("TGACTCAGCA", 0.85),)),)),
        "two sites": Motif(tuple(pair), tuple(apart)),
        "dependent letters": Motif(
            (Form((first,)), Form((second,))), tuple(Form((rows,)) for rows in mixed)
        ),
    }


MOTIFS = _motifs()
"""The three kinds of motif. "one site": its letters are independent, as a position weight matrix
says. "two sites": a nuclear receptor's half-sites, one to five letters apart; in the decoys they
are nine to 23 apart. "dependent letters": two forms of eight letters; a decoy has one half of each,
so that the letters at each place have the same probabilities in both kinds."""


def background(count: int, length: int, random: np.random.Generator) -> np.ndarray:
    """Sequences ``[N, L]`` of the Markov chain, from its stationary distribution."""
    cumulative = BACKGROUND.cumsum(axis=1)
    draws = random.random((length, count))
    codes = np.empty((length, count), np.int32)
    codes[0] = np.searchsorted(stationary().cumsum()[:-1], draws[0])
    for place in range(1, length):
        rows = cumulative[codes[place - 1], :-1]
        codes[place] = (draws[place][:, None] > rows).sum(axis=1)
    return codes.T.copy()


def stationary() -> np.ndarray:
    """The probability of each letter in the background."""
    powers = np.linalg.matrix_power(BACKGROUND, 200)
    return powers[0]


def sequences(motif: Motif, count: int, length: int, random: np.random.Generator) -> Sequences:
    """As many sequences with the motif as without it, the motif at random places."""
    codes = background(count, length, random)
    labels = np.arange(count) % 2
    first = np.full(count, -1)
    widths = np.zeros(count, int)
    for row in range(count):
        forms = motif.forms if labels[row] else motif.decoys
        if not forms:
            continue
        form = forms[random.integers(len(forms))]
        # Never at the very ends, so that a letter of background stands on both sides.
        first[row] = random.integers(1, length - form.width)
        widths[row] = form.width
        for start, rows in zip(form.starts, form.sites, strict=True):
            draws = random.random((len(rows), 1))
            letters = (draws > rows.cumsum(axis=1)[:, :-1]).sum(axis=1)
            place = first[row] + start
            codes[row, place : place + len(rows)] = letters
    return Sequences(codes, labels, first, widths)


def log_odds(codes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The sum of ``matrix [w, 4]`` over the letters from each place on, ``[N, L − w + 1]``."""
    places = codes.shape[1] - len(matrix) + 1
    total = np.zeros((len(codes), places))
    for offset, row in enumerate(matrix):
        total += row[codes[:, offset : offset + places]]
    return total


def log_ratio(codes: np.ndarray, forms: Sequence[Form]) -> np.ndarray:
    """ln P(sequence | one of the forms at a random place) / P(sequence | background), ``[N]``.

    This is exact. A site of w letters from place a on replaces w letters of the chain, and those
    beside it stay: q(x_a) … q(x_{a+w−1}) · T^{w+1}[x_{a−1}, x_{a+w}] / T[x_{a−1}, x_a] …
    """
    if not forms:
        return np.zeros(len(codes))
    length = codes.shape[1]
    steps = np.log(BACKGROUND)[codes[:, :-1], codes[:, 1:]]
    before = np.concatenate([np.zeros((len(codes), 1)), steps.cumsum(axis=1)], axis=1)
    of_forms = []
    for form in forms:
        count = length - form.width - 1
        total = np.zeros((len(codes), count))
        for start, rows in zip(form.starts, form.sites, strict=True):
            size = len(rows)
            first = 1 + start + np.arange(count)
            across = np.log(np.linalg.matrix_power(BACKGROUND, size + 1))
            total += log_odds(codes, np.log(rows))[:, first]
            total += across[codes[:, first - 1], codes[:, first + size]]
            total -= before[:, first + size] - before[:, first - 1]
        of_forms.append(log_mean(total))
    return log_mean(np.stack(of_forms, axis=1))


def log_mean(values: np.ndarray) -> np.ndarray:
    """ln of the mean of e^values along the last axis."""
    highest = values.max(axis=-1, keepdims=True)
    return (highest + np.log(np.exp(values - highest).mean(axis=-1, keepdims=True)))[..., 0]


def best_scores(motif: Motif, codes: np.ndarray) -> np.ndarray:
    """The exact log-likelihood ratio of the two kinds, ``[N]``."""
    return log_ratio(codes, motif.forms) - log_ratio(codes, motif.decoys)
