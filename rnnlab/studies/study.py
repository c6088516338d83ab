"""The protocol of a study: what a command needs to run one, to resume it and to store it."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from rnnlab.studies.records import Records


class Measured(NamedTuple):
    """The records of one unit by kind, as they are written to the study's JSON file."""

    unit: Any
    records: Records


class Study(Protocol):
    """A study; :mod:`rnnlab.studies.gradients` is one, as a module with these four functions.

    A unit is one measurement, hashable. Units do not depend on one another, so a run that was
    interrupted continues with those that are missing and gives the same records.
    """

    def units(self, settings: Any, /) -> list[Any]:
        """All units, in the order in which they run; ValueError for settings that do not fit."""
        ...

    def finished(self, records: Records, /) -> set[Any]:
        """The units that already have records."""
        ...

    def measure(
        self, settings: Any, data: Any, wanted: list[Any], progress: Callable[[str], None], /
    ) -> Iterator[Measured]:
        """Yields each of the ``wanted`` units as it is finished.

        ``progress`` is called with a few words on the current step.
        """
        ...

    def summarise(self, settings: Any, records: Records, /) -> list[dict[str, Any]]:
        """A few numbers for each group of records, as the command prints them."""
        ...
