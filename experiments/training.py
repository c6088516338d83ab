"""How experiments train: all seeds in one program, by Adam with a decaying learning rate."""

from collections.abc import Callable
from typing import Any

import optax

from rnnlab.training import sweep


def decayed_adam(
    rate: float, updates: int, weight_decay: float | None = None
) -> optax.GradientTransformation:
    """Adam, or AdamW, on gradients clipped to the norm 1; the rate decays to 0 as a cosine."""
    rates = optax.cosine_decay_schedule(rate, updates)
    adam = optax.adam(rates)
    if weight_decay is not None:
        adam = optax.adamw(rates, weight_decay=weight_decay)
    return optax.chain(optax.clip_by_global_norm(1.0), adam)


def trained_seeds(
    model: Any,
    data: Any,
    rate: float,
    updates: int,
    seeds: int,
    *,
    weight_decay: float | None = None,
    init: Callable[[Any], Any] | None = None,
    loss: Callable[..., Any] | None = None,
) -> Any:
    """The parameters ``[seeds, ...]`` of one model, trained with the seeds 0, 1, ...

    ``init(key)`` and ``loss(params, batch, key)`` take the place of those of the model.
    """

    def start(key: Any) -> Any:
        return model.init(key, data[0])

    trained = sweep(
        init or start,
        loss or model.loss,
        data,
        lambda: decayed_adam(rate, updates, weight_decay),
        {"seed": list(range(seeds))},
        steps=updates,
    )
    return trained.params
