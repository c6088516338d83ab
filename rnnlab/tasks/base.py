"""The base of the synthetic tasks."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.data.synthetic import Generated, generated
from rnnlab.typing import Key

Kind = Literal["classes", "numbers", "class each step", "numbers each step"]


@dataclasses.dataclass(frozen=True)
class Task:
    """A synthetic task: batches from a key, and the exact loss that shows whether it is learned.

    Frozen and hashable. ``sample`` is a pure function: equal keys give equal batches, and it can be
    compiled and mapped. ``__post_init__`` checks the fields, so that :func:`dataclasses.replace`
    raises the errors of the function that makes the task.

    Attributes:
        kind: what a model gives: "classes" and "numbers" for each sequence, or for each step. The
            loss is the mean cross-entropy in nats for classes, the mean squared error for numbers.
    """

    kind: ClassVar[Kind]

    def _store(self, **fields: object) -> None:
        """Sets fields to what their checks return, plain numbers of Python.

        A NumPy integer has a dtype of its own, so that JAX would make batches of int64 from it.
        """
        for name, value in fields.items():
            # The dataclass is frozen.
            object.__setattr__(self, name, value)

    @property
    def steps(self) -> int:
        """T, the steps of a batch."""
        raise NotImplementedError

    @property
    def lag(self) -> int:
        """The largest number of steps between an input and the target that depends on it.

        By default from the first step to the last.
        """
        return self.steps - 1

    @property
    def vocabulary_size(self) -> int | None:
        """V where the inputs are codes ``[T, B]``; None where they are vectors."""
        return None

    @property
    def input_size(self) -> int | None:
        """I where the inputs are vectors ``[T, B, I]``; None where they are codes."""
        return None

    @property
    def outputs(self) -> int:
        """The number of classes, or of numbers."""
        raise NotImplementedError

    def sample(self, key: Key, batch_size: int) -> Batch:
        """A fresh batch of ``batch_size`` examples.

        ValueError for what is not a JAX key, and a size below 1.
        """
        _check.key("key", key)
        return self.draw(key, _check.positive_int("batch_size", batch_size))

    def draw(self, key: Key, batch_size: int) -> Batch:
        """The batch, for arguments that were checked: what each task defines."""
        raise NotImplementedError

    def held_out(self) -> "Task":
        """The task whose samples a network is tested on: itself, unless data are finite."""
        return self

    def baseline(self) -> float:
        """The exact loss of the memoryless predictor that the task's docstring names."""
        raise NotImplementedError

    def floor(self) -> float:
        """The exact loss of the best predictor with unlimited memory."""
        return 0.0

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Whether metrics on fresh data, as from :func:`rnnlab.training.evaluate`, count as solved.

        "accuracy" of at least .99 for classes; for numbers a "loss" of at most a hundredth of the
        baseline.
        """
        if self.kind in ("classes", "class each step"):
            return metrics["accuracy"] >= 0.99
        return self.is_near_floor(metrics)

    def is_near_floor(self, metrics: Mapping[str, float]) -> bool:
        """Whether the loss exceeds the floor by at most a hundredth of the baseline."""
        return metrics["loss"] <= self.floor() + self.baseline() / 100

    def batches(self, batch_size: int, *, seed: int = 0) -> Generated:
        """Training data for :func:`rnnlab.training.fit`: ``data[i]`` is the i-th batch."""
        return generated(self.sample, batch_size, seed=seed)
