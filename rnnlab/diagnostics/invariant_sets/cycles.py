"""Limit cycles of a recurrent network: orbits that close after p steps, and what a small push does along them."""

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
    """N periodic orbits of h ↦ F(h, x), by rising period and then by rising q; numpy arrays of 64-bit floats.

    Attributes:
        periods: p ``[N]``, steps: the smallest after which each orbit closes.
        orbits: the states of each orbit as vectors ``[p, n]``, in the order in which they follow one another.
        q: ½ ‖Fᵖ(h) − h‖² at the first state of each orbit, ``[N]``.
        multipliers: Floquet multipliers, the eigenvalues of Jₚ ⋯ J₂ J₁ around each orbit, complex ``[N, n]``, by
            falling modulus; 0 where the modulus is too small for a float.
        log_multipliers: ln |multiplier| ``[N, n]``, nats per round; −inf where it cannot be told from zero.
        unstable: the number of multipliers outside of the unit circle, ``[N]``.
        marginal: the number of multipliers on the unit circle, within the tolerance ``marginal``, ``[N]``.
        kind: "unstable" (every multiplier is outside), "saddle" (some are), "marginal" (none is outside, some are on
            the circle) or "stable" (all are inside), for each orbit.
        time_constants: −p/ln |multiplier| ``[N, n]``, steps in which a push decays to 1/e; negative where it grows by
            as much, inf for marginal directions.
        searched: the periods that were searched for, rising, ``[P]``.
        outcomes: what became of the starts, ``[P]`` for each count.
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
        """How many cycles of each period, and how many starts failed, in one sentence."""
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
    """Periodic orbits under a constant input: the states with Fᵖ(h) = h that no smaller period brings back.

    Fixed points of Fᵖ, searched as :func:`fixed_points` searches those of F (Sussillo & Barak 2013, Neural
    Computation 25), from many starts at once: by Levenberg–Marquardt on q(h) = ½ ‖Fᵖ(h, x) − h‖², then, from starts
    where that fails, by pseudo-transient continuation. So cycles are found that no trajectory comes to, and an orbit
    is counted once, not once for each of its states. An unstable cycle is found from starts near it alone, in a
    neighbourhood that shrinks as its multipliers grow: where many starts fail, more of them find more cycles. The
    search runs in 64-bit floats, whatever the precision of the network, unless the step insists on another.

    Multipliers come from the Jacobians around the orbit without multiplying them out, in which all that are smaller
    than the largest by more than the precision would be lost (periodic Schur form: Bojanczyk, Golub & Van Dooren
    1992). A complex pair has one modulus.

    Args:
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`.
        params: its parameters.
        x: the input that is held constant, ``[I]``.
        starts: states to start from with one leading axis, ``[S, ...]``, such as :func:`sample_states` draws.
        periods: p, each of those looked for; 1 stands for fixed points.
        tolerance: the largest q of a cycle; by default what 32 roundings leave,
            ½ (32 ε)² (1 + ‖h‖²/n) (n + ‖∂Fᵖ/∂h‖²) with the Frobenius norm, which grows as the cycle spreads them, and
            the ε of 64-bit floats, 2.2e-16.
        unique: two orbits are one where they stay nearer than this all the way around, and an orbit that is back
            within this after a divisor of p, at each of its states, is one of that smaller period.
        outlier: as for :func:`fixed_points`.
        marginal: the largest | |m|^(1/p) − 1 | of a multiplier on the unit circle; by default 32 √n ε with the ε of the
            network's floats.
        steps: of either method from a start, at most.
        solver: as for :func:`fixed_points`.

    Returns:
        :class:`LimitCycles`: the orbits, how stable they are, and what became of the starts for each period.

    Raises:
        ValueError: as :func:`rnnlab.unroll` does, for starts that are not finite or not states of the cell, for
            periods that are not whole numbers of at least 1, and for options that are out of range.

    Warns:
        UserWarning: where nothing is found; the result is then empty.
    """
    x, first = check_starts(cell, params, x, starts)
    wanted = sorted({_check.positive_int("each of periods", period) for period in periods})
    if not wanted:
        raise ValueError("periods is empty; give at least one, such as (2, 3, 4)")
    check_options(
        steps, solver, tolerance=tolerance, unique=unique, outlier=outlier, marginal=marginal
    )
    marginal = default_marginal(marginal, first.dtype, first.shape[1])
    cycles: list[Cycle] = []
    tries: list[Try] = []
    with double_precision():
        search = prepare(cell, params, x, starts, outlier)
        for period in wanted:
            reached = run(search, period, wanted[-1], tolerance, steps, solver)
            of_period, tried = _of_period(search, reached, period, wanted[-1], unique)
            cycles += of_period
            tries.append(tried)
    if not cycles:
        _warn(tries, wanted, steps, len(first), search.box is not None)
    return _gather(cycles, tries, wanted, marginal, first.shape[1])


class Cycle(NamedTuple):
    """One orbit."""

    period: int
    orbit: np.ndarray  # [p, n]
    q: float
    log_multipliers: np.ndarray  # [n]
    units: np.ndarray  # [n], multipliers over their moduli


class Try(NamedTuple):
    """The search for one period."""

    reached: Reached
    own: np.ndarray  # [S], whether a start came to an orbit that no smaller period closes
    outcomes: Outcomes


def _of_period(
    search: Search, reached: Reached, period: int, longest: int, unique: float
) -> tuple[list[Cycle], Try]:
    """The orbits of one period that starts came to, and what became of the others."""
    shared = search.cell, search.params, search.x, search.like
    around = np.asarray(orbits(*shared, reached.states, longest))
    paths = around[:, :period]
    sooner = reached.near & reached.solved & _closes_sooner(paths, unique)
    own = reached.near & ~sooner
    solved = np.flatnonzero(own & reached.solved)
    kept = solved[distinct(paths[solved], reached.q[solved], unique)]
    cycles = []
    for number in kept:
        # Of the longest period always, so that no other number of them compiles another program.
        matrices = np.asarray(jacobians(*shared, around[number]))[:period]
        logs, units = log_eigenvalues(matrices)
        cycles.append(Cycle(period, paths[number], float(reached.q[number]), logs, units))
    outliers = np.isfinite(reached.q) & ~reached.near
    counts = [len(kept), len(solved) - len(kept), sooner.sum(), outliers.sum(), 0]
    outcomes = Outcomes(*map(np.asarray, [*counts, len(own) - sum(counts)]))
    return cycles, Try(reached, own, outcomes)


def _closes_sooner(paths: np.ndarray, unique: float) -> np.ndarray:
    """Whether each of the orbits ``[S, p, n]`` is back after a divisor of p, at each of its states."""
    count, period, _ = paths.shape
    sooner = np.zeros(count, bool)
    for divisor in range(1, period):
        if period % divisor == 0:
            apart = np.linalg.norm(np.roll(paths, -divisor, axis=1) - paths, axis=-1)
            sooner |= apart.max(axis=1) <= unique
    return sooner


def _warn(tries: list[Try], wanted: list[int], steps: int, starts: int, trapped: bool) -> None:
    reached = Reached(*map(np.concatenate, zip(*(tried.reached for tried in tries), strict=True)))
    own = np.concatenate([tried.own for tried in tries])
    told = nothing_found(
        f"no cycle of period {' or '.join(map(str, wanted))} was found from {starts} starts",
        reached,
        own,
        "all lead away or to smaller periods",
        steps,
        trapped and wanted[0] == 1,
    )
    warnings.warn(f"{told}, or other periods", stacklevel=3)


def _gather(
    cycles: list[Cycle], tries: list[Try], wanted: list[int], marginal: float, size: int
) -> LimitCycles:
    periods = np.array([cycle.period for cycle in cycles], int)
    logs = np.array([cycle.log_multipliers for cycle in cycles]).reshape(-1, size)
    units = np.array([cycle.units for cycle in cycles], complex).reshape(-1, size)
    unstable, on_circle, kind, times = stability(logs, periods[:, None], marginal)
    counts = zip(*(tried.outcomes for tried in tries), strict=True)
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
