"""Pinhole projection, by the book: what the project's own geometry is held against."""

import numpy as np


def project_points(pixel_from_cam: np.ndarray, points_cam_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pinhole projection of camera-frame points (x right, y down, z forward).

    Args:
      pixel_from_cam: [3, 3] intrinsics.
      points_cam_m: [..., 3] metres.

    Returns:
      pixels [..., 2] (u, v), pixel centres at half-integers, and depth [...] in metres along the optical axis.
      Pixels are finite but meaningless where depth <= 0.
    """
    depth_m = points_cam_m[..., 2]
    safe = np.where(depth_m > 0, depth_m, 1.0)
    homogeneous = points_cam_m @ pixel_from_cam.T
    return homogeneous[..., :2] / safe[..., None], depth_m
