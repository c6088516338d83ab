"""The loss on held-out data: validation during a run, and its average over batches."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from rnnlab import _check
from rnnlab.training.step import COUNT, Loss, check_loss
from rnnlab.typing import PyTree


class Validation(NamedTuple):
    """When and on what a run is validated.

    Attributes:
        data: held-out batches, ``data[i]``.
        every: steps between two validations.
        batches: how many; by default ``data.batches_per_epoch``, and of a list all.
        patience: the run ends after this many validations without a lower loss; None for never.
        carry: the initial state of a carried loss for these batches.
    """

    data: Any
    every: int = 100
    batches: int | None = None
    patience: int | None = None
    carry: PyTree = None


def evaluate(
    loss: Loss,
    params: PyTree,
    data: Any,
    batches: int | None = None,
    *,
    carry: PyTree = None,
) -> dict[str, float]:
    """Means of the loss and its metrics over batches, each weighed by its "count" if it has one.

    A batch whose count is 0 is left out.

    Args:
        loss: ``loss(params, batch, key) -> (value, metrics)``; the key is None.
        params: the parameters.
        data: batches, ``data[i]``.
        batches: the number of batches, the first ones; by default ``data.batches_per_epoch``, and
            of a list all.
        carry: the initial state of a carried loss.

    Returns:
        The means by name, "loss" among them, as Python numbers.

    Raises:
        ValueError: for a loss that takes other arguments, a whole run as params, for no batches,
            and where no target of any batch counts.

    >>> import jax.numpy as jnp
    >>> def loss(params, batch, key):
    ...     return jnp.mean((params - batch) ** 2), {}
    >>> evaluate(loss, jnp.zeros(()), [jnp.ones(3), 3 * jnp.ones(3)], batches=2)
    {'loss': 5.0}
    """
    check_loss(loss, carry is not None, "carry=..., such as model.initial_state(batch_size)")
    if hasattr(params, "best_params"):
        raise ValueError("params is the result of fit; give its parameters, such as run.params")
    batches = batch_count("batches", data, batches)
    measure = _measured(loss)
    data = checked_data(loss, data)
    # In float64 on the host, so that the mean over many batches loses no digits.
    sums: dict[str, float] = {}
    weight = 0.0
    for index in range(batches):
        metrics, carry = measure(params, data[index], carry)
        metrics = jax.device_get(metrics)
        count = float(metrics.pop(COUNT, 1.0))
        if count == 0:
            # A mean over no targets may be NaN, and 0 · NaN too.
            continue
        weight += count
        for name, value in metrics.items():
            sums[name] = sums.get(name, 0.0) + count * float(value)
    if weight == 0:
        raise ValueError(
            f"no target counts in any of the {batches} batches, so there is no mean; give batches "
            "whose mask leaves some targets"
        )
    return {name: total / weight for name, total in sums.items()}


def checked_data(loss: Loss, data: Any) -> Any:
    """``data`` with checks of its batches, where ``loss`` belongs to a model that checks them."""
    # Inside compiled code a label out of range is not an error: it gives NaN.
    check = getattr(getattr(loss, "__self__", None), "check_batch", None)
    return data if check is None else _CheckedData(data, check)


class _CheckedData:
    """Data whose batches are checked by their model when they are read.

    Batches on a device are checked once, since that waits for them.
    """

    def __init__(self, data: Any, check: Callable[[Any], None]) -> None:
        self.data = data
        self.check = check
        self.is_first = True

    def __getitem__(self, index: int) -> Any:
        batch = self.data[index]
        is_on_host = all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(batch))
        if is_on_host or self.is_first:
            self.is_first = False
            try:
                self.check(batch)
            except ValueError as fault:
                raise ValueError(f"batch {index} cannot be used: {fault}") from fault
        return batch


def batch_count(name: str, data: Any, batches: int | None) -> int:
    """The number of batches, by default one epoch, and of a list all.

    ValueError where there are not so many. ``name`` is that of the option, such as
    "validation.batches".
    """
    source = name.replace("batches", "data")
    if batches is None:
        batches = _all_batches(source, data)
        if batches is None:
            raise ValueError(
                f"{source} has no batches_per_epoch; give the number of batches as {name}"
            )
    batches = _check.positive_int(name, batches)
    if isinstance(data, list | tuple) and len(data) < batches:
        raise ValueError(
            f"{name} is {batches}, but {source} holds {len(data)}; give at most that many, or more "
            "data"
        )
    return batches


def _all_batches(name: str, data: Any) -> int | None:
    """The number of batches in an epoch or a list; None where it is not known."""
    if not isinstance(data, list | tuple):
        return getattr(data, "batches_per_epoch", None)
    if not data:
        raise ValueError(f"{name} is empty; give at least one batch")
    return len(data)


# A loss that is a method of a hashable model is found again, and is not compiled a second time.
@functools.lru_cache(maxsize=32)
def _measured(loss: Loss) -> Callable[..., tuple[dict[str, Any], PyTree]]:
    @jax.jit
    def measure(params: PyTree, batch: PyTree, carry: PyTree) -> tuple[dict[str, Any], PyTree]:
        if carry is None:
            value, metrics = loss(params, batch, None)
        else:
            value, (metrics, carry) = loss(params, batch, None, carry)
        return {**metrics, "loss": value}, carry

    return measure
