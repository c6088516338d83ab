"""The run behind ``rnnlab train``: a language model of characters, from its settings."""

import dataclasses
import functools
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnnlab._version import __version__
from rnnlab.cells.registry import make_cell
from rnnlab.data import (
    Batch,
    Corpus,
    Streams,
    TextSplit,
    corpora,
    decode,
    read_text,
    split_files,
    standard_library_files,
    streams,
)
from rnnlab.data.files import TextFile
from rnnlab.layers import stack
from rnnlab.models import LanguageModel, beam_search, language_model, sample
from rnnlab.studies.train_settings import FREE, TrainSettings, check_name, from_mapping
from rnnlab.training.checkpoints import Checkpoints
from rnnlab.training.evaluation import Validation, evaluate
from rnnlab.training.faults import CheckpointError
from rnnlab.training.loop import TrainingRun, Watch, fit
from rnnlab.training.metrics import MetricsWriter
from rnnlab.training.run_folder import CHECKPOINTS, check_owner, is_of_command, read_run
from rnnlab.training.trees import Leaf, fingerprint, from_leaves
from rnnlab.training.truncated import truncated_loss
from rnnlab.typing import Array, PyTree

HELD_OUT = 20
"""A file of the user is cut into this many parts; the last is for tests, the one before it for
validation."""

EVALUATED = 16
"""Streams side by side in which a held-out text is read."""


class Setup(NamedTuple):
    """What the settings stand for.

    Attributes:
        settings: the settings.
        model: the model.
        texts: the training, validation and test parts, as codes.
        data: batches of the training part.
    """

    settings: TrainSettings
    model: LanguageModel
    texts: TextSplit
    data: Streams

    @property
    def alphabet(self) -> tuple[str, ...]:
        return self.texts.training.alphabet


class Trained(NamedTuple):
    """A run that was read back.

    Attributes:
        setup: what was trained, on what.
        step: the number of steps after which it had these parameters.
        params: the parameters; the averaged ones where there are any.
    """

    setup: Setup
    step: int
    params: PyTree


class TrainedModel(NamedTuple):
    """The model of a run that was read back, without its data.

    Attributes:
        model: the model.
        alphabet: its symbols.
        step: the number of steps after which it had these parameters.
        params: the parameters; the averaged ones where there are any.
    """

    model: LanguageModel
    alphabet: tuple[str, ...]
    step: int
    params: PyTree


def prepare(settings: TrainSettings) -> Setup:
    """Model and data; ValueError for data that cannot be used."""
    if settings.precision == "float64" and jnp.result_type(float) != jnp.float64:
        raise ValueError(
            'float64 is switched off; call jax.config.update("jax_enable_x64", True) first'
        )
    texts = _texts(settings)
    _check_windows(settings, len(texts.training.codes))
    symbols = len(texts.training.alphabet)
    model = build_model(settings, symbols)
    data = streams(
        texts.training.codes,
        settings.batch_size,
        settings.length,
        context=settings.context,
        seed=settings.seed,
    )
    return Setup(settings, model, texts, data)


def _check_windows(settings: TrainSettings, characters: int) -> None:
    """ValueError for more streams than characters, and windows longer than a stream."""
    stream = (characters - 1) // settings.batch_size
    if stream < 1:
        raise ValueError(
            f"batch_size is {settings.batch_size}, but the training text has {characters} "
            "characters; give a longer text or a smaller batch_size"
        )
    for name in ("length", "context"):
        steps = getattr(settings, name)
        if steps > stream:
            raise ValueError(
                f"{name} is {steps}, but each of {settings.batch_size} streams has {stream} "
                f"characters; give a longer text, a smaller {name} or a smaller batch_size"
            )


def build_model(settings: TrainSettings, symbols: int) -> LanguageModel:
    """The model for so many symbols."""
    cell = make_cell(
        settings.cell,
        settings.hidden_size,
        init=settings.init,
        max_lag=settings.length + settings.context,
        param_dtype="float64" if settings.precision == "float64" else "float32",
    )
    if settings.layers > 1 or settings.residual:
        cell = stack([cell] * settings.layers, residual=settings.residual, dropout=settings.dropout)
    return language_model(
        cell,
        symbols,
        embedding_size=settings.embedding_size,
        tied=settings.tied,
        dropout=settings.dropout,
    )


def _texts(settings: TrainSettings) -> TextSplit:
    if settings.data == "text":
        return corpora(split_files(standard_library_files()), settings.alphabet)
    text, source = read_text(settings.data)
    size = len(text) // HELD_OUT
    least = (settings.batch_size + 1) * HELD_OUT
    if len(text) < least:
        raise ValueError(
            f"{settings.data} has {len(text)} characters, but {settings.batch_size} streams and "
            f"the held-out parts need {least}; give a longer text or a smaller batch_size"
        )
    ends = len(text) - 2 * size, len(text) - size
    name = str(source["name"])
    parts = [text[: ends[0]], text[ends[0] : ends[1]], text[ends[1] :]]
    return corpora(TextSplit(*([TextFile(name, part)] for part in parts)), settings.alphabet)


