"""Text processing: each step on texts whose result is known, and pipelines that are saved."""

import functools
import json
import pydoc_data.topics
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab import text

PROSE = "\n".join(pydoc_data.topics.topics.values())[:60_000]


@pytest.mark.parametrize(
    ("step", "given_text", "wanted"),
    [
        (text.lower_case, "ÀÉ Straße", "àé straße"),
        (text.strip_accents, "Ça, señor: 한글 Việt ø", "Ca, senor: 한글 Viet ø"),
        (text.normalize_unicode, "①\N{FULLWIDTH LATIN CAPITAL LETTER A}ﬀ", "1Aff"),
        (text.collapse_whitespace, "\t a\u00a0 b\r\n\n", "a b"),
        (text.expand_contractions, "Won't, CAN'T, shan't", "Will not, Cannot, shall not"),
        (
            text.expand_contractions,
            "they’ve we'd she'll you're",
            "they have we would she will you are",
        ),
        (text.expand_contractions, "Let's go; what's John's?", "let us go; what is John's?"),
        (
            text.replace_numbers,
            "v2 2.5e-3, 1,000,000 and 7.",
            "v2 <number>, <number> and <number>.",
        ),
        (
            text.replace_numbers,
            "-5°C, +3, 10%, 3rd, x-1",
            "<number>°C, <number>, <number>, 3rd, x-1",
        ),
        (text.remove_punctuation, "a_b – <number>!\nc", "a b   <number> \nc"),
        (text.normalize_dates, "Sept. 3, 2024; 1st of May 1999", "2024-09-03; 1999-05-01"),
        (text.normalize_dates, "31/2/2024 and 30 February 2024", "31/2/2024 and 30 February 2024"),
        (text.normalize_dates, "4/4/2024 and 13.4.2024", "2024-04-04 and 2024-04-13"),
        (text.replace_dates, "1/2/2024, 2024-13-01", "<date>, 2024-13-01"),
    ],
)
def test_normalization(step, given_text, wanted):
    assert step(given_text) == wanted


def test_a_day_first_date_is_read_as_told():
    assert text.normalize_dates("4/5/2024", day_first=False) == "2024-04-05"
    assert text.normalize_dates("13/5/2024", day_first=False) == "13/5/2024"


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_normalization_of_normalized_text_changes_nothing(any_text):
    for step in (text.strip_accents, text.collapse_whitespace, text.normalize_unicode):
        once = step(any_text)
        assert step(once) == once


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_no_character_is_lost_by_splitting(any_text):
    assert "".join(text.characters(any_text)) == any_text
    joined = "".join(text.words(any_text))
    assert joined == "".join(any_text.split()) or any(
        unicodedata.category(char).startswith(("Z", "C")) for char in any_text
    )


def test_words_keep_placeholders_numbers_and_inner_marks():
    tokens = text.words("<number> well-known, it’s 12:30 or 1,000.5 (人工)…")
    assert tokens == [
        *("<number>", "well-known", ",", "it’s", "12:30", "or", "1,000.5"),
        *("(", "人工", ")", "…"),
    ]


def test_sentences_end_neither_at_abbreviations_nor_at_numbers():
    found = text.sentences("Prof. Lee (e.g. in Fig. 3) got 2.5. Why? Because!")
    assert found == ["Prof. Lee (e.g. in Fig. 3) got 2.5.", "Why?", "Because!"]
    german = "Er kam z.B. am 3. Mai. Dann ging er."
    assert text.sentences(german, "de")[-1] == "Dann ging er."
    assert len(text.sentences("See vol. Two of it.", abbreviations=["vol."])) == 1


def test_characters_are_those_that_readers_see():
    family = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}"
    assert text.characters(f"a{family}\r\nb") == ["a", family, "\r\n", "b"]


# The examples of the steps of the algorithm in Porter (1980).
PORTER = {
    "caresses": "caress", "ponies": "poni", "cats": "cat", "agreed": "agre",
    "plastered": "plaster", "motoring": "motor", "sing": "sing", "conflated": "conflat",
    "hopping": "hop", "falling": "fall", "filing": "file", "happy": "happi",
    "relational": "relat", "conditional": "condit", "digitizer": "digit", "operator": "oper",
    "formalize": "formal", "hopefulness": "hope", "revival": "reviv", "adjustment": "adjust",
    "controlling": "control", "probate": "probat", "rate": "rate",
}  # fmt: skip


