"""Forecasts of a film without a network: a frame that stays, and the last frame moved on."""

from typing import NamedTuple

import numpy as np

from experiments.video.data import bounced, draw_at, ink_box


class Tracker(NamedTuple):
    """The last frame, moved at the speed of the last frames.

    Attributes:
        lag: how many frames back the shift is measured.
        has_walls: whether what moves is known to bounce where its ink touches a wall.
    """

    lag: int
    has_walls: bool

    def forecast(self, film: np.ndarray, ahead: int) -> np.ndarray:
        """The next frames ``[ahead, side, side]`` of frames ``[T, side, side]``."""
        last = film[-1]
        velocity = shift_between(film[-1 - self.lag], last) / self.lag
        first, end = ink_box(last)
        digit = last[first[0] : end[0], first[1] : end[1]]
        places = first + velocity * np.arange(1, ahead + 1)[:, None]
        if self.has_walls:
            places = bounced(places, np.array(last.shape) - digit.shape)
        frames = np.zeros((ahead, *last.shape), last.dtype)
        for time, place in enumerate(np.rint(places).astype(int)):
            draw_at(frames[time], digit, place)
        return frames


def shift_between(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The shift ``(rows, columns)`` at which the cross-correlation of two frames is largest."""
    side = len(before)
    # Zeros around the frames, so that nothing comes in again on the other side.
    shape = 2 * side, 2 * side
    products = np.fft.rfft2(after, shape) * np.conj(np.fft.rfft2(before, shape))
    correlation = np.fft.irfft2(products, shape)
    place = np.array(np.unravel_index(correlation.argmax(), shape))
    return np.where(place < side, place, place - 2 * side)


def persistence(film: np.ndarray, ahead: int) -> np.ndarray:
    """The last frame."""
    return np.repeat(film[-1:], ahead, axis=0)


class Fixed(NamedTuple):
    """One frame ``[side, side]``, whatever was seen."""

    frame: np.ndarray

    def forecast(self, film: np.ndarray, ahead: int) -> np.ndarray:
        """The frame, ``ahead`` times."""
        del film
        return np.repeat(self.frame[None], ahead, axis=0)
