"""What the studies found, as sentences and tables."""

import math
import statistics
from typing import Any

from rich.table import Table

from rnnlab._wording import percent, reach
from rnnlab.report.findings import longest, mean_norm, zero_crossing

POINTS = {
    "stable": "stable fixed point",
    "marginal": "marginal fixed point",
    "saddle": "saddle",
    "unstable": "unstable point",
    "slow": "slow point",
}
ATTRACTORS = {
    "point": "comes to rest", "oscillation": "oscillates", "chaos": "moves chaotically", "unsettled": "has not settled",
}  # fmt: skip
NEUTRAL = 1e-3
"""λ₁ nearer to zero than this, nats a step, is not told from zero: a factor of e in 1000 steps."""
DIGITS = 5e-4
"""A spread over the seeds below this part of a number does not show in its three digits."""


def label(record: dict[str, Any], phases: int) -> str:
    """The name of a cell, with "untrained" or "trained" where both are there."""
    return record["cell"] if phases == 1 else f"{record['cell']} ({record['phase']})"


def sentence(record: dict[str, Any], phases: int = 1) -> str:
    """What became of the gradient of one cell, and what training did, such as

    "rnn: the gradient halves every 11.8 steps and is below 1/1000 after 118 steps (96 to 131 over 5 seeds)."
    """
    name, seeds = label(record, phases), record["seeds"]
    if record["horizon"] is None:
        return f"{name}: inputs, weights or gradients are not finite, so nothing can be said."
    said = reach(
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
        said += f" (without {left_out} whose numbers are not finite)"
    return f"{name}: {said}.{_learned(record)}"


def _learned(record: dict[str, Any]) -> str:
    """How well the network predicts, where the study trains, and how often clipping acted."""
    if record.get("loss") is None:
        return ""
    said = f" It predicts the next symbol with a loss of {record['loss']:.3g} nats"
    if record.get("accuracy") is not None:
        said += f" and an accuracy of {percent(record['accuracy'])}"
    if record.get("clipped_share") is not None:
        said += f"; the gradient was clipped in {percent(record['clipped_share'])} of the training steps"
    return f"{said}."


def finding(summary: list[dict[str, Any]]) -> str:
    """What a gradient study found, in one line."""
    phases = len({record["phase"] for record in summary})
    seeds = max((record["seeds"] for record in summary), default=1)
    over = f" (median and range of {seeds} seeds)" if seeds > 1 else ""
    found = [f"{label(record, phases)} {horizon_text(record)}" for record in summary]
    return f"Steps back until the gradient is below 1/1000{over}: {', '.join(found)}"


def horizon_text(record: dict[str, Any]) -> str:
    """The horizon with its range over the seeds, "118 (96 to 131)"; "≥ 1000" where the gradient does not vanish."""
    if record["horizon"] is None:
        return "not finite"

    def text(horizon: int) -> str:
        return f"≥ {horizon}" if horizon >= record["lags"] else str(horizon)

    low, high = record["horizon_low"], record["horizon_high"]
    middle = text(record["horizon"])
    return middle if low == high else f"{middle} ({low} to {text(high)})"


def table(
    summary: list[dict[str, Any]], norms: list[dict[str, Any]], lengths: tuple[int, ...]
) -> Table:
    """The summary, with the mean global norm of the gradient at each length."""
    phases = len({record["phase"] for record in summary})
    grid = Table(
        title="How far back the gradient reaches (natural logs; median and range over the seeds)"
    )
    grid.add_column("cell")
    grid.add_column("below 1/1000\nafter steps", justify="right")
    grid.add_column("half-life\nsteps", justify="right")
    grid.add_column("decay\nnats/step", justify="right")
    learned = any(record.get("loss") is not None for record in summary)
    if learned:
        grid.add_column("loss\nnats", justify="right")
        grid.add_column("accuracy\n%", justify="right")
    for length in lengths:
        grid.add_column(f"ln‖∂L/∂θ‖\nT = {length}", justify="right")
    for record in summary:
        found = [mean_norm(norms, record["cell"], record["phase"], length) for length in lengths]
        cells = [
            label(record, phases),
            horizon_text(record),
            _short(record["half_life"], ".3g"),
            _short(record["decay_per_step"], ".4f"),
        ]
        if learned:
            accuracy = record.get("accuracy")
            cells += [_short(record.get("loss"), ".3f")]
            cells += [_short(None if accuracy is None else 100 * accuracy, ".1f")]
        grid.add_row(*cells, *(_short(norm, ".2f") for norm in found))
    return grid


def dynamics_sentence(
    record: dict[str, Any], points: list[dict[str, Any]], phase: list[dict[str, Any]]
) -> str:
    """One plain sentence about a cell in a summary of dynamics, with its fixed points and its phase diagram, such as

    "lstm: neighbouring states meet, λ₁ = −0.027 nats a step (seeds ±0.002); without input the state comes to rest; 1
    stable fixed point (where a push fades in 50 steps); states part from a recurrent gain of 1.35 on."
    """
    said = _neighbours(record), _rest(record, points), _turn(phase)
    return f"{record['cell']}: {'; '.join(part for part in said if part)}."


def dynamics_sentences(
    summary: list[dict[str, Any]], points: list[dict[str, Any]], phase: list[dict[str, Any]]
) -> list[str]:
    """The sentence of each cell of a summary, from the fixed points and the phase diagrams of all cells."""
    sentences = []
    for record in summary:
        mine = [[row for row in rows if row["cell"] == record["cell"]] for rows in (points, phase)]
        sentences.append(dynamics_sentence(record, *mine))
    return sentences


def verdict(record: dict[str, Any]) -> str:
    """What neighbouring states do, as far as the seeds agree."""
    exponent, spread = record["exponent"], record["spread"]
    if exponent is None:
        return "cannot be followed"
    if abs(exponent) <= max(spread, NEUTRAL):
        return "neither meet nor part for certain"
    return "meet" if exponent < 0 else "part"


def course(record: dict[str, Any]) -> str:
    """What the state comes to without input."""
    if record["attractor"] is None:
        return "was not followed"
    return " or ".join(ATTRACTORS[kind] for kind in record["attractor"].split(" or "))


def resting(summary: list[dict[str, Any]]) -> str:
    """What the states of all cells come to without input, in one line."""
    cells: dict[str, list[str]] = {}
    for record in summary:
        cells.setdefault(course(record), []).append(record["cell"])
    return "Without input the state " + "; ".join(
        f"{does} ({', '.join(names)})" for does, names in cells.items()
    )


def counted(counts: dict[str, Any], fading: str = "") -> str:
    """So many fixed points of each kind, with what is said about the stable ones behind them."""
    parts = []
    for kind, name in POINTS.items():
        if counts.get(kind):
            shown = f"{counts[kind]:.2g}" if counts[kind] < 10 else f"{counts[kind]:.0f}"
            parts.append(
                f"{shown} {name}{'' if shown == '1' else 's'}{fading if kind == 'stable' else ''}"
            )
    if not any(counts.get(kind) for kind in ("stable", "marginal", "saddle", "unstable")):
        parts.insert(0, "no fixed point found")
    return ", ".join(parts)


def _neighbours(record: dict[str, Any]) -> str:
    if record["exponent"] is None:
        return "the exponents are not finite"
    does = verdict(record)
    said = f"neighbouring states {does}, λ₁ = {short(record['exponent'])} nats a step"
    if record["spread"] > DIGITS * abs(record["exponent"]):
        said += f" (seeds ±{record['spread']:.1g})"
    if does == "part":
        dimension = record["kaplan_yorke"]
        said += "" if dimension is None else f", dimension {dimension:.3g}"
        said += f", at most {record['entropy_rate']:.2g} nats of new information a step"
    return said


def _rest(record: dict[str, Any], points: list[dict[str, Any]]) -> str:
    """What happens under zero input, and the fixed points there."""
    if record["slow"] is None:
        return ""
    fading = ""
    if times := [
        math.inf if row["slowest"] is None else row["slowest"]
        for row in points
        if row["kind"] == "stable"
    ]:
        steps = statistics.median(times)
        fading = f" (where a push fades in {f'{steps:.3g}' if steps <= 1000 else 'more than 1000'} steps)"
    said = counted(record, fading) + (
        " on average" if any(record.get(kind, 0) % 1 for kind in POINTS) else ""
    )
    return f"without input the state {course(record)}; {said}"


def _turn(phase: list[dict[str, Any]]) -> str:
    """Where in the phase diagram states begin to part."""
    where = _positive(phase)
    return f"states part {where}" if where else ""


def _positive(phase: list[dict[str, Any]]) -> str:
    """At which recurrent gains λ₁ of the longest sequences is positive; empty where it is not finite."""
    exponents = [row["exponent"] for row in longest(phase)]
    if (gain := zero_crossing(phase)) is not None:
        return f"from a recurrent gain of {gain:.3g} on"
    if not exponents or None in exponents:
        return ""
    if min(exponents) > 0:
        return "at every recurrent gain"
    return "at no recurrent gain" if max(exponents) <= 0 else "at some recurrent gains"


def divergence(summary: list[dict[str, Any]]) -> str:
    """What nearby trajectories of all cells do, in one line."""
    parts: dict[str, list[str]] = {}
    for record in summary:
        exponent = record["exponent"]
        value = "not finite" if exponent is None else f"λ₁ = {short(exponent)}"
        parts.setdefault(verdict(record), []).append(f"{record['cell']} ({value})")
    said = [f"{does}: {', '.join(cells)}" for does, cells in parts.items()]
    return "Neighbouring states " + "; ".join(said)


def turning(records: list[dict[str, Any]]) -> str:
    """At which recurrent gains nearby trajectories diverge, in one line for all cells of a phase diagram."""
    cells: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        cells.setdefault(record["cell"], []).append(record)
    gains, places = [], {}
    for cell, rows in cells.items():
        if (gain := zero_crossing(rows)) is not None:
            gains.append(f"{gain:.3g} ({cell})")
        else:
            places.setdefault(_positive(rows), []).append(cell)
    unknown = places.pop("", [])
    found = [f"from a recurrent gain of {', '.join(gains)} on"] if gains else []
    found += [f"{where} ({', '.join(names)})" for where, names in places.items()]
    said = [f"λ₁ is positive {', '.join(found)}"] if found else []
    if unknown:
        said.append(f"λ₁ is not finite everywhere ({', '.join(unknown)})")
    return "; ".join(said)


def dynamics_table(summary: list[dict[str, Any]]) -> Table:
    """The summary of dynamics; one row a cell."""
    grid = Table(title="What the states do (natural logs, means over the seeds)")
    grid.add_column("cell")
    for name in ("λ₁\nnats/step", "seeds ±\nnats/step", "dimension\n", "entropy\nnats/step"):
        grid.add_column(name, justify="right")
    for kind in POINTS:
        grid.add_column(f"{kind}\npoints", justify="right")
    grid.add_column("attractor\nwithout input")
    for record in summary:
        numbers = (
            record.get(name)
            for name in ("exponent", "spread", "kaplan_yorke", "entropy_rate", *POINTS)
        )
        styles = (".4f", ".4f", ".3g", ".3g", *(".3g",) * len(POINTS))
        attractor = record["attractor"] or "–"
        grid.add_row(
            record["cell"],
            *(_short(n, style) for n, style in zip(numbers, styles, strict=True)),
            attractor,
        )
    return grid


def short(value: float | None) -> str:
    """Three digits, and a dash for what is missing."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.3g}".replace("-", "−")


def _short(value: float | None, style: str) -> str:
    return "–" if value is None else format(value, style)
