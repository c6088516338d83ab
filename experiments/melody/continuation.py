"""Tunes that models write: sampling, and whether their bars are complete and return."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from experiments.melody.data import BAR, END, METRES, Codes, parse_token
from rnnlab.data.ngram import NGram

UNITS = dict(METRES.values())
"""Units of a bar."""


def allowed(codes: Codes) -> np.ndarray:
    """What a model may write: no second beginning, and nothing rare."""
    is_allowed = ~codes.begins
    is_allowed[0] = False
    return is_allowed


def ended(codes: Codes, written: Sequence[int]) -> list[str]:
    """The tokens up to the end of the tune."""
    tokens = [codes.tokens[code] for code in written]
    return tokens[: tokens.index(END)] if END in tokens else tokens


def ngram_tunes(model: NGram, codes: Codes, starts: np.ndarray, steps: int) -> list[list[int]]:
    """A tune of at most so many tokens for each first token, drawn from an n-gram model."""
    random = np.random.default_rng(0)
    end = codes.tokens.index(END)
    may = allowed(codes)
    tunes = []
    for start in starts.tolist():
        written = [start]
        while len(written) < steps and written[-1] != end:
            context = np.array(written[max(len(written) - model.order + 1, 0) :])
            chances = model.probabilities(context) * may
            written.append(int(random.choice(len(chances), p=chances / chances.sum())))
        tunes.append(written)
    return tunes


def bars(tokens: Sequence[str]) -> list[tuple[str, ...]]:
    """The bars of a tune, without its first and last token."""
    found: list[tuple[str, ...]] = []
    bar: list[str] = []
    for token in [*tokens[1:], BAR]:
        if token in (BAR, END):
            if bar:
                found.append(tuple(bar))
            bar = []
        else:
            bar.append(token)
    return found


def duration(bar: Sequence[str]) -> Fraction:
    """The units of a bar."""
    notes = [note for token in bar if (note := parse_token(token)) is not None]
    return sum((note[1] for note in notes), Fraction(0))


def shares(tunes: Sequence[Sequence[str]]) -> dict[str, float]:
    """The share of the inner bars that are complete, and of the later ones that repeat one.

    It is 0 where there are no such bars.
    """
    complete, repeated = [], []
    for tokens in tunes:
        units = UNITS[tokens[0].split()[0]]
        found = bars(tokens)
        complete += [duration(bar) == units for bar in found[1:-1]]
        repeated += [bar in found[:place] for place, bar in enumerate(found) if place]
    return {
        "complete_bars": round(sum(complete) / max(len(complete), 1), 3),
        "repeated_bars": round(sum(repeated) / max(len(repeated), 1), 3),
    }


def opening(tokens: Sequence[str], count: int) -> int:
    """How many tokens the first bars have, with their bar lines; a short first bar is extra."""
    found = bars(tokens)
    units = UNITS[tokens[0].split()[0]]
    if duration(found[0]) < units:
        count += 1
    return 1 + sum(len(bar) + 1 for bar in found[:count])
