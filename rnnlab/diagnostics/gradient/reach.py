"""How far back a gradient reaches: horizon and decay of log-norms by lag, for each example and over all."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp

from rnnlab._results import result
from rnnlab.typing import AnyArray, Array

VANISHED = math.log(1000)
"""A gradient that has fallen by this much, in nats, has vanished: the horizon's threshold of 1/1000."""


ROUNDING = 1e-5
"""Of a product of shares of the examples, below the share of one of them."""


@result
class ExampleReach(NamedTuple):
    """How far back the gradient of one loss step reaches, for each example ``[...]``.

    In a stack every field has a leading axis, one entry for each recurrent layer and direction.

    Attributes:
        loss_steps: ``[...]``, at how many steps the loss enters.
        loss_step: ``[...]``, the one of them, counted from 0, whose gradient is followed: lags count
            from it. −1 where the loss enters nowhere.
        lags: ``[...]``, how many lags there are: 0 at the loss step itself, ``lags − 1`` at the first
            step of the sequence, or after the last reset. 0 where the loss enters nowhere.
        log_norm: ``[T, ...]``, ln‖∂E/∂s‖ of the whole state by lag, nats, where E is the loss at that
            step alone; −inf where the gradient is exactly zero and beyond the lags that there are.
        horizon: ``[...]``, the smallest lag, in steps, at which the norm is below 1/1000 of its value
            at lag 0; ``lags`` where there is none.
        vanishes: ``[...]``, whether there is such a lag.
        decay_per_step: ``[...]``, how fast the log-norm falls on lags 0 … ``horizon``, nats a step
            (least squares): what counts. inf where it is exactly zero from lag 1 on, 0 where there are
            fewer than two lags.
        late_decay_per_step: ``[...]``, the same beyond the horizon; 0 where there are fewer than two lags.
        zero: ``[...]``, whether the gradient is exactly zero from some lag on.
    """

    loss_steps: AnyArray
    loss_step: AnyArray
    lags: AnyArray
    log_norm: AnyArray
    horizon: AnyArray
    vanishes: AnyArray
    decay_per_step: AnyArray
    late_decay_per_step: AnyArray
    zero: AnyArray


class Reach(NamedTuple):
    """How far back a gradient reaches in the median example; the fields are those of GradientFlow."""

    log_norm_by_lag: AnyArray  # [T]
    lags: AnyArray
    horizon: AnyArray
    vanishes: AnyArray
    horizon_range: AnyArray  # [2]
    decay_per_step: AnyArray
    decay_range: AnyArray  # [2]
    late_decay_per_step: AnyArray
    zero_share: AnyArray


def loss_step(enters: Array, reverse: tuple[bool, ...]) -> tuple[Array, Array]:
    """The step whose loss is followed, for each example of ``enters [T, ...]``, and at how many it enters.

    Examples take different steps, spread evenly over the half of the loss steps that has the longest
    history: the later half, the earlier one where all layers run in reverse, all of them where both
    directions occur. So one backward pass sees many losses, each with many lags.
    """
    count = enters.sum(axis=0, dtype=jnp.int32)
    examples = max(math.prod(count.shape), 1)
    number = jnp.arange(examples, dtype=jnp.float32).reshape(count.shape)
    place = 1 - number / examples  # in (0, 1]; the first example takes the last step
    if all(reverse):
        place = (1 - place) / 2
    elif not any(reverse):
        place = (1 + place) / 2
    rank = jnp.ceil(place * count.astype(jnp.float32)).astype(jnp.int32)
    rank = jnp.clip(rank, 1, jnp.maximum(count, 1))
    chosen = enters & (jnp.cumsum(enters, axis=0, dtype=jnp.int32) == rank[None])
    return jnp.where(count > 0, chosen.argmax(axis=0).astype(jnp.int32), -1), count


# What follows takes NumPy arrays as well as JAX's, and computes with NumPy on those: the verdict on a
# gradient that has been computed would otherwise be compiled for every shape, for a second or more.


