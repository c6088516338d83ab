"""Words as vectors: neighbours, analogies, files, and use inside of a model."""

import struct

import jax
import numpy as np
import optax
import pytest

import rnnlab
from rnnlab.embeddings import (
    Embeddings,
    RatedPair,
    analogy_accuracy,
    gensim_data,
    load_embeddings,
    read_analogies,
    read_fasttext,
    read_glove,
    read_pairs,
    read_word2vec_binary,
    read_word2vec_text,
    word_similarity,
)
from rnnlab.text import UNK, Vocabulary, build_vocabulary

WORDS = ("king", "man", "woman", "queen", "apple", "zero")
VECTORS = np.array(
    [[2, 2, 0, 0.1], [0, 2, 0, 0], [0, 0, 2, 0.1], [2, 0, 2, 0], [0.1, 0, 0, 3], [0, 0, 0, 0]]
)


@pytest.fixture
def embeddings():
    return Embeddings(Vocabulary(WORDS), VECTORS)


def test_nearest_is_the_cosine(embeddings):
    unit = VECTORS / np.maximum(np.linalg.norm(VECTORS, axis=1, keepdims=True), 1e-30)
    cosines = unit @ unit[0]
    ranked = [word for _, word in sorted(zip(-cosines[1:], WORDS[1:], strict=True))]
    found = embeddings.nearest("king", 10)
    assert [word for word, _ in found] == ranked
    np.testing.assert_allclose(found[0].score, cosines[WORDS.index(ranked[0])], rtol=1e-6)
    assert embeddings.nearest(np.array([0, 0, 0, 1.0]), 1)[0].word == "apple"
    assert embeddings.similarity("king", "zero") == 0
    assert embeddings.similarity("king", "king") == pytest.approx(1)


@pytest.mark.parametrize("method", ["add", "multiply"])
def test_king_is_to_queen_as_man_to_woman(embeddings, method):
    assert embeddings.analogy("man", "king", "woman", method=method)[0].word == "queen"
    words = {word for word, _ in embeddings.analogy("man", "king", "woman", 10, method=method)}
    assert words == {"queen", "apple", "zero"}


def test_unknown_words_follow_the_policy():
    vocabulary = Vocabulary(("a", "b"))
    vectors = np.array([[1.0, 0.0], [0.0, 3.0]])
    assert Embeddings(vocabulary, vectors).vector("z").tolist() == [0, 0]
    assert Embeddings(vocabulary, vectors, "mean").vector("z").tolist() == [0.5, 1.5]
    with pytest.raises(ValueError, match="'z' has no vector"):
        Embeddings(vocabulary, vectors, "error").vector("z")
    spelled = Embeddings(vocabulary, vectors, "error", subwords=lambda word: [len(word), 0])
    assert spelled.vectors_of(["zzz", "b"]).tolist() == [[3, 0], [0, 3]]
    assert spelled.vectors_of([]).shape == (0, 2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda e: Embeddings(e.vocabulary, VECTORS[:2]),
            r"shape \(2, 4\), but the vocabulary has 6",
        ),
        (lambda e: Embeddings(e.vocabulary, VECTORS * np.nan), "'king' holds NaN or infinity"),
        (lambda e: Embeddings(e.vocabulary, VECTORS, "guess"), "unknown"),
        (lambda e: e.analogy("man", "king", "child"), "'child' is not in the vocabulary"),
        (lambda e: e.nearest(np.ones(3)), r"the vector has shape \(3,\); it must be \(4,\)"),
        (lambda e: e.nearest("king", 0), "count"),
        (lambda e: e.vectors_of("king"), "one string"),
    ],
)
def test_bad_input_is_refused(embeddings, call, words):
    with pytest.raises(ValueError, match=words):
        call(embeddings)


