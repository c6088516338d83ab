"""Windows and baselines of the experiment on weekly CO2."""

import numpy as np
import pytest

from experiments.co2.baselines import last_year, smoothed
from experiments.co2.data import (
    CONTEXT,
    INPUTS,
    LEADS,
    LINE,
    TOLD,
    YEAR,
    generated,
    mauna_loa,
    removed,
    windows,
)


def test_59_weeks_of_the_record_are_missing():
    pytest.importorskip("statsmodels")
    weeks = mauna_loa()
    assert weeks.ppm.shape == weeks.dates.shape == (2284,)
    assert np.isnan(weeks.ppm).sum() == 59
    assert set(np.diff(weeks.dates).astype(int)) == {7}
    assert weeks.before("1958-04-05") == 1


@pytest.mark.parametrize("inputs", INPUTS)
def test_no_forecast_reads_what_is_ahead_of_it(inputs):
    left = removed(generated(300).ppm, 0.6, seed=0)
    future = left.copy()
    future[200:] += 100
    origin = np.array([200])
    one, other = (windows(values, left, inputs, 200, 208) for values in (left, future))
    np.testing.assert_array_equal(one.xs, other.xs)
    for forecast in (last_year, lambda values, at: smoothed(values, at, 150, 0.3)):
        np.testing.assert_allclose(forecast(left, origin), forecast(future, origin), atol=1e-9)


def test_a_window_is_that_of_a_loop():
    ppm = removed(generated(200).ppm, 0.3, seed=1)
    told = windows(ppm, ppm, TOLD, 100, 120)
    line = windows(ppm, ppm, LINE, 100, 120)
    for place, origin in enumerate(told.origins):
        seen = ppm[origin - CONTEXT : origin]
        known = np.flatnonzero(~np.isnan(seen))
        anchor = seen[known[-1]]
        assert told.anchors[place] == anchor
        expected = np.interp(np.arange(CONTEXT), known, seen[known])[known[0] :] - anchor
        np.testing.assert_allclose(line.xs[known[0] :, place, 0], expected)
        np.testing.assert_array_equal(told.xs[:, place, 1], ~np.isnan(seen))
        ahead = ppm[origin : origin + LEADS] - anchor
        np.testing.assert_array_equal(told.targets[:, place], ahead)


def test_a_season_with_a_rise_is_forecast_exactly():
    week = np.arange(800)
    series = 300 + 0.03 * week + 2 * np.sin(2 * np.pi * week / YEAR)
    series[[3, 50, 51, 700]] = np.nan
    origins = np.arange(600, 700)
    ahead = origins + np.arange(LEADS)[:, None]
    expected = 300 + 0.03 * ahead + 2 * np.sin(2 * np.pi * ahead / YEAR)
    np.testing.assert_allclose(smoothed(series, origins, 500, 0.3), expected, atol=1e-6)
    # A year is not a whole number of weeks.
    np.testing.assert_allclose(last_year(series, origins), expected, atol=0.2)
