"""The HTML page of a run: one file that can be read offline, with the finding first."""

import base64
import contextlib
import gzip
import html
import json
import math
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rnnlab._files import write_text
from rnnlab.report import sentences
from rnnlab.report.page import cures, dynamics, gradients, memory, training
from rnnlab.report.page.elements import Figure, Record, Section, Table
from rnnlab.report.training import METRICS, RUN, read_training
from rnnlab.studies import store
from rnnlab.studies.records import column

MISSING = "–"


def write_page(folder: Path) -> Path:
    """Gathers the files of a run in ``folder`` into ``report.html`` there, and returns its path.

    The page shows the results of the studies, SECTIONS, as far as they exist, their configuration
    or that of config.json, and the faults of the run (``faults``). Of a training run, which may be
    in progress, it shows run.json and metrics.jsonl; training.png and training.svg are then drawn
    beside the page. Equal records give an equal page.

    Raises ValueError, in one sentence, for a directory that is missing, holds no run or holds a
    damaged file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a directory; give the --out directory of a finished run")
    store.settle(folder)
    contents = {name: _read(folder / name) for name in SECTIONS if (folder / name).exists()}
    trained = _is_training(folder)
    if not contents and not trained:
        raise ValueError(_without_run(folder))
    config_file = folder / store.CONFIG
    config = _read(config_file) if config_file.exists() else {}
    sections, configs = [], []
    for name, content in contents.items():
        with _one_sentence(folder / name):
            sections.append(SECTIONS[name](content))
            configs.append(content.get("config", config))
    metrics = None
    if trained:
        metrics, run = read_training(folder)
        sections.append(training.section(metrics))
        configs.append(training.config(run))
    with _one_sentence(folder):
        text = _text(sections, configs, faults(folder))
    page = folder / store.PAGE
    # A name in the command may hold bytes that are not UTF-8. They become question marks; the page
    # could not be written otherwise.
    encoded = text.encode("utf-8", "replace")
    write_text(page, encoded.decode("utf-8"))
    if metrics is not None:
        # matplotlib takes a second to import.
        from rnnlab.report.figures.training import draw

        draw(metrics, folder)
    return page


def faults(folder: Path) -> list[str]:
    """The faults of a study's directory: files that are missing or do not belong together.

    A training run has none: it may be in progress, and its checkpoints are verified where they are
    used.
    """
    is_study = any((folder / name).exists() for name in SECTIONS)
    return store.faults(folder) if is_study else []


def _is_training(folder: Path) -> bool:
    return (folder / RUN).exists() and (folder / METRICS).exists()


def _without_run(folder: Path) -> str:
    """The error for a directory without the files of a run."""
    unfinished = folder / store.UNFINISHED
    if any((unfinished / name).exists() for name in SECTIONS):
        return f"{folder} holds an unfinished run; finish it with --resume, or give {unfinished}"
    files = ", ".join(SECTIONS)
    return (
        f"{folder} holds no run: none of {files} is there, nor {RUN} and {METRICS} of a training "
        "run; give the --out directory of a finished run"
    )


@contextlib.contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    """Turns the errors from missing or wrong content into one sentence about ``path``."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as fault:
        raise ValueError(
            f"{path} is damaged or not finished; run the command that made it again"
        ) from fault


def _read(path: Path) -> Record:
    """The content of a JSON file; NaN and infinity, also from overflow, are missing values."""
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (OSError, ValueError):
        raise ValueError(f"{path} cannot be read; run the command that made it again") from None
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} is not a file of rnnlab; give the --out directory of a finished run"
        )
    return content


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


# Gradients


REACH = {
    "below 1/1000 after (steps)": "horizon",
    "minimum over seeds": "horizon_low",
    "maximum over seeds": "horizon_high",
    "minimum over examples": "example_low",
    "maximum over examples": "example_high",
    "half-life (steps)": "half_life",
    "decay (nats/step)": "decay_per_step",
    "decay beyond (nats/step)": "late_decay_per_step",
    "exactly zero (share)": "zero_share",
    "T (steps)": "length",
    "seeds left out": "doubtful",
    "loss (nats)": "loss",
    "accuracy": "accuracy",
    "steps clipped (share)": "clipped_share",
}
"""Columns of a summary, and their keys in its records."""
HORIZONS = ("horizon", "horizon_low", "horizon_high", "example_low", "example_high")

