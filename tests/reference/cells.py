"""Slow twins of the cells' steps, as textbooks write them.

They use NumPy and float64, one example and one gate at a time.

A new cell joins the test-suite by being listed here: in ``CELLS`` where it is a structure of its
own (every driver test runs it), in ``VARIANTS`` where it only chooses another activation or other
biases (its step is tested).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab.cells import (
    GRU,
    LSTM,
    MGU,
    RNN,
    GRUState,
    Highway,
    HighwayState,
    IndRNN,
    IndRNNState,
    JordanRNN,
    JordanState,
    LeakyRNN,
    LSTMState,
    MGUState,
    Readout,
    RNNState,
)

Step = Callable[[Any, Any, np.ndarray], tuple[Any, np.ndarray]]


class Twin(NamedTuple):
    """A cell and the slow form of its step, ``(params, state, x [I]) -> (state, y [O])``."""

    name: str
    cell: Any
    step: Step


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def identity(x: np.ndarray) -> np.ndarray:
    return x


def block(w: np.ndarray | None, gate: int, gates: int) -> Any:
    """One gate's part of what all gates keep side by side; 0 for what the cell does not have."""
    return 0.0 if w is None else np.split(w, gates, axis=-1)[gate]


def normalise(x: np.ndarray, gain: np.ndarray, bias: Any = 0.0) -> np.ndarray:
    """Layer normalisation (Ba, Kiros & Hinton 2016, eq. 4)."""
    mean = sum(x) / len(x)
    variance = sum((x - mean) ** 2) / len(x)
    return gain * (x - mean) / np.sqrt(variance + 1e-5) + bias


def elman(phi: Callable) -> Step:
    """hₜ = φ(W_x xₜ + W_h hₜ₋₁ + b) (Elman 1990)."""

    def step(p, s, x):
        h = phi(p.w_x.T @ x + p.w_h.T @ s.h + block(p.b, 0, 1) + block(p.c, 0, 1))
        return RNNState(h), h

    return step


def pascanu(phi: Callable) -> Step:
    """xₜ = W_rec φ(xₜ₋₁) + W_in uₜ + b (Pascanu, Mikolov & Bengio 2013, eq. 2)."""

    def step(p, s, u):
        x = p.w_h.T @ phi(s.h) + p.w_x.T @ u + block(p.b, 0, 1) + block(p.c, 0, 1)
        return RNNState(x), x

    return step


def leaky(phi: Callable, alpha: float) -> Step:
    """Euler's step of length α for dh/dt = −h + φ(W_x x + W_h h + b)."""

    def step(p, s, x):
        slope = -s.h + elman(phi)(p, s, x)[1]
        h = s.h + alpha * slope
        return RNNState(h), h

    return step


def jordan(phi: Callable, psi: Callable) -> Step:
    """sₜ = φ(W_x xₜ + W_h yₜ₋₁ + b), yₜ = ψ(W_y sₜ + b_y) (Jordan 1986)."""

    def step(p, s, x):
        hidden = phi(p.w_x.T @ x + p.w_h.T @ s.h + block(p.b, 0, 1))
        y = psi(p.w_y.T @ hidden + block(p.b_y, 0, 1))
        return JordanState(y), y

    return step


def lstm(peephole: bool = False, layer_norm: bool = False) -> Step:
    """Hochreiter & Schmidhuber 1997, with Gers's forget gate and peepholes (2000).

    ``layer_norm`` is Ba's norm (2016, eq. 20–22).
    """

    def step(p, s, x):
        from_x, from_h = p.w_x.T @ x, p.w_h.T @ s.h
        if layer_norm:
            from_x, from_h = normalise(from_x, p.norm.x), normalise(from_h, p.norm.h)

        def into(gate):
            bias = block(p.b, gate, 4) + block(p.c, gate, 4)
            return block(from_x, gate, 4) + block(from_h, gate, 4) + bias

        see_i, see_f, see_o = p.peephole if peephole else (0.0, 0.0, 0.0)
        i = sigmoid(into(0) + see_i * s.c)
        f = sigmoid(into(1) + see_f * s.c)
        g = np.tanh(into(2))
        c = f * s.c + i * g
        o = sigmoid(into(3) + see_o * c)
        h = o * np.tanh(normalise(c, p.norm.c, p.norm.c_bias) if layer_norm else c)
        if p.w_p is not None:
            h = p.w_p.T @ h
        return LSTMState(c, h), h

    return step


