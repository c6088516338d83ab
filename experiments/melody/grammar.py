"""A small folk grammar: tunes of two parts whose phrases return, for the quick form."""

import numpy as np

from experiments.melody.data import BAR, END, Melody

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 9, 10)}
RHYTHMS = {
    "4/4": ((1,) * 8, (2, 1, 1, 2, 1, 1), (2, 2, 1, 1, 2), (3, 1, 2, 2)),
    "6/8": ((1,) * 6, (2, 1, 2, 1), (3, 1, 1, 1), (2, 1, 3)),
}
STEPS, CHANCES = (-2, -1, 0, 1, 2), (0.15, 0.3, 0.1, 0.3, 0.15)
FORM = "abacabad"
"""The bars of a part; those with one letter are the same, c ends on the fifth, d on the tonic."""


def invented_tunes(count: int, seed: int = 0) -> list[Melody]:
    """So many tunes.

    Part A and part B have eight bars each, in the order of :data:`FORM`. A bar has a rhythm of its
    metre, and a melody that walks on the scale.
    """
    random = np.random.default_rng(seed)
    return [_tune(f"Tune {number + 1}", random) for number in range(count)]


def _tune(title: str, random: np.random.Generator) -> Melody:
    metre = str(random.choice(list(RHYTHMS)))
    mode = str(random.choice(list(SCALES)))
    bars: list[list[str]] = []
    for low in (0, 4):
        written = {
            letter: _bar(metre, mode, low, last, random)
            for letter, last in zip("abcd", (None, None, 4, 0), strict=True)
        }
        bars += [written[letter] for letter in FORM]
    tokens = [f"{metre} {mode}"]
    for bar in bars:
        tokens += [*bar, BAR]
    tokens[-1] = END
    return Melody(title, "grammar", tuple(tokens))


def _bar(
    metre: str, mode: str, low: int, last: int | None, random: np.random.Generator
) -> list[str]:
    """A bar from the degree ``low`` of the scale up, whose last note may be given."""
    rhythms = RHYTHMS[metre]
    rhythm = rhythms[random.integers(len(rhythms))]
    degrees = low + random.integers(5) + np.cumsum(random.choice(STEPS, len(rhythm), p=CHANCES))
    if last is not None:
        degrees[-1] = last
    scale = SCALES[mode]
    pitches = [12 * (degree // 7) + scale[degree % 7] for degree in degrees.tolist()]
    return [f"{pitch}:{units}" for pitch, units in zip(pitches, rhythm, strict=True)]
