"""The size of the experiment, and what is compared."""

from typing import NamedTuple

from experiments.translation.network import Size

ATTENTION, VECTOR = "with attention", "without attention"
REGRESSION, DATEUTIL, RULE = "logistic regression", "dateutil", "rule"
NETWORK, MEMORY, DICTIONARY, COPY = "network", "translation memory", "dictionary", "source text"


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        days: dates of training, validation and test.
        together: how many dates a text has.
        dates: the networks for dates.
        pieces: V, the subwords of both languages.
        longest: the subwords of a message in training, at most.
        messages: the networks for messages.
        shares: of validation and of the test, among the messages.
        beams: candidates of the search for a message.
        seeds: networks of each kind.
    """

    days: tuple[int, int, int] = (6000, 500, 1000)
    together: tuple[int, ...] = (1, 2)
    dates: Size = Size(hidden=64, updates=500)
    pieces: int = 500
    longest: int = 24
    messages: Size = Size(hidden=96, embedding=64, updates=800, dropout=0.3)
    shares: tuple[float, float] = (0.1, 0.15)
    beams: int = 4
    seeds: int = 3


QUICK = Plan(
    days=(200, 20, 20),
    together=(1,),
    dates=Size(hidden=8, embedding=4, updates=16, batch=8),
    pieces=300,
    messages=Size(hidden=8, embedding=4, updates=16, batch=8),
    beams=2,
    seeds=2,
)
