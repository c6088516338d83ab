"""Grids, means and sums over steps, and gaps: each against a loop, and against pandas."""

import datetime
import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rnnlab.data import (
    Series,
    TimeTable,
    forward_fill,
    interpolate,
    observations,
    regular_grid,
    resample,
)

START = np.datetime64("2024-02-28T22:30", "s")
HALF_HOUR = np.timedelta64(1800, "s")


def random_table(rows=400, seed=0):
    """Half hours, of which some rows and some numbers are missing."""
    rng = np.random.default_rng(seed)
    kept = np.sort(rng.permutation(rows)[: int(0.9 * rows)])
    values = rng.normal(size=(kept.size, 2))
    values[rng.random(values.shape) < 0.2] = np.nan
    return TimeTable(START + HALF_HOUR * kept, values, ("a", "b"))


def frame(table):
    return pd.DataFrame(table.values, index=table.times, columns=list(table.columns))


def test_a_grid_has_each_step_once():
    table = random_table()
    grid = regular_grid(table)
    assert set(np.diff(grid.times)) == {HALF_HOUR}
    places = np.searchsorted(grid.times, table.times)
    np.testing.assert_array_equal(grid.values[places], table.values)
    others = np.setdiff1d(np.arange(grid.times.size), places)
    assert others.size
    assert np.isnan(grid.values[others]).all()
    expected = frame(table).asfreq("30min")
    np.testing.assert_array_equal(grid.values, expected.to_numpy())
    np.testing.assert_array_equal(grid.times, expected.index.to_numpy())
    assert regular_grid(table, "15min").values.shape == (2 * grid.times.size - 1, 2)


def by_hand(table, step, how, at_least, first):
    """A bin after the other."""
    rows = []
    while first <= table.times[-1]:
        in_bin = (table.times >= first) & (table.times < first + step)
        for column in table.values[in_bin].T:
            known = column[~np.isnan(column)]
            is_enough = known.size and known.size / (step / HALF_HOUR) >= at_least
            total = known.sum() if is_enough else np.nan
            rows.append(total / known.size if how == "mean" and is_enough else total)
        first = first + step
    return np.reshape(rows, (-1, 2))


@pytest.mark.parametrize("how", ["mean", "sum"])
@pytest.mark.parametrize("at_least", [1.0, 0.75, 0.5, 1e-3])
@pytest.mark.parametrize(
    ("step", "length", "first"),
    [
        ("1h", np.timedelta64(3600, "s"), "2024-02-28T22:00"),
        ("1d", np.timedelta64(86400, "s"), "2024-02-28"),
        (datetime.timedelta(weeks=1), np.timedelta64(7 * 86400, "s"), "2024-02-26"),
    ],
    ids=["hours", "days", "weeks"],
)
def test_steps_are_those_of_a_loop(how, at_least, step, length, first):
    table = random_table(800)
    result = resample(table, step, how, at_least=at_least)
    expected = by_hand(table, length, how, at_least, np.datetime64(first, "s"))
    np.testing.assert_allclose(result.values, expected, rtol=1e-12)
    assert result.times[0] == np.datetime64(first)
    assert (np.diff(result.times) == length).all()


@pytest.mark.parametrize("how", ["mean", "sum"])
def test_hours_are_those_of_pandas(how):
    table = random_table()
    result = resample(table, "1h", how, at_least=0.5)
    expected = frame(table).resample("1h").agg(how, **({"min_count": 1} if how == "sum" else {}))
    np.testing.assert_allclose(result.values, expected.to_numpy(), rtol=1e-12)
    np.testing.assert_array_equal(result.times, expected.index.to_numpy())


def test_the_step_of_a_table_gives_the_table():
    table = random_table()
    grid = regular_grid(table)
    same = resample(table, "30min")
    np.testing.assert_array_equal(same.values, grid.values)
    np.testing.assert_array_equal(same.times, grid.times)


def test_means_of_means_are_the_means():
    times = START.astype("datetime64[D]") + HALF_HOUR * np.arange(480)
    table = TimeTable(times, np.random.default_rng(0).normal(size=(480, 1)), ("a",))
    days = resample(resample(table, "1h"), "1d")
    np.testing.assert_allclose(days.values, resample(table, "1d").values, rtol=1e-12)


def test_parts_of_a_second_are_kept():
    times = np.datetime64("2024-01-01T00:00:00.5", "us") + np.timedelta64(250, "ms") * np.arange(4)
    table = TimeTable(times, np.arange(4.0)[:, None], ("a",))
    result = resample(table, "1s", at_least=0.5)
    assert result.times.tolist() == [
        datetime.datetime(2024, 1, 1),
        datetime.datetime(2024, 1, 1, 0, 0, 1),
    ]
    assert result.values[:, 0].tolist() == [0.5, 2.5]
    np.testing.assert_array_equal(regular_grid(table).times, times)


gapped = arrays.arrays(
    float,
    st.tuples(st.integers(1, 30), st.integers(1, 2)),
    elements=st.sampled_from([np.nan, np.nan, 1.0, 2.5, -3.0]),
)
limits = st.one_of(st.none(), st.integers(1, 5))


