"""BEV features are refined at three scales and brought back to the grid's resolution."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from occjax.config import BevEncoderConfig
from occjax.models.layers import BasicBlock, Conv, ConvNorm


def bilinear_matrix(n_in: int, n_out: int) -> np.ndarray:
    """[n_out, n_in] float32 weights of linear interpolation with the end points aligned (align_corners=True)."""
    position = np.arange(n_out) * ((n_in - 1) / max(n_out - 1, 1))
    low = np.minimum(position.astype(int), max(n_in - 2, 0))
    weight = (position - low).astype(np.float32)
    matrix = np.zeros((n_out, n_in), np.float32)
    matrix[np.arange(n_out), low] += 1 - weight
    matrix[np.arange(n_out), np.minimum(low + 1, n_in - 1)] += weight
    return matrix


def shifted_bilinear(n_in: int, n_out: int) -> np.ndarray:
    """[3, n_out, n_in]: for tap k, row r interpolates at output position r + k - 1, zero where that is outside."""
    padded = np.pad(bilinear_matrix(n_in, n_out), ((1, 1), (0, 0)))
    return np.stack([padded[k : k + n_out] for k in range(3)])


def conv_of_resized(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c o"], size: tuple[int, int]
) -> Float[Array, "b x y o"]:
    """3x3 convolution (zero padded by one) of `x` resized to `size` bilinearly, end points aligned.

    Resizing and the channel mixing of each tap commute, so the taps are applied at the low resolution and only their
    results are resized and shifted: for a doubling that is a quarter of the multiplications, for x4 a sixteenth.
    """
    taps = jnp.einsum("bhwc,ijco->bijhwo", x, kernel)
    rows = jnp.asarray(shifted_bilinear(x.shape[1], size[0]), x.dtype)
    columns = jnp.asarray(shifted_bilinear(x.shape[2], size[1]), x.dtype)
    taps = jnp.einsum("bijhwo,ixh->bjxwo", taps, rows)
    return jnp.einsum("bjxwo,jyw->bxyo", taps, columns)


class BevEncoder(nnx.Module):
    """Stages of basic residual blocks, each halving the map; a 3x3 stride-2 shortcut where it does."""

    def __init__(self, c_in: int, config: BevEncoderConfig, *, dtype=jnp.float32, rngs: nnx.Rngs):
        stages = []
        for channels in config.stage_channels:
            blocks = [BasicBlock(c_in, channels, stride=2, shortcut_size=3, dtype=dtype, rngs=rngs)]
            for _ in range(config.blocks_per_stage - 1):
                blocks.append(BasicBlock(channels, channels, dtype=dtype, rngs=rngs))
            stages.append(nnx.List(blocks))
            c_in = channels
        self.stages = nnx.List(stages)

    def __call__(self, x: Float[Array, "b x y c"], *, train: bool) -> tuple[Float[Array, "b _ _ _"], ...]:
        """One map per stage, finest first."""
        outputs = []
        for stage in self.stages:
            for block in stage:
                x = block(x, train=train)
            outputs.append(x)
        return tuple(outputs)


class BevNeck(nnx.Module):
    """Joins the first and the last stage of the encoder and returns to the grid's resolution.

    The last stage is resized to the first one's size, concatenated, convolved twice, resized to the grid and convolved;
    a 1x1 convolution with bias ends it. Convolutions that follow a resize are computed through `conv_of_resized`.
    """

    def __init__(self, config: BevEncoderConfig, *, dtype=jnp.float32, rngs: nnx.Rngs):
        fine, coarse, channels = config.stage_channels[0], config.stage_channels[-1], config.neck_channels
        self.join = ConvNorm(fine + coarse, channels, 3, dtype=dtype, rngs=rngs)
        self.fuse = ConvNorm(channels, channels, 3, dtype=dtype, rngs=rngs)
        self.expand = ConvNorm(channels, config.out_channels, 3, dtype=dtype, rngs=rngs)
        self.out = Conv(config.out_channels, config.out_channels, 1, use_bias=True, dtype=dtype, rngs=rngs)
        self.dtype = dtype

    def __call__(
        self, fine: Float[Array, "b h w c"], coarse: Float[Array, "b h2 w2 c2"], size: tuple[int, int], *, train: bool
    ) -> Float[Array, "b x y c3"]:
        """BEV features at `size` = (X, Y) from the encoder's first and last maps."""
        kernel = self.join.conv.kernel[...].astype(self.dtype)
        split = fine.shape[-1]
        x = jax.lax.conv_general_dilated(
            fine, kernel[:, :, :split], (1, 1), [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = x + conv_of_resized(coarse, kernel[:, :, split:], fine.shape[1:3])
        x = jax.nn.relu(self.join.norm(x, train=train))
        x = jax.nn.relu(self.fuse(x, train=train))
        x = conv_of_resized(x, self.expand.conv.kernel[...].astype(self.dtype), size)
        x = jax.nn.relu(self.expand.norm(x, train=train))
        return self.out(x)
