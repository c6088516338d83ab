"""The training step; optax clips and optimises."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

from rnnlab.driver import unroll
from rnnlab.training.losses import cross_entropy
from rnnlab.typing import Array, Cell, PyTree


class Metrics(NamedTuple):
    """What one training step saw, before its update; scalars."""

    loss: Array  # mean cross-entropy, nats
    gradient_norm: Array  # ‖∂L/∂θ‖ over all parameters, before clipping


class TrainState(NamedTuple):
    """What training carries from step to step."""

    params: PyTree
    optimiser: PyTree


def adam(learning_rate: float, clip: float | None = None) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015), on gradients clipped to the global norm ``clip`` where it is given.

    ĝ ← clip · ĝ/‖ĝ‖ if ‖ĝ‖ ≥ clip (Pascanu, Mikolov & Bengio 2013, Algorithm 1).
    """
    step = optax.adam(learning_rate)
    return step if clip is None else optax.chain(optax.clip_by_global_norm(clip), step)


def train_step(
    model: Cell, optimiser: optax.GradientTransformation
) -> Callable[[TrainState, Array, Array], tuple[TrainState, Metrics]]:
    """A pure function ``(state, xs, labels) -> (state, metrics)``: one step on the mean cross-entropy, in nats.

    xs ``[T, B, I]``, labels ``[T, B]``. It is not compiled: put ``jax.jit``, and ``jax.vmap`` over seeds, around it.
    """

    def step(state: TrainState, xs: Array, labels: Array) -> tuple[TrainState, Metrics]:
        def loss(params: PyTree) -> Array:
            return cross_entropy(unroll(model, params, xs)[1], labels)

        value, gradient = jax.value_and_grad(loss)(state.params)
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        metrics = Metrics(value, optax.tree.norm(gradient))
        return TrainState(optax.apply_updates(state.params, updates), optimiser_state), metrics

    return step
