"""Where does a network that remembers three bits keep them?

    python experiments/flip_flop.py

Pulses of ±1 come on three channels, at each of 64 steps with probability ½, and each of three
outputs is to hold the last pulse on its channel (Sussillo & Barak 2013, Neural Computation 25).
After training, the state rests without input where the recurrent map has stable points: one for
each of the eight memories, with saddles between them, like the corners, edges, faces and centre of
a cube. Two checks ask whether that is all. Over the fixed points of a map of a ball into itself, Σ
sign det(1 − J) = 1 (Brouwer's degree). And on the two sides of a saddle with one unstable direction
the state falls to two memories: they should differ in one bit.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import rnnlab
from rnnlab.diagnostics import FixedPoints, fixed_points, sample_states
from rnnlab.typing import Array, Key, PyTree

STEPS, BATCH, BITS, HIDDEN = 64, 32, 3, 16
UPDATES, STARTS, SEEDS = 500, 1024, 5
cell, readout = rnnlab.RNN(HIDDEN), rnnlab.Readout(BITS)
model = rnnlab.stack([cell, readout])
optimiser = optax.adam(optax.cosine_decay_schedule(0.02, UPDATES))


def flip_flop(key: Key) -> tuple[Array, Array]:
    """Pulses and what is to be remembered, ``[T, B, 3]``; at the first step there is a pulse on every channel."""
    k_when, k_sign = jax.random.split(key)
    pulse = jax.random.bernoulli(k_when, 0.5, (STEPS, BATCH, BITS)).at[0].set(True)
    xs = jnp.where(pulse, jax.random.rademacher(k_sign, pulse.shape, jnp.float32), 0)
    return xs, jax.lax.associative_scan(lambda old, new: jnp.where(new == 0, old, new), xs)


@jax.jit
def train(key: Key) -> tuple[PyTree, Array]:
    """Parameters, and the mean squared error of the last update."""

    def update(carry: tuple, key: Key) -> tuple[tuple, Array]:
        params, memory = carry
        xs, wanted = flip_flop(key)
        error, gradient = jax.value_and_grad(
            lambda p: jnp.mean((rnnlab.unroll(model, p, xs)[1] - wanted) ** 2)
        )(params)
        change, memory = optimiser.update(gradient, memory)
        return (optax.apply_updates(params, change), memory), error

    k_init, k_data = jax.random.split(key)
    params = model.init(k_init, BITS)
    carry, errors = jax.lax.scan(
        update, (params, optimiser.init(params)), jax.random.split(k_data, UPDATES)
    )
    return carry[0], errors[-1]


def memories(params: PyTree, states: np.ndarray) -> np.ndarray:
    """The signs of the outputs after 1000 steps without input from states ``[N, 16]``, ``[N, 3]``."""
    start = cell.initial_state()._replace(h=jnp.asarray(states))
    end, _ = rnnlab.unroll(cell, params.layers[0], jnp.zeros((1000, len(states), BITS)), start)
    return np.sign(readout(params.layers[1], end.h)).astype(int)


def bits_apart(params: PyTree, found: FixedPoints) -> list[int]:
    """In how many bits the memories differ that lie on both sides of each saddle with one unstable direction."""
    saddles = found.unstable == 1
    push = 0.05 * np.real(found.eigenvectors[saddles, :, 0])
    ends = [memories(params, found.states[saddles] + way * push) for way in (1, -1)]
    return sorted((ends[0] != ends[1]).sum(axis=1).tolist())


print(
    "                                  points with unstable directions   Σ sign    bits apart, the memories"
)
print(
    "seed  squared error   memories       0    1    2    3  more         det(1−J)  at each saddle with one"
)
for seed in range(SEEDS):
    k_train, k_pulses, k_starts = jax.random.split(jax.random.key(seed), 3)
    params, error = train(k_train)
    states, _ = rnnlab.unroll_states(cell, params.layers[0], flip_flop(k_pulses)[0])
    starts = sample_states(k_starts, states, STARTS, noise=1.0)
    found = fixed_points(cell, params.layers[0], jnp.zeros(BITS), starts)
    kept = len(set(map(tuple, memories(params, found.states[found.unstable == 0]).tolist())))
    zero, one, two, three, *more = np.bincount(found.unstable, minlength=HIDDEN + 1)
    degree = int(np.sign(np.prod(1 - found.eigenvalues, axis=1).real).sum())
    print(
        f"{seed:4}{error:15.1e}{kept:11}{zero:8}{one:5}{two:5}{three:5}{sum(more):6}{degree:17}"
        f"  {' '.join(map(str, bits_apart(params, found)))}"
    )
