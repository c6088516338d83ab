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
"""The largest |λ| that counts as zero, nats per step: a factor of e in 1000 steps."""

LOST = 2
"""A direction is lost in rounding if its length is at most LOST √n ε times the largest entry of R,
in a state of n numbers. States of fewer than four count as four."""

NEAR = 1000
"""A direction is close to being lost where it is at most so many times longer than that."""


@result
class LyapunovSpectrum(NamedTuple):
    """Lyapunov exponents λ₁ ≥ λ₂ ≥ …, nats per step, of every example (each with its own inputs).

    From k exponents, N decompositions and M blocks; ``[...]`` are the batch axes.

    Attributes:
        exponents: λᵢ ``[..., k]``, nats per step, sorted from the largest to the smallest for each
            example; sorting exaggerates gaps that are smaller than the errors. −inf where a
            direction is annihilated.
        mean: the mean of ``exponents`` over the examples that are not ``stuck``, or over all where
            every one is, ``[k]``, nats per step.
        spread: their standard deviation, ``[k]``, nats per step; 0 for a single example, inf where
            some but not all of them are −inf.
        standard_error: of ``exponents``, ``[..., k]``, nats per step, from the blocks: their
            standard deviation over √M. Inf for a single block, 0 where the exponent is −inf.
        blocks: the finite-time exponents of M successive blocks of equal length (but for
            rounding), ``[M, ..., k]``, nats per step, in the order of ``exponents``.
        trace: the estimates after each decomposition, ``[N, ..., k]``, nats per step, in the order
            of ``exponents``, which are the last of them.
        kaplan_yorke: the Kaplan–Yorke dimension ``[...]``, see :func:`kaplan_yorke`; 0 where
            ``stuck``, NaN where it takes more exponents than were requested.
        entropy_rate: Σ λᵢ over the positive ones, ``[...]``, nats per step, see
            :func:`entropy_rate`; 0 where ``stuck``.
        stuck: whether the state ends at rest on an unstable fixed point, ``[...]``, booleans. It
            started there, or rounding put it there, and the exponents are those of that point, at
            least for the last steps: a positive λ₁ is not a sign of chaos.
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
        """The conclusion from λ₁ about nearby trajectories, in one sentence."""
        stuck = np.asarray(self.stuck)
        if stuck.all():
            return f"the state is stuck on an unstable fixed point, with λ₁ = {self.mean[0]:.3g}"
        first = float(self.mean[0])
        errors = np.asarray(self.standard_error)[..., 0][~stuck]
        error = math.sqrt(np.sum(errors**2)) / errors.size
        text = _conclusion(first, error)
        if stuck.any():
            text += f"; {stuck.sum()} of {stuck.size} examples are stuck on an unstable fixed point"
        return text


def _conclusion(first: float, error: float) -> str:
    value = f"λ₁ = {first:.3g} ± {error:.1g} nats per step"
    if math.isnan(first):
        return "λ₁ is NaN, since the state has diverged"
    if math.isinf(error):
        return f"λ₁ = {first:.3g} nats per step, with too few steps for an error estimate"
    if abs(first) <= max(2 * error, ZERO):
        return f"{value}, which is zero within its error"
    if first < 0:
        return f"nearby trajectories converge, {value}"
    return f"nearby trajectories diverge, {value}"


class Decompositions(NamedTuple):
    """N QR decompositions along a trajectory: all that exponents are computed from."""

    # |Rᵢᵢ|, [N, ..., k]
    lengths: Array
    # the largest entry of R, [N, ...]
    longest: Array
    # whether the last step left the state unchanged, [N, ...]
    still: Array


class Sums(NamedTuple):
    """Sums over decompositions, ``[N, ..., k]``."""

    # ln |Rᵢᵢ|, nats
    stretch: Array
    # how often a direction is lost in rounding, less how often it is close to that
    lost: Array


def summarise(
    decompositions: Decompositions,
    zero: Array | float,
    size: int,
    blocks: int,
    qr_every: int,
) -> LyapunovSpectrum:
    """The spectrum of a state of ``size`` numbers, from decompositions ``qr_every`` steps apart."""
    leaves = jax.tree.leaves((decompositions, zero))
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
    dtype = decompositions.lengths.dtype
    limit = LOST * math.sqrt(max(size, 4)) * float(jnp.finfo(dtype).eps)
    xp = jnp
    if not traced:
        # NumPy compiles nothing and sums in float64: in float32 long sums lose digits.
        xp = np
        lengths, longest, still = jax.device_get(decompositions)
        decompositions = Decompositions(lengths.astype(float), longest.astype(float), still)
    with np.errstate(all="ignore"):
        fields = _fields(xp, decompositions, limit, zero, size, blocks, qr_every)
    arrays = []
    for value in fields:
        field_dtype = None if value.dtype == bool else dtype
        arrays.append(jnp.asarray(value, field_dtype))
    return LyapunovSpectrum(*arrays)


def _fields(
    xp: Any,
    decompositions: Decompositions,
    limit: float,
    zero: Array | float,
    size: int,
    block_count: int,
    qr_every: int,
) -> LyapunovSpectrum:
    each = _stretch(xp, decompositions, limit)
    stuck = _stuck(xp, decompositions.still, each.stretch[..., 0], zero, qr_every)
    sums = Sums(*xp.cumsum(xp.stack(each), axis=1))
    steps = qr_every * np.arange(1, len(sums.lost) + 1)
    trace = _mean(xp, sums, steps)
    blocks, error = _blocks(xp, sums, steps, block_count)
    # Skipped for a single exponent, where it would only add to what XLA compiles.
    if trace.shape[-1] > 1:
        order = xp.argsort(-trace[-1], axis=-1)
        error = xp.take_along_axis(error, order, axis=-1)
        trace = xp.take_along_axis(trace, order[None], axis=-1)
        blocks = xp.take_along_axis(blocks, order[None], axis=-1)
    exponents = trace[-1]
    mean, spread = _over_batch(xp, exponents, ~stuck | stuck.all())
    error = xp.where(xp.isneginf(exponents), 0, error)
    dimension = _dimension(xp, exponents, size, zero)
    dimension = xp.where(stuck, 0, dimension)
    entropy = xp.where(exponents > zero, exponents, 0).sum(axis=-1)
    entropy = xp.where(stuck, 0, entropy)
    return LyapunovSpectrum(
        exponents=exponents,
        mean=mean,
        spread=spread,
        standard_error=error,
        blocks=blocks,
        trace=trace,
        kaplan_yorke=dimension,
        entropy_rate=entropy,
        stuck=stuck,
    )


def _stretch(xp: Any, decompositions: Decompositions, limit: float) -> Sums:
    """The terms of each decomposition; ``limit`` is the rounding, relative to the largest of R."""
    lengths = decompositions.lengths
    rounding = limit * decompositions.longest[..., None]
    lost = lengths <= rounding
    near = ~lost & (lengths <= NEAR * rounding)
    # A lost length is noise and counts as the limit, or as 1 where even the limit is zero: with
    # ln 0 = −inf the differences between cumulative sums would be NaN.
    floor = xp.where(rounding > 0, rounding, 1)
    stretch = xp.log(xp.where(lost, floor, lengths))
    excess = lost.astype(lengths.dtype) - near.astype(lengths.dtype)
    return Sums(stretch, excess)


def _stuck(
    xp: Any,
    still: Array,
    stretch: Array,
    zero: Array | float,
    qr_every: int,
) -> Array:
    """Whether the state ends at rest, ``[...]``, where nearby trajectories diverge."""
    batch = (1,) * (still.ndim - 1)
    index = np.arange(len(still)).reshape(-1, *batch)
    last_move = xp.where(still, -1, index).max(axis=0)
    # Only the growth at rest counts: the trajectory may have contracted on its way to the point.
    growth = xp.where(index > last_move[None], stretch, 0).sum(axis=0)
    rested = qr_every * (len(still) - 1 - last_move)
    return growth > zero * rested.astype(stretch.dtype)


def _mean(xp: Any, sums: Sums, steps: np.ndarray) -> Array:
    """Exponents from sums over so many ``steps [N]``."""
    batch = (1,) * (sums.lost.ndim - 1)
    divisor = steps.reshape(-1, *batch).astype(sums.stretch.dtype)
    return xp.where(sums.lost > 0, -np.inf, sums.stretch / divisor)


def _blocks(xp: Any, sums: Sums, steps: np.ndarray, count: int) -> tuple[Array, Array]:
    """The exponents of each block ``[M, ..., k]``, and the standard error of the whole."""
    bounds = np.linspace(0, len(steps), count + 1)
    ends = bounds.round().astype(int)[1:] - 1
    stretch = xp.diff(sums.stretch[ends], axis=0, prepend=0)
    lost = xp.diff(sums.lost[ends], axis=0, prepend=0)
    block_steps = np.diff(steps[ends], prepend=0)
    blocks = _mean(xp, Sums(stretch, lost), block_steps)
    # With nothing lost: a block of −inf would make the error NaN though the exponent is finite.
    finite = _mean(xp, Sums(stretch, 0 * lost), block_steps)
    error = _standard_error(xp, finite)
    return blocks, error


def _standard_error(xp: Any, means: Array) -> Array:
    """The error of the mean of M blocks, from the means of the blocks, ``[M, ...]``."""
    count = means.shape[0]
    if count == 1:
        return xp.full(means.shape[1:], np.inf, means.dtype)
    variance = means.var(axis=0, ddof=1)
    return _root(xp, variance / count)


def _over_batch(xp: Any, exponents: Array, counted: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of ``[..., k]`` over the examples that are ``counted [...]``."""
    rows = exponents.reshape(-1, exponents.shape[-1])
    counted = counted.reshape(-1, 1)
    # −inf is masked and put back at the end: subtracted from its mean it would be NaN.
    dead = counted & xp.isneginf(rows)
    some_dead = dead.any(axis=0)
    all_dead = (dead | ~counted).all(axis=0)
    count = counted.sum().astype(rows.dtype)
    finite = xp.where(counted & ~dead, rows, 0)
    mean = finite.sum(axis=0) / count
    deviation = xp.where(counted, finite - mean[None], 0)
    variance = (deviation * deviation).sum(axis=0) / count
    spread_with_dead = xp.where(all_dead, 0, np.inf)
    spread = xp.where(some_dead, spread_with_dead, _root(xp, variance))
    mean = xp.where(some_dead, -np.inf, mean)
    return mean, spread


