"""The fixed points in which an RNN stores the three bits of a flip-flop task.

    python experiments/flip_flop.py

Each of three channels carries a pulse of ±1 with probability ½ at each of 64 steps, and each of
three outputs holds the last pulse of its channel (Sussillo & Barak 2013, Neural Computation 25).
After training, and without input, the recurrent map has a stable fixed point for each of the eight
memories, with saddles between them: the corners, edges, faces and centre of a cube. Two checks test
whether the search has found all of them. Over the fixed points of a map of a ball into itself,
Σ sign det(1 − J) = 1 (Brouwer degree). And from the two sides of a saddle with one unstable
direction, the state converges to two memories that should differ in one bit.
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
task = rnnlab.tasks.flip_flop(STEPS, BITS)
cell, readout = rnnlab.RNN(HIDDEN), rnnlab.Readout(BITS)
model = rnnlab.stack([cell, readout])
optimiser = optax.adam(optax.cosine_decay_schedule(0.02, UPDATES))


@jax.jit
def train(key: Key) -> tuple[PyTree, Array]:
    """Trained parameters, and the mean squared error at the last update."""

    def update(carry: tuple, key: Key) -> tuple[tuple, Array]:
        params, state = carry
        xs, targets, *_ = task.sample(key, BATCH)

        def loss(params: PyTree) -> Array:
            return jnp.mean((rnnlab.unroll(model, params, xs)[1] - targets) ** 2)

        error, gradient = jax.value_and_grad(loss)(params)
        change, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, change), state), error

    k_init, k_data = jax.random.split(key)
    params = model.init(k_init, BITS)
    keys = jax.random.split(k_data, UPDATES)
    carry, errors = jax.lax.scan(update, (params, optimiser.init(params)), keys)
    return carry[0], errors[-1]


def memories(params: PyTree, states: np.ndarray) -> np.ndarray:
    """The signs of the outputs ``[N, 3]`` after 1000 steps without input from ``[N, 16]``."""
    start = cell.initial_state()._replace(h=jnp.asarray(states))
    end, _ = rnnlab.unroll(cell, params.layers[0], jnp.zeros((1000, len(states), BITS)), start)
    return np.sign(readout(params.layers[1], end.h)).astype(int)


def differing_bits(params: PyTree, points: FixedPoints) -> list[int]:
    """The number of bits in which the memories on the two sides of a saddle differ, sorted.

    Only saddles with one unstable direction count.
    """
    saddles = points.unstable == 1
    states = points.states[saddles]
    offset = 0.05 * np.real(points.eigenvectors[saddles, :, 0])
    differs = memories(params, states + offset) != memories(params, states - offset)
    return sorted(differs.sum(axis=1).tolist())


print(f"{'':30}points by unstable directions{'Σ sign':>12}  bits that differ")
print(
    f"{'seed':>4}{'squared error':>15}{'memories':>11}{0:8}{1:5}{2:5}{3:5}{'more':>6}"
    f"{'det(1−J)':>12}  across saddles with one"
)
for seed in range(SEEDS):
    k_train, k_pulses, k_starts = jax.random.split(jax.random.key(seed), 3)
    params, error = train(k_train)
    states, _ = rnnlab.unroll_states(cell, params.layers[0], task.sample(k_pulses, BATCH).xs)
    starts = sample_states(k_starts, states, STARTS, noise=1.0)
    points = fixed_points(cell, params.layers[0], jnp.zeros(BITS), starts)
    stable = memories(params, points.states[points.unstable == 0])
    distinct = len(np.unique(stable, axis=0))
    zero, one, two, three, *more = np.bincount(points.unstable, minlength=HIDDEN + 1)
    degree = int(np.sign(np.prod(1 - points.eigenvalues, axis=1).real).sum())
    print(
        f"{seed:4}{error:15.1e}{distinct:11}{zero:8}{one:5}{two:5}{three:5}{sum(more):6}{degree:12}"
        f"  {' '.join(map(str, differing_bits(params, points)))}"
    )
