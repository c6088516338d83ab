"""The names of cells in commands, settings and studies.

The docstring of ``StudySettings``, which is the help text, repeats them. Nothing here imports JAX,
so that the command line can check a name at once.
"""

import importlib
from typing import Any, Literal, NamedTuple, get_args

from rnnlab._wording import unknown


class Entry(NamedTuple):
    """A class of :mod:`rnnlab.cells` and the options that belong to its name."""

    kind: str
    options: dict[str, Any]


IRNN = {"activation": "relu", "recurrent_init": "identity"}
"""Le, Jaitly & Hinton 2015 (arXiv 1504.00941): ReLU units that start from the identity."""

REGISTRY: dict[str, Entry] = {
    "rnn": Entry("RNN", {}),
    "lstm": Entry("LSTM", {}),
    "gru": Entry("GRU", {}),
    "leaky-rnn": Entry("LeakyRNN", {}),
    "indrnn": Entry("IndRNN", {}),
    "mgu": Entry("MGU", {}),
    "highway": Entry("Highway", {}),
    "relu-rnn": Entry("RNN", {"activation": "relu"}),
    "irnn": Entry("RNN", IRNN),
    "gru-before": Entry("GRU", {"reset": "before"}),
    "peephole-lstm": Entry("LSTM", {"peephole": True}),
    "layernorm-lstm": Entry("LSTM", {"layer_norm": True}),
}


Init = Literal["rnnlab", "pytorch", "keras", "flax", "identity", "chrono"]
"""Initial weights by name: those of a framework, or a remedy for vanishing gradients."""


INITS: tuple[str, ...] = get_args(Init)


def make_cell(
    name: str,
    hidden_size: int,
    *,
    init: str = "rnnlab",
    max_lag: float = 1000,
    **options: Any,
) -> Any:
    """The cell of that name.

    Args:
        name: one of ``REGISTRY``.
        hidden_size: H.
        init: one of ``INITS``, its initial weights. "pytorch" draws all of them, and both
            biases, from U(−1/√H, 1/√H). "keras" draws one Glorot-uniform and one orthogonal matrix
            for all gates together. "flax" leaves the forget bias at 0. "identity" starts the
            recurrence from the identity. "chrono" draws the biases of an LSTM or a GRU for lags up
            to ``max_lag``, and leaves other cells as they are.
        max_lag: steps, for "chrono".
        options: of its class, such as ``param_dtype``.

    Raises:
        ValueError: for a name that is not in ``REGISTRY``.

    >>> make_cell("relu-rnn", 16).activation
    'relu'
    """
    if name not in REGISTRY:
        raise ValueError(unknown("cell", name, REGISTRY))
    kind, registered = REGISTRY[name]
    # What the name says comes before the initial weights (an IRNN keeps its identity), and what the
    # caller says before both.
    merged = _initial(kind, registered, init, max_lag) | registered | options
    # Imported here, since the names must be readable before JAX is loaded.
    initializers = importlib.import_module("rnnlab.initializers")
    for option, value in merged.items():
        if option.endswith("_init") and isinstance(value, str):
            merged[option] = getattr(initializers, value)()
    cell_class = getattr(importlib.import_module("rnnlab.cells"), kind)
    return cell_class(hidden_size, **merged)


def _initial(
    kind: str,
    registered: dict[str, Any],
    init: str,
    max_lag: float,
) -> dict[str, Any]:
    """The options of a class that select the initial weights of that name."""
    from rnnlab import initializers as draw

    if init == "pytorch":
        uniform = draw.hidden_uniform()
        options: dict[str, Any] = {
            "kernel_init": uniform,
            "recurrent_init": uniform,
            "bias_init": uniform,
        }
        # The GRU that resets before the product has no second bias, nor has PyTorch such a GRU.
        if registered.get("reset") != "before" and kind not in ("IndRNN", "Highway"):
            options |= {"recurrent_bias": True, "recurrent_bias_init": uniform}
        return options
    if init == "keras":
        options = {"kernel_init": draw.all_gates(draw.glorot_uniform())}
        # The recurrent weights of an IndRNN are a vector, which cannot be orthogonal.
        if kind != "IndRNN":
            options["recurrent_init"] = draw.all_gates(draw.orthogonal())
        return options
    if init == "flax" and kind == "LSTM":
        return {"forget_bias": 0.0}
    if init == "identity":
        # An IndRNN has the diagonal alone.
        return {"recurrent_init": draw.constant(1.0) if kind == "IndRNN" else draw.identity()}
    if init == "chrono" and kind in ("LSTM", "GRU"):
        # Chrono lags lie between 1 and max_lag − 1, and chrono refuses less than 3.
        return {"bias_init": draw.chrono(max(max_lag, 3))}
    return {}
