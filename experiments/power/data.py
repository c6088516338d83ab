"""Hourly electric power of households: the UCI file, houses of a package, or a stand-in."""

import os
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnnlab.data import read_table, read_time_table, resample

UCI = "household_power_consumption.txt"
"""Hébrail & Bérard 2012, doi 10.24432/C58K54 (CC BY 4.0): a house near Paris, each minute."""

CITYLEARN = "CityLearn-1.8.0-py3-none-any.whl"
"""MIT licence: 17 houses in Fontana, California (Nweye, Sankaranarayanan & Nagy 2023)."""

FOLDER = "citylearn/data/citylearn_challenge_2022_phase_all"
POWER = "Equipment Electric Power [kWh]"


class Power(NamedTuple):
    """D days of N houses.

    Attributes:
        kw: ``[D, 24, N]``, the mean power of each hour; NaN where it is missing.
        weekdays: ``[D]``, 0 for Monday.
        first: the first day.
        source: where the numbers are from, in a few words.
    """

    kw: np.ndarray
    weekdays: np.ndarray
    first: np.datetime64
    source: str


def power() -> Power:
    """The UCI file if it lies in the folder of data, else the houses of CityLearn, else a stand-in.

    The folder is ``data``, or that of the environment variable RNNLAB_DATA.
    """
    folder = Path(os.environ.get("RNNLAB_DATA", "data"))
    if (folder / UCI).is_file():
        return uci(folder / UCI)
    if (folder / CITYLEARN).is_file():
        return citylearn(folder / CITYLEARN)
    print(
        f"Neither {UCI} nor {CITYLEARN} is in {folder}, so that numbers are generated; run "
        f"python3 -m pip download --no-deps --dest {folder} CityLearn==1.8.0"
    )
    return generated(days=364)


def uci(path: Path) -> Power:
    """One house, 2006 to 2010; an hour is missing where less than half of its minutes are there."""
    minutes = read_time_table(
        path,
        time=("Date", "Time"),
        columns=["Global_active_power"],
        delimiter=";",
        day_first=True,
    )
    hours = resample(minutes, "1h", at_least=0.5)
    dates = hours.times.astype("datetime64[D]")
    first = int(np.argmax(hours.times == dates))  # the first midnight
    days = (hours.times.size - first) // 24
    kw = hours.values[first : first + 24 * days].reshape(days, 24, 1)
    return _power(kw, dates[first], "one house near Paris (UCI)")


def citylearn(path: Path) -> Power:
    """17 houses from Monday, 1 August 2016, for 52 weeks."""
    houses = []
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        for number in range(1, 18):
            file = archive.extract(f"{FOLDER}/Building_{number}.csv", folder)
            houses.append(read_table(file, columns=[POWER]).values)
    # The first row is the last hour of the day before.
    hours = np.concatenate(houses, axis=1)[1 : 1 + 364 * 24]
    first = np.datetime64("2016-08-01")
    return _power(hours.reshape(364, 24, 17), first, "17 houses in California (CityLearn)")


def generated(days: int, houses: int = 4, seed: int = 0) -> Power:
    """Houses with habits by hour and weekday, seasons, random use of appliances, and gaps."""
    rng = np.random.default_rng(seed)
    first = np.datetime64("2016-08-01")
    hour, day = np.arange(24)[:, None], np.arange(days)[:, None, None]
    peaks = rng.normal((8, 19), 1.0, (houses, 2))
    habit = 0.3 + sum(np.exp(-(((hour - peak) / 2.0) ** 2)) for peak in peaks.T)  # [24, N]
    is_weekend = _weekdays(first, days)[:, None, None] >= 5
    season = 1 + 0.3 * np.sin(2 * np.pi * day / 365)
    mean = season * np.where(is_weekend, np.roll(habit, 2, axis=0), habit)
    kw = rng.gamma(2.0, mean / 2.0)
    is_out = rng.random((days, 1, houses)) < 0.02
    return _power(np.where(is_out, np.nan, kw), first, f"{houses} generated houses")


def _power(kw: np.ndarray, first: np.datetime64, source: str) -> Power:
    return Power(kw, _weekdays(first, len(kw)), first, source)


def _weekdays(first: np.datetime64, days: int) -> np.ndarray:
    since = (first.astype("datetime64[D]") - np.datetime64("1970-01-05")).astype(int)
    return (since + np.arange(days)) % 7
