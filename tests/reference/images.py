"""Slow twins of the convolutional cells: one example, one pixel and one gate at a time."""

from typing import Any

import numpy as np

from rnnlab.cells import ConvGRU, ConvLSTM, GRUState, LSTMState
from tests.reference.cells import Step, Twin, block, sigmoid


def correlate(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """``[*shape, channels]`` and ``[*kernel size, channels, features]`` to ``[*shape, features]``.

    With zeros around the image, of which an even kernel needs one more at the end.
    """
    shape, size = image.shape[:-1], kernel.shape[:-2]
    around = [((k - 1) // 2, k // 2) for k in size]
    padded = np.pad(image, [*around, (0, 0)])
    out = np.zeros((*shape, kernel.shape[-1]))
    for place in np.ndindex(*shape):
        for offset in np.ndindex(*size):
            pixel = padded[tuple(np.add(place, offset))]
            out[place] += pixel @ kernel[offset]
    return out


def conv_lstm(shape: tuple[int, ...], hidden: int) -> Step:
    """Shi et al. 2015, eq. 3."""

    def step(p: Any, s: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
        x, c, h = (leaf.reshape(*shape, -1) for leaf in (x, s.c, s.h))

        def into(gate: int) -> np.ndarray:
            return (
                correlate(x, block(p.w_x, gate, 4))
                + correlate(h, block(p.w_h, gate, 4))
                + block(p.b, gate, 4)
            )

        see_i, see_f, see_o = 0.0, 0.0, 0.0
        if p.peephole is not None:
            see_i, see_f, see_o = p.peephole.reshape(3, *shape, hidden)
        i, f = sigmoid(into(0) + see_i * c), sigmoid(into(1) + see_f * c)
        c = f * c + i * np.tanh(into(2))
        h = sigmoid(into(3) + see_o * c) * np.tanh(c)
        return LSTMState(c.ravel(), h.ravel()), h.ravel()

    return step


def conv_gru(shape: tuple[int, ...], reset: str) -> Step:
    """Ballas et al. 2016, eq. 10–13, with z and 1 − z exchanged in hₜ."""

    def step(p: Any, s: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
        x, h = (leaf.reshape(*shape, -1) for leaf in (x, s.h))

        def from_x(gate: int) -> np.ndarray:
            return correlate(x, block(p.w_x, gate, 3)) + block(p.b, gate, 3)

        def from_h(gate: int, h: np.ndarray) -> np.ndarray:
            return correlate(h, block(p.w_h, gate, 3))

        r, z = (sigmoid(from_x(gate) + from_h(gate, h)) for gate in (0, 1))
        if reset == "before":
            n_h = from_h(2, r * h)
        else:
            n_h = r * (from_h(2, h) + (0.0 if p.c is None else p.c))
        n = np.tanh(from_x(2) + n_h)
        h = (1 - z) * n + z * h
        return GRUState(h.ravel()), h.ravel()

    return step


IMAGES = [
    Twin("lstm-plane", ConvLSTM(2, shape=(2, 3), kernel_size=(3, 2)), conv_lstm((2, 3), 2)),
    Twin("lstm-line", ConvLSTM(2, shape=(4,), peephole=True), conv_lstm((4,), 2)),
    Twin("lstm-no-bias", ConvLSTM(1, shape=(2, 2), bias=False), conv_lstm((2, 2), 1)),
    Twin("gru-plane", ConvGRU(2, shape=(2, 3), kernel_size=2), conv_gru((2, 3), "after")),
    Twin("gru-before", ConvGRU(2, shape=(4,), reset="before"), conv_gru((4,), "before")),
    Twin("gru-no-bias", ConvGRU(2, shape=(4,), bias=False), conv_gru((4,), "after")),
]
"""Inputs with two channels: ``2 · cell.pixels`` features."""
