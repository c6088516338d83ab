"""How far does an LSTM's gradient reach as its forget bias grows, and does σ(b) explain it?

    python experiments/forget_bias.py

Without weights the cell state loses the factor σ(b) in each step, exactly: ∂c_T/∂c_0 = σ(b)^T. With
weights, on noise, the other paths through h add to it. Both are measured and set beside −ln σ(b).
"""

import math

import jax
import jax.numpy as jnp

import rnnlab

STEPS, BATCH, INPUTS, HIDDEN = 300, 16, 16, 64
xs = jax.random.normal(jax.random.key(1), (STEPS, BATCH, INPUTS))


def loss(ys: jax.Array) -> jax.Array:
    """Any loss of the last output will do: rates do not depend on it."""
    return jnp.sum(ys[-1])


def rate(cell: rnnlab.LSTM, scale: float) -> float:
    """How fast ln‖∂L/∂c‖ falls, nats a step, with all weights multiplied by ``scale``."""
    params = cell.init(jax.random.key(0), INPUTS)
    params = params._replace(w_x=scale * params.w_x, w_h=scale * params.w_h)
    flow = rnnlab.gradient_flow(cell, params, xs, loss)
    assert flow.log_norm_cell is not None
    return float(rnnlab.diagnostics.decay_per_step(flow.log_norm_cell.mean(axis=1)[::-1]))


print(f"{'forget bias':>12}{'−ln σ(b)':>12}{'no weights':>12}{'weights':>12}   nats/step")
for forget_bias in (0.0, 1.0, 2.0, 3.0, math.log(STEPS - 1)):
    exact = math.log1p(math.exp(-forget_bias))
    cell = rnnlab.LSTM(HIDDEN, forget_bias=forget_bias)
    print(f"{forget_bias:12.3f}{exact:12.4f}{rate(cell, 0.0):12.4f}{rate(cell, 1.0):12.4f}")
