"""The embedded Reber grammar as an automaton, and the exact probabilities of its strings."""

import functools
from typing import NamedTuple

import numpy as np

SYMBOLS = ("B", "T", "P", "S", "X", "V", "E")
"""The symbols, code by code."""

SHORTEST = 9
"""The length of the shortest strings, such as BTBTXSETE."""

_REBER = (
    (("B", 1),),
    (("T", 2), ("P", 3)),
    (("S", 2), ("X", 4)),
    (("T", 3), ("V", 5)),
    (("X", 3), ("S", 6)),
    (("P", 4), ("V", 6)),
    (("E", 7),),
)
"""The inner grammar: the arcs of each state, a symbol and the next state; 7 follows its end."""

_BRANCHES = (("T", 2), ("P", 11))
"""The second symbol, and the first state of the inner string after it."""

END, ILLEGAL = 20, 21
"""The state after a string, and that after a symbol that the grammar does not allow."""


def _arcs() -> tuple[tuple[tuple[str, int], ...], ...]:
    """The arcs of the states before END."""
    arcs: list[tuple[tuple[str, int], ...]] = [(("B", 1),), _BRANCHES]
    for symbol, first in _BRANCHES:
        arcs.extend(_shifted(inner, first) for inner in _REBER)
        last = first + len(_REBER)
        arcs.append(((symbol, last + 1),))
        arcs.append((("E", END),))
    return tuple(arcs)


def _shifted(arcs: tuple[tuple[str, int], ...], first: int) -> tuple[tuple[str, int], ...]:
    """Arcs of the inner grammar whose first state is ``first``."""
    return tuple((symbol, first + state) for symbol, state in arcs)


def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # A state with a single arc has it twice. Padding is the symbol 0, without end.
    symbols = np.zeros((END + 1, 2), np.int32)
    nexts = np.full((END + 1, 2), END, np.int32)
    follow = np.full((ILLEGAL + 1, len(SYMBOLS)), ILLEGAL, np.int32)
    for state, arcs in enumerate(_arcs()):
        for choice in range(2):
            symbol, after = arcs[choice % len(arcs)]
            code = SYMBOLS.index(symbol)
            symbols[state, choice] = code
            nexts[state, choice] = after
            follow[state, code] = after
    return symbols, nexts, follow


SYMBOL, NEXT, FOLLOW = _tables()
"""The symbol and the next state of a state's two arcs, ``[S, 2]``; the state after a symbol,
``[S + 1, 7]``."""


class Grammar(NamedTuple):
    """The grammar's strings of at most N symbols, step by step.

    Attributes:
        choice: ``[N, S, 2]``, the probabilities of a state's arcs.
        flow: ``[N, S, 2]``, those that a string takes an arc at a step; 0 after its end.
    """

    choice: np.ndarray
    flow: np.ndarray


@functools.cache
def grammar(max_length: int) -> Grammar:
    """Choices of probability ½, given that a string has at most ``max_length`` symbols.

    That is the distribution of drawing until a string is short enough (rejection), as a Markov
    chain: an arc has a probability proportional to that of ending in time after it.
    """
    # The probability of ending within so many symbols more.
    ends = np.zeros(END + 1)
    ends[END] = 1.0
    choice = np.full((max_length, END + 1, 2), 0.5)
    for step in reversed(range(max_length)):
        in_time = ends[NEXT]
        either = in_time.sum(1, keepdims=True)
        np.divide(in_time, either, out=choice[step], where=either > 0)
        ends = in_time.mean(1)
    flow = np.zeros_like(choice)
    visits = np.zeros(END + 1)
    visits[0] = 1.0
    for step in range(max_length):
        visits[END] = 0.0
        flow[step] = visits[:, None] * choice[step]
        visits = np.bincount(NEXT.ravel(), flow[step].ravel(), END + 1)
    return Grammar(choice, flow)


def bigrams(max_length: int) -> np.ndarray:
    """``[7, 7]``: how often a symbol follows another in a string, expected."""
    choice, flow = grammar(max_length)
    counts = np.zeros((len(SYMBOLS), len(SYMBOLS)))
    for step in range(max_length - 1):
        # [state, arc, next arc]
        pairs = flow[step][:, :, None] * choice[step + 1][NEXT]
        pairs[NEXT == END] = 0.0
        first = np.broadcast_to(SYMBOL[:, :, None], pairs.shape)
        np.add.at(counts, (first, SYMBOL[NEXT]), pairs)
    return counts


def symbols_by_state(max_length: int) -> np.ndarray:
    """``[(N − 1) · S, 7]``: how often a symbol leaves a state at a step after the first, expected.

    State and step are all that the symbols before say about the next one.
    """
    flow = grammar(max_length).flow[1:]
    step, state, _ = np.indices(flow.shape)
    counts = np.zeros((*flow.shape[:2], len(SYMBOLS)))
    np.add.at(counts, (step, state, np.broadcast_to(SYMBOL, flow.shape)), flow)
    return counts.reshape(-1, len(SYMBOLS))
