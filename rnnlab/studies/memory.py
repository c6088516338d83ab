"""The memory study: which cell learns which task at which length, and how far its gradient reaches.

Every network is trained from the gradient of its task alone; before and after, the horizon of that
gradient and the first Lyapunov exponent are measured on the same held-out sequences.
"""

import functools
import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from rnnlab._json import number
from rnnlab.cells.registry import make_cell
from rnnlab.data import Batch
from rnnlab.diagnostics import gradient_flow, lyapunov_spectrum
from rnnlab.models import for_task
from rnnlab.models.sequence import SequenceModel
from rnnlab.studies.memory_settings import MemorySettings
from rnnlab.studies.records import Records, select
from rnnlab.studies.study import Measured
from rnnlab.tasks import Task
from rnnlab.tasks.registry import is_fixed, make_task
from rnnlab.training.step import TrainState, initial_state, train_step
from rnnlab.typing import Array, Key, PyTree

HELD_OUT = 512
"""Sequences on which a loss is measured."""
FOLLOWED = 8
"""Sequences on which the horizon and the exponent are measured."""
LARGEST_HIDDEN = 4096


class Unit(NamedTuple):
    """One measurement, for all seeds: a cell of some budget on a task of some length."""

    cell: str
    task: str
    length: int
    budget: int


def units(settings: MemorySettings) -> list[Unit]:
    """All measurements of the study, in the order in which they run: short sequences first.

    ValueError for a length or a budget that a task cannot have, and for a task whose data belong to
    a package that is not installed.
    """
    all_units = []
    for budget in settings.budgets:
        for name in settings.tasks:
            for length in _lengths(settings, name):
                all_units.extend(Unit(cell, name, length, budget) for cell in settings.cells)
    for unit in all_units:
        model_for(settings, unit)
    return all_units


def _lengths(settings: MemorySettings, task: str) -> list[int]:
    """The lengths of a task."""
    if not is_fixed(task):
        return sorted(settings.lengths)
    try:
        return [make_task(task).steps]
    except ImportError as fault:
        raise ValueError(str(fault)) from fault


def finished(records: Records) -> set[Unit]:
    """The units that already have records."""
    return {Unit(*(row[name] for name in Unit._fields)) for row in records.get("scores", [])}


def measure(
    settings: MemorySettings,
    data: None,
    wanted: list[Unit],
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[Measured]:
    """Yields each of the ``wanted`` units as it is finished; all seeds run in one program.

    ``progress`` is called with a few words on the current step.
    """
    del data
    for unit in wanted:
        yield Measured(unit, _measure_unit(settings, unit, progress))


class Sized(NamedTuple):
    """A task, and the largest network for it that a budget allows."""

    task: Task
    model: SequenceModel
    parameters: int


def model_for(settings: MemorySettings, unit: Unit) -> Sized:
    """The task of a unit and its network; ValueError where the budget is too small for any."""
    task = make_task(unit.task, unit.length)

    def sized(hidden_size: int) -> Sized:
        cell = make_cell(
            unit.cell,
            hidden_size,
            init=settings.init,
            max_lag=task.steps,
            param_dtype=settings.precision,
        )
        # One-hot codes: an embedding would take most of a small budget.
        model = for_task(task, cell, embedding_size=task.vocabulary_size)
        return Sized(task, model, _count(model, task))

    smallest, largest = 1, LARGEST_HIDDEN
    if sized(smallest).parameters > unit.budget:
        raise ValueError(
            f"a budget of {unit.budget} parameters is too small for {unit.cell} on {unit.task}; "
            f"give at least {sized(smallest).parameters}"
        )
    while smallest < largest:
        middle = (smallest + largest + 1) // 2
        if sized(middle).parameters <= unit.budget:
            smallest = middle
        else:
            largest = middle - 1
    return sized(smallest)


def _count(model: SequenceModel, task: Task) -> int:
    """The number of parameters of a model."""
    batch = _shapes(task, 1)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), batch))
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _shapes(task: Task, batch_size: int) -> Batch:
    return jax.eval_shape(lambda: task.sample(jax.random.key(0), batch_size))


class _Programs(NamedTuple):
    """The compiled programs of one unit; each takes all seeds."""

    start: Callable[..., TrainState]
    advance: Callable[..., TrainState]
    evaluate: Callable[..., dict[str, Array]]
    reach: Callable[..., "_Reach"]


