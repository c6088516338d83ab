"""Sentences and the table about the results of a memory study."""

from typing import Any

from rich.table import Table

from rnnlab._wording import percent
from rnnlab.report.sentences import short

Record = dict[str, Any]


def group(record: Record, budgets: int) -> str:
    """The task of a record, with the budget of parameters where there are several."""
    if budgets == 1:
        return record["task"]
    return f"{record['task']}, {record['budget']} parameters"


def count_budgets(records: list[Record]) -> int:
    """The number of budgets in some records."""
    return len({record["budget"] for record in records})


MANY = 24
"""More cells, tasks and budgets than this are counted in the finding, and not listed."""


def finding(summary: list[Record]) -> str:
    """The result of a memory study, in one line."""
    if len(summary) > MANY:
        return _counted(summary)
    budgets = count_budgets(summary)
    tasks: dict[str, list[str]] = {}
    for record in summary:
        length = "none" if record["length"] is None else str(record["length"])
        tasks.setdefault(group(record, budgets), []).append(f"{record['cell']} {length}")
    parts = [f"{task}: {', '.join(cells)}" for task, cells in tasks.items()]
    return f"Longest sequences that at least half of the seeds learn. {'; '.join(parts)}"


def _counted(summary: list[Record]) -> str:
    """How many tasks each cell learns at the longest length, the best cell first."""
    budgets = count_budgets(summary)
    learned: dict[str, int] = {}
    tasks: dict[str, int] = {}
    for record in summary:
        is_learned = record["length"] == record["tried"]
        learned[record["cell"]] = learned.get(record["cell"], 0) + is_learned
        name = group(record, budgets)
        tasks[name] = tasks.get(name, 0) + is_learned
    ranked = sorted(learned.items(), key=lambda entry: -entry[1])
    kinds = "tasks" if budgets == 1 else "tasks and budgets"
    text = f"Of {len(tasks)} {kinds}, at the longest length, at least half of the seeds learn: "
    text += ", ".join(f"{cell} {count}" for cell, count in ranked)
    if never := [name for name, count in tasks.items() if count == 0]:
        text += f". No cell learns {'; '.join(never)}"
    return text


def sentences(summary: list[Record]) -> list[str]:
    """One sentence for each cell and task; none where they are too many to be read."""
    if len(summary) > MANY:
        return []
    budgets = count_budgets(summary)
    return [sentence(record, budgets) for record in summary]


def sentence(record: Record, budgets: int = 1) -> str:
    """What one cell learned, and how far its gradient reaches, such as

    "rnn on adding: learned up to length 30 (lag 29); at length 100, 0 of 3 seeds learn it, and the
    loss closes 4 % of the gap between memoryless and perfect; the gradient there is below 1/1000
    after 21 steps before training and is below 1/1000 after 35 steps afterwards."
    """
    text = f"{record['cell']} on {group(record, budgets)}: {_learned(record)}"
    before, after = reach(record, "before"), reach(record, "after")
    return f"{text}; the gradient there {before} before training and {after} afterwards."


def _learned(record: Record) -> str:
    tried = record["tried"]
    seeds = f"{record['solved']} of {record['seeds']} seeds"
    if record["length"] == tried:
        return f"learned at length {tried}, the longest that was tried, by {seeds}"
    if record["length"] is None:
        text = "not learned at any length"
    else:
        text = f"learned up to length {record['length']} (lag {record['lag']})"
    return f"{text}; at length {tried}, {seeds} learn it, and the {gap(record)}"


def gap(record: Record) -> str:
    """The share of the gap between memoryless and perfect that is closed, in words."""
    if record["skill"] is None:
        return "loss is not finite"
    if record["skill"] <= 0:
        return "loss is no lower than without memory"
    return f"loss closes {percent(record['skill'])} of the gap between memoryless and perfect"


def reach(record: Record, side: str) -> str:
    """How far the gradient reaches before or after training, to follow "the gradient"."""
    horizon = record[f"horizon_{side}"]
    if horizon is None:
        return "is not finite"
    if horizon >= record["lags"]:
        return f"stays above 1/1000 over all {record['lags']} steps"
    return f"is below 1/1000 after {horizon} steps"


def horizon(record: Record, side: str) -> str:
    """The horizon before or after training, "≥ 100" where the gradient does not vanish."""
    steps = record[f"horizon_{side}"]
    if steps is None:
        return "not finite"
    return f"≥ {record['lags']}" if steps >= record["lags"] else str(steps)


def table(summary: list[Record]) -> Table:
    """The summary, one row for each cell, task and budget."""
    grid = Table(title="What each cell learns (medians over the seeds, at the longest length)")
    for name in ("task", "cell"):
        grid.add_column(name)
    for name in (
        "H",
        "longest learned",
        "longest tried",
        "learned by",
        "gap closed\n%",
        "horizon before\nsteps",
        "horizon after\nsteps",
        "λ₁ before\nnats/step",
        "λ₁ after\nnats/step",
    ):
        grid.add_column(name, justify="right")
    budgets = count_budgets(summary)
    for record in summary:
        closed = "–" if record["skill"] is None else f"{100 * record['skill']:.0f}"
        grid.add_row(
            group(record, budgets),
            record["cell"],
            str(record["hidden_size"]),
            "–" if record["length"] is None else str(record["length"]),
            str(record["tried"]),
            f"{record['solved']} of {record['seeds']}",
            closed.replace("-", "−"),
            horizon(record, "before"),
            horizon(record, "after"),
            short(record["exponent_before"]),
            short(record["exponent_after"]),
        )
    return grid
