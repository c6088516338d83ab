"""Numbers derived from the metrics of a training run, for its figures, page and sentences alike."""

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from rnnlab.studies.train_settings import FREE, TrainSettings

Record = dict[str, Any]

RUN, METRICS = "run.json", "metrics.jsonl"
"""The files of a run; its package, :mod:`rnnlab.training`, would load JAX."""

GRADIENT, PARAMETER = "log_norm.", "log_param_norm."
"""What the names of the norms of each parameter begin with."""

VALIDATION = "validation_"
BITS = "bits_per_symbol"
EXPONENT = "lyapunov_1"
POINTS = 300
"""Points of a curve at most; the records of longer ones share points."""

_HORIZON = re.compile(r"horizon(?:_(\d+))?")
_BY_LAG = re.compile(r"log_norm_by_lag(?:_(\d+))?")
_NO_NUMBER = object()


class Series(NamedTuple):
    """A metric: steps ``[N]`` and values ``[N]``, NaN where they were not finite."""

    steps: np.ndarray
    values: np.ndarray

    @property
    def finite(self) -> "Series":
        """The part whose values are finite."""
        kept = np.isfinite(self.values)
        return Series(self.steps[kept], self.values[kept])

    def last(self) -> tuple[int, float]:
        """The last finite value and its step."""
        finite = self.finite
        return int(finite.steps[-1]), float(finite.values[-1])

    def first(self) -> tuple[int, float]:
        """The first finite value and its step."""
        finite = self.finite
        return int(finite.steps[0]), float(finite.values[0])

    def end(self) -> float:
        """The mean of the last twentieth of the finite values, at most 100 of them."""
        values = self.finite.values
        return float(np.mean(values[-ending(len(values)) :]))


class Curve(NamedTuple):
    """A series with at most POINTS points, ``[X]`` each: the median and the range of each."""

    steps: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray
    merged: bool
    """Whether several records share a point."""


class LagLooks(NamedTuple):
    """The gradient of a layer by lag at K steps of training.

    Attributes:
        steps: ``[K]``, training steps.
        lags: ``[L]``, steps back from the loss.
        log_norm: ``[K, L]``, ln of the norm relative to lag 0; NaN where a norm is zero or missing.
    """

    steps: np.ndarray
    lags: np.ndarray
    log_norm: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class RunMetrics:
    """The metrics of a run.

    Attributes:
        series: the numbers by name, with at least one finite value each.
        empty: the names of the numbers of which none is finite.
        horizons: the horizon of the gradient by the number of the layer, which is None where there
            is one layer.
        looks: the gradient by lag, by the number of the layer.
        skipped: the steps that were not applied, and why.
        last_step: the last step with a record.
        planned: the steps that the run is to make; None if unknown.
        patience: validations without a lower loss after which it ends; None for never or unknown.
        clip: the largest norm of the gradient; None for none or if unknown.
        lags: the number of lags of the horizons; None if unknown.
        symbol: what the bits are counted for.
    """

    series: dict[str, Series]
    empty: tuple[str, ...]
    horizons: dict[int | None, Series]
    looks: dict[int | None, LagLooks]
    skipped: list[tuple[int, str]]
    last_step: int
    planned: int | None = None
    patience: int | None = None
    clip: float | None = None
    lags: int | None = None
    symbol: str = "symbol"

    @property
    def unit(self) -> str:
        """The unit of the loss; empty where it is unknown."""
        return "nats" if self.has_bits else ""

    @property
    def has_bits(self) -> bool:
        """Whether the loss in nats was recorded in bits as well."""
        pairs = (("loss", BITS), (VALIDATION + "loss", VALIDATION + BITS))
        known = [pair for pair in pairs if pair[0] in self.series and pair[1] in self.series]
        return bool(known) and all(self._is_in_bits(*pair) for pair in known)

    def _is_in_bits(self, loss: str, bits: str) -> bool:
        nats, other = self.series[loss], self.series[bits]
        if not np.array_equal(nats.steps, other.steps):
            return False
        both = np.isfinite(nats.values) & np.isfinite(other.values)
        return np.allclose(nats.values[both], math.log(2) * other.values[both], rtol=1e-3)

    @property
    def loss(self) -> dict[str, Series]:
        """The loss in training and on held-out data, as far as recorded."""
        return self._pair("loss")

    @property
    def best(self) -> tuple[int, int]:
        """The step of the lowest loss on held-out data, and the number of validations after it.

        The step is 0 where there is none.
        """
        series = self.series.get(VALIDATION + "loss")
        if series is None or not len(series.finite.steps):
            return 0, 0
        place = int(np.nanargmin(series.values))
        return int(series.steps[place]), len(series.steps) - 1 - place

    @property
    def stopped_early(self) -> bool:
        """Whether the last validation ended the run, as far as its records tell."""
        series = self.series.get(VALIDATION + "loss")
        if series is None or self.patience is None or self.planned is None:
            return False
        is_last = int(series.steps[-1]) == self.last_step < self.planned
        return is_last and self.best[1] >= self.patience

    def by_parameter(self, kind: str) -> dict[str, Series]:
        """The logarithms of the norms of each parameter; ``kind`` is GRADIENT or PARAMETER."""
        found = {}
        for name, series in self.series.items():
            if name.startswith(kind):
                found[name.removeprefix(kind)] = series
        return found

    @property
    def others(self) -> dict[str, dict[str, Series]]:
        """What has no figure of its own, in training and on held-out data, by name."""
        names = [name.removeprefix(VALIDATION) for name in self.series if not self._is_known(name)]
        return {name: self._pair(name) for name in dict.fromkeys(names)}

    def _is_known(self, name: str) -> bool:
        base = name.removeprefix(VALIDATION)
        if base == "loss" or name in ("gradient_norm", EXPONENT):
            return True
        if base == BITS and self.has_bits:
            return True
        is_horizon = any(self.series[name] is series for series in self.horizons.values())
        return is_horizon or name.startswith((GRADIENT, PARAMETER))

    def _pair(self, name: str) -> dict[str, Series]:
        known = {"training": name, "validation": VALIDATION + name}
        return {label: self.series[key] for label, key in known.items() if key in self.series}


