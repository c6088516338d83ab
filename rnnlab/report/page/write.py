"""The HTML page of a run: one file that needs no network, with the finding first and what lies behind it below."""

import base64
import contextlib
import gzip
import html
import json
import math
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rnnlab.report import sentences
from rnnlab.report.page import dynamics, gradients
from rnnlab.report.page.elements import Figure
from rnnlab.studies import records, store

Record = dict[str, Any]
MISSING = "–"


class Table(NamedTuple):
    """Rows under named columns. None is a missing value; a pair is a value to sort by and what is shown for it."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


class Section(NamedTuple):
    """What one file of a run has to tell."""

    heading: str
    finding: str  # the title of the page where this section is the first
    sentences: list[str]
    figures: list[Figure]
    tables: list[Table]


def write_page(folder: Path) -> Path:
    """Gathers the files of a run in ``folder`` into ``report.html`` there, and returns its path.

    Shown is what there is of gradients.json and dynamics.json, with the configuration that stands in them or in
    config.json, and what is missing or does not belong together (``store.faults``). Equal records give an equal page.

    Raises ValueError, in one sentence, for a directory that is missing, holds no run or holds a damaged file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no directory; give the --out directory of a finished run")
    store.settle(folder)
    contents = {name: _read(folder / name) for name in SECTIONS if (folder / name).exists()}
    if not contents:
        raise ValueError(_without_run(folder))
    config = _read(folder / store.CONFIG) if (folder / store.CONFIG).exists() else {}
    sections, configs = [], []
    for name, content in contents.items():
        with _whole(folder / name):
            sections.append(SECTIONS[name](content))
            configs.append(content.get("config", config))
    with _whole(folder):
        text = _text(sections, configs, store.faults(folder))
    page = folder / store.PAGE
    # A name in the command may hold bytes that are no UTF-8.
    records.write_text(page, text.encode("utf-8", "replace").decode("utf-8"))
    return page


