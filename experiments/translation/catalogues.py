"""English messages and their German translations, in the catalogues of installed packages."""

import importlib.metadata
import importlib.util
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

PACKAGES = {
    "django": "django",
    "wagtail": "wagtail",
    "oscar": "django-oscar",
    "cms": "django-cms",
    "rest_framework": "djangorestframework",
}
"""Packages whose catalogues are read, all under the BSD licence, and their names on PyPI."""

MAGIC = 0x950412DE
"""The first four bytes of a compiled catalogue."""
PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%[a-z]|\{[\w.!]*\}|<[^<>]*>|&\w+;")
MOST_WORDS = 10
ALIKE = 0.6
"""Entries that share 60 % of their trigrams, those of both counted once, go to one part."""


class Pairs(NamedTuple):
    """N texts and their translations."""

    english: tuple[str, ...]
    german: tuple[str, ...]

    def at(self, places: np.ndarray) -> "Pairs":
        """The pairs at these places."""
        chosen = places.tolist()
        return Pairs(
            tuple(self.english[place] for place in chosen),
            tuple(self.german[place] for place in chosen),
        )


class Parts(NamedTuple):
    """Pairs without near duplicates in two parts."""

    training: Pairs
    validation: Pairs
    test: Pairs


VERBS = {"Delete": "löschen", "Change": "ändern", "Save": "speichern", "Show": "anzeigen"}
VERBS |= {"Search": "suchen", "Close": "schließen", "Print": "drucken", "Send": "senden"}
NOUNS = {
    "page": "Seite",
    "image": "Bild",
    "order": "Bestellung",
    "file": "Datei",
    "user": "Benutzer",
}
NOUNS |= {"group": "Gruppe", "address": "Adresse", "password": "Passwort", "date": "Datum"}


def invented() -> Pairs:
    """Messages of two words, for a run without packages."""
    pairs = []
    for verb, infinitive in VERBS.items():
        for noun, name in NOUNS.items():
            pairs.append((f"{verb} {noun}", f"{name} {infinitive}"))
    english, german = zip(*pairs, strict=True)
    return Pairs(english, german)


def folders() -> dict[str, Path]:
    """The folders of the packages that are installed; none of their code is run.

    Raises ImportError, in one sentence, where Django is not one of them.
    """
    found = {}
    for name in PACKAGES:
        package = importlib.util.find_spec(name)
        if package is not None and package.origin is not None:
            found[name] = Path(package.origin).parent
    if "django" not in found:
        raise ImportError(
            "the translations of this experiment are part of django, which is not installed; run "
            "pip install django, or use --quick"
        )
    return found


def catalogue(data: bytes) -> Iterator[tuple[str, str]]:
    """The messages of a compiled catalogue (``.mo``) and their translations, plurals on their own.

    The format is that of the GNU gettext manual, "The Format of GNU MO Files".
    """
    order = "<" if data[:4] == struct.pack("<I", MAGIC) else ">"
    count, *starts = struct.unpack_from(f"{order}3I", data, 8)
    columns = []
    for start in starts:
        numbers = struct.unpack_from(f"{order}{2 * count}I", data, start)
        places = zip(numbers[::2], numbers[1::2], strict=True)
        columns.append([data[place : place + size].decode() for size, place in places])
    for message, translation in zip(*columns, strict=True):
        # A context stands before the message; the first message, the header, is empty.
        texts = message.rpartition("\4")[2]
        if texts:
            yield from zip(texts.split("\0"), translation.split("\0"), strict=False)


def numbered(english: str, german: str) -> tuple[str, str]:
    """Placeholders and tags as numbers, the same ones in both texts.

    >>> numbered("Add %(name)s", "%(name)s hinzufügen")
    ('Add {1}', '{1} hinzufügen')
    """
    names: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        return names.setdefault(match[0], f"{{{len(names) + 1}}}")

    texts = (PLACEHOLDER.sub(number, text) for text in (english, german))
    first, second = (" ".join(text.split()) for text in texts)
    return first, second


def read(paths: dict[str, Path]) -> Pairs:
    """All pairs of at most ten words with a letter; of an English text the first translation."""
    found: dict[str, str] = {}
    for folder in paths.values():
        for path in sorted(folder.rglob("de/LC_MESSAGES/*.mo")):
            for pair in catalogue(path.read_bytes()):
                english, german = numbered(*pair)
                longest = max(len(words(english)), len(words(german)))
                if german and longest <= MOST_WORDS and re.search("[a-z]", english):
                    found.setdefault(english, german)
    return Pairs(tuple(found), tuple(found.values()))


def words(text: str) -> list[str]:
    """Words, numbered placeholders and marks.

    >>> words("Add {1}, please.")
    ['Add', '{1}', ',', 'please', '.']
    """
    return re.findall(r"\{\d+\}|\w+|[^\w\s]", text)


def trigrams(text: str) -> set[str]:
    """The groups of three letters in a text in lower case, without placeholders and marks."""
    plain = " ".join(re.findall(r"[^\W\d]+", text.lower()))
    padded = f" {plain} "
    return {padded[place : place + 3] for place in range(len(padded) - 2)} or {padded}


def groups(pairs: Pairs) -> np.ndarray:
    """A number for each pair, the same for near duplicates in either language, ``[N]``."""
    is_alike = csr_array((len(pairs.english), len(pairs.english)), dtype=bool)
    for texts in pairs:
        sets = [trigrams(text) for text in texts]
        codes = {gram: code for code, gram in enumerate(sorted(set().union(*sets)))}
        columns = [codes[gram] for grams in sets for gram in grams]
        sizes = np.array([len(grams) for grams in sets])
        rows = np.repeat(np.arange(len(sets)), sizes)
        table = csr_array((np.ones(len(rows)), (rows, columns)))
        both = (table @ table.T).tocoo()
        first, second = both.coords
        shared = both.data / (sizes[first] + sizes[second] - both.data)
        near = shared >= ALIKE
        ones = np.ones(int(near.sum()), bool)
        is_alike = is_alike + csr_array((ones, (first[near], second[near])), shape=is_alike.shape)
    return connected_components(is_alike, directed=False)[1]


def parts(pairs: Pairs, shares: tuple[float, float]) -> Parts:
    """Such shares of the groups for validation and for the test, the rest for training."""
    group = groups(pairs)
    order = np.random.default_rng(0).permutation(group.max() + 1) / (group.max() + 1)
    place = order[group]
    first, second = shares
    return Parts(
        pairs.at(np.flatnonzero(place >= first + second)),
        pairs.at(np.flatnonzero(place < first)),
        pairs.at(np.flatnonzero((first <= place) & (place < first + second))),
    )


def versions(paths: dict[str, Path]) -> dict[str, str]:
    """The versions of the packages that were read."""
    return {PACKAGES[name]: importlib.metadata.version(PACKAGES[name]) for name in paths}
