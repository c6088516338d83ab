"""The sunspot experiment: no leakage, baselines against slow twins, and a complete quick run."""

import numpy as np
import pytest

pytest.importorskip("statsmodels")
from statsmodels.tsa.ar_model import AutoReg

from experiments.sunspots import run as experiment
from rnnlab.data import sunspots

pytestmark = pytest.mark.long

SERIES = sunspots()
HELD_OUT = experiment.HELD_OUT
VALUE = dict(zip(SERIES.times.tolist(), SERIES.values.tolist(), strict=True))
# The years of the first of five targets.
FIRST = range(1921, 2005)


def changed_from(year):
    """The series with other numbers from ``year`` on."""
    values = np.where(SERIES.times < year, SERIES.values, 3 * SERIES.values[::-1] + 50)
    return SERIES._replace(values=values)


@pytest.fixture(scope="module")
def quick():
    """The result of a quick run."""
    return experiment.run(quick=True)


def test_the_targets_are_held_out_years_and_what_is_seen_lies_before():
    seen, targets = experiment.cases(SERIES, HELD_OUT, 16)
    assert experiment.first_years(SERIES, HELD_OUT).tolist() == list(FIRST)
    for column, first in enumerate(FIRST):
        years = range(first, first + 5)
        assert all(1921 <= year <= 2008 for year in years)
        assert targets[:, column].tolist() == [VALUE[year] for year in years]
        assert seen[:, column].tolist() == [VALUE[year] for year in range(first - 16, first)]


def test_the_validation_stretches_are_training_years_and_do_not_overlap():
    stops = [1801, *(stretch.stop for stretch in experiment.VALIDATION)]
    starts = [stretch.start for stretch in experiment.VALIDATION]
    assert starts == stops[:-1]
    assert stops[-1] == HELD_OUT.start


def test_persistence_and_the_mean_of_the_training_years():
    expected = [[VALUE[first - 1] for first in FIRST]] * 5
    np.testing.assert_array_equal(experiment.persistence(SERIES, HELD_OUT), expected)
    mean = sum(VALUE[year] for year in range(1700, 1921)) / 221
    np.testing.assert_allclose(experiment.climatology(SERIES, HELD_OUT), mean, rtol=1e-13)


@pytest.mark.parametrize("order", experiment.ORDERS, ids=lambda order: order.label)
def test_an_autoregression_forecasts_as_statsmodels_does(order):
    scaled = np.sqrt(SERIES.values) if order.root else SERIES.values
    known = scaled[:221]
    lags = order.order
    if lags in ("AIC", "BIC"):
        fits = [AutoReg(known, lag, hold_back=20).fit() for lag in range(1, 21)]
        lags = 1 + int(np.argmin([getattr(fit, order.order.lower()) for fit in fits]))
    params = AutoReg(known, lags).fit().params
    forecasts, found = experiment.autoregression(SERIES, HELD_OUT, order)
    assert found == lags
    for column in range(0, len(FIRST), 9):
        until = 221 + column
        twin = AutoReg(scaled[:until], lags).predict(params, start=until, end=until + 4)
        twin = np.maximum(twin, 0)
        np.testing.assert_allclose(
            forecasts[:, column], twin**2 if order.root else twin, rtol=1e-10
        )


def test_no_baseline_reads_the_years_that_it_forecasts():
    def forecasts(series):
        orders = experiment.ORDERS
        fitted = [experiment.autoregression(series, HELD_OUT, order)[0] for order in orders]
        simple = [
            experiment.persistence(series, HELD_OUT),
            experiment.climatology(series, HELD_OUT),
        ]
        return np.stack([*simple, *fitted])

    for year in (1921, 1960):
        is_before = np.array(FIRST) <= year
        other = forecasts(changed_from(year))[..., is_before]
        np.testing.assert_array_equal(other, forecasts(SERIES)[..., is_before])


def test_no_network_reads_the_years_that_it_forecasts(quick):
    """With other numbers from 1921 on, it forecasts the same from 1920: it learns none of them.

    What it sees of each window lies before its targets, as a test above says.
    """
    networks = np.asarray(quick["forecasts"])[-3:-1]
    other = experiment.network(changed_from(1921), HELD_OUT, experiment.QUICK)
    other = np.round(other, 3)
    np.testing.assert_array_equal(other[:, :, 0], networks[:, :, 0])
    # Those that see other numbers differ.
    assert (other[:, :, 1:] != networks[:, :, 1:]).any(axis=(0, 1)).all()


def test_the_interval_of_a_constant_gain_is_a_point():
    """Errors of 3 and of 1 everywhere: every draw has a gain of 2."""
    targets = np.zeros((5, 30))
    interval = experiment.gain_interval(targets + 3, np.stack([targets - 1, targets + 1]), targets)
    assert interval == (2.0, 2.0)


def result(chosen, best, networks):
    return experiment.Outcome("A", chosen, "B", best, 70.0, networks, 29.0)


def test_the_finding_says_whom_the_networks_beat():
    texts = [
        result(31.0, 29.5, (29.0, 31.5)).finding(),
        result(30.0, 29.5, (29.0, 31.5)).finding(),
        result(33.0, 32.0, (29.0, 31.5)).finding(),
    ]
    beats = "beats A, the autoregression chosen by validation"
    assert f"{beats} (31.0; 1 of 2 seeds); it does not beat B, the best in hindsight" in texts[0]
    assert "does not beat A, the autoregression chosen by validation (30.0; 1 of 2" in texts[1]
    assert "it beats B, the best in hindsight (32.0; 2 of 2 seeds)" in texts[2]
    assert all("beats persistence (70.0; 2 of 2 seeds)" in text for text in texts)


def test_a_quick_run_is_complete(quick):
    forecasts = np.asarray(quick["forecasts"])
    sides = [order.label for order in experiment.ORDERS]
    sides = ["persistence", "mean of the training years", *sides]
    sides += ["network", "network", "mean of the networks"]
    runs = quick["runs"]
    assert [run["side"] for run in runs] == 2 * sides
    assert [run["first"] for run in runs] == len(sides) * [1881] + len(sides) * [1921]
    targets = [[VALUE[first + lead] for first in FIRST] for lead in range(5)]
    for run, forecast in zip(runs[len(sides) :], forecasts, strict=True):
        errors = (forecast - targets) ** 2
        np.testing.assert_allclose(run["rmse"], np.sqrt(errors.mean()), atol=0.006)
        np.testing.assert_allclose(run["by_lead"], np.sqrt(errors.mean(axis=1)), atol=0.006)
    about = quick["outcome"]
    networks = [run["rmse"] for run in runs[len(sides) :] if run["side"] == "network"]
    rmse = {run["side"]: run["rmse"] for run in runs[len(sides) :]}
    validated = {run["side"]: run["rmse"] for run in runs[: len(sides)]}
    orders = [order.label for order in experiment.ORDERS]
    assert about["order"] == min(orders, key=validated.get)
    assert about["best"] == min(rmse[order] for order in orders) == rmse[about["best_order"]]
    assert list(about["network"]) == networks
    assert quick["beats_chosen"] == sum(network < rmse[about["order"]] for network in networks)
    assert quick["beats_best_in_hindsight"] == sum(network < about["best"] for network in networks)
