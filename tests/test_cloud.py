"""The alarms of the experiment on cloud services, and the faults that are put into its data."""

import numpy as np
import pytest

from experiments.cloud.data import KINDS, METRICS, SERVICES, WEEK, Fault, fleet, with_faults
from experiments.cloud.detection import best_threshold, detect
from experiments.cloud.run import change, profile


def test_alarms_are_counted_by_hand():
    scores = np.zeros((200, 1, 1))
    scores[[10, 12, 14], 0, 0] = 1  # one alarm, on the first fault
    scores[30, 0, 0] = 1  # within a day after it: does not count
    scores[[100, 110], 0, 0] = 1  # two false alarms
    faults = [Fault("spike", 12, 13, 0, 0), Fault("drift", 150, 190, 0, 0)]
    found = detect(scores, faults, threshold=0.5)
    assert found.precision == pytest.approx(1 / 3)
    assert found.recall == 0.5
    assert found.by_kind["spike"] == 1
    assert found.by_kind["drift"] == 0
    assert found.f1 == pytest.approx(0.4)


def test_nothing_flagged_is_no_division_by_zero():
    found = detect(np.zeros((50, 1, 1)), [Fault("spike", 12, 13, 0, 0)], threshold=0.5)
    assert (found.precision, found.recall, found.f1) == (0, 0, 0)


def test_the_best_threshold_separates_what_can_be_separated():
    scores = np.random.default_rng(0).random((1000, 2, 1))
    faults = [Fault("spike", hour, hour + 1, 0, 0) for hour in range(50, 1000, 100)]
    for fault in faults:
        scores[fault.start, 0, 0] = 5
    assert detect(scores, faults, best_threshold(scores, faults)).f1 == 1


def test_faults_change_their_hours_alone_and_lie_apart():
    data = fleet(weeks=3)
    values, faults = with_faults(data, first_week=1, seed=0)
    assert data.values.shape == (3 * WEEK, SERVICES, len(METRICS))
    assert {fault.kind for fault in faults} == set(KINDS)
    is_changed = values != data.values
    is_changed &= ~np.isnan(data.values)
    is_fault = np.zeros_like(is_changed)
    for fault in faults:
        span = (slice(fault.start, fault.stop), fault.service, fault.metric)
        assert not is_fault[span].any()
        is_fault[span] = True
    assert not is_changed[~is_fault].any()
    assert not is_fault[:WEEK].any()


def test_a_perfect_week_has_no_deviation_and_no_change():
    rng = np.random.default_rng(0)
    week = rng.normal(size=(WEEK, 2, 3))
    values = np.concatenate([week, week + 0.1, week - 0.1])
    deviations = profile(values).deviations(np.concatenate([week, week]))
    assert np.abs(deviations).max() < 1e-9
    assert np.abs(change(deviations, WEEK)[WEEK:]).max() < 1e-9
