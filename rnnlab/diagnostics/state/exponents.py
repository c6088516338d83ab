"""Lyapunov exponents, their errors and dimensions, from QR decompositions."""

import math
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from rnnlab._results import result
from rnnlab.typing import Array

ZERO = 1e-3
"""The largest |λ| that counts as zero, nats a step: a factor of e in 1000 steps."""

LOST = 4
"""A direction is lost in rounding below so many ε, as a part of the largest number of R."""

NEAR = 1000
"""A direction comes near to that where it is at most so many times longer."""


@result
class LyapunovSpectrum(NamedTuple):
    """Lyapunov exponents λ₁ ≥ λ₂ ≥ …, nats a step, of every example (driven by inputs of its own).

    Of k exponents, N decompositions and M blocks; ``[...]`` are the batch axes.

    Attributes:
        exponents: λᵢ ``[..., k]``, nats a step, each example's sorted from the largest to the
            smallest, which draws those apart that differ by less than their errors; −inf where a
            direction is annihilated.
        mean: the mean of ``exponents`` over the examples that are not ``stuck``, or over all where
            every one is, ``[k]``, nats a step.
        spread: their standard deviation, ``[k]``, nats a step; 0 for a single example, inf where
            some but not all of them are −inf.
        standard_error: of ``exponents``, ``[..., k]``, nats a step, from the blocks: their standard
            deviation over √M. Inf for a single block, 0 where the exponent is −inf.
        blocks: the finite-time exponents of M successive stretches of equal length (but for
            rounding), ``[M, ..., k]``, nats a step, in the order of ``exponents``.
        trace: the estimates after each decomposition, ``[N, ..., k]``, nats a step, in the order of
            ``exponents``, which are the last of them.
        kaplan_yorke: the Kaplan–Yorke dimension ``[...]``, see :func:`kaplan_yorke`; 0 where
            ``stuck``, NaN where it takes more exponents than were asked for.
        entropy_rate: Σ λᵢ over the positive ones, ``[...]``, nats a step, see :func:`entropy_rate`;
            0 where ``stuck``.
        stuck: whether the state ends at rest on a fixed point that repels its neighbours,
            ``[...]``, booleans. It started there, or rounding put it there, and the exponents are
            those of that point, at least for the last steps: a positive λ₁ is no sign of chaos.
    """

    exponents: Array
    mean: Array
    spread: Array
    standard_error: Array
    blocks: Array
    trace: Array
    kaplan_yorke: Array
    entropy_rate: Array
    stuck: Array

    def finding(self) -> str:
        """What λ₁ says about nearby trajectories, in one sentence."""
        stuck = np.asarray(self.stuck)
        if stuck.all():
            return f"the state is stuck on an unstable fixed point, with λ₁ = {self.mean[0]:.3g}"
        first = float(self.mean[0])
        errors = np.asarray(self.standard_error)[..., 0][~stuck]
        error = math.sqrt(np.sum(errors**2)) / errors.size
        value = f"λ₁ = {first:.3g} ± {error:.1g} nats a step"
        if math.isnan(first):
            text = "λ₁ is not a number, since the state has left all bounds"
        elif math.isinf(error):
            text = f"λ₁ = {first:.3g} nats a step, from too few steps for an error"
        elif abs(first) <= max(2 * error, ZERO):
            text = f"{value}, which is zero within its error"
        else:
            text = f"nearby trajectories {'converge' if first < 0 else 'diverge'}, {value}"
        if stuck.any():
            text += f"; {stuck.sum()} of {stuck.size} examples are stuck on an unstable fixed point"
        return text


class Decompositions(NamedTuple):
    """What N QR decompositions along a trajectory give, all that exponents are computed from."""

    lengths: Array  # |Rᵢᵢ|, [N, ..., k]
    longest: Array  # the largest number of R, [N, ...]
    still: Array  # whether the last step left the state as it was, [N, ...]


