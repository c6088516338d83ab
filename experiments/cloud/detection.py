"""Alarms from anomaly scores, and how many of them are right."""

from typing import NamedTuple

import numpy as np

from experiments.cloud.data import KINDS, Fault

GAP, AFTERMATH = 3, 24
"""Hours: flagged hours so near are one alarm; alarms so soon after a fault do not count."""


class Detection(NamedTuple):
    """What a threshold gives.

    Attributes:
        precision: the share of alarms that touch a fault.
        recall: the share of faults with an alarm while they last.
        by_kind: the recall of each kind.
    """

    precision: float
    recall: float
    by_kind: dict[str, float]

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def detect(scores: np.ndarray, faults: list[Fault], threshold: float) -> Detection:
    """Counts alarms and faults.

    Args:
        scores: ``[T, services, metrics]``, of hours 0 … T − 1; 0 where there is no measurement.
        faults: those that were put in, in the same hours.
        threshold: hours with a score above it are flagged.
    """
    is_flagged = scores > threshold
    is_fault, is_after = np.zeros(scores.shape, bool), np.zeros(scores.shape, bool)
    found: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    for kind, start, stop, service, metric in faults:
        is_fault[start:stop, service, metric] = True
        is_after[stop : stop + AFTERMATH, service, metric] = True
        found[kind].append(bool(is_flagged[start:stop, service, metric].any()))
    right = wrong = 0
    for index in np.ndindex(scores.shape[1:]):
        for first, last in _alarms(is_flagged[(slice(None), *index)]):
            span = (slice(first, last + 1), *index)
            if is_fault[span].any():
                right += 1
            elif not is_after[span].any():
                wrong += 1
    every = [hit for hits in found.values() for hit in hits]
    return Detection(
        precision=right / max(right + wrong, 1),
        recall=float(np.mean(every)),
        by_kind={kind: float(np.mean(hits)) if hits else 0.0 for kind, hits in found.items()},
    )


def _alarms(is_flagged: np.ndarray) -> list[tuple[int, int]]:
    """The first and the last hour of each alarm of one series."""
    hours = np.flatnonzero(is_flagged)
    if not hours.size:
        return []
    breaks = np.flatnonzero(np.diff(hours) > GAP)
    firsts = hours[np.concatenate([[0], breaks + 1])]
    lasts = hours[np.concatenate([breaks, [hours.size - 1]])]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def best_threshold(scores: np.ndarray, faults: list[Fault]) -> float:
    """The threshold with the highest F1, among quantiles of the scores."""
    tried = np.quantile(scores, 1 - np.geomspace(1e-4, 0.1, 40))
    return float(max(tried, key=lambda threshold: detect(scores, faults, threshold).f1))
