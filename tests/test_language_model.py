"""The experiment on language models: its text, its scores, and its measures of what is written."""

import jax
import numpy as np
import pytest

import rnnlab
from experiments.language_model import prose, scoring, writing
from rnnlab.models import language_model
from rnnlab.text import Vocabulary


@pytest.fixture(scope="module")
def network():
    model = language_model(rnnlab.GRU(3), 5, tied=True)
    codes = np.random.default_rng(0).integers(5, size=1 + scoring.COLUMNS * 9 - 4)
    batch = rnnlab.data.Batch(codes[:, None], None)
    return model, model.init(jax.random.key(0), batch), codes


def test_target_bits_are_those_of_every_part_read_alone(network, monkeypatch):
    monkeypatch.setattr(scoring, "LENGTH", 3)  # a part is read in three windows
    model, params, codes = network
    found = scoring.target_bits(model, params, codes)
    assert len(found) == len(codes) - 1
    for start in range(0, len(found), 9):
        part = codes[start : start + 10, None]
        _, logits = model.run(params, part[:-1], model.initial_state(1))
        scores = np.asarray(jax.nn.log_softmax(logits))[:, 0]
        expected = -scores[np.arange(len(part) - 1), part[1:, 0]] / np.log(2)
        np.testing.assert_allclose(found[start : start + 9], expected, rtol=1e-5)


def test_a_mixture_is_the_mean_of_the_probabilities():
    bits = scoring.mixed(np.array([1.0, 3.0]), np.array([2.0, 3.0]), 0.5)
    np.testing.assert_allclose(2.0**-bits, [(1 / 2 + 1 / 4) / 2, 1 / 8])


def test_only_unknown_words_are_spelled_and_the_first_token_is_no_target():
    vocabulary = Vocabulary(("<unk>", "the"))
    bits = scoring.speller(vocabulary, ["the", "cat", "dog"] * 5, ["the", "cat"], (2,))
    assert bits(["the", "the"]) == 0
    assert bits(["cat", "the"]) == 0
    assert 0 < bits(["the", "cat"]) < bits(["the", "cat", "the", "cat"])


def test_a_speller_gives_all_words_together_no_more_than_one():
    vocabulary = Vocabulary(("<unk>", "the"))
    bits = scoring.speller(vocabulary, ["ab", "ba", "b"] * 5, ["ab"], (3,))
    words = [first + second for first in ("", *"ab") for second in "ab"]
    assert sum(2 ** -bits(["the", word]) for word in words) < 1


def test_the_parts_are_whole_articles():
    articles = [[str(number)] * 3 for number in range(16)]
    parts = prose.split(articles)
    assert parts.articles == (12, 2, 2)
    tokens = parts.training + parts.validation + parts.test
    assert sorted(tokens) == sorted(token for article in articles for token in article)
    assert not set(parts.training) & set(parts.test)
    assert not set(parts.validation) & set(parts.test)


def test_tokens_are_words_numbers_and_ends_of_paragraphs():
    start = "In 1984 Ångström's ''book'' — of 3,000 pages — was read by everyone in the small "
    line = f"{start}town."
    expected = "in 0 angstrom's book of 0 pages was read by everyone in the small town ."
    found = prose.tokens(f"==Heading==\n{line}\n* {line}")
    assert found == [*expected.split(), prose.END]


def test_characters_have_a_space_behind_each_word():
    codes = prose.characters(["a", "b", "\n"])
    assert "".join(prose.ALPHABET[code] for code in codes) == "a b \n "


def test_variety_counts_what_was_there_before():
    loop = writing.variety([list("abcabcabc")])
    assert loop["repeated_4grams"] == pytest.approx(1 - 3 / 6)
    assert loop["distinct_1"] == pytest.approx(3 / 9)
    assert loop["distinct_2"] == pytest.approx(3 / 8)
    assert writing.variety([list("abcdefgh")])["repeated_4grams"] == 0


def test_the_share_of_ngrams_that_were_seen():
    assert prose.seen_share(list("abcdef"), list("abcdxf"), order=3) == pytest.approx(2 / 4)


def test_a_judge_leaves_unknown_words_out(network):
    model, params, codes = network
    places = writing.prompts(codes, count=2, length=4, steps=6)
    perplexity = writing.judge(model, params, places, unknown=0)
    known = np.full((6, 2), 3)
    text = np.concatenate([places.read, known])
    _, logits = model.run(params, text[:-1], model.initial_state(2))
    shares = np.asarray(jax.nn.softmax(logits))[3:]
    expected = np.exp(-np.log(shares[..., 3] / (1 - shares[..., 0])).mean())
    assert perplexity(known) == pytest.approx(expected, rel=1e-5)
