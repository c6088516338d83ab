"""The network: training on windows of tunes, its distributions, its memory and its gradient."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnlab
from experiments.training import trained_seeds
from rnnlab.data import Batch, streams
from rnnlab.models import LanguageModel
from rnnlab.training import cross_entropy


def train(
    model: LanguageModel,
    tunes: Sequence[np.ndarray],
    *,
    batch: int,
    steps: int,
    updates: int,
    rate: float,
    seeds: int,
) -> Any:
    """Networks side by side; the parameters ``[seeds, ...]``.

    A window of ``steps`` tokens begins anywhere in a row of all tunes, from a state of zero. So the
    networks also learn to go on from the middle of a tune.
    """
    order = np.random.default_rng(0).permutation(len(tunes))
    data = streams(np.concatenate([tunes[index] for index in order]), batch, steps, seed=0)
    return trained_seeds(model, data, rate, updates, seeds)


def one(params: Any, seed: int) -> Any:
    """The parameters of one network."""
    return jax.tree.map(lambda leaf: leaf[seed], params)


@functools.partial(jax.jit, static_argnames="model")
def _probabilities(model: LanguageModel, params: Any, xs: np.ndarray) -> jax.Array:
    return jax.nn.softmax(model.apply(params, Batch(xs, None)))


def distributions(model: LanguageModel, params: Any, tunes: Sequence[np.ndarray]) -> np.ndarray:
    """P of each token at each target of the tunes, ``[N, V]``, by all that precedes it."""
    xs = np.zeros((max(map(len, tunes)) - 1, len(tunes)), np.int32)
    for column, codes in enumerate(tunes):
        xs[: len(codes) - 1, column] = codes[:-1]
    computed = np.asarray(_probabilities(model, params, xs))
    return np.concatenate([computed[: len(c) - 1, place] for place, c in enumerate(tunes)])


def from_context(model: LanguageModel, params: Any, windows: np.ndarray) -> np.ndarray:
    """P of the token after each window ``[steps, M]``, from a state of zero: ``[M, V]``."""
    return np.asarray(_probabilities(model, params, windows)[-1])


def horizon(model: LanguageModel, params: Any, tunes: Sequence[np.ndarray], steps: int) -> int:
    """Tokens back at which the gradient of one prediction is below 1/1000 in the median tune.

    The prediction is that of the token after the first ``steps`` ones. The answer is ``steps``
    where the gradient does not decay as far.
    """
    beginnings = np.stack([codes[: steps + 1] for codes in tunes if len(codes) > steps], axis=1)
    inputs = model.embedding(params.embedding, jnp.asarray(beginnings[:-1]))

    def loss(ys: jax.Array, readout: Any, labels: jax.Array) -> jax.Array:
        return cross_entropy(model.readout(readout, ys[-1]), labels)

    flow = rnnlab.gradient_flow(
        model.cell, params.cell, inputs, loss, params.readout, beginnings[-1]
    )
    return int(flow.horizon)
