"""Handwritten digits, read pixel by pixel."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.tasks.base import Kind, Task
from rnnlab.tasks.entropy import conditional_entropy
from rnnlab.typing import Key

PIXELS, CLASSES = 64, 10


class Images(NamedTuple):
    """Handwritten digits.

    Attributes:
        pixels: ``[64, N]``, row by row, whole numbers 0..16, 16 for ink.
        labels: ``[N]``, the digits 0..9.
    """

    pixels: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Digits(Task):
    """Digits pixel by pixel; see :func:`digits`.

    Attributes:
        permuted: whether the pixels come in a random order, the same for all images.
        split: "train" or "test".
    """

    kind: ClassVar[Kind] = "classes"

    permuted: bool
    split: str

    def __post_init__(self) -> None:
        _check.flag("permuted", self.permuted)
        _check.one_of("split", self.split, ("train", "test"))
        # An absent package is reported here rather than in the middle of a run.
        _images()

    @property
    def steps(self) -> int:
        return PIXELS

    @property
    def input_size(self) -> int:
        return 1

    @property
    def outputs(self) -> int:
        return CLASSES

    def draw(self, key: Key, batch_size: int) -> Batch:
        """``batch_size`` images of the split, drawn with replacement."""
        pixels, labels = _examples(self.permuted, self.split)
        chosen = jax.random.randint(key, (batch_size,), 0, len(labels), jnp.int32)
        xs = jnp.asarray(pixels)[:, chosen].astype(jnp.float32) / 16
        return Batch(xs[..., None], jnp.asarray(labels)[chosen])

    def examples(self) -> Batch:
        """All images of the split, each once: what a test accuracy is measured on."""
        pixels, labels = _examples(self.permuted, self.split)
        xs = jnp.asarray(pixels, jnp.float32) / 16
        return Batch(xs[..., None], jnp.asarray(labels))

    def held_out(self) -> "Digits":
        """The digits of the test split."""
        return dataclasses.replace(self, split="test")

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """An "accuracy" of at least .95: the papers name no bound."""
        return metrics["accuracy"] >= 0.95

    def baseline(self) -> float:
        """The entropy of the digits in the split, in nats."""
        _, labels = _examples(self.permuted, self.split)
        return conditional_entropy([np.bincount(labels)])


@functools.cache
def _images() -> Images:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError(
            "digits() reads a data set of scikit-learn, which is not installed; run "
            "pip install scikit-learn"
        ) from None
    loaded: Any = load_digits()
    return Images(loaded.data.T.astype(np.uint8), loaded.target.astype(np.int32))


@functools.cache
def _examples(permuted: bool, split: str) -> Images:
    """The images of a split, their pixels in the order in which they are read."""
    pixels, labels = _images()
    # Which image of its digit each one is.
    place = np.zeros(len(labels), int)
    for digit in range(CLASSES):
        is_digit = labels == digit
        place[is_digit] = np.arange(is_digit.sum())
    is_test = place % 5 == 4
    chosen = is_test if split == "test" else ~is_test
    if permuted:
        # RandomState, since NumPy keeps its stream for ever, and that of Generator may change.
        pixels = pixels[np.random.RandomState(0).permutation(PIXELS)]
    return Images(pixels[:, chosen], labels[chosen])


def digits(permuted: bool = False, split: str = "train") -> Digits:
    """The 8×8 digits of scikit-learn, one pixel at a step: tell the digit at the end.

    As sequential and permuted MNIST (Le et al. 2015, arXiv 1504.00941), of which this is the small
    form: 1797 images (Alpaydin & Kaynak 1998, the test part of UCI's optical recognition of
    handwritten digits).

    Inputs ``[64, B, 1]`` are pixels / 16, row by row, or in one fixed random order with
    ``permuted``. Targets ``[B]`` are the digits. Of each digit every fifth image in the order of
    the data set is for testing, 355 in all, the other 1442 are for training; both may hold images
    of one person. ``sample`` draws with replacement; ``examples()`` is the split itself.

    The baseline is the entropy of the digits in the split, the loss of the best constant (near
    ln 10); the floor is 0, since no image comes with two digits. Solved is an accuracy of .95 on
    ``held_out()``, the test split; the papers compare accuracies and name no bound. There a
    logistic regression on all 64 pixels has .966 and the nearest training image .986.

    >>> digits(permuted=True, split="test").examples().xs.shape
    (64, 355, 1)

    Args:
        permuted: whether the pixels are permuted, so that neighbours are far apart in time.
        split: "train" or "test".

    Raises:
        ValueError: for another split.
        ImportError: where scikit-learn is not installed.
    """
    return Digits(permuted, split)
