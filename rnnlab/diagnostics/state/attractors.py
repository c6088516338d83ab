"""Kinds of attractors under a constant input: a point, an oscillation or chaos."""

import collections
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab import _check
from rnnlab._results import result
from rnnlab.diagnostics.invariant_sets.search import check_starts
from rnnlab.diagnostics.state.exponents import Decompositions, LyapunovSpectrum, summarise
from rnnlab.diagnostics.state.lyapunov import WARM_UP, Plan, decompositions, make_plan
from rnnlab.diagnostics.state.state_map import state_map
from rnnlab.typing import Array, Cell, Key, PyTree


@result
class AttractorKind(NamedTuple):
    """The attractor that each of B trajectories reaches; numpy arrays.

    Attributes:
        kind: "point", "oscillation", "chaos" or "unsettled", for each trajectory.
        period: steps after which the state repeats ``[B]``: 1 for a point, 0 where it never does.
        exponent: the largest Lyapunov exponent λ₁ ``[B]``, nats per step.
        standard_error: of ``exponent``, ``[B]``, nats per step, see :class:`LyapunovSpectrum`.
        recurrence: how close the states of the second half come to those of the first ``[B]``:
            the mean distance to the nearest one, over the root mean square distance of the first
            half from its mean (NaN where both are zero).
        stuck: whether the trajectory ends on an unstable point or an unstable cycle ``[B]``,
            booleans: it started there, or rounding put it there. It is then no attractor, and a
            positive λ₁ no sign of chaos.
    """

    kind: tuple[str, ...]
    period: np.ndarray
    exponent: np.ndarray
    standard_error: np.ndarray
    recurrence: np.ndarray
    stuck: np.ndarray

    def finding(self) -> str:
        """The number of trajectories of each kind, in one sentence."""
        counts = collections.Counter(self.kind).most_common()
        kinds = ", ".join(f"{count} {kind}" for kind, count in counts)
        text = f"{len(self.kind)} trajectories: {kinds}"
        stuck = np.count_nonzero(self.stuck)
        if stuck:
            text += f"; {stuck} stuck on an unstable point or cycle"
        return text


def attractor_kind(
    key: Key,
    cell: Cell,
    params: PyTree,
    x: Array,
    starts: PyTree,
    *,
    burn_in: int = 1000,
    steps: int = 1000,
    longest: int = 64,
    tolerance: float = 1e-5,
    zero: float = 0.01,
    near: float = 0.1,
) -> AttractorKind:
    """The kind of attractor of hₜ = F(hₜ₋₁, x) from each start, by recurrence and exponent.

    Only for a constant input: under varying inputs the state need not recur even where it forgets
    its past, and λ₁ alone decides (:func:`lyapunov_spectrum`). After the burn-in, the first of
    these that holds:

    * the smallest p ≤ ``longest`` with ‖hₜ₊ₚ − hₜ‖ ≤ ``tolerance`` (1 + ‖hₜ‖) for every t is the
      period: a point where p = 1, else an oscillation;
    * a point, without a period, where the state is stuck on an unstable one when the steps end;
    * chaos where λ₁ > ``zero``: nearby trajectories diverge;
    * an oscillation that never closes (quasi-periodic, period 0) where |λ₁| ≤ ``zero`` and the
      recurrence is at most ``near``: the state returns close to where it was, but never exactly;
    * else unsettled. Where λ₁ < −``zero``, it has not yet converged to a point or a cycle, or the
      period is longer than ``longest``. Otherwise it drifts, has diverged, or has too many
      frequencies to recur in so few steps. A longer burn-in or more steps help.

    λ₁ is as in Benettin et al. 1980, with a direction that aligns along the last 1000 steps of the
    burn-in (:func:`lyapunov_spectrum`); recurrence after Eckmann, Kamphorst & Ruelle 1987
    (Europhysics Letters 4). In low precision an orbit may fall onto an unstable point or a short
    unstable cycle and stay there: the logistic map at r = 4 ends at 0 in float32. Such an orbit, or
    a start on such a point, is ``stuck`` and never chaos. States narrower than 32 bits are
    converted to float32.

    >>> cell = rnnlab.Step(lambda r, h, x: (r * h * (1 - h), h), jnp.zeros(1))
    >>> starts = jnp.array([[0.3]])
    >>> attractor_kind(jax.random.key(0), cell, jnp.array(3.2), jnp.zeros(1), starts).period
    array([2])

    Args:
        key: draws the first direction of λ₁.
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`.
        params: its parameters.
        x: the input that is held constant, ``[I]``.
        starts: states to start from with one leading axis, ``[B, ...]``.
        burn_in: steps in which the state reaches its attractor.
        steps: steps that are measured after these.
        longest: the longest period that is detected, less than ``steps``.
        tolerance: the largest distance between two states that are the same, relative to 1 + ‖h‖.
        zero: the largest |λ₁| that counts as zero, nats per step.
        near: the largest recurrence of an oscillation that never closes.

    Returns:
        An :class:`AttractorKind`, of all starts.

    Raises:
        ValueError: as :func:`fixed_points` does for x and the starts, and for numbers of steps that
            do not fit.
    """
    x, first = check_starts(cell, params, x, starts)
    size = first.shape[1]
    burn_in = _check.natural("burn_in", burn_in)
    steps = _check.positive_int("steps", steps)
    longest = _check.positive_int("longest", longest)
    if longest >= steps:
        raise ValueError(
            f"longest is {longest}, but {steps} steps are measured; give fewer, or more steps"
        )
    # The end of the burn-in also aligns the direction along which λ₁ is measured.
    aligning = min(burn_in, WARM_UP)
    plan = make_plan(aligning + steps, aligning)
    closes, spans, measured = _follow(
        key,
        cell,
        params,
        x,
        starts,
        burn_in - aligning,
        aligning + steps,
        plan,
        longest,
        tolerance,
    )
    spectrum = summarise(measured, zero, size, plan.blocks, plan.qr_every)
    closes, spans, spectrum = jax.device_get((closes, spans, spectrum))
    nearest, extent = spans
    # A state at rest has neither distance nor extent.
    with np.errstate(divide="ignore", invalid="ignore"):
        recurrence = nearest / extent
    period = np.where(closes.any(axis=0), closes.argmax(axis=0) + 1, 0)
    return _classify(period, spectrum, recurrence, zero, near)


