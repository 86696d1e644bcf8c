"""A real keyframe as the teacher takes it: six recorded images and their matrices, from nuScenes' tables."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from occjax.config import NUSCENES_CAMERAS
from occjax.geometry import invert_rigid, transform_from_pose

TOKEN = "fd8420396768425eabec9bdddf7e64b6"


def keyframe(root: Path, token: str = TOKEN) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [6, 900, 1600, 3] and pixel_from_lidar float64 [6, 4, 4] of the recorded images."""

    def table(name):
        (path,) = root.glob(f"v1.0-*/{name}.json")
        return {row["token"]: row for row in json.loads(path.read_text())}

    calibrations, sensors, poses = table("calibrated_sensor"), table("sensor"), table("ego_pose")
    rows = {}
    for row in table("sample_data").values():
        if row["sample_token"] == token and row["is_key_frame"]:
            rows[sensors[calibrations[row["calibrated_sensor_token"]]["sensor_token"]]["channel"]] = row

    def global_from_sensor(channel):
        pose, calibration = (
            poses[rows[channel]["ego_pose_token"]],
            calibrations[rows[channel]["calibrated_sensor_token"]],
        )
        return transform_from_pose(pose["rotation"], pose["translation"]) @ transform_from_pose(
            calibration["rotation"], calibration["translation"]
        )

    images, matrices = [], []
    for camera in NUSCENES_CAMERAS:
        images.append(np.asarray(Image.open(root / rows[camera]["filename"]).convert("RGB")))
        pixel_from_cam = np.eye(4)
        pixel_from_cam[:3, :3] = calibrations[rows[camera]["calibrated_sensor_token"]]["camera_intrinsic"]
        cam_from_lidar = invert_rigid(global_from_sensor(camera)) @ global_from_sensor("LIDAR_TOP")
        matrices.append(pixel_from_cam @ cam_from_lidar)
    return np.stack(images), np.stack(matrices)
