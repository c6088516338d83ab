"""The training step; optax clips and optimises."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

from rnnlab.driver import unroll
from rnnlab.losses import cross_entropy
from rnnlab.typing import Array, Cell, PyTree


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
) -> Callable[[TrainState, Array, Array], tuple[TrainState, Array]]:
    """A pure function ``(state, xs, labels) -> (state, loss)`` that takes one step on the mean cross-entropy, in nats.

    xs ``[T, B, I]``, labels ``[T, B]``. It is not compiled: put ``jax.jit``, and ``jax.vmap`` over seeds, around it.
    """

    def step(state: TrainState, xs: Array, labels: Array) -> tuple[TrainState, Array]:
        def loss(params: PyTree) -> Array:
            return cross_entropy(unroll(model, params, xs)[1], labels)

        value, gradient = jax.value_and_grad(loss)(state.params)
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        return TrainState(optax.apply_updates(state.params, updates), optimiser_state), value

    return step
