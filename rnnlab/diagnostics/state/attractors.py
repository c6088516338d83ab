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
from rnnlab.diagnostics.state.exponents import Decompositions, summarise
from rnnlab.diagnostics.state.lyapunov import TURN, Plan, decompositions, make_plan
from rnnlab.diagnostics.state.state_map import state_map
from rnnlab.typing import Array, Cell, Key, PyTree


@result
class AttractorKind(NamedTuple):
    """What each of B trajectories comes to; numpy arrays.

    Attributes:
        kind: "point", "oscillation", "chaos" or "unsettled", for each trajectory.
        period: the number of steps after which the state is the same again ``[B]``: 1 for a point,
            0 where there is none.
        exponent: the largest Lyapunov exponent λ₁ ``[B]``, nats a step.
        standard_error: of ``exponent``, ``[B]``, nats a step, see :class:`LyapunovSpectrum`.
        recurrence: how near the states of the second half come to those of the first ``[B]``:
            the mean distance to the nearest one, over the root mean square distance of the first
            half from its mean (NaN where both are zero).
        stuck: whether the trajectory ends at rest on a point, or on a cycle, that repels its
            neighbours ``[B]``, booleans: it started there, or rounding put it there. It is then no
            attractor, and a positive λ₁ no sign of chaos.
    """

    kind: tuple[str, ...]
    period: np.ndarray
    exponent: np.ndarray
    standard_error: np.ndarray
    recurrence: np.ndarray
    stuck: np.ndarray

    def finding(self) -> str:
        """How many trajectories come to what, in one sentence."""
        counts = collections.Counter(self.kind).most_common()
        text = f"of {len(self.kind)} trajectories " + ", ".join(f"{n} {kind}" for kind, n in counts)
        stuck = np.count_nonzero(self.stuck)
        return f"{text}; {stuck} stuck on an unstable point or cycle" if stuck else text


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

    Under a constant input only: driven by inputs that vary the state need not return even where it
    forgets all about its past, so that there λ₁ alone tells (:func:`lyapunov_spectrum`). After the
    burn-in, in this order:

    * the smallest p ≤ ``longest`` with ‖hₜ₊ₚ − hₜ‖ ≤ ``tolerance`` (1 + ‖hₜ‖) for every t is the
      period: a point where p = 1, else an oscillation;
    * a point, without a period, where the state is stuck on an unstable one when the steps end;
    * chaos where λ₁ > ``zero``: nearby trajectories diverge;
    * an oscillation that never closes (quasi-periodic, period 0) where |λ₁| ≤ ``zero`` and the
      recurrence is at most ``near``: the state comes back near to where it was, but never exactly;
    * else unsettled: where λ₁ < −``zero`` it will be a point or a cycle, but is not there yet, or
      the period is longer than ``longest``; where not, it drifts, has left all bounds, or has too
      many frequencies to come back in so few steps. A longer burn-in or more steps help.

    λ₁ is as in Benettin et al. 1980, its direction turned along the last 1000 steps of the burn-in
    (:func:`lyapunov_spectrum`); recurrence after Eckmann, Kamphorst & Ruelle 1987 (Europhysics
    Letters 4). With few bits an orbit may fall onto an unstable point or a short unstable cycle and
    stay there: the logistic map at r = 4 comes to 0 in float32. Such an orbit, or a start on such a
    point, is ``stuck`` and never chaos. States of fewer than 32 bits are computed with in float32.

    Args:
        key: draws the direction along which λ₁ is measured first.
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`.
        params: its parameters.
        x: the input that is held constant, ``[I]``.
        starts: states to start from with one leading axis, ``[B, ...]``.
        burn_in: steps in which the state comes to its attractor.
        steps: steps that are measured after these.
        longest: the longest period that is looked for, less than ``steps``.
        tolerance: the largest distance of two states that are the same, as a part of 1 + ‖h‖.
        zero: the largest |λ₁| that counts as zero, nats a step.
        near: the largest recurrence of an oscillation that never closes.

    Returns:
        An :class:`AttractorKind`, of all starts.

    Raises:
        ValueError: as :func:`fixed_points` does for x and the starts, and for numbers of steps that
            do not fit.
    """
    x, first = check_starts(cell, params, x, starts)
    size = first.shape[1]
    burn_in, steps = _check.natural("burn_in", burn_in), _check.positive_int("steps", steps)
    longest = _check.positive_int("longest", longest)
    if longest >= steps:
        raise ValueError(
            f"longest is {longest}, but {steps} steps are measured; give fewer, or more steps"
        )
    turn = min(burn_in, TURN)  # steps at the end of the burn-in in which the direction turns
    plan = make_plan(turn + steps, turn)
    returns, distances, found = _follow(
        key, cell, params, x, starts, burn_in - turn, turn + steps, plan, longest, tolerance
    )
    spectrum = summarise(found, zero, size, plan.blocks, plan.qr_every)
    returns, (nearest, extent), spectrum = jax.device_get((returns, distances, spectrum))
    with np.errstate(divide="ignore", invalid="ignore"):  # of a state that is at rest
        recurrence = nearest / extent
    exponent, error = spectrum.exponents[:, 0], spectrum.standard_error[:, 0]
    stuck = spectrum.stuck
    period = np.where(returns.any(axis=0), returns.argmax(axis=0) + 1, 0)
    chaotic = (exponent > zero) & np.isfinite(recurrence)
    turning = (np.abs(exponent) <= zero) & (recurrence <= near)
    kind = np.select(
        [(period == 1) | (stuck & (period == 0)), period > 1, chaotic, turning],
        ["point", "oscillation", "chaos", "oscillation"],
        "unsettled",
    )
    stuck = stuck | ((period > 0) & (exponent > zero))
    return AttractorKind(tuple(kind.tolist()), period, exponent, error, recurrence, stuck)


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
    """Whether each lag from 1 on is a period, ``[longest, B]``, what the recurrence is of, and for λ₁."""
    count = jax.tree.leaves(starts)[0].shape[0]
    held = jnp.broadcast_to(x, (steps, count, *x.shape))
    flat, xs, starts = state_map(cell, params, held, starts)
    begun = lax.fori_loop(0, settle, lambda _, h: flat.step(h, xs[0]), flat.pack(starts))
    found = decompositions(cell, params, xs, flat.unpack(begun), key, None, 1, plan)
    _, states = lax.scan(lambda h, x: (flat.step(h, x), h), begun, xs)
    states = states[plan.turn :]  # [steps, B, n]
    steps -= plan.turn
    size = jnp.linalg.norm(states, axis=-1)

    def is_period(lag: Array) -> Array:
        apart = jnp.linalg.norm(jnp.roll(states, -lag, axis=0) - states, axis=-1)
        inside = jnp.arange(steps)[:, None] < steps - lag
        return jnp.all((apart <= tolerance * (1 + size)) | ~inside, axis=0)

    earlier, later = states[: steps // 2], states[steps // 2 :]
    nearest = lax.map(lambda h: jnp.linalg.norm(earlier - h[None], axis=-1).min(axis=0), later)
    extent = jnp.sqrt(
        jnp.mean(jnp.sum((earlier - earlier.mean(axis=0, keepdims=True)) ** 2, axis=-1), axis=0)
    )
    return (
        lax.map(is_period, jnp.arange(1, longest + 1)),
        (nearest.mean(axis=0), extent),
        found,
    )
