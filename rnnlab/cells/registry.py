"""Cells by name: the only place to add one for commands, settings and studies.

Nothing here imports JAX, so that the command line can check a name at once.
"""

import importlib
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """A class of :mod:`rnnlab.cells` and the options that make it what its name says."""

    kind: str
    options: dict[str, Any]


IRNN = {"activation": "relu", "recurrent_init": "identity"}
"""Le, Jaitly & Hinton 2015 (arXiv 1504.00941): ReLU units that start from the identity."""

REGISTRY: dict[str, Entry] = {
    "rnn": Entry("RNN", {}),
    "lstm": Entry("LSTM", {}),
    "gru": Entry("GRU", {}),
    "leaky-rnn": Entry("LeakyRNN", {}),
    "relu-rnn": Entry("RNN", {"activation": "relu"}),
    "irnn": Entry("RNN", IRNN),
    "gru-before": Entry("GRU", {"reset": "before"}),
    "peephole-lstm": Entry("LSTM", {"peephole": True}),
    "layernorm-lstm": Entry("LSTM", {"layer_norm": True}),
}


def make_cell(name: str, hidden_size: int, **options: Any) -> Any:
    """The cell of that name; ``options``, such as ``param_dtype``, are those of its class.

    An initialiser may be given by the name of its function in :mod:`rnnlab.initializers`.

    Raises:
        KeyError: for a name that is not in ``REGISTRY``.

    >>> make_cell("relu-rnn", 16).activation
    'relu'
    """
    kind, own = REGISTRY[name]
    given = own | options
    initializers = importlib.import_module("rnnlab.initializers")
    for option, value in given.items():
        if option.endswith("_init") and isinstance(value, str):
            given[option] = getattr(initializers, value)()
    return getattr(importlib.import_module("rnnlab.cells"), kind)(hidden_size, **given)
