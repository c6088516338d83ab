"""Faults of a training run: what the step reports, and the errors that end a run."""

import signal
from collections.abc import Sequence

FINE, LOSS, UPDATE = -1, -2, -3
"""A step's fault: none, the loss, the updated parameters; from 0 on the gradient of one of them."""


def describe(fault: int, names: Sequence[str]) -> str:
    """What was not finite in a step, for people; ``names`` are those of the parameters."""
    if fault == LOSS:
        return "the loss is not finite"
    if fault == UPDATE:
        return "the update of the parameters is not finite"
    # Parameters that are one array have no name.
    return f"the gradient of {names[fault] or 'the parameters'} is not finite"


class NonFiniteError(FloatingPointError):
    """Too many steps in a row had a loss, a gradient or an update that is not finite.

    Attributes:
        step: the index of the last of them.
        parameter: the parameter whose gradient was not finite; None for the loss or the update.
    """

    def __init__(self, message: str, step: int, parameter: str | None) -> None:
        super().__init__(message)
        self.step = step
        self.parameter = parameter


class CheckpointError(RuntimeError):
    """A checkpoint could not be saved, or none that is whole could be found."""


class RunFolderError(ValueError):
    """A directory that cannot be written, is in use, or holds another run."""


class Interrupted(SystemExit):
    """A run that a signal ended after it was saved; the exit code is 128 + the signal.

    Attributes:
        step: the number of steps that the saved checkpoint holds.
    """

    def __init__(self, number: int, step: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)
        self.step = step

    def __str__(self) -> str:
        return f"stopped by {self.signal.name} after step {self.step}, with a checkpoint saved"
