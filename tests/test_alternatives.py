"""The tasks of the experiment on alternatives: exact losses against filter and simulation."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from experiments.alternatives.fitted import every_word, hmm_on_bits, kept_by_built, kept_by_fitted
from experiments.alternatives.problems import Oscillator, bits_task
from rnnlab.theory.linear_gaussian import kalman_filter

SMALL = Oscillator(length=12)


def test_the_floor_is_the_variance_of_the_kalman_filter():
    pytest.importorskip("statsmodels")
    ys = np.zeros((13, 1, 1))
    for task in (SMALL, dataclasses.replace(SMALL, noise=2.0, period=5.0)):
        variances = kalman_filter(task.system(), ys).prediction_covariances[1:, 0, 0]
        assert task.floor() == pytest.approx(variances.mean(), rel=1e-9)


def test_a_longer_window_predicts_better_until_it_is_the_whole_past():
    floors = [SMALL.window_floor(window) for window in range(1, 13)]
    assert (np.diff(floors) < 0).all()
    assert floors[-1] == pytest.approx(SMALL.floor(), rel=1e-9)
    # One value: σ² (1 − ρ²) with the correlation of neighbours.
    variance = SMALL.variance()
    neighbours = 0.99 * math.cos(2 * math.pi / 12)
    assert SMALL.baseline() == floors[0] == pytest.approx(variance - neighbours**2 / variance)


@pytest.mark.long
def test_the_samples_have_the_autocovariance_that_the_floors_use():
    batch = SMALL.sample(jax.random.key(0), 40_000)
    xs, targets = np.asarray(batch.xs)[..., 0], np.asarray(batch.targets)[..., 0]
    np.testing.assert_array_equal(xs[1:], targets[:-1])
    for lag in range(12):
        expected = 0.99**lag * math.cos(2 * math.pi * lag / 12) + 0.25 * (lag == 0)
        assert (xs[0] * xs[lag]).mean() == pytest.approx(expected, abs=0.03)


@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
def test_states_keep_what_the_bound_allows():
    pytest.importorskip("hmmlearn")
    assert every_word(2).T.tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]
    for states in (1, 2, 4):
        assert kept_by_built(states, 2) == pytest.approx(math.log(states), abs=1e-12)
        assert kept_by_fitted(states, 2, seed=0) <= math.log(states) + 1e-9
    loss = hmm_on_bits(bits_task(2), seed=0, iterations=2)["loss"] * bits_task(2).steps
    assert math.isfinite(loss)
