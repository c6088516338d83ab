"""The reach of a gradient: horizon and decay of its log-norms by lag, by example and over all."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp

from rnnlab._results import result
from rnnlab.typing import AnyArray, Array

VANISHED = math.log(1000)
"""A gradient that has decayed by this much, in nats, has vanished: below 1/1000, at the horizon."""

ROUNDING = 1e-5
"""More than the rounding of a product of shares of the examples, less than the share of one."""


@result
class ExampleReach(NamedTuple):
    """How far back the gradient of one loss step reaches, for each example ``[...]``.

    In a stack every field has a leading axis, one entry for each recurrent layer and direction.

    Attributes:
        loss_steps: ``[...]``, at how many steps the loss enters.
        loss_step: ``[...]``, the one of them, counted from 0, whose gradient is followed: lags
            count from it. −1 where the loss enters nowhere.
        lags: ``[...]``, the number of lags: 0 at the loss step itself, ``lags − 1`` at the first
            step of the sequence, or after the last reset. 0 where the loss enters nowhere.
        log_norm: ``[T, ...]``, ln‖∂E/∂s‖ of the whole state by lag, nats, where E is the loss at
            that step alone; −inf where the gradient is exactly zero and from ``lags`` on.
        horizon: ``[...]``, the smallest lag, in steps, at which the norm is below 1/1000 of its
            value at lag 0; ``lags`` where there is none.
        vanishes: ``[...]``, whether there is such a lag.
        decay_per_step: ``[...]``, how fast the log-norm decays on lags 0 … ``horizon``, nats per
            step (least squares). inf where it is exactly zero from lag 1 on, 0 where there are
            fewer than two lags.
        late_decay_per_step: ``[...]``, the same beyond the horizon; 0 where there are fewer than
            two lags.
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
    """The reach of a gradient in the median example; the fields are those of GradientFlow."""

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
    """The step whose loss is followed, for each example of ``enters [T, ...]``, and how many enter.

    Examples take different steps, spread evenly over the half of the loss steps that has the
    longest history: the later half, the earlier one where all layers run in reverse, all of them
    where both directions occur. So one backward pass sees many losses, each with many lags.
    """
    count = enters.sum(axis=0, dtype=jnp.int32)
    examples = max(math.prod(count.shape), 1)
    index = jnp.arange(examples, dtype=jnp.float32).reshape(count.shape)
    # In (0, 1], so that the first example takes the last step.
    place = 1 - index / examples
    if all(reverse):
        place = (1 - place) / 2
    elif not any(reverse):
        place = (1 + place) / 2
    rank = jnp.ceil(place * count.astype(jnp.float32))
    rank = jnp.clip(rank.astype(jnp.int32), 1, jnp.maximum(count, 1))
    ranks = jnp.cumsum(enters, axis=0, dtype=jnp.int32)
    chosen = enters & (ranks == rank[None])
    any_step = count > 0
    step = chosen.argmax(axis=0).astype(jnp.int32)
    return jnp.where(any_step, step, -1), count


# The functions below take NumPy arrays as well as JAX's, and compute with NumPy on those. Otherwise
# the summary of a gradient that is already computed would be compiled for every shape, which takes
# a second or more.


def history(
    steps: int,
    step: AnyArray,
    reverse: bool,
    valid: AnyArray | None,
    resets: AnyArray | None,
) -> AnyArray:
    """The number of steps up to ``step [...]``, included, since the start or the last reset.

    The start is the first step that is ``valid [T, ...]``, or the last one in reverse. 0 for a step
    of −1.
    """
    xp = step.__array_namespace__()
    index = _lags(xp, steps, step.ndim + 1)
    # The start of the sequence that the step belongs to.
    start = xp.zeros_like(step)
    if reverse:
        start = start + (steps - 1)
    if valid is not None and reverse:
        start = xp.where(valid, index, 0).max(axis=0)
    elif valid is not None:
        start = valid.argmax(axis=0).astype(step.dtype)
    if resets is not None:
        # A reset at a step that does not count does nothing. One at the step itself counts: it
        # clears the state before the step.
        resets = resets if valid is None else resets & valid
        if reverse:
            inside = resets & (index >= step[None])
            start = xp.where(inside, index, start[None]).min(axis=0)
        else:
            inside = resets & (index <= step[None])
            start = xp.where(inside, index, start[None]).max(axis=0)
    distance = start - step if reverse else step - start
    count = distance + 1
    return xp.where(step < 0, 0, count)