def test_porter_stems_are_those_of_the_paper():
    assert dict(zip(PORTER, text.stem(list(PORTER)), strict=True)) == PORTER


def test_stems_and_lemmas_of_other_languages():
    assert text.stem(["Katzen", "liefen"], "snowball", "de") == ["katz", "lief"]
    assert text.lemmatize(["Katzen", "ging"], "de") == ["Katze", "gehen"]
    assert text.stem(["maximum"], "lancaster") == ["maxim"]


def test_stop_words_of_a_language_and_of_the_user():
    assert text.remove_stop_words(["Der", "Hund", "und", "Rex"], "de", extra=["rex"]) == ["Hund"]
    tokens = ["this", "is", "not", "good"]
    assert text.remove_stop_words(tokens) == ["good"]
    assert text.remove_stop_words(tokens, keep=["NOT"]) == ["not", "good"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: text.stop_words("xx"), "language is 'xx'; choose from those with a list of stop"),
        (
            lambda: text.stem(["a"], language="xx"),
            "language is 'xx'; choose from those with a Snow",
        ),
        (lambda: text.lemmatize(["a"], "xx"), "language is 'xx'; choose from those with a diction"),
        (lambda: text.stem(["a"], "porter", "de"), "take 'snowball'"),
        (lambda: text.words("a", "fancy"), "style"),
        (lambda: text.words(["a"]), "the text is of type list; give a string"),
        (lambda: text.stem("word"), "the tokens are one string, 'word'; split it first"),
        (lambda: text.stem([1]), r"tokens\[0\] is 1; give strings"),
        (lambda: text.build_vocabulary("ab"), "documents is one string"),
        (lambda: text.build_vocabulary([["a"], "b"]), r"documents\[1\]: the tokens are one string"),
        (lambda: text.train_subwords([" "], 300), "the texts are empty"),
        (lambda: text.train_subwords(["abc"], 20), "the letters of the texts alone are 2"),
        (lambda: text.bag_of_words([[]]), "no term is in 1 or more documents"),
        (lambda: text.bag_of_words([["a"]], min_documents=2), "there are 1 documents"),
        (lambda: text.bag_of_words([["a"]], ngrams=2), "ngrams is 2; give two numbers"),
        (lambda: text.pipeline(), "has no steps"),
        (lambda: text.pipeline(text.words, "stem"), "step 2 is 'stem'; give a function"),
        (
            lambda: text.pipeline(text.words, text.words)("a b"),
            "step 2, words: the text is of type",
        ),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_subwords_spell_words_that_the_training_text_lacks(kind):
    subwords = text.train_subwords([PROSE], 600, kind)
    assert len(subwords.vocabulary) <= 600
    pieces = subwords("reinitializationlessness")
    assert len(pieces) > 3
    assert text.UNK not in pieces
    codes = subwords.encode("The value of the expression")
    assert subwords.vocabulary.decode(codes) == subwords("The value of the expression")
    assert subwords.decode(codes).lower() == "the value of the expression"


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_no_text_is_unknown_to_bpe(any_text):
    subwords = _small_bpe()
    # A surrogate is not a character of UTF-8.
    any_text = any_text.encode("utf-8", "ignore").decode()
    assert subwords.decode(subwords.encode(any_text)) == any_text


@functools.cache
def _small_bpe():
    return text.train_subwords([PROSE], 400)


def test_special_tokens_in_a_text_are_text():
    subwords = _small_bpe()
    assert text.EOS not in subwords("a <eos> b")
    assert subwords.decode(subwords.encode("a <eos> b")) == "a <eos> b"


def test_tf_idf_is_the_formula():
    documents = [["a", "b", "a"], ["b", "c"], ["c", "c", "d"], []]
    weights = text.tf_idf(documents)
    vectors = weights(documents).toarray()
    counts = np.array([[document.count(term) for term in "abcd"] for document in documents])
    idf = np.log((1 + 4) / (1 + (counts > 0).sum(axis=0))) + 1
    wanted = counts * idf
    wanted[:3] /= np.linalg.norm(wanted[:3], axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, wanted, rtol=1e-12)
    pairs = text.bag_of_words(documents, ngrams=(2, 2))
    assert pairs.terms == ("a b", "b a", "b c", "c c", "c d")


