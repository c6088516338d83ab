"""The settings of the memory study; free of JAX, so that help comes at once."""

import dataclasses
from typing import Literal

from rnnlab.cells.registry import Init
from rnnlab.studies.settings import (
    check_cells,
    check_tasks,
    check_weights,
    distinct,
    positive,
    whole,
)


@dataclasses.dataclass(frozen=True)
class MemorySettings:
    """The settings of a memory study; equal settings give equal numbers.

    Raises ValueError, in one sentence, for an unknown cell or task, a length that a task cannot
    have, and sizes below 1.

    Attributes:
        cells: any of rnn, lstm, gru, leaky-rnn, indrnn, mgu, highway, relu-rnn, irnn,
            gru-before, peephole-lstm, layernorm-lstm.
        tasks: any of adding, multiplication, temporal-order, temporal-order-3, copy-memory,
            copy-padding, noise-free, delayed-xor, flip-flop, parity, modular-counting,
            selective-copy, associative-recall, anbn, word, reber, sine, digits, digits-permuted.
        lengths: lengths of the sequences, in steps; the delay in steps for copy-memory,
            copy-padding, noise-free and delayed-xor, pairs for associative-recall, the largest n
            for anbn, the symbols of the longest string for reber. Those of digits have 64 steps.
        budgets: numbers of parameters of a network; its hidden size H is the largest that needs no
            more.
        seeds: number of seeds, counted from 0; each draws its own weights and sequences.
        steps: maximum number of updates of a network; training stops earlier once all seeds have
            solved the task.
        check_every: updates between two measurements of the loss on held-out sequences.
        batch_size: sequences per update B.
        learning_rate: learning rate of Adam.
        clip: global norm to which the gradient is clipped; None disables clipping.
        init: how initial weights are drawn: as in rnnlab, pytorch, keras or flax; with identity
            matrices as recurrent weights (identity); or with biases of LSTM and GRU for lags up to
            the length of the sequence (chrono).
        precision: floating-point format of all arithmetic.
    """

    cells: tuple[str, ...] = ("rnn", "lstm", "gru")
    tasks: tuple[str, ...] = ("adding", "temporal-order")
    lengths: tuple[int, ...] = (10, 30, 100)
    budgets: tuple[int, ...] = (4000,)
    seeds: int = 3
    steps: int = 1000
    check_every: int = 50
    batch_size: int = 32
    learning_rate: float = 3e-3
    clip: float | None = 1.0
    init: Init = "rnnlab"
    precision: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        # The dataclass is frozen, and JSON and the command line give lists.
        for name in ("cells", "tasks", "lengths", "budgets"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_cells(self.cells)
        check_tasks(self.tasks)
        distinct("lengths", self.lengths)
        distinct("budgets", self.budgets)
        for length in self.lengths:
            whole("a length", length, 1)
        for budget in self.budgets:
            whole("a budget", budget, 1)
        for name in ("seeds", "steps", "check_every", "batch_size"):
            whole(name, getattr(self, name), 1)
        positive("learning_rate", self.learning_rate)
        if self.clip is not None:
            positive("clip", self.clip)
        check_weights(self.init, self.precision)
