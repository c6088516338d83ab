"""Linear dynamical systems by statsmodels, against the joint Gaussian of all outputs."""

import sys
from typing import Any

import numpy as np
import pytest

from rnnlab.theory import linear_gaussian
from rnnlab.theory.linear_gaussian import (
    LinearGaussian,
    em,
    kalman_filter,
    kalman_smoother,
    stationary_covariance,
)
from tests.reference import one_sentence

S, O, T, B = 3, 2, 6, 4


def drawn(seed=0):
    rng = np.random.default_rng(seed)

    def covariance(size):
        root = rng.normal(size=(size, size))
        return root @ root.T + 0.1 * np.eye(size)

    return LinearGaussian(
        transition=rng.normal(size=(S, S)) / 2,
        state_covariance=covariance(S),
        readout=rng.normal(size=(O, S)),
        output_covariance=covariance(O),
        start_mean=rng.normal(size=S),
        start_covariance=covariance(S),
    )


MODEL = drawn()
YS = np.random.default_rng(1).normal(size=(T, B, O))


def joint(model, steps):
    """Mean and covariance of z₁ … z_T, y₁ … y_T, ``[T S + T O]``, by powers of A."""
    mean = np.zeros((steps, S))
    blocks = np.zeros((steps, S, steps, S))
    mean[0], blocks[0, :, 0] = model.start_mean, model.start_covariance
    for t in range(1, steps):
        mean[t] = model.transition @ mean[t - 1]
        for s in range(t):
            blocks[t, :, s] = model.transition @ blocks[t - 1, :, s]
            blocks[s, :, t] = blocks[t, :, s].T
        blocks[t, :, t] = model.transition @ blocks[t - 1, :, t - 1] @ model.transition.T
        blocks[t, :, t] += model.state_covariance
    states = blocks.reshape(steps * S, steps * S)
    readout = np.kron(np.eye(steps), model.readout)
    outputs = readout @ states @ readout.T + np.kron(np.eye(steps), model.output_covariance)
    covariance = np.block([[states, states @ readout.T], [readout @ states, outputs]])
    return np.concatenate([mean.ravel(), readout @ mean.ravel()]), covariance


def given(mean, covariance, wanted, known, values):
    """Mean ``[B, wanted]`` and covariance of some entries of a Gaussian, given others."""
    gain = np.linalg.solve(covariance[np.ix_(known, known)], covariance[np.ix_(known, wanted)]).T
    conditional = covariance[np.ix_(wanted, wanted)] - gain @ covariance[np.ix_(known, wanted)]
    return mean[wanted] + (values - mean[known]) @ gain.T, conditional


FLAT = np.moveaxis(YS, 1, 0).reshape(B, T * O)
OUTPUTS = T * S + np.arange(T * O)


@pytest.fixture(autouse=True)
def _needs_statsmodels():
    pytest.importorskip("statsmodels")


def test_the_likelihood_is_that_of_the_joint_gaussian():
    mean, covariance = joint(MODEL, T)
    outputs = covariance[np.ix_(OUTPUTS, OUTPUTS)]
    errors = FLAT - mean[OUTPUTS]
    _, log_determinant = np.linalg.slogdet(2 * np.pi * outputs)
    expected = -(np.einsum("bi,bi->b", errors, np.linalg.solve(outputs, errors.T).T)) / 2
    expected -= log_determinant / 2
    np.testing.assert_allclose(kalman_filter(MODEL, YS).log_likelihood, expected, rtol=1e-9)
    np.testing.assert_allclose(kalman_smoother(MODEL, YS).log_likelihood, expected, rtol=1e-9)


def test_predictions_and_states_are_conditionals_of_the_joint_gaussian():
    mean, covariance = joint(MODEL, T)
    filtered = kalman_filter(MODEL, YS)
    for t in range(T):
        now = OUTPUTS[t * O : (t + 1) * O]
        known = t * O
        expected, spread = given(mean, covariance, now, OUTPUTS[:known], FLAT[:, :known])
        np.testing.assert_allclose(filtered.predictions[t], expected, atol=1e-9)
        np.testing.assert_allclose(filtered.prediction_covariances[t], spread, atol=1e-9)
        states = np.arange(t * S, (t + 1) * S)
        known += O
        expected, _ = given(mean, covariance, states, OUTPUTS[:known], FLAT[:, :known])
        np.testing.assert_allclose(filtered.states[t], expected, atol=1e-9)


def test_the_smoother_is_a_conditional_of_the_joint_gaussian():
    mean, covariance = joint(MODEL, T)
    smoothed = kalman_smoother(MODEL, YS)
    expected, spread = given(mean, covariance, np.arange(T * S), OUTPUTS, FLAT)
    np.testing.assert_allclose(
        smoothed.states, np.moveaxis(expected.reshape(B, T, S), 0, 1), atol=1e-9
    )
    blocks = spread.reshape(T, S, T, S)
    for t in range(T):
        np.testing.assert_allclose(smoothed.covariances[t], blocks[t, :, t], atol=1e-9)
        if t + 1 < T:
            np.testing.assert_allclose(smoothed.lag_covariances[t], blocks[t + 1, :, t], atol=1e-9)


