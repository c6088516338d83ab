"""The cures by name: what each of them changes, and where it applies. Nothing here imports JAX."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from rnnlab.cells.registry import REGISTRY

PLAIN = "none"
"""The name of the unchanged network, with which every cure is compared."""


def _every_cell(cell: str) -> bool:
    del cell
    return True


def _lstm(cell: str) -> bool:
    return REGISTRY[cell].kind == "LSTM"


def _gated(cell: str) -> bool:
    kind, options = REGISTRY[cell]
    return kind in ("LSTM", "GRU") and not options.get("layer_norm")


def _plain_rnn(cell: str) -> bool:
    kind, options = REGISTRY[cell]
    return kind == "RNN" and not options


def _full_matrix(cell: str) -> bool:
    return REGISTRY[cell].kind != "IndRNN"


def _unchanged(lag: int) -> dict[str, Any]:
    del lag
    return {}


def _as_given(given: Any, drawn: Any, lag: int) -> Any:
    del drawn, lag
    return given


@dataclasses.dataclass(frozen=True)
class Cure:
    """A change of a network or of its training.

    Attributes:
        name: in commands and records.
        about: what it changes, in a few words.
        applies: ``applies(cell)``, whether it can be tried on the cell of that name.
        keeps_structure: whether the parameters stay those of the cell, so that a training with it
            can start from given ones.
        least_batch: the fewest sequences of an update.
        cell: ``cell(lag)``, what it changes of the arguments of ``make_cell``: the name of the
            cell, its initial weights, its options.
        start: ``start(given, drawn, lag)``, the parameters from which the training of a given
            network starts. ``drawn`` are those of a new cell with the cure.
        change: the function of ``cures_changes`` that changes what no argument of ``make_cell``
            can: the training, or a cell without a name. It is named, as its module needs JAX.
    """

    name: str
    about: str
    applies: Callable[[str], bool] = _every_cell
    keeps_structure: bool = True
    least_batch: int = 1
    cell: Callable[[int], dict[str, Any]] = _unchanged
    start: Callable[[Any, Any, int], Any] = _as_given
    change: str | None = None


def _log(lag: int) -> float:
    """The forget bias ln(lag); of one step it would be that of none."""
    return math.log(max(lag, 2))


def _forget_bias(given: Any, drawn: Any, lag: int) -> Any:
    from rnnlab.diagnostics import forget_bias

    del drawn
    return forget_bias(given, _log(lag))


def _biases(given: Any, drawn: Any, lag: int) -> Any:
    del lag
    # Of two biases only the sum counts.
    second = None if given.c is None else 0 * given.c
    return given._replace(b=drawn.b, c=second)


def _recurrent_weights(given: Any, drawn: Any, lag: int) -> Any:
    del lag
    return given._replace(w_h=drawn.w_h)


_ALL = (
    Cure(PLAIN, "the unchanged network"),
    Cure(
        "forget-bias",
        "forget bias ln(lag), of an LSTM",
        applies=_lstm,
        # A forget bias cannot be given beside another start of the biases.
        cell=lambda lag: {"forget_bias": _log(lag), "init": "rnnlab"},
        start=_forget_bias,
    ),
    Cure(
        "chrono",
        "biases of the gates for lags up to the length (Tallec & Ollivier 2018)",
        applies=_gated,
        cell=lambda _: {"init": "chrono"},
        start=_biases,
    ),
    Cure(
        "orthogonal",
        "orthogonal recurrent weights (Saxe et al. 2014)",
        applies=_full_matrix,
        cell=lambda _: {"recurrent_init": "orthogonal"},
        start=_recurrent_weights,
    ),
    Cure(
        "identity-relu",
        "ReLU, recurrent weights start from the identity (Le et al. 2015)",
        applies=_plain_rnn,
        keeps_structure=False,
        cell=lambda _: {"name": "irnn", "init": "rnnlab"},
    ),
    Cure(
        "logistic",
        "logistic units with Gaussian weights of standard deviation 3.6/√N",
        applies=_plain_rnn,
        keeps_structure=False,
        cell=lambda _: {
            "activation": "sigmoid",
            "kernel_init": "logistic",
            "recurrent_init": "logistic",
        },
    ),
    Cure(
        "layer-norm",
        "layer normalisation (Ba et al. 2016)",
        applies=_gated,
        keeps_structure=False,
        cell=lambda _: {"layer_norm": True},
    ),
    Cure(
        "batch-norm",
        "recurrent batch normalisation (Cooijmans et al. 2017)",
        applies=_lstm,
        keeps_structure=False,
        # It normalises over the batch.
        least_batch=2,
        change="batch_norm",
    ),
    Cure(
        "residual",
        "two layers with a residual connection around the second",
        keeps_structure=False,
        change="residual",
    ),
    Cure(
        "leaky",
        "leaky units with a time constant of the lag (Jaeger et al. 2007)",
        applies=_plain_rnn,
        keeps_structure=False,
        cell=lambda lag: {"name": "leaky-rnn", "alpha": 1 / lag},
    ),
    Cure(
        "independent",
        "independent units, IndRNN (Li et al. 2018)",
        applies=_plain_rnn,
        keeps_structure=False,
        cell=lambda _: {"name": "indrnn"},
    ),
    Cure(
        "gru",
        "the gates of a GRU",
        applies=lambda cell: cell != "gru",
        keeps_structure=False,
        cell=lambda _: {"name": "gru"},
    ),
    Cure(
        "lstm",
        "the gates of an LSTM",
        applies=lambda cell: cell != "lstm",
        keeps_structure=False,
        cell=lambda _: {"name": "lstm"},
    ),
    Cure("omega", "Pascanu's Ω in the loss", change="omega"),
    Cure(
        "flossing",
        "gradient flossing before the training (Engelken 2023)",
        change="flossing",
    ),
    Cure("clipping", "the gradient clipped to the norm 1", change="clipping"),
    Cure("truncation", "backpropagation truncated to half the lag", change="truncation"),
    Cure("pre-training", "training on the next input first", change="pre_training"),
    Cure("rmsprop", "RMSprop in place of Adam", change="rmsprop"),
    Cure("momentum", "gradient descent with momentum in place of Adam", change="momentum"),
)

CURES: dict[str, Cure] = {cure.name: cure for cure in _ALL}
"""The cures by name, in the order in which they are tried."""
