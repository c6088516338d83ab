"""Many runs in one program: seeds, learning rates and other numbers side by side."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from rnnlab import _check
from rnnlab.training import options
from rnnlab.training.program import stack
from rnnlab.training.step import Loss, TrainState, initial_state, train_step
from rnnlab.typing import Array, Key, PyTree

CHUNK = 16
"""Batches that are copied to the device together."""


class Sweep(NamedTuple):
    """The result of :func:`sweep`; R runs.

    Attributes:
        varied: ``[R]`` for each number that was varied.
        params: the final parameters, leaves ``[R, ...]``.
        metrics: ``[R, steps]`` for each metric.
    """

    varied: dict[str, np.ndarray]
    params: PyTree
    metrics: dict[str, np.ndarray]


def sweep(
    init: Callable[..., PyTree],
    loss: Loss,
    data: Any,
    optimiser: Callable[..., optax.GradientTransformation],
    varied: Mapping[str, Any],
    *,
    steps: int,
    average: float | None = None,
) -> Sweep:
    """Trains R networks side by side, on the same batches, by ``jax.vmap`` over what differs.

    ``varied`` holds R values for each name, one for each run. All runs are one compiled program:
    small networks, whose steps leave a processor idle, train at nearly the cost of one.

    >>> import rnnlab
    >>> def loss(params, batch, key):
    ...     return jnp.mean((params - batch) ** 2), {}
    >>> result = sweep(
    ...     lambda key, gain: gain * jax.random.normal(key, (3,)),
    ...     loss,
    ...     [np.ones(3)] * 5,
    ...     lambda learning_rate: optax.sgd(learning_rate),
    ...     {"seed": [0, 1], "learning_rate": [0.1, 0.2], "gain": [1.0, 2.0]},
    ...     steps=5,
    ... )
    >>> result.metrics["loss"].shape
    (2, 5)

    Args:
        init: ``init(key, **numbers) -> params``, with those of the names that it takes.
        loss: ``loss(params, batch, key) -> (value, metrics)``.
        data: batches of one shape, ``data[i]``.
        optimiser: ``optimiser(**numbers)``, with those of the names that it takes; the numbers are
            traced.
        varied: ``[R]`` for each name; "seed", whole numbers, chooses the key of initial parameters
            and of dropout. Every other name must be an argument of ``init`` or ``optimiser``.
        steps: of each run.
        average: see :func:`rnnlab.training.train_step`; ``params`` are then the averages.

    Returns:
        The :class:`Sweep`.

    Raises:
        ValueError: for lists of different lengths, a name that nothing takes, no runs, or fewer
            batches than steps.
    """
    steps = _check.positive_int("steps", steps)
    arrays = _arrays(varied)
    names = {"init": _taken(init, arrays), "optimiser": _taken(optimiser, arrays)}
    unused = set(arrays) - {"seed", *names["init"], *names["optimiser"]}
    if unused:
        raise ValueError(
            f"{min(unused)} is varied, but neither init nor optimiser takes it; add it to one of "
            "them, or leave it out"
        )
    options.check_data(data, steps)

    def optimiser_of(run: dict[str, Array]) -> optax.GradientTransformation:
        return optimiser(**{name: run[name] for name in names["optimiser"]})

    def start(run: dict[str, Array]) -> TrainState:
        k_init, k_train = jax.random.split(_key(run))
        params = init(k_init, **{name: run[name] for name in names["init"]})
        return initial_state(params, optimiser_of(run), k_train, average=average is not None)

    @jax.jit
    def advance(
        states: TrainState, runs: dict[str, Array], batches: PyTree
    ) -> tuple[TrainState, dict[str, Array]]:
        def one(state: TrainState, run: dict[str, Array]) -> Any:
            step = train_step(loss, optimiser_of(run), average=average)
            return lax.scan(step, state, batches)

        return jax.vmap(one)(states, runs)

    states = jax.jit(jax.vmap(start))(arrays)
    rows = []
    for first in range(0, steps, CHUNK):
        batches = [data[index] for index in range(first, min(first + CHUNK, steps))]
        states, metrics = advance(states, arrays, stack(batches, len(batches)))
        rows.append(jax.device_get(metrics))
    joined = {name: np.concatenate([row[name] for row in rows], axis=1) for name in rows[0]}
    params = states.params if average is None else states.average
    return Sweep({name: np.asarray(value) for name, value in arrays.items()}, params, joined)


def _arrays(varied: Mapping[str, Any]) -> dict[str, Array]:
    arrays = {name: jnp.asarray(values) for name, values in varied.items()}
    sizes = {name: array.shape for name, array in arrays.items()}
    if not arrays or any(len(shape) != 1 for shape in sizes.values()):
        raise ValueError(
            f"varied has the shapes {sizes}; give a list of R numbers for each name, such as "
            '{"seed": [0, 1, 2]}'
        )
    if len(set(sizes.values())) > 1 or not arrays[next(iter(arrays))].size:
        raise ValueError(f"varied has the shapes {sizes}; give lists of one length, at least 1")
    return arrays


def _taken(function: Callable[..., Any], arrays: Mapping[str, Any]) -> list[str]:
    """The names among ``arrays`` that are arguments of ``function``."""
    parameters = inspect.signature(function).parameters
    return [name for name in arrays if name in parameters and name != "seed"]


def _key(run: dict[str, Array]) -> Key:
    return jax.random.key(run.get("seed", 0))
