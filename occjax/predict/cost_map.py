"""Cost map for a robot: which columns of the grid something stands in, how close that is, and where nobody looks."""

import functools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int8

from occjax.classes import FREE, GROUND_CLASSES
from occjax.errors import UserError
from occjax.geometry import transform_points
from occjax.grid import VoxelGrid
from occjax.predict.occupancy import Occupancy
from occjax.predict.rig import Rig
from occjax.storage import writing

_OBSTACLES = [c for c in range(FREE) if c not in GROUND_CLASSES]
UNKNOWN, LETHAL, INSCRIBED = -1, 100, 99


class Robot(NamedTuple):
    """What plans its way.

    Attributes:
      height_m: its lower and upper end, z in the grid's frame; what has its voxels' centres between them is in its way.
      radius_m: seen from above.
      inflation_radius_m: how far costs reach around obstacles, from the edges of their cells; 0 = its radius.
      cost_scaling: how fast they fall beyond its radius, per metre.
    """

    height_m: tuple[float, float]
    radius_m: float = 0.0
    inflation_radius_m: float = 0.0
    cost_scaling: float = 3.0


class CostMap(NamedTuple):
    """Costs seen from above, as ROS's nav_msgs/OccupancyGrid has them.

    Attributes:
      values: int8 [X, Y]: -1 unknown, 0 free, 100 an obstacle, 99 where the robot's centre would touch one.
      resolution_m: edge of a cell.
      origin_m: x and y of the lower corner of cell [0, 0], in the grid's frame.
    """

    values: Int8[np.ndarray, "x y"]
    resolution_m: float
    origin_m: tuple[float, float]

    def message_data(self) -> Int8[np.ndarray, "cells"]:
        """`data` of the message: row by row along x, beginning at the origin; its width is X, its height Y."""
        return self.values.T.ravel()

    def save(self, path: Path) -> Path:
        """Writes an .npz of `values`, `resolution_m` and `origin_m`; returns its path. Raises OSError."""
        with writing(path) as scratch, scratch.open("wb") as file:
            np.savez_compressed(file, **self._asdict())
        return path


def cost_map(
    occupancy: Occupancy,
    rig: Rig,
    robot: Robot,
    *,
    cameras: Iterable[str] | None = None,
    threshold: float = 0.5,
) -> CostMap:
    """The cost map of a frame.

    A column's cost is the largest probability of an obstacle in the robot's band of heights, in per cent; from
    `threshold` on it is one, 100. Probabilities are `occupancy`'s: calibrated where a temperature was fitted. Around
    obstacles costs fall as nav2's inflation layer has it: 99 within the robot's radius, then
    99 exp(-cost_scaling · distance beyond it) up to the inflation radius. Distances are from a cell's centre to the
    edge of the obstacle's cell, which is not small beside a robot: to its centre, as nav2 takes it of cells of 5 cm, a
    robot of 0.4 m would seem to pass in the cell beside one of 0.5 m. A column that no camera looks at is unknown,
    whatever the network believes, unless it is an obstacle or within the robot's radius of one.

    Args:
      occupancy: of the frame, with probabilities.
      rig: with the sizes of its images.
      robot: see there.
      cameras: those that the frame had an image of; None = all.
      threshold: probability that makes an obstacle.

    Raises:
      UserError: a band without a voxel, numbers that are none, or a rig that does not say its image sizes.
    """
    _, radius_m, inflation_radius_m, cost_scaling = robot
    grid, band = occupancy.grid, band_of(robot, occupancy.grid)
    if not 0 < threshold <= 1:
        raise UserError(f"the threshold of an obstacle is a probability above 0 and up to 1, not {threshold}")
    probability = occupancy.probabilities[:, :, band][..., _OBSTACLES].sum(-1).max(-1)  # [X, Y]
    is_obstacle = probability >= threshold
    cost = np.where(is_obstacle, LETHAL, np.round(np.minimum(probability * 100, INSCRIBED - 1)))
    if is_obstacle.any():
        distance = _distance_in_cells(is_obstacle) * grid.voxel_size_m
        beyond = INSCRIBED * np.exp(-cost_scaling * np.maximum(distance - radius_m, 0))
        reach = max(radius_m, inflation_radius_m)
        inflated = np.where((distance <= reach) & ~is_obstacle & (reach > 0), np.floor(beyond), 0)
        cost = np.maximum(cost, inflated)
    # As nav2: what the robot would touch is known to be bad, seen or not.
    is_known = seen_columns(rig, grid, band, cameras) | (cost >= INSCRIBED)
    values = np.where(is_known, cost, UNKNOWN).astype(np.int8)
    return CostMap(values, grid.voxel_size_m, (grid.lower_m[0], grid.lower_m[1]))