def _root(xp: Any, x: Array) -> Array:
    """√x, with derivative zero at zero."""
    # The inner mask keeps √ off zero, where its infinite slope times 0 is NaN in the gradient.
    zero = x == 0
    positive = xp.where(zero, 1, x)
    return xp.where(zero, 0, xp.sqrt(positive))


def kaplan_yorke(exponents: Array, size: int, zero: float = ZERO) -> Array:
    """The Kaplan–Yorke dimension D = j + Σᵢ≤ⱼ λᵢ/|λⱼ₊₁| of spectra (Kaplan & Yorke 1979).

    j is the largest number of leading exponents whose sum is not negative. D jumps from 0 to 1
    where λ₁ comes to zero, which measured exponents never are exactly; hence the tolerance
    ``zero``. A closed curve has λ₁ = 0 and dimension 1, also if −8e-7 is measured.

    >>> lorenz = jnp.array([0.9, 0.0, -14.6])
    >>> round(float(kaplan_yorke(lorenz, size=3)), 2)
    2.06

    Args:
        exponents: λᵢ ``[..., k]``, in any order, nats per step.
        size: n, the size of the state that they belong to.
        zero: the largest |λ| that counts as zero, nats per step.

    Returns:
        D ``[...]``; NaN where it takes more than k exponents.
    """
    falling = -jnp.sort(-exponents, axis=-1)
    return _dimension(jnp, falling, size, zero)