def test_saved_embeddings_are_the_same(embeddings, tmp_path):
    path = tmp_path / "words.npz"
    embeddings.save(path)
    loaded = load_embeddings(path)
    assert loaded.vocabulary == embeddings.vocabulary
    np.testing.assert_array_equal(loaded.vectors, embeddings.vectors)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match="holds no embeddings"):
        load_embeddings(path)
    with pytest.raises(ValueError, match="cannot be read"):
        load_embeddings(tmp_path / "absent.npz")


def write_word2vec(path, header, rows, behind=b"\n"):
    """A binary file as word2vec writes it, in plain code."""
    with path.open("wb") as file:
        file.write(header)
        for word, vector in rows:
            file.write(word + b" " + struct.pack(f"<{len(vector)}f", *vector) + behind)


def test_all_formats_give_the_same_vectors(embeddings, tmp_path):
    lines = [
        f"{word} {' '.join(map(str, row))}"
        for word, row in zip(WORDS, VECTORS.tolist(), strict=True)
    ]
    (tmp_path / "glove.txt").write_text("\n".join(lines))
    (tmp_path / "words.vec").write_text("\n".join(["6 4", *lines]) + "\n")
    rows = [(word.encode(), row) for word, row in zip(WORDS, VECTORS.tolist(), strict=True)]
    write_word2vec(tmp_path / "words.bin", b"6 4\n", rows)
    write_word2vec(tmp_path / "plain.bin", b"6 4\n", rows, behind=b"")
    for read, name in (
        (read_glove, "glove.txt"),
        (read_word2vec_text, "words.vec"),
        (read_word2vec_binary, "words.bin"),
        (read_word2vec_binary, "plain.bin"),
    ):
        found = read(tmp_path / name)
        assert found.vocabulary.tokens == WORDS, name
        np.testing.assert_array_equal(found.vectors, embeddings.vectors, err_msg=name)
        assert len(read(tmp_path / name, limit=2)) == 2


GLOVE = b"the 0.1 0.2\n. . 0.3 0.4\ncat 1e-3 -5\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "line 1: there must be a word and its numbers"),
        (b"the\n", "line 1: there must be a word and its numbers"),
        (b"3 2\na 1 2\n", "line 1: it has two whole numbers, as a file of word2vec"),
        (GLOVE + b"dog 1\n", "line 4: there must be a word and 2 numbers"),
        (GLOVE + b"\n", "line 4: there must be a word and 2 numbers"),
        (GLOVE + b"dog 1 x2\n", "line 4: 'x2' is not a number|line 4: b'x2' is not a number"),
        (GLOVE + b"dog 1 nan\n", "line 4: NaN or infinity"),
        (GLOVE + b"dog 1 1e999\n", "line 4: NaN or infinity"),
        (GLOVE + b"the 1 2\n", "line 4: 'the' is also in line 1"),
        (GLOVE + b"d\xffg 1 2\n", r"line 4: the word b'd\\xffg' is not UTF-8 \(byte 2: 0xff\)"),
    ],
)
def test_bad_text_files_are_refused_with_the_line(tmp_path, content, words):
    path = tmp_path / "glove.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_glove(path)
    assert str(path) in str(caught.value)


