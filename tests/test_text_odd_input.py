"""Text processing of input that nobody expects: each has the right result or one sentence."""

import functools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab import text
from tests.reference import one_sentence

DOCUMENTS = [["a", "b", "a"], ["b", "c"]]
FAMILY = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}"
THUMB = "\N{THUMBS UP SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-4}"
ACUTE = "\N{COMBINING ACUTE ACCENT}"
LONE = "a\ud800"


@pytest.mark.parametrize(
    ("given_text", "wanted", "cleared"),
    [
        (f"cafe{ACUTE} noir!", [f"cafe{ACUTE}", "noir", "!"], f"cafe{ACUTE} noir "),
        ("हिन्दी भाषा।", ["हिन्दी", "भाषा", "।"], "हिन्दी भाषा "),
        ("שָׁלוֹם עולם", ["שָׁלוֹם", "עולם"], "שָׁלוֹם עולם"),
        ("می\u200cخواهم", ["می\u200cخواهم"], "می\u200cخواهم"),
        (f"{FAMILY} hi{THUMB}", [FAMILY, "hi", THUMB], "      hi  "),
        ("🇩🇪🇫🇷", ["🇩🇪", "🇫🇷"], "    "),
        ("3\ufe0f\u20e3 ❤\ufe0f.", ["3\ufe0f\u20e3", "❤\ufe0f", "."], "3\ufe0f\u20e3    "),
        (f"{ACUTE}x _{ACUTE}", [f"{ACUTE}", "x", f"_{ACUTE}"], " x   "),
        ("é <number> a\0b", ["é", "<number>", "a", "\0", "b"], "é <number> a b"),
    ],
)
def test_marks_and_joiners_belong_to_what_they_follow(given_text, wanted, cleared):
    assert text.words(given_text) == wanted
    assert text.remove_punctuation(given_text) == cleared


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_a_text_with_marks_is_split_without_loss(any_text):
    # The letter makes the text one that is not ASCII.
    joined = "".join(text.words("é " + any_text))
    assert "".join(joined.split()) == "é" + "".join(any_text.split())
    assert len(text.remove_punctuation("é " + any_text)) == len(any_text) + 2


def test_letters_that_only_look_alike_are_no_english():
    # Without regard to case, a long s equals an s, and a dotless i an i.
    assert text.normalize_dates("3 \u017fep 2024, 3 SEP 2024") == "3 \u017fep 2024, 2024-09-03"
    assert text.expand_contractions("CAN'T a\u0131n't") == "Cannot a\u0131 not"


@pytest.mark.parametrize("day_first", ["yes", 2, []])
def test_day_first_is_a_flag(day_first):
    one_sentence(lambda: text.normalize_dates("4/5/2024", day_first=day_first), "day_first is")
    assert text.normalize_dates("4/5/2024", day_first=np.True_) == "2024-05-04"


@pytest.mark.parametrize("language", ["English", "EN", None, ["en"], 5, ""])
def test_a_language_is_a_code(language):
    for call in (
        lambda: text.sentences("Dr. Lee.", language),
        lambda: text.stop_words(language),
        lambda: text.stem(["a"], "snowball", language),
        lambda: text.lemmatize(["a"], language),
    ):
        one_sentence(call, "language is")


def test_tokens_that_simplemma_refuses_stay():
    assert text.lemmatize(["", "mice", LONE]) == ["", "mouse", LONE]


def test_a_text_that_nltk_gives_up_on_is_refused(monkeypatch):
    from nltk.tokenize import casual

    def too_long(*_):
        raise TimeoutError

    monkeypatch.setattr(casual.TweetTokenizer, "tokenize", too_long)
    one_sentence(lambda: text.words("1" * 9, style="tweet"), "nltk gave up", "another style")


@pytest.mark.parametrize("documents", [None, 5])
def test_documents_are_lists(documents):
    for call in (text.build_vocabulary, text.tf_idf, text.tf_idf(DOCUMENTS)):
        one_sentence(lambda call=call: call(documents), "documents is", "the tokens of each")
    one_sentence(lambda: text.train_subwords(documents), "texts is")


