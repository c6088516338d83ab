"""The fixed points in which an RNN stores the three bits of a flip-flop task.

    python -m experiments.flip_flop.run

Each of three channels carries a pulse of ±1 with probability ½ at each of 64 steps, and each of
three outputs holds the last pulse of its channel (Sussillo & Barak 2013, Neural Computation 25).
After training, and without input, the recurrent map has a stable fixed point for each of the eight
memories, with saddles between them: the corners, edges, faces and centre of a cube. Two checks test
whether the search has found all of them. Over the fixed points of a map of a ball into itself,
Σ sign det(1 − J) = 1 (Brouwer degree). And from the two sides of a saddle with one unstable
direction, the state converges to two memories that should differ in one bit.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import rnnlab
from experiments.common import Record, experiment
from rnnlab.diagnostics import FixedPoints, fixed_points, sample_states
from rnnlab.typing import Array, Key, PyTree

STEPS, BATCH, BITS, HIDDEN = 64, 32, 3, 16

task = rnnlab.tasks.flip_flop(STEPS, BITS)
cell, readout = rnnlab.RNN(HIDDEN), rnnlab.Readout(BITS)
model = rnnlab.stack([cell, readout])


class Plan(NamedTuple):
    """The size of the experiment: updates, starting points of the search, seeds."""

    updates: int = 500
    starts: int = 1024
    seeds: int = 5


QUICK = Plan(updates=100, starts=64, seeds=1)


@functools.partial(jax.jit, static_argnums=1)
def train(key: Key, updates: int) -> tuple[PyTree, Array]:
    """Trained parameters, and the mean squared error at the last update."""
    optimiser = optax.adam(optax.cosine_decay_schedule(0.02, updates))

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
    keys = jax.random.split(k_data, updates)
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


def examined(seed: int, plan: Plan) -> Record:
    """A trained network and its fixed points without input."""
    k_train, k_pulses, k_starts = jax.random.split(jax.random.key(seed), 3)
    params, error = train(k_train, plan.updates)
    states, _ = rnnlab.unroll_states(cell, params.layers[0], task.sample(k_pulses, BATCH).xs)
    starts = sample_states(k_starts, states, plan.starts, noise=1.0)
    points = fixed_points(cell, params.layers[0], jnp.zeros(BITS), starts)
    stable = memories(params, points.states[points.unstable == 0])
    counts = np.bincount(points.unstable, minlength=HIDDEN + 1)
    degree = int(np.sign(np.prod(1 - points.eigenvalues, axis=1).real).sum())
    return {
        "seed": seed,
        "squared_error": float(error),
        "memories": len(np.unique(stable, axis=0)),
        "points": counts.tolist(),
        "degree": degree,
        "differing_bits": differing_bits(params, points),
    }


def run(quick: bool) -> Record:
    """The fixed points of a network of each seed."""
    plan = QUICK if quick else Plan()
    print(f"{'':30}points by unstable directions{'Σ sign':>12}  bits that differ")
    print(
        f"{'seed':>4}{'squared error':>15}{'memories':>11}{0:8}{1:5}{2:5}{3:5}{'more':>6}"
        f"{'det(1−J)':>12}  across saddles with one"
    )
    rows = []
    for seed in range(plan.seeds):
        row = examined(seed, plan)
        rows.append(row)
        zero, one, two, three, *more = row["points"]
        print(
            f"{seed:4}{row['squared_error']:15.1e}{row['memories']:11}{zero:8}{one:5}{two:5}"
            f"{three:5}{sum(more):6}{row['degree']:12}"
            f"  {' '.join(map(str, row['differing_bits']))}"
        )
    return {"finding": finding(rows), "plan": plan._asdict(), "hidden": HIDDEN, "rows": rows}


def finding(rows: list[Record]) -> str:
    """How many networks have a stable point for each memory, in one sentence."""
    right = [row for row in rows if row["points"][0] == row["memories"] == 2**BITS]
    saddles = [row["points"][1] for row in rows]
    between = str(min(saddles))
    if max(saddles) > min(saddles):
        between += f" to {max(saddles)}"
    bits = [bit for row in rows for bit in row["differing_bits"]]
    one = sum(bit == 1 for bit in bits)
    return (
        f"{len(right)} of {len(rows)} trained networks have exactly {2**BITS} stable fixed points, "
        f"one for each memory; {between} saddles with one unstable "
        f"direction lie between them, and {one} of {len(bits)} of these separate memories that "
        "differ in one bit."
    )


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run)


if __name__ == "__main__":
    main()
