"""Sentences and tables about the results of the studies."""

import math
import statistics
from typing import Any

from rich.table import Table

from rnnlab._wording import percent, reach
from rnnlab.report.findings import longest, mean_norm, zero_crossing
from rnnlab.studies.records import select

POINTS = {
    "stable": "stable fixed point",
    "marginal": "marginal fixed point",
    "saddle": "saddle",
    "unstable": "unstable point",
    "slow": "slow point",
}
ATTRACTORS = {
    "point": "settles at a fixed point",
    "oscillation": "oscillates",
    "chaos": "behaves chaotically",
    "unsettled": "has not settled",
}
NEUTRAL = 1e-3
"""λ₁ closer to zero than this, nats per step, counts as zero: a factor of e in 1000 steps."""
DIGITS = 5e-4
"""A spread over the seeds below this part of a number does not change its three digits."""


def label(record: dict[str, Any], phases: int) -> str:
    """The name of a cell, with "untrained" or "trained" where both are shown."""
    return record["cell"] if phases == 1 else f"{record['cell']} ({record['phase']})"


def sentence(record: dict[str, Any], phases: int = 1) -> str:
    """How far back the gradient of one cell reaches, and the effect of training, such as

    "rnn: the gradient halves every 11.8 steps and is below 1/1000 after 118 steps (96 to 131 over 5
    seeds)."
    """
    name, seeds = label(record, phases), record["seeds"]
    if record["horizon"] is None:
        return f"{name}: inputs, weights or gradients are not finite, so the reach is undefined."
    text = reach(
        record["horizon"],
        record["vanishes"],
        record["decay_per_step"],
        record["lags"],
        horizon_range=(record["horizon_low"], record["horizon_high"]),
        over=f"{seeds} seeds",
        zero_share=record["zero_share"],
    )
    if record["doubtful"]:
        left_out = "1 seed" if record["doubtful"] == 1 else f"{record['doubtful']} seeds"
        text += f" (without {left_out} whose numbers are not finite)"
    return f"{name}: {text}.{_learned(record)}"


def _learned(record: dict[str, Any]) -> str:
    """How well the network predicts, where the study trains, and how often clipping acted."""
    if record.get("loss") is None:
        return ""
    text = f" It predicts the next symbol with a loss of {record['loss']:.3g} nats"
    if record.get("accuracy") is not None:
        text += f" and an accuracy of {percent(record['accuracy'])}"
    if record.get("clipped_share") is not None:
        share = percent(record["clipped_share"])
        text += f"; the gradient was clipped in {share} of the training steps"
    return f"{text}."


def finding(summary: list[dict[str, Any]]) -> str:
    """The result of a gradient study, in one line."""
    phases = _count_phases(summary)
    seeds = max((record["seeds"] for record in summary), default=1)
    over = f" (median and range of {seeds} seeds)" if seeds > 1 else ""
    horizons = [f"{label(record, phases)} {horizon_text(record)}" for record in summary]
    return f"Steps back until the gradient is below 1/1000{over}: {', '.join(horizons)}"


def _count_phases(summary: list[dict[str, Any]]) -> int:
    return len({record["phase"] for record in summary})


def horizon_text(record: dict[str, Any]) -> str:
    """The horizon with its range over the seeds, "118 (96 to 131)".

    "≥ 1000" where the gradient does not vanish.
    """
    if record["horizon"] is None:
        return "not finite"

    def text(horizon: int) -> str:
        return f"≥ {horizon}" if horizon >= record["lags"] else str(horizon)

    low, high = record["horizon_low"], record["horizon_high"]
    median = text(record["horizon"])
    return median if low == high else f"{median} ({low} to {text(high)})"


