"""A small reader of tunes in ABC notation: keys, lengths, pitches, accidentals and bars.

It reads one voice as it is written: repeats are not played, grace notes and ornaments are left out,
tied notes stay two, and of a chord the highest note is read. The standard is ABC 2.1,
https://abcnotation.com/wiki/abc:standard:v2.1.
"""

import functools
import re
from collections.abc import Iterator
from fractions import Fraction

from experiments.melody.notation import (
    ALTERATIONS,
    SEMITONES,
    Note,
    Tune,
    read_key,
    read_length,
    read_metre,
)

ONE = Fraction(1)
FIELD = re.compile(r"([A-Za-z]):(?![|:])(.*)")
LENGTH = r"[0-9]*/*[0-9]*"
NOTE = re.compile(rf"(\^\^?|__?|=)?([A-Ga-gxz])([,']*)({LENGTH})")
BODY = re.compile(
    rf"""
    "[^"]*" | ![^!\s]*! | \{{[^}}]*\}}          # chord symbols, decorations, grace notes
    | (?P<note>{NOTE.pattern})
    | (?P<bar>:*\|[|:\]]*|\[\||::+)
    | (?P<field>\[[A-Za-z]:[^\]]*\])
    | \[?[0-9][0-9,.\-]*                        # first and second endings
    | (?P<chord>\[[^\]|]*\]{LENGTH})
    | (?P<tuplet>\([2-9](?::[0-9]*)?(?::[0-9]*)?)
    | (?P<broken><+|>+)
    | (?P<refused>&|Z)
    """,
    re.VERBOSE,
)


def tunes(text: str) -> Iterator[str]:
    """The text of each tune of a file, from its line ``X:`` on."""
    for part in re.split(r"^(?=X:)", text, flags=re.MULTILINE):
        if part.startswith("X:"):
            yield part


def read_tune(text: str) -> Tune:
    """The tune of a text; ValueError for one without a key or metre, and for several voices."""
    fields: dict[str, str] = {}
    lines = iter(re.sub(r"(?<!\\)%.*", "", text).splitlines())
    for line in lines:
        match = FIELD.match(line)
        if match is None:
            continue
        name, value = match.group(1), match.group(2).strip()
        fields.setdefault(name, value)
        if name == "K":
            break
    if not {"M", "K"} <= fields.keys():
        raise ValueError("a tune has no metre M: or no key K:")
    body = _Body(fields)
    for line in lines:
        body.line(line)
    bars = [bar for bar in body.bars if bar]
    return Tune(fields.get("T", ""), body.metre, read_key(fields["K"]), bars)


class _Body:
    """The music of a tune, read line by line.

    Attributes:
        bars: the notes so far.
    """

    def __init__(self, fields: dict[str, str]) -> None:
        self.bars: list[list[Note]] = [[]]
        self.metre = read_metre(fields["M"])
        self.signature = read_key(fields["K"]).signature
        # Without L: the unit is a sixteenth in short metres and an eighth in others.
        self.unit = Fraction(1, 16 if Fraction(*self.metre) < Fraction(3, 4) else 8)
        if "L" in fields:
            self.field("L", fields["L"])
        # A sign holds for a letter and octave until the next bar line.
        self.signs: dict[tuple[str, str], int] = {}
        # What ">" or "<" multiplies the next note by.
        self.broken = ONE
        # What a tuplet multiplies its notes by, and how many of them are left.
        self.tuplet, self.left = ONE, 0

    def line(self, line: str) -> None:
        """Reads a line of music, or a field."""
        match = FIELD.match(line)
        # Letters of notes are not fields here: "A:|" is a note and a repeat.
        if match is not None:
            self.field(*match.groups())
            return
        for found in BODY.finditer(line):
            if found.lastgroup is not None:
                self.element(found.lastgroup, found.group())

    def field(self, name: str, value: str) -> None:
        """Changes the unit or the key; ValueError for another metre and for voices."""
        if name == "L":
            self.unit = Fraction(value.strip())
        elif name == "K":
            self.signature = read_key(value).signature
        elif name == "V" or (name == "M" and read_metre(value) != self.metre):
            raise ValueError(f"a tune has a line {name}: within its music, which is not read")

    def element(self, kind: str, text: str) -> None:
        """Reads a bar line, a note, a chord or what changes lengths."""
        if kind == "note":
            self.add([note_parts(text)], ONE)
        elif kind == "bar":
            self.bars.append([])
            self.signs = {}
        elif kind == "chord":
            notes, length = text[1:].split("]")
            parts = [note_parts(note.group()) for note in NOTE.finditer(notes)]
            self.add(parts, read_length(length))
        elif kind == "tuplet":
            self.begin_tuplet(text)
        elif kind == "broken":
            self.shorten(text)
        elif kind == "field":
            self.field(text[1], text[3:-1])
        else:
            raise ValueError(f"a tune has {text!r} in its music, which is not read")

    def begin_tuplet(self, text: str) -> None:
        """(p:q:r — p notes in the time of q, for the next r notes."""
        count, time, notes = [int(part or 0) for part in f"{text[1:]}::".split(":")[:3]]
        is_compound = self.metre[0] % 3 == 0 and self.metre[0] > 3
        usual = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}.get(count, 3 if is_compound else 2)
        self.tuplet = Fraction(time or usual, count)
        self.left = notes or count

    def shorten(self, marks: str) -> None:
        """a>b is a dotted note before a short one, a<b the reverse; each mark halves it again."""
        short = Fraction(1, 2 ** len(marks))
        before, self.broken = (2 - short, short) if marks[0] == ">" else (short, 2 - short)
        for bar in reversed(self.bars):
            if bar:
                bar[-1] = Note(bar[-1].pitch, bar[-1].duration * before)
                return

    def add(self, notes: list[tuple[str, str, str, Fraction]], factor: Fraction) -> None:
        """The highest of these notes, in its tuplet and beside a ">"."""
        if not notes:
            return
        pitches = [self.pitch(*note[:3]) for note in notes]
        heard = [pitch for pitch in pitches if pitch is not None]
        duration = notes[0][3] * self.unit
        # Most factors are 1, and fractions are slow.
        for other in (factor, self.broken, self.tuplet if self.left else ONE):
            if other is not ONE:
                duration *= other
        self.broken = ONE
        self.left = max(self.left - 1, 0)
        self.bars[-1].append(Note(max(heard, default=None), duration))

    def pitch(self, sign: str, letter: str, octave: str) -> int | None:
        """The number of a note, with the signs of its bar and of the key; None for a rest."""
        if letter in "xz":
            return None
        upper = letter.upper()
        place = letter, octave
        if sign:
            self.signs[place] = ALTERATIONS[sign]
        raised = self.signs.get(place, self.signature.get(upper, 0))
        octaves = 5 + letter.islower() + octave.count("'") - octave.count(",")
        return 12 * octaves + SEMITONES[upper] + raised


@functools.cache
def note_parts(text: str) -> tuple[str, str, str, Fraction]:
    """Sign, letter, marks of the octave, and length of a note."""
    match = NOTE.fullmatch(text)
    assert match is not None
    sign, letter, octave, length = match.groups("")
    return sign, letter, octave, read_length(length)
