"""Training of networks on a task: all seeds in one program, until they have solved it."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import rnnlab
from experiments.alternatives.problems import WINDOW, keys_of
from experiments.common import Record
from rnnlab.models import (
    Autoregression,
    Network,
    TimeDelayNetwork,
    Transformer,
    WindowNetwork,
    for_task,
)
from rnnlab.models.sequence import SequenceModel
from rnnlab.studies.task_training import compiled, count_parameters, largest
from rnnlab.tasks import Task
from rnnlab.typing import Cell

BATCH = 20
EMBEDDING = 8
PART = 100
"""Updates between two looks at the loss."""
RATES = {"bits": 1e-2, "oscillator": 3e-3, "long lag": 1e-2}

Make = Callable[[int], Cell | Network]
NETWORKS: dict[str, Make] = {
    "feed-forward": lambda size: WindowNetwork(size, window=WINDOW),
    "TDNN": lambda size: TimeDelayNetwork(size, taps=2, dilations=(1, 2, 4, 8)),
    "Transformer": lambda size: Transformer(size, layers=2, heads=2),
    "RNN": lambda size: rnnlab.RNN(size),
    "LSTM": lambda size: rnnlab.LSTM(size),
    "GRU": lambda size: rnnlab.GRU(size),
}


def optimiser_of(rate: float) -> optax.GradientTransformation:
    """Adam on a gradient that is clipped to the norm 1."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))


def chrono_networks(lag: int) -> dict[str, Make]:
    """Gated cells that remember about as long as the lag from the start (arXiv 1804.11188)."""
    biases = rnnlab.initializers.chrono(lag)
    return {
        "chrono LSTM": lambda size: rnnlab.LSTM(size, bias_init=biases, forget_bias=None),
        "chrono GRU": lambda size: rnnlab.GRU(size, bias_init=biases),
    }


def sized(task: Task, make: Make, budget: int) -> SequenceModel:
    """The model of a task with the largest even size that has at most ``budget`` parameters."""
    sizes = range(2, budget, 2)
    return largest(lambda size: model_of(task, make(size)), task, sizes, budget)


def model_of(task: Task, network: Cell | Network) -> SequenceModel:
    """The model of a task, with an embedding of eight numbers where it has symbols."""
    size = None if task.vocabulary_size is None else EMBEDDING
    return for_task(task, network, embedding_size=size)


def linear_model(task: Task) -> SequenceModel:
    """An autoregression: linear in the last inputs, one-hot where these are symbols."""
    size = task.input_size or task.vocabulary_size
    assert size is not None
    return for_task(task, Autoregression(size, window=WINDOW))


def trained(task: Task, model: SequenceModel, rate: float, updates: int, seeds: int) -> Record:
    """Losses on held-out sequences, the updates it took, and the CPU seconds of one.

    CPU time is that of all cores; it hardly depends on what else the machine does.
    """
    programs = compiled(task, model, optimiser_of(rate), BATCH, is_measured=False)
    k_start, k_train, k_held_out = jnp.moveaxis(jax.vmap(keys_of)(jnp.arange(seeds)), 1, 0)
    # One update first, so that compiling is not timed.
    state = programs.advance(programs.start(k_start), k_train, 0, 1)
    jax.block_until_ready(state)
    done, is_solved, seconds = 1, False, []
    metrics: Record = {}
    while done < updates and not is_solved:
        count = min(PART, updates - done)
        began = time.process_time()
        state = jax.block_until_ready(programs.advance(state, k_train, done, count))
        seconds.append((time.process_time() - began) / count / seeds)
        done += count
        metrics = jax.device_get(programs.evaluate(state.params, k_held_out))
        solved = [
            task.solved({name: row[seed] for name, row in metrics.items()}) for seed in range(seeds)
        ]
        is_solved = all(solved)
    return {
        "parameters": count_parameters(model, task),
        "losses": np.asarray(metrics["loss"], float).tolist(),
        "updates": done,
        "seconds_per_update": min(seconds),
    }


def carried(model: SequenceModel, steps: int) -> int:
    """The numbers that are kept from one step for the next, after ``steps`` of them."""
    cell: Any = model.cell
    if isinstance(cell, Transformer):
        # Keys and values of all steps.
        return 2 * cell.layers * cell.hidden_size * steps
    if isinstance(cell, Network):
        size = model.embedding.size if model.embedding is not None else 1
        seen: int = cell.receptive_field  # pyright: ignore[reportAttributeAccessIssue]
        return (seen - 1) * size
    state = cell.initial_state(())
    return sum(leaf.size for leaf in jax.tree.leaves(state))