def _distance_in_cells(is_obstacle: Bool[np.ndarray, "x y"]) -> Float[np.ndarray, "x y"]:
    """From the centre of each cell to the nearest point of an obstacle's cell, in cells; 0 within one."""
    # On a lattice of half cells, where that nearest point is always one of nine: centre, edges' middles, corners.
    lattice = np.zeros([2 * side + 1 for side in is_obstacle.shape], np.uint8)
    lattice[1::2, 1::2] = is_obstacle
    lattice = cv2.dilate(lattice, np.ones((3, 3), np.uint8))
    return cv2.distanceTransform(1 - lattice, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1::2, 1::2] / 2


def band_of(robot: Robot, grid: VoxelGrid) -> Bool[np.ndarray, "z"]:
    """Layers of a grid that a robot is in; raises UserError where there are none, or its numbers are none."""
    low, high = robot.height_m
    z = grid.centers_m()[0, 0, :, 2]
    band = (z >= low) & (z <= high)
    if not band.any():
        raise UserError(
            f"no voxel has its centre between {low} and {high} m: the grid reaches from {grid.lower_m[2]:g} to "
            f"{grid.upper_m[2]:g} m in steps of {grid.voxel_size_m:g} m; give another height of the robot"
        )
    if not all(0 <= value < math.inf for value in robot[1:]):
        raise UserError(f"radii and scaling of a robot are 0 or more and finite, not {', '.join(map(str, robot[1:]))}")
    return band


def seen_columns(
    rig: Rig, grid: VoxelGrid, band: Bool[np.ndarray, "z"], cameras: Iterable[str] | None = None
) -> Bool[np.ndarray, "x y"]:
    """Columns of which a voxel of the band lies in an image of `cameras`; what may stand before it is not asked.

    Raises:
      UserError: the rig does not say its image sizes, or has no such camera.
    """
    looking = set(rig.cameras if cameras is None else [cameras] if isinstance(cameras, str) else cameras)
    if unknown := looking - set(rig.cameras):
        raise UserError(f"the rig has no camera {', '.join(sorted(unknown))}; it has {', '.join(rig.cameras)}")
    return _seen_by_camera(rig, grid, band.tobytes())[[name in looking for name in rig.cameras]].any(0)


# A third of a second on SurroundOcc's grid, and the same for every frame of a rig.
@functools.lru_cache(maxsize=8)
def _seen_by_camera(rig: Rig, grid: VoxelGrid, band: bytes) -> Bool[np.ndarray, "n x y"]:
    """As `seen_columns`, for each camera; `band` as the bytes of its bools."""
    rig = rig.in_frame(grid.frame)
    if rig.sizes is None:
        raise UserError("what cameras look at depends on the sizes of their images; give the rig its `sizes`")
    points = grid.centers_m()[:, :, np.frombuffer(band, bool)]  # [X, Y, B, 3]
    seen = np.zeros((len(rig.cameras), *grid.shape[:2]), bool)
    for camera, lens in enumerate(rig.lenses):
        pixel, depth_m = _project(points, rig.cam_from_grid[camera], rig.pixel_from_cam[camera])
        inside = (depth_m > 0) & np.all((pixel >= 0) & (pixel < rig.sizes[camera]), axis=-1)
        if lens is not None:
            column, row = np.where(inside[..., None], pixel, 0).astype(int).transpose(3, 0, 1, 2)
            inside &= lens.sees[row, column]
        seen[camera] = inside.any(-1)
    return seen


def _project(
    points: Float[np.ndarray, "*axes 3"], cam_from_grid: np.ndarray, pixel_from_cam: np.ndarray
) -> tuple[Float[np.ndarray, "*axes 2"], Float[np.ndarray, "*axes"]]:
    """Pixels and depths of points; the pixels mean nothing behind the camera."""
    camera = transform_points(cam_from_grid, points) @ pixel_from_cam.T
    depth_m = camera[..., 2]
    return camera[..., :2] / np.where(np.abs(depth_m) < 1e-6, 1e-6, depth_m)[..., None], depth_m
