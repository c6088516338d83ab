"""The study of cures: what helps a network to learn what lies far back, and what it costs."""

import bisect
import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from rnnlab import initializers
from rnnlab._json import number
from rnnlab.cells import BatchNormLSTM
from rnnlab.cells.registry import REGISTRY, make_cell
from rnnlab.data import Batch
from rnnlab.diagnostics import forget_bias
from rnnlab.driver import unroll
from rnnlab.explain import explain_engine
from rnnlab.layers import stack
from rnnlab.models import for_task
from rnnlab.models.sequence import SequenceModel
from rnnlab.studies import task_training
from rnnlab.studies.cures_network import GivenNetwork
from rnnlab.studies.cures_settings import CURES, PLAIN, CuresSettings
from rnnlab.studies.records import Records, select
from rnnlab.studies.study import Measured
from rnnlab.studies.task_training import Outcome
from rnnlab.tasks import Task, make_task
from rnnlab.tasks.registry import is_fixed
from rnnlab.training import flossing_loss, pascanu_omega
from rnnlab.training.losses import cross_entropy
from rnnlab.training.step import Loss, initial_state, train_step
from rnnlab.typing import Array, Key, PyTree

OMEGA = 2.0
"""The weight of Ω in the loss; its authors take .5 to 4."""
FLOSSED = 8
"""The number of exponents that flossing brings to zero."""
BEFORE = 100
"""Updates of flossing and of pre-training."""
KEEPING = frozenset(
    {
        PLAIN, "forget-bias", "chrono", "orthogonal", "omega", "flossing", "clipping", "truncation",
        "pre-training", "rmsprop", "momentum",
    }
)  # fmt: skip
"""The cures that keep the structure of the network."""
LONGEST = 2**17
"""The largest length that is searched for a lag, a power of two."""


class Unit(NamedTuple):
    """One measurement, for all seeds: the network with one cure."""

    cure: str


class Candidate(NamedTuple):
    """A network with a cure, and how it is trained.

    Attributes:
        model: the model of the task.
        optimiser: any optax transformation.
        loss: what is minimised; None for the loss of the model.
        prepare: what is done before the training; None for nothing.
        is_measured: whether the instruments take the cell.
    """

    model: SequenceModel
    optimiser: optax.GradientTransformation
    loss: Loss | None = None
    prepare: Callable[[PyTree, Key], PyTree] | None = None
    is_measured: bool = True


