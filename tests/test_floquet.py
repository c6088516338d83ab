"""Eigenvalues of products against many digits."""

import mpmath
import numpy as np
import pytest

from rnnlab.diagnostics.invariant_sets.floquet import log_eigenvalues


def exact(factors):
    """ln |m|, falling, in 150 digits."""
    with mpmath.workdps(150):
        product = mpmath.eye(factors.shape[-1])
        for factor in factors:
            product = mpmath.matrix(factor.tolist()) * product
        values, _ = mpmath.eig(product)
        return np.array(sorted((float(mpmath.log(abs(value))) for value in values), reverse=True))


def turned(rng, count, size, least):
    """Matrices with singular values from 1 down to ``least``."""
    left, right = (np.linalg.qr(rng.normal(size=(count, size, size)))[0] for _ in range(2))
    return left * np.geomspace(1, least, size) @ right


@pytest.mark.combinations
@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("least", [1.0, 1e-3, 1e-6])
def test_small_eigenvalues_are_as_good_as_large_ones(count, size, least):
    rng = np.random.default_rng(size)
    for factors in (
        turned(rng, count, size, least),
        rng.normal(size=(count, size, size)) * np.geomspace(1, least, size)[:, None],
    ):
        logs, units = log_eigenvalues(factors)
        np.testing.assert_allclose(logs, exact(factors), atol=1e-8)
        np.testing.assert_allclose(logs.sum(), np.linalg.slogdet(factors)[1].sum(), atol=1e-8)
        np.testing.assert_allclose(units.prod(), np.linalg.slogdet(factors)[0].prod(), atol=1e-8)


def test_a_complex_pair_stays_one_however_small_it_is():
    """A rotation by 1, of 1e-20 each time, beside a direction that is kept."""
    block = 1e-2 * np.array([[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]])
    factor = np.zeros((3, 3))
    factor[0, 0], factor[1:, 1:] = 1, block
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    logs, units = log_eigenvalues(np.repeat((basis @ factor @ basis.T)[None], 10, axis=0))
    np.testing.assert_allclose(logs, [0, 10 * np.log(1e-2), 10 * np.log(1e-2)], atol=1e-10)
    np.testing.assert_allclose(sorted(np.angle(units)), [-1, 0, 1], atol=1e-8)


def test_what_is_zero_is_minus_infinity():
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(4, 3, 3))
    factors[2] = np.outer(rng.normal(size=3), rng.normal(size=3))
    logs, _ = log_eigenvalues(factors)
    product = np.linalg.multi_dot(factors[::-1])
    np.testing.assert_allclose(logs[0], np.log(abs(np.trace(product))))
    assert (logs[1:] == -np.inf).all()
    assert (log_eigenvalues(np.zeros((2, 3, 3)))[0] == -np.inf).all()


def test_no_number_underflows():
    logs, _ = log_eigenvalues(np.repeat(np.diag([1e-100, 1e-110])[None], 50, axis=0))
    np.testing.assert_allclose(logs, np.log(10) * np.array([-5000, -5500]))
