"""Limit cycles of a recurrent network, and their stability."""

import collections
import warnings
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from rnnlab import _check
from rnnlab._results import result
from rnnlab.diagnostics.invariant_sets.floquet import log_eigenvalues
from rnnlab.diagnostics.invariant_sets.search import (
    Outcomes,
    Reached,
    Search,
    check_options,
    check_starts,
    default_marginal,
    distinct,
    double_precision,
    jacobians,
    nothing_found,
    orbits,
    prepare,
    run,
    stability,
)
from rnnlab.typing import Array, Cell, PyTree


@result
class LimitCycles(NamedTuple):
    """N periodic orbits of h ↦ F(h, x), by rising period, then by rising q; 64-bit numpy arrays.

    Attributes:
        periods: p ``[N]``, steps: the smallest after which each orbit closes.
        orbits: the states of each orbit as vectors ``[p, n]``, in the order of time.
        q: ½ ‖Fᵖ(h) − h‖² at the first state of each orbit, ``[N]``.
        multipliers: Floquet multipliers, the eigenvalues of Jₚ ⋯ J₂ J₁ around each orbit, complex
            ``[N, n]``, by falling modulus; 0 where the modulus is too small for a float.
        log_multipliers: ln |multiplier| ``[N, n]``, nats per round; −inf where it is zero to
            rounding.
        unstable: the number of multipliers outside of the unit circle, ``[N]``.
        marginal: the number of multipliers on the unit circle, within the tolerance ``marginal``,
            ``[N]``.
        kind: "unstable" (every multiplier is outside), "saddle" (some are), "marginal" (none is
            outside, some are on the circle) or "stable" (all are inside), for each orbit.
        time_constants: −p/ln |multiplier| ``[N, n]``, steps in which a perturbation decays to 1/e;
            negative where it grows by as much, inf for marginal directions.
        searched: the periods that were searched for, rising, ``[P]``.
        outcomes: the outcomes of the starts, ``[P]`` for each count.
    """

    periods: np.ndarray
    orbits: tuple[np.ndarray, ...]
    q: np.ndarray
    multipliers: np.ndarray
    log_multipliers: np.ndarray
    unstable: np.ndarray
    marginal: np.ndarray
    kind: tuple[str, ...]
    time_constants: np.ndarray
    searched: np.ndarray
    outcomes: Outcomes

    def finding(self) -> str:
        """The numbers of cycles and of failed starts for each period, in one sentence."""
        counts = collections.Counter(self.periods.tolist())
        starts = int(sum(count[0] for count in self.outcomes))
        parts = []
        for period, failed in zip(self.searched.tolist(), self.outcomes.failed, strict=True):
            parts.append(f"{counts[period]} of period {period} ({failed} starts failed)")
        return f"cycles from {starts} starts for each period: {', '.join(parts)}"


def limit_cycles(
    cell: Cell,
    params: PyTree,
    x: Array,
    starts: PyTree,
    *,
    periods: Sequence[int] = (2, 3, 4),
    tolerance: float | None = None,
    unique: float = 1e-3,
    outlier: float = 10.0,
    marginal: float | None = None,
    steps: int = 100,
    solver: Literal["auto", "dense", "iterative"] = "auto",
) -> LimitCycles:
    """Periodic orbits under a constant input: states with Fᵖ(h) = h, for the smallest such p.

    They are fixed points of Fᵖ, searched as :func:`fixed_points` searches those of F (Sussillo &
    Barak 2013, Neural Computation 25): from many starts by Levenberg–Marquardt on
    q(h) = ½ ‖Fᵖ(h, x) − h‖², then, where that fails, by pseudo-transient continuation. So the
    search also finds cycles that no trajectory converges to, and counts an orbit once, not once for
    each of its states. An unstable cycle is found only from starts near it, in a neighbourhood that
    shrinks as its multipliers grow: where many starts fail, more of them find more cycles. The
    search runs in 64-bit floats, whatever the precision of the network, unless the step rejects
    these.

    Multipliers come from the Jacobians around the orbit without multiplying these, which would lose
    all multipliers that are smaller than the largest by more than the precision (periodic Schur
    form: Bojanczyk, Golub & Van Dooren 1992). A complex pair has one modulus.

    >>> cell = rnnlab.Step(lambda r, h, x: (r * h * (1 - h), h), jnp.zeros(1))
    >>> starts = jnp.linspace(0.1, 0.9, 8)[:, None]
    >>> cycles = limit_cycles(cell, jnp.array(3.2), jnp.zeros(1), starts, periods=(2,))
    >>> cycles.kind, cycles.multipliers.real.round(2).tolist()
    (('stable',), [[0.16]])

    Args:
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`.
        params: its parameters.
        x: the input that is held constant, ``[I]``.
        starts: states to start from with one leading axis, ``[S, ...]``, such as
            :func:`sample_states` draws.
        periods: the p to search for; 1 stands for fixed points.
        tolerance: the largest q of a cycle; by default the q that 32 roundings leave,
            ½ (32 ε)² (1 + ‖h‖²/n) (n + ‖∂Fᵖ/∂h‖²) with the Frobenius norm, by which the cycle
            amplifies them, and the ε of 64-bit floats, 2.2e-16.
        unique: two orbits are one where they stay closer than this all the way around, and an orbit
            that returns this close after a divisor of p, at each of its states, has that smaller
            period.
        outlier: as for :func:`fixed_points`.
        marginal: the largest | |m|^(1/p) − 1 | of a multiplier on the unit circle; by default
            32 √n ε with the ε of the network's floats.
        steps: the largest number of steps of either method from a start.
        solver: as for :func:`fixed_points`.

    Returns:
        :class:`LimitCycles`: the orbits, their stability, and outcomes of the starts per period.

    Raises:
        ValueError: as :func:`rnnlab.unroll` does, for starts that are not finite or not states of
            the cell, for periods that are not whole numbers of at least 1, and for options that are
            out of range.

    Warns:
        UserWarning: where no cycle is found; the result is then empty.
    """
    x, first = check_starts(cell, params, x, starts)
    wanted = sorted({_check.positive_int("each of periods", period) for period in periods})
    if not wanted:
        raise ValueError("periods is empty; give at least one, such as (2, 3, 4)")
    check_options(
        steps, solver, tolerance=tolerance, unique=unique, outlier=outlier, marginal=marginal
    )
    marginal = default_marginal(marginal, first.dtype, first.shape[1])
    longest = wanted[-1]
    cycles: list[Cycle] = []
    attempts: list[Attempt] = []
    with double_precision():
        search = prepare(cell, params, x, starts, outlier)
        for period in wanted:
            reached = run(search, period, longest, tolerance, steps, solver)
            of_period, attempt = _of_period(search, reached, period, longest, unique)
            cycles += of_period
            attempts.append(attempt)
    if not cycles:
        _warn(attempts, wanted, steps, len(first), search.box is not None)
    return _gather(cycles, attempts, wanted, marginal, first.shape[1])


