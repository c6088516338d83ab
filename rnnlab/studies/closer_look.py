"""What a gradient study looks at more closely: singular values, the matrix of contributions, and truncation."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from rnnlab.diagnostics import bptt_contributions, jacobian_products, truncation_bias
from rnnlab.gradients.scaled import merge
from rnnlab.layers import Stack, StackParams
from rnnlab.studies.records import Records, number
from rnnlab.training.losses import cross_entropy
from rnnlab.typing import AnyArray, Array, PyTree

LAGS, VALUES, CUTS = 12, 16, 10
"""At most so many lags, singular values at each, and truncations are kept."""


class Looked(NamedTuple):
    """What was seen of one network; natural logarithms (nats)."""

    values: Array  # ln σᵢ of ∂s_T/∂s_k, [lags, n]
    last: Array  # the last step of each row of the matrix
    matrix: PyTree  # ln of the norm of each term, [rows, T], by the name of the parameter
    cosine: Array  # [cuts]
    relative_norm: Array  # [cuts]


def look_closer(network: Stack, params: StackParams, xs: Array, labels: AnyArray) -> Records:
    """The records of networks with a leading axis of seeds, for a loss at every step.

    ``xs [S, T, B, I]``, labels ``[S, T, B]``. Singular values are those of one example; of many an even choice is kept.
    The matrix is the median over the seeds.
    """
    steps = xs.shape[1]
    lags, cuts = spaced(steps, LAGS), spaced(steps, CUTS)
    seeds = [
        jax.device_get(
            _look(
                network,
                *jax.tree.map(lambda leaf, seed=seed: leaf[seed], (params, xs, labels)),
                lags,
                cuts,
            )
        )
        for seed in range(xs.shape[0])
    ]
    matrices = [seed.matrix for seed in seeds]
    middle = {}
    for name in matrices[
        0
    ]:  # the median, since one zero in one seed would make a mean of logs −inf
        over_seeds = np.stack([matrix[name] for matrix in matrices])
        middle[name] = np.quantile(over_seeds, 0.5, axis=0, method="inverted_cdf")
    return {
        "singular_values": [
            row for seed, one in enumerate(seeds) for row in _values(seed, one.values, lags)
        ],
        "contributions": [
            row for name, matrix in middle.items() for row in _matrix(name, matrix, seeds[0].last)
        ],
        "truncation": [
            {"seed": seed, "steps": cut, "cosine": number(cosine), "relative_norm": number(norm)}
            for seed, one in enumerate(seeds)
            for cut, cosine, norm in zip(cuts, one.cosine, one.relative_norm, strict=True)
        ],
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

    given = readout_weights, labels

    values = jacobian_products(
        cell, weights, xs[:, :1], pairs=[(steps, steps - lag) for lag in lags]
    )
    found = bptt_contributions(cell, weights, xs, loss, *given)
    named = {
        ".".join(entry.name for entry in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(found.log_norms)
    }
    named["all"] = merge(list(named.values()))
    bias = truncation_bias(cell, weights, xs, loss, *given, steps=cuts)
    return Looked(
        values.median_log_singular_values, found.last, named, bias.cosine, bias.relative_norm
    )


def spaced(last: int, count: int) -> tuple[int, ...]:
    """At most ``count`` whole numbers from 1 to ``last``, evenly apart on a log axis."""
    return tuple(sorted({round(value) for value in np.geomspace(1, last, count)}))


def _values(seed: int, logs: np.ndarray, lags: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    for lag, line in zip(lags, logs, strict=True):
        for index in np.unique(
            np.linspace(1, len(line), min(VALUES, len(line))).round().astype(int)
        ):
            yield {
                "seed": seed,
                "lag": lag,
                "index": int(index),
                "log_value": number(line[index - 1]),
            }


def _matrix(name: str, logs: np.ndarray, last: np.ndarray) -> Iterator[dict[str, Any]]:
    """Terms with k ≤ t, for the steps k at which a row ends."""
    for row, t in enumerate(last):
        for k in last[: row + 1]:
            yield {
                "parameter": name,
                "t": int(t),
                "k": int(k),
                "log_norm": number(logs[row, k - 1]),
            }