class _Reach(NamedTuple):
    """How far the gradient of a network reaches, for each seed."""

    horizon: Array
    lags: Array
    exponent: Array


def _programs(settings: MemorySettings, sized: Sized) -> _Programs:
    task, model, _ = sized
    optimiser = optax.adam(settings.learning_rate)
    if settings.clip is not None:
        optimiser = optax.chain(optax.clip_by_global_norm(settings.clip), optimiser)
    step = train_step(model.loss, optimiser)
    shapes = _shapes(task, settings.batch_size)

    def start(key: Key) -> TrainState:
        k_params, k_train = jax.random.split(key)
        return initial_state(model.init(k_params, shapes), optimiser, k_train)

    def advance(state: TrainState, key: Key, first: Array, count: Array) -> TrainState:
        def once(index: Array, state: TrainState) -> TrainState:
            batch = task.sample(jax.random.fold_in(key, index), settings.batch_size)
            return step(state, batch)[0]

        return lax.fori_loop(first, first + count, once, state)

    def evaluate(params: PyTree, key: Key) -> dict[str, Array]:
        value, metrics = model.loss(params, task.held_out().sample(key, HELD_OUT))
        return {**metrics, "loss": value}

    return _Programs(
        start=jax.jit(jax.vmap(start)),
        # The number of updates is an argument: the last part may be shorter.
        advance=jax.jit(jax.vmap(advance, in_axes=(0, 0, None, None)), donate_argnums=0),
        evaluate=jax.jit(jax.vmap(evaluate)),
        reach=jax.jit(jax.vmap(functools.partial(_reach, task, model))),
    )


def _reach(task: Task, model: SequenceModel, params: PyTree, key: Key) -> _Reach:
    """The horizon of the gradient of the last target's loss, and λ₁, on held-out sequences."""
    batch = task.held_out().sample(key, FOLLOWED)
    xs = batch.xs
    if model.embedding is not None:
        xs = model.embedding(params.embedding, xs)
    last = _last_target(task, batch)

    def loss(ys: Array) -> Array:
        return model.score(model.head(params, ys, last), last)[0]

    flow = gradient_flow(model.cell, params.cell, xs, loss, lengths=batch.lengths)
    spectrum = lyapunov_spectrum(model.cell, params.cell, xs, count=1)
    return _Reach(flow.horizon, jnp.asarray(flow.lags), jnp.mean(spectrum.exponents))


def _last_target(task: Task, batch: Batch) -> Batch:
    """The batch with the last target of each sequence alone, where there is one for each step."""
    if task.kind in ("classes", "numbers"):
        return batch
    steps = jnp.arange(batch.xs.shape[0])[:, None]
    counts = jnp.ones(batch.xs.shape[:2], bool) if batch.mask is None else batch.mask
    if batch.lengths is not None:
        counts &= steps < batch.lengths
    return batch._replace(mask=steps == jnp.max(jnp.where(counts, steps, -1), axis=0))


def _measure_unit(settings: MemorySettings, unit: Unit, progress: Callable[[str], None]) -> Records:
    sized = model_for(settings, unit)
    programs = _programs(settings, sized)
    keys = jnp.stack([jax.random.key(seed) for seed in range(settings.seeds)])
    # Three keys for each seed, so that no sequence serves two purposes.
    split = jax.vmap(lambda key: jax.random.split(key, 3))
    k_start, k_train, k_held_out = jnp.moveaxis(split(keys), 1, 0)
    name = f"{unit.cell}, {unit.task}, length {unit.length}, {unit.budget} parameters"
    progress(f"{name}: compiling")
    state = programs.start(k_start)
    before = programs.reach(state.params, k_held_out)
    curves = [_curve(programs, state, k_held_out, 0)]
    solved_after: list[int | None] = [None] * settings.seeds
    done = 0
    while done < settings.steps and None in solved_after:
        progress(f"{name}: update {done} of {settings.steps}")
        count = min(settings.check_every, settings.steps - done)
        state = programs.advance(state, k_train, done, count)
        done += count
        curves.append(_curve(programs, state, k_held_out, done))
        for seed, metrics in enumerate(curves[-1]):
            if solved_after[seed] is None and sized.task.solved(metrics):
                solved_after[seed] = done
    after = programs.reach(state.params, k_held_out)
    return _records(unit, sized, curves, solved_after, *jax.device_get((before, after)))


