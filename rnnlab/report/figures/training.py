"""The figure of a training run: loss, gradient, norms by parameter, reach."""

import functools
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rnnlab.report.figures.style import (
    COLOURS,
    STYLE,
    decade_ticks,
    drawing,
    grid_lines,
    layout,
    plain,
    reference_line,
    title,
)
from rnnlab.report.training import (
    EXPONENT,
    GRADIENT,
    PARAMETER,
    LagLooks,
    RunMetrics,
    Series,
    curve,
    in_decades,
    is_wide,
    spread_out,
)
from rnnlab.report.training_sentences import title as finding

PANEL = (5.2, 3.5)
LINES = 16
"""Parameters, and further metrics, that are drawn; the page has more."""
LOOKS = 6
"""Looks at the gradient by lag that are drawn."""
LAYERS = 4
FLOOR = 12
"""Decades above and below lag 0 that are drawn."""
MARKED = 40
"""A line with at most so many points has markers."""
DASHES: Any = ("-", "--", ":", "-.")
NARROW = 0.6
"""An axis of norms spans so many decades at least, so that it has ticks."""
HIDDEN = "_"
"""The label of what has no entry in the legend."""
LAST_SHADE = 0.85
"""The end of the colour scale, yellow, is pale on white paper."""

Draw = Callable[[Axes], None]


def draw(metrics: RunMetrics, folder: Path) -> bool:
    """Writes ``training.png`` and ``.svg``; returns whether there is anything to draw."""
    panels = _panels(metrics)
    if not panels:
        return False
    rows, columns, size = _grid(len(panels))
    with warnings.catch_warnings():
        # The name of a metric may have letters that the font lacks; they are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        with drawing(folder / "training", rows, columns, size) as (figure, axes):
            _fill(figure, axes, panels, metrics)
    return True


def training(metrics: RunMetrics) -> Figure:
    """The figure itself; ValueError where no metric has a finite number."""
    panels = _panels(metrics)
    if not panels:
        raise ValueError("the history has no finite number to draw; give one of a run that has")
    rows, columns, size = _grid(len(panels))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        _fill(figure, axes, panels, metrics)
        for spare in axes[len(panels) :]:
            spare.remove()
    return figure


