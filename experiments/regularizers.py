"""Do Pascanu's Ω and gradient flossing make a task learnable on which plain training fails?

    python experiments/regularizers.py            # about eight minutes on two cores
    python experiments/regularizers.py --quick    # about a minute: a shorter task and fewer runs,
    and writes nothing

Temporal order (Hochreiter & Schmidhuber 1997; Pascanu, Mikolov & Bengio 2013): two symbols that
matter stand near one tenth and one half of a sequence of distractors, and their order is asked for
at its end: four classes, chance 75 %. A tanh network of 50 units with spectral radius 0.95 sends
hardly any gradient so far back.

All sides have the same starts, sequences, learning rates and number of updates, Adam with a falling
step, and gradients clipped to norm 1; each is shown at its best rate. Ω is a term of the loss.
Flossing (Engelken 2023) has the first tenth of the updates to itself; after it, it is a term of the
loss, or has one tenth of the updates up to the middle, in episodes of 50. Weights and the number of
exponents were chosen beforehand with other seeds.
"""

import argparse
import functools
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import rnnlab
from rnnlab.report.figures.style import band, drawing, look, title
from rnnlab.studies.records import write_json
from rnnlab.training import flossing_loss, pascanu_omega
from rnnlab.typing import Array, Key, PyTree

SYMBOLS, CLASSES, BATCH = 6, 4, 20
CHUNK = 50  # updates in one compiled call
rnn = rnnlab.RNN(50, recurrent_init=rnnlab.initializers.spectral_radius(0.95))
model = rnnlab.stack([rnn, rnnlab.Readout(CLASSES)])
flosser = optax.adam(2e-3)


class Side(NamedTuple):
    """A way to train: the weights of what is added to the loss, and when flossing has updates to itself."""

    label: str
    omega: float = 0.0
    flossing: float = 0.0
    before: bool = False
    episodes: bool = False


SIDES = (
    Side("plain"),
    Side("Ω in the loss", omega=3.0),
    Side("flossing before and in the loss", flossing=10.0, before=True),
    Side("flossing before and in episodes", before=True, episodes=True),
)


class Plan(NamedTuple):
    """The size of a study."""

    length: int = 100  # T, steps
    updates: int = 3000
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    seeds: tuple[int, ...] = (10, 11, 12)
    judged: int = 10_000  # sequences
    solved: float = 0.01  # of them wrong, at most


class Run(NamedTuple):
    """One network in training."""

    seed: Array
    rate: Array
    chunk: Array  # how many are done
    params: PyTree
    memory: PyTree  # of the optimiser
    floss_memory: PyTree


def temporal_order(key: Key, length: int, batch: int) -> tuple[Array, Array]:
    """Inputs ``[T, B, 6]``, of which the first two symbols matter, and the classes v₀ + 2 v₁ ``[B]``."""
    k_rest, *keys = jax.random.split(key, 5)
    tenth, each = length // 10, jnp.arange(batch)
    spans = (tenth, 2 * tenth), (5 * tenth, 6 * tenth), (0, 2), (0, 2)
    p0, p1, v0, v1 = (
        jax.random.randint(k, (batch,), *span) for k, span in zip(keys, spans, strict=True)
    )
    symbols = (
        jax.random.randint(k_rest, (length, batch), 2, SYMBOLS)
        .at[p0, each]
        .set(v0)
        .at[p1, each]
        .set(v1)
    )
    return jax.nn.one_hot(symbols, SYMBOLS), v0 + 2 * v1


def optimiser(rate: Array, updates: int) -> optax.GradientTransformation:
    """Adam on clipped gradients, its step falling to zero like a cosine."""
    fall = optax.cosine_decay_schedule(1.0, updates)
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(lambda count: rate * jnp.asarray(fall(count)))
    )


def one_by_one(function: Any) -> Any:
    """``function(run, *settings)`` for every run; on a CPU quicker than ``vmap``, which makes many small products."""

    @functools.partial(jax.jit, static_argnums=(1, 2))
    def over_runs(runs: Run, *settings: Any) -> Any:
        return jax.lax.map(lambda run: function(run, *settings), runs)

    return over_runs


def keys_of(run: Run) -> Key:
    """A key for each update of the next chunk; every side sees the same sequences."""
    return jax.random.split(jax.random.fold_in(jax.random.key(run.seed), run.chunk), CHUNK)


def flossing(params: PyTree, key: Key, plan: Plan) -> Array:
    """The mean square of the 20 leading exponents of the recurrent layer, on one sequence of the task."""
    k_data, k_directions = jax.random.split(key)
    xs, _ = temporal_order(k_data, plan.length, 1)
    return flossing_loss(rnn, params.layers[0], xs, count=20, key=k_directions, qr_every=5)


