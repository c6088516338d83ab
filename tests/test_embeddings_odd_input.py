"""Word vectors from input that nobody expects: each has the right result or one sentence."""

import functools
import struct

import numpy as np
import pytest

from rnnlab.embeddings import (
    Embeddings,
    NGramVectors,
    RatedPair,
    analogy_accuracy,
    fasttext,
    glove,
    load_embeddings,
    read_analogies,
    read_fasttext,
    read_glove,
    read_pairs,
    read_word2vec_binary,
    read_word2vec_text,
    word2vec,
    word_similarity,
)
from rnnlab.text import UNK, Vocabulary, build_vocabulary
from tests.reference import one_sentence

LONE = "a\ud800"
VECTORS = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.0, 0.0]])
DOCUMENTS = [["the", "cat", "sat"], ["the", "dog", "sat"]] * 10


def small(vectors=VECTORS, **options):
    return Embeddings(Vocabulary(tuple("abcdefgh"[: len(vectors)])), vectors, **options)


def floats(*numbers):
    return struct.pack(f"<{len(numbers)}f", *numbers)


def test_unknown_words_get_the_vector_of_unk():
    words = Vocabulary(("a", UNK))
    embeddings = Embeddings(words, [[1, 0], [0, 3]], "unk")
    assert embeddings.vectors_of(["z", "a", UNK]).tolist() == [[0, 3], [1, 0], [0, 3]]
    assert embeddings.nearest("z", 1)[0].word == UNK
    wanted = build_vocabulary([["a", "z"]], special=["<pad>"])
    assert embeddings.select(wanted).matrix.tolist() == [[0, 3], [1, 0], [0, 3]]
    assert embeddings.select(wanted).missing == ("<pad>", "z")
    one_sentence(lambda: small(unknown="unk"), "'<unk>' is not in the vocabulary")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: small().nearest("zz"), "'zz' is not in the vocabulary"),
        (lambda: small().nearest("d"), "the vector is zero"),
        (lambda: small().nearest([np.nan, 1]), "without NaN"),
        (lambda: small().nearest([1e300, 1]), "without NaN"),
        (lambda: small().nearest(np.array([1j, 1])), "cannot be read as real numbers"),
        (lambda: small().nearest(b"a"), "cannot be read as real numbers"),
        (lambda: small().nearest([[1], [1, 2]]), "cannot be read as real numbers"),
        (lambda: small().analogy("a", "b", "c", 2.5), "count is 2.5"),
        (lambda: small().analogy("a", "b", "c", 0), "count is 0"),
        (lambda: small().analogy(["a"], "b", "c"), "the token is ['a']"),
        (lambda: small().vector(5), "the token is 5"),
        (lambda: small().select(["a"]), "the vocabulary is ['a']"),
        (lambda: Embeddings(["a"], np.ones((1, 2))), "the vocabulary is ['a']"),
        (lambda: small(VECTORS + 1j), "cannot be read as real numbers"),
        (lambda: small([["x", "y"]]), "cannot be read as real numbers"),
        (lambda: small([[1e300, 1]]), "'a' holds NaN or infinity"),
        (lambda: small(np.zeros((2, 0))), "shape (2, 0)"),
        (lambda: small(subwords=5), "subwords is 5"),
        (lambda: small(subwords=len).vector("zz"), "must give 2 finite numbers"),
        (lambda: small(subwords={"zz": [np.nan, 1]}.get).vector("zz"), "must give 2 finite"),
        (lambda: NGramVectors(np.ones((0, 2)), 1, 2), "must be finite, [B, D]"),
        (lambda: NGramVectors(np.ones((3, 2)), 3, 1), "high is 1"),
    ],
)
def test_odd_words_and_vectors_are_refused(call, words):
    one_sentence(call, words)


@pytest.mark.parametrize("scale", [1e-45, 1e-30, 1, 1e30, 3e37])
def test_cosines_do_not_depend_on_the_lengths(scale):
    embeddings = small(np.array([[1, 0], [4, 4], [0, 1]]) * np.float32(scale), unknown="mean")
    assert embeddings.similarity("a", "b") == pytest.approx(0.5**0.5, rel=1e-3)
    assert embeddings.nearest("a", 9)[0].score == pytest.approx(0.5**0.5, rel=1e-3)
    assert np.isfinite(embeddings.vector("zz")).all()


@pytest.mark.parametrize("dtype", ["f2", "f8", "i4", "u1", "?"])
def test_any_real_numbers_become_vectors(dtype):
    assert small(np.eye(2).astype(dtype)).similarity("a", "a") == 1


