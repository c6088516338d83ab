"""The experiment on household power: its loaders, no leakage, and forecasts against loops."""

import datetime

import numpy as np
import pytest

from experiments.power import data, run
from rnnlab.data import Batch

pytestmark = pytest.mark.long

POWER = data.generated(days=60)
DAYS = run.prepare(POWER)


def test_the_uci_file_becomes_days(tmp_path, monkeypatch):
    start = datetime.datetime(2006, 12, 16, 17, 24)
    lines = ["Date;Time;Global_active_power;Global_reactive_power"]
    for minute in range(3 * 1440):
        moment = start + datetime.timedelta(minutes=minute)
        # The second hour of 18 December lacks 40 minutes, its third 20.
        is_missing = moment.day == 18 and (
            (moment.hour == 1 and moment.minute < 40) or (moment.hour == 2 and moment.minute < 20)
        )
        value = "?" if is_missing else f"{moment.hour}.{moment.day}"
        stamp = f"{moment.day}/{moment.month}/{moment.year};{moment:%H:%M:%S}"
        lines.append(f"{stamp};{value};{'' if is_missing else 0.1}")
    (tmp_path / data.UCI).write_text("\n".join(lines))
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path))
    power = data.power()
    assert power.first == np.datetime64("2006-12-17")
    assert power.weekdays.tolist() == [6, 0]
    expected = np.arange(24) + np.array([[0.17], [0.18]])
    expected[1, 1] = np.nan
    np.testing.assert_allclose(power.kw[..., 0], expected)


def test_without_files_houses_are_generated_and_that_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path))
    assert "generated" in data.power().source
    assert "pip download" in capsys.readouterr().out


def test_no_input_or_forecast_knows_its_day():
    """Other numbers from a day on change nothing that is forecast at its beginning."""
    first, last = DAYS.held_out, len(POWER.kw)
    kw = POWER.kw.copy()
    kw[first:] = 3 * kw[first:][::-1] + 1
    other = run.prepare(POWER._replace(kw=kw))
    np.testing.assert_array_equal(other.scale, DAYS.scale)
    np.testing.assert_array_equal(other.inputs[7 : first + 1], DAYS.inputs[7 : first + 1])
    forecasts = [run.ridge(days, first, last, 10.0) for days in (DAYS, other)]
    np.testing.assert_array_equal(forecasts[0][0], forecasts[1][0])
    for ours, theirs in zip(
        run.naive(DAYS, first, last).values(), run.naive(other, first, last).values(), strict=True
    ):
        np.testing.assert_array_equal(ours[0], theirs[0])
    networks = [run.networks(days, first, last, run.QUICK) for days in (DAYS, other)]
    np.testing.assert_array_equal(networks[0][:, 0], networks[1][:, 0])
    assert (networks[0][:, 2] != networks[1][:, 2]).any()


def test_naive_forecasts_are_those_of_a_loop():
    first, last = DAYS.held_out, len(POWER.kw)
    forecasts = run.naive(DAYS, first, last)

    def before(day, hour, house):
        """The last day up to ``day`` that has this hour."""
        while np.isnan(DAYS.targets[day, hour, house]):
            day -= 1
        return DAYS.targets[day, hour, house]

    for day in range(first, last):
        for hour in (0, 7, 23):
            for house in range(4):
                at = day - first, hour, house
                assert forecasts[run.PERSISTENCE][at] == before(day - 1, 23, house)
                assert forecasts[run.DAY][at] == before(day - 1, hour, house)
                assert forecasts[run.SEASONAL_WEEK][at] == before(day - 7, hour, house)
                week = [before(day - lag, hour, house) for lag in range(1, 8)]
                np.testing.assert_allclose(forecasts[run.MEAN][at], np.mean(week), rtol=1e-12)


def test_columns_are_the_houses_of_each_day():
    batch = run.sequences(DAYS, 20, 22)
    assert batch.xs.shape[:2] == (72, 8)
    expected = DAYS.inputs[19:22, :, 1].reshape(72, -1)
    np.testing.assert_array_equal(batch.xs[:, 4 + 1], expected.astype(np.float32))


def test_missing_hours_do_not_count():
    batch = run.sequences(DAYS, 20, 40)
    assert isinstance(batch, Batch)
    stretch = DAYS.targets[18:21]
    np.testing.assert_array_equal(batch.mask[:, :4], ~np.isnan(stretch).reshape(72, 4))
    assert not batch.targets[~batch.mask].any()
    errors = run.score(DAYS.base[20:40], DAYS, 20, 40)
    known = np.abs(DAYS.base - DAYS.targets)[20:40] * DAYS.scale
    assert errors["mae"] == round(np.nanmean(known), 4)


def test_the_interval_of_a_constant_gain_is_a_point():
    assert run.gain_interval([3.0] * 30, [[1.0] * 30, [2.0] * 30]) == (1.5, 1.5)