def _curve(programs: _Programs, state: TrainState, keys: Key, done: int) -> list[dict[str, float]]:
    """The metrics of each seed after ``done`` updates."""
    metrics = jax.device_get(programs.evaluate(state.params, keys))
    seeds = range(len(metrics["loss"]))
    return [
        {"updates": done, **{name: float(values[seed]) for name, values in metrics.items()}}
        for seed in seeds
    ]


def _records(
    unit: Unit,
    sized: Sized,
    curves: list[list[dict[str, float]]],
    solved_after: list[int | None],
    before: _Reach,
    after: _Reach,
) -> Records:
    task, model, parameters = sized
    records: Records = {"scores": [], "curves": []}
    for seed, updates in enumerate(solved_after):
        key = {**unit._asdict(), "seed": seed}
        last = curves[-1][seed]
        record = {
            "hidden_size": model.cell.hidden_size,
            "parameters": parameters,
            "lag": task.lag,
            "updates": int(last["updates"]),
            "solved_after": updates,
            "loss": number(last["loss"]),
            "accuracy": number(last["accuracy"]) if "accuracy" in last else None,
            "baseline": number(task.baseline()),
            "floor": number(task.floor()),
            "skill": number(_skill(task, last["loss"])),
            "lags": int(before.lags[seed]),
            "horizon_before": int(before.horizon[seed]),
            "horizon_after": int(after.horizon[seed]),
            "exponent_before": number(before.exponent[seed]),
            "exponent_after": number(after.exponent[seed]),
        }
        records["scores"].append(key | record)
        for metrics in curves:
            point = {"updates": metrics[seed]["updates"], "loss": number(metrics[seed]["loss"])}
            records["curves"].append(key | point)
    return records


def _skill(task: Task, loss: float) -> float:
    """The share of the gap between baseline and floor that a loss closes; 1 at the floor."""
    return (task.baseline() - loss) / (task.baseline() - task.floor())


def summarise(settings: MemorySettings, records: Records) -> list[dict[str, Any]]:
    """One record for each cell, task and budget.

    length, lag: of the longest sequences that at least half of the seeds solve; None where there
    are none. tried, tried_lag: of the longest that were tried. horizon_before, horizon_after,
    exponent_before, exponent_after: medians over the seeds at ``tried``. skill, skill_low,
    skill_high: the share of the gap between baseline and floor that is closed there, (baseline −
    loss) / (baseline − floor), its median and its range over the seeds.
    """
    summary = []
    for budget in settings.budgets:
        for task in settings.tasks:
            for cell in settings.cells:
                rows = select(records["scores"], cell=cell, task=task, budget=budget)
                if rows:
                    key = {"cell": cell, "task": task, "budget": budget}
                    summary.append(key | _summary_of(rows))
    return summary


def _summary_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The summary of one cell on one task."""
    by_length: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        by_length.setdefault(row["length"], []).append(row)
    solved = [seeds for seeds in by_length.values() if _is_solved(seeds)]
    best = max(solved, key=lambda seeds: seeds[0]["length"], default=None)
    longest = by_length[max(by_length)]
    skills = [row["skill"] for row in longest if row["skill"] is not None]
    first = longest[0]
    record = {
        "hidden_size": first["hidden_size"],
        "parameters": first["parameters"],
        "length": None if best is None else best[0]["length"],
        "lag": None if best is None else best[0]["lag"],
        "tried": first["length"],
        "tried_lag": first["lag"],
        "lags": first["lags"],
        "seeds": len(longest),
        "solved": sum(row["solved_after"] is not None for row in longest),
        "skill": statistics.median_low(skills) if skills else None,
        "skill_low": min(skills, default=None),
        "skill_high": max(skills, default=None),
    }
    for name in ("horizon_before", "horizon_after", "exponent_before", "exponent_after"):
        values = [row[name] for row in longest if row[name] is not None]
        record[name] = statistics.median_low(values) if values else None
    return record


def _is_solved(seeds: list[dict[str, Any]]) -> bool:
    solved = [row for row in seeds if row["solved_after"] is not None]
    return 2 * len(solved) >= len(seeds)
