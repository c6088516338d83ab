"""What the studies can be told, and its checks; kept free of JAX so that the command line answers at once."""

import dataclasses
import math
from typing import Literal

from rnnlab.cells.registry import INITS, REGISTRY, Init

UNTRAINED, TRAINED = "untrained", "trained"
"""When a network is measured."""


@dataclasses.dataclass(frozen=True)
class StudySettings:
    """What every study is told: which networks, and what they read.

    Raises ValueError, in one sentence, for an unknown cell, repeated or no cells, and sizes that are no sizes.

    Attributes:
        cells: any of rnn, lstm, gru, leaky-rnn, relu-rnn, irnn, gru-before, peephole-lstm, layernorm-lstm.
        hidden_size: hidden units H.
        batch_size: sequences in a batch B.
        seeds: how many seeds, counted from 0; each draws weights and sequences of its own.
        data: "text" (the source of Python's standard library, as characters), "noise", or the path of a UTF-8 file.
        init: the initial weights: rnnlab's own, or as pytorch, keras or flax draw them; identity for the recurrent
            ones; chrono for the biases of LSTM and GRU, for lags up to the longest sequence.
        alphabet: the most symbols that are told apart; rarer characters share the last one.
        precision: floating-point format of all arithmetic.
    """

    cells: tuple[str, ...] = ("rnn", "lstm", "gru")
    hidden_size: int = 128
    batch_size: int = 32
    seeds: int = 5
    data: str = "text"
    init: Init = "rnnlab"
    alphabet: int = 128
    precision: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", tuple(self.cells))
        for name in self.cells:
            if name not in REGISTRY:
                raise ValueError(f"cell {name!r} is unknown; choose from {', '.join(REGISTRY)}")
        _distinct("cells", self.cells)
        for name in ("hidden_size", "batch_size", "seeds"):
            _whole(name, getattr(self, name), 1)
        _whole("alphabet", self.alphabet, 2)
        if self.init not in INITS:
            raise ValueError(f"init is {self.init!r}; choose from {', '.join(INITS)}")
        if self.precision not in ("float32", "float64"):
            raise ValueError(f"precision is {self.precision!r}; choose float32 or float64")

    @property
    def window(self) -> int:
        """The most characters that one sequence needs, its last target included."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class GradientSettings(StudySettings):
    """The settings of a gradient study; equal settings give equal numbers.

    Raises ValueError, in one sentence, for an unknown cell, sizes below 1, repeated cells or lengths, or a norm that is
    not positive.

    Attributes:
        lengths: sequence lengths T, in steps.
        train_steps: steps of next-symbol training, measured before and after; 0 does not train.
        train_length: steps of a training sequence; None for the longest of the lengths, up to 100.
        learning_rate: learning rate of Adam.
        clip: global norm to which training clips its gradients; None does not clip.
        detail: also looks closer, for a loss at every step: singular values of the state's Jacobians, what the loss at
            each step owes to each earlier one, and what truncation loses; takes about a minute more.
    """

    lengths: tuple[int, ...] = (10, 30, 100, 300, 1000)
    train_steps: int = 0
    train_length: int | None = None
    learning_rate: float = 1e-3
    clip: float | None = None
    detail: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "lengths", tuple(self.lengths))
        _distinct("lengths", self.lengths)
        for length in self.lengths:
            _whole("a length", length, 1)
        _whole("train_steps", self.train_steps, 0)
        if self.train_length is not None:
            _whole("train_length", self.train_length, 1)
        for name in ("learning_rate", "clip"):
            if getattr(self, name) is not None:
                _positive(name, getattr(self, name))

    @property
    def phases(self) -> tuple[str, ...]:
        """When the gradient is measured: untrained, and trained where there is training."""
        return (UNTRAINED, TRAINED) if self.train_steps else (UNTRAINED,)

    @property
    def closer_length(self) -> int:
        """T of what is looked at closely, in steps."""
        return min(max(self.lengths), 100)

    @property
    def training_length(self) -> int:
        """T of a training sequence, in steps."""
        return self.train_length or min(max(self.lengths), 100)

    @property
    def window(self) -> int:
        """The most characters that one sequence needs, its last target included."""
        trained = self.training_length if self.train_steps else 0
        return max(*self.lengths, trained) + 1


@dataclasses.dataclass(frozen=True)
class DynamicsSettings(StudySettings):
    """The settings of a study of what the state does; equal settings give equal numbers.

    Raises ValueError, in one sentence, as the gradient study does, and for a gain that is not positive.

    Attributes:
        hidden_size: hidden units H.
        batch_size: sequences in a batch B, each with a trajectory of its own.
        seeds: how many seeds, counted from 0; each draws weights and sequences of its own.
        drive: "data" follows the state while it reads; "none" gives it one random input to start from, and then zeros.
        gain: what multiplies the recurrent weights, for the spectrum and the fixed points.
        exponents: how many of the leading Lyapunov exponents; None for 16, or all where there are fewer.
        steps: steps over which the exponents are averaged.
        burn_in: steps before them in which the state comes to its attractor.
        warm_up: steps after these in which directions turn to the exponents' own.
        starts: states of the trajectories from which fixed points under zero input are searched.
        grid: gains in the phase diagram, and lengths as far as they differ.
        longest: the longest sequence of the phase diagram, in steps.
    """

    hidden_size: int = 64
    batch_size: int = 8
    seeds: int = 3
    drive: Literal["data", "none"] = "data"
    gain: float = 1.0
    exponents: int | None = None
    steps: int = 1000
    burn_in: int = 200
    warm_up: int = 100
    starts: int = 64
    grid: int = 16
    longest: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.drive not in ("data", "none"):
            raise ValueError(f"drive is {self.drive!r}; choose data or none")
        _positive("gain", self.gain)
        if self.exponents is not None:
            _whole("exponents", self.exponents, 1)
        for name, least in (
            ("steps", 1),
            ("burn_in", 0),
            ("warm_up", 0),
            ("starts", 1),
            ("grid", 2),
            ("longest", 2),
        ):
            _whole(name, getattr(self, name), least)

    @property
    def total(self) -> int:
        """T of the trajectories, in steps."""
        return self.burn_in + self.warm_up + self.steps

    @property
    def gains(self) -> tuple[float, ...]:
        """The recurrent gains of the phase diagram: from ¼ to 4, evenly apart on a log axis."""
        return tuple(float(f"{4 ** (2 * i / (self.grid - 1) - 1):.6g}") for i in range(self.grid))

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths of the phase diagram, in steps: up to the longest, evenly apart on a log axis."""
        least = min(5, self.longest - 1)
        ratio = self.longest / least
        return tuple(
            sorted({round(least * ratio ** (i / (self.grid - 1))) for i in range(self.grid)})
        )

    @property
    def window(self) -> int:
        """The most characters that one sequence needs, its last target included."""
        return max(self.total, self.longest) + 1


def _whole(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value}; it must be a whole number of at least {least}")


def _positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} is {value}; it must be a positive number")


def _distinct(name: str, values: tuple) -> None:
    if not values:
        raise ValueError(f"{name} is empty; give at least one")
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise ValueError(f"{name} names {twice!r} twice; give each once")
