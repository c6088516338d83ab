"""What a gradient study found, as sentences and a table."""

from typing import Any

from rich.table import Table

PHASES = {"before": "untrained", "after": "trained"}


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
    rate = f"{0.6931471805599453 / abs(decay):.3g}"
    unit = "step" if rate == "1" else "steps"
    return f"{name}: the gradient {'halves' if decay > 0 else 'doubles'} every {rate} {unit}; {reach}."


def table(summary: list[dict[str, Any]], norms: list[dict[str, Any]], lengths: tuple[int, ...]) -> Table:
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
