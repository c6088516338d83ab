"""Words for numbers, names and the reach of a gradient; free of JAX, shared by all parts."""

import difflib
import math
from collections.abc import Iterable

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def reach(
    horizon: int,
    vanishes: bool,
    decay_per_step: float | None,
    lags: int,
    *,
    horizon_range: tuple[int, int] | None = None,
    over: str = "",
    zero_share: float | None = None,
    least_lags: int | None = None,
) -> str:
    """How far back a gradient reaches, without a full stop, such as

    "the gradient halves every 3.7 steps and is below 1/1000 after 37 steps (28 to 102 over 5
    seeds)".

    Args:
        horizon: the smallest lag at which the gradient is below 1/1000, steps.
        vanishes: whether there is such a lag.
        decay_per_step: the decay down to there, nats per step; inf where the gradient is zero at
            once, None where there is nothing to fit.
        lags: the number of lags, 0 … lags − 1.
        horizon_range: the smallest and the largest horizon.
        over: of what, such as "5 seeds".
        zero_share: the share of the examples in which the gradient becomes exactly zero.
        least_lags: the number of lags of the shortest example; ``lags`` by default.
    """
    if lags < 1 or (vanishes and horizon == 0):
        return "no gradient flows back: it is zero where the loss is taken"
    if lags == 1:
        return "the loss is taken at the first step, so there is no step to go back to"
    rate = _rate(decay_per_step, lags)
    # Where the decay explains less than half of the fall, the gradient ends abruptly, at a ReLU
    # for example, and a rate would mislead.
    if vanishes and (decay_per_step or 0) * horizon < math.log(1000) / 2:
        rate = ""
    spread = ""
    if horizon_range is not None and horizon_range[0] < horizon_range[1]:
        low, high = horizon_range
        highest = "the whole sequence" if high >= lags else f"{high}"
        spread = f" ({low} to {highest} over {over})"
    if vanishes:
        end = f"is below 1/1000 after {steps(horizon)}{spread}"
    else:
        back = steps(lags - 1)
        if least_lags is not None and least_lags < lags:
            back = f"{least_lags - 1} to {back}"
        end = f"is still above 1/1000 at the first step, {back} back{spread}"
    sentence = f"the gradient {rate} and {end}" if rate else f"the gradient {end}"
    if zero_share:
        share = percent(zero_share)
        sentence += f"; beyond some lag it is exactly zero in {share} of the examples"
    return sentence


def _rate(decay_per_step: float | None, lags: int) -> str:
    if decay_per_step is None or not math.isfinite(decay_per_step):
        return ""
    if abs(decay_per_step) * lags < 0.01:
        return "keeps its norm"
    verb = "halves" if decay_per_step > 0 else "doubles"
    period = f"{math.log(2) / abs(decay_per_step):.3g}"
    unit = "step" if period == "1" else "steps"
    return f"{verb} every {period} {unit}"


def steps(count: int) -> str:
    """A number of steps with its unit."""
    return counted(count, "step")


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number of things, of which ``one`` is the singular and ``many`` the plural.

    >>> counted(1, "batch", "batches"), counted(3, "step")
    ('1 batch', '3 steps')
    """
    return f"{count} {one if count == 1 else many or one + 's'}"


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """The error for a name that does not exist, with those that do.

    >>> unknown("cell", "lstmm", ["lstm", "gru"])
    "cell 'lstmm' is unknown (did you mean 'lstm'?); choose from lstm, gru"
    """
    names = list(known)
    return f"{kind} {name!r} is unknown{meant(str(name), names)}; choose from {', '.join(names)}"


def meant(name: str, known: Iterable[str]) -> str:
    """A question whether another name was meant: one that is close, or up to three that hold it.

    >>> meant("copy", ["adding", "copy-memory", "copy-padding"])
    " (did you mean 'copy-memory' or 'copy-padding'?)"
    """
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    if not close and len(name) > 2:
        close = [one for one in names if name.lower() in one.lower()][:3]
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def power_of_ten(exponent: float) -> str:
    """A power of ten with a superscript in Unicode, which needs no mathematical typesetting.

    >>> power_of_ten(-3)
    '10⁻³'
    """
    return "10" + str(round(exponent)).translate(_RAISED)


def percent(share: float) -> str:
    """A share as a percentage, with at most three digits.

    >>> percent(0.125)
    '12.5 %'
    """
    return f"{100 * share:.3g} %"