def test_other_tokens_have_another_digest():
    pairs = [(("a\nb",), ("a", "b")), (("\n", ""), ("", "\n")), (("a", "\n", "b"), ("a", "\n\nb"))]
    for first, second in pairs:
        assert text.Vocabulary(first).digest != text.Vocabulary(second).digest
    # Files that earlier versions saved stay valid.
    assert text.Vocabulary(("a", "\n", "b")).digest.startswith("2282b3ef")


def test_lone_surrogates_are_saved(tmp_path):
    path = tmp_path / "saved.json"
    vocabulary = text.Vocabulary((LONE, "\0", "é"))
    vocabulary.save(path)
    assert text.load_vocabulary(path) == vocabulary
    text.bag_of_words([[LONE]]).save(path)
    assert text.load_bag_of_words(path).terms == (LONE,)
    text.pipeline(functools.partial(text.replace_numbers, token=LONE)).save(path)
    assert text.load_pipeline(path)("1") == LONE


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_subwords_of_odd_texts(kind):
    train = functools.partial(text.train_subwords, kind=kind)
    one_sentence(lambda: train(["a b", LONE], 300), "texts[1] has a lone surrogate")
    # The package would ask for the memory of all pieces at once, or fail on the number.
    most = train(["low lower lowest <eos>"] * 3, 10**30, min_count=np.int64(2))
    few = train(["low lower lowest <eos>"] * 3, 1000)
    assert set(most.vocabulary.tokens) == set(few.vocabulary.tokens)
    one_sentence(lambda: most(LONE), "the text has a lone surrogate")
    assert most.encode("").size == 0
    codes = most.encode("<eos><pad> <unk>")
    assert not {0, 2, 3} & set(codes.tolist())
    one_sentence(lambda: train(["abcdefgh"], 9), "size is 9", "give at least")


def test_a_damaged_model_of_subwords_is_refused():
    content = text.train_subwords(["low lower lowest"] * 3, 300).to_json()
    read = text.Subwords.from_json
    one_sentence(lambda: read(content | {"kind": "frob"}), "kind is 'frob'")
    one_sentence(lambda: read(content | {"kind": "unigram"}), "the model is of kind 'bpe'")
    one_sentence(lambda: text.Subwords("bpe", "no JSON"), "the model cannot be read")
    content["model"]["model"]["vocab"]["zzz"] = 5000
    one_sentence(lambda: read(content), "codes up to 5000", "no gap")


def test_odd_codes_and_tokens():
    vocabulary = text.Vocabulary(("a", "b"))
    assert ["a"] not in vocabulary
    one_sentence(lambda: vocabulary.code(["a"]), "the token is ['a']")
    one_sentence(lambda: vocabulary.encode(["a"], bos="no"), "bos is 'no'; it must be True or F")
    for call in (vocabulary.decode, lambda codes: text.one_hot(codes, 3)):
        one_sentence(lambda call=call: call([[1], [1, 2]]), "codes are lists of several lengths")
    # A matrix [V, V] would take 4 TB.
    assert text.one_hot([[5], [0]], 1_000_000).sum(axis=-1).tolist() == [[1], [1]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[" * 200_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "too many digits"),
        ('{"format": "rnnlab vocabulary", "version": 1, "tokens": ["a", 5]}', "tokens[1] is 5"),
        ('{"format": "rnnlab vocabulary", "version": 1, "tokens": ["a", "a"]}', "'a' twice"),
        ('{"format": "rnnlab vocabulary", "version": NaN}', "has version nan"),
    ],
)
def test_a_damaged_vocabulary_is_named(tmp_path, content, words):
    path = tmp_path / "v.json"
    path.write_text(content)
    one_sentence(lambda: text.load_vocabulary(path), str(path), words)


def test_an_empty_file_of_tokens_is_refused(tmp_path):
    path = tmp_path / "v.TXT"
    path.write_text("")
    one_sentence(lambda: text.load_vocabulary(path), str(path), "is empty")
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\r\n")
    assert text.load_vocabulary(path).tokens == ("a", "b")
    one_sentence(lambda: text.load_vocabulary(path, digest=5), "digest is 5")