DETAILS = {
    "singular_values": gradients.singular_values,
    "contributions": gradients.contributions,
    "truncation": gradients.truncation,
}
"""The figures of a closer look, in the order of the page."""

Norms = dict[tuple, list[float]]
"""ln of the norm of all seeds, by cell, phase, length and parameter."""


def _gradients(content: Record) -> Section:
    summary, norms = content["summary"], content["norms"]
    phases = len(set(column(summary, "phase")))
    by_group = _finite_norms(norms)
    lengths = sorted(set(column(norms, "length")))
    tables = [
        _summary_table(summary, by_group, lengths, phases),
        _norm_table(by_group, phases),
    ]
    figures = [
        gradients.flow_by_lag(content["flow"], summary),
        gradients.norms_by_length(norms, summary),
    ]
    for name, figure in DETAILS.items():
        if content.get(name):
            figures.append(figure(content[name]))
    if content.get("truncation"):
        tables.append(_truncation_table(content["truncation"], phases))
    lines = [sentences.sentence(record, phases) for record in summary]
    return Section("The gradient", sentences.finding(summary), lines, figures, tables)


def _finite_norms(norms: list[Record]) -> Norms:
    """The norms of each group; the list is empty where no seed has a finite one."""
    by_group: Norms = {}
    for norm in norms:
        group = norm["cell"], norm["phase"], norm["length"], norm["parameter"]
        seeds = by_group.setdefault(group, [])
        if norm["log_norm"] is not None:
            seeds.append(norm["log_norm"])
    return by_group


def _summary_table(
    summary: list[Record],
    norms: Norms,
    lengths: list[int],
    phases: int,
) -> Table:
    of_lengths = [f"ln‖∂L/∂θ‖, T = {length}" for length in lengths]
    rows = []
    for record in summary:
        row = [sentences.label(record, phases), *_reach(record)]
        for length in lengths:
            group = record["cell"], record["phase"], length, "all"
            row.append(_mean(norms.get(group, [])))
        rows.append(tuple(row))
    return Table("Summary: median over the seeds", ("cell", *REACH, *of_lengths), rows)


def _reach(record: Record) -> Iterator[Any]:
    """The columns of REACH for one record; a horizon beyond the sequence is shown as "≥ T"."""
    for key in REACH.values():
        if key in HORIZONS:
            horizon = record[key]
            beyond = horizon is not None and horizon >= record["lags"]
            yield (horizon, f"≥ {horizon}") if beyond else horizon
        else:
            # Older files lack some of these keys.
            yield record.get(key)


def _norm_table(norms: Norms, phases: int) -> Table:
    columns = (
        "cell",
        "T (steps)",
        "parameter",
        "mean of ln‖∂L/∂θ‖",
        "lowest",
        "highest",
        "seeds",
    )
    rows = []
    for (cell, phase, length, parameter), seeds in norms.items():
        name = sentences.label({"cell": cell, "phase": phase}, phases)
        low, high = min(seeds, default=None), max(seeds, default=None)
        rows.append((name, length, parameter, _mean(seeds), low, high, len(seeds)))
    return Table("Norms of the gradient", columns, rows)


def _truncation_table(truncation: list[Record], phases: int) -> Table:
    columns = ("cell", "seed", "truncated after (steps)", "cosine", "relative norm")
    rows = []
    for record in truncation:
        name = sentences.label(record, phases)
        values = [record[key] for key in ("seed", "steps", "cosine", "relative_norm")]
        rows.append((name, *values))
    return Table("Truncated gradient", columns, rows)


def _mean(values: list[float]) -> float | None:
    if not values:
        return None
    return math.fsum(values) / len(values)


# Dynamics


