"""Networks that continue a film: a cell, and a readout to the pixels of the next frame."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

import rnnlab
from rnnlab.typing import Array, Key


class FilmParams(NamedTuple):
    """Those of the cell and of the readout."""

    cell: Any
    readout: Any


@dataclasses.dataclass(frozen=True)
class FilmModel:
    """x̂ₜ₊₁ = xₜ + W yₜ + b: frames x, and outputs y of the cell.

    A convolutional cell has one readout for all pixels, from the channels of a pixel to its change.

    Attributes:
        cell: with convolutions or without.
        pixels: P, of a frame.
        read: how many frames are read in training; the others are predicted from predictions.
    """

    cell: Any
    pixels: int
    read: int

    @property
    def by_pixel(self) -> bool:
        """Whether the cell keeps the pixels apart."""
        return hasattr(self.cell, "images")

    @property
    def readout(self) -> rnnlab.Readout:
        """From the channels of one pixel, or from all units."""
        return rnnlab.Readout(1 if self.by_pixel else self.pixels)

    def init(self, key: Key) -> FilmParams:
        """Initial parameters."""
        k_cell, k_readout = jax.random.split(key)
        return FilmParams(
            self.cell.init(k_cell, self.pixels),
            self.readout.init(k_readout, self.cell.hidden_size),
        )

    def change(self, params: FilmParams, ys: Array) -> Array:
        """W y + b for each pixel, ``[..., P]``."""
        if not self.by_pixel:
            return self.readout(params.readout, ys)
        pixels = self.readout(params.readout, self.cell.images(ys))
        return pixels.reshape(*ys.shape[:-1], -1)

    def apply(self, params: FilmParams, frames: Array, ahead: int) -> Array:
        """Predictions ``[T + ahead − 1, B, P]`` of all frames after the first of ``[T, B, P]``."""
        state, ys = rnnlab.unroll(self.cell, params.cell, frames)
        known = frames + self.change(params, ys)

        def step(carry: tuple[Any, Array], _: None) -> tuple[tuple[Any, Array], Array]:
            state, x = carry
            state, y = self.cell.step(params.cell, state, x)
            x = x + self.change(params, y)
            return (state, x), x

        _, free = lax.scan(step, (state, known[-1]), None, ahead - 1)
        return jnp.concatenate([known, free])

    def forecast(self, params: FilmParams, frames: Array, ahead: int) -> Array:
        """The next frames ``[ahead, B, P]``, each but the first from the prediction before."""
        return self.apply(params, frames, ahead)[-ahead:]

    def loss(self, params: FilmParams, frames: Array, key: Key) -> tuple[Array, dict[str, Array]]:
        """The mean squared error of all pixels and frames but the first."""
        del key
        predicted = self.apply(params, frames[: self.read], len(frames) - self.read)
        return jnp.mean((predicted - frames[1:]) ** 2), {}
