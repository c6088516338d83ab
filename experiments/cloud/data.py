"""Generated measurements of cloud services, with missing hours, and faults that are put in."""

from typing import NamedTuple

import numpy as np

SERVICES, METRICS = 8, ("requests", "processor", "latency")
WEEK = 168
KINDS = ("spike", "level shift", "drop", "drift")


class Fleet(NamedTuple):
    """T hours of 24 series: three metrics of each of eight services.

    Attributes:
        values: ``[T, 8, 3]``, logarithms; NaN where a measurement is missing.
        weeks: their number; the first hour is that of a Monday.
    """

    values: np.ndarray
    weeks: int


def fleet(weeks: int, seed: int = 0) -> Fleet:
    """Demand with cycles of the day and the week, bursts, a common part, and what follows from it.

    Requests follow the demand, the processor follows it in part, and latency rises where demand is
    high, with noise of heavy tails. Half of the bursts reach the next service an hour later.
    """
    rng = np.random.default_rng(seed)
    hours = np.arange(weeks * WEEK)
    common = _autoregression(rng, hours.size, 0.98, 0.03)
    demand = np.stack([_cycles(rng, hours) for _ in range(SERVICES)], axis=1)
    demand += common[:, None] * rng.uniform(0.3, 1.0, SERVICES)
    demand += _bursts(rng, hours.size)
    own = np.stack([_autoregression(rng, hours.size, 0.9, 0.03) for _ in range(SERVICES)], axis=1)
    requests = demand + 0.05 * rng.normal(size=demand.shape)
    processor = 0.7 * demand + own + 0.03 * rng.normal(size=demand.shape)
    latency = 0.5 * np.maximum(demand, 0) ** 1.5 + 0.05 * rng.standard_t(4, size=demand.shape)
    values = np.stack([requests, processor, latency], axis=-1)
    values[_missing(rng, hours.size)] = np.nan
    values[rng.random(values.shape) < 0.02] = np.nan
    return Fleet(values, weeks)


def _cycles(rng: np.random.Generator, hours: np.ndarray) -> np.ndarray:
    angle = 2 * np.pi * (hours - rng.uniform(10, 18)) / 24
    day = rng.uniform(0.3, 0.7) * np.cos(angle) + rng.uniform(0.0, 0.25) * np.cos(2 * angle)
    is_weekend = hours // 24 % 7 >= 5
    return np.where(is_weekend, rng.uniform(0.4, 1.0) * day - rng.uniform(0.1, 0.5), day)


def _autoregression(
    rng: np.random.Generator, count: int, factor: float, scale: float
) -> np.ndarray:
    values = np.zeros(count)
    for hour in range(1, count):
        values[hour] = factor * values[hour - 1] + scale * rng.normal()
    return values


def _bursts(rng: np.random.Generator, count: int) -> np.ndarray:
    """Sudden rises that decay in hours, one in four days for each service."""
    rises = np.zeros((count, SERVICES))
    starts = np.argwhere(rng.random(rises.shape) < 1 / 96)
    for hour, service in starts.tolist():
        height = rng.uniform(0.2, 0.7)
        rises[hour, service] += height
        if rng.random() < 0.5 and hour + 1 < count:
            rises[hour + 1, (service + 1) % SERVICES] += 0.8 * height
    for hour in range(1, count):
        rises[hour] += 0.75 * rises[hour - 1]
    return rises


def _missing(rng: np.random.Generator, count: int) -> np.ndarray:
    """Hours in which a service was not measured at all, ``[T, 8]``."""
    is_missing = np.zeros((count, SERVICES), bool)
    for hour, service in np.argwhere(rng.random(is_missing.shape) < 1 / 240).tolist():
        is_missing[hour : hour + rng.integers(2, 9), service] = True
    return is_missing


class Fault(NamedTuple):
    """A fault in one series, ``start`` ≤ hour < ``stop``."""

    kind: str
    start: int
    stop: int
    service: int
    metric: int


def with_faults(fleet: Fleet, first_week: int, seed: int) -> tuple[np.ndarray, list[Fault]]:
    """The values with faults, at most one in a week of each series, in six weeks of ten."""
    rng = np.random.default_rng((seed, 1))
    values, faults = fleet.values.copy(), []
    for week in range(first_week, fleet.weeks):
        for service, metric in np.ndindex(SERVICES, len(METRICS)):
            if rng.random() > 0.6:
                continue
            kind = KINDS[rng.integers(len(KINDS))]
            shape = _shape(rng, kind)
            # A day is left before the next week, so that faults of a series lie apart.
            start = WEEK * week + int(rng.integers(WEEK - 24 - shape.size))
            values[start : start + shape.size, service, metric] += shape
            faults.append(Fault(kind, start, start + shape.size, service, metric))
    return values, faults


def _shape(rng: np.random.Generator, kind: str) -> np.ndarray:
    """What a fault adds to the logarithm, hour by hour."""
    sign = rng.choice([-1.0, 1.0])
    if kind == "spike":
        return np.array([rng.uniform(0.4, 1.0)])
    if kind == "level shift":
        return np.full(rng.integers(24, 73), sign * rng.uniform(0.25, 0.6))
    if kind == "drop":
        return np.full(rng.integers(3, 13), -rng.uniform(0.8, 2.5))
    return np.linspace(0, sign * rng.uniform(0.4, 0.9), rng.integers(48, 97))