@pytest.mark.parametrize("words", [("a", "b\0"), ("\0",), ("a", ""), (LONE,), ("a\rb", "\u2028")])
def test_odd_words_are_saved(tmp_path, words):
    vectors = np.arange(2.0 * len(words)).reshape(-1, 2)
    Embeddings(Vocabulary(words), vectors).save(tmp_path / "e.npz")
    assert load_embeddings(tmp_path / "e.npz").vocabulary.tokens == words


def test_files_of_earlier_versions_are_read_and_damaged_ones_named(tmp_path):
    path = tmp_path / "e.npz"
    content = {"words": np.array(b"a\nb"), "vectors": np.eye(2), "unknown": np.array("zero")}

    def load(**change):
        np.savez(path, **content | change)
        return load_embeddings(path)

    assert load().vocabulary.tokens == ("a", "b")
    one_sentence(lambda: load(words=np.array(b"a\na")), str(path), "'a' twice")
    one_sentence(lambda: load(vectors=np.ones((3, 2))), str(path), "shape (3, 2)")
    one_sentence(lambda: load(unknown=np.array("guess")), str(path), "unknown is 'guess'")
    one_sentence(lambda: load(ngrams=np.ones((0, 2)), bounds=[1, 2]), str(path), "no embeddings")


def test_ngrams_of_a_lone_surrogate():
    assert NGramVectors(np.ones((3, 2)), 1, 2)(LONE).tolist() == [1, 1]


def read(reader, path, content, **options):
    path.write_bytes(content)
    embeddings = reader(path, **options)
    return embeddings.vocabulary.tokens, embeddings.vectors.tolist()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a 1 2\nb 1_0 2\n", "line 2: b'1_0' is not a number"),
        (b"a 1 2\nb 1 2 3\n", "line 2: b'b 1 2 3' has more numbers than line 1, which has 2"),
        (b"a 1 2\nb  1 2\n", "line 2: there must be a word and 2 numbers with single spaces"),
        (b"a 1 2\rb 3 4\r", "line 1: there must be a word"),
        (b"a 1 2\nb 3\0 4\n", "line 2"),
        (b"w 1 2\n" + b"".join(b"w%d 1 2\n" % n for n in range(5000)) + b"\xff 1 2\n", "line 5002"),
    ],
)
def test_odd_files_of_glove_are_refused_with_the_line(tmp_path, content, words):
    one_sentence(lambda: read(read_glove, tmp_path / "glove.txt", content), words)


def test_a_byte_order_mark_is_no_part_of_a_word(tmp_path):
    path, mark = tmp_path / "vectors", b"\xef\xbb\xbf"
    wanted = (("a", "b c"), [[1, 2], [3, 4]])
    rows = b"a 1 2\r\nb c 3 4\r\n"
    assert read(read_glove, path, mark + rows) == wanted
    assert read(read_word2vec_text, path, mark + b"2 2\n" + rows) == wanted
    binary = mark + b"2 2\na " + floats(1, 2) + b"\nb\xc2\xa0c " + floats(3, 4) + b"\n"
    assert read(read_word2vec_binary, path, binary)[1] == wanted[1]


def test_a_phrase_may_end_in_a_number_where_the_first_line_gives_the_width(tmp_path):
    content = b"1 2\nroute 66 1 2\n"
    assert read(read_word2vec_text, tmp_path / "v", content)[0] == ("route 66",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"99999999999 300\na" + b" 1" * 300 + b"\n", "ends after 1 of 99999999999 words"),
        (b"2 2147483647\na 1 2\n", "line 2: there must be a word and 2147483647 numbers"),
        (b"9" * 30 + b" 2\na 1 2\n", "is not the number of words"),
        (b"1 2\na 1 2\nb 3 4\n", "more rows than the 1 of its first line"),
    ],
)
def test_a_first_line_that_is_wrong_is_refused(tmp_path, content, words):
    one_sentence(lambda: read(read_word2vec_text, tmp_path / "v", content), words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"1 2\na " + floats(1, np.nan), "word 1, 'a', holds NaN"),
        (b"1 2\na " + floats(1, 2) + b"b " + floats(3, 4), "has more than the 1 words"),
        (b"2 1\na " + floats(1, 2) + b"b " + floats(3, 4), "has more than"),
        (b"1 2\n " + floats(1, 2), "word 1, '', is empty"),
        (b"99999999999999 300\n" + b"a " * 100, "too few for 99999999999999 words"),
    ],
)
def test_odd_binary_files_are_refused(tmp_path, content, words):
    path = tmp_path / "v.bin"
    one_sentence(lambda: read(read_word2vec_binary, path, content), str(path), words)