def table(
    summary: list[dict[str, Any]], norms: list[dict[str, Any]], lengths: tuple[int, ...]
) -> Table:
    """The summary, with the mean global norm of the gradient at each length."""
    phases = _count_phases(summary)
    grid = Table(
        title="How far back the gradient reaches (natural logs; median and range over the seeds)"
    )
    grid.add_column("cell")
    grid.add_column("below 1/1000\nafter steps", justify="right")
    grid.add_column("half-life\nsteps", justify="right")
    grid.add_column("decay\nnats/step", justify="right")
    is_trained = any(record.get("loss") is not None for record in summary)
    if is_trained:
        grid.add_column("loss\nnats", justify="right")
        grid.add_column("accuracy\n%", justify="right")
    for length in lengths:
        grid.add_column(f"ln‖∂L/∂θ‖\nT = {length}", justify="right")
    for record in summary:
        row = [
            label(record, phases),
            horizon_text(record),
            _formatted(record["half_life"], ".3g"),
            _formatted(record["decay_per_step"], ".4f"),
        ]
        if is_trained:
            accuracy = record.get("accuracy")
            percentage = None if accuracy is None else 100 * accuracy
            row.append(_formatted(record.get("loss"), ".3f"))
            row.append(_formatted(percentage, ".1f"))
        for length in lengths:
            norm = mean_norm(norms, record["cell"], record["phase"], length)
            row.append(_formatted(norm, ".2f"))
        grid.add_row(*row)
    return grid


def dynamics_sentence(
    record: dict[str, Any], points: list[dict[str, Any]], phase: list[dict[str, Any]]
) -> str:
    """A sentence about a cell, from its summary, its fixed points and its phase diagram, such as

    "lstm: nearby trajectories converge, λ₁ = −0.027 nats per step (±0.002, standard deviation over
    seeds); without input the state settles at a fixed point; 1 stable fixed point (slowest time
    constant 50 steps); nearby trajectories diverge for recurrent gains above 1.35."
    """
    parts = _trajectories(record), _without_input(record, points), _onset(phase)
    return f"{record['cell']}: {'; '.join(filter(None, parts))}."


def dynamics_sentences(
    summary: list[dict[str, Any]], points: list[dict[str, Any]], phase: list[dict[str, Any]]
) -> list[str]:
    """The sentence of each cell, from the fixed points and the phase diagrams of all cells."""
    sentences = []
    for record in summary:
        cell = record["cell"]
        text = dynamics_sentence(record, select(points, cell=cell), select(phase, cell=cell))
        sentences.append(text)
    return sentences


def verdict(record: dict[str, Any]) -> str:
    """What nearby trajectories do, as far as the seeds agree."""
    exponent, spread = record["exponent"], record["spread"]
    if exponent is None:
        return "have no finite λ₁"
    if abs(exponent) <= max(spread, NEUTRAL):
        return "neither clearly converge nor diverge"
    return "converge" if exponent < 0 else "diverge"


def course(record: dict[str, Any]) -> str:
    """What the state does without input, after a while."""
    if record["attractor"] is None:
        return "was not measured"
    kinds = record["attractor"].split(" or ")
    return " or ".join(map(ATTRACTORS.__getitem__, kinds))


def resting(summary: list[dict[str, Any]]) -> str:
    """What the states of all cells do without input, in one line."""
    cells: dict[str, list[str]] = {}
    for record in summary:
        cells.setdefault(course(record), []).append(record["cell"])
    parts = [f"{does} ({', '.join(names)})" for does, names in cells.items()]
    return f"Without input the state {'; '.join(parts)}"


def counted(counts: dict[str, Any], after_stable: str = "") -> str:
    """The number of fixed points of each kind; ``after_stable`` follows the stable ones."""
    parts = []
    for kind, name in POINTS.items():
        count = counts.get(kind)
        if not count:
            continue
        # A mean over the seeds may be a fraction.
        digits = f"{count:.2g}" if count < 10 else f"{count:.0f}"
        plural = "" if digits == "1" else "s"
        remark = after_stable if kind == "stable" else ""
        parts.append(f"{digits} {name}{plural}{remark}")
    # Slow points are not fixed points.
    if not any(map(counts.get, ("stable", "marginal", "saddle", "unstable"))):
        parts.insert(0, "no fixed point found")
    return ", ".join(parts)


def _trajectories(record: dict[str, Any]) -> str:
    """Whether nearby trajectories converge or diverge, and how chaotic they are."""
    exponent, spread = record["exponent"], record["spread"]
    if exponent is None:
        return "the exponents are not finite"
    does = verdict(record)
    text = f"nearby trajectories {does}, λ₁ = {short(exponent)} nats per step"
    if spread > DIGITS * abs(exponent):
        text += f" (±{spread:.1g}, standard deviation over seeds)"
    if does == "diverge":
        dimension = record["kaplan_yorke"]
        if dimension is not None:
            text += f", dimension {dimension:.3g}"
        text += f", entropy rate at most {record['entropy_rate']:.2g} nats per step"
    return text


