"""The experiment on melodies: the reader of ABC, families, repeats, and bars."""

import importlib.util
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from experiments.melody import baselines, continuation
from experiments.melody.abc_reader import read_tune, tunes
from experiments.melody.data import (
    COLLECTIONS,
    Melody,
    coded,
    families,
    folk_tunes,
    melody,
    parse_token,
    split,
    targets,
)
from experiments.melody.grammar import invented_tunes
from experiments.melody.notation import read_key, read_length, read_metre
from rnnlab.data import ngram

HEAD = "X:1\nT:A tune\nM:6/8\nL:1/8\nK:G\n"


def notes(music, head=HEAD):
    """Pitch and duration, in eighths, of all notes of some music."""
    bars = read_tune(head + music).bars
    return [(note.pitch, note.duration * 8) for bar in bars for note in bar]


def test_pitches_follow_octave_key_and_sign():
    # G major has F sharp; a sign holds up to the bar line, in its own octave.
    assert [pitch for pitch, _ in notes("G,Cc'fF=FF^cC|F")] == [
        55, 60, 84, 78, 66, 65, 65, 73, 60, 66,
    ]  # fmt: skip


def test_lengths_are_multiples_of_the_unit():
    half = Fraction(1, 2)
    assert [length for _, length in notes("A2B/c//d3/2e/4z3")] == [
        2, half, Fraction(1, 4), Fraction(3, 2), Fraction(1, 4), 3,
    ]  # fmt: skip
    assert read_length("") == 1


def test_a_dotted_pair_keeps_its_sum():
    assert [length for _, length in notes("A>B c<d (e>>f)")] == [
        Fraction(3, 2), Fraction(1, 2), Fraction(1, 2), Fraction(3, 2), Fraction(7, 4),
        Fraction(1, 4),
    ]  # fmt: skip


def test_a_tuplet_takes_the_time_of_its_metre():
    assert sum(length for _, length in notes("(3ABc")) == 2
    # Five in the time of three, for 6/8 is a compound metre.
    assert sum(length for _, length in notes("(5ABcde")) == 3
    assert sum(length for _, length in notes("(3:2:4ABcd")) == 4 * Fraction(2, 3)


def test_ornaments_texts_and_fields_are_no_notes():
    plain = notes("ABc|d2e:|")
    assert notes('"Am"{g}(A.B~c)|1 [K:G]d2 !trill!e:|') == plain
    assert notes("ABc|%a remark\nP:B\nd2e:|") == plain


def test_the_highest_note_of_a_chord_is_read():
    assert notes("[GBd]2[A2c2]") == [(74, 2), (72, 2)]


@pytest.mark.parametrize(
    ("text", "tonic", "signature"),
    [
        ("C", 0, {}),
        ("G", 7, {"F": 1}),
        ("F#m", 6, {"F": 1, "C": 1, "G": 1}),
        ("A Mixolydian", 9, {"F": 1, "C": 1}),
        ("Ddor", 2, {}),
        ("Bb", 10, {"B": -1, "E": -1}),
        ("Gmin", 7, {"B": -1, "E": -1}),
    ],
)
def test_keys(text, tonic, signature):
    key = read_key(text)
    assert (key.tonic, key.signature) == (tonic, signature)
    assert key.minor == (text in ("F#m", "Ddor", "Gmin"))


@pytest.mark.parametrize("text", ["H", "Hp", "Bn", "G# lydian", ""])
def test_what_is_no_key_is_refused(text):
    with pytest.raises(ValueError, match="is not a key"):
        read_key(text)


def test_metres():
    assert [read_metre(text) for text in ("C", "C|", "9/8")] == [(4, 4), (2, 2), (9, 8)]
    with pytest.raises(ValueError, match="is not a metre"):
        read_metre("free")


@pytest.mark.parametrize("music", ["V:2\nA", "A&B", "Z4", "[M:3/4]A"])
def test_music_that_is_not_one_melody_is_refused(music):
    with pytest.raises(ValueError, match="which is not read"):
        read_tune(HEAD + music)


def test_tokens_are_those_of_one_tonic_and_one_length_of_the_bar():
    """A reel in 2/4 and sixteenths is one in 4/4 and eighths, here in another key."""
    long = read_tune("X:1\nM:C|\nL:1/8\nK:D\nd2fd Ad z2|D8|]")
    short = read_tune("X:1\nM:2/4\nL:1/16\nK:A\nA2cA EA z2|A,8|]")
    tokens = melody(long, "").tokens
    assert tokens == (
        "4/4 major", "12:2", "16:1", "12:1", "7:1", "12:1", "r:2", "|", "0:8", "end",
    )  # fmt: skip
    assert melody(short, "").tokens == ("4/4 major", *tokens[1:])
    assert parse_token("-5:3/2") == (-5, Fraction(3, 2))
    assert parse_token("r:1") == (None, 1)
    assert parse_token("|") is None


def test_a_transposed_tune_is_of_the_same_family():
    def tune(pitches):
        return Melody("", "", ("4/4 major", *[f"{pitch}:1" for pitch in pitches], "end"))

    random = np.random.default_rng(0)
    one, other = random.integers(0, 12, 60), random.integers(0, 12, 60)
    changed = np.concatenate([one[:20] + 3, other[:40] - 2])
    assert families([tune(one), tune(other)]) == [[0], [1]]
    assert families([tune(one), tune(one + 5), tune(other)]) == [[0, 1], [2]]
    assert families([tune(one), tune(other), tune(changed)]) == [[0, 1, 2]]


