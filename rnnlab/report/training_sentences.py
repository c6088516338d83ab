"""Sentences about a training run, from its metrics."""

import math

import numpy as np

from rnnlab._wording import counted, percent, steps
from rnnlab.report.page.elements import power
from rnnlab.report.sentences import short, verdict
from rnnlab.report.training import (
    EXPONENT,
    GRADIENT,
    PARAMETER,
    VALIDATION,
    RunMetrics,
    Series,
)

LEVEL = 5e-3
"""A change below this part of a number is none."""


def title(metrics: RunMetrics) -> str:
    """What became of the loss, in one line."""
    parts = []
    if training := _training(metrics):
        parts.append(f"The loss {training}")
    if held_out := _held_out(metrics):
        parts.append(f"held-out {held_out}" if parts else f"The held-out loss is {held_out}")
    return "; ".join(parts) or f"No loss was recorded up to step {metrics.last_step}"


def findings(metrics: RunMetrics) -> list[str]:
    """Everything else, a sentence for each."""
    told = [
        _progress(metrics),
        _skipped(metrics),
        gradient(metrics),
        *(f"{reach(layer, series, metrics.lags)}." for layer, series in metrics.horizons.items()),
        exponent(metrics),
        parameters(metrics),
    ]
    return [sentence for sentence in told if sentence]


def _training(metrics: RunMetrics) -> str:
    series = metrics.series.get("loss")
    if series is None:
        return "is finite in no record" if "loss" in metrics.empty else ""
    unit = f" {metrics.unit}" if metrics.unit else ""
    start, value = series.first()
    last = int(series.steps[-1])
    if len(series.finite.steps) == 1:
        return f"is {short(value)}{unit} at step {start}"
    text = f"{_change(value, series.end())}{unit} in {steps(last)}"
    if math.isnan(series.values[-1]):
        text += f", and is not finite after step {series.last()[0]}"
    return text


def _held_out(metrics: RunMetrics) -> str:
    """The last loss on held-out data, and the lowest."""
    series = metrics.series.get(VALIDATION + "loss")
    if series is None:
        return ""
    step, value = series.last()
    finite = series.finite
    place = int(np.argmin(finite.values))
    best, lowest = int(finite.steps[place]), float(finite.values[place])
    text = f"{in_units(metrics, value)} at step {step}"
    if len(finite.steps) == 1:
        return text
    if value == lowest:
        return f"{text}, the lowest so far"
    return f"{text}, the lowest {short(lowest)} at step {best}"


def in_units(metrics: RunMetrics, value: float) -> str:
    """A loss with its units, where these are known."""
    if not metrics.has_bits:
        return short(value)
    return f"{short(value)} nats ({short(value / math.log(2))} bits per {metrics.symbol})"


def _change(start: float, end: float) -> str:
    """How a number changed, such as "fell from 4.9 to 1.6"."""
    if abs(end - start) <= LEVEL * max(abs(start), abs(end)):
        return f"stayed near {short(end)}"
    verb = "fell" if end < start else "rose"
    return f"{verb} from {short(start)} to {short(end)}"


def _progress(metrics: RunMetrics) -> str:
    if metrics.planned is None or metrics.last_step >= metrics.planned:
        return ""
    if metrics.stopped_early:
        step, since = metrics.best
        return (
            f"The run stopped early, after step {metrics.last_step} of {metrics.planned}: "
            f"{counted(since, 'validation')} in a row had no lower loss than that at step {step}."
        )
    return f"The run has recorded {metrics.last_step} of its {steps(metrics.planned)}."


def _skipped(metrics: RunMetrics) -> str:
    if not metrics.skipped:
        return ""
    step, why = metrics.skipped[-1]
    if len(metrics.skipped) == 1:
        return f"Step {step} was not applied, since {why}."
    return f"{len(metrics.skipped)} steps were not applied; the last was step {step}, since {why}."


def clipped_share(metrics: RunMetrics) -> float | None:
    """The share of the recorded steps whose gradient was longer than the threshold."""
    series = metrics.series.get("gradient_norm")
    if metrics.clip is None or series is None:
        return None
    return float(np.mean(series.finite.values > metrics.clip))


