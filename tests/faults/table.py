"""The counts of a kind of fault, and the table of all kinds."""

import dataclasses
from collections.abc import Iterable

from rnnlab._usage import UsageError
from rnnlab.training import CheckpointError, NonFiniteError
from rnnlab.training.faults import RunFolderError

TOLD = (CheckpointError, NonFiniteError, RunFolderError, UsageError)
"""The errors that users are told in one sentence."""

COLUMNS = (
    "injected",
    "refused",
    "recovered",
    "unaffected",
    "silent_losses",
    "wrong_restores",
    "unclear_errors",
)

EXAMPLES = 3
"""Descriptions of unexpected outcomes that are kept of each kind."""


@dataclasses.dataclass
class Count:
    """How often a fault was injected, and what came of it.

    Attributes:
        name: the kind of fault.
        injected: the number of faults: the sum of all others.
        refused: ended by an error of one sentence.
        recovered: went on from the last good state, with a message where something was damaged.
        unaffected: nothing depends on what was changed.
        silent_losses: something was lost without a message.
        wrong_restores: went on from something that was never saved.
        unclear_errors: an error or message that is not one sentence, or does not name the file.
        examples: descriptions of the last three.
        remark: what else is to be known.
    """

    name: str
    injected: int = 0
    refused: int = 0
    recovered: int = 0
    unaffected: int = 0
    silent_losses: int = 0
    wrong_restores: int = 0
    unclear_errors: int = 0
    examples: list[str] = dataclasses.field(default_factory=list)
    remark: str = ""

    @property
    def faults(self) -> int:
        """The number of outcomes that should not be."""
        return self.silent_losses + self.wrong_restores + self.unclear_errors

    def add(self, outcome: str, example: str = "") -> None:
        """Counts one fault; ``outcome`` is a column."""
        self.injected += 1
        setattr(self, outcome, getattr(self, outcome) + 1)
        unexpected = outcome in ("silent_losses", "wrong_restores", "unclear_errors")
        if unexpected and len(self.examples) < EXAMPLES:
            self.examples.append(f"{outcome}: {example}")

    def add_error(self, fault: BaseException, *words: str) -> None:
        """Counts an error, which should be one sentence with all ``words``."""
        self.add_told(isinstance(fault, TOLD), str(fault), *words, kind=type(fault).__name__)

    def add_told(self, expected: bool, text: str, *words: str, kind: str = "") -> None:
        """Counts an error by its text."""
        clear = expected and is_sentence(text) and all(word in text for word in words)
        self.add("refused" if clear else "unclear_errors", f"{kind}: {text}")


def is_sentence(text: str) -> bool:
    """Whether a message is one sentence, with a fault and what to do about it."""
    return text.isprintable() and ". " not in text and not text.endswith(".") and ";" in text


def show(counts: Iterable[Count]) -> str:
    """The table."""
    rows = list(counts)
    total = Count("total")
    for column in COLUMNS:
        setattr(total, column, sum(getattr(row, column) for row in rows))
    width = max(len(row.name) for row in [*rows, total])
    titles = [column.replace("_", " ") for column in COLUMNS]
    lines = [" ".join([" " * width, *titles])]
    for row in [*rows, total]:
        cells = [f"{getattr(row, column):{len(column)}}" for column in COLUMNS]
        lines.append(" ".join([f"{row.name:{width}}", *cells]))
    for row in rows:
        if row.remark:
            lines.append(f"{row.name}: {row.remark}.")
        lines += [f"{row.name}: {example}" for example in row.examples]
    return "\n".join(lines)
