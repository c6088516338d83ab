"""The settings of ``rnnlab train`` and their checks; free of JAX, so that help comes at once."""

import dataclasses
import json
import math
import sys
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from rnnlab._wording import meant
from rnnlab.cells.registry import INITS, REGISTRY, Init

FREE = ("steps", "keep", "log_every", "most_skipped")
"""Settings with which a run may go on that were others before."""

LONGEST = 60
"""Characters of a value that an error shows."""


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """A language model of characters, its data, and how it is trained.

    Raises ValueError, in one sentence, for a value that is not valid.

    Attributes:
        data: "text" (the source code of Python's standard library, with whole files held out), or
            the path of a UTF-8 file, whose last tenth is held out.
        alphabet: maximum number of symbols; rarer characters share the last one.
        cell: a name of the registry, such as rnn, lstm or gru.
        layers: recurrent layers.
        hidden_size: hidden units H of each layer.
        embedding_size: features of a character; null for H.
        tied: whether embedding and readout share their matrix.
        residual: whether each layer adds its inputs to its outputs, from the second on.
        dropout: the probability of dropping a feature of the embedding, between layers, and before
            the readout, in training.
        init: how initial weights are drawn, as in ``rnnlab gradients``.
        length: k1, new characters of each stream in a batch; the state is carried on.
        context: further characters before them, through which the gradient flows (k2 − k1).
        batch_size: streams side by side B.
        steps: training steps.
        optimiser: adam, adamw, rmsprop or sgd (with momentum .9).
        learning_rate: after the warm-up.
        schedule: constant, or cosine, which falls to a tenth at the last step.
        warmup: steps in which the learning rate rises from 0.
        weight_decay: of the matrices, for adamw.
        clip: largest norm of the gradient; null for none.
        accumulate: batches in one step.
        average: decay of a moving average of the parameters, which is then what is evaluated; null
            for none.
        precision: float32; bfloat16 computes in it and keeps float32 parameters; float64.
        seed: of the initial weights, the order of the data, and dropout.
        validate_every: steps between two validations; null for none.
        validation_batches: batches of the held-out text in one validation.
        patience: validations without a lower loss, after which training ends; null for never.
        checkpoint_every: steps between two checkpoints.
        keep: the number of checkpoints that are kept.
        log_every: steps between two records of the metrics.
        watch_every: steps between two measurements of how far back the gradient reaches, and of the
            first Lyapunov exponent; null for none.
        most_skipped: steps in a row that are not finite, after which training ends.
    """

    data: str = "text"
    alphabet: int = 128
    cell: str = "lstm"
    layers: int = 1
    hidden_size: int = 128
    embedding_size: int | None = None
    tied: bool = False
    residual: bool = False
    dropout: float = 0.0
    init: Init = "rnnlab"
    length: int = 100
    context: int = 0
    batch_size: int = 32
    steps: int = 2000
    optimiser: Literal["adam", "adamw", "rmsprop", "sgd"] = "adam"
    learning_rate: float = 2e-3
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: int = 0
    weight_decay: float = 0.0
    clip: float | None = 1.0
    accumulate: int = 1
    average: float | None = None
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    seed: int = 0
    validate_every: int | None = 200
    validation_batches: int = 20
    patience: int | None = None
    checkpoint_every: int = 200
    keep: int = 3
    log_every: int = 1
    watch_every: int | None = None
    most_skipped: int = 10

    def __post_init__(self) -> None:
        if not isinstance(self.data, str) or not self.data:
            told = "empty" if self.data == "" else _shown(self.data)
            raise ValueError(f'data is {told}; give "text" or the path of a UTF-8 file')
        _choice("cell", self.cell, REGISTRY)
        _choice("init", self.init, INITS)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            choices = typing.get_args(field.type)
            if typing.get_origin(field.type) is Literal:
                _choice(field.name, value, choices)
        for name in _AT_LEAST_1:
            _whole(name, getattr(self, name), 1)
        for name in ("context", "warmup"):
            _whole(name, getattr(self, name), 0)
        _whole("seed", self.seed, 0, below=2**32)
        for name in ("embedding_size", "validate_every", "patience", "watch_every"):
            if getattr(self, name) is not None:
                _whole(name, getattr(self, name), 1)
        _whole("alphabet", self.alphabet, 2)
        for name in ("tied", "residual"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {_shown(getattr(self, name))}; give true or false")
        self._check_numbers()

    def _check_numbers(self) -> None:
        _number("learning_rate", self.learning_rate)
        _number("weight_decay", self.weight_decay, zero=True)
        if self.clip is not None:
            _number("clip", self.clip)
        _number("dropout", self.dropout, zero=True, below=1)
        if self.average is not None:
            _number("average", self.average, below=1)
        if self.patience is not None and self.validate_every is None:
            raise ValueError("patience needs validations; give validate_every, or patience=null")
        if self.weight_decay and self.optimiser != "adamw":
            raise ValueError(
                f"weight_decay is for adamw, but optimiser is {self.optimiser}; give "
                "optimiser=adamw, or weight_decay=0"
            )


_AT_LEAST_1 = (
    "layers", "hidden_size", "length", "batch_size", "steps", "accumulate", "validation_batches",
    "checkpoint_every", "keep", "log_every", "most_skipped",
)  # fmt: skip


_OPTIONAL = tuple(
    field.name for field in dataclasses.fields(TrainSettings) if "None" in str(field.type)
)
"""The settings that may be None."""


def from_mapping(values: Mapping[str, Any], base: TrainSettings | None = None) -> TrainSettings:
    """``base``, by default the default settings, with other values; "none" is None, where allowed.

    ValueError for an unknown name, with the one that was probably meant.
    """
    for name in values:
        check_name(name)
    for name, value in values.items():
        if name in _OPTIONAL and str(value) in ("none", "None"):
            values = {**values, name: None}
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        # A larger one is not a finite float, and the check of its setting says so.
        if is_whole and _takes_floats(name) and abs(value) < sys.float_info.max:
            values = {**values, name: float(value)}
    return dataclasses.replace(base or TrainSettings(), **values)


def check_name(name: str) -> None:
    """ValueError unless there is a setting of that name."""
    known = [field.name for field in dataclasses.fields(TrainSettings)]
    if name not in known:
        raise ValueError(
            f"there is no setting {_shown(name)}{meant(name, known)}; choose from "
            f"{', '.join(sorted(known))}"
        )


def read_config(path: Path) -> dict[str, Any]:
    """The values in a JSON file; ValueError, with the line, where it holds something else."""
    try:
        # Some editors begin a file with a byte order mark, which belongs to no JSON.
        text = path.read_text(encoding="utf-8-sig")
    except OSError as fault:
        raise ValueError(
            f"{path} cannot be read ({fault.strerror}); give a JSON file of settings"
        ) from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8; give a JSON file of settings") from None
    try:
        values = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as fault:
        raise ValueError(
            f"{path}, line {fault.lineno}: {fault.msg}; give a JSON object of settings"
        ) from None
    except _TwiceError as fault:
        raise ValueError(f"{path} names {fault} twice; give it once") from None
    except (ValueError, RecursionError):
        # Numbers of thousands of digits, and thousands of brackets.
        raise ValueError(f"{path} is not read; give a JSON object of settings") from None
    if not isinstance(values, dict):
        raise ValueError(f'{path} holds no JSON object; give one such as {{"steps": 1000}}')
    return values


class _TwiceError(Exception):
    """A name that a JSON object holds twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise _TwiceError(_shown(name))
        values[name] = value
    return values


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """``key=value`` as settings: values are JSON, and anything else is text.

    >>> parse_assignments(["steps=120", "cell=gru", "clip=null"])
    {'steps': 120, 'cell': 'gru', 'clip': None}
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set {assignment} has no value; write --set name=value")
        try:
            values[name.strip()] = json.loads(text)
        except (ValueError, RecursionError):
            values[name.strip()] = text
    return values


def _takes_floats(name: str) -> bool:
    field = TrainSettings.__dataclass_fields__[name]
    return field.type in (float, float | None)


def _choice(name: str, value: Any, choices: Iterable[str]) -> None:
    if value not in tuple(choices):
        raise ValueError(
            f"{name} is {_shown(value)}{meant(str(value), choices)}; choose from "
            f"{', '.join(choices)}"
        )


def _whole(name: str, value: Any, least: int, below: int = 2**31) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(
            f"{name} is {_shown(value)}; it must be an integer of at least {least}{_or_none(name)}"
        )
    if value >= below:
        power = below.bit_length() - 1
        raise ValueError(f"{name} is {_shown(value)}; it must be below 2**{power}")


def _number(name: str, value: Any, *, zero: bool = False, below: float = math.inf) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # An integer can be larger than any float.
    is_number = is_number and value <= sys.float_info.max
    if is_number and (value > 0 or (zero and value == 0)) and value < below:
        return
    least = "of at least 0" if zero else "above 0"
    kind, limit = ("finite number", "") if below == math.inf else ("number", f" and below {below}")
    raise ValueError(
        f"{name} is {_shown(value)}; it must be a {kind} {least}{limit}{_or_none(name)}"
    )


def _or_none(name: str) -> str:
    return ", or none" if name in _OPTIONAL else ""


def _shown(value: Any) -> str:
    """``value`` in an error, as JSON writes it, in one short line."""
    text = repr(value) if isinstance(value, str | float) else json.dumps(value, default=repr)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
