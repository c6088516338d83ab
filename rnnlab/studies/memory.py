"""The memory study: which cell learns which task at which length, and how far its gradient reaches.

Every network is trained from the gradient of its task alone; before and after, the horizon of that
gradient and the first Lyapunov exponent are measured on the same held-out sequences.
"""

import functools
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
        _check_budget(settings, unit)
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
    """A task, a network for it, and its number of parameters."""

    task: Task
    model: SequenceModel
    parameters: int


def model_for(settings: MemorySettings, unit: Unit) -> Sized:
    """The task of a unit and the largest network that the budget allows."""
    task = make_task(unit.task, unit.length)
    make = functools.partial(_model, settings, unit.cell, task)
    model = task_training.largest(make, task, range(1, LARGEST_HIDDEN + 1), unit.budget)
    return Sized(task, model, task_training.count_parameters(model, task))


def _check_budget(settings: MemorySettings, unit: Unit) -> None:
    """ValueError for a length that the task cannot have, and a budget that no network meets."""
    try:
        task = make_task(unit.task, unit.length)
    except ValueError as fault:
        raise ValueError(f"the length {unit.length} does not suit {unit.task}: {fault}") from None
    if task.lag < 1:
        raise ValueError(
            f"{unit.task} needs no memory at length {unit.length}; give a longer length"
        )
    least, most = (
        task_training.count_parameters(_model(settings, unit.cell, task, size), task)
        for size in (1, LARGEST_HIDDEN)
    )
    if least > unit.budget:
        raise ValueError(
            f"a budget of {unit.budget} parameters is too small for {unit.cell} on {unit.task}; "
            f"give at least {least}"
        )
    if most < unit.budget:
        raise ValueError(
            f"a budget of {unit.budget} parameters is too large for {unit.cell} on {unit.task}, of "
            f"which the largest network has {LARGEST_HIDDEN} units; give at most {most}"
        )


def _model(settings: MemorySettings, cell: str, task: Task, hidden_size: int) -> SequenceModel:
    made = make_cell(
        cell,
        hidden_size,
        init=settings.init,
        max_lag=task.steps,
        param_dtype=settings.precision,
    )
    # The embedding is as wide as the alphabet, whatever the size of the cell.
    return for_task(task, made, embedding_size=task.vocabulary_size)


def _measure_unit(settings: MemorySettings, unit: Unit, progress: Callable[[str], None]) -> Records:
    sized = model_for(settings, unit)
    optimiser = optax.adam(settings.learning_rate)
    if settings.clip is not None:
        optimiser = optax.chain(optax.clip_by_global_norm(settings.clip), optimiser)
    programs = task_training.compiled(sized.task, sized.model, optimiser, settings.batch_size)
    name = f"{unit.cell}, {unit.task}, length {unit.length}, {unit.budget} parameters"

    def say(text: str) -> None:
        progress(f"{name}: {text}")

    outcome = task_training.train(
        programs, settings.seeds, settings.steps, settings.check_every, say
    )
    return _records(unit, sized, outcome)


def _records(unit: Unit, sized: Sized, outcome: Outcome) -> Records:
    task, model, parameters = sized
    about = {
        "hidden_size": model.cell.hidden_size,
        "parameters": parameters,
        "baseline": number(task.baseline()),
        "floor": number(task.floor()),
    }
    records: Records = {"scores": [], "curves": []}
    for seed in range(len(outcome.solved_after)):
        key = {**unit._asdict(), "seed": seed}
        records["scores"].append(key | about | task_training.score(task, outcome, seed))
        records["curves"] += [key | point for point in task_training.curve(outcome, seed)]
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
    skills = [row["skill"] for row in longest]
    # A skill is missing where the loss is not finite.
    finite = [skill for skill in skills if skill is not None]
    first = longest[0]
    return {
        "hidden_size": first["hidden_size"],
        "parameters": first["parameters"],
        "length": None if best is None else best[0]["length"],
        "lag": None if best is None else best[0]["lag"],
        "tried": first["length"],
        "tried_lag": first["lag"],
        "lags": first["lags"],
        "seeds": len(longest),
        "solved": sum(row["solved_after"] is not None for row in longest),
        "skill_low": None if None in skills else min(finite),
        "skill_high": max(finite, default=None),
        **task_training.medians(longest),
    }


def _is_solved(seeds: list[dict[str, Any]]) -> bool:
    solved = [row for row in seeds if row["solved_after"] is not None]
    return 2 * len(solved) >= len(seeds)