def history(
    steps: int,
    step: AnyArray,
    reverse: bool,
    lengths: AnyArray | None,
    resets: AnyArray | None,
) -> AnyArray:
    """How many steps lead up to ``step [...]``, itself included: since the start or the last reset; 0 for −1."""
    xp = step.__array_namespace__()
    start = xp.zeros_like(step)  # where the sequence that the step belongs to starts
    if reverse:
        start = start + (steps - 1)
        if lengths is not None:
            start = lengths.astype(step.dtype) - 1
    if resets is not None:
        number = _lags(xp, steps, step.ndim + 1)
        inside = resets & ((number >= step[None]) if reverse else (number <= step[None]))
        if reverse:
            start = xp.where(inside, number, start[None]).min(axis=0)
        else:
            start = xp.where(inside, number, 0).max(axis=0)
    count = (start - step if reverse else step - start) + 1
    return xp.where(step < 0, 0, count)


def by_lag(log_norms: AnyArray, step: AnyArray, lags: AnyArray, reverse: bool) -> AnyArray:
    """``log_norms [T, ...]`` by their distance from ``step [...]``; −inf beyond the lags that there are."""
    xp = log_norms.__array_namespace__()
    lag = _lags(xp, *_steps_and_rank(log_norms))
    there = lag < lags[None]
    source = step[None] + lag if reverse else step[None] - lag
    picked = xp.take_along_axis(log_norms, xp.where(there, source, 0), axis=0)
    return xp.where(there, picked, -math.inf)


def from_steps(
    log_norms: AnyArray,
    step: AnyArray,
    count: AnyArray,
    *,
    reverse: bool = False,
    lengths: AnyArray | None = None,
    resets: AnyArray | None = None,
) -> ExampleReach:
    """The reach of each example, from ``log_norms [T, ...]`` by step and where its loss is taken, ``[...]``."""
    lags = history(log_norms.shape[0], step, reverse, lengths, resets)
    return example_reach(by_lag(log_norms, step, lags, reverse), step, count, lags)


def example_reach(
    log_norm: AnyArray, step: AnyArray, count: AnyArray, lags: AnyArray
) -> ExampleReach:
    """Horizon and decay of each example from its log-norms by lag, ``[T, ...]``."""
    xp = log_norm.__array_namespace__()
    lag = _lags(xp, *_steps_and_rank(log_norm))
    reach = horizon(log_norm, lags)
    vanishes = reach < lags
    zero = (log_norm == -math.inf) & (lag < lags[None])
    dies_at_once = vanishes & (reach <= 1) & (log_norm[:2][-1] == -math.inf)
    decay = decay_per_step(log_norm, lag <= reach[None])
    return ExampleReach(
        loss_steps=count,
        loss_step=step,
        lags=lags,
        log_norm=log_norm,
        horizon=reach,
        vanishes=vanishes,
        decay_per_step=xp.where(dies_at_once, math.inf, decay),
        late_decay_per_step=decay_per_step(log_norm, lag >= reach[None]),
        zero=zero.any(axis=0),
    )


def over_examples(examples: ExampleReach) -> Reach:
    """The median over the examples in which the loss enters somewhere, and its range."""
    xp = examples.log_norm.__array_namespace__()
    log_norm = examples.log_norm.reshape(examples.log_norm.shape[0], -1)
    each = ExampleReach(*[leaf.reshape(-1) for leaf in examples])
    lag = _lags(xp, log_norm.shape[0], 2)
    counts = each.lags > 0
    most = each.lags.max()

    # An example that is cut off before its gradient has fallen says that the horizon is longer, not
    # that it is there. So the median is that of the product-limit estimate (Kaplan & Meier 1958).
    asked = lag < each.lags[None]
    falls = (asked & (each.horizon[None] == lag)).sum(axis=1).astype(log_norm.dtype)
    later = (asked & (each.horizon[None] > lag)).sum(axis=1).astype(log_norm.dtype)
    there = falls + later
    reaching = xp.cumprod(xp.where(there > 0, later / xp.maximum(there, 1), 1), axis=0)
    halfway = reaching <= 0.5 + ROUNDING
    middle = xp.where(halfway.any(), halfway.argmax().astype(most.dtype), most)

    first = log_norm[:1]
    relative = log_norm - xp.where(first == -math.inf, 0, first)
    curve = median(first[0], counts) + median(relative, asked)

    fitted = counts & (each.lags > 1)
    beyond = counts & each.vanishes & (each.lags - each.horizon > 1)
    reached = xp.where(each.vanishes, each.horizon, most)
    zeros = (each.zero & counts).sum().astype(log_norm.dtype)
    # Of two examples the lower median of the horizons is that of the faster decay: the upper median.
    decay = -median(-each.decay_per_step, fitted, missing=-0.0)
    return Reach(
        log_norm_by_lag=curve,
        lags=most,
        horizon=middle,
        vanishes=halfway.any(),
        horizon_range=_range(reached, counts, 0),
        decay_per_step=decay,
        decay_range=_range(each.decay_per_step, fitted, 0.0),
        late_decay_per_step=median(each.late_decay_per_step, beyond, 0.0),
        zero_share=zeros / xp.maximum(counts.sum(), 1).astype(log_norm.dtype),
    )


