"""Bits of every target under a network, an n-gram model and a mixture of both."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.language_model.prose import ALPHABET, characters
from rnnlab.data import ngram
from rnnlab.data.ngram import NGram
from rnnlab.text import Vocabulary
from rnnlab.typing import Array, PyTree

COLUMNS = 16
"""Parts of a text that are read side by side; the state is carried within each."""
LENGTH = 128
SHARES = np.round(np.arange(0.05, 1.0, 0.05), 2)
"""Weights of the network in a mixture, of which validation chooses."""


def target_bits(model: Any, params: PyTree, codes: np.ndarray) -> np.ndarray:
    """−log₂ P(codes[t] | all before it in its part) of all codes but the first, ``[N − 1]``."""
    targets = len(codes) - 1
    windows = -(-targets // (COLUMNS * LENGTH))
    rows = windows * LENGTH
    places = np.arange(rows)[:, None] + rows * np.arange(COLUMNS)
    places = np.minimum(places, targets - 1)
    state = model.initial_state(COLUMNS)
    found = []
    for first in range(0, rows, LENGTH):
        window = places[first : first + LENGTH]
        state, bits = _window(model, params, state, codes[window], codes[window + 1])
        found.append(bits)
    return np.concatenate(found).T.reshape(-1)[:targets].astype(float)


@functools.partial(jax.jit, static_argnames="model")
def _window(
    model: Any, params: PyTree, state: PyTree, xs: Array, ys: Array
) -> tuple[PyTree, Array]:
    state, logits = model.run(params, xs, state)
    scores = jax.nn.log_softmax(logits, axis=-1)
    chosen = jnp.take_along_axis(scores, ys[..., None], axis=-1)[..., 0]
    return state, -chosen / jnp.log(2.0)


class Codes(NamedTuple):
    """A text as symbols, ``[N]`` of each part."""

    training: np.ndarray
    validation: np.ndarray
    test: np.ndarray


class Chosen(NamedTuple):
    """An n-gram model, and its bits for all targets of validation and test."""

    model: NGram
    validation: np.ndarray
    test: np.ndarray


def best_ngram(codes: Codes, orders: Sequence[int], symbols: int) -> Chosen:
    """The n-gram model of the order that is best on validation."""
    models = [ngram.fit(codes.training, order, symbols) for order in orders]
    best = min(models, key=lambda model: model.bits_per_symbol(codes.validation))
    return Chosen(best, best.bits(codes.validation)[1:], best.bits(codes.test)[1:])


def mixed(network: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """Bits of the mixture of two distributions, from the bits of both."""
    return -np.log2(share * 2.0**-network + (1 - share) * 2.0**-other)


def best_share(network: np.ndarray, other: np.ndarray) -> float:
    """The weight of the network with which the mixture is best."""
    return float(min(SHARES, key=lambda share: mixed(network, other, share).mean()))


def speller(
    vocabulary: Vocabulary,
    training: Sequence[str],
    validation: Sequence[str],
    orders: Sequence[int],
) -> Callable[[Sequence[str]], float]:
    """The bits that spell the unknown words of a text, its first token left out.

    The n-gram model of characters has seen the unknown words of the training text alone, each with
    the space behind it, which ends the word.
    """
    seen = characters(unknown(vocabulary, training))
    held_out = characters(unknown(vocabulary, validation))
    chosen = best_ngram(Codes(seen, held_out, held_out), orders, len(ALPHABET))

    def bits(text: Sequence[str]) -> float:
        words = unknown(vocabulary, text[1:])
        return float(chosen.model.bits(characters(words)).sum()) if words else 0.0

    return bits


def unknown(vocabulary: Vocabulary, text: Sequence[str]) -> list[str]:
    """The words of a text that the vocabulary does not have."""
    return [word for word in text if word not in vocabulary]
