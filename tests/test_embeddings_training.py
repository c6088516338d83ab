"""Training of word vectors: counts and gradients against plain code, and what is learned."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.embeddings import (
    NGramVectors,
    char_ngrams,
    cooccurrence,
    corpus,
    fasttext,
    glove,
    negative_sampling,
    skip_gram_batches,
    word2vec,
    word_parts,
)
from rnnlab.embeddings.character_ngrams import bucket, ngrams
from rnnlab.embeddings.saved_vectors import load_embeddings
from tests.reference import one_sentence

WORDS = "the a cat dog sat ran on mat"


def documents(count=60, seed=0):
    """Sentences in which cats and dogs do the same, and mats something else."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        animal = random.choice(["cat", "dog"])
        made.append(["the", animal, random.choice(["sat", "ran"]), "on", "a", "mat"])
    return made


def test_a_corpus_has_the_frequent_words_alone():
    found = corpus.coded([["b", "a", "b", "z"], ["a", "b"]], min_count=2, max_words=None)
    assert found.vocabulary.tokens == ("b", "a")
    assert found.codes.tolist() == [0, 1, 0, 1, 0]
    assert found.documents.tolist() == [0, 0, 0, 1, 1]
    assert found.counts.tolist() == [3, 2]
    one_sentence(lambda: corpus.coded([["a", "b"]], 2, None), "only 0 words occur at least 2 times")


def test_frequent_words_are_left_out_as_often_as_word2vec_does():
    found = corpus.coded([["the"] * 9000 + ["cat"] * 1000], 1, None)
    random = np.random.default_rng(0)
    kept = np.bincount(found.codes[corpus.subsampled(found, 0.01, random)])
    for count, frequency in zip(kept, (0.9, 0.1), strict=True):
        wanted = np.sqrt(0.01 / frequency) + 0.01 / frequency
        assert count / (10_000 * frequency) == pytest.approx(wanted, rel=0.1)
    assert corpus.subsampled(found, 0, random).size == 10_000


def test_cooccurrences_are_those_of_a_loop():
    random = np.random.default_rng(0)
    made = [list(random.choice(WORDS.split(), size)) for size in (1, 5, 12)]
    found = corpus.coded(made, 1, None)
    window = 4
    wanted = np.zeros((len(found.vocabulary),) * 2)
    for tokens in made:
        codes = found.vocabulary.encode(tokens)
        for i, first in enumerate(codes):
            for j, second in enumerate(codes):
                if 0 < abs(i - j) <= window:
                    wanted[first, second] += 1 / abs(i - j)
    counts = cooccurrence.cooccurrences(found, window).toarray()
    np.testing.assert_allclose(counts, wanted, rtol=1e-12)


def test_gloves_gradients_are_those_of_half_its_loss():
    random = np.random.default_rng(0)
    w, v = random.normal(size=(2, 7, 4))
    x = np.array([0.5, 1, 3, 10, 40, 7, 0])

    def loss(w, v):
        dot = jnp.sum(w[:, :3] * v[:, :3], axis=1) + w[:, 3] + v[:, 3]
        squares = (dot[:6] - jnp.log(x[:6])) ** 2
        return jnp.sum(jnp.minimum(1, (x[:6] / 10) ** 0.75) * squares)

    to_w, to_v, value = cooccurrence.gradients(w, v, x, 10.0)
    np.testing.assert_allclose(value, loss(w, v), rtol=1e-12)
    wanted = jax.grad(loss, argnums=(0, 1))(w, v)
    np.testing.assert_allclose(to_w, wanted[0] / 2, atol=1e-12)
    np.testing.assert_allclose(to_v, wanted[1] / 2, atol=1e-12)


def _update(window=3):
    """Tables and one update of skip-gram in float64."""
    random = np.random.default_rng(0)
    found = corpus.coded(documents(40), 1, None)
    plan = skip_gram_batches.Plan(window, 5)
    table = np.arange(len(found.vocabulary), dtype=np.int32)
    batches = skip_gram_batches.batches_of(found, plan, 0, table, random)
    batch = jax.tree.map(lambda array: array[0], batches)
    count = len(found.vocabulary)
    tables = negative_sampling.Tables(*map(jnp.asarray, random.normal(size=(2, count, 6))))
    return found, plan, batch, tables


