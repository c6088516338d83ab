"""Training on a synthetic task, all seeds in one program, with the reach before and after."""

import bisect
import functools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from rnnlab._json import number
from rnnlab.data import Batch
from rnnlab.diagnostics import gradient_flow, lyapunov_spectrum
from rnnlab.models.sequence import SequenceModel
from rnnlab.studies.networks import seed_keys
from rnnlab.tasks import Task
from rnnlab.training.step import Loss, TrainState, initial_state, train_step
from rnnlab.typing import Array, Key, PyTree

HELD_OUT = 512
"""Sequences on which a loss is measured."""
FOLLOWED = 8
"""Sequences on which the horizon and the exponent are measured."""
RUN_ONCE = {"xla_backend_optimization_level": 0}
"""Options of programs that run once or twice, where compiling takes longer than running."""


class Reach(NamedTuple):
    """How far the gradient of a network reaches, for each seed.

    Attributes:
        horizon: lags until the gradient of the last target's loss is below 1/1000, ``[S]``.
        lags: the number of lags, ``[S]``.
        exponent: λ₁ on the sequences of the task, nats per step, ``[S]``.
        is_finite: whether the gradient has no NaN, ``[S]``; otherwise it has no horizon.
    """

    horizon: Array
    lags: Array
    exponent: Array
    is_finite: Array


class Programs(NamedTuple):
    """The compiled programs of one network on one task; each takes all seeds."""

    task: Task
    start: Callable[..., TrainState]
    advance: Callable[..., TrainState]
    evaluate: Callable[..., dict[str, Array]]
    reach: Callable[..., Reach] | None


class Outcome(NamedTuple):
    """What became of all seeds.

    Attributes:
        curves: for each measurement the metrics of each seed, with "updates".
        solved_after: updates after which each seed had solved the task; None where it has not.
        before, after: the reach before and after training; None where it cannot be measured.
        seconds: of one update of one seed, the fastest part of the training; None for one part,
            which includes compiling.
    """

    curves: list[list[dict[str, float]]]
    solved_after: list[int | None]
    before: Reach | None
    after: Reach | None
    seconds: float | None


def compiled(
    task: Task,
    model: SequenceModel,
    optimiser: optax.GradientTransformation,
    batch_size: int,
    *,
    loss: Loss | None = None,
    prepare: Callable[[PyTree, Key], PyTree] | None = None,
    is_measured: bool = True,
) -> Programs:
    """The programs that train ``model`` on ``task``.

    Args:
        task: the task.
        model: the model.
        optimiser: any optax transformation.
        batch_size: B of an update.
        loss: what is minimised; by default the loss of the model.
        prepare: ``prepare(params, key) -> params``, before the training.
        is_measured: whether the reach is measured; False for a cell that the instruments refuse.
    """
    step = train_step(model.loss if loss is None else loss, optimiser)
    shapes = shapes_of(task, batch_size)

    def start(key: Key) -> TrainState:
        k_params, k_prepare, k_train = jax.random.split(key, 3)
        params = model.init(k_params, shapes)
        if prepare is not None:
            params = prepare(params, k_prepare)
        return initial_state(params, optimiser, k_train)

    advance = updates(task, step, batch_size)

    def evaluate(params: PyTree, key: Key) -> dict[str, Array]:
        value, metrics = model.loss(params, task.held_out().sample(key, HELD_OUT))
        return {**metrics, "loss": value}

    reach = None
    if is_measured:
        measured = jax.vmap(functools.partial(reach_of, task, model))
        reach = jax.jit(measured, compiler_options=RUN_ONCE)
    return Programs(
        task=task,
        # ``prepare`` may train, too.
        start=jax.jit(jax.vmap(start), compiler_options=RUN_ONCE if prepare is None else None),
        # The number of updates is an argument: the last part may be shorter.
        advance=jax.jit(jax.vmap(advance, in_axes=(0, 0, None, None)), donate_argnums=0),
        evaluate=jax.jit(jax.vmap(evaluate)),
        reach=reach,
    )


def updates(
    task: Task, step: Callable[[TrainState, Batch], Any], batch_size: int
) -> Callable[[TrainState, Key, Array | int, Array | int], TrainState]:
    """``(state, key, first, count) -> state`` after ``count`` steps, each on a fresh batch."""

    def advance(state: TrainState, key: Key, first: Array | int, count: Array | int) -> TrainState:
        def once(index: Array, state: TrainState) -> TrainState:
            batch = task.sample(jax.random.fold_in(key, index), batch_size)
            return step(state, batch)[0]

        return lax.fori_loop(first, first + count, once, state)

    return advance


def train(
    programs: Programs,
    seeds: int,
    steps: int,
    check_every: int,
    progress: Callable[[str], None],
) -> Outcome:
    """Trains all seeds until all of them have solved the task, at most for ``steps`` updates.

    Args:
        programs: from :func:`compiled`.
        seeds: counted from 0.
        steps: maximum number of updates.
        check_every: updates between two measurements of the loss.
        progress: called with a few words on the current step.
    """
    # Three keys for each seed, so that no sequence serves two purposes.
    split = jax.vmap(lambda key: jax.random.split(key, 3))
    k_start, k_train, k_held_out = jnp.moveaxis(split(seed_keys(seeds)), 1, 0)
    progress("compiling")
    state = programs.start(k_start)
    before = _reach(programs, state, k_held_out)
    curves = [_measured(programs, state, k_held_out, 0)]
    solved_after: list[int | None] = [None] * seeds
    done = 0
    durations = []
    while done < steps and None in solved_after:
        progress(f"update {done} of {steps}")
        count = min(check_every, steps - done)
        began = time.perf_counter()
        state = jax.block_until_ready(programs.advance(state, k_train, done, count))
        durations.append((time.perf_counter() - began) / count / seeds)
        done += count
        curves.append(_measured(programs, state, k_held_out, done))
        for seed, metrics in enumerate(curves[-1]):
            if solved_after[seed] is None and programs.task.solved(metrics):
                solved_after[seed] = done
    after = _reach(programs, state, k_held_out)
    # The first part was compiled too.
    return Outcome(curves, solved_after, before, after, min(durations[1:], default=None))


