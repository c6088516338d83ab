"""The section of a memory study: its interactive figures, as data for plotly.js, and tables."""

from rnnlab.report import memory_sentences
from rnnlab.report.findings import median_over_seeds, shown_skill
from rnnlab.report.page import elements
from rnnlab.report.page.elements import Record, Section, Table, groups
from rnnlab.report.sentences import short
from rnnlab.studies.records import column

SUMMARY = {
    "task": "task",
    "cell": "cell",
    "budget": "budget (parameters)",
    "hidden_size": "H",
    "length": "learned up to length",
    "lag": "lag there (steps)",
    "tried": "longest tried",
    "solved": "seeds that learn it",
    "seeds": "seeds",
    "skill": "gap closed",
    "skill_low": "gap closed, lowest seed",
    "skill_high": "gap closed, highest seed",
    "exponent_before": "λ₁ before (nats/step)",
    "exponent_after": "λ₁ after (nats/step)",
}
SCORES = {
    "task": "task",
    "length": "length",
    "cell": "cell",
    "budget": "budget (parameters)",
    "seed": "seed",
    "solved_after": "learned after (updates)",
    "updates": "updates",
    "loss": "loss",
    "baseline": "loss without memory",
    "floor": "lowest loss",
    "accuracy": "accuracy",
}
"""Keys of the records, and the names of their columns."""


def section(content: Record) -> Section:
    """The content of memory.json."""
    summary, scores, curves = content["summary"], content["scores"], content["curves"]
    figures = [_by_length(scores), _horizons(scores), _training(curves, scores)]
    tables = [_summary_table(summary), _score_table(scores)]
    lines = memory_sentences.sentences(summary)
    return Section("Memory", memory_sentences.finding(summary), lines, figures, tables)


def _horizon(record: Record, side: str) -> object:
    """The horizon for a table; "≥ T" where the gradient does not vanish."""
    steps = record[f"horizon_{side}"]
    return None if steps is None else (steps, memory_sentences.horizon(record, side))


def _summary_table(summary: list[Record]) -> Table:
    columns = (*SUMMARY.values(), "horizon before (steps)", "horizon after (steps)")
    rows = []
    for record in summary:
        horizons = _horizon(record, "before"), _horizon(record, "after")
        rows.append((*map(record.get, SUMMARY), *horizons))
    return Table("Summary: medians over the seeds, at the longest length", columns, rows)


def _score_table(scores: list[Record]) -> Table:
    columns = (*SCORES.values(), "horizon before (steps)", "horizon after (steps)")
    rows = []
    for record in scores:
        horizons = _horizon(record, "before"), _horizon(record, "after")
        rows.append((*map(record.get, SCORES), *horizons))
    return Table("All networks", columns, rows)


def _by_length(scores: list[Record]) -> elements.Figure:
    """The share of the gap that each cell closes, against the length."""
    pictures = []
    for (task, budget), rows in groups(scores, "task", "budget").items():
        traces, findings = [], []
        for (cell,), of_cell in groups(rows, "cell").items():
            look = elements.look(cell, scores)
            skilled = [row | {"skill": shown_skill(row)} for row in of_cell]
            lengths, seeds = elements.seeds(skilled, "length", "skill")
            traces += elements.line(lengths, seeds, look, short, log=True, median=True)
            findings.append(f"{cell} {short(float(median_over_seeds(seeds)[-1]))}")
        lengths = sorted(set(column(rows, "length")))
        layout = elements.axes(
            {"title": "length", "type": "log", "tickvals": lengths},
            {"title": "gap closed", "range": [-0.15, 1.1]},
            "length %{x}",
        )
        title = f"{task}: gap closed at length {lengths[-1]}: {', '.join(findings)}"
        pictures.append(elements.picture((task, str(budget)), title, traces, layout))
    about = (
        "Share of the gap between the exact loss of the memoryless predictor (0) and the "
        f"lowest loss (1) that training closes{elements.bands(scores, 'median')}."
    )
    return elements.Figure(about, ("task", "parameters"), pictures)


def _horizons(scores: list[Record]) -> elements.Figure:
    """The share of the gap that each network closes, against its horizon before training."""
    traces = []
    for (cell,), rows in groups(scores, "cell").items():
        shown = [row for row in rows if row["horizon_before"] and row["skill"] is not None]
        texts = [f"{cell}, {row['task']}, length {row['length']}" for row in shown]
        relative = [row["horizon_before"] / row["lag"] for row in shown]
        skills = list(map(shown_skill, shown))
        traces.append(elements.points(relative, skills, elements.look(cell, scores), texts))
    layout = elements.axes(
        {
            "title": "horizon before training / lag",
            "type": "log",
            "tickvals": [0.01, 0.03, 0.1, 0.3, 1, 3, 10],
        },
        {"title": "gap closed", "range": [-0.15, 1.1]},
    )
    title = "Share of the gap that each network closes, against its horizon before training"
    about = (
        "Every marker is a network of one seed. Left of 1, the gradient of the last target's loss "
        "is below 1/1000 at the first step that matters."
    )
    return elements.Figure(about, (), [elements.picture((), title, traces, layout)])


def _training(curves: list[Record], scores: list[Record]) -> elements.Figure:
    """The loss on held-out sequences over training, as the share of the baseline."""
    exact = {(row["task"], row["length"]): row for row in scores}
    pictures = []
    for group, rows in groups(curves, "task", "length", "budget").items():
        task, length, budget = group
        baseline = exact[task, length]["baseline"]
        traces, findings = [], []
        for (cell,), of_cell in groups(rows, "cell").items():
            look = elements.look(cell, scores)
            updates, seeds = elements.seeds(of_cell, "updates", "loss")
            relative = seeds / baseline
            traces += elements.line(updates, relative, look, short, median=True)
            findings.append(f"{cell} {short(float(median_over_seeds(relative)[-1]))}")
        layout = elements.axes(
            {"title": "updates"},
            {"title": "loss / loss without memory", "type": "log"},
            "update %{x}",
        )
        title = f"{task}, length {length}: last loss / loss without memory: {', '.join(findings)}"
        key = (task, str(length), str(budget))
        pictures.append(elements.picture(key, title, traces, layout))
    about = (
        "Loss on 512 held-out sequences, relative to the exact loss of the best predictor without "
        f"memory{elements.bands(scores, 'median')}. A cell that has learned the task is not "
        "trained further."
    )
    return elements.Figure(about, ("task", "length", "parameters"), pictures)
