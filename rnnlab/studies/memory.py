"""The memory study: which cell learns which task at which length, and how far its gradient reaches.

Every network is trained from the gradient of its task alone; before and after, the horizon of that
gradient and the first Lyapunov exponent are measured on the same held-out sequences.
"""

import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import optax

from rnnlab._json import number
from rnnlab.cells.registry import make_cell
from rnnlab.models import for_task
from rnnlab.models.sequence import SequenceModel
from rnnlab.studies import task_training
from rnnlab.studies.memory_settings import MemorySettings
from rnnlab.studies.records import Records, select
from rnnlab.studies.study import Measured
from rnnlab.studies.task_training import Outcome
from rnnlab.tasks import Task
from rnnlab.tasks.registry import is_fixed, make_task

LARGEST_HIDDEN = 4096
"""The largest network that is tried for a budget."""


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
        return Sized(task, model, task_training.count_parameters(model, task))

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


def _measure_unit(settings: MemorySettings, unit: Unit, progress: Callable[[str], None]) -> Records:
    sized = model_for(settings, unit)
    optimiser = optax.adam(settings.learning_rate)
    if settings.clip is not None:
        optimiser = optax.chain(optax.clip_by_global_norm(settings.clip), optimiser)
    programs = task_training.compiled(
        sized.task, sized.model, optimiser, settings.batch_size, measured=sized.model
    )
    name = f"{unit.cell}, {unit.task}, length {unit.length}, {unit.budget} parameters"

    def say(text: str) -> None:
        progress(f"{name}: {text}")

    outcome = task_training.train(
        programs, settings.seeds, settings.steps, settings.check_every, say
    )
    return _records(unit, sized, outcome)


def _records(unit: Unit, sized: Sized, outcome: Outcome) -> Records:
    task, model, parameters = sized
    before, after = outcome.before, outcome.after
    assert before is not None
    assert after is not None
    records: Records = {"scores": [], "curves": []}
    for seed, updates in enumerate(outcome.solved_after):
        key = {**unit._asdict(), "seed": seed}
        last = outcome.curves[-1][seed]
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
            "skill": number(task_training.skill(task, last["loss"])),
            "lags": int(before.lags[seed]),
            "horizon_before": int(before.horizon[seed]),
            "horizon_after": int(after.horizon[seed]),
            "exponent_before": number(float(before.exponent[seed])),
            "exponent_after": number(float(after.exponent[seed])),
        }
        records["scores"].append(key | record)
        for metrics in outcome.curves:
            point = {"updates": metrics[seed]["updates"], "loss": number(metrics[seed]["loss"])}
            records["curves"].append(key | point)
    return records


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
