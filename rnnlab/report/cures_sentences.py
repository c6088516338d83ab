"""Sentences and the table about the results of a study of cures."""

from typing import Any

from rich.table import Table

from rnnlab.report.memory_sentences import gap, horizon, reach
from rnnlab.report.sentences import short
from rnnlab.studies.cures_registry import CURES, PLAIN

Record = dict[str, Any]

BETTER = 0.05
"""A cure helps where it closes at least this much more of the gap than the unchanged network."""


def finding(summary: list[Record]) -> str:
    """The result of a study of cures, in one line."""
    first = summary[0]
    goal = f"{first['task']}, lag {first['lag']}"
    solved = [record["cure"] for record in summary if record["solved"]]
    learns = f"{first['cell']} learns it with: {', '.join(map(_named, solved))}"
    return f"{goal}: {learns}" if solved else f"{goal}: no cure makes {first['cell']} learn it"


def advice(summary: list[Record]) -> str:
    """What to do, in one sentence, such as

    "Take gru (the gates of a GRU): 2 of 2 seeds learn temporal-order at a lag of 45 steps after 150
    updates, each of which takes 2.1 times as long; the unchanged network does not learn it, and its
    gradient is below 1/1000 after 21 steps."
    """
    best, plain = summary[0], _plain(summary)
    goal = f"{best['task']} at a lag of {best['lag']} steps"
    gradient = f"its gradient {reach(plain, 'before')}" if plain else ""
    if not best["solved"]:
        failed = f"No cure makes the network learn {goal} in {_most(summary)} updates"
        if best["cure"] == PLAIN:
            return (
                f"{failed}, and none closes more of the gap than the unchanged network; {gradient}."
            )
        return f"{failed}; {best['cure']} comes closest: its {gap(best)}."
    if best["cure"] == PLAIN:
        return f"{_learned(best, goal)} without any cure, and no cure is faster; {gradient}."
    # No parentheses inside of parentheses.
    about = CURES[best["cure"]].about.replace(" (", ", ").replace(")", "")
    text = f"Take {best['cure']} ({about}): {_learned(best, goal)}{_cost(best)}"
    if plain is None:
        return f"{text}."
    if plain["solved"]:
        return (
            f"{text}; the unchanged network needs {plain['solved_after']} updates, and {gradient}."
        )
    return f"{text}; the unchanged network does not learn it, and {gradient}."


def sentences(summary: list[Record]) -> list[str]:
    """The advice, and which cures help and which do not."""
    lines = [advice(summary)]
    plain = _plain(summary)
    if plain is None:
        return lines
    helpful, useless = [], []
    for record in summary:
        if record["cure"] != PLAIN:
            (helpful if _helps(record, plain) else useless).append(record["cure"])
    if helpful:
        lines.append(f"Better than the unchanged network, the best first: {', '.join(helpful)}.")
    if useless:
        lines.append(f"No better than the unchanged network: {', '.join(useless)}.")
    diverged = [record["cure"] for record in summary if record["skill"] is None]
    if diverged:
        lines.append(f"The loss of most seeds is not finite with: {', '.join(diverged)}.")
    return lines


def _plain(summary: list[Record]) -> Record | None:
    return next((record for record in summary if record["cure"] == PLAIN), None)


def _helps(record: Record, plain: Record) -> bool:
    if record["solved"] != plain["solved"]:
        return record["solved"] > plain["solved"]
    if record["solved"]:
        return record["solved_after"] < plain["solved_after"]
    if record["skill"] is None or plain["skill"] is None:
        # A loss that is not finite is worse than any other.
        return record["skill"] is not None
    return record["skill"] >= plain["skill"] + BETTER


def _named(cure: str) -> str:
    return "the unchanged network" if cure == PLAIN else cure


def _most(summary: list[Record]) -> int:
    return max(record["updates"] for record in summary)


def _learned(record: Record, goal: str) -> str:
    seeds = f"{record['solved']} of {record['seeds']} seeds learn"
    return f"{seeds} {goal} after {record['solved_after']} updates"


def _cost(record: Record) -> str:
    if record["time_ratio"] is None:
        return ""
    return f", each of which takes {record['time_ratio']:.2g} times as long"


def table(summary: list[Record]) -> Table:
    """The summary, one row for each cure, the best first."""
    first = summary[0]
    grid = Table(
        title=f"What helps {first['cell']} to learn {first['task']} at a lag of {first['lag']} "
        "steps (medians over the seeds)"
    )
    grid.add_column("cure")
    for name in (
        "learned by",
        "learned after\nupdates",
        "gap closed\n%",
        "horizon before\nsteps",
        "horizon after\nsteps",
        "λ₁ before\nnats/step",
        "update time\n× unchanged",
        "parameters",
        "memory\nMiB",
    ):
        grid.add_column(name, justify="right")
    for record in summary:
        closed = "–" if record["skill"] is None else f"{100 * record['skill']:.0f}"
        ratio, size = record["time_ratio"], record["kept_bytes"]
        grid.add_row(
            record["cure"],
            f"{record['solved']} of {record['seeds']}",
            "–" if record["solved_after"] is None else str(record["solved_after"]),
            closed.replace("-", "−"),
            horizon(record, "before"),
            horizon(record, "after"),
            short(record["exponent_before"]),
            "–" if ratio is None else f"{ratio:.2f}",
            str(record["parameters"]),
            "–" if size is None else f"{size / 2**20:.2f}",
        )
    return grid


def kept(record: Record) -> str:
    """What is kept for the backward pass, in MiB."""
    size = record["kept_bytes"]
    return "–" if size is None else f"{size / 2**20:.2f} MiB"