def gradient(metrics: RunMetrics) -> str:
    """The norm of the whole gradient, and how often it was clipped."""
    series = metrics.series.get("gradient_norm")
    if series is None:
        return ""
    finite = series.finite
    if len(finite.steps) == 1:
        text = f"The norm of the gradient is {short(float(finite.values[0]))}"
    else:
        place = int(np.argmax(finite.values))
        text = (
            f"The norm of the gradient has a median of {short(float(np.median(finite.values)))}; "
            f"the largest is {short(float(finite.values[place]))}, at step {finite.steps[place]}"
        )
    share = clipped_share(metrics)
    if share is not None:
        # A run may record only some of its steps.
        of = "steps" if len(series.steps) == metrics.last_step else "recorded steps"
        text += f"; {percent(share)} of the {of} were clipped to {short(metrics.clip)}"
    return f"{text}."


def reach(layer: int | None, series: Series, lags: int | None) -> str:
    """How the horizon of a layer changed."""
    of = "" if layer is None else f" in layer {layer}"
    (start, first), (end, last) = series.first(), series.last()
    if start == end:
        return f"The horizon of the gradient{of} is {_horizon(last, lags)} steps at step {end}"
    if first == last:
        change = f"is {_horizon(last, lags)} steps at step {start} and at step {end}"
    else:
        verb = "fell" if last < first else "rose"
        change = f"{verb} from {_horizon(first, lags)} to {_horizon(last, lags)} steps"
        change += f" between steps {start} and {end}"
    values = series.finite.values
    low, high = float(values.min()), float(values.max())
    if low < min(first, last) or high > max(first, last):
        change += f", with a range of {_horizon(low, lags)} to {_horizon(high, lags)}"
    return f"The horizon of the gradient{of} {change}"


def _horizon(value: float, lags: int | None) -> str:
    beyond = lags is not None and value >= lags
    return f"≥ {value:g}" if beyond else f"{value:g}"


def horizons(metrics: RunMetrics) -> str:
    """The first and the last horizon of each layer, in one line."""
    parts = []
    for layer, series in metrics.horizons.items():
        (start, first), (end, last) = series.first(), series.last()
        name = "" if layer is None else f"layer {layer} "
        change = _horizon(last, metrics.lags)
        if start != end:
            change = f"{_horizon(first, metrics.lags)} → {change}"
        parts.append(f"{name}{change}")
    steps_of = [series.steps for series in metrics.horizons.values()]
    start, end = min(map(np.min, steps_of)), max(map(np.max, steps_of))
    when = f"at step {end}" if start == end else f"from step {start} to step {end}"
    return f"Horizon of the gradient {when} (steps): {', '.join(parts)}"


def exponent(metrics: RunMetrics) -> str:
    """How λ₁ changed, and what it means for nearby trajectories."""
    series = metrics.series.get(EXPONENT)
    if series is None:
        return ""
    (start, first), (end, last) = series.first(), series.last()
    does = verdict({"exponent": last, "spread": 0})
    if start == end:
        return f"λ₁ is {short(last)} nats per step at step {end}: nearby trajectories {does}."
    return (
        f"λ₁ {_change(first, last)} nats per step between steps {start} and {end}: at the end "
        f"nearby trajectories {does}."
    )


def parameters(metrics: RunMetrics) -> str:
    """Which parameter has the largest gradient at the end, which the smallest, and what grew."""
    norms = metrics.by_parameter(GRADIENT)
    if len(norms) < 2:
        return ""
    last = {name: series.last() for name, series in norms.items()}
    largest = max(last, key=lambda name: last[name][1])
    smallest = min(last, key=lambda name: last[name][1])
    step = last[largest][0]
    text = (
        f"At step {step} the norm of the gradient is largest for {largest} "
        f"({norm(last[largest][1])}) and smallest for {smallest} ({norm(last[smallest][1])})"
    )
    growth = {}
    for name, series in metrics.by_parameter(PARAMETER).items():
        # A bias begins at zero, of which nothing is a multiple.
        if math.isfinite(series.values[0]):
            growth[name] = series.last()[1] - series.first()[1]
    most = max(growth, key=growth.__getitem__, default=None)
    if most is not None and growth[most] > LEVEL:
        text += f"; of the parameters {most} grew most, by a factor of {norm(growth[most])}"
    return f"{text}."


def norm(log_norm: float) -> str:
    """exp of a logarithm in words, also beyond the range of floats."""
    return power(log_norm / math.log(10))


def norms(by_parameter: dict[str, Series], what: str) -> str:
    """The largest and the smallest of the last norms, in one line."""
    last = {name: series.last() for name, series in by_parameter.items()}
    largest = max(last, key=lambda name: last[name][1])
    text = f"Largest {what} at step {last[largest][0]}: {largest} ({norm(last[largest][1])})"
    if len(last) == 1:
        return text
    smallest = min(last, key=lambda name: last[name][1])
    return f"{text}; smallest: {smallest} ({norm(last[smallest][1])})"