def _grid(count: int) -> tuple[int, int, tuple[float, float]]:
    """Rows, columns and size of the figure."""
    rows, columns = (count // 2, 2) if count in (2, 4) else layout(count)
    return rows, columns, (PANEL[0] * columns, PANEL[1] * rows + 0.5)


def _fill(figure: Figure, axes: np.ndarray, panels: list[Draw], metrics: RunMetrics) -> None:
    # The panels come first: there may be more places than panels.
    for place, panel in zip(axes, panels, strict=False):
        panel(place)
    title(figure, f"{finding(metrics)}.", 62 * _grid(len(panels))[1])


def _panels(metrics: RunMetrics) -> list[Draw]:
    """One function for each panel that has something to show."""
    panels: list[Draw] = []
    if metrics.loss:
        panels.append(functools.partial(_loss, metrics))
    if "gradient_norm" in metrics.series:
        panels.append(functools.partial(_gradient, metrics))
    if metrics.horizons:
        panels.append(functools.partial(_horizons, metrics))
    # The two panels with long legends then share a row.
    for kind, name in ((GRADIENT, "gradient norm ‖∂L/∂θ‖"), (PARAMETER, "norm ‖θ‖")):
        norms = metrics.by_parameter(kind)
        if norms:
            panels.append(functools.partial(_parameters, norms, name))
    if EXPONENT in metrics.series:
        panels.append(functools.partial(_exponent, metrics.series[EXPONENT]))
    for layer, looks in list(metrics.looks.items())[:LAYERS]:
        panels.append(functools.partial(_by_lag, layer, looks))
    for name, pair in list(metrics.others.items())[:LINES]:
        panels.append(functools.partial(_other, name, pair))
    return panels


def _loss(metrics: RunMetrics, axes: Axes) -> None:
    is_log = _pair(axes, metrics.loss)
    unit = f" ({metrics.unit})" if metrics.unit else ""
    axes.set_ylabel(f"loss{unit}")
    axes.set_title("Loss", fontsize=10)
    if metrics.has_bits and not is_log:
        axes.spines["right"].set_visible(True)
        right = axes.secondary_yaxis("right", functions=(_to_bits, _to_nats))
        right.set_ylabel(f"bits per {metrics.symbol}")
    _mark_skipped(axes, metrics)
    _legend(axes)


def _to_bits(nats: Any) -> Any:
    return nats / math.log(2)


def _to_nats(bits: Any) -> Any:
    return bits * math.log(2)


def _gradient(metrics: RunMetrics, axes: Axes) -> None:
    series = metrics.series["gradient_norm"]
    if not (series.finite.values > 0).any():
        # A log axis has no place for zero.
        _line(axes, series, COLOURS[0])
    else:
        _line(axes, series, COLOURS[0], log=True)
        if metrics.clip is not None:
            level = math.log10(metrics.clip)
            reference_line(axes, level)
            _say_at(axes, level, f"clipped to {metrics.clip:g}")
        _decades(axes)
    axes.set(ylabel="gradient norm ‖∂L/∂θ‖")
    axes.set_title("Gradient of all parameters, before clipping", fontsize=10)
    _mark_skipped(axes, metrics)
    _legend(axes)
    _steps(axes)


def _parameters(norms: Mapping[str, Series], label: str, axes: Axes) -> None:
    for place, (name, series) in enumerate(list(norms.items())[:LINES]):
        logs = Series(series.steps, series.values / math.log(10))
        dashes = DASHES[place // len(COLOURS) % len(DASHES)]
        _line(axes, logs, COLOURS[place % len(COLOURS)], _plain(name), linestyle=dashes)
    _decades(axes)
    _steps(axes)
    more = f" (the first {LINES} of {len(norms)})" if len(norms) > LINES else ""
    axes.set_ylabel(label)
    axes.set_title(f"By parameter{more}", fontsize=10)
    # Below the panel: a list this long would cover the lines.
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.19),
        ncols=2,
        fontsize=8,
        frameon=False,
        handlelength=2.6,
    )


def _by_lag(layer: int | None, looks: LagLooks, axes: Axes) -> None:
    chosen = spread_out(len(looks.steps), LOOKS)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, LAST_SHADE, max(len(chosen), 2)))
    # A log axis has no place for lag 0, where all are 1.
    beyond = looks.lags > 0
    for colour, place in zip(colours, chosen, strict=False):
        values = looks.log_norm[place][beyond] / math.log(10)
        label = str(looks.steps[place])
        axes.plot(looks.lags[beyond], values, "o-", color=colour, markersize=4, label=label)
    reference_line(axes, -3)
    axes.set_xscale("log")
    plain(axes.xaxis, (1, 2, 5))
    axes.set(xlabel="lag (steps back from the loss)", ylabel="‖∂L/∂s‖ relative to lag 0")
    of = "" if layer is None else f" of layer {layer}"
    axes.set_title(f"Gradient of the state{of}; dotted: 1/1000", fontsize=10)
    bottom, top = axes.get_ylim()
    axes.set_ylim(max(bottom, -FLOOR), min(top, FLOOR))
    _decades(axes)
    axes.legend(title="training step", fontsize=8, title_fontsize=8, frameon=False)


def _horizons(metrics: RunMetrics, axes: Axes) -> None:
    for place, (layer, series) in enumerate(metrics.horizons.items()):
        name = "" if layer is None else f"layer {layer}"
        _line(axes, series, COLOURS[(place + 1) % len(COLOURS)], name)
    if metrics.lags is not None:
        reference_line(axes, metrics.lags)
        _say_at(axes, metrics.lags, "whole sequence")
    # The text at the top needs room.
    axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
    axes.set_ylabel("horizon (steps)")
    axes.set_title("Lag at which the gradient is below 1/1000", fontsize=10)
    _steps(axes)
    _legend(axes)
    grid_lines(axes)


