"""A linear-chain conditional random field: likelihood, marginals and the most likely labels.

    P(y | x) = exp s(y) / Σ_y′ exp s(y′),
    s(y) = start[y₁] + Σₜ emissions[t, yₜ] + Σₜ transitions[yₜ₋₁, yₜ] + end[y_T]

(Lafferty, McCallum & Pereira 2001, "Conditional random fields: probabilistic models for segmenting
and labeling sequence data"). The sum over all labellings is that of the forward algorithm, by its
logarithms.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab._results import result
from rnnlab.cells.base import within
from rnnlab.engines.sequence import select
from rnnlab.typing import Array


@result
class LinearChain(NamedTuple):
    """The scores of labels, in nats; C classes.

    Attributes:
        emissions: of each label at each step, ``[T, B, C]``.
        transitions: of each label (column) after another (row), ``[C, C]``.
        start: of the first label, ``[C]``.
        end: of the last label, ``[C]``.
        lengths: ``[B]``, the labels of each chain; None where all have T.
        resets: ``[T, B]``, True where another chain begins; None where there is one in each column.
    """

    emissions: Array
    transitions: Array
    start: Array
    end: Array
    lengths: Array | None = None
    resets: Array | None = None


@result
class Labelling(NamedTuple):
    """The most likely labels.

    Attributes:
        labels: ``[T, B]``, whole numbers in 0..C−1; −1 in the padding.
        log_probability: ln P(labels | inputs), in nats, ``[B]``.
    """

    labels: Array
    log_probability: Array


def log_partition(chain: LinearChain) -> Array:
    """ln Σ_y exp s(y), ``[B]``, in nats; 0 for a chain without steps.

    >>> import jax.numpy as jnp
    >>> zeros = jnp.zeros(3)
    >>> chain = LinearChain(jnp.zeros((4, 1, 3)), jnp.zeros((3, 3)), zeros, zeros)
    >>> round(float(log_partition(chain)[0]), 4)  # of 3⁴ labellings with the score 0
    4.3944
    """

    def step(carry: tuple[Array, Array], now: _Step) -> tuple[tuple[Array, Array], None]:
        alpha, total = carry
        terms = alpha[:, :, None] + _pairs(chain, now.reset)
        after = jax.nn.logsumexp(terms, axis=1) + now.emission
        # αₜ grows with t; without its largest entry, sums over thousands of steps lose no digits.
        largest = lax.stop_gradient(jnp.max(after, axis=-1))
        after = after - largest[:, None], total + largest
        return (after if now.valid is None else select(now.valid, after, carry)), None

    alpha = chain.start + chain.emissions[0]
    total = jnp.zeros(alpha.shape[:1], alpha.dtype)
    (alpha, total), _ = lax.scan(step, (alpha, total), _steps(chain))
    value = total + jax.nn.logsumexp(alpha + chain.end, axis=-1)
    if chain.lengths is None:
        return value
    return jnp.where(chain.lengths > 0, value, 0)


def log_likelihood(chain: LinearChain, labels: Array, known: Array) -> Array:
    """ln P(y | x) of the labels ``[T, B]`` that are ``known [T, B]``, in nats, ``[B]``.

    Labels that are not known are summed over. ln P is 0 where none is known.
    """
    is_other = labels[..., None] != jnp.arange(chain.emissions.shape[-1])
    # No other label is possible where one is known.
    clamped = jnp.where(known[..., None] & is_other, -jnp.inf, chain.emissions)
    return log_partition(chain._replace(emissions=clamped)) - log_partition(chain)


@jax.jit
def marginals(chain: LinearChain) -> Array:
    """P(yₜ | x) of each label at each step, ``[T, B, C]``; 0 in the padding.

    It is the derivative of ln Σ_y exp s(y) with respect to the emissions: the forward–backward
    algorithm.
    """

    def total(emissions: Array) -> Array:
        return jnp.sum(log_partition(chain._replace(emissions=emissions)))

    return jax.grad(total)(chain.emissions)


@jax.jit
def viterbi(chain: LinearChain) -> Labelling:
    """The labels with the largest s(y), by the Viterbi algorithm; the first one of equal labels."""
    classes = jnp.arange(chain.emissions.shape[-1])

    def forward(delta: Array, now: _Step) -> tuple[Array, Array]:
        terms = delta[:, :, None] + _pairs(chain, now.reset)
        after = jnp.max(terms, axis=1) + now.emission, jnp.argmax(terms, axis=1)
        if now.valid is None:
            return after
        # The padding repeats the last label, so that the way back ends in it.
        return select(now.valid, after, (delta, jnp.broadcast_to(classes, delta.shape)))

    def backward(label: Array, pointers: Array) -> tuple[Array, Array]:
        before = jnp.take_along_axis(pointers, label[:, None], axis=1)[:, 0]
        return before, before

    delta, pointers = lax.scan(forward, chain.start + chain.emissions[0], _steps(chain))
    last = jnp.argmax(delta + chain.end, axis=-1)
    _, earlier = lax.scan(backward, last, pointers, reverse=True)
    labels = jnp.concatenate([earlier, last[None]])
    best = jnp.max(delta + chain.end, axis=-1)
    if chain.lengths is None:
        return Labelling(labels, best - log_partition(chain))
    labels = jnp.where(within(chain.lengths, len(labels)), labels, -1)
    log_probability = jnp.where(chain.lengths > 0, best - log_partition(chain), 0)
    return Labelling(labels, log_probability)


class _Step(NamedTuple):
    """What a step of a scan reads: emissions ``[B, C]``, and booleans ``[B]`` or None."""

    emission: Array
    valid: Array | None
    reset: Array | None


def _steps(chain: LinearChain) -> _Step:
    """All steps but the first, with time first."""
    valid = None
    if chain.lengths is not None:
        valid = within(chain.lengths, len(chain.emissions))[1:]
    reset = None if chain.resets is None else chain.resets[1:]
    return _Step(chain.emissions[1:], valid, reset)


def _pairs(chain: LinearChain, reset: Array | None) -> Array:
    """The scores of each label after another, ``[C, C]``, or ``[B, C, C]`` with resets."""
    if reset is None:
        return chain.transitions
    anew = chain.end[:, None] + chain.start
    return jnp.where(reset[:, None, None], anew, chain.transitions)
