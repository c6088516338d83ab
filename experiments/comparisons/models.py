"""What is compared with recurrent networks trained by full backpropagation through time."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import rnnlab
from rnnlab.cells import GRUParams, GRUState
from rnnlab.data import Batch
from rnnlab.tasks import Digits, Task
from rnnlab.training import cross_entropy
from rnnlab.typing import Array, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneStepGRU(rnnlab.GRU):
    """A GRU whose gradient is cut after one step: the old state counts as a constant.

    Its values are those of the GRU. The loss of a step reaches the weights through that step alone,
    as in truncated backpropagation with k₂ = 1.
    """

    def step(self, params: GRUParams, state: GRUState, x: Array) -> tuple[GRUState, Array]:
        return super().step(params, jax.lax.stop_gradient(state), x)


class FeedForwardParams(NamedTuple):
    """w ``[T · I, H]``, b ``[H]``, and the readout v ``[H, O]`` and c ``[O]``."""

    w: Array
    b: Array
    v: Array
    c: Array


@dataclasses.dataclass(frozen=True)
class FeedForward:
    """A feed-forward network that sees all steps of a sequence at once: ŷ = relu(x W + b) V + c.

    x is the flattened sequence, T · I numbers, so that W grows with its length.

    Attributes:
        task: with one target for each sequence.
        hidden: H.
    """

    task: Task
    hidden: int

    def init(self, key: Key, batch: Batch) -> FeedForwardParams:
        """Glorot's initial weights and zero biases; only the shapes of ``batch`` matter."""
        steps, _, features = batch.xs.shape
        k_in, k_out = jax.random.split(key)
        draw = rnnlab.initializers.glorot_uniform()
        return FeedForwardParams(
            w=draw(k_in, (steps * features, self.hidden)),
            b=jnp.zeros(self.hidden),
            v=draw(k_out, (self.hidden, self.task.outputs)),
            c=jnp.zeros(self.task.outputs),
        )

    def apply(self, params: FeedForwardParams, batch: Batch) -> Array:
        """The outputs ``[B, O]``."""
        xs = jnp.moveaxis(batch.xs, 1, 0)
        flat = xs.reshape(len(xs), -1)
        return jax.nn.relu(flat @ params.w + params.b) @ params.v + params.c

    def loss(
        self, params: FeedForwardParams, batch: Batch, key: Key | None = None
    ) -> tuple[Array, Any]:
        """The mean cross-entropy with "accuracy", or the mean squared error."""
        del key
        outputs = self.apply(params, batch)
        if self.task.kind == "numbers":
            return jnp.mean((outputs[:, 0] - batch.targets) ** 2), {}
        accuracy = jnp.mean(outputs.argmax(axis=-1) == batch.targets)
        return cross_entropy(outputs, batch.targets), {"accuracy": accuracy}


@dataclasses.dataclass(frozen=True)
class FewDigits(Digits):
    """The digits with a small training set.

    Attributes:
        count: how many images of the training split are drawn from, the first ones.
    """

    count: int

    def draw(self, key: Key, batch_size: int) -> Batch:
        """``batch_size`` images, drawn with replacement."""
        images = self.examples()
        chosen = jax.random.randint(key, (batch_size,), 0, self.count)
        return Batch(images.xs[:, chosen], images.targets[chosen])

    def held_out(self) -> Digits:
        """The digits of the test split, all of them."""
        return Digits(self.permuted, "test")
