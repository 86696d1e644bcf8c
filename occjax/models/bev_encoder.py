"""BEV encoder: features are refined at three scales and brought back to the resolution that they were lifted at."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from occjax.config import BevEncoderConfig
from occjax.models.layers import BasicBlock, Conv, ConvNorm
from occjax.models.resized_conv import ResizedConvNorm


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
    """Joins the first and the last stage of the encoder and returns to the resolution before it.

    The last stage is resized to the first one's size, concatenated, convolved twice, resized once more and convolved;
    a 1x1 convolution with bias ends it.
    """

    def __init__(self, config: BevEncoderConfig, *, dtype=jnp.float32, rngs: nnx.Rngs):
        fine, coarse, channels = config.stage_channels[0], config.stage_channels[-1], config.neck_channels
        self.join = ResizedConvNorm(coarse, channels, c_beside=fine, dtype=dtype, rngs=rngs)
        self.fuse = ConvNorm(channels, channels, 3, dtype=dtype, rngs=rngs)
        self.expand = ResizedConvNorm(channels, config.out_channels, dtype=dtype, rngs=rngs)
        self.out = Conv(config.out_channels, config.out_channels, 1, use_bias=True, dtype=dtype, rngs=rngs)

    def __call__(
        self, fine: Float[Array, "b h w c"], coarse: Float[Array, "b h2 w2 c2"], size: tuple[int, int], *, train: bool
    ) -> Float[Array, "b x y c3"]:
        """BEV features at `size`, in cells along x and y, from the encoder's first and last maps."""
        x = jax.nn.relu(self.join(coarse, (fine.shape[1], fine.shape[2]), fine, train=train))
        x = jax.nn.relu(self.fuse(x, train=train))
        x = jax.nn.relu(self.expand(x, size, train=train))
        return self.out(x)