def test_a_bag_of_words_is_saved(tmp_path):
    documents = [["a", "b", "a"], ["b", "c"]]
    for bag in (
        text.bag_of_words(documents),
        text.tf_idf(documents, sublinear=True, ngrams=(1, 2)),
    ):
        bag.save(tmp_path / "bag.json")
        loaded = text.load_bag_of_words(tmp_path / "bag.json")
        np.testing.assert_array_equal(loaded(documents).toarray(), bag(documents).toarray())
    (tmp_path / "bag.json").write_text(
        json.dumps({"format": "rnnlab bag of words", "version": 1, "terms": 3})
    )
    with pytest.raises(ValueError, match="lacks terms or weights"):
        text.load_bag_of_words(tmp_path / "bag.json")


def _steps():
    return (
        functools.partial(text.normalize_unicode, form="NFC"),
        text.lower_case,
        text.expand_contractions,
        text.replace_dates,
        text.replace_numbers,
        functools.partial(text.words, style="treebank"),
        functools.partial(text.remove_stop_words, extra=frozenset({"python"}), keep=["not"]),
        functools.partial(text.stem, algorithm="snowball"),
        text.lemmatize,
    )


def test_a_loaded_pipeline_gives_the_same_tokens(tmp_path):
    for steps in (_steps(), (text.strip_accents, _small_bpe())):
        pipeline = text.pipeline(*steps)
        pipeline.save(tmp_path / "pipeline.json")
        loaded = text.load_pipeline(tmp_path / "pipeline.json")
        assert loaded(PROSE) == pipeline(PROSE)
        # A second save writes the same file.
        before = (tmp_path / "pipeline.json").read_bytes()
        loaded.save(tmp_path / "pipeline.json")
        assert (tmp_path / "pipeline.json").read_bytes() == before


def test_a_pipeline_with_a_function_of_the_user_runs_but_is_not_saved(tmp_path):
    def shout(given_text):
        return given_text.upper()

    pipeline = text.pipeline(shout, text.words)
    assert pipeline("a b") == ["A", "B"]
    with pytest.raises(ValueError, match="step 1, shout, is not a function of rnnlab"):
        pipeline.save(tmp_path / "pipeline.json")
    with pytest.raises(ValueError, match="step 1, words"):
        text.pipeline(functools.partial(text.words, "a b")).save(tmp_path / "pipeline.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "has version 2, but this rnnlab reads version 1"),
        ({"format": "rnnlab vocabulary"}, "holds no text pipeline"),
        ({"steps": []}, "has no list of steps"),
        ({"steps": [{"step": "eval"}]}, "step 1 is 'eval', which is not a function"),
        (
            {"steps": [{"step": "words", "settings": {"size": 1}}]},
            "step 1, words, has unknown settin",
        ),
        ({"steps": [{"step": "words", "settings": [1]}]}, "step 1, words, has unknown settings"),
        ({"steps": [{"step": "Subwords", "model": 1}]}, "step 1 cannot be read"),
        (
            {"probe": ["other"], "packages": {"nltk": "1.0"}},
            r"than where it was saved \(nltk 1.0\)",
        ),
    ],
)
def test_a_changed_pipeline_is_refused(tmp_path, change, words):
    path = tmp_path / "pipeline.json"
    text.pipeline(*_steps()).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=words) as caught:
        text.load_pipeline(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_json_is_named_with_its_line(tmp_path):
    path = tmp_path / "pipeline.json"
    path.write_text('{\n"format": ,\n')
    with pytest.raises(ValueError, match=r"pipeline.json is not JSON \(line 2, column 11"):
        text.load_pipeline(path)
    path.write_bytes(b'{\n"a": "\xff"}')
    with pytest.raises(ValueError, match=r"is not UTF-8 \(line 2, byte 7: 0xff\)"):
        text.load_pipeline(path)


def test_a_step_without_its_package_says_how_to_install_it(monkeypatch):
    from rnnlab.text import packages

    with pytest.raises(
        ImportError, match=r"needs the package absent; pip install 'rnnlab\[text\]'"
    ):
        packages.package("absent")
    # A package that lacks one of its own is another fault.
    monkeypatch.setitem(__import__("sys").modules, "nltk.stem.porter", None)
    with pytest.raises(ImportError):
        text.stem(["a"])