def _classify(
    period: np.ndarray,
    spectrum: LyapunovSpectrum,
    recurrence: np.ndarray,
    zero: float,
    near: float,
) -> AttractorKind:
    exponent = np.asarray(spectrum.exponents)[:, 0]
    error = np.asarray(spectrum.standard_error)[:, 0]
    stuck = np.asarray(spectrum.stuck)
    point = (period == 1) | (stuck & (period == 0))
    cycle = period > 1
    # A recurrence that is not finite means that the state rests or has left all bounds.
    chaotic = (exponent > zero) & np.isfinite(recurrence)
    quasi_periodic = (np.abs(exponent) <= zero) & (recurrence <= near)
    kind = np.select(
        [point, cycle, chaotic, quasi_periodic],
        ["point", "oscillation", "chaos", "oscillation"],
        "unsettled",
    )
    # On an exact cycle a positive λ₁ is that of an unstable orbit, which attracts nothing.
    stuck = stuck | ((period > 0) & (exponent > zero))
    return AttractorKind(
        kind=tuple(kind.tolist()),
        period=period,
        exponent=exponent,
        standard_error=error,
        recurrence=recurrence,
        stuck=stuck,
    )


@functools.partial(jax.jit, static_argnames=("cell", "settle", "steps", "plan", "longest"))
def _follow(
    key: Key,
    cell: Cell,
    params: PyTree,
    x: Array,
    starts: PyTree,
    settle: int,
    steps: int,
    plan: Plan,
    longest: int,
    tolerance: float,
) -> tuple[Array, tuple[Array, Array], Decompositions]:
    """Whether each lag is a period ``[longest, B]``, and the terms of the recurrence and of λ₁."""
    count = jax.tree.leaves(starts)[0].shape[0]
    constant = jnp.broadcast_to(x, (steps, count, *x.shape))
    flat, xs, starts = state_map(cell, params, constant, starts)
    settled = lax.fori_loop(0, settle, lambda _, h: flat.step(h, xs[0]), flat.pack(starts))
    measured = decompositions(cell, params, xs, flat.unpack(settled), key, None, 1, plan)
    _, states = lax.scan(lambda h, x: (flat.step(h, x), h), settled, xs)
    # [steps, B, n]
    states = states[plan.warm_up :]
    steps -= plan.warm_up
    size = jnp.linalg.norm(states, axis=-1)

    def is_period(lag: Array) -> Array:
        distance = jnp.linalg.norm(jnp.roll(states, -lag, axis=0) - states, axis=-1)
        # The roll wraps around, so the last ``lag`` rows are compared with the first ones.
        valid = jnp.arange(steps)[:, None] < steps - lag
        return jnp.all((distance <= tolerance * (1 + size)) | ~valid, axis=0)

    earlier, later = states[: steps // 2], states[steps // 2 :]

    # Mapped over time: all pairs of states at once would take [steps, steps, B, n] numbers.
    def distance_to_earlier(h: Array) -> Array:
        return jnp.linalg.norm(earlier - h[None], axis=-1).min(axis=0)

    nearest = lax.map(distance_to_earlier, later)
    deviation = earlier - earlier.mean(axis=0, keepdims=True)
    extent = jnp.sqrt(jnp.mean(jnp.sum(deviation**2, axis=-1), axis=0))
    closes = lax.map(is_period, jnp.arange(1, longest + 1))
    return closes, (nearest.mean(axis=0), extent), measured
