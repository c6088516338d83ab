"""How well the oscillator can be predicted, against the noise of the measurement."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.alternatives.fitted import lds_on_oscillator
from experiments.alternatives.problems import WINDOW, Oscillator, keys_of
from experiments.alternatives.training import BATCH, NETWORKS, RATES, optimiser_of, sized
from experiments.common import Record
from rnnlab.studies.task_training import HELD_OUT, shapes_of, updates
from rnnlab.training import initial_state, train_step
from rnnlab.typing import Array, Key


def at(noise: Any) -> Oscillator:
    """The oscillator at a level of noise."""
    return dataclasses.replace(Oscillator(), noise=noise)


def exact(levels: tuple[float, ...]) -> list[Record]:
    """The share of the variance that the best predictors predict."""
    rows = []
    for level in levels:
        task = at(level)
        variance = task.variance()
        rows.append(
            {
                "noise": level,
                "filter": 1 - task.floor() / variance,
                "window": 1 - task.window_floor(WINDOW) / variance,
                "last value": 1 - task.baseline() / variance,
            }
        )
    return rows


def fitted(levels: tuple[float, ...], size: Record) -> list[Record]:
    """The share of the variance that a GRU and an LDS predict, for each seed."""
    seeds = size["seeds"]
    losses = gru_losses(levels, seeds, size["noise_updates"], size["budget"])
    rows = []
    for level, own in zip(levels, losses, strict=True):
        task = at(level)
        lds = []
        for seed in range(seeds):
            fit = lds_on_oscillator(task, seed, size["em_iterations"], size["em_sequences"])
            lds.append(1 - fit["loss"] / task.variance())
        row = {"noise": level, "filter": 1 - task.floor() / task.variance()}
        rows.append(row | {"GRU": (1 - own / task.variance()).tolist(), "LDS": lds})
    return rows


def gru_losses(levels: tuple[float, ...], seeds: int, count: int, budget: int) -> np.ndarray:
    """Losses ``[levels, seeds]``; all levels and seeds are trained in one program."""
    model = sized(Oscillator(), NETWORKS["GRU"], budget)
    optimiser = optimiser_of(RATES["oscillator"])
    step = train_step(model.loss, optimiser)
    shapes = shapes_of(Oscillator(), BATCH)

    def train(keys: Key, noise: Array) -> Array:
        k_start, k_train, k_held_out = keys
        state = initial_state(model.init(k_start, shapes), optimiser, k_start)
        state = updates(at(noise), step, BATCH)(state, k_train, 0, count)
        return model.loss(state.params, at(noise).sample(k_held_out, HELD_OUT))[0]

    keys = jax.vmap(keys_of)(jnp.arange(seeds))
    over_seeds = jax.vmap(train, (0, None))
    losses = jax.jit(jax.vmap(over_seeds, (None, 0)))(keys, jnp.array(levels))
    return np.asarray(losses, float)
