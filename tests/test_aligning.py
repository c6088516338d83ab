"""Words of one language in the space of another."""

import numpy as np
import pytest

from rnnlab.embeddings import Embeddings, aligned
from rnnlab.embeddings.character_ngrams import NGramVectors
from rnnlab.text import Vocabulary

WORDS = 60
SIZE = 8


def languages(noise=0.0):
    """Words "a0" to "a59", and "b0" to "b59" that mean the same, in a space of their own."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(WORDS, SIZE))
    rotation, _ = np.linalg.qr(random.normal(size=(SIZE, SIZE)))
    other = 3 * vectors @ rotation + noise * random.normal(size=vectors.shape)
    first = Embeddings(Vocabulary(tuple(f"a{n}" for n in range(WORDS))), vectors)
    second = Embeddings(Vocabulary(tuple(f"b{n}" for n in range(WORDS))), other)
    return first, second, rotation


def pairs(count):
    return [(f"a{n}", f"b{n}") for n in range(count)]


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_words_that_are_in_no_pair_are_translated(noise):
    first, second, _ = languages(noise)
    moved = aligned(first, second, pairs(20))
    found = [second.nearest(moved.vector(f"a{n}"), 1)[0].word for n in range(20, WORDS)]
    assert found == [f"b{n}" for n in range(20, WORDS)]


def test_the_rotation_is_the_one_between_the_spaces():
    first, second, rotation = languages()
    moved = aligned(first, second, pairs(SIZE))
    np.testing.assert_allclose(moved.vectors, first.vectors @ rotation, atol=1e-5)


def test_cosines_within_the_source_stay():
    first, second, _ = languages(noise=1.0)
    moved = aligned(first, second, pairs(3))
    assert moved.similarity("a1", "a50") == pytest.approx(first.similarity("a1", "a50"), abs=1e-6)
    np.testing.assert_allclose(
        moved.vectors @ moved.vectors.T, first.vectors @ first.vectors.T, atol=1e-4
    )


def test_pairs_without_vectors_are_left_out():
    first, second, _ = languages()
    more = [("unknown", "b1"), *pairs(10), ("a1", "unknown")]
    known = aligned(first, second, pairs(10))
    np.testing.assert_array_equal(aligned(first, second, more).vectors, known.vectors)


def test_unknown_words_are_rotated_too(tmp_path):
    first, second, rotation = languages()
    grams = NGramVectors(np.random.default_rng(1).normal(size=(50, SIZE)), 2, 3)
    spelled = Embeddings(first.vocabulary, first.vectors, subwords=grams)
    called = Embeddings(first.vocabulary, first.vectors, subwords=lambda word: grams(word))
    for moved in (aligned(spelled, second, pairs(20)), aligned(called, second, pairs(20))):
        np.testing.assert_allclose(moved.vector("new"), grams("new") @ rotation, atol=1e-5)
    aligned(spelled, second, pairs(20)).save(tmp_path / "words.npz")
    assert (tmp_path / "words.npz").exists()


def test_what_cannot_be_aligned_is_refused():
    first, second, _ = languages()
    narrow = Embeddings(second.vocabulary, second.vectors[:, 1:])
    with pytest.raises(ValueError, match="vectors of 8 numbers and target of 7"):
        aligned(first, narrow, pairs(9))
    with pytest.raises(ValueError, match="no pair"):
        aligned(first, second, [("a", "b")])
