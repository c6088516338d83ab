"""The gradient study: how far back the gradient of each cell reaches, over cells, lengths and seeds."""

import functools
import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab import initializers
from rnnlab.cells import GRU, LSTM, RNN, LeakyRNN, Readout
from rnnlab.data import encode, read_text, standard_library
from rnnlab.detail import look_closer
from rnnlab.diagnostics import decay_per_step, gradient_flow, horizon
from rnnlab.layers import Stack, StackParams, stack
from rnnlab.losses import cross_entropy
from rnnlab.report.records import Records, number
from rnnlab.settings import GradientSettings, StudySettings
from rnnlab.train import TrainState, adam, train_step
from rnnlab.typing import Array, Cell, Dtype, PyTree

NOISE_SIZE = 64
"""Features of a noise input, and classes of its target."""

CELLS: dict[str, Callable[[int, Dtype], Cell]] = {
    "rnn": lambda size, dtype: RNN(size, param_dtype=dtype),
    "lstm": lambda size, dtype: LSTM(size, param_dtype=dtype),
    "gru": lambda size, dtype: GRU(size, param_dtype=dtype),
    "leaky-rnn": lambda size, dtype: LeakyRNN(size, param_dtype=dtype),
    "relu-rnn": lambda size, dtype: RNN(size, activation="relu", param_dtype=dtype),
    "irnn": lambda size, dtype: RNN(
        size, activation="relu", recurrent_init=initializers.identity(), param_dtype=dtype
    ),
    "gru-before": lambda size, dtype: GRU(size, reset="before", param_dtype=dtype),
    "peephole-lstm": lambda size, dtype: LSTM(size, peephole=True, param_dtype=dtype),
    "layernorm-lstm": lambda size, dtype: LSTM(size, layer_norm=True, param_dtype=dtype),
}


class Source(NamedTuple):
    """Where sequences come from: ``draw(random, length, batch_size) -> (inputs, labels [T, B])``.

    Inputs are codes ``[T, B]`` that ``embed`` turns into vectors, or vectors ``[T, B, I]`` already.
    """

    draw: Callable[[np.random.Generator, int, int], tuple[np.ndarray, np.ndarray]]
    embed: Callable[[Array], Array]
    size: int  # I, the features of an input, and V, the classes of a label
    about: dict[str, Any]


class Unit(NamedTuple):
    """One measurement: a cell, before or after training, at one length, for all seeds."""

    cell: str
    phase: str
    length: int
    closer: bool = False  # what a closer look shows, in place of norms and flow


class Measured(NamedTuple):
    """The records of one unit by kind, as they stand in ``gradients.json``."""

    unit: Unit
    records: Records


def units(settings: GradientSettings) -> list[Unit]:
    """Everything that is to be measured, in the order in which it is done."""
    closer = [(settings.closer_length, True)] if settings.detail else []
    lengths = [*((length, False) for length in settings.lengths), *closer]
    return [
        Unit(c, p, *length) for c in settings.cells for p in settings.phases for length in lengths
    ]


def finished(records: Records) -> set[Unit]:
    """The units whose records are there."""
    kinds = (False, records["norms"]), (True, records.get("truncation", []))
    return {
        Unit(r["cell"], r["phase"], r["length"], closer) for closer, rows in kinds for r in rows
    }


