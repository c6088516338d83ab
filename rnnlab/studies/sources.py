"""The data of the studies: text, noise, a file or what a run held out, as batches of sequences."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab.data import Corpus, encode, read_text, standard_library
from rnnlab.studies.settings import StudySettings
from rnnlab.typing import AnyArray, Array, Dtype

if TYPE_CHECKING:
    from rnnlab.studies.from_run import TrainedNetwork

NOISE_SIZE = 64
"""Features of a noise input, and classes of its target."""


class Source(NamedTuple):
    """Where sequences come from: ``draw(random, length, batch_size) -> (inputs, labels [T, B])``.

    Inputs are codes ``[T, B]`` that ``embed`` turns into vectors, or vectors ``[T, B, I]`` already.
    """

    draw: Callable[[np.random.Generator, int, int], tuple[np.ndarray, np.ndarray]]
    embed: Callable[[AnyArray], Array]
    size: int  # I, the features of an input, and V, the classes of a label
    about: dict[str, Any]
    trained: "TrainedNetwork | None" = None  # the network of the run that the data belong to


def source(settings: StudySettings) -> Source:
    """The data of the study, and the network of its training run where it measures one.

    Raises:
        ValueError: for a file or a run that cannot be used, and for a text that is too short.
        CheckpointError: where no checkpoint of the run is whole.
    """
    dtype = jnp.dtype(settings.precision)
    if dtype == jnp.float64 and jnp.result_type(float) != dtype:
        raise ValueError(
            'float64 is switched off; call jax.config.update("jax_enable_x64", True) first'
        )
    if settings.from_run is not None:
        return _held_out(settings)
    if settings.data == "noise":
        return _noise(dtype)
    if settings.data == "text":
        text, about = standard_library()
    else:
        text, about = read_text(settings.data)
    corpus = encode(text, about, settings.alphabet)
    if len(corpus.alphabet) < 2:
        raise ValueError(
            f"{settings.data} holds only one character; "
            "give a text with at least two different ones"
        )
    return _symbols(settings, corpus, settings.data)


def _held_out(settings: StudySettings) -> Source:
    """The network of a training run, with the validation part of its text."""
    # Slow to import, and needed only here.
    from rnnlab.studies.from_run import read_network

    trained = read_network(settings)
    text = "Python standard library" if settings.data == "text" else Path(settings.data).name
    about = trained.corpus.source | {"name": f"{text}, validation part"}
    corpus = trained.corpus._replace(source=about)
    data = _symbols(settings, corpus, f"the validation part of {settings.data}")
    return data._replace(trained=trained)


def _symbols(settings: StudySettings, corpus: Corpus, name: str) -> Source:
    """A text as one-hot codes; ValueError, which calls it by ``name``, if it is too short."""
    dtype = jnp.dtype(settings.precision)
    size = len(corpus.alphabet)
    if corpus.codes.size < settings.window:
        raise ValueError(
            f"{name} has {corpus.codes.size} characters, but the longest sequence needs "
            f"{settings.window}; give a longer text or ask for shorter sequences"
        )

    def draw(
        random: np.random.Generator, length: int, batch_size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        starts = random.integers(0, corpus.codes.size - length, batch_size)
        # One code more than the length: the label of a step is the input of the next.
        rows = np.arange(length + 1)[:, None] + starts
        window = corpus.codes[rows]  # [T + 1, B]
        return window[:-1], window[1:]

    def embed(codes: Array) -> Array:
        return jax.nn.one_hot(codes, size, dtype=dtype)

    return Source(draw, embed, size, {**corpus.source, "alphabet": size})


def _noise(dtype: Dtype) -> Source:
    """The controlled case: independent standard normal inputs, and labels unrelated to them."""

    def draw(
        random: np.random.Generator, length: int, batch_size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        xs = random.standard_normal((length, batch_size, NOISE_SIZE)).astype(dtype)
        labels = random.integers(0, NOISE_SIZE, (length, batch_size), np.int32)
        return xs, labels

    about = {"name": "standard normal noise", "alphabet": NOISE_SIZE}
    return Source(draw, lambda xs: xs, NOISE_SIZE, about)


def draw(
    settings: StudySettings, data: Source, use: str, length: int, batch_index: int
) -> tuple[np.ndarray, np.ndarray]:
    """One batch for every seed, ``[S, T, B, …]``, which depends on nothing else."""
    # Part of the generator's seed: training never reads the batches that are measured.
    purpose = ("measure", "train").index(use)
    inputs, labels = [], []
    for seed in range(settings.seeds):
        random = np.random.default_rng((seed, purpose, batch_index))
        xs, ys = data.draw(random, length, settings.batch_size)
        inputs.append(xs)
        labels.append(ys)
    return np.stack(inputs), np.stack(labels)