def applies(cure: str, cell: str) -> bool:
    """Whether a cure can be tried on a cell.

    >>> applies("forget-bias", "lstm"), applies("forget-bias", "rnn")
    (True, False)
    """
    kind, options = REGISTRY[cell]
    is_elman = kind == "RNN" and not options
    if cure in ("forget-bias", "batch-norm"):
        return kind == "LSTM"
    if cure in ("chrono", "layer-norm"):
        return kind in ("LSTM", "GRU") and not options.get("layer_norm")
    if cure in ("identity-relu", "logistic", "leaky", "independent"):
        return is_elman
    if cure == "orthogonal":
        return kind != "IndRNN"
    if cure in ("gru", "lstm"):
        return cure != cell
    return True


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
    names = [name for name in CURES if applies(name, settings.cell)]
    if settings.batch_size == 1 and "batch-norm" in names:
        # It normalises over the batch.
        names.remove("batch-norm")
        if "batch-norm" in settings.cures:
            raise ValueError("batch-norm needs more than one sequence; set batch_size to 2 or more")
    for name in settings.cures:
        if name not in names:
            raise ValueError(
                f"{name} is no cure for {settings.cell}; choose from {', '.join(names)}"
            )
    chosen = settings.cures or tuple(names)
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
    settings: CuresSettings, task: Task, cure: str, given: GivenNetwork | None = None
) -> Candidate:
    """The network with a cure, and how it is trained.

    ``given`` is the network that the training starts from, where the cure keeps its structure.
    """
    drawn = _cell(settings, task, cure)
    is_kept = given is not None and cure in KEEPING
    cell = given.cell if given is not None and is_kept else drawn
    model = for_task(task, cell, embedding_size=task.vocabulary_size)
    optimiser = optax.adam(settings.learning_rate)
    if cure == "rmsprop":
        optimiser = optax.rmsprop(settings.learning_rate)
    elif cure == "momentum":
        # The step of Adam is about the learning rate; that of gradient descent needs a larger one.
        optimiser = optax.sgd(10 * settings.learning_rate, momentum=0.9)
    elif cure == "clipping":
        optimiser = optax.chain(optax.clip_by_global_norm(1.0), optimiser)
    loss = None
    prepare = None
    start = None
    if given is not None and is_kept:
        start = _started(settings, cure, given, drawn)
    if cure == "omega":
        loss = _with_omega(model)
    elif cure == "truncation":
        loss = _truncated(model, max(settings.lag // 2, 1))
    elif cure == "flossing":
        prepare = _flossed(settings, task, model)
    elif cure == "pre-training":
        prepare = _pre_trained(settings, task, model)
    return Candidate(
        model, optimiser, loss, _in_turn(start, prepare), is_measured=cure != "batch-norm"
    )


def _started(
    settings: CuresSettings, cure: str, given: GivenNetwork, drawn: Any
) -> Callable[[PyTree, Key], PyTree]:
    """Parameters with the recurrent weights and biases of the given network.

    ``drawn`` is the cell with the cure, which initial weights or biases are taken from.
    """

    def prepare(params: PyTree, key: Key) -> PyTree:
        fresh = params.cell
        cell_params = given.params._replace(w_x=fresh.w_x)
        if cure == "forget-bias":
            cell_params = forget_bias(cell_params, jnp.asarray(math.log(max(settings.lag, 2))))
        elif cure in ("chrono", "orthogonal"):
            new = drawn.init(key, fresh.w_x.shape[0])
            if cure == "orthogonal":
                cell_params = cell_params._replace(w_h=new.w_h)
            else:
                # Of two biases only the sum counts.
                second = None if cell_params.c is None else jnp.zeros_like(cell_params.c)
                cell_params = cell_params._replace(b=new.b, c=second)
        return params._replace(cell=cell_params)

    return prepare


def _in_turn(
    first: Callable[[PyTree, Key], PyTree] | None,
    second: Callable[[PyTree, Key], PyTree] | None,
) -> Callable[[PyTree, Key], PyTree] | None:
    """Both preparations, one after the other."""
    if first is None or second is None:
        return first or second
    return lambda params, key: second(first(params, key), key)


def _cell(settings: CuresSettings, task: Task, cure: str) -> Any:
    """The cell of a network with a cure."""
    name = settings.cell
    options: dict[str, Any] = {}
    init = settings.init
    if cure == "forget-bias":
        options = {"forget_bias": math.log(max(settings.lag, 2))}
        # A forget bias cannot be given beside another start of the biases.
        init = "rnnlab"
    elif cure == "chrono":
        init = "chrono"
    elif cure == "orthogonal":
        options = {"recurrent_init": "orthogonal"}
    elif cure == "identity-relu":
        name, init = "irnn", "rnnlab"
    elif cure == "logistic":
        logistic = initializers.logistic()
        options = {"activation": "sigmoid", "kernel_init": logistic, "recurrent_init": logistic}
    elif cure == "layer-norm":
        options = {"layer_norm": True}
    elif cure == "leaky":
        name, options = "leaky-rnn", {"alpha": 1 / settings.lag}
    elif cure == "independent":
        name = "indrnn"
    elif cure in ("gru", "lstm"):
        name = cure
    if cure == "batch-norm":
        return BatchNormLSTM(settings.hidden_size, param_dtype=settings.precision)
    cell = make_cell(
        name,
        settings.hidden_size,
        init=init,
        max_lag=task.steps,
        param_dtype=settings.precision,
        **options,
    )
    return stack([cell, cell], residual=True) if cure == "residual" else cell


def _with_omega(model: SequenceModel) -> Loss:
    """The loss of the model and Ω of its cell."""

    def loss(params: PyTree, batch: Batch, key: Key | None) -> tuple[Array, dict[str, Array]]:
        def of_outputs(ys: Array, params: PyTree, batch: Batch) -> Array:
            return model.score(model.head(params, ys, batch), batch)[0]

        value, metrics = model.loss(params, batch, key)
        xs = task_training.embedded(model, params, batch.xs)
        omega = pascanu_omega(model.cell, params.cell, xs, of_outputs, params, batch)
        return value + OMEGA * omega, metrics

    return loss


def _truncated(model: SequenceModel, window: int) -> Loss:
    """The loss of the model, whose gradient ends ``window`` steps before the end."""

    def loss(params: PyTree, batch: Batch, key: Key | None) -> tuple[Array, dict[str, Array]]:
        del key
        xs = task_training.embedded(model, params, batch.xs)
        cut = max(xs.shape[0] - window, 0)
        state, early = unroll(model.cell, params.cell, xs[:cut])
        _, late = unroll(model.cell, params.cell, xs[cut:], lax.stop_gradient(state))
        ys = jnp.concatenate([lax.stop_gradient(early), late])
        return model.score(model.head(params, ys, batch), batch)

    return loss


def _flossed(
    settings: CuresSettings, task: Task, model: SequenceModel
) -> Callable[[PyTree, Key], PyTree]:
    """Parameters whose first exponents on sequences of the task are near zero."""
    count = min(FLOSSED, settings.hidden_size)

    def loss(params: PyTree, batch: Batch) -> Array:
        xs = task_training.embedded(model, params, batch.xs[:, :2])
        return flossing_loss(model.cell, params.cell, xs, count=count)

    return _minimised(settings, task, loss)


def _pre_trained(
    settings: CuresSettings, task: Task, model: SequenceModel
) -> Callable[[PyTree, Key], PyTree]:
    """Parameters of a cell that has learned to predict the next input of the task."""

    def loss(both: tuple[PyTree, Array], batch: Batch) -> Array:
        params, readout = both
        xs = task_training.embedded(model, params, batch.xs)
        _, ys = unroll(model.cell, params.cell, xs)
        predicted = ys[:-1] @ readout
        if model.embedding is None:
            return jnp.mean((predicted - xs[1:]) ** 2)
        return cross_entropy(predicted, batch.xs[1:])

    minimise = _minimised(settings, task, loss)
    predicted_size = task.vocabulary_size or task.input_size

    def prepare(params: PyTree, key: Key) -> PyTree:
        shape = model.cell.output_size, predicted_size
        readout = jnp.zeros(shape, settings.precision)
        return minimise((params, readout), key)[0]

    return prepare


def _minimised(
    settings: CuresSettings, task: Task, loss: Callable[[Any, Batch], Array]
) -> Callable[[Any, Key], Any]:
    """``BEFORE`` updates of Adam on ``loss(params, batch)``."""
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(settings.learning_rate))

    def with_metrics(params: Any, batch: Batch, key: Key | None) -> tuple[Array, dict]:
        del key
        return loss(params, batch), {}

    step = train_step(with_metrics, optimiser)
    advance = task_training.updates(task, step, settings.batch_size)

    def minimise(params: Any, key: Key) -> Any:
        return advance(initial_state(params, optimiser, key), key, 0, BEFORE).params

    return minimise


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