@one_by_one
def learn(run: Run, side: Side, plan: Plan) -> Run:
    """One chunk of updates on the task."""

    def update(carry: tuple[PyTree, PyTree], key: Key) -> tuple[tuple[PyTree, PyTree], None]:
        params, memory = carry
        xs, classes = temporal_order(key, plan.length, BATCH)

        def task(ys: Array) -> Array:
            return rnnlab.training.losses.cross_entropy(ys[-1], classes)

        def total(params: PyTree) -> Array:
            loss = task(rnnlab.unroll(model, params, xs)[1])
            if side.omega:
                loss += side.omega * pascanu_omega(model, params, xs, task)
            if side.flossing:
                loss += side.flossing * flossing(params, key, plan)
            return loss

        change, memory = optimiser(run.rate, plan.updates).update(jax.grad(total)(params), memory)
        return (optax.apply_updates(params, change), memory), None

    (params, memory), _ = jax.lax.scan(update, (run.params, run.memory), keys_of(run))
    return run._replace(params=params, memory=memory, chunk=run.chunk + 1)


@one_by_one
def floss(run: Run, plan: Plan) -> Run:
    """One chunk of updates on flossing alone."""

    def update(carry: tuple[PyTree, PyTree], key: Key) -> tuple[tuple[PyTree, PyTree], None]:
        params, memory = carry
        change, memory = flosser.update(jax.grad(flossing)(params, key, plan), memory)
        return (optax.apply_updates(params, change), memory), None

    (params, memory), _ = jax.lax.scan(update, (run.params, run.floss_memory), keys_of(run))
    return run._replace(params=params, floss_memory=memory, chunk=run.chunk + 1)


