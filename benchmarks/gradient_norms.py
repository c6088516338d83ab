"""The gradient norm of an RNN, an LSTM and a GRU against sequence length, and its decay with lag.

    python benchmarks/gradient_norms.py

The study behind ``rnnlab gradients`` in one short script, meant to be read and modified. One-hot
characters of a text pass through a cell, the loss is taken at the last step, and one backward pass
keeps the gradient of every step.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

import rnnlab

LENGTHS = (10, 30, 100, 300, 1000)  # T, steps
HIDDEN, BATCH, SEEDS = 128, 32, 5

# The source of Python's standard library: real text that every machine has.
text, about = rnnlab.data.standard_library()
corpus = rnnlab.data.encode(text, about, size=128)
symbols = len(corpus.alphabet)
print(
    f"{about['name']} {about['python']}: {about['characters']} characters, "
    f"SHA-256 {about['sha256']}"
)


def sample(seed: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Random windows of the text ``[T, B]``, and the character that follows each ``[B]``."""
    random = np.random.default_rng((seed, length))
    starts = random.integers(0, corpus.codes.size - length, BATCH)
    window = corpus.codes[np.arange(length + 1)[:, None] + starts]
    return window[:-1], window[-1]


cells = {"rnn": rnnlab.RNN(HIDDEN), "lstm": rnnlab.LSTM(HIDDEN), "gru": rnnlab.GRU(HIDDEN)}
readout = rnnlab.Readout(symbols)


@functools.partial(jax.jit, static_argnames="cell")
@functools.partial(jax.vmap, in_axes=(None, 0, 0, 0, 0))
def gradient_flow(cell, weights, readout_weights, inputs, targets):
    """The gradient flow of the loss at the last step, for all seeds."""

    def loss(ys: jax.Array) -> jax.Array:
        logits = readout(readout_weights, ys[-1])
        return rnnlab.training.losses.cross_entropy(logits, targets)  # nats

    return rnnlab.gradient_flow(cell, weights, jax.nn.one_hot(inputs, symbols), loss)


def stack(trees: list) -> object:
    """Trees of equal structure as one tree with a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


print(f"\n{'cell':6}{'T':>6}  ln‖∂L/∂W_h‖  decay, nats/step    horizon, steps  seconds")
for name, cell in cells.items():
    keys = [jax.random.split(jax.random.key(seed)) for seed in range(SEEDS)]
    weights = stack([cell.init(k_cell, symbols) for k_cell, _ in keys])
    readout_weights = stack([readout.init(k_readout, HIDDEN) for _, k_readout in keys])
    for length in LENGTHS:
        start = time.perf_counter()
        samples = [sample(seed, length) for seed in range(SEEDS)]
        inputs, targets = map(np.stack, zip(*samples, strict=True))
        flow = jax.block_until_ready(gradient_flow(cell, weights, readout_weights, inputs, targets))
        seconds = time.perf_counter() - start  # includes compilation
        norm = flow.log_norm_gradient.w_h.mean()
        decay = np.median(flow.decay_per_step)
        horizon = int(np.median(flow.horizon))
        steps = str(horizon) if horizon < length else f"not within {length}"
        print(f"{name:6}{length:6}{norm:13.3f}{decay:18.4f}{steps:>17}{seconds:9.1f}")
