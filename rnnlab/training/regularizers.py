"""Regularisers against vanishing gradients: Pascanu's Ω and gradient flossing."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab import _check
from rnnlab._functions import ByValue
from rnnlab.diagnostics.state.lyapunov import lyapunov_spectrum
from rnnlab.diagnostics.state.state_map import at_least_float32, state_map
from rnnlab.driver import trajectory
from rnnlab.gradients.adjoint import Moment, adjoint_scan
from rnnlab.gradients.loss import entering_gradient, loss_gradient
from rnnlab.typing import Array, Cell, Key, PyTree


def pascanu_omega(
    cell: Cell,
    params: PyTree,
    xs: Array,
    loss: Callable[..., Array],
    *loss_args: Any,
    initial_state: PyTree | None = None,
    ratio: Literal["norms", "squares"] = "norms",
    derivative: Literal["immediate", "full"] = "immediate",
) -> Array:
    """Pascanu's Ω: how far each step is from keeping the length of the gradient; a scalar.

    Ω = Σₖ (‖λₖ₊₁ · ∂sₖ₊₁/∂sₖ‖ / ‖λₖ₊₁‖ − 1)², λₖ = ∂E/∂sₖ, k = 0 … T − 1 (Pascanu, Mikolov &
    Bengio 2013, arXiv 1211.5063, §3.3, eq. 9). λ is the total derivative of E with respect to the
    whole state (an LSTM's c and h), through the later steps and through the outputs. Norms are
    those of one example, and Ω is the mean over the batch, so that the sizes of loss and batch do
    not matter. A step that no gradient reaches (λₖ₊₁ = 0) adds nothing. λ is carried with a
    separate exponent for each example, so that it neither underflows nor overflows, however long
    the sequence.

    Add it with a weight to the loss and differentiate the sum with respect to ``params``::

        ys = rnnlab.unroll(cell, params, xs)[1]
        total = loss(ys) + 2.0 * pascanu_omega(cell, params, xs, loss)

    Args:
        cell: any cell or stack with a ``step``, also :class:`rnnlab.Step`. What follows it, such as
            a readout, belongs into the stack or into ``loss``.
        params: its parameters.
        xs: inputs, ``[T, ..., I]``.
        loss: E, ``loss(ys, *loss_args) -> scalar``, with ys ``[T, ..., O]``. It may leave steps or
            examples out.
        *loss_args: further arguments of the loss, such as labels; traced, so that new values do not
            compile again.
        initial_state: s₀, ``cell.initial_state`` by default.
        ratio: of the "norms", as in the paper, or of their "squares", as in the authors' code.
        derivative: the meaning of ∂Ω/∂params; the value is the same. "immediate" is the paper's:
            states and λ are held constant, and only ∂sₖ₊₁/∂sₖ itself is differentiated, all steps
            at once. "full" differentiates states and λ as well.

    Returns:
        Ω, a scalar of at least float32, in which it is computed for cells of fewer bits.

    Raises:
        ValueError: as :func:`rnnlab.unroll` does, for a cell without a ``step``, for a state
            without derivatives, NaN and infinity, a loss that is not a scalar, and an unknown
            ``ratio`` or ``derivative``.

    >>> import jax, rnnlab
    >>> cell = rnnlab.GRU(16)
    >>> params = cell.init(jax.random.key(0), input_size=4)
    >>> xs = jax.random.normal(jax.random.key(1), (60, 8, 4))
    >>> bool(pascanu_omega(cell, params, xs, lambda ys: (ys**2).mean()) > 0)
    True
    """
    _check.one_of("ratio", ratio, ("norms", "squares"))
    _check.one_of("derivative", derivative, ("immediate", "full"))
    _, xs, state = state_map(cell, params, xs, initial_state)
    loss_args = _check.loss_function(loss, loss_args)
    # Squared norms leave the range of half precision quickly.
    params = at_least_float32(params)
    return _omega(
        cell,
        params,
        xs,
        state,
        loss_args,
        loss=ByValue(loss),
        ratio=ratio,
        derivative=derivative,
    )


def flossing_loss(
    cell: Cell,
    params: PyTree,
    xs: Array,
    initial_state: PyTree | None = None,
    *,
    count: int,
    key: Key | None = None,
    burn_in: int = 0,
    warm_up: int | None = 0,
    qr_every: int = 1,
) -> Array:
    """The mean of λᵢ² over the first ``count`` Lyapunov exponents, and over the batch; a scalar.

    Gradient flossing (Engelken 2023, arXiv 2312.17306): with exponents at zero long products of
    Jacobians keep lengths in as many directions, so that a gradient neither vanishes nor explodes
    there. The exponents are those over the finite time of ``xs``, differentiated through states and
    QR decompositions. Engelken minimises the loss before training, and again in episodes during
    training. It is infinite where a direction vanishes altogether, as one of dead ReLUs does.

    Args:
        cell, params, xs, initial_state, key, burn_in, qr_every: as for :func:`lyapunov_spectrum`.
        count: k, how many of the leading exponents are pulled to zero.
        warm_up: as there, but 0 by default: the 1000 steps in which directions otherwise turn first
            would cost more than most sequences in every update. Without them λ₁ is too low by about
            (½ ln n)/T; None turns directions as :func:`lyapunov_spectrum` does.

    Returns:
        The loss, a scalar of at least float32, (nats per step)².

    Raises:
        ValueError: as :func:`lyapunov_spectrum` does.

    >>> import jax, rnnlab
    >>> cell = rnnlab.GRU(16)
    >>> params = cell.init(jax.random.key(0), input_size=4)
    >>> xs = jax.random.normal(jax.random.key(1), (60, 8, 4))
    >>> flossing_loss(cell, params, xs, count=4).shape
    ()
    """
    spectrum = lyapunov_spectrum(
        cell,
        params,
        xs,
        initial_state,
        key=key,
        count=count,
        burn_in=burn_in,
        warm_up=warm_up,
        qr_every=qr_every,
    )
    return jnp.mean(spectrum.exponents**2)


@functools.partial(jax.jit, static_argnames=("cell", "loss", "ratio", "derivative"))
def _omega(
    cell: Cell,
    params: PyTree,
    xs: Array,
    state: PyTree,
    loss_args: tuple[Any, ...],
    *,
    loss: Callable[..., Array],
    ratio: str,
    derivative: str,
) -> Array:
    def hold(tree: PyTree) -> PyTree:
        return lax.stop_gradient(tree) if derivative == "immediate" else tree

    # The arguments of the loss, such as a readout, are held constant as well.
    held_params, held_xs, held_state, held_args = hold((params, xs, state, loss_args))
    directions = _directions(cell, held_params, held_xs, held_state, held_args, loss)
    states, adjoints = hold(directions)

    # λₖ₊₁ · ∂sₖ₊₁/∂sₖ. The parameters are not held here, which makes the derivative immediate.
    def through(state: PyTree, x: Array, adjoint: PyTree) -> PyTree:
        def advance(state: PyTree) -> PyTree:
            return cell.step(params, state, x)[0]

        _, pull = jax.vjp(advance, state)
        return pull(adjoint)[0]

    batch = xs.ndim - 1
    after = _squares(adjoints, batch)
    before = _squares(jax.vmap(through)(states, xs, adjoints), batch)
    alive = after > 0
    # A division by zero would make the gradient NaN even where the outer ``where`` drops it.
    gain = before / jnp.where(alive, after, 1)
    if ratio == "norms":
        # The square root has no derivative at zero, where nothing passes.
        passes = gain > 0
        gain = jnp.where(passes, jnp.sqrt(jnp.where(passes, gain, 1)), 0)
    penalties = jnp.where(alive, (gain - 1) ** 2, 0)
    return jnp.mean(jnp.sum(penalties, axis=0))


def _directions(
    cell: Cell,
    params: PyTree,
    xs: Array,
    state: PyTree,
    loss_args: tuple[Any, ...],
    loss: Callable[..., Array],
) -> tuple[PyTree, PyTree]:
    """The state before each step and the direction of ∂E/∂sₜ after it; ``[T, ...]``.

    A direction is the adjoint up to a power of two for each step and example: Ω takes ratios of
    norms, in which it cancels.
    """
    run = trajectory(cell, params, xs, state)
    _, g, _ = loss_gradient(loss, run.ys, loss_args, of_args=False)

    def collect(total: None, moment: Moment) -> tuple[None, PyTree]:
        return total, moment.adjoint.mantissa

    _, _, adjoints = adjoint_scan(cell, params, run, entering_gradient(g), collect, None)
    return run.olds, adjoints


def _squares(tree: PyTree, batch: int) -> Array:
    """‖·‖² over all leaves and all but their first ``batch`` axes."""
    squares = []
    for leaf in jax.tree.leaves(tree):
        features = tuple(range(batch, leaf.ndim))
        squares.append(jnp.sum(leaf**2, axis=features))
    return functools.reduce(jnp.add, squares)
