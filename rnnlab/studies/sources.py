"""The data of the studies: text, noise or a file, as batches of sequences."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab.data import encode, read_text, standard_library
from rnnlab.studies.settings import StudySettings
from rnnlab.typing import AnyArray, Array, Dtype

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


def source(settings: StudySettings) -> Source:
    """The data of the study; ValueError for a file that cannot be used or is too short."""
    dtype = jnp.dtype(settings.precision)
    if dtype == jnp.float64 and jnp.result_type(float) != dtype:
        raise ValueError(
            'float64 is switched off; call jax.config.update("jax_enable_x64", True) first'
        )
    if settings.data == "noise":
        return _noise(dtype)
    if settings.data == "text":
        text, about = standard_library()
    else:
        text, about = read_text(settings.data)
    corpus = encode(text, about, settings.alphabet)
    size = len(corpus.alphabet)
    if size < 2:
        raise ValueError(
            f"{settings.data} holds only one character; "
            "give a text with at least two different ones"
        )
    if corpus.codes.size < settings.window:
        raise ValueError(
            f"{settings.data} has {corpus.codes.size} characters, but the longest sequence needs "
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

    return Source(draw, embed, size, {**about, "alphabet": size})


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