def _without_input(record: dict[str, Any], points: list[dict[str, Any]]) -> str:
    """What the state does under zero input, and the fixed points there."""
    # None where the fixed points were not searched.
    if record["slow"] is None:
        return ""
    text = counted(record, _slowest(points))
    if any(record.get(kind, 0) % 1 for kind in POINTS):
        text += " on average"
    return f"without input the state {course(record)}; {text}"


def _slowest(points: list[dict[str, Any]]) -> str:
    """The slowest time constant of the stable points, their median, in parentheses."""
    times = []
    for row in select(points, kind="stable"):
        steps = row["slowest"]
        # JSON has no infinity: None is a mode that neither grows nor decays.
        times.append(math.inf if steps is None else steps)
    if not times:
        return ""
    median = statistics.median(times)
    steps = f"{median:.3g}" if median <= 1000 else "more than 1000"
    return f" (slowest time constant {steps} steps)"


def _onset(phase: list[dict[str, Any]]) -> str:
    """Where in the phase diagram nearby trajectories begin to diverge."""
    gains = _positive(phase)
    return f"nearby trajectories diverge {gains}" if gains else ""


def _positive(phase: list[dict[str, Any]]) -> str:
    """At which recurrent gains λ₁ of the longest sequences is positive; "" if it is not finite."""
    gain = zero_crossing(phase)
    if gain is not None:
        return f"for recurrent gains above {gain:.3g}"
    exponents = [row["exponent"] for row in longest(phase)]
    if not exponents or None in exponents:
        return ""
    if min(exponents) > 0:
        return "at every measured recurrent gain"
    if max(exponents) <= 0:
        return "at no measured recurrent gain"
    return "at some measured recurrent gains"


def divergence(summary: list[dict[str, Any]]) -> str:
    """What nearby trajectories of all cells do, in one line."""
    cells: dict[str, list[str]] = {}
    for record in summary:
        exponent = record["exponent"]
        value = "not finite" if exponent is None else f"λ₁ = {short(exponent)}"
        cells.setdefault(verdict(record), []).append(f"{record['cell']} ({value})")
    parts = [f"{does}: {', '.join(names)}" for does, names in cells.items()]
    return f"Nearby trajectories {'; '.join(parts)}"


def turning(records: list[dict[str, Any]]) -> str:
    """At which recurrent gains nearby trajectories diverge, in one line for all cells."""
    by_cell: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_cell.setdefault(record["cell"], []).append(record)
    # Cells with an onset share a phrase; the others share one for each range of gains.
    onsets = []
    ranges: dict[str, list[str]] = {}
    for cell, rows in by_cell.items():
        gain = zero_crossing(rows)
        if gain is not None:
            onsets.append(f"{gain:.3g} ({cell})")
        else:
            ranges.setdefault(_positive(rows), []).append(cell)
    unknown = ranges.pop("", [])
    gains = []
    if onsets:
        gains.append(f"for recurrent gains above {', '.join(onsets)}")
    for text, cells in ranges.items():
        gains.append(f"{text} ({', '.join(cells)})")
    parts = []
    if gains:
        parts.append(f"λ₁ is positive {', '.join(gains)}")
    if unknown:
        parts.append(f"λ₁ is not finite everywhere ({', '.join(unknown)})")
    return "; ".join(parts)


def dynamics_table(summary: list[dict[str, Any]]) -> Table:
    """The summary of a dynamics study, one row for each cell."""
    grid = Table(title="Dynamics of the state (natural logs, means over the seeds)")
    grid.add_column("cell")
    for name in ("λ₁\nnats/step", "std over seeds\nnats/step", "dimension\n", "entropy\nnats/step"):
        grid.add_column(name, justify="right")
    for kind in POINTS:
        grid.add_column(f"{kind}\npoints", justify="right")
    grid.add_column("attractor\nwithout input")
    forms = {"exponent": ".4f", "spread": ".4f", "kaplan_yorke": ".3g", "entropy_rate": ".3g"}
    forms |= dict.fromkeys(POINTS, ".3g")
    for record in summary:
        row = [record["cell"]]
        for name, form in forms.items():
            row.append(_formatted(record.get(name), form))
        row.append(record["attractor"] or "–")
        grid.add_row(*row)
    return grid


def short(value: float | None) -> str:
    """A number with three digits; a dash if it is missing."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.3g}".replace("-", "−")


def _formatted(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
