"""Hidden Markov models and linear dynamical systems on the tasks, fitted by EM."""

import time
from typing import Any

import jax
import numpy as np

from experiments.alternatives.problems import Oscillator
from rnnlab.tasks import CopyMemory
from rnnlab.theory.hidden_markov import (
    HiddenMarkov,
    baum_welch,
    log_likelihood,
    next_symbols,
)
from rnnlab.theory.linear_gaussian import em, kalman_filter

Record = dict[str, Any]

STATES = 32
LEVELS = 16
"""Into how many symbols the values of the oscillator are divided for an HMM."""
HELD_OUT = 512


def every_word(bits: int) -> np.ndarray:
    """All words of so many bits, ``[bits, 2ⁿ]``."""
    return (np.arange(2**bits) >> np.arange(bits)[:, None]) & 1


def hmm_on_bits(task: CopyMemory, seed: int, iterations: int) -> Record:
    """Fitted to all sequences of bits, a delimiter, and the bits again.

    The loss is that of the second half given the first, for each of T steps as in the task; the
    blanks, which a network has to give as well, cost the HMM nothing.
    """
    words = every_word(task.items)
    delimiter = np.full((1, words.shape[1]), 2)
    codes = np.concatenate([words, delimiter, words])
    began = time.process_time()
    fit = baum_welch(codes, STATES, 3, iterations=iterations, seed=seed, pseudocount=1e-6)
    seconds = time.process_time() - began
    first = codes[: task.items + 1]
    nats = log_likelihood(fit.model, first) - log_likelihood(fit.model, codes)
    return {"loss": float(nats.mean()) / task.steps, "seconds": seconds, "model": fit.model}


def hmm_on_order(task: Any, seed: int, iterations: int, sequences: int) -> Record:
    """Fitted to the symbols with the class as a last one; its loss is that of the class."""
    size = task.vocabulary_size
    batch = jax.device_get(task.sample(jax.random.key(seed), sequences))
    codes = np.concatenate([batch.xs, size + batch.targets[None]])
    began = time.process_time()
    vocabulary = size + task.outputs
    fit = baum_welch(codes, STATES, vocabulary, iterations=iterations, seed=seed, pseudocount=1e-3)
    seconds = time.process_time() - began
    held_out = jax.device_get(task.sample(jax.random.key(1000 + seed), HELD_OUT))
    classes = next_symbols(fit.model, held_out.xs)[-1][:, size:]
    right = np.take_along_axis(classes, held_out.targets[:, None], axis=1)[:, 0]
    loss = -np.log(right / classes.sum(axis=1)).mean()
    return {"loss": float(loss), "seconds": seconds, "model": fit.model}


def hmm_on_oscillator(task: Oscillator, seed: int, iterations: int, sequences: int) -> Record:
    """Fitted to the values in 16 levels that are equally frequent; predicts their mean."""
    ys = values(task, seed, sequences)
    edges = np.quantile(ys, np.arange(1, LEVELS) / LEVELS)
    codes = np.digitize(ys, edges)
    means = np.array([ys[codes == level].mean() for level in range(LEVELS)])
    began = time.process_time()
    fit = baum_welch(codes, STATES, LEVELS, iterations=iterations, seed=seed, pseudocount=1e-3)
    seconds = time.process_time() - began
    held_out = values(task, 1000 + seed, HELD_OUT)
    predicted = next_symbols(fit.model, np.digitize(held_out[:-1], edges)) @ means
    loss = ((predicted - held_out[1:]) ** 2).mean()
    return {"loss": float(loss), "seconds": seconds, "model": fit.model}


def lds_on_oscillator(task: Oscillator, seed: int, iterations: int, sequences: int) -> Record:
    """Fitted with two states; predicts by the Kalman filter."""
    ys = values(task, seed, sequences)[..., None]
    began = time.process_time()
    fit = em(ys, 2, iterations=iterations, seed=seed)
    seconds = time.process_time() - began
    held_out = values(task, 1000 + seed, HELD_OUT)[..., None]
    predicted = kalman_filter(fit.model, held_out).predictions
    loss = ((predicted - held_out)[1:] ** 2).mean()
    return {"loss": float(loss), "seconds": seconds, "model": fit.model}


def values(task: Oscillator, seed: int, sequences: int) -> np.ndarray:
    """y₁ … y_T₊₁ of so many sequences, ``[T + 1, B]``."""
    batch = jax.device_get(task.sample(jax.random.key(seed), sequences))
    return np.concatenate([batch.xs, batch.targets[-1:]])[..., 0].astype(float)


def free_parameters(model: Any) -> int:
    """The parameters of a fitted model; a distribution over V symbols has V − 1."""
    if isinstance(model, HiddenMarkov):
        states, symbols = model.emissions.shape
        return states - 1 + states * (states - 1) + states * (symbols - 1)
    return sum(np.size(array) for array in model)


def words_kept(states: int, bits: int, seed: int) -> tuple[float, float]:
    """The nats that an HMM keeps of a word, a single symbol: fitted, and at best.

    It reads the word four times, so all that the HMM has to do is not to forget it. At best a state
    stands for 2ⁿ/N words.
    """
    count = 2**bits
    codes = np.tile(np.arange(count), (4, 1))
    fit = baum_welch(codes, states, count, iterations=300, tolerance=1e-3, seed=seed)
    group = np.arange(count) * states // count
    emissions = (group == np.arange(states)[:, None]) * states / count
    built = HiddenMarkov(np.full(states, 1 / states), np.eye(states), emissions)
    kept = []
    for model in (fit.model, built):
        nats = log_likelihood(model, codes[:1]) - log_likelihood(model, codes[:2])
        kept.append(bits * np.log(2) - float(nats.mean()))
    return kept[0], kept[1]
