"""Instruments at chosen steps of a training run: reach of the gradient, λ₁, norms by parameter."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab._json import number
from rnnlab.data import Batch
from rnnlab.diagnostics import gradient_flow, lyapunov_spectrum
from rnnlab.models import LanguageModel
from rnnlab.training import trees
from rnnlab.training.losses import cross_entropy
from rnnlab.training.monitors import log_norm_of
from rnnlab.typing import Array, PyTree

EXAMPLES = 4
"""Sequences that are measured: a flow of the whole batch would cost as much as a step."""


class _Measured(NamedTuple):
    """What one compiled program measures; the norms are trees like the parameters."""

    horizon: Array
    log_norm_by_lag: Array
    exponent: Array
    log_norms: PyTree
    log_param_norms: PyTree


def measure_reach(model: LanguageModel, params: PyTree, batch: Batch) -> dict[str, Any]:
    """How far back the gradient of the last step's loss reaches, λ₁, and norms, as metrics.

    All are measured on the first four sequences of the batch, from the initial state on and
    without dropout:

    * "horizon" (steps) and "log_norm_by_lag" (nats, at the lags in "lags") are those of
      :class:`rnnlab.GradientFlow`, with an index behind the name for each layer of a stack; a
      horizon of "length", the number of steps, means that the sequence is too short to see it;
    * "lyapunov_1" is the first Lyapunov exponent, in nats per step;
    * "log_norm.NAME" is ln‖∂L/∂θ‖ of each parameter θ, such as "log_norm.cell.w_h", where L is the
      mean loss over the targets that count; "log_param_norm.NAME" is ln‖θ‖. None for zero.
    """
    batch = _first_examples(batch)
    measured = jax.device_get(_measured(model, params, batch))
    length = measured.log_norm_by_lag.shape[-1]
    lags = _powers(length)
    layers = list(
        zip(np.atleast_1d(measured.horizon), np.atleast_2d(measured.log_norm_by_lag), strict=True)
    )
    metrics: dict[str, Any] = {
        "lags": lags,
        "length": length,
        "lyapunov_1": number(measured.exponent),
    }
    for index, (layer_horizon, log_norms) in enumerate(layers, 1):
        suffix = f"_{index}" if len(layers) > 1 else ""
        metrics[f"horizon{suffix}"] = int(layer_horizon)
        metrics[f"log_norm_by_lag{suffix}"] = [number(log_norms[lag]) for lag in lags]
    return (
        metrics
        | _by_parameter("log_norm", measured.log_norms)
        | _by_parameter("log_param_norm", measured.log_param_norms)
    )


def _first_examples(batch: Batch) -> Batch:
    """The first sequences of the batch."""

    def first(leaf: Any) -> Array:
        # The batch is the last axis of all: [T, B], and [B] of the lengths.
        return jnp.asarray(leaf[..., :EXAMPLES])

    return jax.tree.map(first, batch)


@functools.partial(jax.jit, static_argnames="model")
def _measured(model: LanguageModel, params: PyTree, batch: Batch) -> _Measured:
    vectors = model.embedding(params.embedding, batch.xs)

    def last_loss(ys: Array) -> Array:
        return cross_entropy(model.logits(params, ys[-1]), batch.targets[-1])

    def mean_loss(params: PyTree) -> Array:
        return model.loss(params, batch)[0]

    flow = gradient_flow(model.cell, params.cell, vectors, last_loss)
    spectrum = lyapunov_spectrum(model.cell, params.cell, vectors, count=1)
    return _Measured(
        horizon=flow.horizon,
        log_norm_by_lag=flow.log_norm_by_lag,
        exponent=jnp.mean(spectrum.exponents),
        log_norms=jax.tree.map(log_norm_of, jax.grad(mean_loss)(params)),
        log_param_norms=jax.tree.map(log_norm_of, params),
    )


def _by_parameter(kind: str, log_norms: PyTree) -> dict[str, float | None]:
    """Norms as metrics, by the names of the parameters."""
    values = jax.tree.leaves(log_norms)
    names = trees.names(log_norms)
    return {f"{kind}.{name}": number(value) for name, value in zip(names, values, strict=True)}


def _powers(lags: int) -> list[int]:
    """The lags 0, 1, 2, 4, … below ``lags``."""
    powers = [0]
    lag = 1
    while lag < lags:
        powers.append(lag)
        lag *= 2
    return powers