def train(
    setup: Setup,
    out: Path,
    *,
    resume: bool = False,
    writers: Sequence[MetricsWriter] = (),
    progress: bool = True,
) -> TrainingRun:
    """Trains in ``out``, or goes on with the run there."""
    settings, model = setup.settings, setup.model
    validation = None
    if settings.validate_every is not None:
        held_out = held_out_streams(setup.texts.validation, settings)
        batches, _ = validation_batches(setup)
        validation = Validation(
            held_out,
            every=settings.validate_every,
            batches=batches,
            patience=settings.patience,
            carry=model.initial_state(held_out.batch_size),
        )
    watch = []
    if settings.watch_every is not None:
        from rnnlab.studies.watching import measure_reach

        watch.append(Watch(settings.watch_every, functools.partial(measure_reach, model)))
    return fit(
        model,
        setup.data,
        make_optimiser(settings),
        steps=settings.steps,
        seed=settings.seed,
        loss=truncated_loss(model, settings.length),
        carry=model.initial_state(settings.batch_size),
        accumulate=settings.accumulate,
        average=settings.average,
        compute_dtype=jnp.bfloat16 if settings.precision == "bfloat16" else None,
        validation=validation,
        watch=watch,
        out=out,
        resume=resume,
        config=_config(setup),
        checkpoint_every=settings.checkpoint_every,
        keep=settings.keep,
        log_every=settings.log_every,
        most_skipped=settings.most_skipped,
        writers=writers,
        progress=progress,
    )


def validation_batches(setup: Setup) -> tuple[int, int]:
    """How many batches of the held-out text a validation reads, and how many there are."""
    held_out = held_out_streams(setup.texts.validation, setup.settings)
    count = held_out.batches_per_epoch
    return min(setup.settings.validation_batches, count), count


def _config(setup: Setup) -> dict[str, Any]:
    """What a run is resumed with only if it is equal."""
    settings = dataclasses.asdict(setup.settings)
    kept = {name: value for name, value in settings.items() if name not in FREE}
    if setup.settings.schedule != "constant":
        # The learning rate of a step then depends on the number of steps.
        kept["steps"] = setup.settings.steps
    sources = {name: part.source["sha256"] for name, part in setup.texts._asdict().items()}
    return {"settings": kept, "texts": sources, "alphabet": list(setup.alphabet)}


def make_optimiser(settings: TrainSettings) -> optax.GradientTransformation:
    """The optimiser and its schedule, behind the clipping."""
    rate = _schedule(settings)
    kinds = {
        "adam": lambda: optax.adam(rate),
        "adamw": lambda: optax.adamw(rate, weight_decay=settings.weight_decay, mask=_matrices),
        "rmsprop": lambda: optax.rmsprop(rate),
        "sgd": lambda: optax.sgd(rate, momentum=0.9),
    }
    optimiser = kinds[settings.optimiser]()
    if settings.clip is None:
        return optimiser
    return optax.chain(optax.clip_by_global_norm(settings.clip), optimiser)