def test_what_real_files_need_can_be_chosen(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_bytes(GLOVE + b"the 9 9\nd\xffg 1 2\n")
    found = read_glove(path, errors="replace", repeated="first")
    assert found.vocabulary.tokens == ("the", ". .", "cat", "d\N{REPLACEMENT CHARACTER}g")
    assert found.vector("the").tolist() == np.float32([0.1, 0.2]).tolist()
    assert found.vectors.shape == (4, 2)
    with pytest.raises(ValueError, match="repeated"):
        read_glove(path, repeated="last")


def test_lines_of_many_blocks_are_counted_through(tmp_path, monkeypatch):
    monkeypatch.setattr("rnnlab.embeddings.text_rows.BLOCK", 3)
    path = tmp_path / "glove.txt"
    rows = np.random.default_rng(0).normal(size=(10, 2)).astype(np.float32)
    lines = [f"w{row} {a} {b}" for row, (a, b) in enumerate(rows.tolist())]
    path.write_text("\n".join(lines))
    np.testing.assert_array_equal(read_glove(path).vectors, rows)
    np.testing.assert_array_equal(read_glove(path, limit=7).vectors, rows[:7])
    path.write_text("\n".join([*lines[:7], "w1 1 2", *lines[7:]]))
    with pytest.raises(ValueError, match="line 8: 'w1' is also in line 2"):
        read_glove(path)
    np.testing.assert_array_equal(read_glove(path, repeated="first").vectors, rows)


def test_word2vec_files_that_are_cut_short_are_refused(tmp_path):
    text = tmp_path / "words.vec"
    text.write_text("3 2\na 1 2\nb 1 2\n")
    with pytest.raises(ValueError, match="ends after 2 of 3 words"):
        read_word2vec_text(text)
    text.write_text("a 1 2\n")
    with pytest.raises(ValueError, match="line 1: b'a 1 2"):
        read_word2vec_text(text)
    binary = tmp_path / "words.bin"
    write_word2vec(binary, b"2 2\n", [(b"a", [1, 2]), (b"b", [3, 4])])
    whole = binary.read_bytes()
    binary.write_bytes(whole[:-3])
    with pytest.raises(ValueError, match=r"too few for 2 words|ends in word 2 of 2"):
        read_word2vec_binary(binary)
    binary.write_bytes(whole.replace(b"2 2", b"99999999999 300", 1))
    with pytest.raises(ValueError, match="too few for 99999999999 words"):
        read_word2vec_binary(binary)
    write_word2vec(binary, b"2 2\n", [(b"\xff", [1, 2]), (b"b", [3, 4])])
    with pytest.raises(ValueError, match=r"word 1, b'\\xff', is not UTF-8"):
        read_word2vec_binary(binary)
    assert read_word2vec_binary(binary, errors="replace").vocabulary.tokens[1] == "b"


def test_files_of_gensim_are_read_as_gensim_reads_them(tmp_path):
    models = pytest.importorskip("gensim.models")
    from gensim.test.utils import datapath

    vectors = models.KeyedVectors.load_word2vec_format(datapath("lee_fasttext.vec"), binary=False)
    ours = read_word2vec_text(datapath("lee_fasttext.vec"))
    np.testing.assert_array_equal(ours.vectors, vectors.vectors)
    vectors.save_word2vec_format(str(tmp_path / "words.bin"), binary=True)
    again = read_word2vec_binary(tmp_path / "words.bin")
    assert list(again.vocabulary.tokens) == vectors.index_to_key
    np.testing.assert_array_equal(again.vectors, vectors.vectors)
    # A published file with words that are not UTF-8.
    path = datapath("pang_lee_polarity_fasttext.vec")
    with pytest.raises(ValueError, match=r"line \d+: the word b'\\x97' is not UTF-8"):
        read_word2vec_text(path)
    assert len(read_word2vec_text(path, errors="replace", repeated="first")) > 1000
    word = vectors.index_to_key[10]
    ranked = [name for name, _ in vectors.most_similar(word, topn=5)]
    assert [name for name, _ in ours.nearest(word, 5)] == ranked


def test_fasttext_spells_unknown_words(tmp_path):
    fasttext = pytest.importorskip("gensim.models.fasttext")
    from gensim.test.utils import datapath

    path = datapath("lee_fasttext.bin")
    ours, theirs = read_fasttext(path), fasttext.load_facebook_vectors(path)
    word = "unknownishly"
    assert word not in ours
    np.testing.assert_array_equal(ours.vector(word), theirs.get_vector(word))
    assert np.abs(ours.vector(word)).max() > 0
    (tmp_path / "bad.bin").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="is not a binary model of FastText"):
        read_fasttext(tmp_path / "bad.bin")


def test_vectors_in_the_order_of_a_models_vocabulary(embeddings):
    vocabulary = build_vocabulary([["queen", "man", "child"]])
    selected = embeddings.select(vocabulary)
    assert selected.missing == ("<pad>", UNK, "<bos>", "<eos>", "child")
    code = vocabulary.code("queen")
    np.testing.assert_array_equal(selected.matrix[code], embeddings.vector("queen"))
    assert not selected.matrix[vocabulary.code("child")].any()


