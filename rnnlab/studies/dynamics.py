"""The dynamics study: what the state of each cell does, by Lyapunov spectra, fixed points and phase diagrams."""

import collections
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab.cells.registry import make_cell
from rnnlab.diagnostics import (
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
from rnnlab.studies.networks import initial_params, model
from rnnlab.studies.records import Records, number
from rnnlab.studies.settings import DynamicsSettings
from rnnlab.studies.sources import Source, draw
from rnnlab.typing import AnyArray, Array, Cell, PyTree

PARTS = {
    "spectrum": ("spectrum", "trace"),
    "portrait": ("trajectories", "fixed_points", "attractors"),
    "phase": ("phase",),
}
"""What is measured of a cell, and the kinds of records that come of it; of the first kind there is always one."""

SHOWN = {
    "spectrum": "spectrum",
    "portrait": "fixed points and attractors",
    "phase": "phase diagram",
}
"""What progress calls them."""

KINDS = ("stable", "marginal", "saddle", "unstable", "slow")
"""Of fixed points: the first four by how many directions decay, rest or grow, the last where the state only lingers."""

TRACED, EXAMPLES, STEPS = 100, 3, 100
"""At most so many points of a convergence trace, trajectories, and steps of one are kept."""

BOUND = 1e6
"""States with larger numbers have left all bounds: they are neither shown nor searched from."""

SAME = 1e-5
"""States that differ by less, as a part of 1 + their size, are the same."""

FOLLOWED = 8
"""States from which the attractor is looked for."""

NOISE = 0.1
"""Standard deviation of what is added to the states from which fixed points are searched."""


class Unit(NamedTuple):
    """One measurement: one part of a cell's dynamics, for all seeds."""

    cell: str
    part: str


class Measured(NamedTuple):
    """The records of one unit by kind, as they stand in ``dynamics.json``."""

    unit: Unit
    records: Records


def units(settings: DynamicsSettings) -> list[Unit]:
    """Everything that is to be measured, in the order in which it is done.

    ValueError where more exponents are asked for than a state has numbers.
    """
    for cell in settings.cells:
        size = state_size(settings, cell)
        if settings.exponents is not None and settings.exponents > size:
            raise ValueError(
                f"exponents is {settings.exponents}, but the state of {cell} has {size} numbers; "
                "ask for at most so many, or add hidden units"
            )
    return [Unit(cell, part) for cell in settings.cells for part in PARTS]


def state_size(settings: DynamicsSettings, name: str) -> int:
    """The numbers in the state of a cell: h, and an LSTM's c."""
    cell = make_cell(name, settings.hidden_size)
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(cell.initial_state)))


def leading_exponents(settings: DynamicsSettings, name: str) -> int:
    """How many exponents of a cell are measured: 16, or all where there are fewer, by default."""
    return settings.exponents or min(16, state_size(settings, name))


def finished(records: Records) -> set[Unit]:
    """The units whose records are there."""
    return {
        Unit(record["cell"], part) for part, kinds in PARTS.items() for record in records[kinds[0]]
    }


