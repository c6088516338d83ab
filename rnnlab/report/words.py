"""What the studies found, as sentences and tables."""

import math
import statistics
from typing import Any

from rich.table import Table

PHASES = {"before": "untrained", "after": "trained"}
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
    """The name of a cell, with its phase where there are two."""
    return record["cell"] if phases == 1 else f"{record['cell']} ({PHASES[record['phase']]})"


def sentence(record: dict[str, Any], phases: int = 1) -> str:
    """One plain sentence about a record of the summary, such as

    "rnn: the gradient halves every 1.9 steps; nothing earlier than 19 steps back is felt."
    """
    name, decay, horizon = label(record, phases), record["decay_per_step"], record["horizon"]
    left_out = "1 seed" if record["doubtful"] == 1 else f"{record['doubtful']} seeds"
    if decay is None and horizon is None:
        return f"{name}: the gradient is not finite or too short to be judged; nothing can be said."
    if horizon is not None:
        steps = "1 step" if horizon == 1 else f"{horizon} steps"
        reach = f"nothing earlier than {steps} back is felt"
    else:
        reach = f"it is still felt at the start of the sequence, {record['length'] - 1} steps back"
    if record["doubtful"]:
        reach += f" (without {left_out} whose numbers are not finite)"
    if decay is None:
        return f"{name}: the gradient dies at once; {reach}."
    if abs(decay) * record["length"] < 0.01:
        return f"{name}: the gradient keeps its size; {reach}."
    rate = f"{math.log(2) / abs(decay):.3g}"
    unit = "step" if rate == "1" else "steps"
    return (
        f"{name}: the gradient {'halves' if decay > 0 else 'doubles'} every {rate} {unit}; {reach}."
    )


def finding(summary: list[dict[str, Any]]) -> str:
    """What a gradient study found, in one line."""
    phases = len({record["phase"] for record in summary})
    reach = [
        f"{label(r, phases)} "
        + ("the whole sequence" if r["horizon"] is None else f"{r['horizon']} steps")
        for r in summary
    ]
    return f"How far back the gradient is felt: {', '.join(reach)}"


def table(
    summary: list[dict[str, Any]], norms: list[dict[str, Any]], lengths: tuple[int, ...]
) -> Table:
    """The summary, with the mean global norm of the gradient at each length."""
    phases = len({record["phase"] for record in summary})
    grid = Table(title="How far back the gradient reaches (natural logs, means over the seeds)")
    grid.add_column("cell")
    grid.add_column("decay\nnats/step", justify="right")
    grid.add_column("half-life\nsteps", justify="right")
    grid.add_column("horizon\nsteps", justify="right")
    for length in lengths:
        grid.add_column(f"ln‖∂L/∂θ‖\nT = {length}", justify="right")
    for record in summary:
        found = [_mean_norm(norms, record["cell"], record["phase"], length) for length in lengths]
        horizon = "none" if record["horizon"] is None else str(record["horizon"])
        grid.add_row(
            label(record, phases),
            _short(record["decay_per_step"], ".4f"),
            _short(record["half_life"], ".3g"),
            horizon,
            *(_short(norm, ".2f") for norm in found),
        )
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
    exponents = [row["exponent"] for row in _longest(phase)]
    if (gain := onset(phase)) is not None:
        return f"states part from a recurrent gain of {gain:.3g} on"
    if not exponents or None in exponents:
        return ""
    if min(exponents) > 0:
        return "states part at every recurrent gain"
    return (
        "states meet at every recurrent gain"
        if max(exponents) <= 0
        else "states part at some recurrent gains"
    )


def onset(phase: list[dict[str, Any]]) -> float | None:
    """The value from which on λ₁ of the longest sequences is positive, between two of the grid; None where it is not.

    ``phase`` are the records of one cell.
    """
    rows = [row for row in _longest(phase) if row["exponent"] is not None]
    last = max((place for place, row in enumerate(rows) if row["exponent"] <= 0), default=None)
    if last is None or last == len(rows) - 1:
        return None
    below, above = rows[last], rows[last + 1]
    part = below["exponent"] / (below["exponent"] - above["exponent"])
    return below["value"] * (above["value"] / below["value"]) ** part


def _longest(phase: list[dict[str, Any]]) -> list[dict[str, Any]]:
    longest = max((row["length"] for row in phase), default=0)
    return sorted((row for row in phase if row["length"] == longest), key=lambda row: row["value"])


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


def _mean_norm(norms: list[dict[str, Any]], cell: str, phase: str, length: int) -> float | None:
    wanted = (cell, phase, length, "all")
    found = [
        record["log_norm"]
        for record in norms
        if (record["cell"], record["phase"], record["length"], record["parameter"]) == wanted
        and record["log_norm"] is not None
    ]
    return sum(found) / len(found) if found else None


def _short(value: float | None, style: str) -> str:
    return "–" if value is None else format(value, style)
