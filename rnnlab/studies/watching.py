"""Instruments at chosen steps of a training run: the reach of the gradient, and λ₁."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab._json import number
from rnnlab.data import Batch
from rnnlab.diagnostics import gradient_flow, lyapunov_spectrum
from rnnlab.models import LanguageModel
from rnnlab.models.sequence import embed
from rnnlab.training.losses import cross_entropy
from rnnlab.typing import Array, PyTree

EXAMPLES = 4
"""Sequences that are measured: a flow of the whole batch would cost as much as a step."""


def measure_reach(model: LanguageModel, params: PyTree, batch: Batch) -> dict[str, Any]:
    """How far back the gradient of the last step's loss reaches, and λ₁, as metrics.

    "horizon" (steps) and "log_norm_by_lag" (nats, at the lags in "lags") are those of
    :class:`rnnlab.GradientFlow`, with an index behind the name for each layer of a stack;
    "lyapunov_1" is the first Lyapunov exponent, in nats per step.
    """
    xs = jnp.asarray(batch.xs)[:, :EXAMPLES]
    labels = jnp.asarray(batch.targets)[-1, :EXAMPLES]
    horizon, by_lag, exponent = jax.device_get(_measured(model, params, xs, labels))
    lags = _powers(by_lag.shape[-1])
    layers = list(zip(np.atleast_1d(horizon), np.atleast_2d(by_lag), strict=True))
    metrics: dict[str, Any] = {"lags": lags, "lyapunov_1": number(exponent)}
    for index, (layer_horizon, log_norms) in enumerate(layers, 1):
        suffix = f"_{index}" if len(layers) > 1 else ""
        metrics[f"horizon{suffix}"] = int(layer_horizon)
        metrics[f"log_norm_by_lag{suffix}"] = [number(log_norms[lag]) for lag in lags]
    return metrics


@functools.partial(jax.jit, static_argnames="model")
def _measured(
    model: LanguageModel, params: PyTree, xs: Array, labels: Array
) -> tuple[Array, Array, Array]:
    vectors = embed(model.embedding, params.embedding, xs)

    def loss(ys: Array) -> Array:
        return cross_entropy(model.logits(params, ys[-1]), labels)

    flow = gradient_flow(model.cell, params.cell, vectors, loss)
    spectrum = lyapunov_spectrum(model.cell, params.cell, vectors, count=1)
    return flow.horizon, flow.log_norm_by_lag, jnp.mean(spectrum.exponents)


def _powers(lags: int) -> list[int]:
    """The lags 0, 1, 2, 4, … below ``lags``."""
    powers = [0]
    lag = 1
    while lag < lags:
        powers.append(lag)
        lag *= 2
    return powers
