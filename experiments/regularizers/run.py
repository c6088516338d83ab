"""Training with Pascanu's Ω and with gradient flossing, on a task where plain training fails.

    python -m experiments.regularizers.run

Temporal order (Hochreiter & Schmidhuber 1997; Pascanu, Mikolov & Bengio 2013): two relevant symbols
occur at about one tenth and one half of a sequence of distractors. The class is their order, one of
four (error rate at chance: 75 %). The gradient of a tanh network of 50 units with spectral radius
0.95 is close to zero that far back.

All methods share initial weights, sequences, learning rates and the number of updates. The
optimiser is Adam with a decaying learning rate and gradients clipped to norm 1. Each method is
shown at its best learning rate. Ω is a term of the loss. Gradient flossing (Engelken 2023) takes
the first tenth of the updates for itself; then it is a term of the loss, or it takes one tenth of
the updates in the first half of training, in episodes of 50. The weights of the terms and the
number of exponents were chosen on other seeds.
"""

import functools
import itertools
import math
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes

import rnnlab
from experiments.common import Record, experiment
from rnnlab.report.figures.style import (
    band,
    drawing,
    grid_lines,
    legend_below,
    look,
    reference_line,
    title,
)
from rnnlab.studies.records import column, select
from rnnlab.training import flossing_loss, pascanu_omega
from rnnlab.typing import Array, Key, PyTree

SYMBOLS, CLASSES, BATCH = 6, 4, 20
CHUNK = 50  # updates per compiled call
MARKS = 8  # markers per line in the figure
rnn = rnnlab.RNN(50, recurrent_init=rnnlab.initializers.spectral_radius(0.95))
model = rnnlab.stack([rnn, rnnlab.Readout(CLASSES)])
flossing_optimiser = optax.adam(2e-3)

Point = tuple[float, float]


class Method(NamedTuple):
    """A way to train.

    Attributes:
        label: as in the figure and the records.
        omega: the weight of Ω in the loss.
        flossing: the weight of the flossing loss in the loss.
        before: whether the first tenth of the updates is on the flossing loss alone.
        episodes: whether later episodes are, too.
    """

    label: str
    omega: float = 0.0
    flossing: float = 0.0
    before: bool = False
    episodes: bool = False


METHODS = (
    Method("plain"),
    Method("Ω in the loss", omega=3.0),
    Method("flossing before and in the loss", flossing=10.0, before=True),
    Method("flossing before and in episodes", before=True, episodes=True),
)


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        length: T, steps.
        updates: per run.
        rates: learning rates.
        seeds: of the initial weights and the sequences.
        judged: the number of test sequences.
        solved: the error rate below which the task counts as solved.
    """

    length: int = 100
    updates: int = 3000
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    seeds: tuple[int, ...] = (10, 11, 12)
    judged: int = 10_000
    solved: float = 0.01


QUICK = Plan(length=50, updates=1000, rates=(1e-3,), seeds=(10, 11), judged=1000)


class Run(NamedTuple):
    """One network in training; ``chunk`` counts completed chunks."""

    seed: Array
    rate: Array
    chunk: Array
    params: PyTree
    state: PyTree
    flossing_state: PyTree


def temporal_order(key: Key, length: int, batch: int) -> tuple[Array, Array]:
    """Inputs ``[T, B, 6]`` and classes v₀ + 2 v₁ ``[B]``; v₀ and v₁ are the relevant symbols."""
    k_distractors, *keys = jax.random.split(key, 5)
    tenth, example = length // 10, jnp.arange(batch)
    spans = (tenth, 2 * tenth), (5 * tenth, 6 * tenth), (0, 2), (0, 2)
    t0, t1, v0, v1 = (
        jax.random.randint(key, (batch,), *span) for key, span in zip(keys, spans, strict=True)
    )
    symbols = jax.random.randint(k_distractors, (length, batch), 2, SYMBOLS)
    symbols = symbols.at[t0, example].set(v0).at[t1, example].set(v1)
    return jax.nn.one_hot(symbols, SYMBOLS), v0 + 2 * v1


def optimiser(rate: Array, updates: int) -> optax.GradientTransformation:
    """Adam on clipped gradients, with cosine decay of the learning rate to zero."""
    schedule = optax.cosine_decay_schedule(1.0, updates)
    adam = optax.adam(lambda count: rate * jnp.asarray(schedule(count)))
    return optax.chain(optax.clip_by_global_norm(1.0), adam)


def map_runs(function: Any) -> Any:
    """``function(run, *settings)`` for every run, compiled.

    One run at a time: on a CPU this is faster than ``vmap``, which makes many small products.
    """

    @functools.partial(jax.jit, static_argnums=(1, 2))
    def mapped(runs: Run, *settings: Any) -> Any:
        return jax.lax.map(lambda run: function(run, *settings), runs)

    return mapped


def keys_of(run: Run) -> Key:
    """A key for each update of the next chunk, the same for every method."""
    return jax.random.split(jax.random.fold_in(jax.random.key(run.seed), run.chunk), CHUNK)


def flossing(params: PyTree, key: Key, plan: Plan) -> Array:
    """The mean square of the recurrent layer's 20 leading exponents, on one sequence."""
    k_data, k_directions = jax.random.split(key)
    xs, _ = temporal_order(k_data, plan.length, 1)
    return flossing_loss(rnn, params.layers[0], xs, count=20, key=k_directions, qr_every=5)