def _matrices(params: PyTree) -> PyTree:
    """Which parameters decay: matrices, not biases."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _schedule(settings: TrainSettings) -> optax.Schedule:
    rate, warmup = settings.learning_rate, settings.warmup
    if settings.schedule == "cosine":
        left = max(settings.steps - warmup, 1)
        after = optax.cosine_decay_schedule(rate, left, alpha=0.1)
    else:
        after = optax.constant_schedule(rate)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), after], [warmup])


def held_out_streams(corpus: Corpus, settings: TrainSettings) -> Streams:
    """A held-out text in windows, each character once."""
    batch_size = min(EVALUATED, corpus.codes.size - 1)
    return streams(corpus.codes, batch_size, settings.length)


def read(folder: Path, *, best: bool = False) -> Trained:
    """The last whole checkpoint of a run, with its data.

    Raises:
        ValueError: for a directory without a run, data that are others now, and the best parameters
            of a run without validation.
        CheckpointError: where there is no whole checkpoint.
    """
    setup = prepare_again(folder, settings_of(folder))
    model = read_model(folder, best=best)
    return Trained(setup, model.step, model.params)


def read_model(folder: Path, *, best: bool = False) -> TrainedModel:
    """As :func:`read`, without the data."""
    settings = settings_of(folder)
    alphabet = tuple(read_run(folder)["config"]["alphabet"])
    model = build_model(settings, len(alphabet))
    with Checkpoints(folder / CHECKPOINTS) as checkpoints:
        found = checkpoints.read()
    if found is None:
        raise CheckpointError(
            f"{folder} has no checkpoint yet; wait for the first one, or go on with: rnnlab resume "
            f"{shlex.quote(str(folder))}"
        )
    step, leaves, about = found
    check_owner(folder, about, read_run(folder))
    if best and about["best"]["step"] is None:
        raise ValueError(f"{folder} has no validation yet; leave --best out")
    prefix = "best." if best else _prefix(leaves)
    wanted = {}
    for name, leaf in leaves.items():
        if name.startswith(prefix):
            wanted[name.removeprefix(prefix)] = leaf
    codes = np.zeros((1, 1), np.int32)
    template = model.init(jax.random.key(0), Batch(codes, codes))
    params = from_leaves(template, wanted)
    return TrainedModel(model, alphabet, about["best"]["step"] if best else step, params)


def _prefix(leaves: Mapping[str, Leaf]) -> str:
    """Where the parameters are in a checkpoint: the average, if there is one."""
    average = "state.average."
    return average if any(name.startswith(average) for name in leaves) else "state.params."


def initial_params(setup: Setup) -> PyTree:
    """The parameters with which the run began."""
    k_init, _ = jax.random.split(jax.random.key(setup.settings.seed))
    return setup.model.init(k_init, setup.data[0])


def settings_of(folder: Path, changes: Mapping[str, Any] | None = None) -> TrainSettings:
    """The settings of a run, with changes; ValueError where there is none, or they are refused."""
    changes = changes or {}
    run = read_run(folder)
    if not is_of_command(run["config"]):
        raise ValueError(
            f"{folder} holds a run of rnnlab.training.fit, but this command takes those of rnnlab "
            "train; give one of these, or go on in Python"
        )
    settings = run["config"]["settings"]
    strange = sorted(settings.keys() - TrainSettings.__dataclass_fields__.keys())
    if strange:
        raise ValueError(
            f"{folder} holds a run of rnnlab {run['versions']['rnnlab']}, whose setting "
            f"{strange[0]} this version, {__version__}, does not have; use that version"
        )
    for name in changes:
        check_name(name)
        if name not in FREE:
            raise ValueError(
                f"{name} belongs to the run and cannot be changed; only {', '.join(FREE)} can, or "
                "start a new run"
            )
    options = {name: value for name, value in run["options"].items() if name in FREE}
    new = from_mapping({**settings, **options, **changes})
    if new.schedule != "constant" and new.steps != run["options"]["steps"]:
        raise ValueError(
            f"steps cannot be changed, since the {new.schedule} schedule depends on it; start a "
            "new run, with schedule=constant if it may grow"
        )
    return new


def prepare_again(folder: Path, settings: TrainSettings) -> Setup:
    """Model and data of the run in a directory; ValueError where its text cannot be found."""
    path = Path(settings.data)
    if settings.data != "text" and not path.is_absolute() and not path.exists():
        raise ValueError(
            f"{path}, the text of {folder}, is not in this directory; run the command where the "
            "run was started, or copy the text here"
        )
    setup = prepare(settings)
    run = read_run(folder)
    if run["config"]["texts"] != _config(setup)["texts"]:
        if settings.data == "text":
            raise ValueError(
                f"{folder} was trained on the source code of Python {run['versions']['python']}, "
                "and this is another; use that version of Python"
            )
        raise ValueError(
            f"the text of {folder} has changed since the training ({settings.data}); restore it"
        )
    return setup


def evaluation(trained: Trained, part: str) -> dict[str, Any]:
    """The loss on a held-out part, with the fingerprint of the parameters."""
    setup = trained.setup
    corpus = getattr(setup.texts, part)
    data = held_out_streams(corpus, setup.settings)
    loss = truncated_loss(setup.model, setup.settings.length)
    means = evaluate(loss, trained.params, data, carry=setup.model.initial_state(data.batch_size))
    return {
        **means,
        "part": part,
        "characters": data.targets_per_epoch,
        "step": trained.step,
        "params_sha256": fingerprint(trained.params),
    }


def encode_prompt(prompt: str, alphabet: Sequence[str]) -> Array:
    """A prompt as codes ``[T]``; ValueError for one that is empty or has unknown characters."""
    if not prompt:
        raise ValueError("prompt is empty; give at least one character")
    codes = {symbol: index for index, symbol in enumerate(alphabet)}
    unknown = next((character for character in prompt if character not in codes), None)
    if unknown is not None:
        raise ValueError(
            f"prompt has {unknown!r}, which is not in the alphabet of the model; use characters "
            "of the training text"
        )
    return jnp.array([codes[character] for character in prompt], jnp.int32)


def continued(
    trained: TrainedModel,
    prompt: str,
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    beams: int | None = None,
    greedy: bool = False,
    seed: int = 0,
) -> str:
    """The text with which the model continues ``prompt``."""
    alphabet, model = trained.alphabet, trained.model
    codes = encode_prompt(prompt, alphabet)
    # The symbol that stands for unknown characters is not one that can be printed.
    allowed = jnp.array([symbol != "" for symbol in alphabet])
    if beams is not None:
        beam = beam_search(model, trained.params, codes, length, beams=beams, allowed=allowed)
        return decode(beam.codes[0], alphabet)
    drawn = sample(
        model,
        trained.params,
        codes[:, None],
        length,
        key=None if greedy else jax.random.key(seed),
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        allowed=allowed,
    )
    return decode(drawn[:, 0], alphabet)