class Sums(NamedTuple):
    """Sums over decompositions, ``[N, ..., k]``."""

    stretch: Array  # ln |Rᵢᵢ|, nats
    lost: Array  # how often a direction is lost in rounding, less how often it comes near to that


def summarise(
    found: Decompositions, zero: Array | float, size: int, blocks: int, qr_every: int
) -> LyapunovSpectrum:
    """The spectrum of a state of ``size`` numbers, from decompositions ``qr_every`` steps apart.

    By NumPy, which compiles nothing and sums in float64, unless values are traced.
    """
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((found, zero)))
    dtype = found.lengths.dtype
    limit = LOST * float(jnp.finfo(dtype).eps)
    if not traced:
        lengths, longest, still = jax.device_get(found)
        found = Decompositions(lengths.astype(float), longest.astype(float), still)
    with np.errstate(all="ignore"):
        fields = _fields(jnp if traced else np, found, limit, zero, size, blocks, qr_every)
    typed = [jnp.asarray(value, None if value.dtype == bool else dtype) for value in fields]
    return LyapunovSpectrum(*typed)


def _fields(
    xp: Any,
    found: Decompositions,
    limit: float,
    zero: Array | float,
    size: int,
    count: int,
    qr_every: int,
) -> LyapunovSpectrum:
    each = _stretch(xp, found, limit)
    stuck = _stuck(xp, found.still, each.stretch[..., 0], zero, qr_every)
    sums = Sums(*xp.cumsum(xp.stack(each), axis=1))
    steps = qr_every * np.arange(1, len(sums.lost) + 1)
    trace = _mean(xp, sums, steps)
    ends = np.linspace(0, len(steps), count + 1).round().astype(int)[1:] - 1
    own = Sums(*(xp.diff(total[ends], axis=0, prepend=0) for total in sums))
    own_steps = np.diff(steps[ends], prepend=0)
    blocks = _mean(xp, own, own_steps)
    error = _standard_error(xp, _mean(xp, own._replace(lost=0 * own.lost), own_steps))
    if trace.shape[-1] > 1:
        order = xp.argsort(-trace[-1], axis=-1)
        error = xp.take_along_axis(error, order, axis=-1)
        trace = xp.take_along_axis(trace, order[None], axis=-1)
        blocks = xp.take_along_axis(blocks, order[None], axis=-1)
    exponents = trace[-1]
    mean, spread = _over_batch(xp, exponents, ~stuck | stuck.all())
    return LyapunovSpectrum(
        exponents=exponents,
        mean=mean,
        spread=spread,
        standard_error=xp.where(xp.isneginf(exponents), 0, error),
        blocks=blocks,
        trace=trace,
        kaplan_yorke=xp.where(stuck, 0, _dimension(xp, exponents, size, zero)),
        entropy_rate=xp.where(stuck, 0, xp.where(exponents > zero, exponents, 0).sum(axis=-1)),
        stuck=stuck,
    )


def _stretch(xp: Any, found: Decompositions, limit: float) -> Sums:
    """What each decomposition adds; rounding begins at ``limit``, as a part of the largest of R."""
    size = found.lengths
    rounding = limit * found.longest[..., None]
    lost = size <= rounding
    near = ~lost & (size <= NEAR * rounding)
    floor = xp.where(rounding > 0, rounding, 1)
    stretch = xp.log(xp.where(lost, floor, size))
    return Sums(stretch, lost.astype(size.dtype) - near.astype(size.dtype))


def _stuck(xp: Any, still: Array, stretch: Array, zero: Array | float, qr_every: int) -> Array:
    """Whether the state is at rest at the end, ``[...]``, where its neighbours move away."""
    number = np.arange(len(still)).reshape(-1, *(1,) * (still.ndim - 1))
    moved = xp.where(still, -1, number).max(axis=0)  # last
    growth = xp.where(number > moved[None], stretch, 0).sum(axis=0)
    rested = qr_every * (len(still) - 1 - moved)
    return growth > zero * rested.astype(stretch.dtype)


