"""The study of cures: what helps a network to learn what lies far back, and what it costs."""

import bisect
import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import optax

from rnnlab._json import number
from rnnlab.cells.registry import make_cell
from rnnlab.explain import explain_engine
from rnnlab.models import for_task
from rnnlab.models.sequence import SequenceModel
from rnnlab.studies import cures_changes, task_training
from rnnlab.studies.cures_changes import Candidate, Prepare
from rnnlab.studies.cures_network import GivenNetwork
from rnnlab.studies.cures_registry import CURES, PLAIN, Cure
from rnnlab.studies.cures_settings import CuresSettings
from rnnlab.studies.records import Records, select
from rnnlab.studies.study import Measured
from rnnlab.studies.task_training import Outcome
from rnnlab.tasks import Task, make_task
from rnnlab.tasks.registry import is_fixed
from rnnlab.typing import Key, PyTree

LONGEST = 2**17
"""The largest length that is searched for a lag, a power of two."""


class Unit(NamedTuple):
    """One measurement, for all seeds: the network with one cure."""

    cure: str


def task_of(settings: CuresSettings) -> Task:
    """The task at the shortest length whose longest lag is at least that of the settings.

    ValueError for a task of fixed length, or without such a length.
    """
    if is_fixed(settings.task):
        raise ValueError(
            f"{settings.task} has one length, so its lag cannot be chosen; give another task, such "
            "as temporal-order"
        )

    task = _shortest(settings.task, settings.lag)
    if task is None:
        raise ValueError(
            f"{settings.task} has no length with a lag of {settings.lag} steps; give a shorter lag "
            "or another task"
        )
    return task


def _shortest(name: str, lag: int) -> Task | None:
    """The task at the shortest length that has the lag; None if no length up to LONGEST has it."""
    # A task refuses lengths that are too small and lengths that are too large for it. Doubling
    # tells them apart: one that is refused is too large if its half was not.
    length = 1
    allows_half = False
    while length <= LONGEST:
        task = _made(name, length)
        if task is None and allows_half:
            break
        if task is not None and task.lag >= lag:
            break
        allows_half = task is not None
        length *= 2
    else:
        return None

    def is_enough(length: int) -> bool:
        """Whether a length has the lag or is too large for the task."""
        task = _made(name, length)
        return allows_half if task is None else task.lag >= lag

    lengths = range(length // 2 + 1, length + 1)
    shortest = lengths[bisect.bisect_left(lengths, True, key=is_enough)]
    return _made(name, shortest)


def _made(name: str, length: int) -> Task | None:
    """The task at a length; None if it cannot have it."""
    try:
        return make_task(name, length)
    except ValueError:
        return None


def units(settings: CuresSettings) -> list[Unit]:
    """The unchanged network, and each cure; ValueError for one that does not apply to the cell."""
    task_of(settings)
    names = [name for name, cure in CURES.items() if cure.applies(settings.cell)]
    for name in settings.cures:
        if name not in names:
            raise ValueError(
                f"{name} is not a cure for {settings.cell}; choose from {', '.join(names)}"
            )
        least = CURES[name].least_batch
        if settings.batch_size < least:
            raise ValueError(
                f"{name} needs more than one sequence; set batch_size to {least} or more"
            )
    possible = (name for name in names if CURES[name].least_batch <= settings.batch_size)
    chosen = settings.cures or possible
    # Every cure is compared with the unchanged network.
    return [Unit(PLAIN), *(Unit(name) for name in chosen if name != PLAIN)]


def finished(records: Records) -> set[Unit]:
    """The units that already have records."""
    return {Unit(row["cure"]) for row in records.get("scores", [])}


def measure(
    settings: CuresSettings,
    data: GivenNetwork | None,
    wanted: list[Unit],
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[Measured]:
    """Yields each of the ``wanted`` units as it is finished; all seeds run in one program.

    ``data`` is the network that the training starts from; None to draw one. ``progress`` is called
    with a few words on the current step.
    """
    task = task_of(settings)
    for unit in wanted:
        yield Measured(unit, _measure_unit(settings, task, unit, data, progress))


def candidate(
    settings: CuresSettings, task: Task, name: str, given: GivenNetwork | None = None
) -> Candidate:
    """The network with a cure, and how it is trained.

    ``given`` is the network that the training starts from, where the cure keeps its structure.
    """
    cure = CURES[name]
    arguments = {"name": settings.cell, "init": settings.init, **cure.cell(settings.lag)}
    drawn = make_cell(
        hidden_size=settings.hidden_size,
        max_lag=task.steps,
        param_dtype=settings.precision,
        **arguments,
    )
    cell, prepare = drawn, None
    if given is not None and cure.keeps_structure:
        cell, prepare = given.cell, _started(cure, settings.lag, given, drawn)
    model = for_task(task, cell, embedding_size=task.vocabulary_size)
    optimiser = optax.adam(settings.learning_rate)
    plain = Candidate(settings, task, model, optimiser, prepare=prepare)
    return plain if cure.change is None else getattr(cures_changes, cure.change)(plain)


def _started(cure: Cure, lag: int, given: GivenNetwork, drawn: Any) -> Prepare:
    """Parameters with the recurrent weights and biases of the given network.

    ``drawn`` is the cell with the cure, which initial weights or biases are taken from.
    """

    def prepare(params: PyTree, key: Key) -> PyTree:
        w_x = params.cell.w_x
        new = drawn.init(key, w_x.shape[0])
        start = cure.start(given.params, new, lag)
        return params._replace(cell=start._replace(w_x=w_x))

    return prepare


def _measure_unit(
    settings: CuresSettings,
    task: Task,
    unit: Unit,
    given: GivenNetwork | None,
    progress: Callable[[str], None],
) -> Records:
    chosen = candidate(settings, task, unit.cure, given)
    programs = task_training.compiled(
        task,
        chosen.model,
        chosen.optimiser,
        settings.batch_size,
        loss=chosen.loss,
        prepare=chosen.prepare,
        is_measured=chosen.is_measured,
    )

    def say(text: str) -> None:
        progress(f"{unit.cure}: {text}")

    outcome = task_training.train(
        programs, settings.seeds, settings.steps, settings.check_every, say
    )
    kept = _kept_bytes(task, chosen.model, settings.batch_size)
    return _records(unit, task, chosen.model, outcome, kept)


def _kept_bytes(task: Task, model: SequenceModel, batch_size: int) -> int | None:
    """Bytes that the engine keeps for the backward pass of one network."""
    batch = task_training.shapes_of(task, batch_size)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), batch))
    xs = jax.eval_shape(lambda p, x: task_training.embedded(model, p, x), params, batch.xs)
    explained = explain_engine(model.cell, params.cell, xs)
    layers = explained.layers or (explained,)
    total = 0
    for layer in layers:
        size = layer.residual_bytes.get(layer.engine)
        if size is None:
            return None
        total += size
    return total


