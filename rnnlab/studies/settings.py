"""The settings of the studies and their checks; free of JAX, so that help comes at once."""

import dataclasses
import math
from typing import Literal

from rnnlab._wording import unknown
from rnnlab.cells.registry import INITS, REGISTRY, Init
from rnnlab.tasks.registry import TASKS

UNTRAINED, TRAINED = "untrained", "trained"
"""The phases in which a network is measured."""
MOST = 2**31 - 1
"""The largest whole number of a setting: sizes and steps are 32-bit integers on the device."""


@dataclasses.dataclass(frozen=True)
class StudySettings:
    """The settings that all studies share: which networks, and what they read.

    Raises ValueError, in one sentence, for an unknown cell, no or repeated cells, or invalid sizes.

    Attributes:
        from_run: the directory of a run of "rnnlab train". Its network is measured as it was before
            the training and as it is in the last checkpoint, on the validation part of its text;
            cells, layers, hidden size, seeds (one), data, alphabet, init and precision are then
            those of the run.
        cells: any of rnn, lstm, gru, leaky-rnn, indrnn, mgu, highway, relu-rnn, irnn,
            gru-before, peephole-lstm, layernorm-lstm.
        layers: recurrent layers of each network; the state is that of all layers together.
        hidden_size: hidden units H of each layer.
        batch_size: sequences per batch B.
        seeds: number of seeds, counted from 0; each draws its own weights and sequences.
        data: "text" (the source code of Python's standard library, as characters), "noise", or the
            path of a UTF-8 file.
        init: how initial weights are drawn: as in rnnlab, pytorch, keras or flax; with identity
            matrices as recurrent weights (identity); or with biases of LSTM and GRU for lags up to
            the longest sequence (chrono).
        alphabet: maximum number of symbols; rarer characters share the last one.
        precision: floating-point format of all arithmetic.
    """

    from_run: str | None = None
    cells: tuple[str, ...] = ("rnn", "lstm", "gru")
    layers: int = 1
    hidden_size: int = 128
    batch_size: int = 32
    seeds: int = 5
    data: str = "text"
    init: Init = "rnnlab"
    alphabet: int = 128
    precision: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        # The dataclass is frozen, and JSON and the command line give lists.
        object.__setattr__(self, "cells", tuple(self.cells))
        check_cells(self.cells)
        whole("layers", self.layers, 1)
        whole("hidden_size", self.hidden_size, 1)
        whole("batch_size", self.batch_size, 1)
        whole("seeds", self.seeds, 1)
        whole("alphabet", self.alphabet, 2)
        check_weights(self.init, self.precision)

    @property
    def networks(self) -> dict[str, str]:
        """The cell of each network by the network's name, such as "gru" or "2-layer gru"."""
        layers = f"{self.layers}-layer " if self.layers > 1 else ""
        return {f"{layers}{cell}": cell for cell in self.cells}

    @property
    def phases(self) -> tuple[str, ...]:
        """When each network is measured: untrained, and also trained where a run trained it."""
        return (UNTRAINED,) if self.from_run is None else (UNTRAINED, TRAINED)

    @property
    def window(self) -> int:
        """The most characters that one sequence needs, including its last label."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class GradientSettings(StudySettings):
    """The settings of a gradient study; equal settings give equal numbers.

    Raises ValueError, in one sentence, for an unknown cell, sizes below 1, repeated cells or
    lengths, or a norm that is not positive.

    Attributes:
        lengths: sequence lengths T, in steps.
        train_steps: training steps on next-symbol prediction; gradients are measured before and
            after. 0 disables training.
        train_length: length of the training sequences, in steps; None for the longest of the
            lengths, up to 100.
        learning_rate: learning rate of Adam.
        clip: global norm to which training clips gradients; None disables clipping.
        detail: also measure, for a loss at every step: singular values of the state's Jacobians,
            the contribution of each step to the gradient of each loss, and the error of truncated
            backpropagation. Takes about a minute more.
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
        distinct("lengths", self.lengths)
        for length in self.lengths:
            whole("a length", length, 1)
        whole("train_steps", self.train_steps, 0)
        if self.train_steps and self.from_run is not None:
            raise ValueError(
                f"train_steps is {self.train_steps}, but the network of {self.from_run} was "
                "trained there; leave train_steps out, or train it further with: rnnlab resume "
                f"{self.from_run}"
            )
        if self.train_length is not None:
            whole("train_length", self.train_length, 1)
        for name in ("learning_rate", "clip"):
            if getattr(self, name) is not None:
                positive(name, getattr(self, name))

    @property
    def phases(self) -> tuple[str, ...]:
        """When the gradient is measured: untrained, and also trained where there is training."""
        return (UNTRAINED, TRAINED) if self.train_steps else super().phases

    @property
    def closer_length(self) -> int:
        """T of the sequences in the closer look, in steps."""
        return min(max(self.lengths), 100)

    @property
    def training_length(self) -> int:
        """T of a training sequence, and of those on which loss and accuracy are measured."""
        return self.train_length or min(max(self.lengths), 100)

    @property
    def window(self) -> int:
        """The most characters that one sequence needs, including its last label."""
        trained = self.training_length if TRAINED in self.phases else 0
        return max(*self.lengths, trained) + 1


