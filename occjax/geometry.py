"""Rigid transforms and augmentation matrices, each named dst_from_src, in numpy."""

import numpy as np


def rotation_from_quaternion(wxyz) -> np.ndarray:
    """Rotation matrix [3, 3], float64, of a quaternion in nuScenes order (w, x, y, z); normalised first.

    Raises:
      ValueError: the quaternion has length zero.
    """
    # So that one which was rounded still gives a rotation.
    q = np.asarray(wxyz, np.float64)
    norm = np.linalg.norm(q)
    if norm == 0:
        raise ValueError("a rotation needs a quaternion of non-zero length (w, x, y, z); found all zeros")
    w, x, y, z = q / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def transform_from_pose(rotation_wxyz, translation_m) -> np.ndarray:
    """[4, 4] float64 `parent_from_child` of a child whose pose in the parent is given."""
    parent_from_child = np.eye(4)
    parent_from_child[:3, :3] = rotation_from_quaternion(rotation_wxyz)
    parent_from_child[:3, 3] = translation_m
    return parent_from_child


def invert_rigid(dst_from_src: np.ndarray) -> np.ndarray:
    """`src_from_dst` of a rigid [..., 4, 4] transform, through the transpose."""
    # Exact and cheap, and never singular, where a general inverse is none of these.
    rotation_t = np.swapaxes(dst_from_src[..., :3, :3], -1, -2)
    src_from_dst = np.zeros_like(dst_from_src)
    src_from_dst[..., :3, :3] = rotation_t
    src_from_dst[..., :3, 3:] = -rotation_t @ dst_from_src[..., :3, 3:]
    src_from_dst[..., 3, 3] = 1
    return src_from_dst


def transform_points(dst_from_src: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points [..., 3] of the src frame in the dst frame; `dst_from_src` is [4, 4]."""
    return points @ dst_from_src[:3, :3].T + dst_from_src[:3, 3]
