"""Tunes as tokens: on one tonic, in bars of one length, in families of near duplicates."""

import importlib.util
from collections import Counter, defaultdict
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.melody.abc_reader import read_tune, tunes
from experiments.melody.notation import Note, Tune
from rnnlab.text import build_vocabulary

COLLECTIONS = ("airdsAirs", "oneills1850", "ryansMammoth")
"""Folders of music21's corpus."""

METRES = {
    (2, 2): ("4/4", 8),
    (4, 4): ("4/4", 8),
    (2, 4): ("4/4", 8),
    (3, 4): ("3/4", 6),
    (6, 8): ("6/8", 6),
    (9, 8): ("9/8", 9),
}
"""What a metre is written as, and the units of a bar; those of 2/4 are sixteenths."""

BAR, END, RARE = "|", "end", "rare"


class Melody(NamedTuple):
    """A tune as tokens.

    Attributes:
        title: its name.
        source: its collection.
        tokens: metre and mode, such as "6/8 minor"; then for each note "pitch:duration", semitones
            above the C to which the tonic was moved and units (a rest has pitch "r"); "|" between
            bars; "end".
    """

    title: str
    source: str
    tokens: tuple[str, ...]


def folk_tunes() -> list[Melody]:
    """The tunes of Aird's, O'Neill's and Ryan's collections, from an installed music21.

    Raises:
        ImportError: where music21 is not installed.
    """
    # The package is not imported: that takes seconds, and its files of tunes are plain text.
    found = importlib.util.find_spec("music21")
    if found is None or found.origin is None:
        raise ImportError(
            "the tunes are part of music21, which is not installed; run pip install music21, or "
            "use --quick, which makes up tunes"
        )
    melodies = []
    for collection in COLLECTIONS:
        for path in sorted((Path(found.origin).parent / "corpus" / collection).glob("*.abc")):
            for text in tunes(path.read_text(encoding="utf-8", errors="replace")):
                try:
                    melodies.append(melody(read_tune(text), collection))
                except ValueError:
                    continue
    return melodies


def melody(tune: Tune, source: str) -> Melody:
    """The tokens of a tune; ValueError for a metre that is not in :data:`METRES`."""
    if tune.metre not in METRES:
        raise ValueError(f"the metre {tune.metre} is rare and not read")
    metre, units = METRES[tune.metre]
    # The tonic goes to the nearest C.
    shift = 60 + (tune.key.tonic + 5) % 12 - 5
    scale = units / Fraction(*tune.metre)
    tokens = [f"{metre} {'minor' if tune.key.minor else 'major'}"]
    for bar in tune.bars:
        tokens += [note_token(note, shift, scale) for note in bar]
        tokens.append(BAR)
    tokens[-1] = END
    return Melody(tune.title, source, tuple(tokens))


def note_token(note: Note, shift: int, scale: Fraction) -> str:
    """The token of a note."""
    pitch = "r" if note.pitch is None else note.pitch - shift
    return f"{pitch}:{note.duration * scale}"


def parse_token(token: str) -> tuple[int | None, Fraction] | None:
    """Pitch and duration of a token; None for one that is not a note."""
    pitch, colon, duration = token.partition(":")
    if not colon:
        return None
    return (None if pitch == "r" else int(pitch)), Fraction(duration)


class Parts(NamedTuple):
    """Tunes to learn from, to choose by, and to test with; no family is in two of them."""

    training: list[Melody]
    validation: list[Melody]
    test: list[Melody]


RUN = 10
"""Intervals of a run of notes that is compared."""

RELATED = 0.1
"""Tunes are related that share this much of the runs of the shorter one."""


def runs(tune: Melody) -> set[tuple[int, ...]]:
    """All runs of :data:`RUN` intervals between its notes, of any duration and across rests."""
    notes = [parse_token(token) for token in tune.tokens]
    pitches = [note[0] for note in notes if note is not None and note[0] is not None]
    steps = np.diff(pitches).tolist()
    return {tuple(steps[first : first + RUN]) for first in range(len(steps) - RUN + 1)}


def families(melodies: Sequence[Melody]) -> list[list[int]]:
    """The tunes in groups of near duplicates; those that are related to one are to one another."""
    own = [runs(tune) for tune in melodies]
    having: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    shared: Counter[tuple[int, int]] = Counter()
    for index, tune_runs in enumerate(own):
        for run in tune_runs:
            shared.update((other, index) for other in having[run])
            having[run].append(index)
    first = list(range(len(melodies)))
    for (one, other), count in shared.items():
        if count >= RELATED * min(len(own[one]), len(own[other])):
            first[_root(first, one)] = _root(first, other)
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for index in range(len(melodies)):
        groups[_root(first, index)].append(index)
    return list(groups.values())


def _root(first: list[int], index: int) -> int:
    while first[index] != index:
        first[index] = first[first[index]]
        index = first[index]
    return index


def split(melodies: Sequence[Melody], share: float, seed: int = 0) -> Parts:
    """Whole families by chance: so large a share of them for validation, and for the test.

    Of a family that is held out only its first tune is kept, so that it counts once.
    """
    groups = families(melodies)
    order = np.random.default_rng(seed).permutation(len(groups))
    count = int(share * len(groups))
    held_out = [melodies[groups[place][0]] for place in order[: 2 * count]]
    training = [melodies[index] for place in order[2 * count :] for index in groups[place]]
    return Parts(training, held_out[:count], held_out[count:])


class Codes(NamedTuple):
    """Tunes as codes of one vocabulary.

    Attributes:
        tokens: of the vocabulary; :data:`RARE` first, which stands for all others.
        training, validation, test: the codes of each tune.
    """

    tokens: list[str]
    training: list[np.ndarray]
    validation: list[np.ndarray]
    test: list[np.ndarray]

    @property
    def is_note(self) -> np.ndarray:
        """Which tokens are notes or rests, ``[V]``."""
        return np.array([":" in token or token == RARE for token in self.tokens])

    @property
    def begins(self) -> np.ndarray:
        """Which tokens are a metre and mode, ``[V]``."""
        return np.array(["/" in token and ":" not in token for token in self.tokens])


def coded(parts: Parts, largest: int) -> Codes:
    """The tunes by the tokens that occur in the most tunes of training."""
    each_once = [sorted(set(tune.tokens)) for tune in parts.training]
    tokens = list(build_vocabulary(each_once, max_size=largest, special=[RARE]).tokens)
    code_of = {token: code for code, token in enumerate(tokens)}

    def codes(tune: Melody) -> np.ndarray:
        return np.array([code_of.get(token, 0) for token in tune.tokens], np.int32)

    return Codes(tokens, *[[codes(tune) for tune in part] for part in parts])


def targets(tunes: Sequence[np.ndarray]) -> np.ndarray:
    """What is predicted: all codes but the first of each tune, ``[N]``."""
    return np.concatenate([codes[1:] for codes in tunes])
