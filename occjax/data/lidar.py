"""LiDAR sweeps as one nearest depth per feature pixel of every camera."""

import numpy as np
from jaxtyping import Bool, Float

from occjax.errors import DataError

# The backbone's: a feature pixel stands for a block of 16×16 input pixels.
STRIDE = 16
# Nearer ones hit the car itself.
MIN_DEPTH_M = 1.0
# x, y, z, intensity, ring. In nuScenes' own sweeps and in generated ones every ring is a whole number; read as five
# columns, four columns give whole ones in 25 % of the rows, six in 50 % and float64 in 22 %.
_VALUES_PER_POINT, _WHOLE_RINGS, _LARGEST_RING = 5, 0.99, 255
_FARTHEST_M = 1000.0


def points_from_bytes(data: bytes) -> Float[np.ndarray, "p 3"]:
    """Points of a nuScenes `.pcd.bin` in the frame of its LiDAR, metres.

    Raises:
      DataError: the file is empty, no whole number of points, of another layout, or holds points that cannot be.
    """
    columns = f"{_VALUES_PER_POINT} columns of float32 (x, y, z, intensity, ring)"
    if not data or len(data) % (4 * _VALUES_PER_POINT):
        raise DataError(f"{len(data)} bytes are no whole, positive number of points of {columns}")
    values = np.frombuffer(data, "<f4").reshape(-1, _VALUES_PER_POINT)
    ring = values[:, 4]
    with np.errstate(invalid="ignore"):  # bytes of something else may be signalling NaNs
        whole = float(np.mean((ring == np.floor(ring)) & (ring >= 0) & (ring <= _LARGEST_RING)))
    if whole < _WHOLE_RINGS:
        raise DataError(
            f"{columns} expected, but the ring is a whole number from 0 to {_LARGEST_RING} in {100 * whole:.0f} % of "
            "the rows only: 4 or 6 columns? float64?"
        )
    points = values[:, :3]
    with np.errstate(invalid="ignore"):
        plausible = np.abs(points) <= _FARTHEST_M  # which NaN is not
    if not plausible.all():
        wrong = np.flatnonzero(~plausible.all(axis=1))
        raise DataError(
            f"coordinates must be finite and within {_FARTHEST_M:g} m, but {len(wrong)} of {len(points)} points are "
            f"not, first {points[wrong[0]].tolist()}"
        )
    return points


def depth_map(
    points_m: Float[np.ndarray, "p 3"],
    cam_from_lidar: Float[np.ndarray, "n 4 4"],
    pixel_from_cam: Float[np.ndarray, "n 3 3"],
    input_from_pixel: Float[np.ndarray, "n 3 3"],
    is_present: Bool[np.ndarray, " n"],
    *,
    height: int,
    width: int,
    max_m: float,
) -> Float[np.ndarray, "n hf wf"]:
    """Depth along the optical axis of the nearest point in each 16×16 block of the network input; 0 = no point.

    Only depths in [1 m, max_m) count. A block's point is seen through the image augmentation, as the image is.

    Args:
      points_m: LIDAR_TOP frame at keyframe time.
      cam_from_lidar: to each camera at its own timestamp.
      pixel_from_cam: intrinsics of the recorded images.
      input_from_pixel: recorded pixels to network-input pixels, affine.
      is_present: absent cameras get no depth.
      height: of the network input, pixels, a multiple of 16.
      width: likewise.
      max_m: metres.
    """
    rows, columns = height // STRIDE, width // STRIDE
    # An affine input_from_pixel keeps the third homogeneous coordinate, so that it is still the depth.
    cell_from_input = np.diag([1 / STRIDE, 1 / STRIDE, 1.0])
    cell_from_lidar = cell_from_input @ input_from_pixel @ pixel_from_cam @ cam_from_lidar[:, :3].astype(np.float64)
    homogeneous = np.ones((4, len(points_m)), np.float32)
    homogeneous[:3] = points_m.T
    # One product of [3 N, 4] takes half the time of N small ones.
    cells = (cell_from_lidar.astype(np.float32).reshape(-1, 4) @ homogeneous).reshape(len(cell_from_lidar), 3, -1)
    depth_m = np.full((len(cells), rows * columns), np.inf, np.float32)
    for camera in np.flatnonzero(is_present):
        x, y, depth = cells[camera]
        visible = (depth >= MIN_DEPTH_M) & (depth < max_m)
        visible &= (x >= 0) & (y >= 0) & (x < columns * depth) & (y < rows * depth)
        # As indices: few points remain, and what follows costs by the point.
        visible = np.flatnonzero(visible)
        depth = depth[visible]
        # The division may round up to the border that the product stayed below.
        column = np.minimum((x[visible] / depth).astype(np.int32), columns - 1)
        row = np.minimum((y[visible] / depth).astype(np.int32), rows - 1)
        np.minimum.at(depth_m[camera], row * columns + column, depth)
    # 0, not infinity: the loss multiplies by a mask, and infinity times 0 is no number.
    depth_m[np.isinf(depth_m)] = 0
    return depth_m.reshape(-1, rows, columns)
