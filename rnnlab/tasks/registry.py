"""The names of tasks in commands, settings and studies. Nothing here imports JAX."""

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

from rnnlab._wording import unknown

if TYPE_CHECKING:
    from rnnlab.tasks.base import Task


class Entry(NamedTuple):
    """A function of :mod:`rnnlab.tasks` and the options that belong to its name.

    Attributes:
        make: the name of the function.
        length: the option that takes the length; None for a task of fixed length.
        options: further options.
    """

    make: str
    length: str | None = "length"
    options: dict[str, Any] = {}  # noqa: RUF012 (never changed)


TASKS: dict[str, Entry] = {
    "adding": Entry("adding"),
    "multiplication": Entry("multiplication"),
    "temporal-order": Entry("temporal_order"),
    "temporal-order-3": Entry("temporal_order", options={"symbols": 3}),
    "copy-memory": Entry("copy_memory", "delay"),
    "copy-padding": Entry("copy_with_padding", "delay"),
    "noise-free": Entry("noise_free_long_lag", "delay"),
    "delayed-xor": Entry("delayed_xor", "delay"),
    "flip-flop": Entry("flip_flop"),
    "parity": Entry("parity"),
    "modular-counting": Entry("modular_counting", options={"modulus": 5}),
    "selective-copy": Entry("selective_copy"),
    "associative-recall": Entry("associative_recall", "pairs"),
    "anbn": Entry("anbn", "max_n"),
    "word": Entry("word_detection"),
    "reber": Entry("embedded_reber", "max_length"),
    "sine": Entry("sine_wave"),
    "digits": Entry("digits", None),
    "digits-permuted": Entry("digits", None, {"permuted": True}),
}


def make_task(name: str, length: int | None = None) -> "Task":
    """The task of that name.

    Args:
        name: one of ``TASKS``.
        length: what the task calls its length: steps for most; the delay for copying, the
            noise-free task and the delayed XOR; pairs for associative recall; the largest n for
            aⁿbⁿ; the symbols of the longest string for the Reber grammar. None for its default; of
            no effect for a task of fixed length.

    Raises:
        ValueError: for a name that is not in ``TASKS``, and a length that the task cannot have.

    >>> make_task("temporal-order-3", 50).outputs
    8
    """
    if name not in TASKS:
        raise ValueError(unknown("task", name, TASKS))
    entry = TASKS[name]
    # Imported here, since the names must be readable before JAX is loaded.
    make = getattr(importlib.import_module("rnnlab.tasks"), entry.make)
    if entry.length is None or length is None:
        return make(**entry.options)
    return make(**{entry.length: length}, **entry.options)


def is_fixed(name: str) -> bool:
    """Whether the task of that name has one length alone."""
    return TASKS[name].length is None