def source(settings: StudySettings) -> Source:
    """The data of the study; ValueError for a file that cannot be used or is shorter than the longest sequence."""
    dtype = jnp.dtype(settings.precision)
    if dtype == jnp.float64 and jnp.result_type(float) != dtype:
        raise ValueError(
            'float64 is switched off; call jax.config.update("jax_enable_x64", True) first'
        )
    if settings.data == "noise":
        return _noise(dtype)
    text, about = standard_library() if settings.data == "text" else read_text(settings.data)
    corpus = encode(text, about, settings.alphabet)
    if len(corpus.alphabet) < 2:
        raise ValueError(
            f"{settings.data} holds only one character; give a text with at least two different ones"
        )
    if corpus.codes.size < settings.window:
        raise ValueError(
            f"{settings.data} has {corpus.codes.size} characters, but the longest sequence needs {settings.window}; "
            "give a longer text or ask for shorter sequences"
        )
    size = len(corpus.alphabet)

    def draw(
        random: np.random.Generator, length: int, batch_size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        starts = random.integers(0, corpus.codes.size - length, batch_size)
        window = corpus.codes[np.arange(length + 1)[:, None] + starts]  # [T + 1, B]
        return window[:-1], window[1:]

    def embed(codes: Array) -> Array:
        return jax.nn.one_hot(codes, size, dtype=dtype)

    return Source(draw, embed, size, {**about, "alphabet": size})


def _noise(dtype: Dtype) -> Source:
    """The controlled case: independent standard normal inputs, and labels that have nothing to do with them."""

    def draw(
        random: np.random.Generator, length: int, batch_size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        xs = random.standard_normal((length, batch_size, NOISE_SIZE)).astype(dtype)
        return xs, random.integers(0, NOISE_SIZE, (length, batch_size), np.int32)

    return Source(
        draw, lambda xs: xs, NOISE_SIZE, {"name": "standard normal noise", "alphabet": NOISE_SIZE}
    )


def measure(
    settings: GradientSettings,
    data: Source,
    wanted: list[Unit],
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[Measured]:
    """Yields each of the ``wanted`` units as it is finished. Seeds run in one program.

    ``progress`` is told in a few words what is being done.
    """
    networks = {name: model(settings, data, name) for name in settings.cells}
    programs = list(dict.fromkeys((unit.cell, unit.length) for unit in wanted if not unit.closer))
    with ThreadPoolExecutor(2) as ahead:  # compiles what comes next while this thread computes
        compiled = {
            p: ahead.submit(_compile, settings, data, networks[p[0]], p[1]) for p in programs
        }
        try:
            for name, network in networks.items():
                mine = [unit for unit in wanted if unit.cell == name]
                if not mine:
                    continue
                params = _initial(settings, data, network)
                for phase in settings.phases:
                    here = [unit for unit in mine if unit.phase == phase]
                    if phase == "after" and here:
                        params = train(
                            settings,
                            data,
                            network,
                            params,
                            lambda n, name=name: progress(f"{name}, training step {n}"),
                        )
                    for unit in here:
                        what = "a closer look" if unit.closer else f"length {unit.length}"
                        progress(f"{name}, {what}" + (", trained" if phase == "after" else ""))
                        if unit.closer:
                            yield _look_closer(settings, data, network, params, unit)
                        else:
                            yield _measure_unit(
                                settings,
                                data,
                                compiled[unit.cell, unit.length].result(),
                                params,
                                unit,
                            )
        finally:
            ahead.shutdown(wait=False, cancel_futures=True)


def model(settings: StudySettings, data: Source, name: str) -> Stack:
    """The network that is measured: one cell and a readout to the alphabet."""
    cell = CELLS[name](settings.hidden_size, jnp.dtype(settings.precision))
    return stack([cell, Readout(data.size, param_dtype=settings.precision)])


def _initial(settings: GradientSettings, data: Source, network: Stack) -> StackParams:
    """Fresh parameters with a leading axis of seeds."""
    made = [network.init(jax.random.key(seed), data.size) for seed in range(settings.seeds)]
    return jax.tree.map(lambda *seeds: jnp.stack(seeds), *made)


def draw(
    settings: StudySettings, data: Source, use: str, length: int, number: int
) -> tuple[Array, Array]:
    """One batch for every seed, ``[S, T, B, …]``: the same for every cell, whatever else is measured."""
    purpose = ("measure", "train").index(use)
    randoms = [np.random.default_rng((seed, purpose, number)) for seed in range(settings.seeds)]
    inputs, labels = zip(
        *(data.draw(random, length, settings.batch_size) for random in randoms), strict=True
    )
    return jnp.asarray(np.stack(inputs)), jnp.asarray(np.stack(labels))


def _over_seeds(run: Callable[..., Any]) -> Callable[..., Any]:
    """``run`` for every seed: together where that is quicker, one after the other on a CPU."""
    if jax.default_backend() != "cpu":
        return jax.vmap(run)
    return lambda *given: lax.map(lambda own: run(*own), given)


def _compile(
    settings: GradientSettings, data: Source, network: Stack, length: int
) -> Callable[..., tuple]:
    """The compiled measurement ``(params, inputs, labels) -> (log-norms, by lag, finite)`` of all seeds at a length."""
    cell, readout = network.cells

    @_over_seeds
    def flow(params: StackParams, inputs: Array, labels: Array) -> tuple[PyTree, Array, Array]:
        weights, readout_weights = params.layers

        def loss(ys: Array, readout_weights: PyTree = readout_weights) -> Array:
            return cross_entropy(readout(readout_weights, ys[-1]), labels[-1])

        flow = gradient_flow(cell, weights, data.embed(inputs), loss)
        of_readout = jax.grad(loss, argnums=1)(flow.outputs, readout_weights)
        log_norms = (
            flow.log_norm_gradient,
            jax.tree.map(lambda g: jnp.log(jnp.linalg.norm(g.ravel())), of_readout),
        )
        return log_norms, flow.log_norm_by_lag, flow.finite

    def of_all_seeds(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((settings.seeds, *leaf.shape), leaf.dtype)

    params = jax.tree.map(
        of_all_seeds, jax.eval_shape(lambda key: network.init(key, data.size), jax.random.key(0))
    )
    inputs, labels = (
        jax.ShapeDtypeStruct((settings.seeds, length, *batch.shape[2:]), batch.dtype)
        for batch in draw(settings, data, "measure", 1, 0)
    )
    return jax.jit(flow).lower(params, inputs, labels).compile()


def _measure_unit(
    settings: GradientSettings,
    data: Source,
    flow: Callable[..., tuple],
    params: StackParams,
    unit: Unit,
) -> Measured:
    inputs, labels = draw(settings, data, "measure", unit.length, unit.length)
    log_norms, by_lag, finite = jax.device_get(flow(params, inputs, labels))
    by_lag = np.where(finite[:, None], by_lag, np.nan)
    names = {
        f"{part}.{name}": value
        for part, layer in zip(("cell", "readout"), log_norms, strict=True)
        for name, value in _named(layer)
    }
    names["all"] = 0.5 * np.logaddexp.reduce([2 * value for value in names.values()])
    where = {"cell": unit.cell, "length": unit.length, "phase": unit.phase}
    norms = [
        {
            **where,
            "seed": seed,
            "parameter": name,
            "log_norm": number(value[seed] if finite[seed] else np.nan),
        }
        for seed in range(settings.seeds)
        for name, value in names.items()
    ]
    flows = [
        {**where, "seed": seed, "lag": lag, "log_norm": number(value)}
        for seed in range(settings.seeds)
        for lag, value in enumerate(by_lag[seed])
    ]
    return Measured(unit, {"norms": norms, "flow": flows})


def _look_closer(
    settings: GradientSettings, data: Source, network: Stack, params: StackParams, unit: Unit
) -> Measured:
    inputs, labels = draw(settings, data, "measure", unit.length, unit.length)
    where = {"cell": unit.cell, "length": unit.length, "phase": unit.phase}
    found = look_closer(network, params, data.embed(inputs), labels)
    return Measured(
        unit, {kind: [{**where, **row} for row in rows] for kind, rows in found.items()}
    )


def _named(layer: PyTree) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a layer under their names, such as ``w_h`` or ``norm.x``."""
    for path, value in jax.tree_util.tree_leaves_with_path(layer):
        yield ".".join(entry.name for entry in path), value


def train(
    settings: GradientSettings,
    data: Source,
    model: Stack,
    params: StackParams,
    progress: Callable[[int], None],
) -> StackParams:
    """``params`` after ``settings.train_steps`` steps of next-symbol prediction at every position."""
    optimiser = adam(settings.learning_rate, settings.clip)
    step = train_step(model, optimiser)

    @functools.partial(jax.jit, donate_argnums=0)
    @_over_seeds
    def advance(state: TrainState, inputs: Array, labels: Array) -> TrainState:
        return step(state, data.embed(inputs), labels)[0]

    state = TrainState(jax.tree.map(jnp.copy, params), jax.vmap(optimiser.init)(params))
    for done in range(settings.train_steps):
        state = advance(state, *draw(settings, data, "train", settings.training_length, done))
        if done % 10 == 0:
            progress(done)
            jax.block_until_ready(state)
    return state.params


def summarise(settings: GradientSettings, records: Records) -> list[dict[str, Any]]:
    """One record for each cell and phase, from the longest length that is there; means over the seeds.

    decay_per_step: how fast ln‖∂L/∂h‖ falls with the lag, nats a step (least squares). half_life: ln 2 over it, steps;
    None where the gradient does not shrink. horizon: the smallest lag at which the gradient is below 1/1000 of that at
    lag 0; None where there is none. doubtful: seeds left out since their numbers are not finite.
    """
    curves: dict[tuple[str, str, int], dict[int, list[tuple[int, float | None]]]] = {}
    for record in records["flow"]:
        unit = curves.setdefault((record["cell"], record["phase"], record["length"]), {})
        unit.setdefault(record["seed"], []).append((record["lag"], record["log_norm"]))
    summary = []
    for cell in settings.cells:
        for phase in settings.phases:
            done = [length for c, p, length in curves if (c, p) == (cell, phase)]
            if done:
                summary.append(
                    {"cell": cell, "phase": phase, **_reach(curves[cell, phase, max(done)])}
                )
    return summary


def _reach(curves: dict[int, list[tuple[int, float | None]]]) -> dict[str, Any]:
    lines = np.array(
        [[np.nan if y is None else y for _, y in sorted(curve)] for curve in curves.values()]
    )
    sound = np.isfinite(lines[:, 0])
    mean = lines[sound].mean(axis=0) if sound.any() else np.full(lines.shape[1], np.nan)
    decay = float(decay_per_step(jnp.asarray(mean)))
    reach = int(horizon(jnp.where(jnp.isnan(mean), -jnp.inf, mean))) if sound.any() else -1
    return {
        "decay_per_step": number(decay),
        "half_life": number(np.log(2) / decay) if decay > 0 else None,
        "horizon": None if reach < 0 else reach,
        "length": lines.shape[1],
        "doubtful": int((~sound).sum()),
    }


def environment() -> dict[str, Any]:
    """Versions, device and what XLA was told, as they stand in ``config.json``."""
    device = jax.devices()[0]
    packages = ("rnnlab", "jax", "jaxlib", "numpy", "optax")
    return {
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in packages},
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
        },
        "machine": platform.machine(),
        "xla_flags": os.environ.get("XLA_FLAGS"),
    }