def measure(
    settings: DynamicsSettings,
    data: Source,
    wanted: list[Unit],
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[Measured]:
    """Yields each of the ``wanted`` units as it is finished. ``progress`` is told in a few words what is being done.

    Networks and sequences of a seed are the same whatever else is measured; the networks are the gradient study's.
    """
    networks: dict[str, tuple[Cell, PyTree]] = {}
    for unit in wanted:
        progress(f"{unit.cell}, {SHOWN[unit.part]}")
        if unit.cell not in networks:
            networks[unit.cell] = _networks(settings, data, unit.cell)
        yield _measure(settings, data, unit, *networks[unit.cell])


def _measure(
    settings: DynamicsSettings, data: Source, unit: Unit, cell: Cell, networks: PyTree
) -> Measured:
    """One unit; ``networks`` are the parameters with a leading axis of seeds."""
    if unit.part == "phase":
        params = _of_seed(networks, 0)
        return Measured(unit, {"phase": _phase(settings, data, unit.cell, cell, params)})
    records: Records = {kind: [] for kind in PARTS[unit.part]}
    driven = drive(settings, data, settings.total, 0)
    for seed in range(settings.seeds):
        params = recurrent_gain(_of_seed(networks, seed), jnp.asarray(settings.gain))
        given = settings, cell, params, driven[seed], seed
        if unit.part == "spectrum":
            found = _spectrum(*given, leading_exponents(settings, unit.cell))
        else:
            found = _portrait(*given)
        for kind, rows in found.items():
            records[kind] += [{"cell": unit.cell, "seed": seed, **row} for row in rows]
    return Measured(unit, records)


def drive(settings: DynamicsSettings, data: Source, length: int, purpose: int) -> AnyArray:
    """Inputs for every seed, ``[S, T, B, I]``: the data, or a random input at the first step and zeros from then on."""
    if settings.drive == "data":
        return data.embed(draw(settings, data, "measure", length, purpose)[0])
    shape = settings.batch_size, data.size
    first = np.stack(
        [
            np.random.default_rng((seed, purpose)).standard_normal(shape)
            for seed in range(settings.seeds)
        ]
    )
    return jnp.zeros((settings.seeds, length, *shape), settings.precision).at[:, 0].set(first)


def _networks(settings: DynamicsSettings, data: Source, name: str) -> tuple[Cell, PyTree]:
    """A cell, and its fresh parameters with a leading axis of seeds: the gradient study's."""
    network = model(settings, data, name)
    return network.cells[0], initial_params(network, data.size, settings.seeds).layers[0]


def _of_seed(networks: PyTree, seed: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[seed], networks)


def _spectrum(
    settings: DynamicsSettings, cell: Cell, params: PyTree, xs: Array, seed: int, count: int
) -> Records:
    """The mean exponents of the batch, beside what they are at rest, and how the estimate of λ₁ settles."""
    found = jax.device_get(
        lyapunov_spectrum(
            cell,
            params,
            xs,
            key=jax.random.key(seed),
            count=count,
            burn_in=settings.burn_in,
            warm_up=settings.warm_up,
        )
    )
    steps = np.unique(np.geomspace(1, settings.steps, TRACED).round().astype(int))
    first = found.trace[..., 0].mean(axis=1)
    rest = None if settings.drive == "data" else _at_rest(cell, params, xs)
    theory = [np.nan] * count if rest is None else rest[:count]
    return {
        "spectrum": [
            {"index": i, "exponent": number(value), "theory": number(exact)}
            for i, (value, exact) in enumerate(zip(found.mean, theory, strict=True), 1)
        ],
        "trace": [{"step": int(step), "exponent": number(first[step - 1])} for step in steps],
    }


def _at_rest(cell: Cell, params: PyTree, xs: Array) -> np.ndarray | None:
    """ln |eigenvalue| of ∂F/∂h where the state has come to rest, falling, ``[n]``: the exponents there; else None.

    The mean over the batch, whose examples may rest in different places.
    """
    if len(xs) < 2:
        return None
    states, _ = unroll_states(cell, params, xs)
    ends = [np.asarray(leaf[-2:]) for leaf in jax.tree.leaves(states)]
    if not all(
        np.isfinite(end).all() and np.allclose(end[0], end[1], rtol=SAME, atol=SAME) for end in ends
    ):
        return None
    last = jax.tree.map(lambda leaf: leaf[-1], states)
    jacobians = np.asarray(step_jacobians(cell, params, xs[-1:], last)[0])
    with np.errstate(divide="ignore"):
        return -np.sort(-np.log(np.abs(np.linalg.eigvals(jacobians))), axis=-1).mean(axis=0)


def _portrait(
    settings: DynamicsSettings, cell: Cell, params: PyTree, xs: Array, seed: int
) -> Records:
    """Trajectories and the fixed points under zero input, on the two principal components of all states passed.

    With them the attractors to which some of the states come without input.
    """
    states, _ = unroll_states(cell, params, xs)
    joint = np.concatenate(
        jax.device_get(jax.tree.leaves(states)), axis=-1
    )  # [T, B, n], as in FixedPoints.states
    sound = np.all(np.abs(joint) < BOUND, axis=-1)
    project = _principal(joint[sound])
    plane = project(np.where(sound[..., None], joint, np.nan)[:STEPS, :EXAMPLES])
    trajectories = [
        {"example": example, "step": step, "pc1": number(one), "pc2": number(two)}
        for example in range(plane.shape[1])
        for step, (one, two) in enumerate(plane[:, example], 1)
    ]
    pool = jax.tree.map(lambda leaf: leaf[sound][:, None], states)
    k_starts, k_direction = jax.random.split(jax.random.key(seed))
    starts = sample_states(k_starts, pool, settings.starts, NOISE)
    nothing = jnp.zeros_like(xs[0, 0])
    with warnings.catch_warnings():  # the summary says where nothing is found
        warnings.filterwarnings("ignore", "no fixed point was found", UserWarning)
        found = fixed_points(cell, params, nothing, starts)
    growing = found.time_constants < 0
    rests = np.where(
        growing & np.isfinite(found.time_constants), -np.inf, np.abs(found.time_constants)
    )
    points = [
        (kind, int(unstable), q, rest.max(initial=-np.inf), state)
        for kind, unstable, q, rest, state in zip(
            found.kind, found.unstable, found.q, rests, found.states, strict=True
        )
    ] + [
        ("slow", None, q, np.nan, state)
        for q, state in zip(found.slow_q, found.slow_states, strict=True)
    ]
    fixed = []
    for place, (kind, unstable, q, slowest, state) in enumerate(points, 1):
        one, two = project(state)
        fixed.append({"number": place, "kind": kind, "unstable": unstable, "q": number(q), "slowest": number(slowest),
                      "pc1": number(one), "pc2": number(two)})  # fmt: skip
    some = jax.tree.map(lambda leaf: leaf[:FOLLOWED], starts)
    ends = attractor_kind(k_direction, cell, params, nothing, some)
    attractors = [
        {"number": place, "kind": kind, "period": int(period), "exponent": number(exponent)}
        for place, (kind, period, exponent) in enumerate(
            zip(ends.kind, ends.period, ends.exponent, strict=True), 1
        )
    ]
    return {"trajectories": trajectories, "fixed_points": fixed, "attractors": attractors}


def _principal(states: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The projection of states ``[..., n]`` on the two directions ``[..., 2]`` in which ``states [N, n]`` vary most."""
    centre = states.mean(axis=0, dtype=float)
    away = states - centre
    _, directions = np.linalg.eigh(away.T @ away)  # by rising variance
    plane = np.zeros((states.shape[1], 2))
    plane[:, : len(directions)] = directions[:, :-3:-1]  # a state of one number has one direction
    largest = np.abs(plane).argmax(axis=0)
    plane *= np.where(
        plane[largest, [0, 1]] < 0, -1, 1
    )  # the sign is arbitrary: make it the same everywhere
    return lambda given: (given - centre) @ plane


def _phase(
    settings: DynamicsSettings, data: Source, name: str, cell: Cell, params: PyTree
) -> list[dict[str, Any]]:
    """Over recurrent gains and lengths, with the weights and sequences of the first seed."""
    xs = drive(settings, data, settings.longest, 1)[0]
    gains = jnp.asarray(settings.gains, xs.dtype)
    found = jax.device_get(
        phase_diagram(cell, params, xs, gains, jnp.asarray(settings.lengths), key=jax.random.key(0))
    )
    rows = []
    for v, gain in enumerate(settings.gains):
        for n, length in enumerate(settings.lengths):
            decay = found.decay_per_step[v, n]
            sound = not np.isnan(decay)
            rows.append(
                {
                    "cell": name,
                    "axis": "gain",
                    "value": gain,
                    "length": length,
                    "horizon": int(found.horizon[v, n]) if sound else None,
                    "vanishes": bool(found.vanishes[v, n]) if sound else None,
                    "decay_per_step": number(decay),
                    "exponent": number(found.exponent[v, n]),
                }
            )
    return rows


def summarise(settings: DynamicsSettings, records: Records) -> list[dict[str, Any]]:
    """One record for each cell of which something is measured; means over the seeds, None where nothing can be said.

    exponent: λ₁, nats a step. spread: its standard deviation over the seeds. kaplan_yorke: the dimension; None where it
    takes more exponents. entropy_rate: its upper bound, nats a step. stable, marginal, saddle, unstable, slow: how
    many such points are found. attractor: the kinds to which states come without input, the most frequent first.
    """
    done = finished(records)
    summary = []
    for cell in settings.cells:
        if any(unit.cell == cell for unit in done):
            own = {
                kind: [row for row in rows if row["cell"] == cell] for kind, rows in records.items()
            }
            counts: dict[str, float | None] = dict.fromkeys(KINDS)
            if Unit(cell, "portrait") in done:
                found = [row["kind"] for row in own["fixed_points"]]
                counts = {kind: number(found.count(kind) / settings.seeds) for kind in KINDS}
            ends = collections.Counter(row["kind"] for row in own["attractors"]).most_common()
            record = {
                "cell": cell,
                **_rates(settings, cell, own["spectrum"]),
                "attractor": " or ".join(kind for kind, _ in ends) or None,
                **counts,
            }
            summary.append(record)
    return summary


def _rates(
    settings: DynamicsSettings, cell: str, spectrum: list[dict[str, Any]]
) -> dict[str, float | None]:
    """What the spectra of the seeds say together."""
    seeds: dict[int, list[float]] = {}
    for row in spectrum:
        seeds.setdefault(row["seed"], []).append(
            -np.inf if row["exponent"] is None else row["exponent"]
        )
    lines = np.array(list(seeds.values()))  # [S, k]; records of a seed stand in order of index
    if not lines.size or not np.isfinite(lines[:, 0]).all():
        return dict.fromkeys(("exponent", "spread", "kaplan_yorke", "entropy_rate"))
    dimensions = kaplan_yorke(jnp.asarray(lines), state_size(settings, cell))
    return {
        "exponent": number(lines[:, 0].mean()),
        "spread": number(lines[:, 0].std()),
        "kaplan_yorke": number(float(np.mean(dimensions))),
        "entropy_rate": number(float(np.mean(entropy_rate(jnp.asarray(lines))))),
    }