def _exponent(series: Series, axes: Axes) -> None:
    _line(axes, series, COLOURS[1])
    reference_line(axes, 0)
    axes.set_ylabel("λ₁ (nats per step)")
    axes.set_title("First Lyapunov exponent; dotted: 0", fontsize=10)
    _steps(axes)
    grid_lines(axes)


def _other(name: str, pair: Mapping[str, Series], axes: Axes) -> None:
    _pair(axes, pair)
    # A name may be too long for the side.
    axes.set_title(_plain(name), fontsize=10)
    _legend(axes)


def _pair(axes: Axes, pair: Mapping[str, Series]) -> bool:
    """A metric in training and on held-out data; returns whether its axis is logarithmic."""
    is_log = is_wide(pair.values())
    colours = {"training": COLOURS[1], "validation": COLOURS[2]}
    for label, series in pair.items():
        name = label if len(pair) > 1 or label == "validation" else ""
        _line(axes, series, colours[label], name, log=is_log)
    if is_log:
        _decades(axes)
    else:
        grid_lines(axes)
    _steps(axes)
    return is_log


def _line(
    axes: Axes,
    series: Series,
    colour: str,
    name: str = "",
    *,
    log: bool = False,
    **style: Any,
) -> None:
    """The median of each point, and the range as a band where several records share a point."""
    drawn = curve(series)
    values = [drawn.middle, drawn.low, drawn.high]
    if log:
        values = [in_decades(part) for part in values]
    middle, low, high = values
    finite = np.isfinite(middle)
    if finite.sum() <= MARKED:
        # A point between two gaps has no line.
        style |= {"marker": "o", "markersize": 3.5}
    axes.plot(drawn.steps, middle, color=colour, linewidth=1.4, label=name or HIDDEN, **style)
    if drawn.merged:
        axes.fill_between(drawn.steps, low, high, color=colour, alpha=0.22, linewidth=0)


def _mark_skipped(axes: Axes, metrics: RunMetrics) -> None:
    """A line at each step that was not applied; in a long list, at some of them."""
    places = spread_out(len(metrics.skipped), MARKED) if metrics.skipped else []
    for index, place in enumerate(places):
        step, _ = metrics.skipped[place]
        label = "step not applied" if index == 0 else HIDDEN
        axes.axvline(step, color=COLOURS[4], linestyle="--", linewidth=0.9, label=label)


def _say_at(axes: Axes, y: float, text: str) -> None:
    """A short text on a reference line, at the right end."""
    axes.annotate(
        text,
        (1, y),
        xycoords=("axes fraction", "data"),
        xytext=(-3, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color="0.35",
    )


def _decades(axes: Axes) -> None:
    """Ticks for log10 values, on an axis that is long enough for some."""
    low, high = axes.get_ylim()
    room = max(NARROW - (high - low), 0) / 2
    axes.set_ylim(low - room, high + room)
    decade_ticks(axes)


def _steps(axes: Axes) -> None:
    axes.set_xlabel("training step")
    low, high = axes.get_xlim()
    if high - low < 1:
        # One record: whole steps around it.
        axes.set_xlim(low - 1, high + 1)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, frameon=False)


def _plain(name: str) -> str:
    """A name that matplotlib draws as it is: neither mathematics nor hidden, at most 60 letters."""
    printable = "".join(letter if letter.isprintable() else " " for letter in name)
    if len(printable) > 60:
        printable = f"{printable[:40]}…{printable[-19:]}"
    # A label that begins with an underscore is left out of the legend, one with $ is mathematics.
    visible = f" {printable}" if printable.startswith("_") else printable
    return visible.replace("$", r"\$")