def _records(
    unit: Unit, task: Task, model: SequenceModel, outcome: Outcome, kept: int | None
) -> Records:
    about = {
        "length": task.steps,
        "parameters": task_training.count_parameters(model, task),
        "seconds": None if outcome.seconds is None else number(outcome.seconds),
        "kept_bytes": kept,
    }
    records: Records = {"scores": [], "curves": []}
    for seed in range(len(outcome.solved_after)):
        key = {**unit._asdict(), "seed": seed}
        records["scores"].append(key | about | task_training.score(task, outcome, seed))
        records["curves"] += [key | point for point in task_training.curve(outcome, seed)]
    return records


def summarise(settings: CuresSettings, records: Records) -> list[dict[str, Any]]:
    """One record for each cure, the best first.

    They are ranked by the number of seeds that solve the task, then by the updates after which they
    have, then by the skill: the share of the gap between the loss without memory and the lowest
    loss that is closed. Numbers are medians over the seeds. time_ratio: the time of an update in
    units of that of the unchanged network.
    """
    plain = select(records["scores"], cure=PLAIN)
    unit_time = plain[0]["seconds"] if plain else None
    summary = []
    for name in CURES:
        rows = select(records["scores"], cure=name)
        if rows:
            record = {"cell": settings.cell, "task": settings.task, "cure": name}
            summary.append(record | _summary_of(rows, unit_time))
    summary.sort(key=_rank)
    return summary


def _summary_of(rows: list[dict[str, Any]], unit_time: float | None) -> dict[str, Any]:
    solved = [row["solved_after"] for row in rows if row["solved_after"] is not None]
    seconds = rows[0]["seconds"]
    return {
        "seeds": len(rows),
        "updates": max(row["updates"] for row in rows),
        "solved": len(solved),
        "solved_after": statistics.median_low(solved) if solved else None,
        "time_ratio": seconds / unit_time if seconds and unit_time else None,
        **{name: rows[0][name] for name in ("length", "lag", "lags", "parameters", "kept_bytes")},
        **task_training.medians(rows),
    }


def _rank(record: dict[str, Any]) -> tuple[float, ...]:
    updates = math.inf if record["solved_after"] is None else record["solved_after"]
    skill = -math.inf if record["skill"] is None else record["skill"]
    return (-record["solved"], updates, -skill)