def _without_run(folder: Path) -> str:
    unfinished = folder / store.UNFINISHED
    if any((unfinished / name).exists() for name in SECTIONS):
        return f"{folder} holds an unfinished run; finish it with --resume, or give {unfinished}"
    files = ", ".join(SECTIONS)
    return f"{folder} holds no run: none of {files} is there; give the --out directory of a finished run"


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[None]:
    """What comes of a file that lacks something, or holds something else, as one sentence about ``path``."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as fault:
        raise ValueError(
            f"{path} is damaged or not finished; run the command that made it again"
        ) from fault


def _read(path: Path) -> Record:
    def finite(number: str) -> float | None:
        value = float(number)
        return value if math.isfinite(value) else None

    try:  # what is no number, such as NaN, is a missing value
        content = json.loads(
            path.read_text(encoding="utf-8"), parse_float=finite, parse_constant=finite
        )
    except (OSError, ValueError):
        raise ValueError(f"{path} cannot be read; run the command that made it again") from None
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} is not a file of rnnlab; give the --out directory of a finished run"
        )
    return content


def _gradients(content: Record) -> Section:
    summary, norms = content["summary"], content["norms"]
    phases = len({record["phase"] for record in summary})
    lengths = sorted({norm["length"] for norm in norms})
    by_name: dict[tuple, list[float]] = {}
    for norm in norms:
        key = norm["cell"], norm["phase"], norm["length"], norm["parameter"]
        by_name.setdefault(key, []).extend([] if norm["log_norm"] is None else [norm["log_norm"]])
    rows = []
    for record in summary:
        norms_of = [
            _mean(by_name.get((record["cell"], record["phase"], n, "all"), [])) for n in lengths
        ]
        rows.append((sentences.label(record, phases), *_reach(record), *norms_of))
    columns = ("cell", *REACH, *(f"ln‖∂L/∂θ‖, T = {length}" for length in lengths))
    each = [
        (sentences.label({"cell": cell, "phase": phase}, phases), length, name, _mean(seeds), min(seeds, default=None),
         max(seeds, default=None), len(seeds))
        for (cell, phase, length, name), seeds in by_name.items()
    ]  # fmt: skip
    of_each = ("cell", "T (steps)", "parameter", "mean of ln‖∂L/∂θ‖", "lowest", "highest", "seeds")
    tables = [
        Table("Summary: median over the seeds", columns, rows),
        Table("Norms of the gradient", of_each, each),
    ]
    made = {"singular_values": gradients.singular_values, "contributions": gradients.contributions,
            "truncation": gradients.truncation}  # fmt: skip
    details = [draw(content[name]) for name, draw in made.items() if content.get(name)]
    if cut := content.get("truncation"):
        of_cut = ("cell", "seed", "truncated after (steps)", "cosine", "relative norm")
        losses = [
            (sentences.label(r, phases), r["seed"], r["steps"], r["cosine"], r["relative_norm"])
            for r in cut
        ]
        tables.append(Table("What truncation loses", of_cut, losses))
    return Section(
        "The gradient",
        sentences.finding(summary),
        [sentences.sentence(record, phases) for record in summary],
        [
            gradients.flow_by_lag(content["flow"], summary),
            gradients.norms_by_length(norms, summary),
            *details,
        ],
        tables,
    )


REACH = (
    "below 1/1000 after (steps)", "least of a seed", "most of a seed", "least of an example",
    "most of an example", "half-life (steps)", "decay (nats/step)", "decay beyond (nats/step)",
    "exactly zero (share)", "T (steps)", "seeds left out", "loss (nats)", "accuracy", "steps clipped (share)",
)  # fmt: skip


def _reach(record: Record) -> tuple[Any, ...]:
    """The columns of REACH for one record of a summary; a horizon beyond the sequence is shown as "≥ T"."""
    names = ("horizon", "horizon_low", "horizon_high", "example_low", "example_high")
    horizons = []
    for name in names:
        value = record[name]
        beyond = value is not None and value >= record["lags"]
        horizons.append((value, f"≥ {value}") if beyond else value)
    rest = ("half_life", "decay_per_step", "late_decay_per_step", "zero_share", "length", "doubtful",
            "loss", "accuracy", "clipped_share")  # fmt: skip
    return (*horizons, *(record.get(name) for name in rest))


def _dynamics(content: Record) -> Section:
    summary = content["summary"]
    if not summary:
        raise ValueError("no cell is finished")
    figures = []
    if content.get("spectrum"):
        figures.append(dynamics.spectrum(content["spectrum"], summary))
    if content.get("trace"):
        figures.append(dynamics.convergence(content["trace"]))
    points, runs = content.get("fixed_points") or [], content.get("trajectories") or []
    figures += [dynamics.portrait(points, runs)] if points or runs else []
    figures += [dynamics.phase_diagram(content["phase"])] if content.get("phase") else []
    named = {
        "cell": "cell", "exponent": "λ₁ (nats/step)", "spread": "spread over seeds (nats/step)",
        "attractor": "attractor", "kaplan_yorke": "Kaplan–Yorke dimension", "entropy_rate": "entropy rate (nats/step)",
        "stable": "stable points", "marginal": "marginal points", "saddle": "saddles",
        "unstable": "unstable points", "slow": "slow points",
    }  # fmt: skip
    of_point = {"cell": "cell", "seed": "seed", "number": "number", "kind": "kind", "unstable": "unstable directions",
                "q": "q", "slowest": "slowest (steps)"}  # fmt: skip
    tables = [
        Table(
            "Summary",
            tuple(named.values()),
            [tuple(r.get(name) for name in named) for r in summary],
        )
    ]
    if points:
        rows = [tuple(point.get(name) for name in of_point) for point in points]
        tables.append(Table("Fixed and slow points", tuple(of_point.values()), rows))
    if ends := content.get("attractors"):
        of_end = {"cell": "cell", "seed": "seed", "number": "start", "kind": "attractor", "period": "period (steps)",
                  "exponent": "λ₁ (nats/step)"}  # fmt: skip
        rows = [tuple(end.get(name) for name in of_end) for end in ends]
        tables.append(Table("Attractors without input", tuple(of_end.values()), rows))
    if any(r.get("attractor") for r in summary):
        finding = sentences.resting(summary)
    else:
        exponents = ", ".join(f"{r['cell']} {_said(r['exponent'])}" for r in summary)
        finding = f"Largest Lyapunov exponent, nats a step: {exponents}"
    told = sentences.dynamics_sentences(summary, points, content.get("phase") or [])
    return Section("What the state does", finding, told, figures, tables)


SECTIONS: dict[str, Callable[[Record], Section]] = {
    "gradients.json": _gradients,
    "dynamics.json": _dynamics,
}
"""Each file that is shown, in the order of the page."""


def _text(sections: list[Section], configs: list[Record], faults: list[str]) -> str:
    from plotly.offline import get_plotlyjs

    here = Path(__file__).parent
    counter = iter(range(1, 1000))
    parts = []
    for section in sections:
        parts.append(f"<section>\n<h2>{html.escape(section.heading)}</h2>")
        parts += [_figure(figure, next(counter)) for figure in section.figures]
        parts += [_table(table, next(counter)) for table in section.tables]
        parts.append("</section>")
    parts.append(_origin(configs))
    items = [
        f"<li>{html.escape(sentence)}</li>"
        for section in sections
        for sentence in section.sentences
    ]
    told = f'<p class="card">Note: {html.escape(" ".join(faults))}</p>\n' if faults else ""
    told += "<ul>\n" + "\n".join(items) + "\n</ul>" if items else ""
    return string.Template((here / "page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(sections[0].finding),
        sentences=told,
        sections="\n".join(parts),
        style=(here / "page.css").read_text(encoding="utf-8"),
        script=(here / "page.js").read_text(encoding="utf-8"),
        library=base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode(),
    )


def _figure(figure: Figure, number: int) -> str:
    drawn = {"names": figure.names, "pictures": figure.pictures}
    title, about = html.escape(figure.pictures[0]["title"]), html.escape(figure.about)
    data = json.dumps(drawn, allow_nan=False, separators=(",", ":"), ensure_ascii=False).replace(
        "<", "\\u003c"
    )
    return f"""<figure class="card" aria-labelledby="title-{number}">
