"""Simple recurrent networks: Elman's, Pascanu's and the leaky one."""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.cells.base import (
    Activation,
    Adjoint,
    Blocks,
    Maps,
    Recurrent,
    activation,
    activation_function,
    affine,
    keep_precision,
    lift,
    slope,
)
from rnnlab.typing import Array, Key


class RNNParams(NamedTuple):
    """w_x ``[I, H]``, w_h ``[H, H]``, b and c ``[H]`` (None where the cell has none)."""

    w_x: Array
    w_h: Array
    b: Array | None = None
    c: Array | None = None


class RNNState(NamedTuple):
    """h ``[..., H]``."""

    h: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class RNN(Recurrent):
    """Simple recurrent network.

    ``form="elman"`` (Elman 1990):      hₜ = φ(W_x xₜ + W_h hₜ₋₁ + b)
    ``form="output-state"`` (Pascanu, Mikolov & Bengio 2013, arXiv 1211.5063, eq. 2):
                                        hₜ = W_h φ(hₜ₋₁) + W_x xₜ + b
    In the second form the state is the *input* of the nonlinearity; φ of it is Elman's state.
    Shapes: x ``[..., I]``, h and the output ``[..., H]``. ``recurrent_bias`` adds a second bias c,
    as PyTorch does.
    Raises ValueError for a ``hidden_size`` below 1, an unknown activation or an unknown form.

    >>> cell = RNN(8, activation="relu")
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> params.w_x.shape
    (3, 8)

    Attributes:
        activation: φ: "tanh", "relu", "sigmoid", "identity", or any elementwise function.
        form: the place of the nonlinearity.
    """

    activation: Activation = "tanh"
    form: Literal["elman", "output-state"] = "elman"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "activation", activation(self.activation))
        _check.one_of("form", self.form, ("elman", "output-state"))

    def init(self, key: Key, input_size: int) -> RNNParams:
        """Initial parameters for inputs of ``input_size`` features."""
        _check.to_init(key, input_size)
        k_in, k_rec, k_bias = jax.random.split(key, 3)
        return RNNParams(
            w_x=self.draw_weights(self.kernel_init, k_in, input_size, 1),
            w_h=self.draw_weights(self.recurrent_init, k_rec, self.hidden_size, 1),
            b=self.draw_biases(k_bias, 1) if self.bias else None,
            c=self.draw_recurrent_biases(k_bias, 1) if self.recurrent_bias else None,
        )

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> RNNState:
        return RNNState(h=self.zeros(batch_shape))

    def mix(self, params: RNNParams, state: RNNState) -> Array:
        h = self._phi(state.h) if self.form == "output-state" else state.h
        return affine(h, params.w_h, params.c, self.dtype)

    def gate(
        self,
        params: RNNParams,
        state: RNNState,
        z: Array,
        a: Array,
    ) -> tuple[RNNState, Array]:
        h = z + a
        if self.form == "elman":
            h = self._phi(h)  # hₜ = φ(W_x xₜ + W_h hₜ₋₁ + b)
        state = keep_precision(RNNState(h), state)
        return state, state.h

    def maps(self, params: RNNParams) -> Maps | None:
        # Without a slope there is no gate_adjoint; in the other form mix is not linear in h.
        if self.form == "output-state" or slope(self.activation) is None:
            return None
        return Maps(params.w_x, params.w_h, params.b, params.c, self.hidden_size)

    def gate_residuals(
        self,
        params: RNNParams,
        state: RNNState,
        z: Array,
        a: Array,
    ) -> tuple[RNNState, Blocks]:
        # Of RNN and not of self: a subclass that overrides gate must not be run by this adjoint.
        new, _ = RNN.gate(self, params, state, z, a)
        return new, ()

    def gate_adjoint(
        self,
        params: RNNParams,
        old: RNNState,
        new: RNNState,
        residuals: Blocks,
        d_new: RNNState,
    ) -> Adjoint:
        d = self._slope(new.h) * d_new.h
        return Adjoint(old=RNNState(jnp.zeros_like(d_new.h)), joint=(d,), z=(), a=())

    def _phi(self, x: Array) -> Array:
        return activation_function(self.activation)(x)

    def _slope(self, y: Array) -> Array:
        """φ′(x) from y = φ(x); only a cell with ``maps`` is asked for it."""
        derivative = slope(self.activation)
        assert derivative is not None
        return derivative(y)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeakyRNN(RNN):
    """Leaky (continuous-time) recurrent network (Jaeger et al. 2007).

    hₜ = (1 − α) hₜ₋₁ + α φ(W_x xₜ + W_h hₜ₋₁ + b), α = Δt/τ: the Euler step of τ dh/dt = −h + φ(…).
    ``alpha=1`` is Elman's network. Shapes as for :class:`RNN`, Elman's form only.
    Raises ValueError unless 0 < α ≤ 1.

    >>> cell = LeakyRNN(8, alpha=0.1)
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> state, y = cell.step(params, cell.initial_state(), jnp.ones(3))

    Attributes:
        alpha: α, the part of the state that is replaced in one step (dimensionless); 1/α is the
            time constant in steps.
    """

    alpha: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.one_of("form", self.form, ("elman",))
        _check.fraction("alpha", self.alpha, closed=True)

    def gate(
        self,
        params: RNNParams,
        state: RNNState,
        z: Array,
        a: Array,
    ) -> tuple[RNNState, Array]:
        kept = (1 - self.alpha) * state.h
        written = self.alpha * self._phi(z + a)
        h = kept + lift(written, state.h)  # hₜ = (1 − α) hₜ₋₁ + α φ(…)
        state = keep_precision(RNNState(h), state)
        return state, state.h

    def gate_residuals(
        self,
        params: RNNParams,
        state: RNNState,
        z: Array,
        a: Array,
    ) -> tuple[RNNState, Blocks]:
        phi = self._phi(z + a)
        h = (1 - self.alpha) * state.h + lift(self.alpha * phi, state.h)
        return keep_precision(RNNState(h), state), (phi,)

    def gate_adjoint(
        self,
        params: RNNParams,
        old: RNNState,
        new: RNNState,
        residuals: Blocks,
        d_new: RNNState,
    ) -> Adjoint:
        # new.h mixes φ with the old state, so φ is kept for its slope.
        phi = lift(residuals[0], new.h)
        d = self.alpha * self._slope(phi) * d_new.h
        return Adjoint(old=RNNState((1 - self.alpha) * d_new.h), joint=(d,), z=(), a=())
