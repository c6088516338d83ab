"""What the gradient study can be told, and its checks; kept free of JAX so that the command line answers at once."""

import dataclasses
import math
from typing import Literal

CELLS = ("rnn", "lstm", "gru", "leaky-rnn", "relu-rnn", "irnn", "gru-before", "peephole-lstm", "layernorm-lstm")


@dataclasses.dataclass(frozen=True)
class GradientSettings:
    """The settings of a gradient study; equal settings give equal numbers.

    Raises ValueError, in one sentence, for an unknown cell, sizes below 1, repeated cells or lengths, or a norm that is
    not positive.

    Attributes:
        cells: any of rnn, lstm, gru, leaky-rnn, relu-rnn, irnn, gru-before, peephole-lstm, layernorm-lstm.
        lengths: sequence lengths T, in steps.
        hidden_size: hidden units H.
        batch_size: sequences in a batch B.
        seeds: how many seeds, counted from 0; each draws weights and sequences of its own.
        data: "text" (the source of Python's standard library, as characters), "noise", or the path of a UTF-8 file.
        train_steps: steps of next-symbol training between a measurement before and one after; 0 does not train.
        train_length: steps of a training sequence; None for the longest of the lengths, up to 100.
        learning_rate: learning rate of Adam.
        clip: global norm to which training clips its gradients; None does not clip.
        alphabet: the most symbols that are told apart; rarer characters share the last one.
        precision: floating-point format of all arithmetic.
    """

    cells: tuple[str, ...] = ("rnn", "lstm", "gru")
    lengths: tuple[int, ...] = (10, 30, 100, 300, 1000)
    hidden_size: int = 128
    batch_size: int = 32
    seeds: int = 5
    data: str = "text"
    train_steps: int = 0
    train_length: int | None = None
    learning_rate: float = 1e-3
    clip: float | None = None
    alphabet: int = 128
    precision: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", tuple(self.cells))
        object.__setattr__(self, "lengths", tuple(self.lengths))
        for name in self.cells:
            if name not in CELLS:
                raise ValueError(f"cell {name!r} is unknown; choose from {', '.join(CELLS)}")
        for name, values in (("cells", self.cells), ("lengths", self.lengths)):
            if not values:
                raise ValueError(f"{name} is empty; give at least one")
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names {_repeated(values)!r} twice; give each once")
        for length in self.lengths:
            _whole("a length", length, 1)
        for name in ("hidden_size", "batch_size", "seeds"):
            _whole(name, getattr(self, name), 1)
        _whole("alphabet", self.alphabet, 2)
        _whole("train_steps", self.train_steps, 0)
        if self.train_length is not None:
            _whole("train_length", self.train_length, 1)
        for name in ("learning_rate", "clip"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} is {value}; it must be a positive number")
        if self.precision not in ("float32", "float64"):
            raise ValueError(f"precision is {self.precision!r}; choose float32 or float64")

    @property
    def phases(self) -> tuple[str, ...]:
        """When the gradient is measured: before training, and after it where there is any."""
        return ("before", "after") if self.train_steps else ("before",)

    @property
    def training_length(self) -> int:
        """T of a training sequence, in steps."""
        return self.train_length or min(max(self.lengths), 100)

    @property
    def window(self) -> int:
        """The most characters that one sequence needs, its last target included."""
        trained = self.training_length if self.train_steps else 0
        return max(*self.lengths, trained) + 1


def _whole(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value}; it must be a whole number of at least {least}")


def _repeated(values: tuple) -> object:
    return next(value for value in values if values.count(value) > 1)
