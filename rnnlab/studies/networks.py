"""The networks that the studies measure: one cell and a readout to the alphabet."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.cells import Readout
from rnnlab.cells.registry import make_cell
from rnnlab.layers import Stack, StackParams, stack
from rnnlab.studies.settings import StudySettings
from rnnlab.studies.sources import Source
from rnnlab.typing import Array


def model(settings: StudySettings, data: Source, name: str) -> Stack:
    """The measured network: one cell and a readout to the alphabet."""
    cell = make_cell(
        name,
        settings.hidden_size,
        init=settings.init,
        max_lag=settings.window - 1,
        param_dtype=settings.precision,
    )
    return stack([cell, Readout(data.size, param_dtype=settings.precision)])


def initial_params(network: Stack, input_size: int, seeds: int) -> StackParams:
    """Fresh parameters with a leading axis of seeds, drawn in one program."""
    draw = weights_program(network, input_size)
    return draw(seed_keys(seeds))


def seed_keys(seeds: int) -> Array:
    """The key of each seed, ``[S]``."""
    keys = map(jax.random.key, range(seeds))
    return jnp.stack(list(keys))


def weights_program(network: Stack, input_size: int) -> Any:
    """The program that draws parameters for each of the keys."""
    return jax.jit(lambda keys: lax.map(lambda key: network.init(key, input_size), keys))