def horizon(log_norm: AnyArray, lags: AnyArray | None = None) -> AnyArray:
    """The smallest lag at which log-norms ``[T, ...]`` are more than ln 1000 below lag 0, steps ``[...]``.

    A norm that is exactly zero (−inf) is below, at lag 0 too. Where there is none the answer is ``lags``
    ``[...]``, how many lags are looked at; all T by default.

    >>> import jax.numpy as jnp
    >>> int(horizon(-0.5 * jnp.arange(100.0)))
    14
    """
    xp = log_norm.__array_namespace__()
    steps, *batch = log_norm.shape
    last = xp.full(batch, steps, dtype="int32") if lags is None else lags
    fallen = (log_norm < log_norm[:1] - VANISHED) | (log_norm == -math.inf)
    fallen = fallen & (_lags(xp, *_steps_and_rank(log_norm)) < last[None])
    first = fallen.argmax(axis=0).astype(last.dtype)
    return xp.where(fallen.any(axis=0), first, last)


def decay_per_step(log_norm: AnyArray, where: AnyArray | None = None) -> AnyArray:
    """Minus the least-squares slope of log-norms ``[T, ...]`` over their lags, nats a step, ``[...]``.

    The fit is over the lags at which the norm is finite and, where given, ``where [T, ...]`` is True; 0
    with fewer than two of them.
    """
    xp = log_norm.__array_namespace__()
    there = xp.isfinite(log_norm)
    if where is not None:
        there = there & where
    count = there.sum(axis=0).astype(log_norm.dtype)
    lag = _lags(xp, *_steps_and_rank(log_norm)).astype(log_norm.dtype)
    mean = xp.where(there, lag, 0).sum(axis=0) / xp.maximum(count, 1)
    centred = xp.where(there, lag - mean[None], 0)
    squares = (centred * centred).sum(axis=0)
    slope = (centred * xp.where(there, log_norm, 0)).sum(axis=0)
    return -slope / xp.where(count < 2, 1, squares)


def median(values: AnyArray, where: AnyArray | None = None, missing: float = -math.inf) -> AnyArray:
    """The lower median over the last axis of the values that count; ``missing`` where there are none."""
    xp = values.__array_namespace__()
    counts = xp.ones(values.shape, dtype=bool) if where is None else where
    count = counts.sum(axis=-1, keepdims=True)
    ordered = xp.sort(xp.where(counts, values, math.inf), axis=-1)
    middle = xp.maximum(count - 1, 0) // 2
    picked = xp.take_along_axis(ordered, middle, axis=-1)
    return xp.where(count > 0, picked, missing)[..., 0]


def _range(values: AnyArray, where: AnyArray, missing: float) -> AnyArray:
    """The smallest and the largest of the values that count, ``[2]``."""
    xp = values.__array_namespace__()
    low = xp.where(where, values, values.max()).min()
    high = xp.where(where, values, values.min()).max()
    return xp.where(where.any(), xp.stack([low, high]), missing)


def _steps_and_rank(log_norm: AnyArray) -> tuple[int, int]:
    return log_norm.shape[0], log_norm.ndim


def _lags(xp: Any, steps: int, rank: int) -> AnyArray:
    """0 … T − 1 along the first of so many axes."""
    return xp.arange(steps, dtype="int32").reshape(-1, *(1,) * (rank - 1))