SUMMARY = {
    "cell": "cell",
    "exponent": "λ₁ (nats/step)",
    "spread": "spread over seeds (nats/step)",
    "attractor": "attractor",
    "kaplan_yorke": "Kaplan–Yorke dimension",
    "entropy_rate": "entropy rate (nats/step)",
    "stable": "stable points",
    "marginal": "marginal points",
    "saddle": "saddles",
    "unstable": "unstable points",
    "slow": "slow points",
}
POINTS = {
    "cell": "cell",
    "seed": "seed",
    "number": "number",
    "kind": "kind",
    "unstable": "unstable directions",
    "q": "q",
    "slowest": "slowest (steps)",
}
ATTRACTORS = {
    "cell": "cell",
    "seed": "seed",
    "number": "start",
    "kind": "attractor",
    "period": "period (steps)",
    "exponent": "λ₁ (nats/step)",
}
"""Keys of the records of a dynamics study, and the names of their columns."""


def _dynamics(content: Record) -> Section:
    summary = content["summary"]
    if not summary:
        raise ValueError("no cell is finished")
    points = content.get("fixed_points") or []
    tables = [_table_of(summary, "Summary", SUMMARY)]
    if points:
        tables.append(_table_of(points, "Fixed and slow points", POINTS))
    if content.get("attractors"):
        attractors = _table_of(content["attractors"], "Attractors without input", ATTRACTORS)
        tables.append(attractors)
    lines = sentences.dynamics_sentences(summary, points, content.get("phase") or [])
    figures = _dynamics_figures(content)
    return Section("State dynamics", _dynamics_finding(summary), lines, figures, tables)


def _dynamics_figures(content: Record) -> list[Figure]:
    """A figure for each kind of records that the study wrote."""
    figures = []
    if content.get("spectrum"):
        figures.append(dynamics.spectrum(content["spectrum"], content["summary"]))
    if content.get("trace"):
        figures.append(dynamics.convergence(content["trace"]))
    points = content.get("fixed_points") or []
    trajectories = content.get("trajectories") or []
    if points or trajectories:
        figures.append(dynamics.portrait(points, trajectories))
    if content.get("phase"):
        figures.append(dynamics.phase_diagram(content["phase"]))
    return figures


def _dynamics_finding(summary: list[Record]) -> str:
    if any(record.get("attractor") for record in summary):
        return sentences.resting(summary)
    exponents = []
    for record in summary:
        exponent = _in_words(record["exponent"])
        exponents.append(f"{record['cell']} {exponent}")
    return f"Largest Lyapunov exponent, nats per step: {', '.join(exponents)}"


def _table_of(rows: list[Record], title: str, columns: dict[str, str]) -> Table:
    """A table of records; ``columns`` has their keys and the names of the columns."""
    cells = [tuple(map(row.get, columns)) for row in rows]
    return Table(title, tuple(columns.values()), cells)


SECTIONS: dict[str, Callable[[Record], Section]] = {
    "gradients.json": _gradients,
    "dynamics.json": _dynamics,
    "memory.json": memory.section,
    "cures.json": cures.section,
}
"""Each file that is shown, in the order of the page."""


# HTML


def _text(sections: list[Section], configs: list[Record], faults: list[str]) -> str:
    """The whole page."""
    # Slow to import, and only needed where a page is written.
    from plotly.offline import get_plotlyjs

    parts = []
    # Ids tie titles to what they name, so figures and tables share one count.
    count = 0
    for section in sections:
        parts.append(f"<section>\n<h2>{html.escape(section.heading)}</h2>")
        for figure in section.figures:
            count += 1
            parts.append(_figure(figure, count))
        for table in section.tables:
            count += 1
            parts.append(_table(table, count))
        parts.append("</section>")
    parts.append(_origin(configs))
    here = Path(__file__).parent
    page = string.Template((here / "page.html").read_text(encoding="utf-8"))
    # Without a fixed time in the header, equal runs would give unequal pages.
    library = gzip.compress(get_plotlyjs().encode(), mtime=0)
    return page.substitute(
        title=html.escape(sections[0].finding),
        sentences=_sentences(sections, faults),
        sections="\n".join(parts),
        style=(here / "page.css").read_text(encoding="utf-8"),
        script=(here / "page.js").read_text(encoding="utf-8"),
        library=base64.b64encode(library).decode(),
    )


def _sentences(sections: list[Section], faults: list[str]) -> str:
    """The faults of the run, and the sentences of all sections as one list."""
    text = ""
    if faults:
        note = html.escape(" ".join(faults))
        text += f'<p class="card">Note: {note}</p>\n'
    items = []
    for section in sections:
        items += [f"<li>{html.escape(sentence)}</li>" for sentence in section.sentences]
    if items:
        text += "\n".join(["<ul>", *items, "</ul>"])
    return text