def ending(count: int) -> int:
    """How many of ``count`` values the mean at the end is taken over."""
    return max(1, min(count // 20, 100))


def read_training(folder: Path) -> tuple[RunMetrics, Record]:
    """The metrics of the run in a directory, and its ``run.json``.

    A last line that is cut short, as of a run in progress, is left out. ValueError, in one
    sentence, for files that are damaged and for a run without metrics.
    """
    run = _read_json(folder / RUN)
    records = list(_read_lines(folder / METRICS))
    if not records:
        raise ValueError(f"{folder} holds a run without metrics yet; wait for its first steps")
    return run_metrics(records, run), run


def _read_json(path: Path) -> Record:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged; restore it from a copy, or start a new run")
    return content


def _read_lines(path: Path) -> Iterable[Record]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    whole = content[: content.rfind(b"\n") + 1]
    for index, line in enumerate(whole.splitlines(), 1):
        try:
            record = json.loads(line)
            record["step"] = int(record["step"])
        except (ValueError, TypeError, KeyError, OverflowError):
            raise ValueError(
                f"{path}, line {index} is not a record of a step; restore the file from a copy"
            ) from None
        yield record


def run_metrics(records: Sequence[Record], run: Mapping[str, Any] | None = None) -> RunMetrics:
    """The metrics in ``records``, with what ``run.json`` says about the run.

    ValueError for no records.
    """
    if not records:
        raise ValueError("the history is empty; give the metrics of a run that has made steps")
    numbers: dict[str, tuple[list, list]] = {}
    by_lag: dict[int | None, list[tuple[int, list, list]]] = {}
    horizons: dict[int | None, str] = {}
    skipped = []
    about = _about(run or {})
    for record in records:
        step = record["step"]
        lags = record.get("lags")
        if isinstance(lags, list):
            # A measurement of the reach, beside which these names mean what they say.
            for name, value in record.items():
                if (match := _BY_LAG.fullmatch(name)) and isinstance(value, list):
                    by_lag.setdefault(_layer(match), []).append((step, lags, value))
                elif match := _HORIZON.fullmatch(name):
                    horizons[_layer(match)] = name
            if _is_count(record.get("length")):
                about["lags"] = record["length"]
                record = {name: record[name] for name in record if name != "length"}
        for name, value in record.items():
            number = _number(value)
            if number is not _NO_NUMBER and name != "step":
                steps, values = numbers.setdefault(name, ([], []))
                steps.append(step)
                values.append(number)
        if isinstance(record.get("skipped"), str):
            skipped.append((step, record["skipped"]))
    series, empty = _series(numbers)
    return RunMetrics(
        series=series,
        empty=empty,
        horizons={layer: series[name] for layer, name in horizons.items() if name in series},
        looks={layer: found for layer in by_lag if (found := _lag_looks(by_lag[layer]))},
        skipped=skipped,
        last_step=max(record["step"] for record in records),
        **about,
    )


def _series(numbers: Mapping[str, tuple[list, list]]) -> tuple[dict[str, Series], tuple[str, ...]]:
    """The metrics with a finite value, and the names of the others."""
    kept, empty = {}, []
    for name, (steps, values) in numbers.items():
        series = Series(np.array(steps), np.array(values))
        if np.isfinite(series.values).any():
            kept[name] = series
        else:
            empty.append(name)
    return kept, tuple(empty)


def _number(value: Any) -> Any:
    """A float, NaN for what is not finite; _NO_NUMBER for lists and texts."""
    if value is None:
        return math.nan
    if not isinstance(value, int | float):
        return _NO_NUMBER
    try:
        number = float(value)
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _layer(match: re.Match[str]) -> int | None:
    return int(match[1]) if match[1] else None


def _lag_looks(looks: list[tuple[int, list, list]]) -> LagLooks | None:
    """The looks at one layer; None where none has a finite gradient beyond lag 0."""
    rows, lags = {}, set()
    for step, at, log_norms in looks:
        by_lag = {}
        for lag, value in zip(at, log_norms, strict=False):
            number = _number(value)
            if _is_count(lag) and number is not _NO_NUMBER:
                by_lag[lag] = number
        start = by_lag.get(0, math.nan)
        rows[step] = {lag: number - start for lag, number in by_lag.items()}
        lags |= by_lag.keys()
    ordered = sorted(lags)
    grid = np.array([[row.get(lag, math.nan) for lag in ordered] for row in rows.values()])
    if not np.isfinite(grid[:, 1:]).any():
        return None
    return LagLooks(np.array(list(rows)), np.array(ordered), grid)


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _about(run: Mapping[str, Any]) -> dict[str, Any]:
    """What ``run.json`` says, as far as it has the expected form."""
    config = _mapping(run.get("config"))
    settings = _mapping(config.get("settings"))
    options = _mapping(run.get("options"))
    clips = [found.get("clip") for found in (run, config, settings)]
    clip = next((clip for clip in clips if _is_positive(clip)), None)
    length, context = settings.get("length"), settings.get("context")
    lags = length + context if _is_count(length) and _is_count(context) else None
    planned = options.get("steps")
    patience = options.get("patience", settings.get("patience"))
    return {
        "planned": planned if _is_count(planned) else None,
        "patience": patience if _is_count(patience) else None,
        "clip": clip,
        "lags": lags,
        "symbol": "character" if "alphabet" in settings else "symbol",
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_positive(value: Any) -> bool:
    number = _number(value)
    return number is not _NO_NUMBER and number > 0


def curve(series: Series, most: int = POINTS) -> Curve:
    """At most ``most`` points that keep the extremes.

    Where there are more records, neighbours share a point with their median and range.
    """
    count = len(series.steps)
    if count <= most:
        return Curve(series.steps, series.values, series.values, series.values, merged=False)
    steps, points = [], []
    for part in np.array_split(np.arange(count), most):
        values = series.values[part]
        values = values[np.isfinite(values)]
        steps.append(series.steps[part[len(part) // 2]])
        if values.size:
            points.append((np.median(values), values.min(), values.max()))
        else:
            points.append((math.nan,) * 3)
    # The line begins and ends where the records do.
    steps[0], steps[-1] = series.steps[0], series.steps[-1]
    middle, low, high = np.array(points).T
    return Curve(np.array(steps), middle, low, high, merged=True)


def in_decades(values: np.ndarray) -> np.ndarray:
    """log10; NaN where a value is not positive."""
    positive = np.where(values > 0, values, math.nan)
    return np.log10(positive)


def is_wide(series: Iterable[Series]) -> bool:
    """Whether a linear axis would hide most of the values, which are all positive.

    So it is where the largest are far from the others, and where most range over more than a
    decade and a half while they fall. What rises, such as an accuracy, is seen at its end.
    """
    all_series = list(series)
    values = np.concatenate([one.finite.values for one in all_series])
    low, median, high = np.quantile(values, (0.05, 0.5, 0.95))
    falls = all(one.end() < one.first()[1] for one in all_series)
    is_spread = values.max() > 100 * median or (falls and high > 30 * low)
    return bool(values.min() > 0 and is_spread)


def spread_out(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` positions, evenly spaced, with the first and the last one."""
    places = np.linspace(0, count - 1, min(count, most))
    return sorted(set(map(round, places)))


def command(run: Mapping[str, Any]) -> list[str] | None:
    """The command line that starts an equal run; None for a run of another program."""
    settings = _mapping(_mapping(run.get("config")).get("settings"))
    defaults = dataclasses.asdict(TrainSettings())
    # Further options are those of fit, which some settings lead to.
    options = _mapping(run.get("options"))
    settings = {**settings, **{name: options[name] for name in FREE if name in options}}
    if settings.keys() != defaults.keys():
        return None
    arguments = ["rnnlab", "train"]
    for name, default in defaults.items():
        value = settings[name]
        if value != default:
            arguments += ["--set", f"{name}={_as_argument(value)}"]
    return arguments


def _as_argument(value: Any) -> str:
    """A value of ``--set``: JSON, or a text that is not JSON."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        json.loads(value)
    except ValueError:
        return value
    return json.dumps(value)
