"""Resized convolution: a map is brought to another size and convolved, at the cost of the size it had."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from occjax.models.layers import BatchNorm, draw_normal, pointwise


def bilinear_matrix(n_in: int, n_out: int) -> Float[np.ndarray, "{n_out} {n_in}"]:
    """Weights of linear interpolation with the end points aligned (align_corners=True)."""
    # max: a side of 1 has no spacing, and reads its only element.
    position = np.arange(n_out) * ((n_in - 1) / max(n_out - 1, 1))
    low = np.minimum(position.astype(int), max(n_in - 2, 0))
    weight = (position - low).astype(np.float32)
    matrix = np.zeros((n_out, n_in), np.float32)
    matrix[np.arange(n_out), low] += 1 - weight
    matrix[np.arange(n_out), np.minimum(low + 1, n_in - 1)] += weight
    return matrix


def shifted_bilinear(n_in: int, n_out: int) -> Float[np.ndarray, "3 {n_out} {n_in}"]:
    """For tap k, row r interpolates at output position r + k - 1; zero where that is outside."""
    padded = np.pad(bilinear_matrix(n_in, n_out), ((1, 1), (0, 0)))
    return np.stack([padded[k : k + n_out] for k in range(3)])


def conv_of_resized(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c o"], size: tuple[int, int]
) -> Float[Array, "b x y o"]:
    """3x3 convolution (zero padded by one) of `x` resized to `size` bilinearly, end points aligned.

    Resizing and the channel mixing of each tap commute, so the taps are applied at the low resolution and only their
    results are resized and shifted: for a doubling that is a quarter of the multiplications, for x4 a sixteenth.
    """
    b, h, w, c = x.shape
    o = kernel.shape[-1]
    rows = shifted_bilinear(h, size[0]).transpose(1, 0, 2).reshape(size[0], 3 * h)
    columns = shifted_bilinear(w, size[1]).transpose(1, 2, 0).reshape(size[1], 3 * w)
    # Products of matrices, each of which also sums over its taps, so that nothing of size X, Y is held nine times; and
    # between them axes are moved by whole vectors of channels. Written as sums over named axes, runtimes move numbers.
    taps = pointwise(x, kernel.transpose(2, 0, 1, 3).reshape(c, 9 * o)).reshape(b, h, w, 3, 3 * o)
    taps = taps.transpose(0, 3, 1, 2, 4).reshape(b, 3 * h, w * 3 * o)
    x = (jnp.asarray(rows, x.dtype) @ taps).reshape(b, size[0], 3 * w, o)
    x = x.transpose(0, 2, 1, 3).reshape(b, 3 * w, size[0] * o)
    x = (jnp.asarray(columns, x.dtype) @ x).reshape(b, size[1], size[0], o)
    return x.transpose(0, 2, 1, 3)


class ResizedConv(nnx.Module):
    """3x3 convolution of a map resized bilinearly, joined behind another map that has the size already.

    Attributes:
      kernel: float32 [3, 3, c_beside + c_in, c_out], He initialised; the channels of the map beside come first.
    """

    def __init__(self, c_in: int, c_out: int, *, c_beside: int = 0, dtype=jnp.float32, rngs: nnx.Rngs):
        he_std = math.sqrt(2.0 / (9 * c_out))
        self.kernel = nnx.Param(draw_normal(rngs.params(), (3, 3, c_beside + c_in, c_out), he_std))
        self.c_beside, self.dtype = c_beside, dtype

    def __call__(
        self, x: Float[Array, "b h w c"], size: tuple[int, int], beside: Float[Array, "b x y c2"] | None = None
    ) -> Float[Array, "b x y o"]:
        """[B, *size, c_out]; `beside` is of that size, and there if `c_beside` is not 0."""
        kernel = self.kernel[...].astype(self.dtype)
        if beside is None:
            return conv_of_resized(x, kernel, size)
        # A convolution of joined channels is the sum of two: the map beside is convolved where it is.
        plain = jax.lax.conv_general_dilated(
            beside,
            kernel[:, :, : self.c_beside],
            (1, 1),
            [(1, 1), (1, 1)],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return plain + conv_of_resized(x, kernel[:, :, self.c_beside :], size)


class ResizedConvNorm(nnx.Module):
    """`ResizedConv`, then BatchNorm."""

    def __init__(self, c_in: int, c_out: int, *, c_beside: int = 0, dtype=jnp.float32, rngs: nnx.Rngs):
        self.conv = ResizedConv(c_in, c_out, c_beside=c_beside, dtype=dtype, rngs=rngs)
        self.norm = BatchNorm(c_out, dtype=dtype)

    def __call__(
        self, x: Float[Array, "b h w c"], size: tuple[int, int], beside=None, *, train: bool
    ) -> Float[Array, "b x y o"]:
        return self.norm(self.conv(x, size, beside), train=train)
