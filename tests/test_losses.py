"""Losses over sequences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rnnlab.training.losses import cross_entropy, gaussian_nll, pinball
from tests.reference import close, one_sentence


def by_hand(logits, labels, mask=None):
    """−ln of the softmax of the label, position by position."""
    each = [
        np.log(sum(np.exp(logits[index]))) - logits[index][labels[index]]
        for index in np.ndindex(*labels.shape)
        if mask is None or mask[index]
    ]
    return np.float64(np.mean(each))


def example(*batch):
    rng = np.random.default_rng(0)
    return rng.normal(size=(*batch, 4)), rng.integers(0, 4, batch), rng.random(batch) < 0.6


@pytest.mark.parametrize("batch", [(5,), (5, 3), (1, 2, 2)], ids=str)
def test_cross_entropy(batch):
    logits, labels, mask = example(*batch)
    mask.flat[0] = True
    close(cross_entropy(logits, labels), jnp.asarray(by_hand(logits, labels)))
    close(cross_entropy(logits, labels, mask), jnp.asarray(by_hand(logits, labels, mask)))


@pytest.mark.parametrize("classes", [2, 4, 8])
def test_chance_is_the_logarithm_of_the_classes(classes):
    """In nats, the mean over time and batch."""
    close(cross_entropy(jnp.zeros((5, 3, classes)), jnp.ones((5, 3), int)), jnp.log(float(classes)))


def test_large_logits_neither_overflow_nor_round():
    logits = jnp.array([[1e4, -1e4], [-1e4, 1e4]])
    close(cross_entropy(logits, jnp.array([0, 1])), jnp.array(0.0))
    close(cross_entropy(logits, jnp.array([1, 0])), jnp.array(2e4))


@pytest.mark.parametrize("label", [-1, 4, 100])
def test_a_label_outside_the_classes_is_nan(label):
    logits, labels, _ = example(5)
    labels[2] = label
    assert jnp.isnan(cross_entropy(logits, labels))
    assert jnp.isnan(jax.jit(cross_entropy)(logits, labels))
    close(
        cross_entropy(logits, labels, labels != label),
        jnp.asarray(by_hand(logits, labels, labels != label)),
    )


@pytest.mark.parametrize("garbage", [1e3, np.inf, np.nan])
def test_what_is_masked_reaches_neither_value_nor_gradient(garbage):
    logits, labels, mask = example(5, 3)
    dirty = np.where(mask[..., None], logits, garbage)
    value, gradient = jax.value_and_grad(cross_entropy)(dirty, np.where(mask, labels, -1), mask)
    close(value, jnp.asarray(by_hand(logits, labels, mask)))
    close(gradient, jax.grad(cross_entropy)(logits, labels, mask))
    assert not gradient[~mask].any()


def test_the_gradient_is_softmax_minus_label():
    logits, labels, _ = example(5)
    expected = (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True) - np.eye(4)[labels]) / 5
    close(jax.grad(cross_entropy)(jnp.asarray(logits), labels), jnp.asarray(expected))
    loss = jax.jit(lambda logits: cross_entropy(logits, labels))
    check_grads(
        loss, (jnp.asarray(logits),), order=2, modes=["rev"], atol=1e-6, rtol=1e-6, eps=1e-5
    )


def test_float32_stays_float32():
    logits, labels, mask = example(5, 3)
    loss = cross_entropy(np.float32(logits), labels, mask)
    close(loss, jnp.float32(by_hand(logits, labels, mask)), 1e-5)


def test_without_a_label_that_counts_loss_and_gradient_are_zero():
    """Also where logits and labels are garbage."""
    logits, labels, mask = example(5, 3)
    nothing = np.zeros_like(mask)
    for dirty in (logits, np.full_like(logits, np.nan)):
        value, gradient = jax.value_and_grad(cross_entropy)(dirty, labels - 9, nothing)
        assert value == 0
        assert not gradient.any()


@pytest.mark.parametrize("dtype", ["uint8", "int64", "uint32"])
def test_labels_may_be_narrower_than_the_number_of_classes(dtype):
    """300 classes do not fit into 8 bits, nor do 256."""
    labels = np.array([0, 255, 7])
    for classes in (256, 300):
        logits = np.random.default_rng(0).normal(size=(3, classes))
        close(cross_entropy(logits, labels.astype(dtype)), cross_entropy(logits, labels))


@pytest.mark.parametrize(
    ("labels", "mask", "words"),
    [
        (np.zeros((5, 3)), None, ("labels are float64", "whole numbers")),
        (np.zeros((5, 3), int), np.ones(3, bool), ("mask has shape (3,)", "(5, 3)")),
        (np.zeros((5, 3), int), 2 * np.ones((5, 3)), ("mask holds 2",)),
    ],
)
def test_wrong_labels_and_masks_are_refused_in_one_sentence(labels, mask, words):
    one_sentence(lambda: cross_entropy(np.zeros((5, 3, 4)), labels, mask), *words)


QUANTILES = (0.1, 0.5, 0.9)


def numbers(*batch):
    rng = np.random.default_rng(0)
    return rng.normal(size=(*batch, 3)), rng.normal(size=batch), rng.random(batch) < 0.6


def test_pinball_is_that_of_a_loop():
    forecasts, targets, mask = numbers(5, 3)
    for counts in (None, mask):
        losses = []
        for index in np.ndindex(5, 3):
            for forecast, q in zip(forecasts[index], QUANTILES, strict=True):
                error = targets[index] - forecast
                if counts is None or counts[index]:
                    losses.append(q * error if error > 0 else (q - 1) * error)
        close(pinball(forecasts, targets, QUANTILES, counts), jnp.asarray(np.mean(losses)))


def test_half_the_absolute_error_at_the_median():
    forecasts, targets, _ = numbers(5, 3)
    error = np.abs(forecasts[..., 0] - targets).mean()
    close(pinball(forecasts[..., :1], targets, [0.5]), jnp.asarray(error / 2))


@pytest.mark.parametrize("quantile", [0.05, 0.5, 0.8])
def test_the_quantile_of_the_targets_has_the_least_pinball_loss(quantile):
    """Koenker & Bassett 1978."""
    targets = np.random.default_rng(0).normal(size=1001)
    tried = np.sort(targets)[::10]
    losses = jax.vmap(lambda t: pinball(jnp.full((1001, 1), t), targets, [quantile]))(tried)
    assert abs(tried[np.argmin(losses)] - np.quantile(targets, quantile)) < 0.05


def test_gaussian_nll_is_that_of_scipy():
    norm = pytest.importorskip("scipy.stats").norm
    parts, targets, mask = numbers(5, 3)
    means, log_scales = parts[..., 0], parts[..., 1]
    each = -norm.logpdf(targets, means, np.exp(log_scales))
    close(gaussian_nll(means, log_scales, targets), jnp.asarray(each.mean()))
    close(gaussian_nll(means, log_scales, targets, mask), jnp.asarray(each[mask].mean()))


@pytest.mark.parametrize("garbage", [np.inf, np.nan])
def test_missing_targets_reach_neither_value_nor_gradient(garbage):
    parts, targets, mask = numbers(5, 3)
    dirty = np.where(mask, targets, garbage)

    def both(parts, targets):
        nll = gaussian_nll(parts[..., 0], parts[..., 1], targets, mask)
        return nll + pinball(parts, targets, QUANTILES, mask)

    value, gradient = jax.value_and_grad(both)(parts, dirty)
    clean = jax.value_and_grad(both)(parts, targets)
    close((value, gradient), clean)
    assert not gradient[~mask].any()
    loss = jax.jit(lambda parts: gaussian_nll(parts[..., 0], parts[..., 1], dirty, mask))
    check_grads(loss, (jnp.asarray(parts),), order=2, modes=["rev"], atol=1e-6, rtol=1e-6, eps=1e-5)
    no_target = np.zeros_like(mask)
    assert pinball(parts, dirty, QUANTILES, no_target) == 0
    assert gaussian_nll(parts[..., 0], parts[..., 1], dirty, no_target) == 0


def test_forecasts_of_float32_stay_float32():
    parts, targets, _ = numbers(5)
    parts, targets = np.float32(parts), np.float32(targets)
    assert pinball(parts, targets, QUANTILES).dtype == jnp.float32
    assert gaussian_nll(parts[:, 0], parts[:, 1], targets).dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: pinball(np.ones((5, 2)), np.ones(5), QUANTILES), ("(5, 2)", "(5, 3) is needed")),
        (lambda: pinball(np.ones((5, 1)), np.ones(5), [1.0]), ("quantiles is [1.0]",)),
        (lambda: pinball(np.ones((5, 1)), np.ones(5), []), ("quantiles is []",)),
        (lambda: pinball(np.ones((5, 1)), np.ones(5), [0.5], np.ones(4)), ("mask has shape (4,)",)),
        (lambda: gaussian_nll(np.ones(5), np.ones(4), np.ones(5)), ("log_scales (4,)",)),
    ],
)
def test_forecasts_that_do_not_fit_are_refused(call, words):
    one_sentence(call, *words)