def test_em_never_lowers_the_likelihood():
    """For several sequences and outputs, and for a single long sequence."""
    for ys in (YS, np.cumsum(np.random.default_rng(2).normal(size=(40, 1, 1)), axis=0)):
        fit = em(ys, 2, iterations=30, seed=3)
        assert (np.diff(fit.log_likelihoods) > -1e-8).all()
        assert fit.log_likelihoods[-1] > fit.log_likelihoods[0] + 1
        after = kalman_filter(fit.model, ys).log_likelihood.sum()
        assert after >= fit.log_likelihoods[-1] - 1e-8


@pytest.mark.long
def test_em_finds_the_predictions_of_the_system_that_made_the_data():
    """An oscillator with a period of 12 steps: its eigenvalues, and the least squared error."""
    angle = 2 * np.pi / 12
    turn = 0.98 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    noise = (1 - 0.98**2) * np.eye(2)
    truth = LinearGaussian(turn, noise, np.eye(1, 2), np.eye(1) / 4, np.zeros(2), np.eye(2))
    rng = np.random.default_rng(0)
    z, ys = rng.normal(size=2), []
    for _ in range(3000):
        ys.append(z[0] + rng.normal() / 2)
        z = turn @ z + np.sqrt(1 - 0.98**2) * rng.normal(size=2)
    ys = np.array(ys)[:, None, None]
    fit = em(ys[:2000], 2, iterations=150)
    found = np.sort_complex(np.linalg.eigvals(fit.model.transition))
    np.testing.assert_allclose(found, np.sort_complex(np.linalg.eigvals(turn)), atol=0.03)
    errors = []
    for model in (truth, fit.model):
        predictions = kalman_filter(model, ys).predictions
        errors.append(((predictions - ys)[2000:] ** 2).mean())
    assert errors[1] < 1.05 * errors[0]
    assert errors[0] == pytest.approx(
        kalman_filter(truth, ys[:200]).prediction_covariances[-1, 0, 0], rel=0.1
    )


def test_a_stationary_covariance_stays_what_it_is():
    turned = stationary_covariance(MODEL.transition / 2, MODEL.state_covariance)
    again = MODEL.transition / 2 @ turned @ MODEL.transition.T / 2 + MODEL.state_covariance
    np.testing.assert_allclose(again, turned)


NO_MODEL: Any = None
NO_READOUT = np.full((O, S), np.nan)
FAULTS = {
    "no batch": (lambda: kalman_filter(MODEL, YS[:, 0]), "[T, B, O]"),
    "a gap": (lambda: kalman_filter(MODEL, YS * np.nan), "ys", "NaN"),
    "outputs": (lambda: kalman_filter(MODEL, YS[..., :1]), "readout", "(1, 3)"),
    "a matrix": (lambda: kalman_smoother(MODEL._replace(transition=np.eye(2)), YS), "transition"),
    "states": (lambda: em(YS, 0), "states"),
    "one step": (lambda: em(YS[:1], 2), "one step"),
    "constant": (lambda: em(np.ones((30, 2, 1)), 1), "output 0 of ys is constant"),
    "no model": (lambda: kalman_filter(NO_MODEL, YS), "model is None", "LinearGaussian"),
    "no states": (lambda: kalman_filter(MODEL._replace(start_mean=[]), YS), "one state at least"),
    "nan": (lambda: kalman_filter(MODEL._replace(readout=NO_READOUT), YS), "readout holds NaN"),
    "negative": (
        lambda: kalman_filter(MODEL._replace(output_covariance=-np.eye(O)), YS),
        "output_covariance has a negative eigenvalue",
    ),
    "asymmetric": (
        lambda: stationary_covariance(np.eye(2) / 2, [[1.0, 0.5], [0.0, 1.0]]),
        "state_covariance is not symmetric",
    ),
    "growth": (lambda: stationary_covariance(np.eye(2), np.eye(2)), "spectral radius", "below 1"),
}


@pytest.mark.parametrize("scale", [1.0, 1e-7, 1e-12])
def test_small_outputs_are_filtered_as_large_ones_are(scale):
    one = np.ones((1, 1))
    ys = np.random.default_rng(0).normal(size=(30, 2, 1)).cumsum(axis=0)
    walk = LinearGaussian(one, one, one, one, np.zeros(1), one)
    small = walk._replace(readout=scale * one, output_covariance=scale**2 * one)
    expected, got = kalman_filter(walk, ys), kalman_filter(small, scale * ys)
    np.testing.assert_allclose(got.predictions, scale * expected.predictions, rtol=1e-9)
    likelihoods = got.log_likelihood + len(ys) * np.log(scale)
    np.testing.assert_allclose(likelihoods, expected.log_likelihood, rtol=1e-9)
    smoothed = kalman_smoother(small, scale * ys)
    np.testing.assert_allclose(smoothed.states, kalman_smoother(walk, ys).states, rtol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_em_ends_where_an_output_has_no_noise(scale):
    ys = scale * np.sin(np.arange(50) / 3)[:, None, None]
    fit = em(ys, states=2)
    assert len(fit.log_likelihoods) < 100
    assert (np.diff(fit.log_likelihoods) > 0).all()
    assert fit.model.output_covariance[0, 0] >= 1e-8 * ys.var()


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_input_gives_one_sentence(fault):
    call, *words = FAULTS[fault]
    one_sentence(call, *words)


def test_without_statsmodels_an_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "statsmodels.tsa.statespace.kalman_smoother", None)
    with pytest.raises(ImportError, match="pip install statsmodels"):
        linear_gaussian.em(YS, 2)
