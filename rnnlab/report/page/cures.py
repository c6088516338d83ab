"""The section of a study of cures: its interactive figure, as data for plotly.js, and tables."""

from rnnlab.report import cures_sentences
from rnnlab.report.findings import median_over_seeds
from rnnlab.report.memory_sentences import horizon
from rnnlab.report.page import elements
from rnnlab.report.page.elements import Record, Section, Table, groups
from rnnlab.report.sentences import short
from rnnlab.studies.cures_registry import CURES, PLAIN

SUMMARY = {
    "cure": "cure",
    "solved": "seeds that learn it",
    "seeds": "seeds",
    "solved_after": "after (updates)",
    "skill": "gap closed",
    "exponent_before": "λ₁ before (nats/step)",
    "exponent_after": "λ₁ after (nats/step)",
    "time_ratio": "time of an update / unchanged",
    "parameters": "parameters",
}
"""Keys of the records, and the names of their columns."""

AT_ONCE = 9
"""Lines in one picture: more cannot be told apart."""


def section(content: Record) -> Section:
    """The content of cures.json."""
    summary = content["summary"]
    figures = [_training(content["curves"], summary)]
    tables = [_summary_table(summary)]
    lines = cures_sentences.sentences(summary)
    return Section("Cures", cures_sentences.finding(summary), lines, figures, tables)


def _summary_table(summary: list[Record]) -> Table:
    columns = (
        *SUMMARY.values(),
        "horizon before (steps)",
        "horizon after (steps)",
        "kept for the backward pass",
        "what is changed",
    )
    rows = []
    for record in summary:
        horizons = []
        for side in ("before", "after"):
            steps = record[f"horizon_{side}"]
            horizons.append(None if steps is None else (steps, horizon(record, side)))
        size = record["kept_bytes"]
        memory = None if size is None else (size, cures_sentences.kept(record))
        about = CURES[record["cure"]].about
        rows.append((*map(record.get, SUMMARY), *horizons, memory, about))
    return Table("All cures, the best first: medians over the seeds", columns, rows)


def _training(curves: list[Record], summary: list[Record]) -> elements.Figure:
    """The loss on held-out sequences over training: the best cures, and all others in groups."""
    by_cure = groups(curves, "cure")
    ranked = [record["cure"] for record in summary if record["cure"] != PLAIN]
    pictures = []
    for first in range(0, max(len(ranked), 1), AT_ONCE - 1):
        names = [PLAIN, *ranked[first : first + AT_ONCE - 1]]
        traces, findings = [], []
        for number, name in enumerate(names):
            rows = by_cure.get((name,), [])
            if not rows:
                continue
            updates, seeds = elements.seeds(rows, "updates", "loss")
            look = {"name": name, "number": number}
            traces += elements.line(updates, seeds, look, short, median=True)
            findings.append(f"{name} {short(float(median_over_seeds(seeds)[-1]))}")
        layout = elements.axes(
            {"title": "updates"}, {"title": "loss", "type": "log"}, "update %{x}"
        )
        title = f"Last loss on held-out sequences: {', '.join(findings)}"
        key = f"rank {first + 1} to {first + len(names) - 1}"
        pictures.append(elements.picture((key,), title, traces, layout))
    about = (
        "Loss on 512 held-out sequences during the training, with the unchanged network (none) in "
        f"each picture{elements.bands(curves, 'median')}."
    )
    return elements.Figure(about, ("cures",), pictures)
