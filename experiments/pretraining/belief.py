"""A deep belief network: layers of restricted Boltzmann machines, and their fine-tuning."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from rnnlab import initializers, tasks
from rnnlab.training import cross_entropy, initial_state, train_step
from rnnlab.typing import Array, Key

CLASSES = 10


class Layer(NamedTuple):
    """w ``[in, out]`` and b ``[out]``."""

    w: Array
    b: Array


class Images(NamedTuple):
    """Pixels ``[N, 64]`` in [0, 1] and labels ``[N]``."""

    pixels: np.ndarray
    labels: np.ndarray


def images(split: str) -> Images:
    """scikit-learn's digits, "train" or "test"; ImportError where that is not installed."""
    task = tasks.digits()
    batch = (task if split == "train" else task.held_out()).examples()
    return Images(np.asarray(batch.xs[..., 0].T), np.asarray(batch.targets))


def label_weights(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """``[N]``: 1/count for as many random examples of each digit, 0 for the others."""
    weights = np.zeros(len(labels), np.float32)
    order = np.random.default_rng(seed).permutation(len(labels))
    for digit in range(CLASSES):
        is_digit = labels[order] == digit
        weights[order[is_digit][: count // CLASSES]] = 1 / count
    return weights


class Machine(NamedTuple):
    """A restricted Boltzmann machine: w ``[V, H]``, biases of the units a ``[V]``, b ``[H]``.

    E(v, h) = −v W h − a v − b h; p(h = 1 | v) = σ(v W + b), p(v = 1 | h) = σ(W h + a).
    """

    w: Array
    a: Array
    b: Array


def contrastive_divergence(machine: Machine, visible: Array, key: Key) -> Machine:
    """The update of contrastive divergence with one step, ⟨v h⟩₀ − ⟨v h⟩₁ (Hinton 2002).

    Hidden units are drawn in the first step; probabilities stand for all others, as in Hinton's "A
    practical guide to training restricted Boltzmann machines" (2010).

    Args:
        machine: its weights.
        visible: ``[B, V]``, in [0, 1].
        key: draws the hidden units.
    """
    w, a, b = machine
    hidden = jax.nn.sigmoid(visible @ w + b)
    drawn = jax.random.bernoulli(key, hidden).astype(hidden.dtype)
    reconstruction = jax.nn.sigmoid(drawn @ w.T + a)
    hidden_reconstruction = jax.nn.sigmoid(reconstruction @ w + b)
    count = len(visible)
    return Machine(
        w=(visible.T @ hidden - reconstruction.T @ hidden_reconstruction) / count,
        a=jnp.mean(visible - reconstruction, axis=0),
        b=jnp.mean(hidden - hidden_reconstruction, axis=0),
    )


def trained_machine(key: Key, visible: Array, size: int, updates: int) -> Machine:
    """A machine with ``size`` hidden units on ``visible [N, V]``: batches of 20, learning rate 0.1.

    Momentum is 0.9, the decay of the weights 0.0002, and visible biases begin at the log odds of
    the means.
    """
    k_w, k_updates = jax.random.split(key)
    mean = jnp.clip(jnp.mean(visible, axis=0), 0.01, 0.99)
    w = 0.01 * jax.random.normal(k_w, (visible.shape[1], size), visible.dtype)
    machine = Machine(w, jnp.log(mean / (1 - mean)), jnp.zeros_like(w[0]))
    optimiser = optax.sgd(0.1, momentum=0.9)

    def once(index: Array, carry: Any) -> Any:
        machine, state = carry
        k_batch, k_hidden = jax.random.split(jax.random.fold_in(k_updates, index))
        chosen = jax.random.randint(k_batch, (20,), 0, len(visible))
        ascent = contrastive_divergence(machine, visible[chosen], k_hidden)
        descent = jax.tree.map(jnp.negative, ascent)
        descent = descent._replace(w=descent.w + 2e-4 * machine.w)
        change, state = optimiser.update(descent, state)
        return optax.apply_updates(machine, change), state

    machine, _ = lax.fori_loop(0, updates, once, (machine, optimiser.init(machine)))
    return machine


def pretrained(key: Key, pixels: Array, sizes: Sequence[int], updates: int) -> list[Layer]:
    """The layers of a deep belief network (Hinton, Osindero & Teh 2006, Neural Computation 18).

    Each is a restricted Boltzmann machine that is trained, without labels, on the mean activities
    of the layer below.
    """
    layers = []
    for size in sizes:
        key, k_layer = jax.random.split(key)
        machine = trained_machine(k_layer, activities(layers, pixels), size, updates)
        layers.append(Layer(machine.w, machine.b))
    return layers


def random_layers(key: Key, inputs: int, sizes: Sequence[int]) -> list[Layer]:
    """Layers of the same sizes with Glorot's initial weights and zero biases."""
    layers = []
    for size in sizes:
        key, k_layer = jax.random.split(key)
        w = initializers.glorot_uniform()(k_layer, (inputs, size))
        layers.append(Layer(w, jnp.zeros_like(w[0])))
        inputs = size
    return layers


def activities(layers: Sequence[Layer], xs: Any) -> Any:
    """The activities of the last of some layers of logistic units."""
    for layer in layers:
        xs = jax.nn.sigmoid(xs @ layer.w + layer.b)
    return xs


def logits(layers: Sequence[Layer], xs: Array) -> Array:
    """A feed-forward network: logistic units, as in the Boltzmann machines, and a linear readout.

    xs ``[B, 64]``; the result is ``[B, 10]``.
    """
    *hidden, readout = layers
    return activities(hidden, xs) @ readout.w + readout.b


def fine_tuned(
    layers: Sequence[Layer],
    pixels: Array,
    labels: Array,
    weights: Array,
    key: Key,
    updates: int,
    rate: float,
) -> list[Layer]:
    """All layers, and a new readout that begins at zero, trained with labels.

    Args:
        layers: initial weights of the hidden layers.
        pixels: ``[N, 64]``.
        labels: ``[N]``.
        weights: ``[N]``, the probability that an example is drawn; 0 where its label is not used.
        key: draws the batches of 20.
        updates: of Adam.
        rate: its learning rate.
    """
    pixels, labels = jnp.asarray(pixels), jnp.asarray(labels)

    def loss(params: list[Layer], batch: tuple[Array, Array], key: Key) -> tuple[Array, Any]:
        del key
        xs, targets = batch
        return cross_entropy(logits(params, xs), targets), {}

    optimiser = optax.adam(rate)
    step = train_step(loss, optimiser)
    last = layers[-1].b
    readout = Layer(jnp.zeros((last.size, CLASSES), last.dtype), jnp.zeros(CLASSES, last.dtype))
    state = initial_state([*layers, readout], optimiser, key)

    def once(index: Array, state: Any) -> Any:
        k_batch = jax.random.fold_in(key, index)
        chosen = jax.random.choice(k_batch, len(labels), (20,), p=weights)
        return step(state, (pixels[chosen], labels[chosen]))[0]

    return lax.fori_loop(0, updates, once, state).params