@dataclasses.dataclass(frozen=True)
class DynamicsSettings(StudySettings):
    """The settings of a dynamics study; equal settings give equal numbers.

    Raises ValueError, in one sentence, as the gradient study does, and for a gain that is not
    positive.

    Attributes:
        hidden_size: hidden units H of each layer.
        batch_size: sequences per batch B, each with its own trajectory.
        seeds: number of seeds, counted from 0; each draws its own weights and sequences.
        drive: input of the network: "data", or "none" for one random input followed by zeros.
        gain: factor on the recurrent weights, for the spectrum and the fixed points.
        exponents: number of leading Lyapunov exponents; None for 16, or all where there are fewer.
        steps: steps over which the exponents are averaged.
        burn_in: steps before the average, in which the state reaches its attractor.
        warm_up: steps after the burn-in, in which the directions align with the exponents.
        starts: number of visited states from which fixed points under zero input are searched.
        grid: number of gains, and maximum number of lengths, in the phase diagram.
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
        positive("gain", self.gain)
        if self.exponents is not None:
            whole("exponents", self.exponents, 1)
        whole("steps", self.steps, 1)
        whole("burn_in", self.burn_in, 0)
        whole("warm_up", self.warm_up, 0)
        whole("starts", self.starts, 1)
        whole("grid", self.grid, 2)
        whole("longest", self.longest, 2)

    @property
    def total(self) -> int:
        """T of the trajectories, in steps."""
        return self.burn_in + self.warm_up + self.steps

    @property
    def gains(self) -> tuple[float, ...]:
        """The recurrent gains of the phase diagram: from ¼ to 4, evenly apart on a log axis."""
        gains = []
        for index in range(self.grid):
            exponent = 2 * index / (self.grid - 1) - 1
            # Six digits are exact enough, and keep the records short.
            gains.append(float(f"{4**exponent:.6g}"))
        return tuple(gains)

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths of the phase diagram, in steps, evenly apart on a log axis."""
        shortest = min(5, self.longest - 1)
        ratio = self.longest / shortest
        lengths = set()
        for index in range(self.grid):
            exponent = index / (self.grid - 1)
            # Short lengths may round to the same number: hence a set.
            lengths.add(round(shortest * ratio**exponent))
        return tuple(sorted(lengths))

    @property
    def window(self) -> int:
        """The most characters that one sequence needs, including its last label."""
        return max(self.total, self.longest) + 1


def check_cells(cells: tuple[str, ...]) -> None:
    """ValueError for an unknown cell, none, or one that is named twice."""
    for name in cells:
        if name not in REGISTRY:
            raise ValueError(unknown("cell", name, REGISTRY))
    distinct("cells", cells)


def check_weights(init: str, precision: str) -> None:
    """ValueError for unknown initial weights and an unknown floating-point format."""
    if init not in INITS:
        raise ValueError(f"init is {init!r}; choose from {', '.join(INITS)}")
    if precision not in ("float32", "float64"):
        raise ValueError(f"precision is {precision!r}; choose float32 or float64")


def check_tasks(tasks: tuple[str, ...]) -> None:
    """ValueError for an unknown task, none, or one that is named twice."""
    distinct("tasks", tasks)
    for name in tasks:
        if name not in TASKS:
            raise ValueError(unknown("task", name, TASKS))


def whole(name: str, value: int, least: int) -> None:
    """ValueError unless ``value`` is a whole number from ``least`` to that of 31 bits."""
    # In Python True is an int.
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value}; it must be an integer of at least {least}")
    if value > MOST:
        raise ValueError(f"{name} is {value}; it must be at most {MOST}")


def positive(name: str, value: float) -> None:
    """ValueError unless ``value`` is a positive finite number."""
    # Written so that NaN, for which every comparison is false, is refused too.
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} is {value}; it must be a positive number")


def distinct(name: str, values: tuple) -> None:
    """ValueError for no values, and for one that is there twice."""
    if not values:
        raise ValueError(f"{name} is empty; give at least one")
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{name} names {value!r} twice; give each once")