class Cycle(NamedTuple):
    """One orbit."""

    period: int
    orbit: np.ndarray  # [p, n]
    q: float
    log_multipliers: np.ndarray  # [n]
    # multipliers over their moduli, [n]
    units: np.ndarray


class Attempt(NamedTuple):
    """The search for one period."""

    reached: Reached
    # whether a start led to an orbit that no smaller period closes, [S]
    proper: np.ndarray
    outcomes: Outcomes


def _of_period(
    search: Search, reached: Reached, period: int, longest: int, unique: float
) -> tuple[list[Cycle], Attempt]:
    """The orbits of one period, and the outcomes of the starts."""
    shared = search.cell, search.params, search.x, search.like
    # Always of the longest period, so that another one does not compile another program.
    around = np.asarray(orbits(*shared, reached.states, longest))
    paths = around[:, :period]
    sooner = reached.near & reached.solved & _closes_sooner(paths, unique)
    proper = reached.near & ~sooner
    solved = np.flatnonzero(proper & reached.solved)
    kept = solved[distinct(paths[solved], reached.q[solved], unique)]
    cycles = []
    for index in kept:
        matrices = np.asarray(jacobians(*shared, around[index]))[:period]
        logs, units = log_eigenvalues(matrices)
        cycles.append(Cycle(period, paths[index], float(reached.q[index]), logs, units))
    outliers = np.isfinite(reached.q) & ~reached.near
    duplicates = len(solved) - len(kept)
    accounted = len(solved) + sooner.sum() + outliers.sum()
    outcomes = Outcomes(
        found=np.asarray(len(kept)),
        duplicates=np.asarray(duplicates),
        sooner=np.asarray(sooner.sum()),
        outliers=np.asarray(outliers.sum()),
        slow=np.asarray(0),
        failed=np.asarray(len(proper) - accounted),
    )
    return cycles, Attempt(reached, proper, outcomes)


def _closes_sooner(paths: np.ndarray, unique: float) -> np.ndarray:
    """Whether orbits ``[S, p, n]`` return after a divisor of p, at each of their states."""
    count, period, _ = paths.shape
    sooner = np.zeros(count, bool)
    for divisor in range(1, period):
        if period % divisor == 0:
            distances = np.linalg.norm(np.roll(paths, -divisor, axis=1) - paths, axis=-1)
            # At each state: an orbit of period 4 may pass close to itself once.
            sooner |= distances.max(axis=1) <= unique
    return sooner


def _warn(
    attempts: list[Attempt], wanted: list[int], steps: int, starts: int, trapped: bool
) -> None:
    of_each_period = [attempt.reached for attempt in attempts]
    reached = Reached(*map(np.concatenate, zip(*of_each_period, strict=True)))
    proper = np.concatenate([attempt.proper for attempt in attempts])
    listed = " or ".join(map(str, wanted))
    text = nothing_found(
        f"no cycle of period {listed} was found from {starts} starts",
        reached,
        proper,
        "all searches left the region of the starts or led to smaller periods",
        steps,
        # A map of a box into itself has a fixed point, but need not have a cycle.
        trapped and wanted[0] == 1,
    )
    # The caller of limit_cycles is two frames up.
    warnings.warn(f"{text}, or other periods", stacklevel=3)


def _gather(
    cycles: list[Cycle], attempts: list[Attempt], wanted: list[int], marginal: float, size: int
) -> LimitCycles:
    # Dtypes and shapes are set for a search without a cycle, where arrays are empty.
    periods = np.array([cycle.period for cycle in cycles], int)
    logs = np.array([cycle.log_multipliers for cycle in cycles]).reshape(-1, size)
    units = np.array([cycle.units for cycle in cycles], complex).reshape(-1, size)
    unstable, on_circle, kind, times = stability(logs, periods[:, None], marginal)
    outcomes = [attempt.outcomes for attempt in attempts]
    counts = zip(*outcomes, strict=True)
    return LimitCycles(
        periods=periods,
        orbits=tuple(cycle.orbit for cycle in cycles),
        q=np.array([cycle.q for cycle in cycles], float),
        multipliers=np.exp(logs) * units,
        log_multipliers=logs,
        unstable=unstable,
        marginal=on_circle,
        kind=kind,
        time_constants=times,
        searched=np.array(wanted),
        outcomes=Outcomes(*map(np.array, counts)),
    )
