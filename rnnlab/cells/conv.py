"""Convolutions inside of a cell: the base of ConvLSTM and ConvGRU."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab import _check
from rnnlab.cells.base import Recurrent, spread, widest
from rnnlab.typing import Array, Dtype, Initializer, Key


class ConvParams(NamedTuple):
    """Kernels w_x ``[*kernel_size, channels, gates · C]`` and w_h ``[*kernel_size, C, gates · C]``.

    b is ``[gates · C]``, with the gates in the order of the cell without convolutions. c ``[C]`` is
    a GRU's bias of the recurrent product of n. peephole ``[3, P, C]`` has a row each for i, f and o
    of an LSTM, P pixels. What the cell does not have is None.
    """

    w_x: Array
    w_h: Array
    b: Array | None = None
    c: Array | None = None
    peephole: Array | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convolutional(Recurrent):
    """A cell whose products are convolutions over images of one ``shape``.

    Images travel as vectors: an image ``[*shape, channels]`` is ``image.reshape(-1)``, thus a
    sequence of them ``[T, B, *shape, channels]`` is ``xs.reshape(T, B, -1)``. So every engine,
    layer and instrument runs these cells as any other; :meth:`images` gives outputs their axes
    back. A convolution has stride 1 and zeros around the image (padding "SAME"), since the state
    must keep its shape.

    Attributes:
        hidden_size: C, the hidden channels of each pixel; the state has P · C numbers, P pixels.
        shape: the axes of an image, such as ``(height, width)``; one axis for a line, three for a
            volume.
        kernel_size: the axes of a kernel, or one number for all of them.
        kernel_init, recurrent_init: draw one gate's kernel as a matrix
            ``[kernel pixels · channels, C]``.
    """

    shape: tuple[int, ...]
    kernel_size: int | tuple[int, ...] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        shape = _sizes("shape", self.shape)
        kernel_size = self.kernel_size
        if not isinstance(kernel_size, Sequence):
            kernel_size = (kernel_size,) * len(shape)
        kernel_size = _sizes("kernel_size", kernel_size)
        if len(kernel_size) != len(shape):
            raise ValueError(
                f"kernel_size has {len(kernel_size)} axes, but shape has {len(shape)}; give one "
                "size for each, or a number for all"
            )
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "kernel_size", kernel_size)
        if self.recurrent_bias:
            raise ValueError(f"{type(self).__name__} has one bias; leave recurrent_bias False")

    @property
    def pixels(self) -> int:
        """P, the number of pixels of an image."""
        return math.prod(self.shape)

    @property
    def output_size(self) -> int:
        return self.pixels * self.hidden_size

    def images(self, ys: Array) -> Array:
        """Outputs ``[..., P · C]`` as images ``[..., *shape, C]``; ValueError for another size."""
        if ys.shape[-1] != self.output_size:
            raise ValueError(
                f"ys has {ys.shape[-1]} features, but the outputs have {self.output_size}; give "
                "the outputs of the cell"
            )
        return ys.reshape(*ys.shape[:-1], *self.shape, self.hidden_size)

    def channels(self, input_size: int) -> int:
        """The channels of an input; ValueError unless ``input_size`` is a multiple of P."""
        channels, rest = divmod(input_size, self.pixels)
        if rest or not channels:
            raise ValueError(
                f"input_size is {input_size}, but images of shape {self.shape} have {self.pixels} "
                "pixels; give a multiple of that, pixels times channels"
            )
        return channels

    def draw_kernel(self, init: Initializer, key: Key, channels: int, gates: int) -> Array:
        """``[*kernel_size, channels, gates · C]``, each gate drawn separately."""
        kernel_size: Any = self.kernel_size
        rows = math.prod(kernel_size) * channels
        matrix = self.draw_weights(init, key, rows, gates)
        return matrix.reshape(*kernel_size, channels, -1)

    def project(self, params: ConvParams, xs: Array) -> Array:
        """W_x ∗ x + b: ``[..., P · channels] -> [..., P · gates · C]``."""
        return convolve(xs, params.w_x, params.b, self.shape, self.dtype)

    def mix(self, params: ConvParams, state: Any) -> Array:
        """W_h ∗ h: ``[..., P · C] -> [..., P · gates · C]``."""
        return convolve(state.h, params.w_h, None, self.shape, self.dtype)

    def by_pixel(self, x: Array) -> Array:
        """``[..., P · F]`` as ``[..., P, F]``, so that gates are blocks of the last axis."""
        return x.reshape(*x.shape[:-1], self.pixels, -1)

    def zeros(self, batch_shape: tuple[int, ...], size: int | None = None) -> Array:
        return super().zeros(batch_shape, size or self.output_size)


def as_vector(x: Array) -> Array:
    """``[..., P, F]`` as ``[..., P · F]``: the inverse of ``by_pixel``."""
    return x.reshape(*x.shape[:-2], -1)


def convolve(
    x: Array,
    kernel: Array,
    b: Array | None,
    shape: tuple[int, ...],
    dtype: Dtype | None,
) -> Array:
    """kernel ∗ x (+ b) for images as vectors, ``[..., P · channels] -> [..., P · features]``.

    As in every library it is a cross-correlation: the kernel is not turned around. Computed in
    ``dtype`` or, where that is None, in the promoted dtype of x and the kernel.
    """
    dtype = dtype or widest(x.dtype, kernel.dtype)
    images = x.reshape(-1, *shape, kernel.shape[-2]).astype(dtype)
    y = lax.platform_dependent(
        images, kernel.astype(dtype), cpu=jax.checkpoint(_product), default=_convolution
    )
    if b is not None:
        y = y + spread(b.astype(dtype), y)
    return y.reshape(*x.shape[:-1], math.prod(shape) * kernel.shape[-1])


def _convolution(images: Array, kernel: Array) -> Array:
    """kernel ∗ images: ``[N, *shape, channels] -> [N, *shape, features]``."""
    axes = "DHWXYZ"[: kernel.ndim - 2]
    return lax.conv_general_dilated(
        images,
        kernel,
        window_strides=(1,) * len(axes),
        padding="SAME",
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
    )


def _product(images: Array, kernel: Array) -> Array:
    """The same as one matrix product, with the pixels that a kernel covers side by side.

    XLA's gradient of a kernel is 8 to 30 times slower on a CPU, and under ``vmap`` its convolution
    too. The patches are as many images as a kernel has pixels, so the backward pass computes them
    again (``jax.checkpoint``) and does not keep them.
    """
    *sizes, _, features = kernel.shape
    edges = [((size - 1) // 2, size // 2) for size in sizes]
    padded = jnp.pad(images, [(0, 0), *edges, (0, 0)])
    shape = images.shape[1:-1]
    shifted = []
    for offsets in np.ndindex(*sizes):
        places = [slice(first, first + size) for first, size in zip(offsets, shape, strict=True)]
        shifted.append(padded[(slice(None), *places)])
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(-1, features)


def _sizes(name: str, value: Any) -> tuple[int, ...]:
    """``value`` as a tuple of sizes of axes; ValueError for anything else."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not 0 < len(value) <= 6:
        raise ValueError(f"{name} is {_check.brief(value)}; it must be a tuple such as (28, 28)")
    return tuple(_check.positive_int(name, size) for size in value)
