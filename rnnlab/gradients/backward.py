"""The results of a backward pass, and what takes a gradient back through a recorded run."""

from typing import NamedTuple, Protocol

import jax

from rnnlab.driver import RunOptions
from rnnlab.gradients.scaled import Scaled, log_norm, merge, plain
from rnnlab.typing import Array, PyTree


class StateNorms(NamedTuple):
    """ln‖∂L/∂·ₜ‖ in one recurrent layer and direction, ``[T, ...]``; −inf where the gradient is exactly zero."""

    h: Array  # the hidden state: the state's field h, or what the step returns as its output
    c: Array | None  # the rest of the state, such as an LSTM's cell state
    joint: Array  # the whole state
    initial: Array  # the hidden state before the first step, [...]


class Adjoint(NamedTuple):
    """The adjoint of one recurrent layer and direction."""

    norms: StateNorms
    options: RunOptions  # how the layer was run
    layered: bool = False  # whether it is that of one of the cells of a composite


class ParameterGradients(NamedTuple):
    """What a backward pass gives for the parameters."""

    gradient: PyTree  # ∂L/∂θ, like the parameters
    log_gradient: PyTree  # ln‖∂L/∂θ‖ of each parameter, free of overflow and underflow
    log_contributions: PyTree  # ln‖·‖ of each step's contribution to each parameter, [T]
    contributions: PyTree | None  # the contributions themselves, [T, *parameter], where asked for


class Backward(NamedTuple):
    """What one backward pass through a cell or a stack gives."""

    adjoints: tuple[Adjoint, ...]  # one for each recurrent layer and direction, first to last
    params: ParameterGradients | None  # None where only the adjoints were asked for
    dxs: Scaled  # ∂L/∂xₜ, mantissa [T, ..., I] and exponent [T, ...]


class Back(Protocol):
    """Takes ∂L/∂ys back through a recorded run."""

    def __call__(self, g: Scaled, *, adjoints_only: bool = False) -> Backward:
        """``adjoints_only`` leaves the gradients of the parameters out, which is quicker."""
        ...


Recording = tuple[Array, Back]


def state_norms(
    hidden: int | None, state: PyTree, exponent: Array, batch: int
) -> tuple[Array, Array | None, Array]:
    """Log-norms of the hidden part of a state adjoint, of the rest (None if there is none), and of all of it."""
    leaves = jax.tree.leaves(state)
    each = [log_norm(leaf, exponent, batch) for leaf in leaves]
    joint = merge(each)
    if hidden is None or len(each) < 2:
        return joint, None, joint
    return each[hidden], merge(each[:hidden] + each[hidden + 1 :]), joint


def parameter_gradients(
    total: Scaled, log_contributions: PyTree, contributions: PyTree | None
) -> ParameterGradients:
    """The result for the parameters, from the sum of all contributions."""
    log_gradient = jax.tree.map(lambda leaf: log_norm(leaf, total.exponent, 0), total.mantissa)
    return ParameterGradients(plain(total), log_gradient, log_contributions, contributions)
