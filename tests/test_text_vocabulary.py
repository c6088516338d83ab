"""Vocabularies and labelled documents: codes, files, and what is refused."""

import json

import numpy as np
import pytest

from rnnlab import data, text
from rnnlab.text import BOS, EOS, PAD, SPECIAL, UNK, Vocabulary, build_vocabulary

DOCUMENTS = [["b", "a", "b"], ["c", "b", "a"], ["<eos>", "d"]]


def test_frequent_tokens_come_first_and_equal_ones_in_order():
    vocabulary = build_vocabulary(DOCUMENTS)
    assert vocabulary.tokens == (*SPECIAL, "b", "a", "c", "d")
    assert build_vocabulary(reversed(DOCUMENTS)) == vocabulary
    assert build_vocabulary(DOCUMENTS, min_count=2).tokens == (*SPECIAL, "b", "a")
    assert build_vocabulary(DOCUMENTS, max_size=5).tokens == (*SPECIAL, "b")
    assert [vocabulary.code(token) for token in (PAD, UNK, BOS, EOS)] == [0, 1, 2, 3]
    assert "b" in vocabulary
    assert vocabulary.code("z") is None


def test_codes_and_tokens_are_inverse():
    vocabulary = build_vocabulary(DOCUMENTS)
    codes = vocabulary.encode(["a", "z", "b"], bos=True, eos=True)
    assert codes.dtype == np.int32
    assert vocabulary.decode(codes) == [BOS, "a", UNK, "b", EOS]
    assert vocabulary.encode([]).shape == (0,)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Vocabulary(()), "has no tokens"),
        (lambda: Vocabulary(("a", "b", "a")), "has 'a' twice"),
        (lambda: Vocabulary("ab"), "one string"),
        (lambda: Vocabulary(("a",)).encode(["z"]), "'z' is not in the vocabulary; add '<unk>'"),
        (lambda: Vocabulary(("a",)).encode(["a"], bos=True), "'<bos>' is not in the vocabulary"),
        (lambda: Vocabulary(("a",)).decode([1]), r"codes hold 1; each must lie in 0..0"),
        (lambda: Vocabulary(("a",)).decode([0.5]), "codes are float64"),
        (lambda: Vocabulary(("a",)).decode([[0]]), r"codes are int64\[1, 1\]"),
        (lambda: build_vocabulary(DOCUMENTS, max_size=4), "max_size"),
        (lambda: text.one_hot([0, 3], 3), r"codes hold 3; each must lie in 0..2"),
        (lambda: text.one_hot([-1], 3), "codes hold -1"),
        (lambda: text.one_hot([0.0], 3), "give whole numbers"),
    ],
)
def test_bad_tokens_and_codes_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_saved_vocabulary_is_the_same(tmp_path):
    vocabulary = build_vocabulary([["é", "\n", "a b", "x"]])
    vocabulary.save(tmp_path / "v.json")
    loaded = text.load_vocabulary(tmp_path / "v.json", digest=vocabulary.digest)
    assert loaded == vocabulary
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\nthe\n##s\n", encoding="utf-8")
    assert text.load_vocabulary(tmp_path / "vocab.txt").tokens == ("[PAD]", "[UNK]", "the", "##s")


def test_another_vocabulary_is_refused(tmp_path):
    vocabulary = build_vocabulary(DOCUMENTS)
    path = tmp_path / "v.json"
    vocabulary.save(path)
    with pytest.raises(ValueError, match=r"v.json holds another vocabulary \(8 tokens"):
        text.load_vocabulary(path, digest="0" * 64)
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"tokens": record["tokens"][::-1]}))
    with pytest.raises(ValueError, match="was changed after it was saved"):
        text.load_vocabulary(path)
    path.write_text(json.dumps(record | {"version": 0}))
    with pytest.raises(ValueError, match="has version 0"):
        text.load_vocabulary(path)
    (tmp_path / "vocab.txt").write_text("a\nb\na\n")
    with pytest.raises(ValueError, match=r"vocab.txt, line 3: 'a' is also in line 1"):
        text.load_vocabulary(tmp_path / "vocab.txt")