def test_no_family_is_in_two_parts():
    made = invented_tunes(60)
    copies = [Melody(f"copy {number}", *tune[1:]) for number, tune in enumerate(made)]
    parts = split(made + copies, 0.2)
    for part, others in ((parts.validation, parts.training), (parts.test, parts.training)):
        assert len({tune.tokens for tune in part}) == len(part) == 12
        assert not {tune.tokens for tune in part} & {tune.tokens for tune in others}


def slow_repeats(codes):
    """By comparison of all passages."""
    lengths, guesses = [], []
    for place in range(1, len(codes)):
        before = codes[:place]
        best, guess = 0, -1
        for end in range(1, place):
            length = 0
            while length < min(end, baselines.LONGEST) and (
                before[end - 1 - length] == before[place - 1 - length]
            ):
                length += 1
            if length and length >= best:
                best, guess = length, codes[end]
        lengths.append(best)
        guesses.append(guess)
    return lengths, guesses


def test_repeats_are_the_longest_passages_before():
    random = np.random.default_rng(0)
    made = [random.integers(0, 3, size) for size in (2, 40, 90)]
    made.append(np.tile(made[1], 2))
    found = baselines.repeats(made)
    slow = [slow_repeats(codes.tolist()) for codes in made]
    assert found.lengths.tolist() == np.concatenate([lengths for lengths, _ in slow]).tolist()
    assert found.guesses.tolist() == np.concatenate([guesses for _, guesses in slow]).tolist()
    known = found.lengths > 0
    assert (targets(made)[found.earlier[known]] == found.guesses[known]).all()
    assert found.lengths.max() == baselines.LONGEST


def test_a_mixture_is_a_distribution_and_its_weights_are_the_likeliest():
    random = np.random.default_rng(0)
    made = [np.tile(random.integers(0, 5, 12), 4)]
    found = baselines.repeats(made)
    wanted = targets(made)
    plain = random.dirichlet(np.ones(5), len(wanted))
    likelihoods = plain[np.arange(len(wanted)), wanted]
    weights = baselines.fit_weights(likelihoods, found.guesses == wanted, found)
    mixed = baselines.with_repeats(plain, found, weights)
    np.testing.assert_allclose(mixed.sum(axis=1), 1)
    cost = -np.log(mixed[np.arange(len(wanted)), wanted]).sum()
    assert cost < -np.log(likelihoods).sum()
    for other in (0.9 * weights, np.minimum(1.05 * weights, 0.98)):
        shifted = baselines.with_repeats(plain, found, other)
        assert cost <= -np.log(shifted[np.arange(len(wanted)), wanted]).sum()


def test_the_distribution_of_an_ngram_is_that_of_its_bits():
    codes = coded(split(invented_tunes(40), 0.1), 40)
    model = ngram.fit(np.concatenate(codes.training), 4, 40)
    chances = baselines.distributions(model, codes.test)
    expected = np.concatenate([model.bits(tune)[1:] for tune in codes.test])
    rows = np.arange(len(expected))
    np.testing.assert_allclose(-np.log2(chances[rows, targets(codes.test)]), expected, rtol=1e-5)


def test_bars_of_the_grammar_are_complete_and_return():
    made = [tune.tokens for tune in invented_tunes(20)]
    shares = continuation.shares(made)
    assert shares["complete_bars"] == 1
    # Of sixteen bars in the form abacabad, twice, at most eight are new.
    assert shares["repeated_bars"] >= 0.5
    assert len(continuation.bars(made[0])) == 16


def test_the_opening_has_whole_bars():
    tokens = ("4/4 major", "0:1", "|", "0:8", "|", "0:4", "4:4", "|", "7:8", "end")
    assert tokens[: continuation.opening(tokens, 1)][-2:] == ("0:8", "|")
    assert tokens[: continuation.opening(tokens, 2)][-2:] == ("4:4", "|")


def corpus():
    found = importlib.util.find_spec("music21")
    if found is None or found.origin is None:
        pytest.skip("music21 is not installed")
    return Path(found.origin).parent / "corpus"


def is_read_alike(text):
    """Whether music21 reads a tune by the same rules.

    It applies a sign to its own note alone, loses the note after H, a fermata, and reads letters of
    ornaments and broken pairs beside a slur in other ways.
    """
    music = "\n".join(line for line in text.splitlines() if not re.match("[A-Za-z]:|%", line))
    return not re.search(r"[=_^H<>\[\]{}!\"&yxu-vk-wI-Y0]", music)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_tunes_are_read_as_music21_reads_them():
    folder = corpus()
    converter = pytest.importorskip("music21.converter")
    texts = []
    for collection in COLLECTIONS:
        for path in sorted((folder / collection).glob("*.abc")):
            text = path.read_text(encoding="utf-8", errors="replace")
            texts += filter(is_read_alike, tunes(text))
    assert len(texts) > 500
    for text in texts[::25]:
        ours = [(note.pitch, float(note.duration)) for bar in read_tune(text).bars for note in bar]
        score = converter.parse(text, format="abc").flatten().notesAndRests
        theirs = [
            (None if note.isRest else note.pitch.midi, float(note.quarterLength / 4))
            for note in score
        ]
        assert ours == theirs, text


@pytest.mark.long
def test_nearly_all_tunes_of_the_collections_are_read():
    corpus()
    made = folk_tunes()
    assert len(made) > 4000
    assert continuation.shares([tune.tokens for tune in made])["complete_bars"] > 0.8
