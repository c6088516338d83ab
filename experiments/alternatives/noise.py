"""How well the oscillator can be predicted, against the noise of the measurement."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.alternatives.latent import HELD_OUT, lds_on_oscillator
from experiments.alternatives.problems import WINDOW, Oscillator
from experiments.alternatives.training import BATCH, NETWORKS, RATES, optimiser_of, sized
from rnnlab.studies.task_training import shapes_of, updates
from rnnlab.training import initial_state, train_step
from rnnlab.typing import Array, Key, PyTree

Record = dict[str, Any]


def at(noise: Any) -> Oscillator:
    """The oscillator at a level of noise."""
    return dataclasses.replace(Oscillator(), noise=noise)


def by_noise(levels: tuple[float, ...], seeds: int, count: int, size: Record) -> list[Record]:
    """The share of the variance that is predicted: at best, and by a GRU and an LDS."""
    losses = gru_losses(levels, seeds, count, size["budget"])
    rows = []
    for level, own in zip(levels, losses, strict=True):
        task = at(level)
        variance = task.variance()
        fits = [
            lds_on_oscillator(task, seed, size["em_iterations"], size["em_sequences"])["loss"]
            for seed in range(seeds)
        ]
        rows.append(
            {
                "noise": level,
                "kalman": 1 - task.floor() / variance,
                "window": 1 - task.window_floor(WINDOW) / variance,
                "last value": 1 - task.baseline() / variance,
                "GRU": (1 - own / variance).tolist(),
                "LDS": [1 - loss / variance for loss in fits],
            }
        )
    return rows


def gru_losses(levels: tuple[float, ...], seeds: int, count: int, budget: int) -> np.ndarray:
    """Losses ``[levels, seeds]``; all levels and seeds are trained in one program."""
    model = sized(Oscillator(), NETWORKS["GRU"], budget)
    optimiser = optimiser_of(RATES["oscillator"])
    step = train_step(model.loss, optimiser)
    shapes = shapes_of(Oscillator(), BATCH)

    def train(key: Key, noise: Array) -> Array:
        k_params, k_train, k_batches, k_held_out = jax.random.split(key, 4)
        state = initial_state(model.init(k_params, shapes), optimiser, k_train)
        state = updates(at(noise), step, BATCH)(state, k_batches, 0, count)
        return evaluate(state.params, k_held_out, noise)

    def evaluate(params: PyTree, key: Key, noise: Array) -> Array:
        return model.loss(params, at(noise).sample(key, HELD_OUT))[0]

    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))
    over_seeds = jax.vmap(train, (0, None))
    losses = jax.jit(jax.vmap(over_seeds, (None, 0)))(keys, jnp.array(levels))
    return np.asarray(losses, float)
