"""The experiment on DNA: the exact likelihood ratio, and motifs that are found again."""

import itertools

import numpy as np
import pytest

from experiments.dna.baselines import best_scan, counted, enriched, fitted_matrices, true_matrices
from experiments.dna.data import (
    BACKGROUND,
    LETTERS,
    MOTIFS,
    Form,
    background,
    log_ratio,
    sequences,
    site,
    stationary,
)

ALL = np.array(list(itertools.product(range(4), repeat=6)))
FORMS = {
    "one site": [Form((site("AC", 0.7),))],
    "two sites": [Form((site("A", 0.7), site("GT", 0.6)), (1,))],
    "two forms": [Form((site("CG", 0.9),)), Form((site("T", 0.5), site("T", 0.5)), (2,))],
}


def chain(codes):
    """P of sequences ``[N, L]`` by the background."""
    steps = BACKGROUND[codes[:, :-1], codes[:, 1:]]
    return stationary()[codes[:, 0]] * steps.prod(axis=1)


def with_form(form, first):
    """P of all sequences with a form from a place on: sites are written over the background."""
    replaced = np.full(6, -1)
    for number, (start, rows) in enumerate(zip(form.starts, form.sites, strict=True)):
        replaced[first + start : first + start + len(rows)] = number
    kept = ALL[:, replaced < 0]
    # What is left of the background: the sum over all letters that were there before.
    total = np.zeros(len(ALL))
    for index, row in enumerate(kept):
        total[index] = chain(ALL)[(kept == row).all(axis=1)].sum()
    for start, rows in zip(form.starts, form.sites, strict=True):
        for offset, probabilities in enumerate(rows):
            total *= probabilities[ALL[:, first + start + offset]]
    return total


@pytest.mark.parametrize("name", FORMS)
def test_the_likelihood_ratio_is_that_of_all_ways_to_make_a_sequence(name):
    forms = FORMS[name]
    expected = np.zeros(len(ALL))
    for form in forms:
        places = range(1, 6 - form.width)
        expected += np.mean([with_form(form, first) for first in places], axis=0)
    found = np.exp(log_ratio(ALL, forms)) * chain(ALL)
    np.testing.assert_allclose(found, expected / len(forms), rtol=1e-9)
    assert found.sum() == pytest.approx(1)


def test_the_background_has_its_pairs_and_few_cg():
    codes = background(2000, 50, np.random.default_rng(0))
    pairs = np.bincount((4 * codes[:, :-1] + codes[:, 1:]).ravel(), minlength=16).reshape(4, 4)
    np.testing.assert_allclose(pairs / pairs.sum(1, keepdims=True), BACKGROUND, atol=0.01)
    np.testing.assert_allclose(np.bincount(codes[:, 0]) / 2000, stationary(), atol=0.03)


def test_motifs_stand_where_they_are_said_to_be():
    drawn = sequences(MOTIFS["two sites"], 400, 60, np.random.default_rng(1))
    assert drawn.labels.mean() == 0.5
    gaps = drawn.widths - 12
    assert set(gaps[drawn.labels == 1]) == {1, 2, 3, 4, 5}
    assert gaps[drawn.labels == 0].min() >= 9
    rows = np.arange(400)
    for offset, letter in enumerate("AGGTCA"):
        for first in (drawn.first, drawn.first + drawn.widths - 6):
            share = np.mean(drawn.codes[rows, first + offset] == LETTERS.index(letter))
            assert share > 0.85


def test_a_matrix_knows_nothing_of_dependent_letters():
    motif = MOTIFS["dependent letters"]
    sums = [sum(form.sites[0] for form in forms) for forms in (motif.forms, motif.decoys)]
    np.testing.assert_allclose(*sums)


def test_expectation_maximisation_finds_the_matrix():
    training, validation = (
        sequences(MOTIFS["one site"], 600, 40, np.random.default_rng(seed)) for seed in (2, 3)
    )
    words = enriched(training.codes[training.labels == 1], training.codes[training.labels == 0], 1)
    assert "".join(LETTERS[code] for code in words[0]) in "TGACTCAGCA"
    # With two places to spare the site is inside of the matrix, wherever EM began.
    found = fitted_matrices(training, (12,), starts=2, rounds=30)["EM, width 12"]
    truth = site("TGACTCAGCA", 0.85)
    differences = [np.abs(found[shift : shift + 10] - truth).max() for shift in range(3)]
    assert min(differences) < 0.1
    scan = best_scan({"EM": found} | true_matrices(MOTIFS["one site"]), validation)
    scores = scan(validation.codes)
    assert scores[validation.labels == 1].mean() > scores[validation.labels == 0].mean() + 2


def test_words_are_counted():
    codes = np.array([[0, 1, 0, 1], [3, 3, 3, 3]])
    counts = counted(codes, 2)
    assert counts[0, 0 * 4 + 1] == 2
    assert counts[0, 1 * 4 + 0] == 1
    assert counts[1, 15] == 3
    assert counts.sum() == 6
