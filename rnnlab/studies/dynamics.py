"""The dynamics study: Lyapunov spectra, fixed points and phase diagrams of each cell."""

import collections
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab._json import number
from rnnlab.diagnostics import (
    AttractorKind,
    FixedPoints,
    attractor_kind,
    entropy_rate,
    fixed_points,
    kaplan_yorke,
    lyapunov_spectrum,
    phase_diagram,
    recurrent_gain,
    sample_states,
    step_jacobians,
)
from rnnlab.driver import unroll_states
from rnnlab.studies.networks import initial_params, model, recurrent
from rnnlab.studies.records import Records, select
from rnnlab.studies.settings import DynamicsSettings
from rnnlab.studies.sources import Source, draw
from rnnlab.studies.study import Measured
from rnnlab.typing import AnyArray, Array, Cell, PyTree

PARTS = {
    "spectrum": ("spectrum", "trace"),
    "portrait": ("trajectories", "fixed_points", "attractors"),
    "phase": ("phase",),
}
"""The parts of a measurement and the records that each gives; the first kind is never empty."""

SHOWN = {
    "spectrum": "spectrum",
    "portrait": "fixed points and attractors",
    "phase": "phase diagram",
}
"""The names of the parts in progress messages."""

KINDS = ("stable", "marginal", "saddle", "unstable", "slow")
"""Kinds of fixed points: four by how many directions decay or grow, and slow points."""

TRACED, EXAMPLES, STEPS = 100, 3, 100
"""The most points of a convergence trace, trajectories, and steps of a trajectory that are kept."""

BOUND = 1e6
"""States with larger numbers have diverged: they are not drawn, and no search starts from them."""

SAME = 1e-5
"""States that differ by less than this, times 1 + their size, count as equal."""

FOLLOWED = 8
"""The number of states that are followed to their attractor."""

NOISE = 0.1
"""Standard deviation of the noise on the states from which fixed points are searched."""


class Unit(NamedTuple):
    """One measurement: one part of a network's dynamics, for all seeds."""

    cell: str
    part: str


def networks(settings: DynamicsSettings) -> dict[str, tuple[str, str]]:
    """Name and phase of each measured network, by the name under which it is shown.

    That is the name itself where all are untrained, else one such as "trained gru": figures and
    sentences then show the phases as they show cells.
    """
    shown = {}
    for name in settings.networks:
        for phase in settings.phases:
            title = f"{phase} {name}" if len(settings.phases) > 1 else name
            shown[title] = name, phase
    return shown


def units(settings: DynamicsSettings) -> list[Unit]:
    """All measurements of the study, in the order in which they run.

    ValueError where more exponents are asked for than a state has numbers.
    """
    all_units = []
    for cell in networks(settings):
        size = state_size(settings, cell)
        if settings.exponents is not None and settings.exponents > size:
            raise ValueError(
                f"exponents is {settings.exponents}, but the state of {cell} has {size} numbers; "
                "ask for at most that many, or add hidden units"
            )
        all_units.extend(Unit(cell, part) for part in PARTS)
    return all_units


def state_size(settings: DynamicsSettings, name: str) -> int:
    """The number of values in the state of a network: h, and an LSTM's c, of each layer."""
    cell = recurrent(settings, networks(settings)[name][0])
    state = jax.eval_shape(cell.initial_state)
    sizes = jax.tree.map(lambda leaf: leaf.size, state)
    return sum(jax.tree.leaves(sizes))


def leading_exponents(settings: DynamicsSettings, name: str) -> int:
    """How many exponents of a network are measured: by default 16, or all where there are fewer."""
    return settings.exponents or min(16, state_size(settings, name))


def finished(records: Records) -> set[Unit]:
    """The units that already have records."""
    done = set()
    for part, kinds in PARTS.items():
        done.update(Unit(record["cell"], part) for record in records[kinds[0]])
    return done


