"""The settings of the study of cures; free of JAX, so that help comes at once."""

import dataclasses
from typing import Literal

from rnnlab._wording import unknown
from rnnlab.cells.registry import Init
from rnnlab.studies.cures_registry import CURES
from rnnlab.studies.settings import (
    check_cells,
    check_tasks,
    check_weights,
    distinct,
    positive,
    whole,
)


@dataclasses.dataclass(frozen=True)
class CuresSettings:
    """The settings of a study of cures; equal settings give equal numbers, but for times.

    Raises ValueError, in one sentence, for an unknown cell, task or cure, and sizes below 1.

    Attributes:
        cell: any of rnn, lstm, gru, leaky-rnn, indrnn, mgu, highway, relu-rnn, irnn,
            gru-before, peephole-lstm, layernorm-lstm.
        lag: how far back what is to be learned lies, in steps.
        task: any of adding, multiplication, temporal-order, temporal-order-3, copy-memory,
            copy-padding, noise-free, delayed-xor, flip-flop, parity, modular-counting,
            selective-copy, associative-recall, anbn, reber, at the shortest length whose longest
            lag is at least that; word and sine for lags of at most 6 and 2 steps.
        cures: names in ``CURES``; all that apply to the cell by default.
        hidden_size: hidden units H.
        network: a directory of a run of "rnnlab train", or a file of weights of PyTorch's RNN, LSTM
            or GRU (safetensors, or a state_dict that torch.save wrote). Its first layer is what is
            cured: it sets cell and hidden_size, and its recurrent weights and biases are what the
            training starts from, but for cures of another structure. The input weights are drawn,
            since a task has inputs of its own.
        prefix: where the recurrent module is in a file of a whole model, such as encoder.rnn.
        seeds: number of seeds, counted from 0; each draws its own weights and sequences.
        steps: maximum number of updates of a network; training stops earlier once all seeds have
            solved the task.
        check_every: updates between two measurements of the loss on held-out sequences.
        batch_size: sequences per update B.
        learning_rate: learning rate of the optimiser.
        init: how the initial weights of the network are drawn: as in rnnlab, pytorch, keras or
            flax; with identity matrices as recurrent weights (identity); or with biases of LSTM and
            GRU for lags up to the length of the sequence (chrono).
        precision: floating-point format of all arithmetic.
    """

    cell: str = "rnn"
    lag: int = 50
    task: str = "temporal-order"
    cures: tuple[str, ...] = ()
    hidden_size: int = 64
    network: str | None = None
    prefix: str = ""
    seeds: int = 2
    steps: int = 600
    check_every: int = 50
    batch_size: int = 32
    learning_rate: float = 3e-3
    init: Init = "pytorch"
    precision: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        # The dataclass is frozen, and JSON and the command line give lists.
        object.__setattr__(self, "cures", tuple(self.cures))
        check_cells((self.cell,))
        check_tasks((self.task,))
        for name in self.cures:
            if name not in CURES:
                raise ValueError(unknown("cure", name, CURES))
        if self.cures:
            distinct("cures", self.cures)
        for name in ("lag", "hidden_size", "seeds", "steps", "check_every", "batch_size"):
            whole(name, getattr(self, name), 1)
        if self.prefix and self.network is None:
            raise ValueError(
                f"prefix is {self.prefix!r}, but no file of weights is given; give one with --from"
            )
        positive("learning_rate", self.learning_rate)
        check_weights(self.init, self.precision)
