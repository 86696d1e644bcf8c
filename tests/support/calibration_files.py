"""Calibration files of the generated city's rig, as a user would write them."""

import cv2
import numpy as np
import yaml

import occjax
from occjax.predict.rig import Rig
from occjax.synthetic.rig import MOUNTS, ego_from_sensor, pixel_from_cam

NAMES = tuple(name for name in MOUNTS if name.startswith("CAM"))


def wxyz_of(rotation) -> list[float]:
    """Quaternion of a rotation, by its axis and angle."""
    vector = cv2.Rodrigues(rotation)[0].ravel()
    angle = np.linalg.norm(vector)
    return [float(np.cos(angle / 2)), *(np.sin(angle / 2) * vector / angle).tolist()]


def poses(frame: str) -> dict[str, np.ndarray]:
    frame_from_ego = np.linalg.inv(ego_from_sensor("LIDAR_TOP")) if frame == "lidar" else np.eye(4)
    return {name: frame_from_ego @ ego_from_sensor(name) for name in NAMES}


def written(frame="ego", names=NAMES) -> dict:
    """The rig of the generated city as a file."""
    cameras = {}
    for name in names:
        pose = poses(frame)[name]
        cameras[name] = {
            "image_width": 1600,
            "image_height": 900,
            "camera_matrix": {"rows": 3, "cols": 3, "data": pixel_from_cam(name, 1600, 900).ravel().tolist()},
            "distortion_model": "plumb_bob",
            "distortion_coefficients": {"rows": 1, "cols": 5, "data": [0.0] * 5},
            "grid_from_cam": {"translation": pose[:3, 3].tolist(), "rotation_wxyz": wxyz_of(pose[:3, :3])},
        }
    return {"frame": frame, "cameras": cameras}


def read(content, tmp_path) -> Rig:
    path = tmp_path / "rig.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return occjax.read_calibration(path)