def measure(
    settings: DynamicsSettings,
    data: Source,
    wanted: list[Unit],
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[Measured]:
    """Yields each of the ``wanted`` units as it is finished.

    ``progress`` is called with a few words on the current step. Networks and sequences of a seed
    do not depend on what else is measured; the networks are those of the gradient study.
    """
    drawn: dict[str, tuple[Cell, PyTree]] = {}
    for unit in wanted:
        progress(f"{unit.cell}, {SHOWN[unit.part]}")
        if unit.cell not in drawn:
            drawn[unit.cell] = _networks(settings, data, unit.cell)
        cell, params = drawn[unit.cell]
        yield _measure(settings, data, unit, cell, params)


def _measure(
    settings: DynamicsSettings, data: Source, unit: Unit, cell: Cell, of_seeds: PyTree
) -> Measured:
    """One unit; ``of_seeds`` are the parameters with a leading axis of seeds."""
    if unit.part == "phase":
        first = _of_seed(of_seeds, 0)
        rows = _phase(settings, data, unit.cell, cell, first)
        return Measured(unit, {"phase": rows})
    records: Records = {kind: [] for kind in PARTS[unit.part]}
    driven = drive(settings, data, settings.total, 0)
    for seed in range(settings.seeds):
        params = recurrent_gain(_of_seed(of_seeds, seed), jnp.asarray(settings.gain))
        xs = driven[seed]
        if unit.part == "spectrum":
            count = leading_exponents(settings, unit.cell)
            of_seed = _spectrum(settings, cell, params, xs, seed, count)
        else:
            of_seed = _portrait(settings, cell, params, xs, seed)
        for kind, rows in of_seed.items():
            for row in rows:
                records[kind].append({"cell": unit.cell, "seed": seed, **row})
    return Measured(unit, records)


def drive(settings: DynamicsSettings, data: Source, length: int, purpose: int) -> AnyArray:
    """Inputs for every seed, ``[S, T, B, I]``: the data, or one random input and then zeros."""
    if settings.drive == "data":
        inputs, _ = draw(settings, data, "measure", length, purpose)
        return data.embed(inputs)
    shape = settings.batch_size, data.size
    first = []
    for seed in range(settings.seeds):
        random = np.random.default_rng((seed, purpose))
        first.append(random.standard_normal(shape))
    silence = jnp.zeros((settings.seeds, length, *shape), settings.precision)
    return silence.at[:, 0].set(np.stack(first))


def _networks(settings: DynamicsSettings, data: Source, name: str) -> tuple[Cell, PyTree]:
    """A cell and its parameters with a leading axis of seeds: those of the gradient study."""
    name, phase = networks(settings)[name]
    network = model(settings, data, name)
    if data.trained is not None:
        params = data.trained.params[phase]
    else:
        params = initial_params(network, data.size, settings.seeds)
    return network.cells[0], params.layers[0]


def _of_seed(of_seeds: PyTree, seed: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[seed], of_seeds)


def _spectrum(
    settings: DynamicsSettings, cell: Cell, params: PyTree, xs: Array, seed: int, count: int
) -> Records:
    """The exponents, averaged over the batch, beside those at rest, and the convergence of λ₁."""
    spectrum = lyapunov_spectrum(
        cell,
        params,
        xs,
        key=jax.random.key(seed),
        count=count,
        burn_in=settings.burn_in,
        warm_up=settings.warm_up,
    )
    spectrum = jax.device_get(spectrum)
    at_rest = None
    # Under data the state never rests, so that there is no theory to compare with.
    if settings.drive != "data":
        at_rest = _at_rest(cell, params, xs)
    theory = [np.nan] * count if at_rest is None else at_rest[:count]
    exponents = []
    for index, (value, exact) in enumerate(zip(spectrum.mean, theory, strict=True), 1):
        row = {"index": index, "exponent": number(value), "theory": number(exact)}
        exponents.append(row)
    first = spectrum.trace[..., 0].mean(axis=1)
    steps = np.geomspace(1, settings.steps, TRACED).round().astype(int)
    trace = [{"step": int(n), "exponent": number(first[n - 1])} for n in np.unique(steps)]
    return {"spectrum": exponents, "trace": trace}


def _at_rest(cell: Cell, params: PyTree, xs: Array) -> np.ndarray | None:
    """The exponents of a state at rest, ln |eigenvalue| of ∂F/∂h, falling, ``[n]``; else None.

    The mean over the batch, whose examples may rest in different places.
    """
    if len(xs) < 2:
        return None
    states, _ = unroll_states(cell, params, xs)
    for leaf in jax.tree.leaves(states):
        before, last = np.asarray(leaf[-2:])
        is_finite = np.isfinite(before).all() and np.isfinite(last).all()
        if not (is_finite and np.allclose(before, last, rtol=SAME, atol=SAME)):
            return None
    end = jax.tree.map(lambda leaf: leaf[-1], states)
    jacobians = np.asarray(step_jacobians(cell, params, xs[-1:], end)[0])
    moduli = np.abs(np.linalg.eigvals(jacobians))
    # A direction that dies at once has the eigenvalue zero, and the exponent −∞.
    with np.errstate(divide="ignore"):
        rising = np.sort(-np.log(moduli), axis=-1)
    return -rising.mean(axis=0)


def _portrait(
    settings: DynamicsSettings, cell: Cell, params: PyTree, xs: Array, seed: int
) -> Records:
    """Trajectories, the fixed points under zero input, and the attractors without input.

    Points are drawn on the first two principal components of all visited states.
    """
    states, _ = unroll_states(cell, params, xs)
    # [T, B, n], with the parts of the state in the order of FixedPoints.states.
    joint = np.concatenate(jax.device_get(jax.tree.leaves(states)), axis=-1)
    is_bounded = np.all(np.abs(joint) < BOUND, axis=-1)
    project = _principal(joint[is_bounded])
    shown = np.where(is_bounded[..., None], joint, np.nan)[:STEPS, :EXAMPLES]

    visited = jax.tree.map(lambda leaf: leaf[is_bounded][:, None], states)
    k_starts, k_direction = jax.random.split(jax.random.key(seed))
    starts = sample_states(k_starts, visited, settings.starts, NOISE)
    no_input = jnp.zeros_like(xs[0, 0])
    with warnings.catch_warnings():
        # The summary says where no fixed point is found.
        warnings.filterwarnings("ignore", "no fixed point was found", UserWarning)
        points = fixed_points(cell, params, no_input, starts)
    followed = jax.tree.map(lambda leaf: leaf[:FOLLOWED], starts)
    ends = attractor_kind(k_direction, cell, params, no_input, followed)
    return {
        "trajectories": _trajectory_rows(project(shown)),
        "fixed_points": _point_rows(points, project),
        "attractors": _attractor_rows(ends),
    }


def _trajectory_rows(plane: np.ndarray) -> list[dict[str, Any]]:
    """The records of trajectories ``[T, B, 2]``."""
    rows = []
    for example in range(plane.shape[1]):
        for step, (pc1, pc2) in enumerate(plane[:, example], 1):
            row = {"example": example, "step": step, "pc1": number(pc1), "pc2": number(pc2)}
            rows.append(row)
    return rows


def _point_rows(
    points: FixedPoints, project: Callable[[np.ndarray], np.ndarray]
) -> list[dict[str, Any]]:
    """The records of the fixed points, and after them those of the slow points."""
    times = points.time_constants
    # The slowest mode is the one that decays last. A growing mode, whose time is negative, does not
    # count; one that neither grows nor decays has an infinite time of either sign, and does.
    grows = (times < 0) & np.isfinite(times)
    decay_times = np.where(grows, -np.inf, np.abs(times))
    rows = []

    def add(kind: str, unstable: int | None, q: Any, slowest: Any, state: np.ndarray) -> None:
        pc1, pc2 = project(state)
        row = {
            "number": len(rows) + 1,
            "kind": kind,
            "unstable": unstable,
            "q": number(q),
            "slowest": number(slowest),
            "pc1": number(pc1),
            "pc2": number(pc2),
        }
        rows.append(row)

    for index, kind in enumerate(points.kind):
        slowest = decay_times[index].max(initial=-np.inf)
        unstable = int(points.unstable[index])
        add(kind, unstable, points.q[index], slowest, points.states[index])
    for q, state in zip(points.slow_q, points.slow_states, strict=True):
        add("slow", None, q, np.nan, state)
    return rows


def _attractor_rows(ends: AttractorKind) -> list[dict[str, Any]]:
    """The records of the attractors, one for each followed state."""
    rows = []
    columns = zip(ends.kind, ends.period, ends.exponent, strict=True)
    for index, (kind, period, exponent) in enumerate(columns, 1):
        row = {
            "number": index,
            "kind": kind,
            "period": int(period),
            "exponent": number(exponent),
        }
        rows.append(row)
    return rows


def _principal(states: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The projection ``[..., n] -> [..., 2]`` on the directions in which ``states`` vary most.

    ``states`` are ``[N, n]``.
    """
    centre = states.mean(axis=0, dtype=float)
    deviations = states - centre
    # eigh sorts by rising variance.
    _, directions = np.linalg.eigh(deviations.T @ deviations)
    plane = np.zeros((states.shape[1], 2))
    # A state of one number has a single direction; its second component stays zero.
    plane[:, : len(directions)] = directions[:, :-3:-1]
    # The sign of a direction is arbitrary: unless it is fixed, pictures differ between machines.
    largest = np.abs(plane).argmax(axis=0)
    plane *= np.where(plane[largest, [0, 1]] < 0, -1, 1)
    return lambda points: (points - centre) @ plane


def _phase(
    settings: DynamicsSettings, data: Source, name: str, cell: Cell, params: PyTree
) -> list[dict[str, Any]]:
    """Over recurrent gains and lengths, with the weights and sequences of the first seed."""
    xs = drive(settings, data, settings.longest, 1)[0]
    gains = jnp.asarray(settings.gains, xs.dtype)
    lengths = jnp.asarray(settings.lengths)
    diagram = phase_diagram(cell, params, xs, gains, lengths, key=jax.random.key(0))
    diagram = jax.device_get(diagram)
    rows = []
    for gain_index, gain in enumerate(settings.gains):
        for length_index, length in enumerate(settings.lengths):
            at = gain_index, length_index
            decay = diagram.decay_per_step[at]
            # NaN marks a gradient that is not finite, of which there is no horizon to report.
            is_finite = not np.isnan(decay)
            row = {
                "cell": name,
                "axis": "gain",
                "value": gain,
                "length": length,
                "horizon": int(diagram.horizon[at]) if is_finite else None,
                "vanishes": bool(diagram.vanishes[at]) if is_finite else None,
                "decay_per_step": number(decay),
                "exponent": number(diagram.exponent[at]),
            }
            rows.append(row)
    return rows


def summarise(settings: DynamicsSettings, records: Records) -> list[dict[str, Any]]:
    """One record for each measured network: means over the seeds, None where nothing can be said.

    exponent: λ₁, nats per step. spread: its standard deviation over the seeds. kaplan_yorke: the
    dimension; None where it needs more exponents. entropy_rate: its upper bound, nats per step.
    stable, marginal, saddle, unstable, slow: the number of such points. attractor: the kinds of
    attractors without input, the most frequent first.
    """
    done = finished(records)
    summary = []
    for cell in networks(settings):
        if not any(Unit(cell, part) in done for part in PARTS):
            continue
        counts: dict[str, float | None] = dict.fromkeys(KINDS)
        if Unit(cell, "portrait") in done:
            for kind in KINDS:
                points = select(records["fixed_points"], cell=cell, kind=kind)
                counts[kind] = number(len(points) / settings.seeds)
        attractors = select(records["attractors"], cell=cell)
        kinds = collections.Counter(row["kind"] for row in attractors)
        by_frequency = dict(kinds.most_common())
        spectrum = select(records["spectrum"], cell=cell)
        record = {
            "cell": cell,
            **_rates(settings, cell, spectrum),
            "attractor": " or ".join(by_frequency) or None,
            **counts,
        }
        summary.append(record)
    return summary


def _rates(
    settings: DynamicsSettings, cell: str, spectrum: list[dict[str, Any]]
) -> dict[str, float | None]:
    """λ₁, dimension and entropy rate, from the spectra of all seeds."""
    by_seed: dict[int, list[float]] = {}
    # Records of a seed are in order of their index.
    for row in spectrum:
        exponent = -np.inf if row["exponent"] is None else row["exponent"]
        by_seed.setdefault(row["seed"], []).append(exponent)
    spectra = np.array(list(by_seed.values()))  # [S, k]
    if not spectra.size or not np.isfinite(spectra[:, 0]).all():
        return dict.fromkeys(("exponent", "spread", "kaplan_yorke", "entropy_rate"))
    first = spectra[:, 0]
    dimensions = kaplan_yorke(jnp.asarray(spectra), state_size(settings, cell))
    entropies = entropy_rate(jnp.asarray(spectra))
    return {
        "exponent": number(first.mean()),
        "spread": number(first.std()),
        "kaplan_yorke": number(float(np.mean(dimensions))),
        "entropy_rate": number(float(np.mean(entropies))),
    }
