"""Connectionist temporal classification against the enumeration of all paths."""

import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab import GRU
from rnnlab.data import Batch
from rnnlab.models import ctc_transcriber, edit_distance
from rnnlab.models.ctc import best_path, ctc_losses, prefix_beam
from tests.reference import close, one_sentence
from tests.reference.models import CASES, C, evaluation, float64_params

T, B, L = 5, 4, 3  # L classes, with the blank
LENGTHS = np.array([5, 4, 2, 5])
LABELS = np.array([[1, 2, 2, 1], [1, 1, -7, 1], [2, 2, -7, 1]])  # [N, B], for blank 0
LABEL_LENGTHS = np.array([3, 2, 1, 3])
LOGITS = jnp.asarray(2 * np.random.default_rng(0).normal(size=(T, B, L)))
each_blank = pytest.mark.parametrize("blank", [0, 2])


def collapsed(path, blank):
    """B(π): without repetitions, and then without blanks."""
    return tuple(label for label, _ in itertools.groupby(path) if label != blank)


def every(example, blank):
    """P(l | x) of each labelling of an example, by the sum over all its paths."""
    probabilities = np.asarray(jax.nn.softmax(LOGITS[: LENGTHS[example], example]))
    steps = np.arange(len(probabilities))
    sums = collections.Counter()
    for path in itertools.product(range(L), repeat=len(steps)):
        sums[collapsed(path, blank)] += float(np.prod(probabilities[steps, list(path)]))
    return sums


def labels_for(blank):
    """The labels with another class for the blank."""
    return np.where(LABELS > 0, (LABELS + blank) % L, LABELS)


@each_blank
def test_the_loss_is_a_sum_over_all_paths(blank):
    labels = labels_for(blank)
    expected = []
    for example, size in enumerate(LABEL_LENGTHS):
        expected.append(-np.log(every(example, blank)[tuple(labels[:size, example])]))
    actual = ctc_losses(LOGITS, LENGTHS, labels, LABEL_LENGTHS, blank)
    close(actual, jnp.array(expected), 1e-12)


def test_the_gradient_is_the_difference_of_two_distributions():
    """Those of a frame, without and with the labels known (Graves et al. 2006, equation 16)."""

    def total(logits):
        return ctc_losses(logits, LENGTHS, LABELS, LABEL_LENGTHS, 0).sum()

    expected = np.zeros(LOGITS.shape)
    probabilities = np.asarray(jax.nn.softmax(LOGITS))
    for example, (frames, size) in enumerate(zip(LENGTHS, LABEL_LENGTHS, strict=True)):
        steps = np.arange(frames)
        given = np.zeros((frames, L))
        for path in itertools.product(range(L), repeat=int(frames)):
            if collapsed(path, 0) == tuple(LABELS[:size, example]):
                given[steps, path] += np.prod(probabilities[steps, example, path])
        expected[:frames, example] = probabilities[:frames, example]
        expected[:frames, example] -= given / given[0].sum()
    close(jax.grad(total)(LOGITS), jnp.asarray(expected), 1e-10)


def test_too_few_frames_are_nan_and_just_enough_are_not():
    """Three equal labels need five frames: two blanks are between them."""
    labels = np.array([[1], [1], [1]])
    sizes = np.array([3])
    enough = ctc_losses(LOGITS[:, :1], np.array([5]), labels, sizes, 0)
    only = [1, 0, 1, 0, 1]
    logs = jax.nn.log_softmax(LOGITS[:, 0])
    close(enough[0], -logs[np.arange(5), only].sum(), 1e-12)
    assert jnp.isnan(ctc_losses(LOGITS[:, :1], np.array([4]), labels, sizes, 0)[0])


