"""Depth net: each feature pixel gets a depth distribution and a context vector (BEVDepth, Li et al. 2023)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Key

from occjax.config import DepthConfig
from occjax.models.layers import BasicBlock, BatchNorm, Conv, ConvNorm, Dense
from occjax.types import CameraRig

CAMERA_NUMBERS = 27  # intrinsics 4, image augmentation 6, BEV augmentation 5, pose 12
# What each of them is divided by for `camera_norm` "fixed", so that all are of the order of 1. Lengths in images are in
# thousands of pixels: a nuScenes camera (1600 x 900) has fx 0.8 to 1.3, one of 320 x 180 a fifth of it. Ratios and
# rotations are of that order by themselves, and cameras stand a metre or two from the grid's origin.
CAMERA_UNITS = np.array(
    [
        *(1000.0, 1000.0, 1000.0, 1000.0),  # fx fy cx cy, px of the recorded image
        *(1.0, 1.0, 1000.0, 1.0, 1.0, 1000.0),  # A00 A01 tx A10 A11 ty: ratios, and tx ty in px of the network input
        *(1.0, 1.0, 1.0, 1.0, 1.0),  # BEV augmentation 00 01 10 11 22: ratios
        *(1.0, 1.0, 1.0, 1.0) * 3,  # grid_from_cam row by row: three ratios and a translation in m
    ],
    np.float32,
)
ASPP_DILATIONS = (1, 6, 12, 18)  # DeepLabv3's for feature maps of stride 16


def camera_vector(rig: CameraRig) -> Float[Array, "m 27"]:
    """What the depth net is told about each of the B·N cameras.

    fx fy cx cy of the recorded image (px); the image augmentation row by row (A00 A01 tx A10 A11 ty); the BEV
    augmentation's 00 01 10 11 22; the upper 3x4 of grid_from_cam row by row (metres), whatever the grid's frame.
    """
    b, n = rig.is_present.shape
    k, image, bev = rig.pixel_from_cam, rig.input_from_pixel, rig.augmented_from_grid
    intrinsics = jnp.stack([k[..., 0, 0], k[..., 1, 1], k[..., 0, 2], k[..., 1, 2]], axis=-1)  # [B, N, 4]
    # [B, 5], in the order that imported weights were trained to read.
    bev = jnp.stack([bev[:, 0, 0], bev[:, 0, 1], bev[:, 1, 0], bev[:, 1, 1], bev[:, 2, 2]], axis=-1)
    rotation, translation = grid_from_cam(rig)
    pose = jnp.concatenate([rotation, translation[..., None]], axis=-1)  # [B, N, 3, 4]
    parts = [
        intrinsics.reshape(b * n, 4),
        image[..., :2, :].reshape(b * n, 6),
        jnp.repeat(bev, n, axis=0),
        pose.reshape(b * n, 12),
    ]
    return jnp.concatenate(parts, axis=-1)  # [B*N, 27]


def grid_from_cam(rig: CameraRig) -> tuple[Float[Array, "b n 3 3"], Float[Array, "b n 3"]]:
    """Rotation and translation (metres) from each camera's frame to the grid's frame."""
    # The inverse of a rotation is its transpose; inverting a matrix on an accelerator is slow and less exact.
    rotation = jnp.swapaxes(rig.cam_from_grid[..., :3, :3], -1, -2)
    # Sums rather than a matmul: accelerators round matmul inputs, and a rounded pose moves points across cells.
    translation = -jnp.sum(rotation * rig.cam_from_grid[..., None, :3, 3], axis=-1)
    return rotation, translation


class CameraGate(nnx.Module):
    """Gate of the channels by the camera vector: an MLP, two dense layers, a sigmoid (BEVDepth)."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.mlp1 = Dense(CAMERA_NUMBERS, channels, rngs=rngs)
        self.mlp2 = Dense(channels, channels, rngs=rngs)
        self.reduce = Dense(channels, channels, rngs=rngs)
        self.expand = Dense(channels, channels, rngs=rngs)

    def __call__(self, camera: Float[Array, "m 27"]) -> Float[Array, "m c"]:
        """What each channel of each camera is multiplied by, 0 to 1."""
        vector = self.mlp2(jax.nn.relu(self.mlp1(camera)))
        return jax.nn.sigmoid(self.expand(jax.nn.relu(self.reduce(vector))))


def gated(x: Float[Array, "m h w c"], gate: Float[Array, "m c"]) -> Float[Array, "m h w c"]:
    """Features with their channels weighted."""
    return x * gate[:, None, None, :].astype(x.dtype)  # [M, 1, 1, C]


