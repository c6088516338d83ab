"""The baselines of the experiment on sine waves."""

import numpy as np

from experiments.sine.run import AHEAD, CLEAN, NOISY, READ, Plan, autoregression, persistence, waves

PLAN = Plan(periods=2, phases=3)


def test_an_autoregression_of_order_two_is_exact_without_noise():
    tested = waves(CLEAN, PLAN, seed=0)
    forecasts = autoregression(tested.seen, order=2)
    for values in forecasts:
        np.testing.assert_allclose(values, tested.clean[READ:], atol=1e-9)


def test_forecasts_begin_after_what_was_read():
    tested = waves(NOISY, PLAN, seed=0)
    last = persistence(tested.seen)
    np.testing.assert_array_equal(last.one_step, tested.seen[READ - 1 : READ + AHEAD - 1])
    np.testing.assert_array_equal(last.free, np.tile(tested.seen[READ - 1], (AHEAD, 1)))
    forecasts = autoregression(tested.seen, order=5)
    np.testing.assert_allclose(forecasts.one_step[0], forecasts.free[0])
    other = tested.seen.copy()
    other[READ:] += 1
    np.testing.assert_array_equal(autoregression(other, order=5).free, forecasts.free)