def _mean(xp: Any, sums: Sums, steps: np.ndarray) -> Array:
    """Exponents from sums over so many ``steps [N]``."""
    each = steps.reshape(-1, *(1,) * (sums.lost.ndim - 1)).astype(sums.stretch.dtype)
    return xp.where(sums.lost > 0, -np.inf, sums.stretch / each)


def _standard_error(xp: Any, means: Array) -> Array:
    """Of the mean of M blocks, from their own, ``[M, ...]``."""
    count = means.shape[0]
    if count == 1:
        return xp.full(means.shape[1:], np.inf, means.dtype)
    return _root(xp, means.var(axis=0, ddof=1) / count)


def _over_batch(xp: Any, exponents: Array, counted: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of ``[..., k]`` over the examples that are ``counted [...]``."""
    rows = exponents.reshape(-1, exponents.shape[-1])
    counted = counted.reshape(-1, 1)
    dead = counted & xp.isneginf(rows)
    some, every = dead.any(axis=0), (dead | ~counted).all(axis=0)
    number = counted.sum().astype(rows.dtype)
    finite = xp.where(counted & ~dead, rows, 0)
    mean = finite.sum(axis=0) / number
    away = xp.where(counted, finite - mean[None], 0)
    variance = (away * away).sum(axis=0) / number
    spread = xp.where(some, xp.where(every, 0, np.inf), _root(xp, variance))
    return xp.where(some, -np.inf, mean), spread


def _root(xp: Any, x: Array) -> Array:
    """√x, with derivative zero at zero."""
    zero = x == 0
    return xp.where(zero, 0, xp.sqrt(xp.where(zero, 1, x)))


def kaplan_yorke(exponents: Array, size: int, zero: float = ZERO) -> Array:
    """The Kaplan–Yorke dimension D = j + Σᵢ≤ⱼ λᵢ/|λⱼ₊₁| of spectra (Kaplan & Yorke 1979).

    j is the largest number of leading exponents whose sum is not negative. D jumps from 0 to 1
    where λ₁ comes to zero, which measured exponents never are exactly; hence the tolerance
    ``zero``. A closed curve has λ₁ = 0 and dimension 1, also if −8e-7 is measured.

    Args:
        exponents: λᵢ ``[..., k]``, in any order, nats a step.
        size: n, of the state that they belong to.
        zero: the largest |λ| that counts as zero, nats a step.

    Returns:
        D ``[...]``; NaN where it takes more exponents than are given.
    """
    return _dimension(jnp, -jnp.sort(-exponents, axis=-1), size, zero)


def _dimension(xp: Any, falling: Array, size: int, zero: Array | float) -> Array:
    """The sum of what each exponent adds: 1 up to the j-th, a part for the next, nothing beyond."""
    falling = xp.where(abs(falling) <= zero, 0, falling)
    sums = xp.cumsum(falling, axis=-1)
    before = xp.concatenate([xp.zeros_like(sums[..., :1]), sums[..., :-1]], axis=-1)
    part = xp.where(before > 0, before / xp.where(falling < 0, -falling, 1), 0)
    dimension = xp.where(sums >= 0, 1, part).sum(axis=-1)
    known = (sums[..., -1] < 0) | (falling.shape[-1] == size)
    return xp.where(known, dimension, np.nan)


def entropy_rate(exponents: Array, zero: float = ZERO) -> Array:
    """Σ λᵢ over the exponents above ``zero``: Pesin's upper bound of the entropy rate.

    Args:
        exponents: λᵢ ``[..., k]``, in any order, nats a step.
        zero: the largest |λ| that counts as zero, nats a step.

    Returns:
        The bound ``[...]``, nats a step.
    """
    return jnp.sum(jnp.where(exponents > zero, exponents, 0), axis=-1)
