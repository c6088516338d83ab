"""Numbers derived from the records of a run, for figures, pages and tables alike."""

import math
import statistics
from collections.abc import Iterable
from typing import Any

import numpy as np

from rnnlab.studies.records import select

Record = dict[str, Any]

COUNTS = math.log(1000)
"""A contribution below 1/1000 of the largest does not count; in nats."""
ALIGNED = 0.99
"""Two gradients with at least this cosine count as parallel."""


def shown_skill(record: Record) -> float | None:
    """The share of the gap that a network closes, for a figure; None for a loss that is not finite.

    Below −0.1 a loss says no more than that nothing was learned.
    """
    return None if record["skill"] is None else max(record["skill"], -0.1)


def contribution_reach(rows: Iterable[Record]) -> int | None:
    """How many steps before a loss the contributions of a weight decay below 1/1000 of the largest.

    The median over the loss steps t, in steps; a t whose contributions all count is too early to
    tell. None if all of them are. ``rows`` are the records of one network and parameter.
    """
    by_loss: dict[int, dict[int, float]] = {}
    for row in rows:
        if row["log_norm"] is not None:
            by_loss.setdefault(row["t"], {})[row["k"]] = row["log_norm"]
    lags = []
    for t, contributions in by_loss.items():
        threshold = max(contributions.values()) - COUNTS
        counting = [k for k, log_norm in contributions.items() if log_norm >= threshold]
        first = min(counting)
        if first > min(contributions):
            lags.append(t - first)
    return statistics.median_low(lags) if lags else None


def truncation_needed(rows: Iterable[Record]) -> int | None:
    """The smallest truncation whose gradient has a cosine of 0.99 with the full gradient.

    The cosine is the mean over the seeds; None if no truncation is enough.
    """
    cosines: dict[int, list[float]] = {}
    for row in rows:
        # None is the cosine of a gradient that is zero or not finite: it is aligned with nothing.
        cosine = row["cosine"] or 0.0
        cosines.setdefault(row["steps"], []).append(cosine)
    enough = []
    for steps, of_seeds in cosines.items():
        if statistics.fmean(of_seeds) >= ALIGNED:
            enough.append(steps)
    return min(enough, default=None)


def largest_singular_value(rows: Iterable[Record]) -> tuple[int, float | None]:
    """The longest lag, and ln of the largest singular value there.

    The mean over the seeds; None if the value is zero for one of them.
    """
    largest = select(rows, index=1)
    lag = max(row["lag"] for row in largest)
    logs = [row["log_value"] for row in select(largest, lag=lag)]
    if None in logs:
        return lag, None
    return lag, statistics.fmean(logs)


def zero_crossing(phase: Iterable[Record]) -> float | None:
    """The value above which λ₁ of the longest sequences is positive, interpolated in the grid.

    None where λ₁ is positive everywhere, or not at the largest value. ``phase`` are the records of
    one cell.
    """
    rows = [row for row in longest(phase) if row["exponent"] is not None]
    # The last change of sign: λ₁ may turn positive and negative again before.
    last = None
    for index, row in enumerate(rows):
        if row["exponent"] <= 0:
            last = index
    if last is None or last == len(rows) - 1:
        return None
    below, above = rows[last], rows[last + 1]
    share = below["exponent"] / (below["exponent"] - above["exponent"])
    # The values of the grid are evenly apart on a log axis.
    ratio = above["value"] / below["value"]
    return below["value"] * ratio**share


def longest(phase: Iterable[Record]) -> list[Record]:
    """The records of the longest sequences, by rising value."""
    rows = list(phase)
    length = max((row["length"] for row in rows), default=0)
    return sorted(select(rows, length=length), key=lambda row: row["value"])


def median_over_seeds(seeds: np.ndarray) -> np.ndarray:
    """The lower median over the first axis, as for the horizon; NaN where a seed has no value."""
    is_missing = np.isnan(seeds).any(axis=0)
    lower_middle = (len(seeds) - 1) // 2
    median = np.sort(seeds, axis=0)[lower_middle]
    return np.where(is_missing, np.nan, median)


def relative_to_lag_0(flow: Iterable[Record], summary: Record) -> np.ndarray:
    """ln‖∂L/∂s‖ at each lag minus that at lag 0, ``[seeds, lags]``, of one row of the summary.

    NaN where a gradient is zero or not finite.
    """
    group = {name: summary[name] for name in ("cell", "phase", "length")}
    seeds: dict[int, list[float]] = {}
    for record in select(flow, **group):
        log_norm = math.nan if record["log_norm"] is None else record["log_norm"]
        # The records of a seed are in order of lag, so a position is a lag.
        seeds.setdefault(record["seed"], []).append(log_norm)
    lines = np.array(list(seeds.values()))
    return lines - lines[:, :1]


def mean_norm(norms: Iterable[Record], cell: str, phase: str, length: int) -> float | None:
    """The mean over the seeds of ln‖∂L/∂θ‖ of all parameters; None if none is finite."""
    seeds = select(norms, cell=cell, phase=phase, length=length, parameter="all")
    finite = [seed["log_norm"] for seed in seeds if seed["log_norm"] is not None]
    return float(np.mean(finite)) if finite else None