@pytest.mark.parametrize("reader", [read_glove, read_word2vec_text, read_word2vec_binary])
def test_a_path_with_a_zero_byte_is_none(reader):
    one_sentence(lambda: reader("a\0b"), "cannot be read (not a path)")


def test_a_model_of_fasttext_that_is_cut_short(tmp_path):
    datapath = pytest.importorskip("gensim.test.utils").datapath
    with open(datapath("crime-and-punishment.bin"), "rb") as file:  # noqa: PTH123
        content = file.read()
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    one_sentence(lambda: read_fasttext(path).vector(LONE), "lone surrogate")
    for count in (0, 8, 1000, len(content) // 2):
        path.write_bytes(content[:count])
        one_sentence(lambda: read_fasttext(path), str(path), "is not a binary model of FastText")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a\tb\tnan\n", "line 1: 'a\\tb\\tnan' has an empty word or no finite rating"),
        ("a\tb\t1\n\t\t5\n", "line 2"),
        ("a\u2028b\tc\t5\nbad\n", "line 2: 'bad'"),
    ],
)
def test_odd_rated_pairs_are_refused(tmp_path, content, words):
    path = tmp_path / "pairs.tsv"
    path.write_text(content, encoding="utf-8")
    one_sentence(lambda: read_pairs(path), str(path), words)
    path.write_bytes(b"a\tb\t5\r\n")
    assert read_pairs(path) == [RatedPair("a", "b", 5)]


def test_questions_whose_words_hold_a_separator_of_lines(tmp_path):
    (tmp_path / "q.txt").write_bytes(": s\r\na b c d\x85e\r\n".encode())
    one_sentence(lambda: read_analogies(tmp_path / "q.txt"), "line 2")


def test_scores_that_are_not_defined():
    equal = [RatedPair("a", "b", 1), RatedPair("b", "c", 1)]
    assert np.isnan(word_similarity(small(), equal).correlation)
    zeros = [RatedPair("a", "d", 1), RatedPair("b", "d", 2)]
    assert np.isnan(word_similarity(small(), zeros).correlation)
    three = small(VECTORS[:3])
    assert analogy_accuracy(three, {"s": [("a", "b", "c", "a")]}).accuracy == 0


TRAINERS = [
    functools.partial(word2vec, sample=0),
    functools.partial(fasttext, buckets=20, sample=0),
    glove,
]
QUICK = {"size": 4, "min_count": 1, "epochs": 1}


@pytest.mark.parametrize("train", TRAINERS)
@pytest.mark.parametrize(
    ("documents", "options", "words"),
    [
        (DOCUMENTS, {"seed": -1}, "seed is -1"),
        (DOCUMENTS, {"seed": None}, "seed is None"),
        (DOCUMENTS, {"seed": 2.5}, "seed is 2.5"),
        (DOCUMENTS, {"max_words": 1}, "max_words is 1"),
        ([["a"] * 9], {}, "only 1 words occur"),
        (None, {}, "documents is None"),
    ],
)
def test_odd_training_is_refused(train, documents, options, words):
    one_sentence(lambda: train(documents, **(QUICK | options)), words)


@pytest.mark.parametrize("train", TRAINERS)
def test_words_without_company_have_no_vectors(train):
    one_sentence(lambda: train([["a"], ["b"]] * 3, **QUICK), "give", "words")


@pytest.mark.parametrize("train", TRAINERS)
def test_a_window_beyond_all_documents_and_odd_words(train):
    documents = [[LONE, "\0", ""]] * 4
    # Padding for the window would take gigabytes.
    trained = train(documents, window=10**12, **QUICK).embeddings
    assert set(trained.vocabulary.tokens) == {LONE, "\0", ""}
    assert np.isfinite(trained.vectors).all()


def test_a_window_beyond_the_documents_counts_what_they_hold():
    wide, exact = (glove(DOCUMENTS, window=window, **QUICK).embeddings for window in (99, 2))
    np.testing.assert_array_equal(wide.vectors, exact.vectors)


def test_subsampling_that_leaves_nothing_is_refused():
    one_sentence(lambda: word2vec(DOCUMENTS, sample=1e-12, **QUICK), "sample=1e-12", "sample=0")


def test_training_that_diverges_says_so():
    options = QUICK | {"epochs": 3}
    one_sentence(lambda: glove(DOCUMENTS, learning_rate=1e30, **options), "diverged", "smaller")