@map_runs
def learn(run: Run, method: Method, plan: Plan) -> Run:
    """Runs one chunk of updates on the task."""

    def update(carry: tuple[PyTree, PyTree], key: Key) -> tuple[tuple[PyTree, PyTree], None]:
        params, state = carry
        xs, classes = temporal_order(key, plan.length, BATCH)

        def task(ys: Array) -> Array:
            return rnnlab.training.losses.cross_entropy(ys[-1], classes)

        def total(params: PyTree) -> Array:
            loss = task(rnnlab.unroll(model, params, xs)[1])
            if method.omega:
                loss += method.omega * pascanu_omega(model, params, xs, task)
            if method.flossing:
                loss += method.flossing * flossing(params, key, plan)
            return loss

        change, state = optimiser(run.rate, plan.updates).update(jax.grad(total)(params), state)
        return (optax.apply_updates(params, change), state), None

    (params, state), _ = jax.lax.scan(update, (run.params, run.state), keys_of(run))
    return run._replace(params=params, state=state, chunk=run.chunk + 1)


@map_runs
def floss(run: Run, plan: Plan) -> Run:
    """Runs one chunk of updates on the flossing loss alone."""

    def update(carry: tuple[PyTree, PyTree], key: Key) -> tuple[tuple[PyTree, PyTree], None]:
        params, state = carry
        change, state = flossing_optimiser.update(jax.grad(flossing)(params, key, plan), state)
        return (optax.apply_updates(params, change), state), None

    (params, state), _ = jax.lax.scan(update, (run.params, run.flossing_state), keys_of(run))
    return run._replace(params=params, flossing_state=state, chunk=run.chunk + 1)