class ASPP(nnx.Module):
    """Parallel dilated convolutions and a global branch, merged by a 1x1 convolution (DeepLabv3, Chen et al. 2017)."""

    def __init__(self, channels: int, dropout: float, *, dtype=jnp.float32, rngs: nnx.Rngs):
        self.branches = nnx.List(
            ConvNorm(channels, channels, 1 if d == 1 else 3, dilation=d, dtype=dtype, rngs=rngs) for d in ASPP_DILATIONS
        )
        self.pooled = ConvNorm(channels, channels, 1, dtype=dtype, rngs=rngs)
        self.merge = ConvNorm(channels * (len(ASPP_DILATIONS) + 1), channels, 1, dtype=dtype, rngs=rngs)
        self.dropout = dropout

    def __call__(
        self,
        x: Float[Array, "m h w c"],
        *,
        train: bool,
        mask: Bool[Array, "m"] | None = None,
        dropout_keys: Key[Array, "m"] | None = None,
    ) -> Float[Array, "m h w c"]:
        parts = [jax.nn.relu(branch(x, train=train, mask=mask)) for branch in self.branches]
        # [M, 1, 1, C]; float32, since a sum of thousands of bfloat16 stops growing.
        pooled = jnp.mean(x, axis=(1, 2), keepdims=True, dtype=jnp.float32)
        pooled = jax.nn.relu(self.pooled(pooled, train=train, mask=mask))
        parts.append(jnp.broadcast_to(pooled, parts[0].shape))
        y = jax.nn.relu(self.merge(jnp.concatenate(parts, axis=-1), train=train, mask=mask))
        if not train or self.dropout == 0:
            return y
        if dropout_keys is None:
            raise ValueError("training with depth.dropout > 0 needs random keys; pass dropout_keys or set dropout to 0")
        # By hand rather than nnx.Dropout, whose random state would have to be part of the training state, and which
        # has one key for all images.
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.dropout, y.shape[1:]))(dropout_keys)
        return jnp.where(keep, y / (1 - self.dropout), 0)


class DepthNet(nnx.Module):
    """Depth logits and context per feature pixel.

    The camera vector is divided by `CAMERA_UNITS`, or normalised by BatchNorm over the cameras of the batch, as in the
    original, where `config.camera_norm` says so. Missing cameras are masked out of every batch statistic.
    """

    def __init__(self, c_in: int, context_channels: int, config: DepthConfig, *, dtype=jnp.float32, rngs: nnx.Rngs):
        channels = config.channels
        self.camera_norm = BatchNorm(CAMERA_NUMBERS) if config.camera_norm == "batch" else None
        self.reduce = ConvNorm(c_in, channels, 3, dtype=dtype, rngs=rngs)
        self.context_gate = CameraGate(channels, rngs=rngs)
        self.context = Conv(channels, context_channels, 1, use_bias=True, dtype=dtype, rngs=rngs)
        self.depth_gate = CameraGate(channels, rngs=rngs)
        self.depth_blocks = nnx.List([BasicBlock(channels, channels, dtype=dtype, rngs=rngs) for _ in range(3)])
        self.aspp = ASPP(channels, config.dropout, dtype=dtype, rngs=rngs)
        self.depth_conv = Conv(channels, channels, 3, dtype=dtype, rngs=rngs)
        # Near-uniform depth at the start: a confident random depth would starve most BEV cells of gradient.
        # float32, for the softmax over bins: near 16, bfloat16 has steps of 0.06 to 0.12.
        self.depth = Conv(channels, config.bins, 1, use_bias=True, gain=0.02, rngs=rngs)

    def __call__(
        self,
        features: Float[Array, "m h w c"],
        camera: Float[Array, "m 27"],
        *,
        train: bool,
        mask: Bool[Array, "m"] | None = None,
        dropout_keys: Key[Array, "m"] | None = None,
    ) -> tuple[Float[Array, "m h w d"], Float[Array, "m h w c2"]]:
        """Depth logits (float32) and context features of B·N images."""
        gates = self.gates(camera, train=train, mask=mask)
        return self.from_gates(features, *gates, train=train, mask=mask, dropout_keys=dropout_keys)

    def gates(
        self, camera: Float[Array, "m 27"], *, train: bool, mask: Bool[Array, "m"] | None = None
    ) -> tuple[Float[Array, "m c"], Float[Array, "m c"]]:
        """All that the network makes of the cameras: the gates of context and of depth."""
        camera = self.normalized(camera, train=train, mask=mask)
        return self.context_gate(camera), self.depth_gate(camera)

    def from_gates(
        self,
        features: Float[Array, "m h w c"],
        context_gate: Float[Array, "m c2"],
        depth_gate: Float[Array, "m c2"],
        *,
        train: bool,
        mask: Bool[Array, "m"] | None = None,
        dropout_keys: Key[Array, "m"] | None = None,
    ) -> tuple[Float[Array, "m h w d"], Float[Array, "m h w c3"]]:
        """As a call, of gates that are known."""
        x = jax.nn.relu(self.reduce(features, train=train, mask=mask))
        context = self.context(gated(x, context_gate))
        y = gated(x, depth_gate)
        for block in self.depth_blocks:
            y = block(y, train=train, mask=mask)
        y = self.aspp(y, train=train, mask=mask, dropout_keys=dropout_keys)
        return self.depth(self.depth_conv(y)), context

    def normalized(
        self, camera: Float[Array, "m 27"], *, train: bool, mask: Bool[Array, "m"] | None = None
    ) -> Float[Array, "m 27"]:
        """The camera vector as the gates read it."""
        if self.camera_norm is None:
            return camera / CAMERA_UNITS
        return self.camera_norm(camera, train=train, mask=mask)