def _reach(programs: Programs, state: TrainState, keys: Key) -> Reach | None:
    if programs.reach is None:
        return None
    return jax.device_get(programs.reach(state.params, keys))


def _measured(
    programs: Programs, state: TrainState, keys: Key, updates: int
) -> list[dict[str, float]]:
    """The metrics of each seed on held-out sequences."""
    metrics = jax.device_get(programs.evaluate(state.params, keys))
    rows = []
    for seed in range(len(metrics["loss"])):
        row = {name: float(values[seed]) for name, values in metrics.items()}
        rows.append({"updates": updates, **row})
    return rows


def reach_of(task: Task, model: SequenceModel, params: PyTree, key: Key) -> Reach:
    """The horizon of the gradient of the last target's loss, and λ₁, on held-out sequences."""
    batch = task.held_out().sample(key, FOLLOWED)
    xs = embedded(model, params, batch.xs)
    last = last_target(task, batch)

    def loss(ys: Array) -> Array:
        return model.score(model.head(params, ys, last), last)[0]

    flow = gradient_flow(model.cell, params.cell, xs, loss, lengths=batch.lengths)
    spectrum = lyapunov_spectrum(model.cell, params.cell, xs, count=1)
    # Of layers, the last one: what follows it in time is what the loss sees.
    horizon = jnp.atleast_1d(flow.horizon)[-1]
    lags = jnp.atleast_1d(jnp.asarray(flow.lags))[-1]
    is_finite = ~jnp.any(jnp.isnan(flow.log_norm_by_lag))
    return Reach(horizon, lags, jnp.mean(spectrum.exponents), is_finite)


def embedded(model: SequenceModel, params: PyTree, xs: Array) -> Array:
    """What the cell of a model reads: the inputs, or their embedding."""
    return xs if model.embedding is None else model.embedding(params.embedding, xs)


def last_target(task: Task, batch: Batch) -> Batch:
    """The batch with the last target of each sequence alone, where there is one for each step."""
    if task.kind in ("classes", "numbers"):
        return batch
    steps = jnp.arange(batch.xs.shape[0])[:, None]
    counts = jnp.ones(batch.xs.shape[:2], bool) if batch.mask is None else batch.mask
    if batch.lengths is not None:
        counts &= steps < batch.lengths
    return batch._replace(mask=steps == jnp.max(jnp.where(counts, steps, -1), axis=0))


def count_parameters(model: Any, task: Task) -> int:
    """The number of parameters of a model of a task."""
    batch = shapes_of(task, 1)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), batch))
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def largest(
    make: Callable[[int], SequenceModel], task: Task, sizes: Sequence[int], budget: int
) -> SequenceModel:
    """The model ``make(size)`` of the largest size with at most ``budget`` parameters.

    Args:
        make: gives the model of a size, with more parameters for a larger one.
        task: what the model is for.
        sizes: in increasing order; the first one where even this has too many parameters.
        budget: a number of parameters.
    """
    fitting = bisect.bisect_right(
        sizes, budget, key=lambda size: count_parameters(make(size), task)
    )
    return make(sizes[max(fitting - 1, 0)])


def shapes_of(task: Task, batch_size: int) -> Batch:
    """The shapes and dtypes of a batch."""
    return jax.eval_shape(lambda: task.sample(jax.random.key(0), batch_size))


def score(task: Task, outcome: Outcome, seed: int) -> dict[str, Any]:
    """What a seed has learned, and how far its gradient reaches, as a record."""
    last = outcome.curves[-1][seed]
    record = {
        "lag": task.lag,
        "updates": int(last["updates"]),
        "solved_after": outcome.solved_after[seed],
        "loss": number(last["loss"]),
        "accuracy": number(last["accuracy"]) if "accuracy" in last else None,
        "skill": number(skill(task, last["loss"])),
        "lags": task.steps if outcome.before is None else int(outcome.before.lags[seed]),
    }
    for side, reach in (("before", outcome.before), ("after", outcome.after)):
        horizon, exponent = None, None
        if reach is not None:
            horizon = int(reach.horizon[seed]) if reach.is_finite[seed] else None
            exponent = number(float(reach.exponent[seed]))
        record[f"horizon_{side}"] = horizon
        record[f"exponent_{side}"] = exponent
    return record


def curve(outcome: Outcome, seed: int) -> list[dict[str, Any]]:
    """The loss of a seed on held-out sequences, a record for each measurement."""
    points = [metrics[seed] for metrics in outcome.curves]
    return [{"updates": point["updates"], "loss": number(point["loss"])} for point in points]


def medians(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The lower median over the seeds of what :func:`score` measures.

    A value that is missing, since it was not finite, counts as the lowest.
    """
    record = {}
    for name in ("skill", "horizon_before", "horizon_after", "exponent_before", "exponent_after"):
        values = [-math.inf if row[name] is None else row[name] for row in rows]
        middle = statistics.median_low(values)
        record[name] = None if middle == -math.inf else middle
    return record


def skill(task: Task, loss: float) -> float:
    """The share of the gap between baseline and floor that a loss closes; 1 at the floor."""
    return (task.baseline() - loss) / (task.baseline() - task.floor())
