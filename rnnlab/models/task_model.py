"""The model that a synthetic task asks for."""

from rnnlab.models.classifier import classifier, regressor
from rnnlab.models.network import Network
from rnnlab.models.sequence import SequenceModel
from rnnlab.models.stepwise import step_regressor, tagger
from rnnlab.tasks.base import Task
from rnnlab.typing import Cell

_MAKE = {
    "classes": classifier,
    "numbers": regressor,
    "class each step": tagger,
    "numbers each step": step_regressor,
}
"""The function that makes a model, for each :data:`rnnlab.tasks.base.Kind` of task."""


def for_task(
    task: Task,
    cell: Cell | Network,
    *,
    embedding_size: int | None = None,
    dropout: float = 0.0,
    engine: str = "auto",
) -> SequenceModel:
    """A model around ``cell`` that reads the inputs of ``task`` and gives what it asks for.

    It is a :func:`classifier`, :func:`regressor`, :func:`tagger` or :func:`step_regressor`, by the
    ``kind`` of the task, with its numbers of inputs and outputs.

    >>> import rnnlab
    >>> model = rnnlab.models.for_task(rnnlab.tasks.adding(length=50), rnnlab.GRU(32))
    >>> type(model).__name__, model.outputs
    ('Regressor', 1)

    Args:
        task: one of :mod:`rnnlab.tasks`.
        cell: any cell or layer, or a network without recurrence such as :class:`Transformer`.
        embedding_size: E, the size of the embedding of codes; ``cell.hidden_size`` by default.
        dropout: as in :func:`classifier`.
        engine: how the cell runs, as in :func:`rnnlab.unroll`.

    Raises:
        ValueError: for anything but a task, and as in :func:`classifier`.
    """
    if not isinstance(task, Task):
        raise ValueError(
            f"task is a {type(task).__name__}; give one of rnnlab.tasks, such as "
            "rnnlab.tasks.adding(length=200)"
        )
    return _MAKE[task.kind](
        cell,
        task.outputs,
        vocabulary_size=task.vocabulary_size,
        embedding_size=embedding_size,
        dropout=dropout,
        engine=engine,
    )
