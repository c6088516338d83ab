"""The networks that the studies measure: a cell, or layers of it, and a readout to the alphabet."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.cells import Readout
from rnnlab.cells.readout import ReadoutParams
from rnnlab.cells.registry import make_cell
from rnnlab.layers import Stack, StackParams, stack
from rnnlab.studies.settings import StudySettings
from rnnlab.studies.sources import Source
from rnnlab.typing import Array, Cell, PyTree


def model(settings: StudySettings, data: Source, name: str) -> Stack:
    """The measured network of that name: what is recurrent, and a readout to the alphabet."""
    if data.trained is not None:
        return data.trained.network
    cell = recurrent(settings, name)
    return stack([cell, Readout(data.size, param_dtype=settings.precision)])


def recurrent(settings: StudySettings, name: str) -> Cell:
    """The cell of a network, or its layers."""
    cell = make_cell(
        settings.networks[name],
        settings.hidden_size,
        init=settings.init,
        max_lag=settings.window - 1,
        param_dtype=settings.precision,
    )
    return stack([cell] * settings.layers) if settings.layers > 1 else cell


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


def named(of_cell: PyTree, of_readout: PyTree = None) -> Iterator[tuple[str, Any]]:
    """What belongs to each parameter of a network, such as its norm, with the parameter's name.

    Names are those in a checkpoint: "cell.w_x", in layers "cell.layers[0].w_x", "readout.b", and
    "embedding" for that of a network from a training run.
    """
    parts = {"cell": of_cell, "readout": of_readout}
    if isinstance(of_cell, StackParams) and isinstance(of_cell.layers[0], ReadoutParams):
        embedding, parts["cell"] = of_cell.layers
        yield "embedding", embedding.w
    for part, tree in parts.items():
        for path, value in jax.tree_util.tree_leaves_with_path(tree):
            yield f"{part}{jax.tree_util.keystr(path)}", value
