"""The training step, with clipping and optimisers from optax."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

from rnnlab.driver import unroll
from rnnlab.training.losses import cross_entropy
from rnnlab.typing import Array, Cell, PyTree


class Metrics(NamedTuple):
    """Loss and gradient norm of one training step, before its update; scalars."""

    # Mean cross-entropy, nats.
    loss: Array
    # ‖∂L/∂θ‖ over all parameters, before clipping.
    gradient_norm: Array


class TrainState(NamedTuple):
    """The state of training between steps."""

    params: PyTree
    optimiser: PyTree


def adam(learning_rate: float, clip: float | None = None) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015), on gradients clipped to the global norm ``clip`` if there is one.

    ĝ ← clip · ĝ/‖ĝ‖ if ‖ĝ‖ ≥ clip (Pascanu, Mikolov & Bengio 2013, Algorithm 1).
    """
    step = optax.adam(learning_rate)
    if clip is None:
        return step
    return optax.chain(optax.clip_by_global_norm(clip), step)


def train_step(
    model: Cell, optimiser: optax.GradientTransformation
) -> Callable[[TrainState, Array, Array], tuple[TrainState, Metrics]]:
    """A pure function ``(state, xs, labels) -> (state, metrics)``: one step on the cross-entropy.

    The loss is the mean over all positions, in nats; xs ``[T, B, I]``, labels ``[T, B]``. The
    function is not compiled: put ``jax.jit``, and ``jax.vmap`` over seeds, around it.

    >>> import jax, rnnlab
    >>> cell, optimiser = rnnlab.GRU(16), adam(1e-3, clip=1.0)
    >>> params = cell.init(jax.random.key(0), input_size=4)
    >>> state = TrainState(params, optimiser.init(params))
    >>> xs, labels = jax.numpy.ones((60, 8, 4)), jax.numpy.zeros((60, 8), int)
    >>> state, metrics = jax.jit(train_step(cell, optimiser))(state, xs, labels)
    """

    def step(state: TrainState, xs: Array, labels: Array) -> tuple[TrainState, Metrics]:
        def loss(params: PyTree) -> Array:
            _, logits = unroll(model, params, xs)
            return cross_entropy(logits, labels)

        value, gradient = jax.value_and_grad(loss)(state.params)
        # Some optimisers, such as those with weight decay, need the parameters too.
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        metrics = Metrics(value, optax.tree.norm(gradient))
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, optimiser_state), metrics

    return step
