"""A student small enough for unit tests, with a rig of level cameras."""

import numpy as np

from occjax.config import BackboneConfig, BevEncoderConfig, DepthConfig, HeadConfig, ModelConfig, ViewTransformConfig
from occjax.grid import VoxelGrid
from occjax.types import CameraRig

GRID = VoxelGrid("lidar", (-8.0, -8.0, -2.0), 1.0, (16, 16, 4))
# Camera axes (right, down, forward) in a frame that looks along +y with z up.
FORWARD_Y = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def small_config(**depth) -> ModelConfig:
    return ModelConfig(
        backbone=BackboneConfig(depth=18, width=4),
        fpn_channels=8,
        depth=DepthConfig(**{"bins": 6, "max_m": 12.5, "channels": 8, "dropout": 0.0, **depth}),
        view_transform=ViewTransformConfig(channels=6),
        bev_encoder=BevEncoderConfig(stage_channels=(6, 8, 10), blocks_per_stage=1, neck_channels=8, out_channels=8),
        head=HeadConfig(channels=8, hidden=12),
    )


def make_rig(yaws_deg=(0.0, 120.0, 240.0), *, size=(32, 48), batch=1) -> CameraRig:
    """Level cameras 0.3 m above the grid's origin, turned to the left by `yaws_deg`, images recorded at `size`."""
    poses = []
    for yaw in np.deg2rad(yaws_deg):
        turn = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        rotation = FORWARD_Y @ turn
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, -rotation @ [0, 0, 0.3]
        poses.append(pose)
    n, (height, width) = len(poses), size
    k = np.array([[width * 0.6, 0, width / 2], [0, width * 0.6, height / 2], [0, 0, 1]])
    return CameraRig(
        pixel_from_cam=np.tile(np.float32(k), (batch, n, 1, 1)),
        cam_from_grid=np.tile(np.float32(poses), (batch, 1, 1, 1)),
        input_from_pixel=np.tile(np.eye(3, dtype=np.float32), (batch, n, 1, 1)),
        augmented_from_grid=np.tile(np.eye(3, dtype=np.float32), (batch, 1, 1)),
        is_present=np.ones((batch, n), bool),
    )