def test_encoded_documents_become_batches():
    vocabulary = build_vocabulary(DOCUMENTS)
    codes = [vocabulary.encode(tokens) for tokens in DOCUMENTS]
    batches = data.bucketed(codes, [0, 1, 0], 2, buckets=2, vocabulary_size=len(vocabulary))
    assert batches.batches_per_epoch == 2
    assert {batches[0].xs.shape, batches[1].xs.shape} == {(2, 2), (3, 2)}
    vectors = text.one_hot(codes[0], len(vocabulary))
    assert vectors.shape == (3, 8)
    np.testing.assert_array_equal(vectors.argmax(axis=1), codes[0])


@pytest.fixture
def folder(tmp_path):
    for label, texts in {"pos": ["good", "fine\n"], "neg": ["bad"]}.items():
        (tmp_path / label).mkdir()
        for number, content in enumerate(texts):
            (tmp_path / label / f"{number}.txt").write_text(content)
    (tmp_path / "README.txt").write_text("not a document")
    return tmp_path


def test_a_folder_for_each_label(folder):
    documents = text.read_folder(folder)
    assert documents.texts == ("bad", "good", "fine\n")
    assert documents.label_names == ("neg", "pos")
    assert documents.labels.tolist() == [0, 1, 1]
    assert repr(documents) == "Documents(texts=3, labels={'neg': 1, 'pos': 2})"


def test_folders_that_are_no_labels_are_left_out(folder):
    (folder / "unsup").mkdir()
    (folder / "unsup" / "0.txt").write_text("without a label")
    (folder / "empty").mkdir()
    assert text.read_folder(folder).label_names == ("neg", "pos", "unsup")
    documents = text.read_folder(folder, labels=["pos", "neg"])
    assert documents.texts == ("bad", "good", "fine\n")
    assert documents.label_names == ("neg", "pos")
    for labels, words in (
        (["neg", "po"], "no files for the label 'po'; choose among neg, pos, unsup"),
        (["neg", "empty"], "no files for the label 'empty'"),
        ("pos", "labels is 'pos'; give a list of folders"),
        ([], "labels is "),
    ):
        with pytest.raises(ValueError, match=words):
            text.read_folder(folder, labels=labels)


def test_bad_files_of_a_folder_are_named(folder):
    (folder / "pos" / "2.txt").write_bytes(b"first line\nsecond \xe9")
    with pytest.raises(ValueError, match=r"2.txt is not UTF-8 \(line 2, byte 8: 0xe9\)"):
        text.read_folder(folder)
    (folder / "pos" / "2.txt").write_text(" \n")
    with pytest.raises(ValueError, match=r"2.txt: the document is empty"):
        text.read_folder(folder)
    assert len(text.read_folder(folder, skip_empty=True).texts) == 3
    with pytest.raises(ValueError, match="has no files"):
        text.read_folder(folder, suffix=".md")
    with pytest.raises(ValueError, match="is not a folder"):
        text.read_folder(folder / "README.txt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"text,sentiment\na,b\n", "line 1: there is no column 'label' among text, sentiment"),
        (b"text,sentiment\na,b\n", "give the names of the two columns with text= and label="),
        (b"", "line 1 is empty; give a header"),
        (b"text;label\na;b\n", "give delimiter=';'"),
        (b"text\tlabel\na\tb\n", r"give delimiter='\\t'"),
        (b"text,label\n", "has no rows"),
        (b'text,label\n"a\nb",pos\nc\n', "line 4: 1 cells, but the header has 2"),
        (b"text,label\na,b,pos\n", "line 2: 3 cells"),
        (b"text,label\na,pos\n,neg\n", "line 3: the document is empty"),
        (b'text,label\n"a,pos\n', "close its quotes"),
        (b"text,label\na\xff,pos\n", r"is not UTF-8 \(line 2, byte 2"),
    ],
)
def test_bad_csv_files_are_refused_with_the_line(tmp_path, content, words):
    path = tmp_path / "reviews.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        text.read_csv(path)
    assert str(path) in str(caught.value)


def test_a_csv_file_with_lines_in_cells(tmp_path):
    path = tmp_path / "reviews.tsv"
    path.write_bytes(b'stars\treview\n5\t"two\nlines, ""quoted"""\n\n1\tdull\n')
    documents = text.read_csv(path, text="review", label="stars", delimiter="\t")
    assert documents.texts == ('two\nlines, "quoted"', "dull")
    assert documents.label_names == ("1", "5")
    assert documents.sources == (f"{path}, line 2", f"{path}, line 5")