@each_blank
def test_the_best_path_is_collapsed(blank):
    read = best_path(LOGITS, LENGTHS, blank)
    probabilities = np.asarray(jax.nn.softmax(LOGITS))
    for example, frames in enumerate(LENGTHS):
        rows = probabilities[:frames, example]
        labels = collapsed(rows.argmax(axis=1).tolist(), blank)
        assert read.labels[:, example].tolist() == [*labels, *[-1] * (T - len(labels))]
        assert read.lengths[example] == len(labels)
        expected = np.log(rows.max(axis=1)).sum()
        assert float(read.log_probability[example]) == pytest.approx(expected, abs=1e-12)


@each_blank
def test_a_wide_beam_finds_the_most_likely_labelling(blank):
    """There are fewer than 130 prefixes of at most five labels."""
    read = prefix_beam(LOGITS, LENGTHS, blank, 130)
    for example in range(B):
        labels, probability = every(example, blank).most_common(1)[0]
        size = int(read.lengths[example])
        assert tuple(read.labels[:size, example].tolist()) == labels
        assert jnp.all(read.labels[size:, example] == -1)
        expected = np.log(probability)
        assert float(read.log_probability[example]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("beams", [1, 2, 5])
def test_a_narrow_beam_never_counts_a_path_twice(beams):
    """What it says of its labelling is at most P(l | x)."""
    read = prefix_beam(LOGITS, LENGTHS, 0, beams)
    for example in range(B):
        labels = tuple(read.labels[: int(read.lengths[example]), example].tolist())
        assert float(read.log_probability[example]) <= np.log(every(example, 0)[labels]) + 1e-12


def test_the_most_likely_labelling_need_not_be_that_of_the_best_path():
    """Two frames with 0.6 for the blank: it is twice blank with 0.36, but one label with 0.64."""
    logits = jnp.log(jnp.array([[[0.6, 0.4]], [[0.6, 0.4]]]))
    lengths = np.array([2])
    assert best_path(logits, lengths, 0).lengths[0] == 0
    found = prefix_beam(logits, lengths, 0, 4)
    assert found.labels[:, 0].tolist() == [1, -1]
    assert float(found.log_probability[0]) == pytest.approx(np.log(0.64))


# The edit distance


def levenshtein(a, b):
    """By its definition, a row at a time."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a):
        new = [i + 1]
        for j, right in enumerate(b):
            new.append(min(row[j + 1] + 1, new[-1] + 1, row[j] + (left != right)))
        row = new
    return row[-1]


def test_the_edit_distance_of_many_sequences():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 3, (7, 60)), rng.integers(0, 3, (5, 60))
    a_sizes, b_sizes = rng.integers(0, 8, 60), rng.integers(0, 6, 60)
    expected = []
    for index, (m, n) in enumerate(zip(a_sizes, b_sizes, strict=True)):
        expected.append(levenshtein(a[:m, index], b[:n, index]))
    actual = edit_distance(a, b, lengths=a_sizes, other_lengths=b_sizes)
    assert actual.tolist() == expected
    assert edit_distance(b, a, lengths=b_sizes, other_lengths=a_sizes).tolist() == expected
    whole = [levenshtein(a[:, index], b[:, index]) for index in range(60)]
    assert edit_distance(a, b).tolist() == whole


def test_sequences_without_labels():
    none, three = np.zeros((0, 2), int), np.ones((3, 2), int)
    assert edit_distance(none, three).tolist() == [3, 3]
    assert edit_distance(three, none).tolist() == [3, 3]
    assert edit_distance(none, none).tolist() == [0, 0]


def test_wrong_sequences_give_one_sentence():
    three = np.ones((3, 2), int)
    one_sentence(lambda: edit_distance(three, np.ones(3, int)), "(3, 2)", "(3,)")
    one_sentence(lambda: edit_distance(three * 0.5, three), "labels", "float64")
    one_sentence(lambda: edit_distance(three, three, lengths=np.array([4, 0])), "0..3")
    one_sentence(lambda: edit_distance(three, three, other_lengths=np.array([1])), "(1,)")


# The model


def test_the_loss_is_minus_the_log_probability_for_each_label():
    model, batch = CASES["ctc transcriber"]
    params = float64_params(model, batch)
    logits = model.apply(params, batch)
    (value, metrics), _ = evaluation(model)(params, batch)
    sizes = batch.mask.sum(axis=0)
    losses = ctc_losses(logits, batch.lengths, batch.targets, sizes, model.blank)
    close(value, losses.sum() / sizes.sum())
    read = model.decode(params, batch)
    errors = 0
    for example, (size, wanted) in enumerate(zip(read.lengths, sizes, strict=True)):
        errors += levenshtein(read.labels[:size, example], batch.targets[:wanted, example])
    assert float(metrics["label_error_rate"]) == pytest.approx(errors / sizes.sum())
    assert int(metrics["count"]) == sizes.sum()


def test_a_model_decodes_by_either_search():
    model, batch = CASES["ctc transcriber"]
    params = float64_params(model, batch)
    logits = model.apply(params, batch)
    close(model.decode(params, batch), best_path(logits, batch.lengths, 0))
    close(model.decode(params, batch, beams=3), prefix_beam(logits, batch.lengths, 0, 3))
    unlabelled = batch._replace(targets=None, mask=None)
    close(model.decode(params, unlabelled), model.decode(params, batch))


def test_labels_that_the_frames_cannot_hold_are_refused():
    model = ctc_transcriber(GRU(3), C)
    xs = np.ones((4, 2, 2))
    labels = np.array([[1, 1], [2, 1], [3, 1]])
    fine = Batch(xs, labels, lengths=np.array([3, 4]), mask=np.array([[1, 1], [1, 1], [1, 0]]) > 0)
    model.check_batch(fine)
    one_sentence(lambda: model.check_batch(Batch(xs, labels)), "sequence 1", "4 frames", "need 5")
    short = fine._replace(lengths=np.array([2, 4]))
    one_sentence(lambda: model.check_batch(short), "sequence 0", "2 frames", "need 3")
    params = float64_params(model, fine)
    assert jnp.isfinite(model.loss(params, fine)[0])
    assert jnp.isnan(model.loss(params, short)[0])


def test_wrong_labels_give_one_sentence():
    model = ctc_transcriber(GRU(3), C)
    xs, labels = np.ones((4, 2, 2)), np.array([[1, 2], [2, 1]])

    def run(batch):
        return jax.eval_shape(lambda: model.loss(model.init(jax.random.key(0), batch), batch))

    one_sentence(lambda: ctc_transcriber(GRU(3), 0), "classes")
    one_sentence(lambda: ctc_transcriber(GRU(3), 3, blank=3), "blank is 3", "0..2")
    one_sentence(lambda: run(Batch(xs, labels[0])), "[N, 2]")
    one_sentence(lambda: run(Batch(xs, labels * 0.5)), "float64")
    one_sentence(lambda: run(Batch(xs, labels, resets=np.zeros((4, 2), bool))), "resets")
    one_sentence(lambda: model.check_batch(Batch(xs, labels - 1)), "targets[0, 0]", "blank")
    one_sentence(lambda: model.check_batch(Batch(xs, labels + C)), "label", "0..3")
    hole = np.array([[False, True], [True, True]])
    one_sentence(lambda: model.check_batch(Batch(xs, labels, hole)), "mask leaves out")
    params = float64_params(model, Batch(xs, labels))
    one_sentence(lambda: model.decode(params, Batch(xs, labels), beams=0), "beams")


def test_a_mask_with_a_hole_is_nan_in_compiled_code():
    model = ctc_transcriber(GRU(3), C)
    batch = Batch(np.ones((4, 1, 2)), np.array([[1], [2]]), np.array([[False], [True]]))
    params = float64_params(model, batch)
    assert jnp.isnan(jax.jit(model.loss)(params, batch)[0])
