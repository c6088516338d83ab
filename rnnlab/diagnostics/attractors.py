"""What a trajectory comes to under a constant input: a point, an oscillation or chaos."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab import _check
from rnnlab.diagnostics.lyapunov import lyapunov_spectrum
from rnnlab.diagnostics.search import check_starts
from rnnlab.diagnostics.state_map import state_map
from rnnlab.typing import Array, Cell, Key, PyTree


class AttractorKind(NamedTuple):
    """What each of B trajectories comes to; numpy arrays."""

    kind: tuple[str, ...]
    """"point", "oscillation", "chaos" or "unsettled", for each."""
    period: np.ndarray
    """The number of steps after which the state is the same again ``[B]``: 1 for a point, 0 where there is none."""
    exponent: np.ndarray
    """The largest Lyapunov exponent λ₁ ``[B]``, nats a step."""
    recurrence: np.ndarray
    """How near the states of the second half come to those of the first ``[B]``: the mean distance to the nearest one,
    over the root mean square distance of the first half from its mean (NaN where both are zero)."""


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
    """The kind of attractor of the trajectory hₜ = F(hₜ₋₁, x) from each start, by its recurrence and its exponent λ₁.

    Under a constant input only: driven by inputs that vary the state need not return even where it forgets all about
    its past, so that there λ₁ alone tells (:func:`lyapunov_spectrum`). After the burn-in, in this order:

    * the smallest p ≤ ``longest`` with ‖hₜ₊ₚ − hₜ‖ ≤ ``tolerance`` (1 + ‖hₜ‖) for every t is the period: a point where
      p = 1, else an oscillation;
    * chaos where λ₁ > ``zero``: neighbouring states part;
    * an oscillation that never closes (quasi-periodic, period 0) where |λ₁| ≤ ``zero`` and the recurrence is at most
      ``near``: the state comes back near to where it was, but never exactly;
    * else unsettled: where λ₁ < −``zero`` it will be a point or a cycle, but is not there yet, or the period is longer
      than ``longest``; where not, it drifts, has left all bounds, or has too many frequencies to come back in so few
      steps. A longer burn-in or more steps help.

    λ₁ is as in Benettin et al. 1980; recurrence after Eckmann, Kamphorst & Ruelle 1987 (Europhysics Letters 4). A start
    that is exactly an unstable fixed point stays there and is a point, with λ₁ > 0.

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

    Raises:
        ValueError: as :func:`fixed_points` does for x and the starts, and for numbers of steps that do not fit.
    """
    x, _ = check_starts(cell, params, x, starts)
    burn_in, steps = _check.natural("burn_in", burn_in), _check.positive_int("steps", steps)
    longest = _check.positive_int("longest", longest)
    if longest >= steps:
        raise ValueError(
            f"longest is {longest}, but {steps} steps are measured; give fewer, or more steps"
        )
    returns, exponent, recurrence = jax.device_get(
        _follow(key, cell, params, x, starts, burn_in, steps, longest, tolerance)
    )
    period = np.where(returns.any(axis=0), returns.argmax(axis=0) + 1, 0)
    closed, turning = period > 1, (np.abs(exponent) <= zero) & (recurrence <= near)
    kind = np.select(
        [period == 1, closed, (exponent > zero) & np.isfinite(recurrence), turning],
        ["point", "oscillation", "chaos", "oscillation"],
        "unsettled",
    )
    return AttractorKind(tuple(kind.tolist()), period, exponent, recurrence)


@functools.partial(jax.jit, static_argnames=("cell", "burn_in", "steps", "longest"))
def _follow(
    key: Key,
    cell: Cell,
    params: PyTree,
    x: Array,
    starts: PyTree,
    burn_in: int,
    steps: int,
    longest: int,
    tolerance: float,
) -> tuple[Array, Array, Array]:
    """Whether each lag from 1 on is a period, ``[longest, B]``, λ₁ and the recurrence, ``[B]``."""
    count = jax.tree.leaves(starts)[0].shape[0]
    flat, xs, starts = state_map(
        cell, params, jnp.broadcast_to(x, (steps, count, *x.shape)), starts
    )
    settled = lax.fori_loop(0, burn_in, lambda _, h: flat.step(h, xs[0]), flat.pack(starts))
    spectrum = lyapunov_spectrum(cell, params, xs, flat.unpack(settled), key=key, count=1)
    _, states = lax.scan(lambda h, x: (flat.step(h, x), h), settled, xs)  # [steps, B, n]
    size = jnp.linalg.norm(states, axis=-1)

    def is_period(lag: Array) -> Array:
        apart = jnp.linalg.norm(jnp.roll(states, -lag, axis=0) - states, axis=-1)
        inside = jnp.arange(steps)[:, None] < steps - lag
        return jnp.all((apart <= tolerance * (1 + size)) | ~inside, axis=0)

    earlier, later = states[: steps // 2], states[steps // 2 :]
    nearest = lax.map(lambda h: jnp.linalg.norm(earlier - h, axis=-1).min(axis=0), later)
    extent = jnp.sqrt(jnp.mean(jnp.sum((earlier - earlier.mean(axis=0)) ** 2, axis=-1), axis=0))
    return (
        lax.map(is_period, jnp.arange(1, longest + 1)),
        spectrum.exponents[..., 0],
        nearest.mean(axis=0) / extent,
    )