def by_lag(
    log_norms: AnyArray,
    step: AnyArray,
    lags: AnyArray,
    reverse: bool,
) -> AnyArray:
    """``log_norms [T, ...]`` by their distance from ``step [...]``; −inf from ``lags`` on."""
    xp = log_norms.__array_namespace__()
    lag = _lags(xp, *_steps_and_rank(log_norms))
    exists = lag < lags[None]
    source = step[None] + lag if reverse else step[None] - lag
    # Beyond the lags the index would leave the array; 0 is read there and masked below.
    picked = xp.take_along_axis(log_norms, xp.where(exists, source, 0), axis=0)
    return xp.where(exists, picked, -math.inf)


def from_steps(
    log_norms: AnyArray,
    step: AnyArray,
    count: AnyArray,
    *,
    reverse: bool = False,
    valid: AnyArray | None = None,
    resets: AnyArray | None = None,
) -> ExampleReach:
    """The reach of each example, from ``log_norms [T, ...]`` and its loss step ``[...]``."""
    lags = history(log_norms.shape[0], step, reverse, valid, resets)
    log_norm = by_lag(log_norms, step, lags, reverse)
    return example_reach(log_norm, step, count, lags)


def example_reach(
    log_norm: AnyArray,
    step: AnyArray,
    count: AnyArray,
    lags: AnyArray,
) -> ExampleReach:
    """Horizon and decay of each example from its log-norms by lag, ``[T, ...]``."""
    xp = log_norm.__array_namespace__()
    lag = _lags(xp, *_steps_and_rank(log_norm))
    reach = horizon(log_norm, lags)
    vanishes = reach < lags
    zero = (log_norm == -math.inf) & (lag < lags[None])
    # [:2][-1] is lag 1, or lag 0 of a sequence of one step.
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
    steps = examples.log_norm.shape[0]
    log_norm = examples.log_norm.reshape(steps, -1)
    flat = ExampleReach(*[leaf.reshape(-1) for leaf in examples])
    lag = _lags(xp, log_norm.shape[0], 2)
    counts = flat.lags > 0
    longest = flat.lags.max()
    exists = lag < flat.lags[None]
    middle, halfway = _median_horizon(flat, lag, exists, longest, log_norm.dtype)

    first = log_norm[:1]
    relative = log_norm - xp.where(first == -math.inf, 0, first)
    curve = median(first[0], counts) + median(relative, exists)

    fitted = counts & (flat.lags > 1)
    beyond = counts & flat.vanishes & (flat.lags - flat.horizon > 1)
    reached = xp.where(flat.vanishes, flat.horizon, longest)
    zeros = (flat.zero & counts).sum().astype(log_norm.dtype)
    # Of two examples the lower median of the horizons belongs to the faster decay, so this is the
    # upper median.
    decay = -median(-flat.decay_per_step, fitted, missing=-0.0)
    return Reach(
        log_norm_by_lag=curve,
        lags=longest,
        horizon=middle,
        vanishes=halfway.any(),
        horizon_range=_range(reached, counts, 0),
        decay_per_step=decay,
        decay_range=_range(flat.decay_per_step, fitted, 0.0),
        late_decay_per_step=median(flat.late_decay_per_step, beyond, 0.0),
        zero_share=zeros / xp.maximum(counts.sum(), 1).astype(log_norm.dtype),
    )