def lstm_one_matrix(p, s, x):
    """The same on [h, x] and one matrix for each gate, ``[H + I, H]``."""
    both = np.concatenate([s.h, x])
    w_i, w_f, w_g, w_o = (
        np.concatenate([block(p.w_h, n, 4), block(p.w_x, n, 4)]) for n in range(4)
    )
    b_i, b_f, b_g, b_o = (block(p.b, n, 4) for n in range(4))
    c = sigmoid(w_f.T @ both + b_f) * s.c + sigmoid(w_i.T @ both + b_i) * np.tanh(
        w_g.T @ both + b_g
    )
    h = sigmoid(w_o.T @ both + b_o) * np.tanh(c)
    return LSTMState(c, h), h


def gru(reset: str = "after", layer_norm: bool = False, z_writes: bool = False) -> Step:
    """Cho et al. 2014.

    ``z_writes`` selects the other convention, h = (1 − z) hₜ₋₁ + z n (Chung et al. 2014).
    """

    def step(p, s, x):
        size = len(s.h)
        c = (
            np.zeros(3 * size)
            if p.c is None
            else np.concatenate([np.zeros(3 * size - len(p.c)), p.c])
        )

        def from_x(gate):
            return block(p.w_x, gate, 3).T @ x

        def from_h(gate, h):
            return block(p.w_h, gate, 3).T @ h

        def bias(gate):
            return block(p.b, gate, 3)

        if layer_norm:  # r and z are normalised together, n on its own
            x_rz = normalise(np.concatenate([from_x(0), from_x(1)]), p.norm.x[: 2 * size])
            h_rz = normalise(np.concatenate([from_h(0, s.h), from_h(1, s.h)]), p.norm.h[: 2 * size])
            into_r, into_z = np.split(x_rz + h_rz, 2)
        else:
            into_r, into_z = from_x(0) + from_h(0, s.h), from_x(1) + from_h(1, s.h)
        r = sigmoid(into_r + bias(0) + block(c, 0, 3))
        z = sigmoid(into_z + bias(1) + block(c, 1, 3))

        x_n, h_n = from_x(2), from_h(2, r * s.h if reset == "before" else s.h)
        if layer_norm:
            x_n, h_n = normalise(x_n, p.norm.x[2 * size :]), normalise(h_n, p.norm.h[2 * size :])
        if reset == "after":
            h_n = r * (h_n + block(c, 2, 3))
        n = np.tanh(x_n + bias(2) + h_n)
        h = (1 - z) * s.h + z * n if z_writes else (1 - z) * n + z * s.h
        return GRUState(h), h

    return step


def indrnn(phi: Callable) -> Step:
    """hₜ = φ(W xₜ + u ⊙ hₜ₋₁ + b) (Li et al. 2018, eq. 2)."""

    def step(p, s, x):
        h = phi(p.w_x.T @ x + p.u * s.h + block(p.b, 0, 1))
        return IndRNNState(h), h

    return step


def mgu(reset: str | None = "after") -> Step:
    """Zhou et al. 2016, eq. 7, with f and 1 − f exchanged in hₜ, as in Flax's MGUCell."""

    def step(p, s, x):
        size = len(s.h)
        c = np.zeros(2 * size)
        if p.c is not None:
            c[-len(p.c) :] = p.c
        w_f, w_n = (block(p.w_h, n, 2).T for n in range(2))
        f = sigmoid(block(p.w_x, 0, 2).T @ x + w_f @ s.h + block(p.b, 0, 2) + c[:size])
        if reset == "before":
            from_h = w_n @ (f * s.h)
        elif reset == "after":
            from_h = f * (w_n @ s.h + c[size:])
        else:
            from_h = w_n @ s.h + c[size:]
        n = np.tanh(block(p.w_x, 1, 2).T @ x + block(p.b, 1, 2) + from_h)
        h = (1 - f) * n + f * s.h
        return MGUState(h), h

    return step


def highway(p, s, x):
    """Zilly et al. 2017, eq. 6–9, with the carry gate 1 − t."""
    carried = s.h
    rest = [] if p.deep_w is None else p.deep_w
    for layer, w in enumerate([p.w_h, *rest]):
        b = p.b if layer == 0 or p.deep_b is None else p.deep_b[layer - 1]
        w_h, w_t = (block(w, n, 2).T for n in range(2))
        from_x = [block(p.w_x, n, 2).T @ x if layer == 0 else 0.0 for n in range(2)]
        h = np.tanh(from_x[0] + w_h @ carried + block(b, 0, 2))
        t = sigmoid(from_x[1] + w_t @ carried + block(b, 1, 2))
        carried = h * t + carried * (1 - t)
    return HighwayState(carried), carried


def readout(p, s, h):
    """y = W h + b."""
    return s, p.w.T @ h + block(p.b, 0, 1)