def test_no_documents_have_no_vectors():
    assert text.tf_idf(DOCUMENTS)([]).shape == (0, 3)
    assert text.bag_of_words(DOCUMENTS)([]).shape == (0, 3)
    assert text.tf_idf(DOCUMENTS)([["unseen"], []]).toarray().tolist() == [[0] * 3] * 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"idf": [1.0]}, "idf must be a finite number for each of 2 terms"),
        ({"idf": [1.0, float("nan")]}, "idf must be"),
        ({"idf": ["x", 1]}, "idf must be"),
        ({"terms": "ab"}, "the tokens are one string"),
        ({"terms": ["a", "a"]}, "has a term twice"),
        ({"terms": []}, "has no terms"),
        ({"ngrams": [1, 2, 3]}, "ngrams is [1, 2, 3]"),
        ({"sublinear": "no"}, "sublinear is 'no'"),
    ],
)
def test_a_damaged_bag_of_words_is_named(tmp_path, change, words):
    path = tmp_path / "bag.json"
    text.tf_idf([["a", "b"]]).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    one_sentence(lambda: text.load_bag_of_words(path), str(path), words)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{"step": ["words"]}], "step 1 is ['words']"),
        ([{"step": "words", "settings": {"style": float("nan")}}], "step 1, words: style is nan"),
        ([{"step": "remove_punctuation", "settings": {"keep": 5}}], "is of type int"),
        ([{"step": "normalize_dates", "settings": {"day_first": "yes"}}], "day_first is 'yes'"),
        ([{"step": "sentences", "settings": {"language": ["en"]}}], "language is ['en']"),
    ],
)
def test_a_damaged_pipeline_is_named(tmp_path, steps, words):
    path = tmp_path / "pipeline.json"
    text.pipeline(text.words).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"steps": steps}))
    one_sentence(lambda: text.load_pipeline(path), str(path), words)


def test_settings_are_saved_as_json_or_refused(tmp_path):
    def steps(extra):
        return text.pipeline(text.words, functools.partial(text.remove_stop_words, extra=extra))

    for extra in ({"q": 1}.keys(), np.array(["q"]), frozenset("q")):
        steps(extra).save(tmp_path / "p.json")
        assert text.load_pipeline(tmp_path / "p.json")("q r") == ["r"]
    # The first text would use it up, and the second one keep the words.
    one_sentence(lambda: steps(word for word in ["q"]), "extra is an iterator")
    bad = text.pipeline(functools.partial(text.normalize_dates, day_first=object()))
    one_sentence(lambda: bad.save(tmp_path / "p.json"), "day_first is", "JSON cannot hold")


def test_a_csv_file_with_a_giant_cell_and_nul(tmp_path):
    path = tmp_path / "reviews.csv"
    giant = "a" * 200_000
    path.write_bytes(f"\ufefflabel,text\r\npos,{giant}\r\nneg,b\0c\r\n".encode())
    assert text.read_csv(path).texts == (giant, "b\0c")


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ("label,text\npos,a\n ,b\n", {}, "line 3: the label is empty"),
        ("label,text,text\npos,a,b\n", {}, "line 1: there are two columns 'text'"),
        ("label,text\npos, \n", {"skip_empty": True}, "all documents are empty"),
        ("label,text\npos,a\n", {"delimiter": '"'}, "delimiter is"),
        ("label,text\npos,a\n", {"delimiter": "\n"}, "delimiter is"),
    ],
)
def test_odd_csv_files_are_refused(tmp_path, content, options, words):
    path = tmp_path / "reviews.csv"
    path.write_text(content)
    one_sentence(lambda: text.read_csv(path, **options), words)


@pytest.mark.parametrize("suffix", ["**", "[", None, "/../*"])
def test_a_suffix_is_no_pattern(tmp_path, suffix):
    one_sentence(lambda: text.read_folder(tmp_path, suffix=suffix), "suffix is")
