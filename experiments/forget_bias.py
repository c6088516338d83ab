"""The decay of an LSTM's gradient against its forget bias b, compared with −ln σ(b).

    python experiments/forget_bias.py

Without weights, the gradient in the cell state decays by exactly σ(b) per step: ∂c_T/∂c_0 = σ(b)^T.
With weights, and noise as input, the paths through h contribute as well. Both are measured.
"""

import math

import jax
import jax.numpy as jnp

import rnnlab

STEPS, BATCH, INPUTS, HIDDEN = 300, 16, 16, 64
xs = jax.random.normal(jax.random.key(1), (STEPS, BATCH, INPUTS))


def loss(ys: jax.Array) -> jax.Array:
    """A loss of the last output; the decay does not depend on the choice."""
    return jnp.sum(ys[-1])


def decay(cell: rnnlab.LSTM, scale: float) -> float:
    """The decay of ln‖∂L/∂c‖ in nats per step, with all weights multiplied by ``scale``."""
    params = cell.init(jax.random.key(0), INPUTS)
    params = params._replace(w_x=scale * params.w_x, w_h=scale * params.w_h)
    flow = rnnlab.gradient_flow(cell, params, xs, loss)
    assert flow.log_norm_c is not None
    return float(rnnlab.diagnostics.decay_per_step(flow.log_norm_c.mean(axis=1)[::-1]))


print(f"{'forget bias':>12}{'−ln σ(b)':>12}{'no weights':>12}{'weights':>12}   nats/step")
for forget_bias in (0.0, 1.0, 2.0, 3.0, math.log(STEPS - 1)):
    theory = math.log1p(math.exp(-forget_bias))
    cell = rnnlab.LSTM(HIDDEN, forget_bias=forget_bias)
    print(f"{forget_bias:12.3f}{theory:12.4f}{decay(cell, 0.0):12.4f}{decay(cell, 1.0):12.4f}")
