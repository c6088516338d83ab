"""The results of a backward pass, and the protocol that takes a gradient back through a run."""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from rnnlab.cells.base import within
from rnnlab.driver import RunOptions
from rnnlab.gradients.scaled import Scaled, log_norm, merge, plain
from rnnlab.typing import Array, PyTree


class StateNorms(NamedTuple):
    """ln‖∂L/∂·ₜ‖ in one recurrent layer and direction, ``[T, ...]``.

    −inf where the gradient is exactly zero.
    """

    # The hidden state: the state's field h, or what the step returns as its output.
    h: Array
    # The rest of the state, such as an LSTM's cell state.
    c: Array | None
    # The whole state.
    state: Array
    # The hidden state before the first step, [...].
    h0: Array


class LayerAdjoint(NamedTuple):
    """The adjoint of one recurrent layer and direction."""

    norms: StateNorms
    # How the layer was run.
    options: RunOptions
    # Whether the layer is one of the cells of a composite.
    layered: bool = False


class ParameterGradients(NamedTuple):
    """The results of a backward pass for the parameters."""

    # ∂L/∂θ, like the parameters.
    gradient: PyTree
    # ln‖∂L/∂θ‖ of each parameter, free of overflow and underflow.
    log_gradient: PyTree
    # ln‖·‖ of each step's contribution to each parameter, [T].
    log_contributions: PyTree
    # The contributions themselves, [T, *parameter], where asked for.
    contributions: PyTree | None


class Backward(NamedTuple):
    """The results of one backward pass through a cell or a stack."""

    # One for each recurrent layer and direction, first to last.
    adjoints: tuple[LayerAdjoint, ...]
    # None where only the adjoints were asked for.
    params: ParameterGradients | None
    # ∂L/∂xₜ, mantissa [T, ..., I] and exponent [T, ...].
    dxs: Scaled


class Back(Protocol):
    """Takes ∂L/∂ys back through a recorded run."""

    def __call__(self, g: Scaled, *, adjoints_only: bool = False) -> Backward:
        """``adjoints_only`` skips the gradients of the parameters, which is faster."""
        ...


Recording = tuple[Array, Back]
"""The outputs of a run, and the function that takes their gradient back through it."""


def state_norms(
    hidden: int | None,
    state: PyTree,
    exponent: Array,
    batch: int,
) -> tuple[Array, Array | None, Array]:
    """Log-norms of a state adjoint: of the hidden part, of the rest (None without one), of all."""
    leaves = jax.tree.leaves(state)
    log_norms = [log_norm(leaf, exponent, batch) for leaf in leaves]
    whole = merge(log_norms)
    if hidden is None or len(log_norms) < 2:
        return whole, None, whole
    rest = log_norms[:hidden] + log_norms[hidden + 1 :]
    return log_norms[hidden], merge(rest), whole


def without_padding_norms(norms: PyTree, options: RunOptions) -> PyTree:
    """Log-norms ``[T, ...]`` with −inf beyond each example's length.

    A step that a mask leaves out keeps its norm: it carries the state over, with its gradient.
    """
    lengths = options.lengths
    if lengths is None:
        return norms

    def masked(norm: Array) -> Array:
        return jnp.where(within(lengths, norm.shape[0]), norm, -jnp.inf)

    return jax.tree.map(masked, norms)


def parameter_gradients(
    total: Scaled, log_contributions: PyTree, contributions: PyTree | None
) -> ParameterGradients:
    """The results for the parameters, from the sum of all contributions."""

    def parameter_norm(leaf: Array) -> Array:
        return log_norm(leaf, total.exponent, 0)

    log_gradient = jax.tree.map(parameter_norm, total.mantissa)
    return ParameterGradients(plain(total), log_gradient, log_contributions, contributions)