<figcaption><h3 id="title-{number}" aria-live="polite">{title}</h3>
<p class="about" id="about-{number}">{about}</p></figcaption>
<div class="choosers"></div>
<div class="plot" role="img" aria-labelledby="title-{number} about-{number}"></div>
<script type="application/json">{data}</script>
</figure>"""


def _table(table: Table, number: int) -> str:
    """Without the columns in which all is missing."""
    heads, columns = [], []
    for name, *values in zip(table.columns, *table.rows, strict=True):
        if any(value is not None for value in values):
            side = (
                ' class="number"'
                if any(isinstance(value, (int, float, tuple)) for value in values)
                else ""
            )
            button = f'<button type="button">{html.escape(name)}</button>'
            heads.append(f'<th scope="col" aria-sort="none"{side}>{button}</th>')
            columns.append([_cell(value, side) for value in values])
    rows = "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in zip(*columns, strict=True))
    return f"""<div class="card">
<h3 id="title-{number}">{html.escape(table.title)}</h3>
<div class="scroll" role="region" tabindex="0" aria-labelledby="title-{number}">
<table aria-labelledby="title-{number}">
<thead><tr>{"".join(heads)}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
</div>"""


def _cell(value: Any, side: str) -> str:
    value, shown = value if isinstance(value, tuple) else (value, _said(value))
    known = (
        " data-missing"
        if value is None
        else f' data-value="{value}"'
        if isinstance(value, (int, float))
        else ""
    )
    return f"<td{side}{known}>{html.escape(shown)}</td>"


def _origin(configs: list[Record]) -> str:
    """The commands that made the run, its configuration and the versions."""
    configs = [
        config for number, config in enumerate(configs) if config and config not in configs[:number]
    ]
    parts = ["<section>\n<h2>How it was made</h2>"] if configs else ["<section>"]
    for config in configs:
        if config.get("command"):
            command = html.escape(str(config["command"]))
            parts.append(
                f'<div class="card">\n<h3>The command that repeats it</h3>\n<pre><code>{command}</code></pre>\n'
                '<p class="copy"><button type="button">Copy</button> <span role="status"></span></p>\n</div>'
            )
        alone = {
            key: value
            for key, value in config.items()
            if key != "command" and not isinstance(value, dict)
        }
        groups = {key: value for key, value in config.items() if isinstance(value, dict)}
        parts.append('<div class="cards">')
        for name, group in {**groups, **({"other": alone} if alone else {})}.items():
            pairs = "\n".join(
                f"<dt>{html.escape(key)}</dt><dd>{html.escape(_setting(value))}</dd>"
                for key, value in group.items()
            )
            parts.append(
                f'<div class="card">\n<h3>{html.escape(name.capitalize())}</h3>\n<dl>\n{pairs}\n</dl>\n</div>'
            )
        parts.append("</div>")
    return "\n".join([*parts, "</section>"])


def _setting(value: Any) -> str:
    return (
        ", ".join(map(str, value))
        if isinstance(value, list)
        else "none"
        if value is None
        else str(value)
    )


def _said(value: Any) -> str:
    """A number or a word of a table."""
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return (
        MISSING
        if value is None
        else shown.replace("-", "−")
        if isinstance(value, (int, float))
        else shown
    )


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
