"""Tunes, notes, keys and metres, and how ABC notation writes keys, metres and lengths."""

import re
from fractions import Fraction
from typing import NamedTuple


class Note(NamedTuple):
    """A note, or a rest.

    Attributes:
        pitch: its number in MIDI, 60 for middle C; None for a rest.
        duration: in whole notes.
    """

    pitch: int | None
    duration: Fraction


class Key(NamedTuple):
    """A key.

    Attributes:
        tonic: 0 to 11 semitones above C.
        minor: whether its third is minor.
        signature: how many semitones a letter is raised.
    """

    tonic: int
    minor: bool
    signature: dict[str, int]


class Tune(NamedTuple):
    """One tune.

    Attributes:
        title: the first one.
        metre: such as (6, 8).
        key: that at its beginning.
        bars: the notes between bar lines. First and last bars, and those beside a repeat, may be
            incomplete.
    """

    title: str
    metre: tuple[int, int]
    key: Key
    bars: list[list[Note]]


SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
ALTERATIONS = {"": 0, "#": 1, "b": -1, "=": 0, "^": 1, "^^": 2, "_": -1, "__": -2}
SHARPS = "FCGDAEB"
"""The letters in the order in which key signatures raise them; flats come from the end."""

MODES = {
    "": 0, "maj": 0, "ion": 0, "lyd": 1, "mix": -1, "dor": -2, "m": -3, "min": -3, "aeo": -3,
    "phr": -4, "loc": -5,
}  # fmt: skip
"""How many more sharps a mode has than the major key on its tonic."""

MINOR = ("dor", "m", "min", "aeo", "phr", "loc")
"""Modes with a minor third."""


def read_key(text: str) -> Key:
    """A key, such as "G", "F#m" or "A Dorian"; ValueError for anything else."""
    match = re.fullmatch(r"([A-G])([#b]?)\s*([A-Za-z]*)", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a key")
    letter, alteration, mode = match.groups()
    # "M" alone is major, "m" minor.
    mode = "" if mode == "M" else mode[:3].lower()
    if mode not in MODES:
        raise ValueError(f"{text!r} is not a key")
    # C has no sharps, G one, D two, F one flat.
    sharps = SHARPS.index(letter) - 1 + 7 * ALTERATIONS[alteration] + MODES[mode]
    if abs(sharps) > 7:
        raise ValueError(f"{text!r} is not a key: it has more than seven sharps or flats")
    raised = dict.fromkeys(SHARPS[: max(sharps, 0)], 1)
    lowered = dict.fromkeys(SHARPS[7 + min(sharps, 0) :], -1)
    tonic = (SEMITONES[letter] + ALTERATIONS[alteration]) % 12
    return Key(tonic, mode in MINOR, raised | lowered)


def read_metre(text: str) -> tuple[int, int]:
    """A metre, such as "6/8", "C" or "C|"; ValueError for anything else."""
    text = {"C": "4/4", "C|": "2/2"}.get(text.strip(), text.strip())
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if match is None or 0 in (beats := (int(match.group(1)), int(match.group(2)))):
        raise ValueError(f"{text!r} is not a metre")
    return beats


def read_length(text: str) -> Fraction:
    """The length after a note: "" is 1, "3" 3, "/" 1/2, "//" 1/4, "3/2" 3/2."""
    above, slash, rest = text.partition("/")
    below = rest.lstrip("/")
    if not below:
        return Fraction(int(above or 1), 2 ** len(slash + rest))
    return Fraction(int(above or 1), int(below))