CELLS = [
    Twin("elman", RNN(3), elman(np.tanh)),
    Twin("pascanu", RNN(3, form="output-state"), pascanu(np.tanh)),
    Twin("leaky", LeakyRNN(3), leaky(np.tanh, 0.2)),
    Twin("jordan", JordanRNN(3, feedback_size=2), jordan(np.tanh, identity)),
    Twin("lstm", LSTM(3), lstm()),
    Twin(
        "lstm-peephole-norm",
        LSTM(3, peephole=True, layer_norm=True),
        lstm(peephole=True, layer_norm=True),
    ),
    Twin("gru-after", GRU(3), gru()),
    Twin("gru-before", GRU(3, reset="before"), gru("before")),
    Twin(
        "gru-before-norm", GRU(3, reset="before", layer_norm=True), gru("before", layer_norm=True)
    ),
    Twin("indrnn", IndRNN(3, activation="tanh"), indrnn(np.tanh)),
    Twin("mgu", MGU(3), mgu()),
    Twin("highway", Highway(3), highway),
]
VARIANTS = [
    Twin("elman-relu", RNN(3, activation="relu"), elman(relu)),
    Twin("elman-sigmoid", RNN(3, activation="sigmoid"), elman(sigmoid)),
    Twin("elman-identity", RNN(3, activation="identity"), elman(identity)),
    Twin("elman-callable", RNN(3, activation=jnp.sin), elman(np.sin)),
    Twin("elman-no-bias", RNN(3, bias=False), elman(np.tanh)),
    Twin("elman-two-biases", RNN(3, recurrent_bias=True), elman(np.tanh)),
    Twin(
        "pascanu-sigmoid",
        RNN(3, activation="sigmoid", form="output-state", recurrent_bias=True),
        pascanu(sigmoid),
    ),
    Twin("leaky-relu", LeakyRNN(3, activation="relu", alpha=0.7), leaky(relu, 0.7)),
    Twin(
        "jordan-wide",
        JordanRNN(2, feedback_size=4, activation="relu", output_activation="sigmoid"),
        jordan(relu, sigmoid),
    ),
    Twin("jordan-no-bias", JordanRNN(3, bias=False), jordan(np.tanh, identity)),
    Twin("lstm-one-matrix", LSTM(3), lstm_one_matrix),
    Twin("lstm-no-bias", LSTM(3, bias=False), lstm()),
    Twin("lstm-two-biases", LSTM(3, recurrent_bias=True), lstm()),
    Twin("lstm-projected", LSTM(3, proj_size=2), lstm()),
    Twin("lstm-peephole", LSTM(3, peephole=True), lstm(peephole=True)),
    Twin("lstm-norm", LSTM(3, layer_norm=True), lstm(layer_norm=True)),
    Twin("gru-no-bias", GRU(3, bias=False), gru()),
    Twin("gru-two-biases", GRU(3, recurrent_bias=True), gru()),
    Twin("gru-norm", GRU(3, layer_norm=True), gru(layer_norm=True)),
    Twin("indrnn-relu", IndRNN(3), indrnn(relu)),
    Twin("indrnn-no-bias", IndRNN(3, activation="tanh", bias=False), indrnn(np.tanh)),
    Twin("mgu-before", MGU(3, reset="before"), mgu("before")),
    Twin("mgu-no-reset", MGU(3, reset=None), mgu(None)),
    Twin("mgu-no-bias", MGU(3, bias=False), mgu()),
    Twin("mgu-two-biases", MGU(3, recurrent_bias=True), mgu()),
    Twin("highway-shallow", Highway(3, depth=1), highway),
    Twin("highway-deep", Highway(3, depth=4, bias=False), highway),
    Twin("readout", Readout(2), readout),
    Twin("readout-no-bias", Readout(2, bias=False), readout),
]


def by_name(*names: str) -> list[Twin]:
    """The listed twins of these names, in their order."""
    listed = {twin.name: twin for twin in [*CELLS, *VARIANTS]}
    return [listed[name] for name in names]


def draw(tree: Any, seed: int) -> Any:
    """Float64 noise in the form of ``tree``: no parameter is zero, so none can be forgotten."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(0.0, 0.6, leaf.shape), tree)


def draw_params(cell: Any, input_size: int, seed: int = 1) -> Any:
    return draw(jax.eval_shape(lambda key: cell.init(key, input_size), jax.random.key(0)), seed)


def draw_state(cell: Any, batch_shape: tuple[int, ...] = (), seed: int = 2) -> Any:
    return draw(cell.initial_state(batch_shape), seed)
