"""A training run on the page: its interactive figures, its tables and its configuration."""

import html
import math
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rnnlab._wording import percent
from rnnlab.report import training_sentences as sentences
from rnnlab.report.page import elements
from rnnlab.report.page.elements import Record, Section, Table
from rnnlab.report.sentences import short
from rnnlab.report.training import (
    EXPONENT,
    GRADIENT,
    PARAMETER,
    VALIDATION,
    LagLooks,
    RunMetrics,
    Series,
    command,
    curve,
    ending,
    in_decades,
    is_wide,
    spread_out,
)

LINES = 30
"""Parameters that are drawn."""
CHOICES = 50
"""Further metrics that can be chosen."""
ROWS = 200
"""Rows of a table; those of longer ones are spread over the run."""
MARKED = 50
"""Skipped steps that are marked."""
LOOKS = 150
"""Looks at the gradient by lag that are drawn."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
NARROW = 0.7
"""An axis of norms spans so many decades at least, so that it has ticks."""
LONG = 30
"""A longer name is left out beside its axis; it is in the title."""
STEPS = {"title": "training step", "exponentformat": "none"}
MERGED = " Where several records share a point, the line is their median and the band their range."
NUMBERS = {"training": 1, "validation": 2}
"""Colour and marker."""


def section(metrics: RunMetrics) -> Section:
    """The part of the page about a training run."""
    figures = []
    if metrics.loss:
        figures.append(_loss(metrics))
    if "gradient_norm" in metrics.series:
        figures.append(_gradient(metrics))
    if metrics.by_parameter(GRADIENT) or metrics.by_parameter(PARAMETER):
        figures.append(_parameters(metrics))
    if metrics.looks:
        figures.append(_by_lag(metrics.looks))
    if metrics.horizons:
        figures.append(_horizons(metrics))
    if EXPONENT in metrics.series:
        figures.append(_exponent(metrics))
    if metrics.others:
        figures.append(_others(metrics.others))
    tables = [_summary(metrics), _validations(metrics), _norms(metrics), _reach(metrics)]
    tables.append(_skipped(metrics))
    return Section(
        "Training",
        sentences.title(metrics),
        sentences.findings(metrics),
        figures,
        [table for table in tables if table.rows],
    )


def _loss(metrics: RunMetrics) -> elements.Figure:
    """The loss in training and on held-out data, in nats and in bits where they are known."""
    count = len(metrics.series["loss"].finite.steps) if "loss" in metrics.series else 0
    units = {metrics.unit or "as recorded": 1.0}
    if metrics.has_bits:
        units[f"bits per {metrics.symbol}"] = 1 / math.log(2)
    pictures = []
    for unit, scale in units.items():
        pair = {
            name: Series(series.steps, scale * series.values)
            for name, series in metrics.loss.items()
        }
        label = f"loss ({unit})" if metrics.unit else "loss"
        traces, layout = _pair(pair, label)
        _mark_skipped(layout, metrics)
        pictures.append(elements.picture((unit,), sentences.title(metrics), traces, layout))
    about = "The loss of each recorded step."
    if count > 1:
        last = ending(count)
        values = "value" if last == 1 else f"{last} values"
        about = f"The loss of each recorded step; its end is the mean of the last {values}."
    about += _merged(metrics.loss.values()) + _dashed(metrics)
    return elements.Figure(about, ("unit",), pictures)


def _gradient(metrics: RunMetrics) -> elements.Figure:
    """The norm of the whole gradient before clipping."""
    series = metrics.series["gradient_norm"]
    look = {"name": "gradient norm", "number": 0}
    # A log axis has no place for zero.
    is_log = bool((series.finite.values > 0).any())
    traces = _line(series, look, log=is_log)
    y: Record = {"title": "‖∂L/∂θ‖"}
    if is_log:
        y |= _decades(in_decades(series.finite.values))
    layout = elements.axes(STEPS, y, "step %{x}")
    share = sentences.clipped_share(metrics)
    text = f"Norm of the gradient: median {short(float(np.median(series.finite.values)))}"
    if share is not None and metrics.clip is not None:
        text += f"; {percent(share)} of the recorded steps clipped to {short(metrics.clip)}"
        level = math.log10(metrics.clip) if is_log else metrics.clip
        layout |= elements.level(level, f"clipped to {metrics.clip:g}", side="right")
    _mark_skipped(layout, metrics)
    about = f"All parameters together, before clipping.{_merged([series])}{_dashed(metrics)}"
    return elements.Figure(about, (), [elements.picture((), text, traces, layout)])


def _parameters(metrics: RunMetrics) -> elements.Figure:
    """The norm of the gradient of each parameter, and that of each parameter."""
    kinds = {"gradient": (GRADIENT, "‖∂L/∂θ‖"), "parameter": (PARAMETER, "‖θ‖")}
    pictures = []
    most = 0
    for kind, (prefix, label) in kinds.items():
        norms = metrics.by_parameter(prefix)
        if not norms:
            continue
        most = max(most, len(norms))
        traces, shown = [], []
        for place, (name, series) in enumerate(list(norms.items())[:LINES]):
            dash = DASHES[place // len(elements.SYMBOLS) % len(DASHES)]
            logs = Series(series.steps, series.values / math.log(10))
            look = {"name": name, "number": place % len(elements.SYMBOLS), "dash": dash}
            traces += _line(logs, look, elements.power)
            shown.append(logs.finite.values)
        y = {"title": label, **_decades(np.concatenate(shown))}
        # The box of many lines would hide the figure.
        hover = "step %{x}" if len(traces) <= 2 * len(elements.SYMBOLS) else None
        layout = elements.axes(STEPS, y, hover)
        title = sentences.norms(norms, f"norm of the {kind}")
        pictures.append(elements.picture((kind,), title, traces, layout))
    about = "The gradient of the loss with respect to each parameter, and the parameters."
    if metrics.horizons:
        # A watch measures it; the monitor of an optimiser sees the whole batch.
        about = f"{about[:-1]}, measured on a few examples of the batch."
    if most > LINES:
        about += f" Drawn are the first {LINES} of {most} parameters."
    return elements.Figure(about, ("norm",), pictures)


def _by_lag(looks: Mapping[int | None, LagLooks]) -> elements.Figure:
    """The gradient of the state of each layer by lag and training step."""
    pictures = []
    for layer, look in looks.items():
        key = "all" if layer is None else f"layer {layer}"
        places = spread_out(len(look.steps), LOOKS)
        chosen = LagLooks(look.steps[places], look.lags, look.log_norm[places] / math.log(10))
        draw = _lag_lines if len(places) == 1 else _lag_map
        traces, layout = draw(chosen)
        last = chosen.log_norm[-1]
        finite = np.flatnonzero(np.isfinite(last))
        of = "" if layer is None else f"Layer {layer}: "
        title = f"{of}no finite gradient at step {chosen.steps[-1]}"
        if finite.size:
            place = finite[-1]
            title = (
                f"{of}gradient {elements.power(float(last[place]))} at lag {chosen.lags[place]}, "
                f"relative to lag 0, at step {chosen.steps[-1]}"
            )
        pictures.append(elements.picture((key,), title[:1].upper() + title[1:], traces, layout))
    about = (
        "Norm of the gradient of the whole state by the steps back from the loss, relative to lag "
        f"0, over training; colours end {elements.FLOOR} decades below the largest."
    )
    return elements.Figure(about, ("layer",), pictures)


def _lag_lines(look: LagLooks) -> tuple[list[Record], Record]:
    beyond = look.lags > 0
    lags = look.lags[beyond].tolist()
    name = {"name": f"step {look.steps[0]}", "number": 0}
    values = look.log_norm[:, beyond]
    traces = elements.line(lags, values, name, elements.power, log=True)
    x = {"title": "lag (steps back from the loss)", **elements.log_axis(1, lags[-1])}
    y = {"title": "‖∂L/∂s‖ relative to lag 0", **_decades(values[np.isfinite(values)])}
    return traces, elements.axes(x, y, "lag %{x} steps")


def _lag_map(look: LagLooks) -> tuple[list[Record], Record]:
    finite = look.log_norm[np.isfinite(look.log_norm)]
    top = float(finite.max())
    bottom = max(float(finite.min()), top - elements.FLOOR)
    bar = {
        "title": {"text": "norm relative to lag 0", "side": "top"},
        **elements.decades([bottom, top]),
    }
    # The lags are powers of two: each has a row of its own.
    rows = list(range(len(look.lags)))
    heat = elements.heat(look.steps.tolist(), rows, look.log_norm.T, bar, "%{text}")
    heat |= {"colorscale": "Cividis", "zmin": bottom, "zmax": top}
    texts = []
    for lag, values in zip(look.lags, look.log_norm.T, strict=True):
        row = []
        for step, value in zip(look.steps, values, strict=True):
            row.append(f"step {step}, lag {lag}<br>{elements.power(float(value))}")
        texts.append(row)
    heat["text"] = texts
    y = {
        "title": "lag (steps back from the loss)",
        "tickvals": rows,
        "ticktext": [str(lag) for lag in look.lags],
    }
    return [heat], elements.axes(STEPS, y)


def _horizons(metrics: RunMetrics) -> elements.Figure:
    """The lag at which the gradient is below 1/1000, for each layer."""
    traces = []
    for place, (layer, series) in enumerate(metrics.horizons.items(), 1):
        name = "horizon" if layer is None else f"layer {layer}"
        traces += _line(series, {"name": name, "number": place % len(elements.SYMBOLS)})
    y = {"title": "horizon (steps)", "rangemode": "tozero"}
    layout = elements.axes(STEPS, y, "step %{x}")
    if metrics.lags is not None:
        layout |= elements.level(metrics.lags, "whole sequence", side="right")
    about = (
        "Lag at which the gradient of the state is below 1/1000 of what it is at the loss, in half "
        "of the examples."
    )
    title = sentences.horizons(metrics)
    return elements.Figure(about, (), [elements.picture((), title, traces, layout)])


def _exponent(metrics: RunMetrics) -> elements.Figure:
    """The first Lyapunov exponent."""
    traces = _line(metrics.series[EXPONENT], {"name": "λ₁", "number": 1})
    layout = elements.axes(STEPS, {"title": "λ₁ (nats/step)"}, "step %{x}")
    layout |= elements.level(0, "")
    about = "First Lyapunov exponent; nearby trajectories converge where it is negative."
    title = sentences.exponent(metrics).rstrip(".")
    return elements.Figure(about, (), [elements.picture((), title, traces, layout)])


def _others(others: Mapping[str, Mapping[str, Series]]) -> elements.Figure:
    """All further metrics, of which one is shown."""
    pictures = []
    for name, pair in list(others.items())[:CHOICES]:
        traces, layout = _pair(pair, html.escape(name) if len(name) <= LONG else "")
        ends = []
        for label, series in pair.items():
            (start, first), (end, last) = series.first(), series.last()
            of = f"{label} " if len(pair) > 1 else ""
            change = short(last) if start == end else f"{short(first)} → {short(last)}"
            ends.append(f"{of}{change} at step {end}")
        title = f"{name}: {'; '.join(ends)}"
        pictures.append(elements.picture((name,), title, traces, layout))
    about = "A further metric; the first and the last value are in the title."
    if len(others) > CHOICES:
        about += f" The first {CHOICES} of {len(others)} can be chosen; the table has more."
    return elements.Figure(about, ("metric",), pictures)


def _pair(pair: Mapping[str, Series], label: str) -> tuple[list[Record], Record]:
    """A metric in training and on held-out data; ``label`` is HTML."""
    is_log = is_wide(pair.values())
    traces, shown = [], []
    for name, series in pair.items():
        traces += _line(series, {"name": name, "number": NUMBERS[name]}, log=is_log)
        shown.append(series.finite.values)
    y: Record = {"title": label}
    if is_log:
        y |= _decades(in_decades(np.concatenate(shown)))
    return traces, elements.axes(STEPS, y, "step %{x}")


def _line(series: Series, look: Record, show: Any = None, *, log: bool = False) -> list[Record]:
    """A series as a line, with a band where several records share a point."""
    drawn = curve(series, elements.POINTS)
    parts = [drawn.low, drawn.middle, drawn.high] if drawn.merged else [drawn.middle]
    values = np.stack(parts)
    if log:
        values, show = in_decades(values), elements.power
    return elements.line(
        drawn.steps.tolist(), values, look, show or short, median=drawn.merged, over=""
    )


def _decades(logs: np.ndarray) -> Record:
    """An axis for log10 values."""
    finite = logs[np.isfinite(logs)]
    low, high = float(finite.min()), float(finite.max())
    margin = max(0.05 * (high - low), (NARROW - (high - low)) / 2)
    return {**elements.decades(finite), "range": [low - margin, high + margin]}


def _merged(series: Iterable[Series]) -> str:
    return MERGED if any(len(one.steps) > elements.POINTS for one in series) else ""


def _dashed(metrics: RunMetrics) -> str:
    return " Dashed lines: steps that were not applied." if metrics.skipped else ""


def _mark_skipped(layout: Record, metrics: RunMetrics) -> None:
    """Adds a line at each step that was not applied; in a long list, at some of them."""
    shapes = []
    for place in spread_out(len(metrics.skipped), MARKED) if metrics.skipped else []:
        step, _ = metrics.skipped[place]
        shapes.append({
            "type": "line", "yref": "paper", "x0": step, "x1": step, "y0": 0, "y1": 1,
            "line": {"color": "--c4", "width": 1, "dash": "dash"},
        })  # fmt: skip
    if shapes:
        layout["shapes"] = layout.get("shapes", []) + shapes


# Tables


def _summary(metrics: RunMetrics) -> Table:
    columns = (
        "metric", "first", "last", "last step", "lowest", "step of the lowest", "highest",
        "step of the highest", "records",
    )  # fmt: skip
    rows: list[tuple[Any, ...]] = []
    first = [name for name in ("loss", VALIDATION + "loss") if name in metrics.series]
    for name in dict.fromkeys([*first, *metrics.series]):
        if name.startswith((GRADIENT, PARAMETER)):
            continue
        series = metrics.series[name]
        steps, values = series.finite
        low, high = int(np.argmin(values)), int(np.argmax(values))
        ends = float(values[0]), float(values[-1]), int(steps[-1])
        lowest = float(values[low]), int(steps[low])
        highest = float(values[high]), int(steps[high])
        rows.append((name, *ends, *lowest, *highest, len(series.steps)))
    rows += [(name, *[None] * 8) for name in metrics.empty]
    return Table("Metrics", columns, rows[:ROWS])


def _validations(metrics: RunMetrics) -> Table:
    columns = {}
    for name in (VALIDATION + "loss", *metrics.series):
        if name.startswith(VALIDATION) and name in metrics.series:
            columns[name.removeprefix(VALIDATION)] = metrics.series[name]
    return _by_step("Held-out data", columns)


def _reach(metrics: RunMetrics) -> Table:
    columns = {}
    for layer, series in metrics.horizons.items():
        name = "horizon (steps)" if layer is None else f"horizon (steps), layer {layer}"
        columns[name] = series
    if EXPONENT in metrics.series:
        columns["λ₁ (nats/step)"] = metrics.series[EXPONENT]
    return _by_step("Reach of the gradient, and λ₁", columns, metrics.lags)


def _by_step(title: str, columns: Mapping[str, Series], lags: int | None = None) -> Table:
    """A row for each step; a horizon of ``lags`` is shown as "≥ 100"."""
    by_name, steps = {}, set()
    for name, series in columns.items():
        by_name[name] = dict(zip(series.steps.tolist(), series.values.tolist(), strict=True))
        steps |= by_name[name].keys()
    ordered = sorted(steps)
    rows = []
    for place in spread_out(len(ordered), ROWS) if ordered else []:
        cells = []
        for name, values in by_name.items():
            value = values.get(ordered[place], math.nan)
            value = None if math.isnan(value) else value
            if value is not None and name.startswith("horizon"):
                beyond = lags is not None and value >= lags
                cells.append((value, f"≥ {value:g}") if beyond else value)
            else:
                cells.append(value)
        rows.append((ordered[place], *cells))
    return Table(title, ("step", *columns), rows)


def _norms(metrics: RunMetrics) -> Table:
    columns = ["parameter"]
    kinds = {"‖∂L/∂θ‖": GRADIENT, "‖θ‖": PARAMETER}
    found = {label: metrics.by_parameter(prefix) for label, prefix in kinds.items()}
    for label in kinds:
        columns += [f"{label}, first", f"{label}, last"]
    names = dict.fromkeys(name for norms in found.values() for name in norms)
    rows = []
    for name in names:
        cells: list[Any] = []
        for norms in found.values():
            if name in norms:
                ends = norms[name].first()[1], norms[name].last()[1]
                # Sorted by the logarithm, shown as the norm.
                cells += [(end, sentences.norm(end)) for end in ends]
            else:
                cells += [None, None]
        rows.append((name, *cells))
    return Table("Norms by parameter", tuple(columns), rows[:ROWS])


def _skipped(metrics: RunMetrics) -> Table:
    places = spread_out(len(metrics.skipped), ROWS) if metrics.skipped else []
    rows = [metrics.skipped[place] for place in places]
    title = "Steps that were not applied"
    if len(rows) < len(metrics.skipped):
        title += f" ({len(rows)} of {len(metrics.skipped)})"
    return Table(title, ("step", "why"), rows)


# Configuration


def config(run: Record) -> Record:
    """``run.json`` for the page: the command, groups of settings, and the rest."""
    shown: Record = {}
    arguments = command(run)
    if arguments is not None:
        shown["command"] = shlex.join(arguments)
    content = run.get("config")
    content = dict(content) if isinstance(content, dict) else {}
    settings = content.pop("settings", None)
    alphabet = content.pop("alphabet", None)
    if isinstance(settings, dict):
        shown["settings"] = settings
    if isinstance(alphabet, list):
        content["alphabet"] = f"{len(alphabet)} symbols"
    for name, value in content.items():
        if isinstance(value, dict):
            shown[name] = value
    plain = {name: value for name, value in content.items() if not isinstance(value, dict)}
    if plain:
        shown["config"] = plain
    for name, value in run.items():
        if name != "config":
            shown.setdefault(name, value)
    return shown
