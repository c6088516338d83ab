"""The gradient study: how far back the gradient of each cell reaches, over cells, lengths and seeds."""

import functools
import math
import statistics
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab.diagnostics.gradient import reach
from rnnlab.diagnostics.gradient.flow import Extras, compiled_flow
from rnnlab.driver import RunOptions, unroll
from rnnlab.layers import Stack, StackParams
from rnnlab.studies.closer_look import look_closer
from rnnlab.studies.networks import initial_params, model, seed_keys, weights_program
from rnnlab.studies.records import Records, number
from rnnlab.studies.settings import TRAINED, GradientSettings
from rnnlab.studies.sources import Source, draw
from rnnlab.training.losses import cross_entropy
from rnnlab.training.step import TrainState, adam, train_step
from rnnlab.typing import AnyArray, Array, PyTree

SHORT = 100
"""Lengths up to this are measured in one program, padded to the longest: compiling takes longer than running."""


What = Literal["flow", "training", "closer"]
"""What is measured: the gradient's flow, what training did, or a closer look."""


class Unit(NamedTuple):
    """One measurement, for all seeds: of a cell, untrained or trained, at some lengths."""

    cell: str
    phase: str
    lengths: tuple[int, ...]
    what: What = "flow"


class Measured(NamedTuple):
    """The records of one unit by kind, as they stand in ``gradients.json``."""

    unit: Unit
    records: Records


KIND: dict[What, str] = {"flow": "reach", "training": "training", "closer": "truncation"}
"""A kind of records that a measurement always gives, by which it is known to be finished."""


def together(lengths: Iterable[int]) -> list[tuple[int, ...]]:
    """The lengths that are measured in one program each, by rising length."""
    ordered = sorted(set(lengths))
    short = tuple(length for length in ordered if length <= SHORT)
    long = [(length,) for length in ordered if length > SHORT]
    return [short, *long] if short else long


def units(settings: GradientSettings) -> list[Unit]:
    """Everything that is to be measured, in the order in which it is done."""
    found = []
    for cell in settings.cells:
        for phase in settings.phases:
            if phase == TRAINED:
                found.append(Unit(cell, phase, (settings.training_length,), "training"))
            found += [Unit(cell, phase, lengths) for lengths in together(settings.lengths)]
            if settings.detail:
                found.append(Unit(cell, phase, (settings.closer_length,), "closer"))
    return found


def finished(records: Records) -> set[Unit]:
    """The units whose records are there."""
    done = set()
    for what, kind in KIND.items():
        lengths: dict[tuple[str, str], set[int]] = {}
        for record in records.get(kind, []):
            lengths.setdefault((record["cell"], record["phase"]), set()).add(record["length"])
        for (cell, phase), there in lengths.items():
            groups = together(there) if what == "flow" else [(length,) for length in there]
            done |= {Unit(cell, phase, group, what) for group in groups}
    return done