def _median_horizon(
    flat: ExampleReach,
    lag: AnyArray,
    exists: AnyArray,
    longest: AnyArray,
    dtype: Any,
) -> tuple[AnyArray, AnyArray]:
    """The median horizon, and for each lag whether half of the examples have reached theirs.

    An example whose sequence ends before its gradient has decayed says that the horizon is longer,
    not that it is at the end. So the median is that of the product-limit estimate (Kaplan & Meier
    1958).
    """
    xp = exists.__array_namespace__()
    vanishing = exists & (flat.horizon[None] == lag)
    vanish_here = vanishing.sum(axis=1).astype(dtype)
    alive = exists & (flat.horizon[None] > lag)
    vanish_later = alive.sum(axis=1).astype(dtype)
    at_risk = vanish_here + vanish_later
    share = xp.where(at_risk > 0, vanish_later / xp.maximum(at_risk, 1), 1)
    reaching = xp.cumprod(share, axis=0)
    # Of an even number of examples exactly half remain at the median, up to rounding.
    halfway = reaching <= 0.5 + ROUNDING
    middle = xp.where(halfway.any(), halfway.argmax().astype(longest.dtype), longest)
    return middle, halfway


def horizon(log_norm: AnyArray, lags: AnyArray | None = None) -> AnyArray:
    """The smallest lag at which log-norms ``[T, ...]`` are over ln 1000 below lag 0, ``[...]``.

    A norm that is exactly zero (−inf) is below, at lag 0 too. Where there is no such lag the answer
    is ``lags [...]``, the number of lags to look at; all T by default.

    >>> import jax.numpy as jnp
    >>> int(horizon(-0.5 * jnp.arange(100.0)))
    14
    """
    xp = log_norm.__array_namespace__()
    steps, *batch = log_norm.shape
    last = xp.full(batch, steps, dtype="int32") if lags is None else lags
    vanished = (log_norm < log_norm[:1] - VANISHED) | (log_norm == -math.inf)
    vanished = vanished & (_lags(xp, *_steps_and_rank(log_norm)) < last[None])
    first = vanished.argmax(axis=0).astype(last.dtype)
    return xp.where(vanished.any(axis=0), first, last)


def decay_per_step(log_norm: AnyArray, where: AnyArray | None = None) -> AnyArray:
    """Minus the least-squares slope of log-norms ``[T, ...]`` over their lags, nats per step.

    The fit is over the lags at which the norm is finite and, with ``where [T, ...]``, where that is
    True; 0 with fewer than two of them. Returns ``[...]``.

    >>> import jax.numpy as jnp
    >>> round(float(decay_per_step(-0.5 * jnp.arange(100.0))), 3)
    0.5
    """
    xp = log_norm.__array_namespace__()
    used = xp.isfinite(log_norm)
    if where is not None:
        used = used & where
    count = used.sum(axis=0).astype(log_norm.dtype)
    lag = _lags(xp, *_steps_and_rank(log_norm)).astype(log_norm.dtype)
    total = xp.where(used, lag, 0).sum(axis=0)
    mean = total / xp.maximum(count, 1)
    centred = xp.where(used, lag - mean[None], 0)
    squares = (centred * centred).sum(axis=0)
    slope = (centred * xp.where(used, log_norm, 0)).sum(axis=0)
    return -slope / xp.where(count < 2, 1, squares)


def median(values: AnyArray, where: AnyArray | None = None, missing: float = -math.inf) -> AnyArray:
    """The lower median over the last axis of the values in ``where``; ``missing`` without any."""
    xp = values.__array_namespace__()
    counts = xp.ones(values.shape, dtype=bool) if where is None else where
    count = counts.sum(axis=-1, keepdims=True)
    # inf sorts the values that do not count behind those that do.
    ordered = xp.sort(xp.where(counts, values, math.inf), axis=-1)
    middle = xp.maximum(count - 1, 0) // 2
    picked = xp.take_along_axis(ordered, middle, axis=-1)
    return xp.where(count > 0, picked, missing)[..., 0]


def _range(values: AnyArray, where: AnyArray, missing: float) -> AnyArray:
    """The smallest and the largest of the values in ``where``, ``[2]``."""
    xp = values.__array_namespace__()
    low = xp.where(where, values, values.max()).min()
    high = xp.where(where, values, values.min()).max()
    return xp.where(where.any(), xp.stack([low, high]), missing)


def _steps_and_rank(log_norm: AnyArray) -> tuple[int, int]:
    return log_norm.shape[0], log_norm.ndim


def _lags(xp: Any, steps: int, rank: int) -> AnyArray:
    """0 … T − 1 along the first of ``rank`` axes."""
    ones = (1,) * (rank - 1)
    return xp.arange(steps, dtype="int32").reshape(-1, *ones)