@map_runs
def error_rate(run: Run, plan: Plan, count: int) -> Array:
    """The error rate on ``count`` new sequences."""

    def batch_error(key: Key) -> Array:
        xs, classes = temporal_order(key, plan.length, 500)
        return jnp.mean(rnnlab.unroll(model, run.params, xs)[1][-1].argmax(axis=-1) != classes)

    return jax.lax.map(batch_error, jax.random.split(jax.random.key(count), count // 500)).mean()


@map_runs
def reach(run: Run, plan: Plan) -> Array:
    """log₁₀ of ‖∂L/∂h‖ at every lag relative to that at lag 0, ``[T]``."""
    xs, classes = temporal_order(jax.random.key(0), plan.length, BATCH)

    def task(ys: Array) -> Array:
        return rnnlab.training.losses.cross_entropy(ys[-1], classes)

    by_lag = rnnlab.gradient_flow(model, run.params, xs, task).log_norm_by_lag[0]
    return (by_lag - by_lag[0]) / math.log(10)


def initial_runs(plan: Plan) -> Run:
    """The runs of a method before their first update, ``[rates · seeds]``."""

    def initial(rate: Array, seed: Array) -> Run:
        params = model.init(jax.random.key(seed), SYMBOLS)
        state = optimiser(rate, plan.updates).init(params)
        return Run(seed, rate, jnp.int32(0), params, state, flossing_optimiser.init(params))

    rates, seeds = jnp.meshgrid(jnp.array(plan.rates), jnp.array(plan.seeds), indexing="ij")
    return jax.vmap(initial)(rates.ravel(), seeds.ravel())


def flosses(method: Method, chunk: int, chunks: int) -> bool:
    """Whether a chunk is on the flossing loss alone."""
    if method.before and chunk < chunks // 10:
        return True
    return method.episodes and chunk % 10 == 0 and chunk < chunks // 2


def train(method: Method, plan: Plan) -> list[Record]:
    """Trains all runs of a method; returns a record of each."""
    runs, updates, curve = initial_runs(plan), [], []
    start, chunks = time.perf_counter(), plan.updates // CHUNK
    for chunk in range(chunks):
        if flosses(method, chunk, chunks):
            runs = floss(runs, plan)
            continue
        runs = learn(runs, method, plan)
        if chunk % 5 == 4:
            updates.append((chunk + 1) * CHUNK)
            curve.append(error_rate(runs, plan, 500))
    errors, lags = error_rate(runs, plan, plan.judged), reach(runs, plan)
    seconds = (time.perf_counter() - start) / len(errors)
    curves = np.stack(curve, axis=1).tolist()
    return [
        {
            "side": method.label,
            "rate": plan.rates[index // len(plan.seeds)],
            "seed": int(runs.seed[index]),
            "wrong": round(float(errors[index]), 5),
            "seconds": round(seconds, 1),
            "updates": updates,
            "wrong_on_500": rounded(curves[index]),
            "reach": np.round(lags[index], 3).tolist(),
        }
        for index in range(len(errors))
    ]


def rounded(values: list[float]) -> list[float]:
    """The values with three decimals."""
    return [round(value, 3) for value in values]


def best(runs: list[Record]) -> list[Record]:
    """The runs at the learning rate with the smallest mean error rate."""
    by_rate = [select(runs, rate=rate) for rate in sorted(set(column(runs, "rate")))]
    return min(by_rate, key=lambda runs: np.mean(column(runs, "wrong")))


def finding(methods: dict[str, list[Record]], plan: Plan) -> str:
    """The number of runs that solve the task, for each method, as one sentence."""
    parts = []
    for label, runs in methods.items():
        errors = column(best(runs), "wrong")
        solved = sum(error < plan.solved for error in errors)
        parts.append(f"{label}, {solved} of {len(errors)} (error rate {np.mean(errors):.1%})")
    return f"Networks that learn temporal order over {plan.length} steps: " + "; ".join(parts)


def draw(
    methods: dict[str, list[Record]], initial: Sequence[Sequence[float]], plan: Plan, path: Path
) -> None:
    """Writes the figure: error rates during and after training, and the reach of the gradient."""
    with drawing(path, 1, 3, (13, 5)) as (figure, (left, middle, right)):
        draw_curves(left, methods, plan)
        draw_rates(middle, methods, plan)
        draw_reach(right, methods, initial)
        for axes in (left, middle):
            reference_line(axes, 100 - 100 / CLASSES)
            axes.annotate(
                "chance",
                (0.99, 81.5),
                xycoords=("axes fraction", "data"),
                ha="right",
                fontsize=8,
                color="0.35",
            )
            axes.set(ylabel="error rate (%)", ylim=(-2, 85))
        for axes in (left, middle, right):
            grid_lines(axes)
        title(figure, finding(methods, plan), 120)
        legend_below(figure, right)


def draw_curves(axes: Axes, methods: dict[str, list[Record]], plan: Plan) -> None:
    """Error rate against updates."""
    for index, (label, runs) in enumerate(methods.items(), 1):
        points: list[Point] = []
        for run in best(runs):
            percent = [100 * error for error in run["wrong_on_500"]]
            points += zip(run["updates"], percent, strict=True)
        band(axes, points, MARKS, label, **look(index))
    axes.set_title(
        f"At the best learning rate; bands: range of {len(plan.seeds)} seeds", fontsize=10
    )
    axes.set(xlabel="updates, including flossing", xlim=(0, 1.02 * plan.updates))


def draw_rates(axes: Axes, methods: dict[str, list[Record]], plan: Plan) -> None:
    """Final error rate against learning rate."""
    for index, runs in enumerate(methods.values(), 1):
        # Shifted, so that methods do not cover each other.
        rates = [run["rate"] * 1.05 ** (2 * index - 5) for run in runs]
        axes.plot(rates, [100 * run["wrong"] for run in runs], ls="", **look(index))
    axes.set_title("After training, every seed", fontsize=10)
    axes.set(
        xlabel="learning rate", xscale="log", xlim=(0.6 * min(plan.rates), 1.7 * max(plan.rates))
    )
    axes.set_xticks(plan.rates, [f"{rate:g}" for rate in plan.rates])
    axes.set_xticks([], minor=True)


def draw_reach(
    axes: Axes, methods: dict[str, list[Record]], initial: Sequence[Sequence[float]]
) -> None:
    """Relative gradient norm against lag, before and after training."""
    for index, (label, runs) in enumerate(methods.items(), 1):
        band(axes, lag_points(column(best(runs), "reach")), MARKS, label, **look(index))
    band(axes, lag_points(initial), name="all, before training", color="0.45", linestyle="--")
    axes.set_title("Gradient after training at the best learning rate", fontsize=10)
    axes.set(xlabel="lag (steps before the last)", ylabel="‖∂L/∂h‖ relative to lag 0 (decades)")


def lag_points(lines: Iterable[Sequence[float]]) -> list[Point]:
    """The points of all lines, with the lag as x."""
    points: list[Point] = []
    for line in lines:
        points += enumerate(line)
    return points


def run(quick: bool) -> Record:
    """Trains with all methods and prints the error rates."""
    plan = QUICK if quick else Plan()
    # Two at a time: a network of this size cannot use more than one core.
    with ThreadPoolExecutor(2) as pool:
        records = list(pool.map(functools.partial(train, plan=plan), METHODS))
    methods = dict(zip((method.label for method in METHODS), records, strict=True))
    for label, runs in methods.items():
        for rate in plan.rates:
            errors = " ".join(f"{error:7.2%}" for error in column(select(runs, rate=rate), "wrong"))
            seconds = runs[0]["seconds"]
            print(
                f"{label:32} learning rate {rate:7g}: error rates {errors}   "
                f"{seconds:.0f} s per run"
            )
    # Initial weights depend on the seed only, and the first runs are those of the first rate.
    initial = np.asarray(reach(initial_runs(plan), plan))[: len(plan.seeds)]
    return {
        "finding": finding(methods, plan) + ".",
        "plan": plan._asdict(),
        "batch": BATCH,
        "hidden": rnn.hidden_size,
        "sides": [method._asdict() for method in METHODS],
        "runs": list(itertools.chain.from_iterable(methods.values())),
        "initial_reach": initial.tolist(),
    }


def draw_result(result: Record, path: Path) -> None:
    """The figure of a result."""
    methods = {
        side["label"]: select(result["runs"], side=side["label"]) for side in result["sides"]
    }
    draw(methods, result["initial_reach"], Plan(**result["plan"]), path)


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw_result)


if __name__ == "__main__":
    main()
