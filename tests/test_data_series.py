"""Series: windows, and a split in time without leakage."""

import sys

import numpy as np
import pytest

from rnnlab.data import Series, Standardizer, forecasting, sunspots, windows

YEARS = np.arange(1900, 2000)
SERIES = Series(np.random.default_rng(0).normal(5, 3, YEARS.size), YEARS)


def numbered():
    """The series whose value is its year, which shows where a value comes from."""
    return Series(YEARS.astype(float), YEARS)


def years_of(data):
    """The first year and the last of every window that counts in one epoch."""
    spans = []
    for index in range(data.batches_per_epoch):
        batch = data[index]
        whole = np.concatenate([batch.xs, batch.targets])[..., 0]
        assert (np.diff(whole, axis=0) == 1).all()
        counts = slice(None) if batch.mask is None else batch.mask.all(0)
        spans.extend(map(tuple, whole[[0, -1]].T[counts].tolist()))
    return sorted(spans)


def test_windows_are_all_stretches():
    data = windows(numbered(), 5, 3, 4, drop_remainder=False)
    assert data[0].xs.shape == (5, 4, 1)
    assert data[0].targets.shape == (3, 4, 1)
    assert years_of(data) == [(first, first + 7) for first in range(1900, 1993)]


def test_windows_between_two_times():
    data = windows(numbered(), 5, 3, 4, start=1950, stop=1960, drop_remainder=False)
    # Targets from 1950 on: the first window sees 1945 to 1949.
    assert years_of(data) == [(first, first + 7) for first in range(1945, 1953)]


def test_nothing_held_out_reaches_training():
    split = forecasting(SERIES, 5, 3, 4, held_out_from=1970, seed=1)
    later = SERIES.values.copy()
    later[YEARS >= 1970] = 1e6
    changed = forecasting(SERIES._replace(values=later), 5, 3, 4, held_out_from=1970, seed=1)
    assert changed.standardizer == split.standardizer
    for ours, theirs in zip(split.training.examples, changed.training.examples, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    known = SERIES.values[YEARS < 1970]
    assert split.standardizer == Standardizer(known.mean(), known.std())


def test_the_parts_hold_the_windows_before_and_after():
    split = forecasting(numbered(), 5, 3, 4, held_out_from=1970)
    restored = []
    for data in (split.training, split.held_out):
        examples = data.examples
        whole = np.concatenate([examples.xs, examples.targets])[..., 0]
        restored.append(np.rint(split.standardizer.restore(whole)))
    training, held_out = restored
    assert training.max() == 1969
    assert held_out[5:].min() == 1970
    assert held_out[:, 0].tolist() == list(range(1965, 1973))
    assert training.shape[1] == 70 - 7
    assert held_out.shape[1] == 30 - 2
    counted = [split.held_out[i].targets for i in range(split.held_out.batches_per_epoch)]
    np.testing.assert_array_equal(np.concatenate(counted, 1)[:, :28], split.held_out.examples[1])


def test_standardized_values_come_back():
    standardizer = Standardizer(mean=5.0, scale=3.0)
    z = standardizer.standardize(SERIES.values)
    np.testing.assert_allclose(standardizer.restore(z), SERIES.values, rtol=1e-14)
    assert standardizer.standardize(8.0) == 1.0


def test_sunspots_are_the_yearly_numbers():
    pytest.importorskip("statsmodels")
    series = sunspots()
    assert series.times.tolist() == list(range(1700, 2009))
    # The largest yearly mean of the older count is that of 1957.
    assert series.times[series.values.argmax()] == 1957
    assert series.values.max() == 190.2
    split = forecasting(series, 22, 1, 16, held_out_from=1950)
    assert split.held_out.examples.xs.shape == (22, 59, 1)


def test_sunspots_say_how_to_install_statsmodels(monkeypatch):
    monkeypatch.setitem(sys.modules, "statsmodels.datasets", None)
    with pytest.raises(ImportError, match="pip install statsmodels"):
        sunspots()


@pytest.mark.parametrize(
    ("series", "change", "words"),
    [
        (SERIES, {"context": 0}, "context is 0"),
        (SERIES, {"horizon": 0}, "horizon is 0"),
        (SERIES, {"context": 98}, r"no window of 98 \+ 3 values fits into the 100 values"),
        (SERIES, {"start": 1999}, "from 1999 to the last"),
        (SERIES._replace(times=YEARS[:-1]), {}, r"values has shape \(100,\) and times \(99,\)"),
        (SERIES._replace(times=np.minimum(YEARS, 1950)), {}, r"times\[51\] is 1950 after 1950"),
        (SERIES._replace(values=np.where(YEARS == 1903, np.nan, 1)), {}, r"values\[3\] is nan"),
        (SERIES, {"batch_size": 99}, "only 93 examples"),
        (SERIES.values, {}, "series is an array"),
        (SERIES, {"start": "1950"}, "start is .1950.; give a time such as 1900"),
        (SERIES, {"standardizer": (0, 1)}, r"standardizer is \(0, 1\); give a Standardizer"),
        (SERIES, {"standardizer": Standardizer(0.0, 0.0)}, "with a scale above 0"),
        (SERIES._replace(values=list("ab")), {}, "values is text"),
        (SERIES._replace(times=list("a" * 100)), {}, "times are <U1"),
        (SERIES._replace(times=np.where(YEARS == 1903, np.nan, YEARS)), {}, r"times\[3\] is nan"),
        (SERIES._replace(times=(YEARS[::-1]).astype(np.uint16)), {}, "1998 after 1999"),
    ],
)
def test_bad_series_are_refused(series, change, words):
    settings = {"context": 5, "horizon": 3, "batch_size": 4} | change
    with pytest.raises(ValueError, match=words) as caught:
        windows(series, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("held_out_from", [1900, 1901])
def test_a_training_part_without_spread_is_refused(held_out_from):
    with pytest.raises(ValueError, match=f"values before {held_out_from} have no spread"):
        forecasting(SERIES, 5, 3, 4, held_out_from=held_out_from)