def test_each_token_is_a_centre_once_in_an_epoch():
    found = corpus.coded(documents(40), 1, None)
    plan = skip_gram_batches.Plan(3, 5)
    table = np.arange(len(found.vocabulary), dtype=np.int32)
    batches = skip_gram_batches.batches_of(found, plan, 0, table, np.random.default_rng(0))
    middle = slice(plan.window, plan.window + skip_gram_batches.BLOCK)
    owners = batches.documents[..., middle]
    codes = batches.codes[..., middle][owners >= 0]
    np.testing.assert_array_equal(np.sort(codes), np.sort(found.codes))


def test_skip_grams_gradients_are_those_of_its_loss():
    _, plan, batch, tables = _update()

    def loss(tables):
        total = 0.0
        for codes, owners, reach, negatives in zip(*batch, strict=True):
            for i in range(skip_gram_batches.BLOCK):
                at = i + plan.window
                if owners[at] < 0:
                    continue
                u = tables.centres[codes[at]]
                near = [
                    other
                    for other in range(at - int(reach[i]), at + int(reach[i]) + 1)
                    if other != at and owners[other] == owners[at]
                ]
                if near:
                    contexts = tables.contexts[codes[np.array(near)]]
                    total += jnp.sum(jax.nn.softplus(-(contexts @ u)))
                    share = len(near) * plan.negatives / len(negatives)
                    total += share * jnp.sum(jax.nn.softplus(tables.contexts[negatives] @ u))
        return total

    step = negative_sampling.gradients(plan, tables, batch)
    value, wanted = jax.value_and_grad(loss)(tables)
    np.testing.assert_allclose(step.loss, value, rtol=1e-10)
    centres = jnp.zeros_like(tables.centres).at[step.codes].add(step.centres)
    contexts = jnp.zeros_like(tables.contexts).at[batch.codes].add(step.contexts)
    contexts = contexts.at[batch.negatives].add(step.negatives)
    np.testing.assert_allclose(centres, wanted.centres, atol=1e-10)
    np.testing.assert_allclose(contexts, wanted.contexts, atol=1e-10)


def test_a_centre_is_the_mean_of_its_rows():
    random = np.random.default_rng(0)
    # Rows 0 and 3 are in the same words, as are 2 and 4; row 5 is twice in a word, row 6 in none.
    lists = [[0, 3], [1], [2, 4, 5, 5], []]
    codes = random.integers(4, size=(2, 1, 5))
    table = random.normal(size=(7, 3))
    parts = word_parts.grouped(lists, 7)
    assert sorted(parts.sizes) == [1, 1, 2, 2]
    sums = jnp.asarray(word_parts.summed(parts, table))
    pieces = word_parts.pieces(parts, codes)
    for step in range(2):
        own = jax.tree.map(lambda array, step=step: array[step], pieces)
        found = negative_sampling.centres_of(sums, codes[step], own)
        rows = [table[lists[code]] for code in codes[step, 0]]
        wanted = [own.mean(axis=0) if own.size else np.zeros(3) for own in rows]
        # The weights are in single precision.
        np.testing.assert_allclose(found[0], wanted, atol=1e-7)