def test_an_nnx_module_has_the_vectors(embeddings):
    embed = embeddings.to_nnx()
    np.testing.assert_array_equal(embed(np.array([3, 0])), embeddings.vectors[[3, 0]])


@pytest.mark.parametrize("is_frozen", [True, False])
def test_a_model_starts_from_the_vectors(embeddings, is_frozen):
    model = rnnlab.models.classifier(
        rnnlab.GRU(4), 2, vocabulary_size=len(embeddings), embedding_size=embeddings.size
    )
    rng = np.random.default_rng(0)
    batch = rnnlab.data.Batch(rng.integers(6, size=(5, 8)), rng.integers(2, size=8))
    params = model.init(jax.random.key(0), batch)._replace(embedding=embeddings.vectors)
    optimiser = optax.adamw(0.01, weight_decay=0.1)
    if is_frozen:
        optimiser = rnnlab.training.frozen(optimiser, ["embedding"])
    run = rnnlab.training.fit(model, [batch] * 5, optimiser, steps=5, params=params, progress=False)
    same = np.array_equal(run.params.embedding, embeddings.vectors)
    assert same == is_frozen
    assert not np.array_equal(run.params.cell.w_h, params.cell.w_h)


def test_a_part_that_does_not_exist_cannot_be_frozen():
    optimiser = rnnlab.training.frozen(optax.sgd(0.1), ["embeding"])
    with pytest.raises(ValueError, match="no parameter is called 'embeding'"):
        optimiser.init({"embedding": np.ones(2)})
    with pytest.raises(ValueError, match="give a list"):
        rnnlab.training.frozen(optax.sgd(0.1), "embedding")


def test_similarity_is_the_rank_correlation_of_known_pairs(embeddings):
    pairs = [
        RatedPair("king", "queen", 9.0),
        RatedPair("king", "man", 7.0),
        RatedPair("man", "woman", 6.0),
        RatedPair("queen", "apple", 1.0),
        RatedPair("king", "child", 5.0),
    ]
    found = word_similarity(embeddings, pairs)
    cosines = [embeddings.similarity(a, b) for a, b, _ in pairs[:4]]
    ranks = np.argsort(np.argsort(cosines))
    # Spearman's formula for ranks without ties.
    wanted = 1 - 6 * np.sum((ranks - np.array([3, 2, 1, 0])) ** 2) / (4 * 15)
    assert found.correlation == pytest.approx(wanted, abs=1e-6)
    assert (found.known, found.pairs) == (4, 5)
    assert np.isnan(word_similarity(embeddings, pairs[4:]).correlation)


def test_analogies_are_counted_by_section(embeddings):
    sections = {
        "royal": [("man", "king", "woman", "queen"), ("man", "king", "woman", "apple")],
        "other": [("man", "king", "child", "prince")],
    }
    found = analogy_accuracy(embeddings, sections)
    assert found.by_section == {"royal": 0.5}
    assert (found.accuracy, found.known, found.questions) == (0.5, 2, 3)


def test_the_sets_of_gensim_have_their_sizes():
    pytest.importorskip("gensim")
    assert len(read_pairs(gensim_data("wordsim353"))) == 353
    assert len(read_pairs(gensim_data("simlex999"))) == 999
    sections = read_analogies(gensim_data("analogies"))
    assert sum(map(len, sections.values())) == 19_544
    assert len(sections) == 14


def test_bad_sets_are_refused_with_the_line(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("# pairs\nfirst\tsecond\trating\ncat\tdog\t3\ncat dog 3\n")
    with pytest.raises(ValueError, match="line 4: 'cat dog 3' is not two words and a rating"):
        read_pairs(path)
    path.write_text(": capitals\nrome italy oslo norway\nrome italy oslo\n")
    with pytest.raises(ValueError, match="line 3: 'rome italy oslo' is not four words"):
        read_analogies(path)
