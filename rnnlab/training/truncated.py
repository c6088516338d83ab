"""Truncated backpropagation through time: a state that is carried from window to window."""

from typing import Any

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab._wording import counted
from rnnlab.training.step import Loss
from rnnlab.typing import Array, Key, PyTree


def truncated_loss(model: Any, length: int) -> Loss:
    """A carried loss of windows: BPTT(k₁, k₂) of Williams & Peng 1990, Neural Computation 2(4).

    A window has k₂ steps: ``context`` steps of the window before, whose targets do not count again,
    and k₁ = ``length`` new ones, as :func:`rnnlab.data.streams` cuts them. The gradient of each new
    target thus reaches at least ``context`` steps back, at most k₂. The state after the first k₁
    steps is handed on, since the next window begins there. Where one window holds the whole text,
    the gradient is the full one.

    Args:
        model: with ``run`` and ``score``, such as :func:`rnnlab.models.language_model`.
        length: k₁, the number of new steps.

    Returns:
        ``loss(params, batch, key, carry) -> (value, (metrics, carry))``; begin with
        ``carry=model.initial_state(batch_size)``.

    Raises:
        ValueError: for a ``length`` below 1, windows that are shorter, and batches with lengths.

    >>> import rnnlab, optax
    >>> model = rnnlab.models.language_model(rnnlab.GRU(8), 5)
    >>> data = rnnlab.data.streams([0, 1, 2, 3, 4] * 50, batch_size=4, length=10, context=5)
    >>> run = rnnlab.training.fit(
    ...     model, data, optax.adam(1e-2), steps=5, loss=truncated_loss(model, 10),
    ...     carry=model.initial_state(4), progress=False)
    >>> run.metrics["loss"].shape
    (5,)
    """
    length = _check.positive_int("length", length)

    def loss(
        params: PyTree, batch: Any, key: Key | None, carry: PyTree
    ) -> tuple[Array, tuple[dict[str, Array], PyTree]]:
        steps = batch.xs.shape[0]
        if steps < length:
            raise ValueError(
                f"the windows have {counted(steps, 'step')}, but length is {length}; give streams "
                "of that length"
            )
        if batch.lengths is not None:
            raise ValueError(
                "the batch has lengths, but a carried state goes on beyond them; give streams, or "
                "the model's own loss for sequences that are padded"
            )
        k_first, k_rest = (None, None) if key is None else jax.random.split(key)
        resets = batch.resets
        first_resets = None if resets is None else resets[:length]
        state, logits = model.run(
            params, batch.xs[:length], carry, resets=first_resets, key=k_first
        )
        if steps > length:
            rest_resets = None if resets is None else resets[length:]
            _, rest = model.run(params, batch.xs[length:], state, resets=rest_resets, key=k_rest)
            logits = jnp.concatenate([logits, rest])
        value, metrics = model.score(logits, batch)
        return value, (metrics, state)

    return loss
