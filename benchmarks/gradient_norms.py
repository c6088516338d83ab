"""How does the gradient norm of an RNN, an LSTM and a GRU depend on sequence length, and on the lag?

The study behind ``rnnlab gradients`` as one script, to be read from top to bottom and changed at
will:

    python benchmarks/gradient_norms.py

Text in, one-hot characters through a cell, the loss at the last step, and one backward pass that
keeps every step.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

import rnnlab

LENGTHS = (10, 30, 100, 300, 1000)  # T, steps
HIDDEN, BATCH, SEEDS = 128, 32, 5

# Real text that every machine has: the source of Python's standard library, as indices into 128
# symbols.
text, about = rnnlab.data.standard_library()
corpus = rnnlab.data.encode(text, about, size=128)
symbols = len(corpus.alphabet)
print(
    f"{about['name']} {about['python']}: {about['characters']} characters, SHA-256 {about['sha256']}"
)


def sample(seed: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """``(inputs [T, B], target [B])``: windows of the text, and the character that follows each."""
    random = np.random.default_rng((seed, length))
    starts = random.integers(0, corpus.codes.size - length, BATCH)
    window = corpus.codes[np.arange(length + 1)[:, None] + starts]
    return window[:-1], window[-1]


cells = {"rnn": rnnlab.RNN(HIDDEN), "lstm": rnnlab.LSTM(HIDDEN), "gru": rnnlab.GRU(HIDDEN)}
readout = rnnlab.Readout(symbols)


@functools.partial(jax.jit, static_argnames="cell")
@functools.partial(jax.vmap, in_axes=(None, 0, 0, 0, 0))
def flow(cell, weights, readout_weights, inputs, target):
    """What the loss at the last step sends back, for one seed; vmapped over the seeds."""

    def loss(ys: jax.Array) -> jax.Array:
        return rnnlab.training.losses.cross_entropy(
            readout(readout_weights, ys[-1]), target
        )  # nats

    return rnnlab.gradient_flow(cell, weights, jax.nn.one_hot(inputs, symbols), loss)


def stacked(trees: list) -> object:
    """Trees of equal form as one tree with a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


print(f"\n{'cell':6}{'T':>6}  ln‖∂L/∂W_h‖  decay, nats/step    horizon, steps  seconds")
for name, cell in cells.items():
    keys = [jax.random.split(jax.random.key(seed)) for seed in range(SEEDS)]
    weights = stacked([cell.init(k_cell, symbols) for k_cell, _ in keys])
    readout_weights = stacked([readout.init(k_out, HIDDEN) for _, k_out in keys])
    for length in LENGTHS:
        start = time.perf_counter()
        inputs, target = map(
            np.stack, zip(*(sample(seed, length) for seed in range(SEEDS)), strict=True)
        )
        found = jax.block_until_ready(flow(cell, weights, readout_weights, inputs, target))
        seconds = time.perf_counter() - start  # with compilation
        decay = np.median(found.decay_per_step)
        horizon = int(np.median(found.horizon))  # of the median seed
        shown = str(horizon) if horizon < length else f"not within {length}"
        norm = found.log_norm_gradient.w_h.mean()
        print(f"{name:6}{length:6}{norm:13.3f}{decay:18.4f}{shown:>17}{seconds:9.1f}")
