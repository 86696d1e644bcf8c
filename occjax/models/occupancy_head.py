"""Occupancy head: every BEV cell gives class logits at each height of its columns (FlashOCC, Yu et al. 2023)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from occjax.classes import FREE, NUM_CLASSES
from occjax.config import HeadConfig
from occjax.grid import VoxelGrid
from occjax.models.layers import Conv, Dense

# What an untrained head believes of every voxel: most of the world is air, and a head that starts from a uniform guess
# spends its first steps learning just that.
INITIAL_FREE_PROBABILITY = 0.8


class OccupancyHead(nnx.Module):
    """3x3 convolution and ReLU, then per column a dense layer, its activation, and a dense layer to Z · K logits.

    Where a cell of the BEV features is of several columns, the first dense layer gives each of them channels of its own
    (sub-pixel convolution, Shi et al. 2016).
    """

    def __init__(
        self, c_in: int, config: HeadConfig, grid: VoxelGrid, cell_voxels: int, *, dtype=jnp.float32, rngs: nnx.Rngs
    ):
        self.heights, self.cell_voxels, self.activation = grid.shape[2], cell_voxels, config.activation
        self.conv = Conv(c_in, config.channels, 3, use_bias=True, dtype=dtype, rngs=rngs)
        self.hidden = Dense(config.channels, config.hidden * cell_voxels**2, dtype=dtype, rngs=rngs)
        # Small next to the bias below, which shall decide what an untrained head says. float32, for the softmax over
        # classes: where free and occupied part, bfloat16 has steps of 0.06.
        self.out = Dense(config.hidden, self.heights * NUM_CLASSES, std=0.1 / math.sqrt(config.hidden), rngs=rngs)
        # The softmax gives this logit the wanted probability where the K - 1 others are 0.
        odds = INITIAL_FREE_PROBABILITY / (1 - INITIAL_FREE_PROBABILITY)
        bias = np.zeros((self.heights, NUM_CLASSES), np.float32)
        bias[:, FREE] = math.log(odds * (NUM_CLASSES - 1))
        self.out.bias[...] = jnp.asarray(bias.ravel())

    def __call__(self, bev_features: Float[Array, "b x y c"]) -> Float[Array, "b x2 y2 z k"]:
        """Logits, float32, of [B, X, Y, Z, K]."""
        return self.logits(self.columns(bev_features))

    def columns(self, bev_features: Float[Array, "b x y c"]) -> Float[Array, "b x2 y2 c2"]:
        """What the logits of each column are made of: all but the last layer, and nothing as large as logits."""
        x = self.hidden(jax.nn.relu(self.conv(bev_features)))
        b, size_x, size_y, _ = x.shape
        n = self.cell_voxels
        if n > 1:
            x = x.reshape(b, size_x, size_y, n, n, -1).transpose(0, 1, 3, 2, 4, 5)  # [B, X', n, Y', n, C]
            x = x.reshape(b, size_x * n, size_y * n, -1)
        return jax.nn.relu(x) if self.activation == "relu" else jax.nn.softplus(x)

    def logits(self, columns: Float[Array, "b x y c"]) -> Float[Array, "b x y z k"]:
        """Logits, float32, of columns."""
        logits = self.out(columns)  # [B, X, Y, Z*K]
        return logits.reshape(*logits.shape[:3], self.heights, NUM_CLASSES)
