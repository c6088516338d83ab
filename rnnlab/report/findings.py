"""What a run's records say, as numbers: computed once, for the figures, the page and the table alike."""

import math
import statistics
from collections.abc import Iterable
from typing import Any

import numpy as np

Record = dict[str, Any]

COUNTS = math.log(1000)
"""A contribution smaller than the largest by this much, in nats, no longer counts: 1/1000."""
ALIGNED = 0.99
"""Two gradients with this cosine, and more, point the same way."""


def contribution_reach(rows: Iterable[Record]) -> int | None:
    """How many steps before its loss the use of a weight still counts for 1/1000 of the largest contribution.

    The median over the loss steps t; those whose contributions count down to the first step are too
    short to tell. None where all of them are. ``rows`` are the records of one network and parameter.
    """
    by_loss: dict[int, dict[int, float]] = {}
    for row in rows:
        if row["log_norm"] is not None:
            by_loss.setdefault(row["t"], {})[row["k"]] = row["log_norm"]
    lags = []
    for t, contributions in by_loss.items():
        least = max(contributions.values()) - COUNTS
        first = min(k for k, log_norm in contributions.items() if log_norm >= least)
        if first > min(contributions):
            lags.append(t - first)
    return statistics.median_low(lags) if lags else None


def truncation_needed(rows: Iterable[Record]) -> int | None:
    """The smallest truncation whose gradient has a cosine of 0.99 with the full one, the mean over the seeds."""
    cosines: dict[int, list[float]] = {}
    for row in rows:
        cosines.setdefault(row["steps"], []).append(row["cosine"] or 0.0)
    near = [steps for steps, seeds in cosines.items() if statistics.fmean(seeds) >= ALIGNED]
    return min(near, default=None)


def largest_singular_value(rows: Iterable[Record]) -> tuple[int, float | None]:
    """The longest lag, and ln of the largest singular value there: the mean over the seeds; None for zero."""
    first = [row for row in rows if row["index"] == 1]
    last = max(row["lag"] for row in first)
    logs = [row["log_value"] for row in first if row["lag"] == last]
    return last, None if None in logs else statistics.fmean(logs)


def zero_crossing(phase: Iterable[Record]) -> float | None:
    """The value from which on λ₁ of the longest sequences is positive, between two of the grid.

    None where λ₁ is nowhere positive for all larger values. ``phase`` are the records of one cell.
    """
    rows = [row for row in longest(phase) if row["exponent"] is not None]
    places = [place for place, row in enumerate(rows) if row["exponent"] <= 0]
    last = max(places, default=None)
    if last is None or last == len(rows) - 1:
        return None
    below, above = rows[last], rows[last + 1]
    part = below["exponent"] / (below["exponent"] - above["exponent"])
    return below["value"] * (above["value"] / below["value"]) ** part


def longest(phase: Iterable[Record]) -> list[Record]:
    """The records of the longest sequences, by rising value."""
    rows = list(phase)
    length = max((row["length"] for row in rows), default=0)
    return sorted((row for row in rows if row["length"] == length), key=lambda row: row["value"])


def median_over_seeds(seeds: np.ndarray) -> np.ndarray:
    """The lower median over the first axis, as the horizon's; NaN where a seed has no value."""
    missing = np.isnan(seeds).any(axis=0)
    middle = np.sort(seeds, axis=0)[(len(seeds) - 1) // 2]
    return np.where(missing, np.nan, middle)


def mean_norm(norms: Iterable[Record], cell: str, phase: str, length: int) -> float | None:
    """The mean over the seeds of ln‖∂L/∂θ‖ of all parameters; None where none is finite."""
    wanted = (cell, phase, length, "all")
    found = [
        norm["log_norm"]
        for norm in norms
        if (norm["cell"], norm["phase"], norm["length"], norm["parameter"]) == wanted
        and norm["log_norm"] is not None
    ]
    return float(np.mean(found)) if found else None
