"""Random batch of training, of full cost: what a step computes with, where no data set is at hand."""

import numpy as np

from occjax.classes import FREE, NUM_CLASSES
from occjax.config import NUSCENES_CAMERAS, Config
from occjax.geometry import invert_rigid
from occjax.synthetic.rig import LIDAR, ego_from_sensor, pixel_from_cam
from occjax.targets.codec import encode_rows, floored_log_probs
from occjax.types import Batch, CameraRig, TeacherTargets, VoxelCodes, VoxelLabels

# As in nuScenes: voxels that are not free, voxels that a teacher is not sure are free, and pixels that a sweep reaches.
_OCCUPIED, _ACTIVE, _WITH_DEPTH = 0.05, 0.10, 0.4


def random_batch(config: Config, size: int) -> Batch:
    """`size` samples: noise in the images, cameras and numbers of voxels and points as nuScenes has them."""
    r = np.random.default_rng(0)
    grid, data = config.grid.build(), config.data
    images = r.integers(0, 256, (size, len(data.cameras), data.image_height, data.image_width, 3), np.uint8)
    feature_shape = (size, len(data.cameras), data.image_height // 16, data.image_width // 16)
    depth_m = r.uniform(config.model.depth.min_m, config.model.depth.max_m, feature_shape)
    semantics = np.where(r.random((size, *grid.shape)) < _OCCUPIED, r.integers(1, FREE, (size, *grid.shape)), FREE)
    return Batch(
        images=images,
        rig=_rig(config, size),
        depth_m=np.where(r.random(feature_shape) < _WITH_DEPTH, depth_m, 0).astype(np.float32),
        labels=VoxelLabels(semantics.astype(np.uint8), None),
        teacher=TeacherTargets(_codes(r, grid.num_voxels, size), None),
        sample_index=np.arange(size, dtype=np.int32),
        is_valid=np.ones(size, bool),
    )


def _rig(config: Config, size: int) -> CameraRig:
    """Cameras of the procedural city, recorded at 1600 × 900 and resized to the network's input."""
    lidar_from_ego = invert_rigid(ego_from_sensor(LIDAR))
    names = [name for name in config.data.cameras if name in NUSCENES_CAMERAS]
    intrinsics = [pixel_from_cam(name, 1600, 900) for name in names]
    poses = [invert_rigid(lidar_from_ego @ ego_from_sensor(name)) for name in names]
    resize = np.diag([config.data.image_width / 1600, config.data.image_height / 900, 1])

    def tiled(matrices) -> np.ndarray:
        return np.tile(np.float32(matrices), (size, *[1] * np.ndim(matrices)))

    return CameraRig(
        pixel_from_cam=tiled(intrinsics),
        cam_from_grid=tiled(poses),
        input_from_pixel=tiled([resize] * len(names)),
        augmented_from_grid=tiled(np.eye(3)),
        is_present=np.ones((size, len(names)), bool),
    )


def _codes(r: np.random.Generator, num_voxels: int, size: int) -> VoxelCodes:
    count = int(_ACTIVE * num_voxels)
    rows = np.exp(r.normal(0, 2, (count, NUM_CLASSES)))
    free, levels = encode_rows((rows / rows.sum(-1, keepdims=True)).astype(np.float32))
    background = np.full(NUM_CLASSES, 1e-4, np.float32)
    background[FREE] = 1 - background[:FREE].sum()
    index = [np.sort(r.choice(num_voxels, count, replace=False)) for _ in range(size)]
    return VoxelCodes(
        index=np.stack(index).astype(np.int32),
        free=np.tile(free, (size, 1)),
        levels=np.tile(levels, (size, 1, 1)),
        background=np.tile(floored_log_probs(background), (size, 1)),
        valid=None,
    )
