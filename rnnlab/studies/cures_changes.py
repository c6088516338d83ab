"""The cures that change the training, or take a cell without a name.

Each function is ``change(candidate) -> candidate``; an entry of ``cures_registry`` names it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import lax

from rnnlab.cells import BatchNormLSTM
from rnnlab.data import Batch
from rnnlab.driver import unroll
from rnnlab.layers import stack
from rnnlab.models.sequence import SequenceModel
from rnnlab.studies import task_training
from rnnlab.studies.cures_settings import CuresSettings
from rnnlab.tasks import Task
from rnnlab.training import flossing_loss, pascanu_omega
from rnnlab.training.losses import cross_entropy
from rnnlab.training.step import Loss, initial_state, train_step
from rnnlab.typing import Array, Key, PyTree

OMEGA = 2.0
"""The weight of Ω in the loss; its authors take .5 to 4."""
FLOSSED = 8
"""The number of exponents that flossing brings to zero."""
BEFORE = 100
"""Updates of flossing and of pre-training."""

Prepare = Callable[[PyTree, Key], PyTree]


class Candidate(NamedTuple):
    """A network with a cure, and how it is trained.

    Attributes:
        settings: those of the study.
        task: what it learns.
        model: the model of the task.
        optimiser: any optax transformation.
        loss: what is minimised; None for the loss of the model.
        prepare: what is done before the training; None for nothing.
        is_measured: whether the instruments take the cell.
    """

    settings: CuresSettings
    task: Task
    model: SequenceModel
    optimiser: optax.GradientTransformation
    loss: Loss | None = None
    prepare: Prepare | None = None
    is_measured: bool = True


def batch_norm(candidate: Candidate) -> Candidate:
    """An LSTM whose statistics of a batch the instruments refuse."""
    settings = candidate.settings
    cell = BatchNormLSTM(settings.hidden_size, param_dtype=settings.precision)
    return _with_cell(candidate, cell)._replace(is_measured=False)


def residual(candidate: Candidate) -> Candidate:
    """Two layers, with a residual connection around the second."""
    cell = candidate.model.cell
    return _with_cell(candidate, stack([cell, cell], residual=True))


def _with_cell(candidate: Candidate, cell: Any) -> Candidate:
    return candidate._replace(model=dataclasses.replace(candidate.model, cell=cell))


def rmsprop(candidate: Candidate) -> Candidate:
    """RMSprop."""
    return candidate._replace(optimiser=optax.rmsprop(candidate.settings.learning_rate))


def momentum(candidate: Candidate) -> Candidate:
    """Gradient descent with momentum."""
    # The step of Adam is about the learning rate; that of gradient descent needs a larger one.
    learning_rate = 10 * candidate.settings.learning_rate
    return candidate._replace(optimiser=optax.sgd(learning_rate, momentum=0.9))


def clipping(candidate: Candidate) -> Candidate:
    """The norm of the gradient at most 1."""
    clip = optax.clip_by_global_norm(1.0)
    return candidate._replace(optimiser=optax.chain(clip, candidate.optimiser))


def omega(candidate: Candidate) -> Candidate:
    """The loss of the model and Ω of its cell."""
    model = candidate.model

    def loss(params: PyTree, batch: Batch, key: Key | None) -> tuple[Array, dict[str, Array]]:
        def of_outputs(ys: Array, params: PyTree, batch: Batch) -> Array:
            return model.score(model.head(params, ys, batch), batch)[0]

        value, metrics = model.loss(params, batch, key)
        xs = task_training.embedded(model, params, batch.xs)
        regulariser = pascanu_omega(model.cell, params.cell, xs, of_outputs, params, batch)
        return value + OMEGA * regulariser, metrics

    return candidate._replace(loss=loss)


def truncation(candidate: Candidate) -> Candidate:
    """The loss of the model, whose gradient ends half the lag before the end."""
    model = candidate.model
    window = max(candidate.settings.lag // 2, 1)

    def loss(params: PyTree, batch: Batch, key: Key | None) -> tuple[Array, dict[str, Array]]:
        del key
        xs = task_training.embedded(model, params, batch.xs)
        cut = max(xs.shape[0] - window, 0)
        state, early = unroll(model.cell, params.cell, xs[:cut])
        _, late = unroll(model.cell, params.cell, xs[cut:], lax.stop_gradient(state))
        ys = jnp.concatenate([lax.stop_gradient(early), late])
        return model.score(model.head(params, ys, batch), batch)

    return candidate._replace(loss=loss)


def flossing(candidate: Candidate) -> Candidate:
    """Parameters whose first exponents on sequences of the task are near zero."""
    model = candidate.model
    count = min(FLOSSED, candidate.settings.hidden_size)

    def loss(params: PyTree, batch: Batch) -> Array:
        xs = task_training.embedded(model, params, batch.xs[:, :2])
        return flossing_loss(model.cell, params.cell, xs, count=count)

    return _then(candidate, _minimised(candidate, loss))


def pre_training(candidate: Candidate) -> Candidate:
    """Parameters of a cell that has learned to predict the next input of the task."""
    model, task = candidate.model, candidate.task

    def loss(both: tuple[PyTree, Array], batch: Batch) -> Array:
        params, readout = both
        xs = task_training.embedded(model, params, batch.xs)
        _, ys = unroll(model.cell, params.cell, xs)
        predicted = ys[:-1] @ readout
        if model.embedding is None:
            return jnp.mean((predicted - xs[1:]) ** 2)
        return cross_entropy(predicted, batch.xs[1:])

    minimise = _minimised(candidate, loss)
    predicted_size = task.vocabulary_size or task.input_size

    def prepare(params: PyTree, key: Key) -> PyTree:
        shape = model.cell.output_size, predicted_size
        readout = jnp.zeros(shape, candidate.settings.precision)
        return minimise((params, readout), key)[0]

    return _then(candidate, prepare)


def _then(candidate: Candidate, second: Prepare) -> Candidate:
    """The candidate with a further preparation."""
    first = candidate.prepare
    if first is None:
        return candidate._replace(prepare=second)
    return candidate._replace(prepare=lambda params, key: second(first(params, key), key))


def _minimised(
    candidate: Candidate, loss: Callable[[Any, Batch], Array]
) -> Callable[[Any, Key], Any]:
    """``BEFORE`` updates of Adam on ``loss(params, batch)``."""
    settings = candidate.settings
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(settings.learning_rate))

    def with_metrics(params: Any, batch: Batch, key: Key | None) -> tuple[Array, dict]:
        del key
        return loss(params, batch), {}

    step = train_step(with_metrics, optimiser)
    advance = task_training.updates(candidate.task, step, settings.batch_size)

    def minimise(params: Any, key: Key) -> Any:
        return advance(initial_state(params, optimiser, key), key, 0, BEFORE).params

    return minimise