def _dimension(xp: Any, falling: Array, size: int, zero: Array | float) -> Array:
    """A sum over exponents: 1 for each of the first j, a fraction for the next, then nothing."""
    falling = xp.where(abs(falling) <= zero, 0, falling)
    sums = xp.cumsum(falling, axis=-1)
    nothing = xp.zeros_like(sums[..., :1])
    before = xp.concatenate([nothing, sums[..., :-1]], axis=-1)
    divisor = xp.where(falling < 0, -falling, 1)
    fraction = xp.where(before > 0, before / divisor, 0)
    dimension = xp.where(sums >= 0, 1, fraction).sum(axis=-1)
    # Where the sum of k < n exponents is not negative, j may be larger than k.
    known = (sums[..., -1] < 0) | (falling.shape[-1] == size)
    return xp.where(known, dimension, np.nan)


def entropy_rate(exponents: Array, zero: float = ZERO) -> Array:
    """Σ λᵢ over exponents above ``zero``: an upper bound on the entropy rate (Ruelle's inequality).

    >>> round(float(entropy_rate(jnp.array([0.5, 0.2, 0.0, -1.0]))), 3)
    0.7

    Args:
        exponents: λᵢ ``[..., k]``, in any order, nats per step.
        zero: the largest |λ| that counts as zero, nats per step.

    Returns:
        The bound ``[...]``, nats per step.
    """
    positive = jnp.where(exponents > zero, exponents, 0)
    return jnp.sum(positive, axis=-1)
