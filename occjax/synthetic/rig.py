"""Rig of sensors on the car: where they sit, when they fire, and what a camera's lens does, much as in nuScenes."""

import dataclasses

import numpy as np

from occjax.synthetic.shapes import pose_from_angles

LIDAR = "LIDAR_TOP"


@dataclasses.dataclass(frozen=True)
class Mount:
    """A sensor's place on the car.

    Attributes:
      position_m: (x, y, z) in the ego frame.
      yaw_deg: where it looks, counter-clockwise from straight ahead.
      tilt_deg: (roll, pitch) of the mounting error, small and fixed.
      delay_us: firing time relative to the keyframe's LiDAR sweep, microseconds.
      focal_px, center_px: pinhole at 1600x900; zero for the LiDAR.
    """

    position_m: tuple[float, float, float]
    yaw_deg: float
    tilt_deg: tuple[float, float]
    delay_us: int
    focal_px: float = 0.0
    center_px: tuple[float, float] = (0.0, 0.0)


# Not quite straight, not quite symmetric and no two alike: a swap of cameras, or an axis taken for granted, shows.
# Cameras fire one after the other as the LiDAR sweeps over their view, all of them before the sweep's own stamp.
MOUNTS = {
    "CAM_FRONT": Mount((1.70, 0.01, 1.51), 0.3, (0.2, 0.4), -35500, 1262.0, (812.0, 489.0)),
    "CAM_FRONT_RIGHT": Mount((1.55, -0.49, 1.50), -56.2, (-0.3, 0.5), -27600, 1259.0, (806.0, 493.0)),
    "CAM_FRONT_LEFT": Mount((1.52, 0.49, 1.51), 55.4, (0.3, 0.3), -43100, 1268.0, (822.0, 482.0)),
    "CAM_BACK": Mount((0.03, 0.00, 1.58), 179.8, (0.1, -0.5), -10400, 808.0, (826.0, 480.0)),
    "CAM_BACK_LEFT": Mount((1.04, 0.48, 1.59), 108.6, (-0.2, 0.6), -500, 1256.0, (794.0, 491.0)),
    "CAM_BACK_RIGHT": Mount((1.01, -0.48, 1.56), -110.7, (0.4, 0.2), -20100, 1258.0, (805.0, 499.0)),
    LIDAR: Mount((0.94, 0.0, 1.84), -89.9, (0.6, -0.9), 0),
}

# Columns: the axes of a camera (x right, y down, z forward) in a frame that looks along x with z up.
FORWARD_FROM_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def ego_from_sensor(channel: str) -> np.ndarray:
    """[4, 4] pose of a sensor; the LiDAR's y looks ahead, its x to the right, up to the mounting error."""
    mount = MOUNTS[channel]
    yaw, roll, pitch = np.radians([mount.yaw_deg, *mount.tilt_deg])
    pose = pose_from_angles(mount.position_m, yaw, pitch, roll)
    if channel != LIDAR:
        pose[:3, :3] = pose[:3, :3] @ FORWARD_FROM_OPTICAL
    return pose


def pixel_from_cam(channel: str, width: int, height: int) -> np.ndarray:
    """[3, 3] intrinsics of a camera for images of `width` x `height` pixels."""
    mount = MOUNTS[channel]
    # The centre scales like the focal length because pixel centres lie at half-integers.
    scale = np.array([[width / 1600], [height / 900], [1]])
    (cx, cy), focal = mount.center_px, mount.focal_px
    return scale * np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1]])


def quaternion_from_rotation(rotation: np.ndarray) -> list[float]:
    """Quaternion (w, x, y, z) with w >= 0 of a rotation matrix [3, 3]."""
    m = rotation
    # The eigenvector of the largest eigenvalue of this symmetric matrix (Bar-Itzhack, 2000); no case distinctions.
    k = np.array(
        [
            [m[0, 0] - m[1, 1] - m[2, 2], 0, 0, 0],
            [m[0, 1] + m[1, 0], m[1, 1] - m[0, 0] - m[2, 2], 0, 0],
            [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], m[2, 2] - m[0, 0] - m[1, 1], 0],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m[0, 0] + m[1, 1] + m[2, 2]],
        ]
    )
    x, y, z, w = np.linalg.eigh(k, UPLO="L")[1][:, -1]
    # An eigenvector's sign is the solver's choice; files must not depend on it.
    sign = 1.0 if w >= 0 else -1.0
    return [float(sign * v) for v in (w, x, y, z)]