def measure(
    settings: GradientSettings,
    data: Source,
    wanted: list[Unit],
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[Measured]:
    """Yields each of the ``wanted`` units as it is finished; all seeds run in one program.

    ``progress`` is called with a few words on what is being done.
    """
    names = list(dict.fromkeys(unit.cell for unit in wanted))
    runs = {
        name: _Run(settings, data, name, model(settings, data, name), progress) for name in names
    }
    programs = list(dict.fromkeys((u.cell, u.lengths) for u in wanted if u.what == "flow"))
    # The threads only compile, and all programs run in this one: two at once share XLA's pool of
    # threads, and were seen to deadlock.
    with ThreadPoolExecutor(2) as ahead:
        drawing = {name: ahead.submit(_compile_weights, runs[name]) for name in names}
        compiled = {
            (name, lengths): ahead.submit(_compile, runs[name], lengths)
            for name, lengths in programs
        }
        try:
            for name in names:
                run = runs[name]
                params, training = drawing[name].result()(seed_keys(settings.seeds)), []
                for phase in settings.phases:
                    mine = [u for u in wanted if (u.cell, u.phase) == (name, phase)]
                    if phase == TRAINED and mine:
                        params, training = train(run, params)
                    for unit in mine:
                        progress(_described(unit))
                        if unit.what == "training":
                            yield Measured(unit, {"training": training})
                        elif unit.what == "closer":
                            yield _look_closer(run, params, unit)
                        else:
                            program = compiled[name, unit.lengths].result()
                            yield _measure_unit(run, program, params, unit)
        finally:
            ahead.shutdown(wait=False, cancel_futures=True)


class _Run(NamedTuple):
    """What is measured: one network under the settings of the study."""

    settings: GradientSettings
    data: Source
    name: str
    network: Stack
    progress: Callable[[str], None]


def _described(unit: Unit) -> str:
    steps = ", ".join(map(str, unit.lengths))
    flow = f"length {steps}" if len(unit.lengths) == 1 else f"lengths {steps}"
    what = {"flow": flow, "training": "training", "closer": "a closer look"}
    return f"{unit.cell}, {unit.phase}, {what[unit.what]}"


def _over_each(run: Callable[..., Any]) -> Callable[..., Any]:
    """``run`` over the first axis: together where that is quicker, one after the other on a CPU."""
    if jax.default_backend() != "cpu":
        return jax.vmap(run)
    return lambda *given: lax.map(lambda own: run(*own), given)


def _compile_weights(run: _Run) -> Callable[[Array], StackParams]:
    keys = jax.eval_shape(lambda: seed_keys(run.settings.seeds))
    return weights_program(run.network, run.data.size).lower(keys).compile()


class Seen(NamedTuple):
    """What is measured of one network at one length; the verdict on it is left to NumPy."""

    log_norms: PyTree  # ln‖∂L/∂θ‖ of each parameter, cell and readout
    log_norm_state: Array  # ln‖∂L/∂s‖ of the whole state, [T, B]
    loss_step: Array  # where the loss is taken, [B]
    loss_steps: Array
    finite: Array


def _compile(run: _Run, lengths: tuple[int, ...]) -> Callable[..., Seen]:
    """The compiled measurement of all seeds at some lengths; leaves ``[S, N, ...]``.

    It takes parameters ``[S, ...]``, inputs and labels ``[S, N, T, B, ...]`` and the lengths ``[N]``.
    """
    settings, data, network = run.settings, run.data, run.network
    cell, readout = network.cells

    def loss(ys: Array, weights: PyTree, labels: Array, last: Array) -> Array:
        step = functools.partial(lax.dynamic_index_in_dim, index=last, keepdims=False)
        return cross_entropy(readout(weights, step(ys)), step(labels))

    def at_one_length(params: StackParams, inputs: Array, labels: Array, length: Array) -> Seen:
        weights, readout_weights = params.layers
        padded = None if len(lengths) == 1 else jnp.full(inputs.shape[1], length)
        flow = compiled_flow(
            cell,
            weights,
            data.embed(inputs),
            loss,
            (readout_weights, labels, length - 1),
            RunOptions(lengths=padded),
            Extras(differentiate_loss_args=True, one_step=True),
        )
        of_readout = None if flow.loss_args_gradient is None else flow.loss_args_gradient[0]
        log_readout = jax.tree.map(lambda g: jnp.log(jnp.linalg.norm(g.ravel())), of_readout)
        norms = flow.params.log_gradient, log_readout
        log_norm = flow.followed[0].log_norm
        return Seen(norms, log_norm, flow.loss_step, flow.loss_steps, flow.finite)

    @jax.jit
    def measured(params: StackParams, inputs: Array, labels: Array, lengths: Array) -> Seen:
        def of_one_seed(params: StackParams, inputs: Array, labels: Array) -> Seen:
            each = _over_each(functools.partial(at_one_length, params))
            return each(inputs, labels, lengths)

        return _over_each(of_one_seed)(params, inputs, labels)

    weights = jax.eval_shape(lambda: initial_params(network, data.size, settings.seeds))
    inputs, labels = _padded(settings, data, (1,))
    shape = settings.seeds, len(lengths), max(lengths)
    return measured.lower(
        weights,
        jax.ShapeDtypeStruct((*shape, *inputs.shape[3:]), inputs.dtype),
        jax.ShapeDtypeStruct((*shape, *labels.shape[3:]), labels.dtype),
        jax.ShapeDtypeStruct((len(lengths),), jnp.int32),
    ).compile()


def _padded(
    settings: GradientSettings, data: Source, lengths: tuple[int, ...]
) -> tuple[Array, Array]:
    """The sequences of each length, padded with zeros: ``[S, N, T, B, ...]``."""
    longest = max(lengths)

    def padded(batch: np.ndarray) -> np.ndarray:
        room = [(0, 0)] * batch.ndim
        room[1] = (0, longest - batch.shape[1])
        return np.pad(batch, room)

    drawn = [draw(settings, data, "measure", length, length) for length in lengths]
    inputs = np.stack([padded(inputs) for inputs, _ in drawn], axis=1)
    labels = np.stack([padded(labels) for _, labels in drawn], axis=1)
    return jnp.asarray(inputs), jnp.asarray(labels)


def _measure_unit(
    run: _Run, program: Callable[..., Seen], params: StackParams, unit: Unit
) -> Measured:
    inputs, labels = _padded(run.settings, run.data, unit.lengths)
    lengths = jnp.asarray(unit.lengths, jnp.int32)
    seen = jax.device_get(program(params, inputs, labels, lengths))
    records: Records = {"norms": [], "flow": [], "reach": []}
    for place, length in enumerate(unit.lengths):
        where = {"cell": unit.cell, "length": length, "phase": unit.phase}
        for seed in range(run.settings.seeds):
            own = jax.tree.map(lambda leaf, seed=seed, place=place: leaf[seed, place], seen)
            for kind, rows in _records(own, length).items():
                records[kind] += [{**where, "seed": seed, **row} for row in rows]
    return Measured(unit, records)


def _records(seen: Seen, length: int) -> Records:
    """The records of one network at one length."""
    norms = {}
    for part, layer in zip(("cell", "readout"), seen.log_norms, strict=True):
        norms |= {f"{part}.{name}": value for name, value in _named(layer)}
    with np.errstate(invalid="ignore"):  # of a gradient that is not finite
        norms["all"] = 0.5 * np.logaddexp.reduce([2 * value for value in norms.values()])
    each = reach.from_steps(seen.log_norm_state[:length], seen.loss_step, seen.loss_steps)
    found = reach.over_examples(each)

    def known(value: AnyArray) -> float | None:
        return number(value if seen.finite else np.nan)

    return {
        "norms": [{"parameter": name, "log_norm": known(value)} for name, value in norms.items()],
        "flow": [
            {"lag": lag, "log_norm": known(value)}
            for lag, value in enumerate(found.log_norm_by_lag)
        ],
        "reach": [_reach_record(found, bool(seen.finite))],
    }


def _reach_record(found: reach.Reach, finite: bool) -> dict[str, Any]:
    """The fields of GradientFlow on the reach, with the lags over which each decay was fitted."""
    names = ("horizon", "vanishes", "horizon_low", "horizon_high", "decay_per_step", "fit_last_lag",
             "late_decay_per_step", "late_first_lag", "lags", "zero_share")  # fmt: skip
    if not finite:
        return dict.fromkeys(names)
    lags, horizon, vanishes = int(found.lags), int(found.horizon), bool(found.vanishes)
    late = vanishes and lags - horizon > 1
    values = (
        horizon,
        vanishes,
        int(found.horizon_range[0]),
        int(found.horizon_range[1]),
        number(found.decay_per_step) if lags > 1 else None,
        min(horizon, lags - 1),
        number(found.late_decay_per_step) if late else None,
        horizon if late else None,
        lags,
        number(found.zero_share),
    )
    return dict(zip(names, values, strict=True))


def _look_closer(run: _Run, params: StackParams, unit: Unit) -> Measured:
    (length,) = unit.lengths
    inputs, labels = draw(run.settings, run.data, "measure", length, length)
    where = {"cell": unit.cell, "length": length, "phase": unit.phase}
    found = look_closer(run.network, params, run.data.embed(inputs), labels)
    records = {kind: [{**where, **row} for row in rows] for kind, rows in found.items()}
    return Measured(unit, records)


def _named(layer: PyTree) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a layer under their names, such as ``w_h`` or ``norm.x``."""
    for path, value in jax.tree_util.tree_leaves_with_path(layer):
        yield ".".join(entry.name for entry in path), value


def train(run: _Run, params: StackParams) -> tuple[StackParams, list[dict[str, Any]]]:
    """``params`` after the training steps of next-symbol prediction, and a record for each seed.

    The records hold loss (nats) and accuracy on the sequences that are measured, before and after, and
    in how many of the steps the gradient was clipped.
    """
    settings, data = run.settings, run.data
    optimiser = adam(settings.learning_rate, settings.clip)
    step = train_step(run.network, optimiser)

    @functools.partial(jax.jit, donate_argnums=0)
    @_over_each
    def advance(state: TrainState, inputs: Array, labels: Array) -> tuple[TrainState, Array]:
        state, metrics = step(state, data.embed(inputs), labels)
        return state, metrics.gradient_norm

    length = settings.training_length
    scored = _scores(run)
    held_out = draw(settings, data, "measure", length, length)
    before = jax.device_get(scored(params, *held_out))
    state = TrainState(jax.tree.map(jnp.copy, params), jax.vmap(optimiser.init)(params))
    norms = []
    for done in range(settings.train_steps):
        state, norm = advance(state, *draw(settings, data, "train", length, done))
        norms.append(norm)  # read at the end: the next step need not wait for this one
        if done % 10 == 0:
            run.progress(f"{run.name}, training step {done} of {settings.train_steps}")
            jax.block_until_ready(state)
    after = jax.device_get(scored(state.params, *held_out))
    records, norms = [], np.stack(norms)
    for seed in range(settings.seeds):
        share = None if settings.clip is None else number((norms[:, seed] >= settings.clip).mean())
        records.append({
            "cell": run.name, "length": length, "phase": TRAINED, "seed": seed,
            "loss_before": number(before.loss[seed]), "loss_after": number(after.loss[seed]),
            "accuracy_before": number(before.accuracy[seed]),
            "accuracy_after": number(after.accuracy[seed]), "clipped_share": share,
        })  # fmt: skip
    return state.params, records


class Scores(NamedTuple):
    """How well a network predicts the next symbol."""

    loss: Array  # mean cross-entropy, nats
    accuracy: Array  # the share of symbols that are the most likely prediction


def _scores(run: _Run) -> Callable[..., Scores]:
    @jax.jit
    @_over_each
    def scored(params: StackParams, inputs: Array, labels: Array) -> Scores:
        _, logits = unroll(run.network, params, run.data.embed(inputs))
        right = jnp.argmax(logits, axis=-1) == labels
        return Scores(cross_entropy(logits, labels), right.mean(dtype=logits.dtype))

    return scored


def summarise(settings: GradientSettings, records: Records) -> list[dict[str, Any]]:
    """One record for each cell and phase, from the longest length that is there.

    horizon, vanishes, decay_per_step, late_decay_per_step: as in GradientFlow, of the median seed.
    horizon_low, horizon_high: the range over the seeds. example_low, example_high: the range over all
    examples of all seeds. half_life: ln 2 over the decay, steps; None where the gradient does not
    shrink. zero_share: the mean over the seeds. lags: how many lags there are. doubtful: seeds left out
    since their numbers are not finite. loss (nats) and accuracy: of next-symbol prediction, where the
    network was trained; clipped_share: in how many of its training steps the gradient was clipped.
    """
    summary = []
    for cell in settings.cells:
        for phase in settings.phases:
            mine = [r for r in records["reach"] if (r["cell"], r["phase"]) == (cell, phase)]
            if not mine:
                continue
            longest = max(record["length"] for record in mine)
            seeds = [record for record in mine if record["length"] == longest]
            trained = [r for r in records.get("training", []) if r["cell"] == cell]
            record = {"cell": cell, "phase": phase, "length": longest, **_over_all_seeds(seeds)}
            summary.append(record | _learned(trained, phase))
    return summary


def _over_all_seeds(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    sound = [record for record in seeds if record["horizon"] is not None]
    names = ("horizon", "vanishes", "horizon_low", "horizon_high", "example_low", "example_high",
             "decay_per_step", "half_life", "late_decay_per_step", "zero_share", "lags")  # fmt: skip
    doubtful = {"seeds": len(seeds), "doubtful": len(seeds) - len(sound)}
    if not sound:
        return dict.fromkeys(names) | doubtful
    horizons = sorted(record["horizon"] for record in sound)
    middle = statistics.median_low(horizons)
    lags = max(record["lags"] for record in sound)
    # A gradient that is exactly zero after one step has no decay on record: it falls infinitely fast.
    decays = [_decay(record) for record in sound if record["lags"] > 1]
    # Of two seeds the one with the shorter horizon decays faster.
    decay = statistics.median_high(decays) if decays else None
    late = [r["late_decay_per_step"] for r in sound if r["late_decay_per_step"] is not None]
    values = (
        middle,
        middle < lags,
        horizons[0],
        horizons[-1],
        min(record["horizon_low"] for record in sound),
        max(record["horizon_high"] for record in sound),
        None if decay is None else number(decay),
        number(math.log(2) / decay) if decay else None,
        statistics.median_low(late) if late else None,
        number(statistics.fmean(record["zero_share"] for record in sound)),
        lags,
    )
    return dict(zip(names, values, strict=True)) | doubtful


def _decay(record: dict[str, Any]) -> float:
    decay = record["decay_per_step"]
    return math.inf if decay is None else decay


def _learned(trained: list[dict[str, Any]], phase: str) -> dict[str, Any]:
    """What training did, the mean over the seeds; nothing where there was none."""
    if not trained:
        return {}
    side = "after" if phase == TRAINED else "before"
    found = {name: _mean(trained, f"{name}_{side}") for name in ("loss", "accuracy")}
    if phase == TRAINED:
        found["clipped_share"] = _mean(trained, "clipped_share")
    return found


def _mean(records: list[dict[str, Any]], name: str) -> float | None:
    values = [record[name] for record in records]
    return None if None in values else number(statistics.fmean(values))
