"""The learning-rate range test: the loss while the learning rate rises."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnnlab import _check
from rnnlab._results import result
from rnnlab.training import options, program
from rnnlab.training.step import Loss, initial_state, train_step
from rnnlab.typing import PyTree

SMOOTHING = 0.95
"""β of the moving average of the losses, whose bias towards zero at the start is corrected."""

LEAST = 10
"""The fewest steps of a test."""


@result
class RangeTest(NamedTuple):
    """Losses against learning rates; NumPy arrays.

    Attributes:
        learning_rates: ``[N]``, rising.
        losses: ``[N]``, before each update; NaN from where the loss was no longer finite.
        smoothed: ``[N]``, their moving average.
        steepest: the learning rate at which the smoothed loss falls fastest; one to train with.
        largest: the learning rate of the lowest smoothed loss, above which training is unstable.
    """

    learning_rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    steepest: float
    largest: float

    def finding(self) -> str:
        """The two learning rates."""
        return (
            f"The loss falls fastest at a learning rate of {self.steepest:.2g} and is lowest at "
            f"{self.largest:.2g}."
        )


def range_test(
    loss: Loss,
    params: PyTree,
    data: Any,
    optimiser: optax.GradientTransformation,
    *,
    low: float = 1e-6,
    high: float = 1.0,
    steps: int = 200,
    seed: int = 0,
) -> RangeTest:
    """Trains while the learning rate rises from ``low`` to ``high`` by a constant factor per step.

    Smith 2017 (arXiv 1506.01186), with the exponential rise that is usual now. ``params`` are not
    changed.

    Args:
        loss: ``loss(params, batch, key) -> (value, metrics)``.
        params: initial parameters.
        data: batches of one shape, ``data[i]``.
        optimiser: with a learning rate of 1, such as ``optax.adam(1.0)``; its updates are scaled.
        low: the first learning rate.
        high: the last one.
        steps: N.
        seed: of dropout.

    Returns:
        The :class:`RangeTest`.

    Raises:
        ValueError: unless 0 < ``low`` < ``high``, for fewer than 10 steps or fewer batches than
            steps, and for a loss that is not finite even at the lowest learning rates.

    >>> def loss(params, batch, key):
    ...     return jnp.mean((params - batch) ** 2), {}
    >>> test = range_test(loss, jnp.zeros(3), [jnp.ones(3)] * 50, optax.sgd(1.0), steps=50)
    >>> bool(1e-6 < test.steepest <= test.largest <= 1)
    True
    """
    steps = _check.positive_int("steps", steps)
    if steps < LEAST:
        raise ValueError(f"steps is {steps}; give at least {LEAST}, or the curve says nothing")
    for name, rate in (("low", low), ("high", high)):
        _check.number(name, rate)
    if not 0 < low < high:
        raise ValueError(f"low is {low} and high is {high}; give 0 < low < high")
    options.check_data(data, steps)
    rates = np.geomspace(low, high, steps)

    def rate_of(step: Any) -> Any:
        return jnp.asarray(rates)[step]

    scaled = optax.chain(optimiser, optax.scale_by_schedule(rate_of))
    step = program.compiled(train_step(loss, scaled))
    state = initial_state(jax.tree.map(jnp.array, params), scaled, jax.random.key(seed))
    losses = np.full(steps, np.nan)
    room = program.capacity(data[0])
    done = 0
    while done < steps:
        batches = [data[index] for index in range(done, min(done + room, steps))]
        # Ends at the first loss that is not finite.
        state, metrics, count = step(state, program.stack(batches, room), len(batches), 1)
        losses[done : done + int(count)] = np.asarray(metrics["loss"])[: int(count)]
        if int(state.skipped):
            break
        done += len(batches)
    return _summary(rates, losses)


def _summary(rates: np.ndarray, losses: np.ndarray) -> RangeTest:
    smoothed = np.full_like(losses, np.nan)
    average = 0.0
    for index, loss in enumerate(losses):
        if not np.isfinite(loss):
            break
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smoothed[index] = average / (1 - SMOOTHING ** (index + 1))
    finite = np.flatnonzero(np.isfinite(smoothed))
    if finite.size < 2:
        raise ValueError(
            "the loss is not finite at the lowest learning rates; give a smaller low, or look at "
            "the data"
        )
    lowest = finite[np.argmin(smoothed[finite])]
    # The average of the first few losses is noisy, and its slope says nothing.
    first = min(LEAST, max(lowest - 1, 0))
    falling = slice(first, lowest + 1)
    steepest = lowest
    if lowest > first:
        slopes = np.gradient(smoothed[falling], np.log(rates[falling]))
        steepest = first + int(np.argmin(slopes))
    return RangeTest(rates, losses, smoothed, float(rates[steepest]), float(rates[lowest]))