@given(gapped, limits)
def test_forward_fill_is_that_of_pandas(values, limit):
    expected = pd.DataFrame(values).ffill(limit=limit).to_numpy()
    np.testing.assert_array_equal(forward_fill(values, limit), expected)
    np.testing.assert_array_equal(forward_fill(values[:, 0], limit), expected[:, 0])


@given(gapped)
def test_interpolation_is_that_of_pandas(values):
    expected = pd.DataFrame(values).interpolate(limit_area="inside").to_numpy()
    np.testing.assert_allclose(interpolate(values), expected, rtol=1e-12)


@given(gapped, limits)
def test_a_gap_is_interpolated_as_a_whole_or_not_at_all(values, limit):
    lines = interpolate(values, limit)
    for column, line in zip(values.T, lines.T, strict=True):
        known = np.flatnonzero(~np.isnan(column))
        np.testing.assert_array_equal(line[known], column[known])
        for before, after in itertools.pairwise(known):
            gap = slice(before + 1, after)
            is_filled = limit is None or after - before - 1 <= limit
            slope = (column[after] - column[before]) / (after - before)
            expected = column[before] + slope * np.arange(1, after - before)
            np.testing.assert_allclose(line[gap], expected if is_filled else np.nan, rtol=1e-12)
        ends = np.ones(len(column), bool)
        if known.size:
            ends[known[0] : known[-1] + 1] = False
        assert np.isnan(line[ends]).all()


def test_lines_are_straight_in_time():
    values = [0.0, np.nan, 10.0]
    assert interpolate(values, times=[0, 1, 10])[1] == 1.0
    times = np.array(["2024-01-01", "2024-01-04", "2024-01-05"], "datetime64[D]")
    assert interpolate(values, times=times)[1] == 7.5


@given(gapped, st.booleans())
def test_observations_are_those_of_the_recursion(values, has_times):
    steps = len(values)
    times = np.cumsum(np.arange(1.0, steps + 1)) if has_times else np.arange(float(steps))
    told = observations(values, times=times if has_times else None)
    for column in range(values.shape[1]):
        last, since = 0.0, 0.0
        for step in range(steps):
            if step:
                was_missing = np.isnan(values[step - 1, column])
                since = times[step] - times[step - 1] + (since if was_missing else 0)
            is_there = not np.isnan(values[step, column])
            last = values[step, column] if is_there else last
            assert told.values[step, column] == last
            assert told.observed[step, column] == is_there
            assert told.since[step, column] == since


def test_observations_as_features():
    values = np.array([[1.0, np.nan], [np.nan, 2.0]])
    features = observations(values).stacked()
    np.testing.assert_array_equal(features, [[1, 0, 1, 0, 0, 0], [1, 2, 0, 1, 1, 1]])
    assert observations(values[:, 0]).stacked().shape == (2, 3)
    days = np.array(["2024-01-01", "2024-01-03"], "datetime64[D]")
    assert observations([1.0, 2.0], times=days).since[1] == 2 * 86400


TABLE = random_table()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: regular_grid(TABLE, "45min"),
            r"times\[1\] is 2024-02-28T23:00:00, between two st",
        ),
        (
            lambda: regular_grid(TABLE, "1 fortnight"),
            "step is '1 fortnight'; give a length of time",
        ),
        (lambda: regular_grid(TABLE, np.timedelta64(1, "M")), "give a length of time above 0"),
        (lambda: regular_grid(TABLE, "0h"), "give a length of time above 0"),
        (lambda: resample(TABLE, "10min"), "step is 10 min, but the table has a row every 30 min"),
        (lambda: resample(TABLE, "1h", "median"), "how is 'median'; choose one of 'mean', 'sum'"),
        (
            lambda: resample(TABLE, "1h", at_least=0),
            "at_least is 0; it must be above 0 and at most",
        ),
        (lambda: resample(Series(np.ones(2), np.arange(2)), "1h"), r"give rnnlab\.data\.TimeTable"),
        (lambda: resample(TABLE._replace(times=TABLE.times[::-1]), "1h"), "times must rise"),
        (lambda: resample(TABLE._replace(times=np.arange(360)), "1h"), "times are int64; give dat"),
        (lambda: resample(TABLE._replace(times=TABLE.times[1:]), "1h"), r"give \[N\] and \[N, C\]"),
        (lambda: resample(TABLE._replace(columns=("a",)), "1h"), "values has 2 columns, but colu"),
        (lambda: regular_grid(TimeTable(TABLE.times[:1], TABLE.values[:1], "ab")), "at least 2"),
        (lambda: forward_fill("abc"), "values is text"),
        (lambda: forward_fill([]), r"values has shape \(0,\); give at least one step"),
        (lambda: forward_fill([1.0], 0), "limit is 0"),
        (lambda: interpolate([1.0, 2.0], times=[1, 1]), "times do not rise"),
        (lambda: observations([1.0, 2.0], times=[1]), r"times has shape \(1,\), but there are 2"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
