"""The gradient study: how far back the gradient of each cell reaches, by length and seed."""

import functools
import math
import statistics
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from rnnlab._json import number
from rnnlab.cells.readout import ReadoutParams
from rnnlab.diagnostics.gradient import reach
from rnnlab.diagnostics.gradient.flow import Extras, compiled_flow
from rnnlab.driver import RunOptions, unroll
from rnnlab.gradients.scaled import merge
from rnnlab.layers import Stack, StackParams
from rnnlab.studies.closer_look import look_closer
from rnnlab.studies.networks import initial_params, model, named, seed_keys, weights_program
from rnnlab.studies.records import Records, select
from rnnlab.studies.settings import TRAINED, UNTRAINED, GradientSettings
from rnnlab.studies.sources import Source, draw
from rnnlab.studies.study import Measured
from rnnlab.training.losses import cross_entropy
from rnnlab.training.step import TrainState, initial_state, train_step
from rnnlab.typing import AnyArray, Array, Key, PyTree

SHORT = 100
"""Lengths up to this share one padded program: compiling takes longer than running."""


What = Literal["flow", "training", "closer"]
"""What a unit measures: the flow of the gradient, the effect of training, or a closer look."""


class Unit(NamedTuple):
    """One measurement, for all seeds: of a cell, untrained or trained, at some lengths."""

    cell: str
    phase: str
    lengths: tuple[int, ...]
    what: What = "flow"


KIND: dict[What, str] = {"flow": "reach", "training": "training", "closer": "truncation"}
"""A kind of records that each measurement always gives: its presence marks it as finished."""


def together(lengths: Iterable[int]) -> list[tuple[int, ...]]:
    """The lengths that share a program, by rising length.

    >>> together([1000, 10, 100])
    [(10, 100), (1000,)]
    """
    short = []
    long = []
    for length in sorted(set(lengths)):
        if length <= SHORT:
            short.append(length)
        else:
            long.append((length,))
    return [tuple(short), *long] if short else long


def units(settings: GradientSettings) -> list[Unit]:
    """All measurements of the study, in the order in which they run."""
    all_units = []
    for cell in settings.networks:
        for phase in settings.phases:
            if phase == TRAINED:
                all_units.append(Unit(cell, phase, (settings.training_length,), "training"))
            groups = together(settings.lengths)
            all_units.extend(Unit(cell, phase, lengths) for lengths in groups)
            if settings.detail:
                all_units.append(Unit(cell, phase, (settings.closer_length,), "closer"))
    return all_units


def finished(records: Records) -> set[Unit]:
    """The units that already have records."""
    done = set()
    for what, kind in KIND.items():
        lengths_of: dict[tuple[str, str], set[int]] = {}
        for record in records.get(kind, []):
            key = (record["cell"], record["phase"])
            lengths_of.setdefault(key, set()).add(record["length"])
        for (cell, phase), lengths in lengths_of.items():
            groups = together(lengths) if what == "flow" else [(length,) for length in lengths]
            done.update(Unit(cell, phase, group, what) for group in groups)
    return done


