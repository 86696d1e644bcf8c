"""Student: the lines that take images to voxel logits, in order."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Key

from occjax.config import ModelConfig
from occjax.grid import VoxelGrid
from occjax.models.bev_encoder import BevEncoder, BevNeck
from occjax.models.depth_net import DepthNet, camera_vector
from occjax.models.fpn import FPN
from occjax.models.occupancy_head import OccupancyHead
from occjax.models.preprocess import camera_keys
from occjax.models.resnet import ResNet
from occjax.models.view_transform import ViewTransform
from occjax.types import CameraRig, Predictions

# The pyramid's level that is lifted, and its stride in input pixels.
LEVEL, STRIDE = 2, 16

# Nested dicts of arrays, as `nnx.to_pure_dict` makes them.
PureDict = dict[Any, Any]


class Student(nnx.Module):
    """Camera images to voxel logits on `grid`, for any camera count and any image size divisible by 16."""

    def __init__(self, config: ModelConfig, grid: VoxelGrid, *, rngs: nnx.Rngs):
        dtype = compute_dtype(config, jax.default_backend())
        bev = config.bev_encoder
        self.backbone = ResNet(config.backbone, dtype=dtype, remat=config.remat_backbone, rngs=rngs)
        self.fpn = FPN(self.backbone.out_channels, config.fpn_channels, dtype=dtype, rngs=rngs)
        self.depth_net = DepthNet(
            config.fpn_channels, config.view_transform.channels, config.depth, dtype=dtype, rngs=rngs
        )
        self.view_transform = ViewTransform(config.depth, config.view_transform, grid, dtype=dtype, rngs=rngs)
        self.bev_size = self.view_transform.grid.shape[:2]
        self.bev_encoder = BevEncoder(config.view_transform.channels, bev, dtype=dtype, rngs=rngs)
        self.bev_neck = BevNeck(bev, dtype=dtype, rngs=rngs)
        cell_voxels = config.view_transform.cell_voxels
        self.head = OccupancyHead(bev.out_channels, config.head, grid, cell_voxels, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        images: Float[Array, "b n h w 3"],
        rig: CameraRig,
        *,
        train: bool,
        dropout_keys: Key[Array, "b"] | None = None,
    ) -> Predictions:
        """Predictions from normalised RGB images.

        In training, batch statistics move (in place) and `dropout_keys`, one per sample, are needed unless
        depth.dropout is 0. A missing camera (`rig.is_present` false) counts in no batch statistic of the image side
        and puts nothing on the grid.

        Raises:
          ValueError: the image size is not divisible by 16.
        """
        rig = jax.tree.map(jnp.asarray, rig)
        b, n, height, width, _ = images.shape
        if height % STRIDE or width % STRIDE:
            raise ValueError(f"image height and width must be divisible by {STRIDE}; found {height} x {width}")
        mask = rig.is_present.reshape(b * n)  # [B*N]: to the image side cameras are a larger batch
        image_features = self.image_features(images, train=train, mask=mask)  # [B*N, H/16, W/16, C]
        per_image = None if dropout_keys is None else camera_keys(dropout_keys, n).reshape(b * n)
        depth_logits, context = self.depth_net(
            image_features, camera_vector(rig), train=train, mask=mask, dropout_keys=per_image
        )
        # Lifting needs to know again which camera belongs to which sample.
        depth_logits = depth_logits.reshape(b, n, *depth_logits.shape[1:])  # [B, N, H/16, W/16, D]
        context = context.reshape(b, n, *context.shape[1:])  # [B, N, H/16, W/16, C]
        # [B, X', Y', C] from here on, in cells of cell_voxels by cell_voxels columns
        lifted, coverage = self.view_transform(context, depth_logits, rig, (height, width))
        bev_features = self.bev_features(lifted, train=train)
        return Predictions(
            voxel_logits=self.head(bev_features),
            depth_logits=depth_logits,
            lifted_features=lifted,
            bev_features=bev_features,
            bev_coverage=coverage,
        )

    def image_features(
        self, images: Float[Array, "b n h w 3"], *, train: bool, mask: Bool[Array, "m"] | None = None
    ) -> Float[Array, "m h2 w2 c"]:
        """Features of all cameras at stride 16, [B*N, H/16, W/16, C]."""
        return self.fpn(self.backbone(images.reshape(-1, *images.shape[2:]), train=train, mask=mask))[LEVEL]

    def bev_features(self, lifted: Float[Array, "b x y c"], *, train: bool) -> Float[Array, "b x y c2"]:
        """What the head reads, from what was lifted."""
        stages = self.bev_encoder(lifted, train=train)
        return self.bev_neck(stages[0], stages[-1], self.bev_size, train=train)


def compute_dtype(config: ModelConfig, platform: str) -> np.dtype:
    """Type of the convolutions and dense layers on `platform`, as `jax.default_backend` names it."""
    if config.compute_dtype != "auto":
        return jnp.dtype(config.compute_dtype)
    return jnp.dtype(jnp.float32 if platform == "cpu" else jnp.bfloat16)


def abstract_student(config: ModelConfig, grid: VoxelGrid) -> tuple[nnx.GraphDef, PureDict, PureDict]:
    """Graph, parameters and batch statistics of the student of a configuration, shapes in the place of arrays."""
    return split_student(nnx.eval_shape(lambda: Student(config, grid, rngs=nnx.Rngs(0))))


def split_student(model: nnx.Module) -> tuple[nnx.GraphDef, PureDict, PureDict]:
    """A module's graph definition, parameters and batch statistics; the latter two are nested dicts of arrays."""
    graphdef, params, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats)


def apply_student(
    graphdef: nnx.GraphDef,
    params: PureDict,
    batch_stats: PureDict,
    images: Float[Array, "b n h w 3"],
    rig: CameraRig,
    *,
    train: bool,
    dropout_keys: Key[Array, "b"] | None = None,
) -> tuple[Predictions, PureDict]:
    """Predictions and the batch statistics after them (unchanged in evaluation); a pure function."""
    # The module lives for one call: under a gradient, NNX state that outlives it would be of another trace.
    model = nnx.merge(graphdef, params, batch_stats)
    predictions = model(images, rig, train=train, dropout_keys=dropout_keys)
    return predictions, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))


def trainable_mask(config: ModelConfig, params: PureDict) -> PureDict:
    """Tree of bools like `params`: false where `config.backbone.frozen_stages` keeps a parameter from training."""
    mask = jax.tree.map(lambda _: True, params)
    frozen = config.backbone.frozen_stages
    backbone = mask["backbone"]
    if frozen >= 1:
        backbone["stem"] = jax.tree.map(lambda _: False, backbone["stem"])
    for stage in range(frozen - 1):
        backbone["stages"][stage] = jax.tree.map(lambda _: False, backbone["stages"][stage])
    return mask
