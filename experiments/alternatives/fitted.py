"""What is fitted rather than trained: hidden Markov models, linear systems, autoregressions."""

import time
from typing import Any

import jax
import numpy as np

from experiments.alternatives.problems import WINDOW, Oscillator, held_out, keys_of, series
from experiments.common import Record
from rnnlab.data import Batch
from rnnlab.models import Autoregression
from rnnlab.tasks import CopyMemory, Task
from rnnlab.theory.hidden_markov import (
    HiddenMarkov,
    baum_welch,
    log_likelihood,
    next_symbols,
)
from rnnlab.theory.linear_gaussian import LinearGaussian, em, kalman_filter

STATES = 32
LEVELS = 16
"""Into how many symbols the values of the oscillator are divided for an HMM."""


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
    batch = training_data(task, seed, sequences)
    codes = np.concatenate([batch.xs, size + batch.targets[None]])
    began = time.process_time()
    vocabulary = size + task.outputs
    fit = baum_welch(codes, STATES, vocabulary, iterations=iterations, seed=seed, pseudocount=1e-3)
    seconds = time.process_time() - began
    fresh = held_out(task, seed)
    classes = next_symbols(fit.model, fresh.xs)[-1][:, size:]
    right = np.take_along_axis(classes, fresh.targets[:, None], axis=1)[:, 0]
    loss = -np.log(right / classes.sum(axis=1)).mean()
    return {"loss": float(loss), "seconds": seconds, "model": fit.model}


def hmm_on_oscillator(task: Oscillator, seed: int, iterations: int, sequences: int) -> Record:
    """Fitted to the values in 16 levels that are equally frequent; predicts their mean."""
    ys = series(training_data(task, seed, sequences))[..., 0]
    edges = np.quantile(ys, np.arange(1, LEVELS) / LEVELS)
    codes = np.digitize(ys, edges)
    means = np.array([ys[codes == level].mean() for level in range(LEVELS)])
    began = time.process_time()
    fit = baum_welch(codes, STATES, LEVELS, iterations=iterations, seed=seed, pseudocount=1e-3)
    seconds = time.process_time() - began
    fresh = series(held_out(task, seed))[..., 0]
    predicted = next_symbols(fit.model, np.digitize(fresh[:-1], edges)) @ means
    loss = ((predicted - fresh[1:]) ** 2).mean()
    return {"loss": float(loss), "seconds": seconds, "model": fit.model}


def lds_on_oscillator(task: Oscillator, seed: int, iterations: int, sequences: int) -> Record:
    """Fitted with two states; predicts by the Kalman filter."""
    ys = series(training_data(task, seed, sequences))
    began = time.process_time()
    fit = em(ys, 2, iterations=iterations, seed=seed)
    seconds = time.process_time() - began
    return {"loss": filter_loss(fit.model, task, seed), "seconds": seconds, "model": fit.model}


def ar_on_oscillator(task: Oscillator, seed: int, sequences: int) -> Record:
    """Least squares on the last 16 values."""
    network = Autoregression(1, window=WINDOW)

    def design(batch: Batch) -> np.ndarray:
        window = np.asarray(network((), batch.xs), float).reshape(-1, WINDOW)
        return np.concatenate([window, np.ones((len(window), 1))], axis=1)

    batch = training_data(task, seed, sequences)
    known = design(batch)
    began = time.process_time()
    weights = np.linalg.lstsq(known, batch.targets.ravel())[0]
    seconds = time.process_time() - began
    fresh = held_out(task, seed)
    loss = ((design(fresh) @ weights - fresh.targets.ravel()) ** 2).mean()
    return {"loss": float(loss), "seconds": seconds, "model": (weights,)}


def filter_loss(model: LinearGaussian, task: Oscillator, seed: int) -> float:
    """The squared error of the Kalman filter with these parameters on held-out sequences."""
    fresh = series(held_out(task, seed))
    predicted = kalman_filter(model, fresh).predictions
    return float(((predicted - fresh)[1:] ** 2).mean())


def training_data(task: Task, seed: int, sequences: int) -> Batch:
    """Sequences to be fitted."""
    return jax.device_get(task.sample(keys_of(seed)[1], sequences))


def free_parameters(model: Any) -> int:
    """The parameters of a fitted model; a distribution over V symbols counts V − 1."""
    if isinstance(model, HiddenMarkov):
        states, symbols = model.emissions.shape
        return states - 1 + states * (states - 1) + states * (symbols - 1)
    return sum(np.size(array) for array in model)


def kept_by_fitted(states: int, bits: int, seed: int) -> float:
    """The nats that a fitted HMM keeps of a word, which is a single symbol.

    It reads the word four times, so all that it has to do is not to forget it.
    """
    codes = np.tile(np.arange(2**bits), (4, 1))
    fit = baum_welch(codes, states, 2**bits, iterations=300, tolerance=1e-3, seed=seed)
    return kept(fit.model, bits)


def kept_by_built(states: int, bits: int) -> float:
    """The same of an HMM that is built by hand: each state stands for 2ⁿ/N words."""
    count = 2**bits
    group = np.arange(count) * states // count
    emissions = (group == np.arange(states)[:, None]) * states / count
    return kept(HiddenMarkov(np.full(states, 1 / states), np.eye(states), emissions), bits)


def kept(model: HiddenMarkov, bits: int) -> float:
    """The nats by which the word that was read makes its repetition more likely."""
    codes = np.tile(np.arange(2**bits), (2, 1))
    nats = log_likelihood(model, codes[:1]) - log_likelihood(model, codes)
    return bits * np.log(2) - float(nats.mean())
