"""The experiment on translation: dates, catalogues, near duplicates and the rivals."""

import datetime
import struct

import numpy as np
import pytest

from experiments.translation import catalogues, dates, rivals
from experiments.translation.catalogues import Pairs


@pytest.mark.parametrize("formats", [dates.SEEN, dates.COMBINED, dates.REORDERED])
def test_the_rule_reads_every_day_in_every_format(formats):
    """Each date of two years and the first of each year, in all formats in turn."""
    styles = dates.styles()[formats]
    days = [dates.FIRST + datetime.timedelta(days=shift) for shift in range(731)]
    days += [datetime.date(year, 1, 1) for year in range(1900, 2100)]
    for place, day in enumerate(days):
        text = dates.written(day, styles[place % len(styles)])
        assert dates.by_rule(text) == day.isoformat(), text


def test_formats_that_are_tested_are_not_learned_from():
    styles = dates.styles()
    seen = set(styles[dates.SEEN])
    assert not seen & {*styles[dates.COMBINED], *styles[dates.REORDERED]}
    orders = {style.order for style in styles[dates.REORDERED]}
    assert not orders & {style.order for style in seen}


def test_no_date_is_in_two_parts():
    training, validation, test = dates.days((600, 50, 100))
    assert len({*training.tolist(), *validation.tolist(), *test.tolist()}) == 750


def compiled(messages, order):
    """A catalogue as msgfmt writes it, in one of the two orders of bytes."""
    count = len(messages)
    tables, texts = [], b""
    for column in zip(*messages, strict=True):
        for text in column:
            data = text.encode()
            tables += [len(data), 28 + 16 * count + len(texts)]
            texts += data + b"\0"
    starts = (28, 28 + 8 * count)
    head = struct.pack(f"{order}7I", catalogues.MAGIC, 0, count, *starts, 0, 0)
    return head + struct.pack(f"{order}{len(tables)}I", *tables) + texts


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_catalogue_gives_messages_without_context_and_plurals(order):
    messages = [
        ("", "Language: de\n"),
        ("%d day\0%d days", "%d Tag\0%d Tage"),
        ("month\4May", "Mai"),
        ("Change", "Ändern"),
    ]
    found = list(catalogues.catalogue(compiled(messages, order)))
    assert found == [
        ("%d day", "%d Tag"),
        ("%d days", "%d Tage"),
        ("May", "Mai"),
        ("Change", "Ändern"),
    ]


def test_near_duplicates_in_either_language_go_together():
    pairs = Pairs(
        ("Delete the page", "Delete the page?", "Sign in", "Log on", "Colour"),
        ("Seite löschen", "Diese Seite entfernen?", "Anmelden", "Anmelden", "Farbe"),
    )
    first, second, third, fourth, fifth = catalogues.groups(pairs).tolist()
    assert first == second
    assert third == fourth
    assert len({first, third, fifth}) == 3


def test_no_group_is_in_two_parts():
    pairs = catalogues.invented()
    parts = catalogues.parts(pairs, (0.2, 0.2))
    assert sum(len(part.english) for part in parts) == len(pairs.english)
    by_text = dict(zip(pairs.english, catalogues.groups(pairs).tolist(), strict=True))
    groups = [{by_text[text] for text in part.english} for part in parts]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]


def test_a_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setattr(catalogues.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"pip install django, or use --quick$"):
        catalogues.folders()


KNOWN = Pairs(
    ("red house", "red car", "old house", "save the file"),
    ("rotes Haus", "rotes Auto", "altes Haus", "Datei speichern"),
)


def test_a_dictionary_learns_which_words_belong_together():
    translate = rivals.dictionary(KNOWN, 10)
    assert translate(["red", "old car", "Xyz"]) == ["rotes", "altes Auto", "Xyz"]


@pytest.mark.parametrize("memory", [rivals.memory_by_edits, rivals.memory_by_cosine])
def test_a_memory_gives_the_translation_of_the_nearest_message(memory):
    assert memory(KNOWN)(["save this file", "red car"]) == ["Datei speichern", "rotes Auto"]


def test_dateutil_reads_digits_and_not_words():
    assert rivals.by_dateutil("march 23rd, 1984") == "1984-03-23"
    assert rivals.by_dateutil("march twenty-third, nineteen eighty-four") != "1984-03-23"


def test_each_digit_is_read_where_words_tell_it():
    training, _, _ = dates.days((400, 1, 1))
    styles = [dates.Style(dates.MONTH_FIRST, "words", "full", "pair", False)]
    known = dates.texts(np.sort(training), styles, 1)
    read = rivals.by_digit(known, 30.0)
    assert np.mean(np.array(read(known.texts)) == np.array(known.iso)) > 0.9