@one_by_one
def wrong(run: Run, plan: Plan, count: int) -> Array:
    """The fraction of ``count`` fresh sequences that is given the wrong class."""

    def part(key: Key) -> Array:
        xs, classes = temporal_order(key, plan.length, 500)
        return jnp.mean(rnnlab.unroll(model, run.params, xs)[1][-1].argmax(axis=-1) != classes)

    return jax.lax.map(part, jax.random.split(jax.random.key(count), count // 500)).mean()


@one_by_one
def reach(run: Run, plan: Plan) -> Array:
    """log₁₀ of ‖∂L/∂h‖ at every lag relative to that at lag 0, ``[T]``."""
    xs, classes = temporal_order(jax.random.key(0), plan.length, BATCH)

    def task(ys: Array) -> Array:
        return rnnlab.training.losses.cross_entropy(ys[-1], classes)

    by_lag = rnnlab.gradient_flow(model, run.params, xs, task).log_norm_by_lag[0]
    return (by_lag - by_lag[0]) / math.log(10)


def fresh(plan: Plan) -> Run:
    """The runs of a side before their first update, ``[rates · seeds]``."""

    def one(rate: Array, seed: Array) -> Run:
        params = model.init(jax.random.key(seed), SYMBOLS)
        memory = optimiser(rate, plan.updates).init(params)
        return Run(seed, rate, jnp.int32(0), params, memory, flosser.init(params))

    rates, seeds = (
        grid.ravel()
        for grid in jnp.meshgrid(*map(jnp.array, (plan.rates, plan.seeds)), indexing="ij")
    )
    return jax.vmap(one)(rates, seeds)


def train(side: Side, plan: Plan) -> list[dict[str, Any]]:
    """A record of each run of a side."""
    runs, updates, curve = fresh(plan), [], []
    started, chunks = time.perf_counter(), plan.updates // CHUNK
    for chunk in range(chunks):
        if (side.before and chunk < chunks // 10) or (
            side.episodes and chunk % 10 == 0 and chunk < chunks // 2
        ):
            runs = floss(runs, plan)
            continue
        runs = learn(runs, side, plan)
        if chunk % 5 == 4:
            updates.append((chunk + 1) * CHUNK)
            curve.append(wrong(runs, plan, 500))
    judged, reached = wrong(runs, plan, plan.judged), reach(runs, plan)
    seconds = (time.perf_counter() - started) / len(judged)
    return [
        {
            "side": side.label,
            "rate": plan.rates[number // len(plan.seeds)],
            "seed": int(runs.seed[number]),
            "wrong": round(float(judged[number]), 5),
            "seconds": round(seconds, 1),
            "updates": updates,
            "wrong_on_500": [round(float(each[number]), 3) for each in curve],
            "reach": np.round(reached[number], 3).tolist(),
        }
        for number in range(len(judged))
    ]


def best(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs at the learning rate that leaves the smallest mean error."""
    by_rate = [
        [run for run in runs if run["rate"] == rate]
        for rate in sorted({run["rate"] for run in runs})
    ]
    return min(by_rate, key=lambda runs: np.mean([run["wrong"] for run in runs]))


def finding(sides: dict[str, list[dict[str, Any]]], plan: Plan) -> str:
    """Which sides solve the task, in a sentence."""
    parts = []
    for label, runs in sides.items():
        errors = [run["wrong"] for run in best(runs)]
        solved = sum(error < plan.solved for error in errors)
        parts.append(f"{label}, {solved} of {len(errors)} ({np.mean(errors):.1%} wrong)")
    return f"Networks that learn temporal order over {plan.length} steps: " + "; ".join(parts)


def draw(
    sides: dict[str, list[dict[str, Any]]], starts: np.ndarray, plan: Plan, path: Path
) -> None:
    """Error against updates, error for each learning rate, and how far the gradient reaches in the end."""
    with drawing(path, 1, 3, (13, 5)) as (figure, (curves, rates, lags)):
        for number, (label, runs) in enumerate(sides.items()):
            style, shown = look(number + 1), best(runs)
            errors = [
                (update, 100 * error)
                for run in shown
                for update, error in zip(run["updates"], run["wrong_on_500"], strict=True)
            ]
            band(curves, errors, 8, label, **style)
            beside = 1.05 ** (2 * number - 3)
            rates.plot(
                [run["rate"] * beside for run in runs],
                [100 * run["wrong"] for run in runs],
                ls="",
                **style,
            )
            band(
                lags,
                [point for run in shown for point in enumerate(run["reach"])],
                8,
                label,
                **style,
            )
        before = [point for line in starts for point in enumerate(line)]
        band(lags, before, name="all, before training", color="0.45", linestyle="--")
        for axes in (curves, rates):
            axes.axhline(100 - 100 / CLASSES, color="0.45", linewidth=0.8, linestyle=":")
            axes.annotate(
                "chance",
                (0.99, 81.5),
                xycoords=("axes fraction", "data"),
                ha="right",
                fontsize=8,
                color="0.35",
            )
            axes.set(ylabel="sequences in the wrong class (%)", ylim=(-2, 85))
        curves.set_title(
            f"At the best learning rate; bands: range of {len(plan.seeds)} seeds", fontsize=10
        )
        curves.set(
            xlabel="updates, those of flossing alone among them", xlim=(0, 1.02 * plan.updates)
        )
        rates.set_title("In the end, every seed", fontsize=10)
        rates.set(
            xlabel="learning rate",
            xscale="log",
            xlim=(0.6 * min(plan.rates), 1.7 * max(plan.rates)),
        )
        rates.set_xticks(plan.rates, [f"{rate:g}" for rate in plan.rates])
        rates.set_xticks([], minor=True)
        lags.set_title("The gradient after training at the best learning rate", fontsize=10)
        lags.set(
            xlabel="lag (steps back from the last)", ylabel="‖∂L/∂h‖ relative to lag 0 (decades)"
        )
        for axes in (curves, rates, lags):
            axes.grid(visible=True, color="0.9", linewidth=0.6)
        title(figure, finding(sides, plan), 120)
        handles, labels = lags.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)


def main() -> None:
    """Trains all sides, prints what was found, and writes the records and the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a shorter task, fewer runs; written only with --out"
    )
    parser.add_argument(
        "--out", type=Path, help="the folder to write to; benchmarks/results by default"
    )
    options = parser.parse_args()
    plan = (
        Plan(length=50, updates=1000, rates=(1e-3,), seeds=(10, 11), judged=1000)
        if options.quick
        else Plan()
    )
    with ThreadPoolExecutor(2) as pool:  # a network this small cannot use more than one core
        sides = dict(
            zip(
                (side.label for side in SIDES),
                pool.map(lambda side: train(side, plan), SIDES),
                strict=True,
            )
        )
    for label, runs in sides.items():
        for rate in plan.rates:
            errors = " ".join(f"{run['wrong']:7.2%}" for run in runs if run["rate"] == rate)
            print(f"{label:32} rate {rate:7g}: wrong {errors}   {runs[0]['seconds']:.0f} s a run")
    print(finding(sides, plan))
    if options.out is None and options.quick:
        return
    out = options.out or Path(__file__).parents[1] / "benchmarks" / "results"
    out.mkdir(parents=True, exist_ok=True)
    starts = np.asarray(reach(fresh(plan), plan))[: len(plan.seeds)]
    about = {"jax": jax.__version__, "batch": BATCH, "hidden": rnn.hidden_size, **plan._asdict()}
    records = [run for runs in sides.values() for run in runs]
    write_json(
        out / "regularizers.json",
        {"about": about, "sides": [s._asdict() for s in SIDES], "runs": records},
    )
    draw(sides, starts, plan, out / "regularizers")


if __name__ == "__main__":
    main()
