"""Films of one handwritten digit that moves in a straight line and bounces at the walls."""

from typing import NamedTuple

import numpy as np

from experiments.captioning.data import one_digit


class Motion(NamedTuple):
    """How digits move.

    Attributes:
        side: pixels of a frame's height and width.
        frames: T, of a film.
        slowest, fastest: pixels that a digit moves from one frame to the next.
    """

    side: int = 16
    frames: int = 16
    slowest: float = 0.5
    fastest: float = 1.5


class Films:
    """Films in batches ``films[i]``, ``[T, B, side · side]``, 0 to 1, 1 for ink.

    As moving MNIST (Srivastava et al. 2015, arXiv 1502.04681) with one digit: it starts at a random
    place in a random direction, at a constant speed, and is drawn at the nearest whole pixels. It
    bounces where its ink touches the wall.
    """

    def __init__(self, part: str, motion: Motion, batch: int, count: int) -> None:
        """``count`` batches of the digits of "training", "validation" or "test"."""
        self.digits = [_cropped(digit) for digit in getattr(one_digit(), part).pixels]
        self.motion, self.batch, self.count = motion, batch, count
        self.seed = ("training", "validation", "test").index(part)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        if not 0 <= index < self.count:
            raise IndexError(index)
        random = np.random.default_rng((self.seed, index))
        films = [self._film(random) for _ in range(self.batch)]
        return np.stack(films, axis=1).reshape(self.motion.frames, self.batch, -1)

    def _film(self, random: np.random.Generator) -> np.ndarray:
        side, frames, slowest, fastest = self.motion
        digit = self.digits[random.integers(len(self.digits))]
        room = side - np.array(digit.shape)
        angle = random.uniform(0, 2 * np.pi)
        velocity = random.uniform(slowest, fastest) * np.array([np.sin(angle), np.cos(angle)])
        places = random.uniform(0, room) + velocity * np.arange(frames)[:, None]
        film = np.zeros((frames, side, side), np.float32)
        for frame, place in zip(film, np.rint(bounced(places, room)).astype(int), strict=True):
            draw_at(frame, digit, place)
        return film


def bounced(places: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Places on a straight line, folded into ``[0, room]`` by reflection at both ends.

    >>> bounced(np.array([3.0, 4.5, 6.0, -1.0]), np.array(4))
    array([3. , 3.5, 2. , 1. ])
    """
    folded = np.mod(places, 2 * room)
    return np.minimum(folded, 2 * room - folded)


def draw_at(frame: np.ndarray, digit: np.ndarray, place: np.ndarray) -> None:
    """Draws a digit on a square frame, its upper left corner at a place, as far as it is inside."""
    rows, columns = (
        first + np.arange(size) for first, size in zip(place, digit.shape, strict=True)
    )
    is_row, is_column = (np.isin(spots, np.arange(len(frame))) for spots in (rows, columns))
    frame[np.ix_(rows[is_row], columns[is_column])] = digit[np.ix_(is_row, is_column)]


def ink_box(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The upper left corner and the lower right one (exclusive) of what is not 0."""
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    return np.array([rows[0], columns[0]]), np.array([rows[-1], columns[-1]]) + 1


def _cropped(digit: np.ndarray) -> np.ndarray:
    first, last = ink_box(digit)
    return digit[first[0] : last[0], first[1] : last[1]]
