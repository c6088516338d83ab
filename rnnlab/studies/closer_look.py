"""The closer look of a gradient study: singular values, contributions of each step, truncation."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from rnnlab._json import number
from rnnlab.diagnostics import bptt_contributions, jacobian_products, truncation_bias
from rnnlab.gradients.scaled import merge
from rnnlab.layers import Stack, StackParams
from rnnlab.studies.networks import named
from rnnlab.studies.records import Records
from rnnlab.training.losses import cross_entropy
from rnnlab.typing import AnyArray, Array, PyTree

LAGS, VALUES, CUTS = 12, 16, 10
"""The most lags, singular values at each lag, and truncations that are kept."""


class Looked(NamedTuple):
    """The closer look at one network; natural logarithms (nats)."""

    values: Array  # ln σᵢ of ∂s_T/∂s_k, [lags, n]
    last: Array  # the last step of each row of the matrix
    matrix: PyTree  # ln of the norm of each term, [rows, T], by the name of the parameter
    cosine: Array  # [cuts]
    relative_norm: Array  # [cuts]


def look_closer(network: Stack, params: StackParams, xs: Array, labels: AnyArray) -> Records:
    """The records of networks with a leading axis of seeds, for a loss at every step.

    ``xs [S, T, B, I]``, labels ``[S, T, B]``. Singular values are those of one example; where there
    are too many, an even choice is kept. The matrix is the median over the seeds.
    """
    steps = xs.shape[1]
    lags, cuts = spaced(steps, LAGS), spaced(steps, CUTS)
    seeds = []
    for seed in range(xs.shape[0]):
        of_seed = jax.tree.map(lambda leaf, seed=seed: leaf[seed], (params, xs, labels))
        seeds.append(jax.device_get(_look(network, *of_seed, lags, cuts)))
    singular_values = []
    truncation = []
    for seed, looked in enumerate(seeds):
        singular_values += _value_rows(seed, looked.values, lags)
        truncation += _truncation_rows(seed, looked, cuts)
    contributions = []
    for name in seeds[0].matrix:
        matrices = np.stack([looked.matrix[name] for looked in seeds])
        # The median: a single zero in one seed would turn a mean of logarithms into −∞.
        median = np.quantile(matrices, 0.5, axis=0, method="inverted_cdf")
        contributions += _matrix_rows(name, median, seeds[0].last)
    return {
        "singular_values": singular_values,
        "contributions": contributions,
        "truncation": truncation,
    }


@functools.partial(jax.jit, static_argnames=("network", "lags", "cuts"))
def _look(
    network: Stack,
    params: StackParams,
    xs: Array,
    labels: Array,
    lags: tuple[int, ...],
    cuts: tuple[int, ...],
) -> Looked:
    cell, readout = network.cells
    weights, readout_weights = params.layers
    steps = len(xs)

    def loss(ys: Array, weights: PyTree, labels: Array) -> Array:
        return cross_entropy(readout(weights, ys), labels)

    loss_args = readout_weights, labels
    pairs = [(steps, steps - lag) for lag in lags]
    # A single example: products of n × n Jacobians are costly.
    products = jacobian_products(cell, weights, xs[:, :1], pairs=pairs)
    contributions = bptt_contributions(cell, weights, xs, loss, *loss_args)
    matrix = {}
    for name, leaf in named(contributions.log_contributions):
        matrix[name.removeprefix("cell.")] = leaf
    matrix["all"] = merge(list(matrix.values()))
    bias = truncation_bias(cell, weights, xs, loss, *loss_args, steps=cuts)
    return Looked(
        values=products.median_log_singular_values,
        last=contributions.last,
        matrix=matrix,
        cosine=bias.cosine,
        relative_norm=bias.relative_norm,
    )


def spaced(last: int, count: int) -> tuple[int, ...]:
    """At most ``count`` whole numbers from 1 to ``last``, evenly apart on a log axis.

    >>> spaced(100, 5)
    (1, 3, 10, 32, 100)
    """
    values = np.geomspace(1, last, count)
    return tuple(sorted(set(map(round, values))))


def _value_rows(seed: int, logs: np.ndarray, lags: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    for lag, log_values in zip(lags, logs, strict=True):
        size = len(log_values)
        kept = np.linspace(1, size, min(VALUES, size)).round().astype(int)
        for index in np.unique(kept):
            log_value = number(log_values[index - 1])
            yield {"seed": seed, "lag": lag, "index": int(index), "log_value": log_value}


def _truncation_rows(seed: int, looked: Looked, cuts: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    for cut, cosine, norm in zip(cuts, looked.cosine, looked.relative_norm, strict=True):
        yield {
            "seed": seed,
            "steps": cut,
            "cosine": number(cosine),
            "relative_norm": number(norm),
        }


def _matrix_rows(name: str, logs: np.ndarray, last: np.ndarray) -> Iterator[dict[str, Any]]:
    """Terms with k ≤ t, for the steps k at which a row ends."""
    for row_index, t in enumerate(last):
        for k in last[: row_index + 1]:
            log_norm = number(logs[row_index, k - 1])
            yield {"parameter": name, "t": int(t), "k": int(k), "log_norm": log_norm}
