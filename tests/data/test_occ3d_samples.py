"""Occ3D's samples: the camera mask moves with the labels, and LiDAR depth is seen from the LiDAR, not from the ego."""

import numpy as np
import pytest
from loading import make_config, take, train_loader
from nuscenes_root import sweep, token, write_root

from occjax.data.index import load_index
from occjax.grid import OCC3D_GRID


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_root(tmp_path_factory.mktemp("occ3d") / "nuscenes", scenes={"scene-0061": 1})


@pytest.fixture
def config(root):
    config = make_config(root, labels="occ3d")
    config.grid.frame, config.grid.voxel_size_m = "ego", OCC3D_GRID.voxel_size_m
    config.grid.lower_m, config.grid.shape = OCC3D_GRID.lower_m, OCC3D_GRID.shape
    return config


def test_the_camera_mask_is_mirrored_as_the_labels_are(root, config):
    config.augment.bev_flip_y = True
    file = np.load(root / "gts/scene-0061" / token("scene-0061", 0) / "labels.npz")
    seen = set()
    for batch in take(train_loader(config, load_index(config.data)), 8):
        is_mirrored = bool(batch.rig.augmented_from_grid[0, 1, 1] < 0)
        how = slice(None, None, -1 if is_mirrored else 1)
        np.testing.assert_array_equal(batch.labels.semantics[0], file["semantics"][:, how])
        np.testing.assert_array_equal(batch.labels.camera_mask[0], file["mask_camera"].astype(bool)[:, how])
        seen.add(is_mirrored)
    assert seen == {False, True}


def test_no_camera_sees_what_a_turn_brings_in_from_outside(config):
    config.augment.bev_rotate_deg = 40.0
    (batch,) = take(train_loader(config, load_index(config.data)), 1)
    beyond = batch.labels.semantics[0] == 255
    assert 0.01 < beyond.mean() < 0.3 and not batch.labels.camera_mask[0][beyond].any()


def test_lidar_depth_is_of_the_points_in_the_lidars_frame(config):
    config.loss.depth = 1.0
    (batch,) = take(train_loader(config, load_index(config.data)), 1)
    right, ahead, up = sweep("scene-0061", 0)[:, :3].T.astype(np.float64)
    for n in range(2):
        # `write_root`: LiDAR 1.8 m and cameras 1.5 m above the ego's origin; camera n was 0.1·(n + 1) m further behind.
        depth_m = ahead + 0.1 * (n + 1)
        u, v = 60 * right / depth_m + 48, 60 * -(up + 0.3) / depth_m + 32
        expected = np.full((2, 3), np.inf)
        # Images of 96×64 are halved, and a block holds 16×16 of their pixels.
        inside = (u >= 0) & (u < 96) & (v >= 0) & (v < 64) & (depth_m < config.model.depth.max_m)
        np.minimum.at(expected, ((v[inside] // 32).astype(int), (u[inside] // 32).astype(int)), depth_m[inside])
        np.testing.assert_allclose(batch.depth_m[0, n], np.where(np.isinf(expected), 0, expected), atol=1e-4)