def test_groups_of_rows_are_trained_as_their_rows():
    found = corpus.coded(documents(60), 1, None)
    words = len(found.vocabulary)
    # All share a row, neighbours share one, and each has two of its own.
    lists = [[0, 1 + word // 2, words + 2 * word, words + 2 * word + 1] for word in range(words)]
    rows = 3 * words
    initial = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)
    grouped = word_parts.grouped(lists, rows)
    # Each row is a group of its own.
    alone = word_parts.Parts(
        groups=np.array(lists, np.int32).ravel(),
        starts=4 * np.arange(words),
        counts=np.full(words, 4),
        row_counts=np.full(words, 4),
        group_of=np.arange(rows),
        sizes=np.ones(rows, int),
    )
    trained = []
    for parts in (grouped, alone):
        sums = word_parts.summed(parts, initial)
        plan = skip_gram_batches.Plan(2, 5)
        random = np.random.default_rng(1)
        tables, losses = negative_sampling.train(found, plan, parts, sums, 0, 3, 0.05, random)
        change = np.asarray(tables.centres) - sums
        trained.append((word_parts.spread(parts, initial, change), tables.contexts, losses))
    assert grouped.sizes.size < rows
    assert np.abs(trained[0][0] - initial).max() > 0.1
    for one, other in zip(*trained, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("word", ["cat", "naïve", "a", "文字", "universities"])
def test_ngrams_and_buckets_are_fasttexts(word):
    inner = pytest.importorskip("gensim.models.fasttext_inner")
    grams = [gram.decode() for gram in inner.compute_ngrams_bytes(word, 3, 6)]
    assert sorted(ngrams(word, 3, 6)) == sorted(grams)
    for gram in grams:
        assert bucket(gram, 2_000_000) == inner.ft_hash_bytes(gram.encode()) % 2_000_000


def test_saved_embeddings_keep_their_ngrams(tmp_path):
    embeddings = fasttext(documents(), size=6, min_count=1, epochs=1, buckets=50).embeddings
    embeddings.save(tmp_path / "words.npz")
    loaded = load_embeddings(tmp_path / "words.npz")
    np.testing.assert_array_equal(loaded.vector("cats"), embeddings.vector("cats"))
    other = dataclasses.replace(embeddings, subwords=lambda _: np.zeros(6))
    one_sentence(lambda: other.save(tmp_path / "other.npz"), "come from another library")
    dataclasses.replace(other, subwords=None).save(tmp_path / "other.npz")
    assert len(load_embeddings(tmp_path / "other.npz")) == len(embeddings)


def test_the_vector_of_a_word_is_the_mean_of_its_parts():
    trained = fasttext(documents(), size=6, min_count=1, sample=0, epochs=2, buckets=50)
    spelled = trained.embeddings.subwords
    assert isinstance(spelled, NGramVectors)
    rows = spelled.rows("cat")
    assert len(rows) == len(ngrams("cat", 3, 6))
    unknown = trained.embeddings.vector("cats")
    wanted = np.mean([spelled.vectors[row] for row in spelled.rows("cats")], axis=0)
    np.testing.assert_allclose(unknown, wanted, rtol=1e-6)
    assert not spelled("").any()


@pytest.mark.parametrize("train", [word2vec, fasttext, glove, char_ngrams])
def test_words_in_the_same_places_are_near(train):
    options = {"size": 10, "min_count": 1, "seed": 1}
    if train is glove:
        # All pairs are one update.
        options |= {"epochs": 400, "window": 3}
    else:
        options |= {"epochs": 30, "sample": 0}
    if train in (fasttext, char_ngrams):
        options["buckets"] = 500
    trained = train(documents(300), **options)
    assert trained.losses.shape == (options["epochs"],)
    assert trained.losses[-1] < trained.losses[0]
    assert np.isfinite(trained.embeddings.vectors).all()
    near = trained.embeddings.similarity
    assert near("cat", "dog") > max(near("cat", "mat"), near("cat", "on"))


def test_equal_seeds_give_equal_vectors():
    def vectors(seed):
        return word2vec(documents(), size=4, min_count=1, epochs=2, seed=seed).embeddings.vectors

    np.testing.assert_array_equal(vectors(0), vectors(0))
    assert not np.array_equal(vectors(0), vectors(1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 0}, "size"),
        ({"window": 0}, "window"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"sample": -1.0}, "sample is -1.0"),
        ({"min_count": 10**6}, "only 0 words occur at least 1000000 times"),
    ],
)
def test_bad_options_are_refused(change, words):
    one_sentence(lambda: word2vec(documents(), **change), words)
    if "sample" not in change:
        one_sentence(lambda: glove(documents(), **change), words)


def test_words_without_ngrams_are_refused():
    one_sentence(lambda: char_ngrams(documents(), min_count=1, low=9, high=9), "smaller low")
