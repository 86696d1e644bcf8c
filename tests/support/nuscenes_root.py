"""A minimal nuScenes root with known geometry: a few scenes, small images, sparse sweeps, both label sets."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np

from occjax.config import NUSCENES_CAMERAS
from occjax.grid import OCC3D_GRID, SURROUNDOCC_GRID

WIDTH, HEIGHT = 96, 64
# Camera axes (x right, y down, z ahead) of a camera that looks along the ego's x axis.
FORWARD_WXYZ = [0.5, -0.5, 0.5, -0.5]
# LIDAR_TOP's x is the car's right: a quarter turn about z.
LIDAR_WXYZ = [np.sqrt(0.5), 0.0, 0.0, -np.sqrt(0.5)]
INTRINSICS = [[60.0, 0.0, 48.0], [0.0, 60.0, 32.0], [0.0, 0.0, 1.0]]
DEFAULT_SCENES = {"scene-0061": 3, "scene-0055": 2, "scene-0003": 3}


def token(*parts) -> str:
    return hashlib.md5("/".join(map(str, parts)).encode()).hexdigest()


def write_root(
    root: Path,
    *,
    scenes: dict[str, int] | None = None,
    cameras: tuple[str, ...] = NUSCENES_CAMERAS[:2],
    dropped: tuple[tuple[str, int, str], ...] = (),
    version: str = "v1.0-trainval",
) -> Path:
    """Writes the root.

    The car drives along global x at 10 m/s; keyframes are 0.5 s apart. Camera i records 0.01·(i + 1) s before the
    LiDAR, so that its ego pose is 0.1·(i + 1) m behind. LIDAR_TOP sits 1.8 m above the ego origin, cameras 1.5 m.

    Args:
      root: folder to write.
      scenes: names and numbers of keyframes.
      cameras: channels.
      dropped: (scene, frame, channel) that have no record.
      version: name of the table folder.
    """
    scenes = DEFAULT_SCENES if scenes is None else scenes
    tables = {name: [] for name in _TABLES}
    channels = (*cameras, "LIDAR_TOP")
    for channel in channels:
        is_lidar = channel == "LIDAR_TOP"
        modality = "lidar" if is_lidar else "camera"
        tables["sensor"].append({"token": token(channel), "channel": channel, "modality": modality})
        tables["calibrated_sensor"].append(
            {
                "token": token("calibration", channel),
                "sensor_token": token(channel),
                "translation": [0.0, 0.0, 1.8 if is_lidar else 1.5],
                "rotation": LIDAR_WXYZ if is_lidar else FORWARD_WXYZ,
                "camera_intrinsic": [] if is_lidar else INTRINSICS,
            }
        )
    tables["log"].append(
        {"token": token("log"), "logfile": "log", "vehicle": "car", "date_captured": "", "location": "here"}
    )
    tables["map"].append(
        {"token": token("map"), "log_tokens": [token("log")], "category": "", "filename": "maps/blank.png"}
    )
    (root / "maps").mkdir(parents=True)
    cv2.imwrite(str(root / "maps/blank.png"), np.zeros((4, 4), np.uint8))
    for scene, count in scenes.items():
        tokens = [token(scene, frame) for frame in range(count)]
        tables["scene"].append(
            {
                "token": token(scene),
                "name": scene,
                "description": "",
                "log_token": token("log"),
                "nbr_samples": count,
                "first_sample_token": tokens[0],
                "last_sample_token": tokens[-1],
            }
        )
        # Written last frame first: the reader must order by time.
        for frame in reversed(range(count)):
            time_us = 1_000_000 + 500_000 * frame
            tables["sample"].append(
                {
                    "token": tokens[frame],
                    "timestamp": time_us,
                    "scene_token": token(scene),
                    "prev": tokens[frame - 1] if frame else "",
                    "next": tokens[frame + 1] if frame + 1 < count else "",
                }
            )
            for i, channel in enumerate(channels):
                if (scene, frame, channel) not in dropped:
                    delay_us = 0 if channel == "LIDAR_TOP" else 10_000 * (i + 1)
                    _write_record(root, tables, scene, frame, channel, time_us - delay_us)
            _write_labels(root, scene, frame)
    (root / version).mkdir(parents=True)
    for name, rows in tables.items():
        (root / version / f"{name}.json").write_text(json.dumps(rows))
    return root


_TABLES = (
    *("category", "attribute", "visibility", "instance", "sensor", "calibrated_sensor", "ego_pose", "log", "scene"),
    *("sample", "sample_data", "sample_annotation", "map"),
)


def sweep(scene: str, frame: int) -> np.ndarray:
    """The points [P, 5] of a keyframe's sweep, LIDAR_TOP frame."""
    rng = np.random.default_rng([*scene.encode(), frame])
    points = rng.uniform([-30, 2, -3, 0, 0], [30, 40, 2, 255, 31], (300, 5))
    points[:, 4] = np.floor(points[:, 4])  # the ring is a whole number
    return points.astype(np.float32)


def surroundocc_voxels(scene: str, frame: int) -> np.ndarray:
    """The non-free voxels [n, 4] of a keyframe's SurroundOcc label."""
    rng = np.random.default_rng([1, *scene.encode(), frame])
    cells = rng.choice(SURROUNDOCC_GRID.num_voxels, 5000, replace=False)
    return np.stack([*np.unravel_index(cells, SURROUNDOCC_GRID.shape), rng.integers(0, 17, 5000)], axis=1)


def _write_record(root: Path, tables: dict, scene: str, frame: int, channel: str, time_us: int) -> None:
    name = f"{scene}__{channel}__{frame}"
    is_lidar = channel == "LIDAR_TOP"
    path = f"samples/{channel}/{name}." + ("pcd.bin" if is_lidar else "jpg")
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    if is_lidar:
        sweep(scene, frame).tofile(root / path)
    else:
        rng = np.random.default_rng([2, *name.encode()])
        image = cv2.resize(rng.integers(0, 255, (8, 12, 3), np.uint8), (WIDTH, HEIGHT))
        cv2.imwrite(str(root / path), image)
    pose = {"rotation": [1.0, 0.0, 0.0, 0.0], "translation": [1000.0 + 10.0 * time_us * 1e-6, 2000.0, 0.0]}
    tables["ego_pose"].append({"token": token("pose", name), "timestamp": time_us, **pose})
    tables["sample_data"].append(
        {
            "token": token("data", name),
            "sample_token": token(scene, frame),
            "ego_pose_token": token("pose", name),
            "calibrated_sensor_token": token("calibration", channel),
            "timestamp": time_us,
            "fileformat": "pcd" if is_lidar else "jpg",
            "is_key_frame": True,
            "height": 0 if is_lidar else HEIGHT,
            "width": 0 if is_lidar else WIDTH,
            "filename": path,
            "prev": "",
            "next": "",
        }
    )


def _write_labels(root: Path, scene: str, frame: int) -> None:
    sparse = root / "surroundocc/samples" / f"{scene}__LIDAR_TOP__{frame}.pcd.bin.npy"
    sparse.parent.mkdir(parents=True, exist_ok=True)
    np.save(sparse, surroundocc_voxels(scene, frame))
    rng = np.random.default_rng([3, *scene.encode(), frame])
    dense = root / "gts" / scene / token(scene, frame) / "labels.npz"
    dense.parent.mkdir(parents=True)
    mask = rng.integers(0, 2, OCC3D_GRID.shape, np.uint8)
    np.savez(dense, semantics=rng.integers(0, 18, OCC3D_GRID.shape, np.uint8), mask_camera=mask, mask_lidar=mask)