def _figure(figure: Figure, index: int) -> str:
    content = {"names": figure.names, "pictures": figure.pictures}
    title = html.escape(figure.pictures[0]["title"])
    about = html.escape(figure.about)
    data = json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    # A name with "</script>" would end the element, and its rest would run as part of the page.
    data = data.replace("<", "\\u003c")
    return f"""<figure class="card" aria-labelledby="title-{index}">
<figcaption><h3 id="title-{index}" aria-live="polite">{title}</h3>
<p class="about" id="about-{index}">{about}</p></figcaption>
<div class="choosers"></div>
<div class="plot" role="img" aria-labelledby="title-{index} about-{index}"></div>
<script type="application/json">{data}</script>
</figure>"""


def _table(table: Table, index: int) -> str:
    """A table without the columns in which all values are missing."""
    heads, columns = [], []
    for name, *values in zip(table.columns, *table.rows, strict=True):
        present = [value for value in values if value is not None]
        if present:
            # Numbers align on the right, texts on the left.
            numeric = any(isinstance(value, (int, float, tuple)) for value in present)
            attribute = ' class="number"' if numeric else ""
            button = f'<button type="button">{html.escape(name)}</button>'
            heads.append(f'<th scope="col" aria-sort="none"{attribute}>{button}</th>')
            columns.append([_cell(value, attribute) for value in values])
    rows = []
    for cells in zip(*columns, strict=True):
        row = "".join(cells)
        rows.append(f"<tr>{row}</tr>")
    body = "\n".join(rows)
    return f"""<div class="card">
<h3 id="title-{index}">{html.escape(table.title)}</h3>
<div class="scroll" role="region" tabindex="0" aria-labelledby="title-{index}">
<table aria-labelledby="title-{index}">
<thead><tr>{"".join(heads)}</tr></thead>
<tbody>
{body}
</tbody>
</table>
</div>
</div>"""


def _cell(value: Any, attribute: str) -> str:
    """A cell, with its value for sorting: the text of a number is rounded."""
    if isinstance(value, tuple):
        value, text = value
    else:
        text = _in_words(value)
    if value is None:
        attribute += " data-missing"
    elif isinstance(value, (int, float)):
        attribute += f' data-value="{value}"'
    return f"<td{attribute}>{html.escape(text)}</td>"


def _origin(configs: list[Record]) -> str:
    """The commands that made the run, its configuration and the versions."""
    different = []
    for config in configs:
        # The files of one run mostly share their configuration, which is shown once.
        if config and config not in different:
            different.append(config)
    parts = ["<section>\n<h2>How this run was made</h2>" if different else "<section>"]
    for config in different:
        if config.get("command"):
            parts.append(_command(config["command"]))
        parts.append(_settings(config))
    parts.append("</section>")
    return "\n".join(parts)


def _command(command: Any) -> str:
    return f"""<div class="card">
<h3>Command to repeat this run</h3>
<pre><code>{html.escape(str(command))}</code></pre>
<p class="copy"><button type="button">Copy</button> <span role="status"></span></p>
</div>"""


def _settings(config: Record) -> str:
    """A card for each group of settings; those outside of a group are under "other"."""
    groups, other = {}, {}
    for name, value in config.items():
        if isinstance(value, dict):
            groups[name] = value
        elif name != "command":
            other[name] = value
    if other:
        groups["other"] = other
    parts = ['<div class="cards">']
    for name, group in groups.items():
        parts += ['<div class="card">', f"<h3>{html.escape(name.capitalize())}</h3>", "<dl>"]
        for key, value in group.items():
            parts.append(f"<dt>{html.escape(key)}</dt><dd>{html.escape(_setting(value))}</dd>")
        parts += ["</dl>", "</div>"]
    parts.append("</div>")
    return "\n".join(parts)


def _setting(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _in_words(value: Any) -> str:
    """A number or a word of a table."""
    if value is None:
        return MISSING
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    if isinstance(value, (int, float)):
        return text.replace("-", "−")
    return text
