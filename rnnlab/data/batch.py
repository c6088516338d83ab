"""What a model is trained on: inputs, targets, and which steps count."""

from typing import Any, NamedTuple


class Batch(NamedTuple):
    """B sequences side by side, time first; arrays of NumPy or JAX.

    Attributes:
        xs: inputs, codes ``[T, B]`` or vectors ``[T, B, I]``.
        targets: what a model should give; ``[T, B]`` or ``[T, B, O]`` for each step, ``[B]`` or
            ``[B, O]`` for each sequence.
        mask: booleans, shaped like the targets without features: where a target counts in the loss.
            None where all count.
        lengths: ``[B]``, the steps of each sequence; those beyond are padding. None where all have
            T steps.
        resets: ``[T, B]``, True where another sequence begins, so that the state is reset before
            that step. None where there is one sequence in each column.
    """

    xs: Any
    targets: Any
    mask: Any = None
    lengths: Any = None
    resets: Any = None