def measure(
    settings: GradientSettings,
    data: Source,
    wanted: list[Unit],
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[Measured]:
    """Yields each of the ``wanted`` units as it is finished; all seeds run in one program.

    ``progress`` is called with a few words on the current step.
    """
    runs = {}
    for unit in wanted:
        if unit.cell not in runs:
            network = model(settings, data, unit.cell)
            runs[unit.cell] = _Run(settings, data, unit.cell, network, progress)
    # The threads only compile; all programs run in this thread. Two programs that ran at once
    # would share XLA's pool of threads, which has deadlocked.
    with ThreadPoolExecutor(2) as compiler:
        weights = {}
        for name, run in runs.items():
            weights[name] = compiler.submit(_compile_weights, run)
        flows = {}
        for unit in wanted:
            program = unit.cell, unit.lengths
            if unit.what == "flow" and program not in flows:
                flows[program] = compiler.submit(_compile, runs[unit.cell], unit.lengths)
        try:
            for name, run in runs.items():
                draw_params = weights[name].result()
                params = draw_params()
                training = []
                for phase in settings.phases:
                    due = [unit for unit in wanted if (unit.cell, unit.phase) == (name, phase)]
                    # Also where only the later units are left: they need the trained weights.
                    if phase == TRAINED and due:
                        params, training = train(run, params)
                    for unit in due:
                        progress(_described(unit, is_given=data.trained is not None))
                        if unit.what == "training":
                            yield Measured(unit, {"training": training})
                        elif unit.what == "closer":
                            yield _look_closer(run, params, unit)
                        else:
                            flow = flows[name, unit.lengths].result()
                            yield _measure_unit(run, flow, params, unit)
        finally:
            # When the caller stops early, programs that are still waiting need not be compiled.
            compiler.shutdown(wait=False, cancel_futures=True)


class _Run(NamedTuple):
    """One network under the settings of the study."""

    settings: GradientSettings
    data: Source
    name: str
    network: Stack
    progress: Callable[[str], None]


def _described(unit: Unit, is_given: bool) -> str:
    lengths = ", ".join(map(str, unit.lengths))
    if unit.what == "training":
        # The network of a run was trained before.
        task = "loss before and after" if is_given else "training"
    elif unit.what == "closer":
        task = "a closer look"
    elif len(unit.lengths) == 1:
        task = f"length {lengths}"
    else:
        task = f"lengths {lengths}"
    return f"{unit.cell}, {unit.phase}, {task}"


def _over_each(call: Callable[..., Any]) -> Callable[..., Any]:
    """``call`` over the first axis of its arguments: at once, or in turn on a CPU."""
    # A CPU gains nothing from doing them at once.
    if jax.default_backend() != "cpu":
        return jax.vmap(call)

    def in_turn(*stacked: Any) -> Any:
        return lax.map(lambda entry: call(*entry), stacked)

    return in_turn


def _compile_weights(run: _Run) -> Callable[[], StackParams]:
    """A function that returns the untrained parameters, with a leading axis of seeds."""
    trained = run.data.trained
    if trained is not None:
        return lambda: trained.params[UNTRAINED]
    seeds = run.settings.seeds
    keys = jax.eval_shape(lambda: seed_keys(seeds))
    program = weights_program(run.network, run.data.size)
    compiled = program.lower(keys).compile()
    return lambda: compiled(seed_keys(seeds))


class Seen(NamedTuple):
    """The measurement of one network at one length; NumPy derives the reach from it later."""

    log_norms: tuple[PyTree, PyTree]  # ln‖∂L/∂θ‖ of each parameter, cell and readout
    log_norm_state: Array  # ln‖∂L/∂s‖ of the whole state, [T, B]
    loss_step: Array  # where the loss is taken, [B]
    loss_steps: Array
    finite: Array


def _compile(run: _Run, lengths: tuple[int, ...]) -> Callable[..., Seen]:
    """The compiled measurement of all seeds at some lengths; leaves ``[S, N, ...]``.

    It takes parameters ``[S, ...]``, inputs and labels ``[S, N, T, B, ...]`` and the lengths
    ``[N]``.
    """
    at_one_length = _flow_at_one_length(run, is_padded=len(lengths) > 1)

    @jax.jit
    def measured(params: StackParams, inputs: Array, labels: Array, lengths: Array) -> Seen:
        def of_one_seed(params: StackParams, inputs: Array, labels: Array) -> Seen:
            each = _over_each(functools.partial(at_one_length, params))
            return each(inputs, labels, lengths)

        return _over_each(of_one_seed)(params, inputs, labels)

    settings, data = run.settings, run.data
    weights = jax.eval_shape(lambda: initial_params(run.network, data.size, settings.seeds))
    # Drawing one step is enough to learn the dtypes and the trailing axes.
    inputs, labels = _padded(settings, data, (1,))
    shape = settings.seeds, len(lengths), max(lengths)
    lowered = measured.lower(
        weights,
        jax.ShapeDtypeStruct((*shape, *inputs.shape[3:]), inputs.dtype),
        jax.ShapeDtypeStruct((*shape, *labels.shape[3:]), labels.dtype),
        jax.ShapeDtypeStruct((len(lengths),), jnp.int32),
    )
    return lowered.compile()


def _flow_at_one_length(run: _Run, is_padded: bool) -> Callable[..., Seen]:
    """The measurement of one seed: ``(params, inputs [T, B, ...], labels [T, B], length)``."""
    cell, readout = run.network.cells
    is_tied = run.data.trained is not None and run.data.trained.tied

    def loss(ys: Array, weights: PyTree, labels: Array, last: Array) -> Array:
        # ``last`` is traced, so that one program serves all lengths that are padded together.
        at_last = functools.partial(lax.dynamic_index_in_dim, index=last, keepdims=False)
        logits = readout(weights, at_last(ys))
        return cross_entropy(logits, at_last(labels))

    def at_one_length(params: StackParams, inputs: Array, labels: Array, length: Array) -> Seen:
        weights, readout_weights = params.layers
        lengths = jnp.full(inputs.shape[1], length) if is_padded else None
        flow = compiled_flow(
            cell,
            weights,
            run.data.embed(inputs),
            loss,
            (readout_weights, labels, length - 1),
            RunOptions(lengths=lengths),
            Extras(differentiate_loss_args=True, one_step=True),
        )
        of_loss_args = flow.loss_args_gradient
        readout_gradient = None if of_loss_args is None else of_loss_args[0]
        log_norms = flow.params.log_gradient, jax.tree.map(_log_norm, readout_gradient)
        if is_tied:
            log_norms = _tied(*log_norms, flow.params.gradient, readout_gradient)
        # Of all layers together.
        layers = [followed.log_norm for followed in flow.followed]
        return Seen(
            log_norms=log_norms,
            log_norm_state=merge(layers),
            loss_step=flow.loss_step,
            loss_steps=flow.loss_steps,
            finite=flow.finite,
        )

    return at_one_length


def _tied(
    log_cell: StackParams, log_readout: ReadoutParams, of_cell: StackParams, of_readout: Any
) -> tuple[StackParams, ReadoutParams]:
    """The log-norms where the readout is the transposed embedding: of the sum of both gradients."""
    _, *rest = log_cell.layers
    total = of_cell.layers[0].w + of_readout.w.T
    embedding = ReadoutParams(_log_norm(total), None)
    return StackParams((embedding, *rest)), log_readout._replace(w=None)


def _log_norm(gradient: Array) -> Array:
    norm = jnp.linalg.norm(gradient.ravel())
    return jnp.log(norm)


def _padded(
    settings: GradientSettings, data: Source, lengths: tuple[int, ...]
) -> tuple[Array, Array]:
    """The sequences of each length, padded with zeros: ``[S, N, T, B, ...]``."""
    longest = max(lengths)

    def padded(batch: np.ndarray) -> np.ndarray:
        widths = [(0, 0)] * batch.ndim
        widths[1] = (0, longest - batch.shape[1])
        return np.pad(batch, widths)

    all_inputs = []
    all_labels = []
    for length in lengths:
        # The length is also the index of the batch, so that a length always reads the same text,
        # whatever other lengths are measured beside it.
        inputs, labels = draw(settings, data, "measure", length, length)
        all_inputs.append(padded(inputs))
        all_labels.append(padded(labels))
    inputs = np.stack(all_inputs, axis=1)
    labels = np.stack(all_labels, axis=1)
    return jnp.asarray(inputs), jnp.asarray(labels)


def _measure_unit(
    run: _Run, program: Callable[..., Seen], params: StackParams, unit: Unit
) -> Measured:
    inputs, labels = _padded(run.settings, run.data, unit.lengths)
    lengths = jnp.asarray(unit.lengths, jnp.int32)
    seen = jax.device_get(program(params, inputs, labels, lengths))
    records: Records = {"norms": [], "flow": [], "reach": []}
    for index, length in enumerate(unit.lengths):
        for seed in range(run.settings.seeds):
            of_seed = jax.tree.map(lambda leaf, at=(seed, index): leaf[at], seen)
            key = {"cell": unit.cell, "length": length, "phase": unit.phase, "seed": seed}
            for kind, rows in _records(of_seed, length).items():
                for row in rows:
                    records[kind].append({**key, **row})
    return Measured(unit, records)


def _records(seen: Seen, length: int) -> Records:
    """The records of one network at one length."""
    norms = dict(named(*seen.log_norms))
    doubled = [2 * log_norm for log_norm in norms.values()]
    # NumPy warns about a gradient that is not finite; ``known`` turns it into None.
    with np.errstate(invalid="ignore"):
        norms["all"] = 0.5 * np.logaddexp.reduce(doubled)
    # The steps after ``length`` are padding.
    steps = seen.log_norm_state[:length]
    of_each = reach.from_steps(steps, seen.loss_step, seen.loss_steps)
    over_batch = reach.over_examples(of_each)

    def known(value: AnyArray) -> float | None:
        return number(value if seen.finite else np.nan)

    norm_rows = []
    for name, log_norm in norms.items():
        norm_rows.append({"parameter": name, "log_norm": known(log_norm)})
    flow_rows = []
    for lag, log_norm in enumerate(over_batch.log_norm_by_lag):
        flow_rows.append({"lag": lag, "log_norm": known(log_norm)})
    reach_row = _reach_record(over_batch, bool(seen.finite))
    return {"norms": norm_rows, "flow": flow_rows, "reach": [reach_row]}


def _reach_record(over_batch: reach.Reach, finite: bool) -> dict[str, Any]:
    """The fields of GradientFlow on the reach, with the lags over which each decay was fitted."""
    lags = int(over_batch.lags)
    horizon = int(over_batch.horizon)
    vanishes = bool(over_batch.vanishes)
    horizon_low, horizon_high = over_batch.horizon_range
    has_decay = lags > 1
    # A second rate needs at least two lags behind the horizon.
    has_late_decay = vanishes and lags - horizon > 1
    late_decay = number(over_batch.late_decay_per_step)
    record = {
        "horizon": horizon,
        "vanishes": vanishes,
        "horizon_low": int(horizon_low),
        "horizon_high": int(horizon_high),
        "decay_per_step": number(over_batch.decay_per_step) if has_decay else None,
        "fit_last_lag": min(horizon, lags - 1),
        "late_decay_per_step": late_decay if has_late_decay else None,
        "late_first_lag": horizon if has_late_decay else None,
        "lags": lags,
        "zero_share": number(over_batch.zero_share),
    }
    return record if finite else dict.fromkeys(record)


def _look_closer(run: _Run, params: StackParams, unit: Unit) -> Measured:
    (length,) = unit.lengths
    inputs, labels = draw(run.settings, run.data, "measure", length, length)
    key = {"cell": unit.cell, "length": length, "phase": unit.phase}
    rows_by_kind = look_closer(run.network, params, run.data.embed(inputs), labels)
    records = {}
    for kind, rows in rows_by_kind.items():
        records[kind] = [{**key, **row} for row in rows]
    return Measured(unit, records)


def train(run: _Run, params: StackParams) -> tuple[StackParams, list[dict[str, Any]]]:
    """``params`` after the training steps of next-symbol prediction, and a record for each seed.

    They are those of a training run where the study measures one. The records hold loss (nats) and
    accuracy on the measured sequences, before and after training, and the share of the steps in
    which the gradient was clipped.
    """
    length = run.settings.training_length
    scored = _scores(run)
    held_out = draw(run.settings, run.data, "measure", length, length)
    before = jax.device_get(scored(params, *held_out))
    trained, norms = _trained(run, params)
    after = jax.device_get(scored(trained, *held_out))
    return trained, _training_records(run, before, after, norms)


def _trained(run: _Run, params: StackParams) -> tuple[StackParams, np.ndarray | None]:
    """The trained parameters, and the norms of the gradient ``[steps, S]``; None from a run."""
    settings, data = run.settings, run.data
    if data.trained is not None:
        return data.trained.params[TRAINED], None
    optimiser = optax.adam(settings.learning_rate)
    if settings.clip is not None:
        optimiser = optax.chain(optax.clip_by_global_norm(settings.clip), optimiser)

    def loss(params: StackParams, batch: tuple[Array, Array], key: Key) -> tuple[Array, dict]:
        del key
        inputs, labels = batch
        _, logits = unroll(run.network, params, data.embed(inputs))
        return cross_entropy(logits, labels), {}

    step = train_step(loss, optimiser)

    @functools.partial(jax.jit, donate_argnums=0)
    @_over_each
    def advance(state: TrainState, inputs: Array, labels: Array) -> tuple[TrainState, Array]:
        state, metrics = step(state, (inputs, labels))
        return state, metrics["gradient_norm"]

    # ``advance`` donates the state: without a copy, the caller's ``params`` would be deleted.
    copied = jax.tree.map(jnp.copy, params)

    def start(params: StackParams, key: Key) -> TrainState:
        return initial_state(params, optimiser, key)

    state = jax.vmap(start)(copied, seed_keys(settings.seeds))
    norms = []
    for step_index in range(settings.train_steps):
        inputs, labels = draw(settings, data, "train", settings.training_length, step_index)
        state, norm = advance(state, inputs, labels)
        # Norms are read at the end: reading one here would wait for the step.
        norms.append(norm)
        if step_index % 10 == 0:
            run.progress(f"{run.name}, training step {step_index} of {settings.train_steps}")
            # Otherwise Python runs far ahead, and the progress shown is not that of the device.
            jax.block_until_ready(state)
    return state.params, np.stack(norms)


def _training_records(
    run: _Run, before: "Scores", after: "Scores", norms: np.ndarray | None
) -> list[dict[str, Any]]:
    """A record for each seed; ``norms [steps, S]`` are those of the gradient before clipping."""
    clip = run.settings.clip
    records = []
    for seed in range(run.settings.seeds):
        share = None
        if clip is not None and norms is not None:
            is_clipped = norms[:, seed] >= clip
            share = number(is_clipped.mean())
        record = {
            "cell": run.name,
            "length": run.settings.training_length,
            "phase": TRAINED,
            "seed": seed,
            "loss_before": number(before.loss[seed]),
            "loss_after": number(after.loss[seed]),
            "accuracy_before": number(before.accuracy[seed]),
            "accuracy_after": number(after.accuracy[seed]),
            "clipped_share": share,
        }
        records.append(record)
    return records


class Scores(NamedTuple):
    """How well a network predicts the next symbol."""

    loss: AnyArray  # mean cross-entropy, nats
    accuracy: AnyArray  # share of symbols whose prediction is right


def _scores(run: _Run) -> Callable[..., Scores]:
    @jax.jit
    @_over_each
    def scored(params: StackParams, inputs: Array, labels: Array) -> Scores:
        _, logits = unroll(run.network, params, run.data.embed(inputs))
        is_right = jnp.argmax(logits, axis=-1) == labels
        loss = cross_entropy(logits, labels)
        return Scores(loss, is_right.mean(dtype=logits.dtype))

    return scored


def summarise(settings: GradientSettings, records: Records) -> list[dict[str, Any]]:
    """One record for each cell and phase, from the longest length that was measured.

    horizon, vanishes, decay_per_step, late_decay_per_step: as in GradientFlow, of the median seed.
    horizon_low, horizon_high: the range over the seeds. example_low, example_high: the range over
    all examples of all seeds. half_life: ln 2 over the decay, steps; None where the gradient does
    not shrink. zero_share: the mean over the seeds. lags: the number of lags. doubtful: the number
    of seeds left out because their numbers are not finite. loss (nats) and accuracy: of next-symbol
    prediction, where the network was trained; clipped_share: the share of its training steps in
    which the gradient was clipped.
    """
    summary = []
    for cell in settings.networks:
        for phase in settings.phases:
            rows = select(records["reach"], cell=cell, phase=phase)
            if not rows:
                continue
            longest = max(row["length"] for row in rows)
            seeds = select(rows, length=longest)
            training = select(records.get("training", []), cell=cell)
            record = {"cell": cell, "phase": phase, "length": longest}
            record |= _over_all_seeds(seeds)
            record |= _learned(training, phase)
            summary.append(record)
    return summary


def _over_all_seeds(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    sound = [record for record in seeds if record["horizon"] is not None]
    doubtful = {"seeds": len(seeds), "doubtful": len(seeds) - len(sound)}
    names = (
        "horizon", "vanishes", "horizon_low", "horizon_high", "example_low", "example_high",
        "decay_per_step", "half_life", "late_decay_per_step", "zero_share", "lags",
    )  # fmt: skip
    if not sound:
        return dict.fromkeys(names) | doubtful
    horizons = sorted(record["horizon"] for record in sound)
    # The lower median is the horizon of one of the seeds, also for an even number of them.
    horizon = statistics.median_low(horizons)
    lags = max(record["lags"] for record in sound)
    decays = []
    late_decays = []
    for record in sound:
        if record["lags"] > 1:
            decays.append(_decay(record))
        if record["late_decay_per_step"] is not None:
            late_decays.append(record["late_decay_per_step"])
    # Of two seeds the one with the shorter horizon decays faster: hence the higher median here.
    decay = statistics.median_high(decays) if decays else None
    zero_share = statistics.fmean(record["zero_share"] for record in sound)
    values = (
        horizon,
        horizon < lags,
        horizons[0],
        horizons[-1],
        min(record["horizon_low"] for record in sound),
        max(record["horizon_high"] for record in sound),
        None if decay is None else number(decay),
        number(math.log(2) / decay) if decay else None,
        statistics.median_low(late_decays) if late_decays else None,
        number(zero_share),
        lags,
    )
    return dict(zip(names, values, strict=True)) | doubtful


def _decay(record: dict[str, Any]) -> float:
    decay = record["decay_per_step"]
    # JSON has no infinity: a gradient that is exactly zero after one step has None on record.
    return math.inf if decay is None else decay


def _learned(training: list[dict[str, Any]], phase: str) -> dict[str, Any]:
    """The effect of training, averaged over the seeds; empty without training."""
    if not training:
        return {}
    side = "after" if phase == TRAINED else "before"
    scores = {
        "loss": _mean(training, f"loss_{side}"),
        "accuracy": _mean(training, f"accuracy_{side}"),
    }
    if phase == TRAINED:
        scores["clipped_share"] = _mean(training, "clipped_share")
    return scores


def _mean(records: list[dict[str, Any]], name: str) -> float | None:
    values = [record[name] for record in records]
    return None if None in values else number(statistics.fmean(values))
