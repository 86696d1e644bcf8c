"""Cases of the committed golden: small students that have every stage, with weights and images by recipe.

`tests/parity/make_golden.py` runs our PyTorch reference on them; `tests/parity/test_random_golden.py` our student.
"""

from pathlib import Path

import numpy as np
from recipe import recipe_weights, student_shapes
from small import make_rig, small_config

from occjax.config import ModelConfig
from occjax.grid import VoxelGrid
from occjax.types import CameraRig

FOLDER = Path(__file__).resolve().parents[1] / "parity"
# No two axes alike, so that none can be taken for another.
GRID = VoxelGrid("lidar", (-9.0, -7.5, -2.0), 1.5, (12, 10, 3))
# Wide enough for every dilation of the depth net to reach another feature.
BATCH, CAMERAS, SIZE = 2, 3, (112, 320)
# Depth of the backbone and kind of splat: basic blocks and bottlenecks, sums and means.
CASES = ((18, "sum"), (50, "mean"))
SEED = 5


def golden_file(depth: int, splat: str) -> Path:
    return FOLDER / f"resnet{depth}_{splat}.npz"


def golden_config(depth: int, splat: str) -> ModelConfig:
    config = small_config()
    config.backbone.depth, config.view_transform.splat = depth, splat
    config.depth.camera_norm = "batch"
    return config


def golden_weights(config: ModelConfig) -> dict[str, np.ndarray]:
    """The recipe's weights, by the original's names."""
    return recipe_weights(student_shapes(config, GRID), SEED)


def golden_images() -> np.ndarray:
    """Normalised images float32 [B, N, H, W, 3]."""
    return np.random.default_rng(SEED).normal(size=(BATCH, CAMERAS, *SIZE, 3)).astype(np.float32)


def golden_rig() -> CameraRig:
    """The first sample is augmented: images scaled, mirrored, turned and moved, each in its own way, BEV turned and
    scaled. The second lacks its middle camera, and its BEV is mirrored."""
    r = np.random.default_rng(SEED)
    rig = make_rig((10.0, 130.0, 250.0), size=SIZE, batch=BATCH)
    height_px, width_px = SIZE
    for n in range(CAMERAS):
        scale, turn = r.uniform(0.8, 1.0), _turned(r.uniform(-8, 8))
        turn[:2, 2] = r.uniform(-9, 9, 2)
        mirror = np.float64([[-1, 0, width_px], [0, 1, 0], [0, 0, 1]]) if n % 2 else np.eye(3)
        rig.input_from_pixel[0, n] = turn @ np.diag([scale, 1.1 * scale, 1]) @ mirror
        # Cameras are not level, and stand apart.
        rig.cam_from_grid[:, n, :3, :3] = _turned(r.uniform(-5, 5)) @ rig.cam_from_grid[0, n, :3, :3]
        rig.cam_from_grid[:, n, :3, 3] += r.uniform(-0.5, 0.5, 3)
        rig.pixel_from_cam[:, n, :2] *= r.uniform(0.8, 1.2)
    rig.augmented_from_grid[0] = 1.04 * _turned(14.0)
    rig.augmented_from_grid[1] = np.diag([1, -1, 1]).astype(np.float32)
    rig.is_present[1, 1] = False
    return rig


def _turned(angle_deg: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
