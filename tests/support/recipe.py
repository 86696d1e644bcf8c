"""Recipe of the goldens: weights by name, and the real keyframe as the original saw it."""

import json
import zlib
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from PIL import Image

from occjax.config import NUSCENES_CAMERAS, ModelConfig
from occjax.convert.torch_names import student_entries
from occjax.geometry import invert_rigid, transform_from_pose
from occjax.grid import VoxelGrid
from occjax.models.student import Student, apply_student, split_student
from occjax.types import CameraRig, Predictions

MEAN, STD = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])


def state_dict_shapes(shared_dir: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every entry of the original's state_dict."""
    shapes = {}
    for line in (shared_dir / "goldens" / "student_state_dict.txt").read_text().splitlines():
        key, shape = line.split(" ", 1)
        shapes[key] = tuple(int(n) for n in shape.strip("()").split(",") if n.strip())
    return shapes


def recipe_weights(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Random weights that anybody can make again: each from the seed and the entry's own name."""
    weights = {}
    for key, shape in shapes.items():
        r = np.random.default_rng([seed, zlib.crc32(key.encode())])
        if key.endswith("num_batches_tracked"):
            weights[key] = np.zeros(shape, np.int64)
            continue
        if key.endswith("running_mean"):
            value = r.normal(0, 0.1, shape)
        elif key.endswith("running_var"):
            value = r.uniform(0.5, 1.5, shape)
        elif len(shape) == 1 and key.endswith("weight"):
            value = r.uniform(0.1, 0.4, shape) if ".bn3." in key else r.uniform(0.5, 1.5, shape)
        elif len(shape) == 1:
            value = r.normal(0, 0.1, shape)
        else:
            value = r.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        value = value * {"vt.depthnet.depth_out.weight": 0.02, "head.predicter.2.weight": 0.015}.get(key, 1.0)
        weights[key] = value.astype(np.float32)
    return weights


def student_shapes(config: ModelConfig, grid: VoxelGrid) -> dict[str, tuple[int, ...]]:
    """Name and shape of every entry that our student imports, without PyTorch and without the original."""
    _, *trees = _abstract_student(config, grid)
    return {
        entry.theirs: entry.their_shape(_leaf(trees[entry.ours[-1] in ("mean", "var")], entry.ours).shape)
        for entry in student_entries(config)
    }


def run_imported(
    weights: dict[str, np.ndarray], images: np.ndarray, rig: CameraRig, *, config: ModelConfig, grid: VoxelGrid
) -> Predictions:
    """What our student predicts with the original's entries, as numpy arrays."""
    graphdef, params, stats = _abstract_student(config, grid)
    arrays = {entry.ours: entry.from_torch(weights[entry.theirs]) for entry in student_entries(config)}
    run = jax.jit(lambda p, s, i, r: apply_student(graphdef, p, s, i, r, train=False)[0])
    return jax.tree.map(np.asarray, run(_filled(params, arrays), _filled(stats, arrays), images, rig))


def _abstract_student(config: ModelConfig, grid: VoxelGrid):
    return split_student(nnx.eval_shape(lambda: Student(config, grid, rngs=nnx.Rngs(0))))


def _leaf(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def _filled(tree, arrays, path=()):
    """`tree` with every leaf replaced by the array of its path."""
    if isinstance(tree, dict):
        return {key: _filled(value, arrays, (*path, key)) for key, value in tree.items()}
    assert tree.shape == arrays[path].shape, path
    return arrays[path]


def real_keyframe(shared_dir: Path, token: str) -> tuple[np.ndarray, CameraRig]:
    """Normalised images [1, 6, 480, 640, 3] and rig of a real keyframe, plainly resized, read from the raw tables."""
    root = shared_dir / "data" / "nuscenes_real"
    tables = {
        name: {row["token"]: row for row in json.loads((root / "v1.0-trainval" / f"{name}.json").read_text())}
        for name in ("sample_data", "calibrated_sensor", "ego_pose", "sensor")
    }

    def channel(row):
        return tables["sensor"][tables["calibrated_sensor"][row["calibrated_sensor_token"]]["sensor_token"]]["channel"]

    def global_from_sensor(row):
        calibration = tables["calibrated_sensor"][row["calibrated_sensor_token"]]
        pose = tables["ego_pose"][row["ego_pose_token"]]
        return transform_from_pose(pose["rotation"], pose["translation"]) @ transform_from_pose(
            calibration["rotation"], calibration["translation"]
        )

    rows = {channel(row): row for row in tables["sample_data"].values() if row["sample_token"] == token}
    images, intrinsics, cam_from_lidar = [], [], []
    for camera in NUSCENES_CAMERAS:
        row = rows[camera]
        image = Image.open(root / row["filename"]).convert("RGB").resize((640, 480), Image.BILINEAR)
        images.append((np.asarray(image, np.float32) - MEAN) / STD)
        intrinsics.append(tables["calibrated_sensor"][row["calibrated_sensor_token"]]["camera_intrinsic"])
        cam_from_lidar.append(invert_rigid(global_from_sensor(row)) @ global_from_sensor(rows["LIDAR_TOP"]))
    rig = CameraRig(
        pixel_from_cam=np.float32(intrinsics)[None],
        cam_from_grid=np.float32(cam_from_lidar)[None],
        input_from_pixel=np.tile(np.diag(np.float32([0.4, 480 / 900, 1])), (1, 6, 1, 1)),
        augmented_from_grid=np.eye(3, dtype=np.float32)[None],
        is_present=np.ones((1, 6), bool),
    )
    return np.stack(images)[None], rig
