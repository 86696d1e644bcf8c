"""Cost map for a robot: which columns of the grid something stands in, how close that is, and where nobody looks."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int8

from occjax.classes import CLASS_NAMES, FREE
from occjax.errors import UserError
from occjax.geometry import transform_points
from occjax.grid import VoxelGrid
from occjax.predict.occupancy import Occupancy
from occjax.predict.rig import Rig

# What wheels stand on is occupied, but no obstacle.
GROUND = tuple(CLASS_NAMES.index(name) for name in ("driveable_surface", "other_flat", "sidewalk", "terrain"))
_OBSTACLES = [c for c in range(FREE) if c not in GROUND]
UNKNOWN, LETHAL, INSCRIBED = -1, 100, 99


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


def cost_map(
    occupancy: Occupancy,
    rig: Rig,
    *,
    height_m: tuple[float, float],
    threshold: float = 0.5,
    robot_radius_m: float = 0.0,
    inflation_radius_m: float = 0.0,
    cost_scaling: float = 3.0,
) -> CostMap:
    """The cost map of a frame.

    A column's cost is the largest probability of an obstacle in the band, in per cent; from `threshold` on it is one,
    100. Around obstacles costs fall as nav2's inflation layer has it: 99 within the robot's radius, then
    99 exp(-cost_scaling · distance) up to the inflation radius.

    Args:
      occupancy: of the frame, with probabilities.
      rig: with the sizes of its images; a column that none of its cameras looks at is unknown, whatever the network
        believes.
      height_m: lower and upper end of the robot, z in the grid's frame.
      threshold: probability that makes an obstacle.
      robot_radius_m: of the robot, seen from above.
      inflation_radius_m: how far costs reach around obstacles, from their edge; 0 = not at all.
      cost_scaling: how fast they fall, per metre.

    Raises:
      UserError: a band without a voxel, numbers that are none, or a rig that does not say its image sizes.
    """
    grid = occupancy.grid
    z = grid.centers_m()[0, 0, :, 2]
    band = (z >= height_m[0]) & (z <= height_m[1])
    if not band.any():
        raise UserError(
            f"no voxel has its centre between {height_m[0]} and {height_m[1]} m: the grid reaches from "
            f"{grid.lower_m[2]:g} to {grid.upper_m[2]:g} m in steps of {grid.voxel_size_m:g} m; give another height_m"
        )
    if not 0 < threshold <= 1 or min(robot_radius_m, inflation_radius_m, cost_scaling) < 0:
        raise UserError("a cost map wants a threshold above 0 and up to 1, and radii and scaling of 0 or more")
    probability = occupancy.probabilities[:, :, band][..., _OBSTACLES].sum(-1).max(-1)  # [X, Y]
    is_obstacle = probability >= threshold
    cost = np.where(is_obstacle, LETHAL, np.round(np.minimum(probability * 100, INSCRIBED - 1)))
    if is_obstacle.any():
        # To the centre of the nearest obstacle's cell.
        distance = cv2.distanceTransform((~is_obstacle).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        distance = distance * grid.voxel_size_m
        beyond = INSCRIBED * np.exp(-cost_scaling * np.maximum(distance - robot_radius_m, 0))
        reach = max(robot_radius_m, inflation_radius_m)
        inflated = np.where((distance <= reach) & ~is_obstacle & (reach > 0), np.floor(beyond), 0)
        cost = np.maximum(cost, inflated)
    values = np.where(seen_columns(rig, grid, band) | is_obstacle, cost, UNKNOWN).astype(np.int8)
    return CostMap(values, grid.voxel_size_m, (grid.lower_m[0], grid.lower_m[1]))


def seen_columns(rig: Rig, grid: VoxelGrid, band: Bool[np.ndarray, "z"]) -> Bool[np.ndarray, "x y"]:
    """Columns of which a voxel of the band lies in some camera's image; what may stand before it is not asked.

    Raises:
      UserError: the rig does not say its image sizes.
    """
    if rig.sizes is None:
        raise UserError("what cameras look at depends on the sizes of their images; give the rig its `sizes`")
    points = grid.centers_m()[:, :, band]  # [X, Y, B, 3]
    seen = np.zeros(grid.shape[:2], bool)
    for cam_from_grid, pixel_from_cam, size in zip(rig.cam_from_grid, rig.pixel_from_cam, rig.sizes, strict=True):
        pixel, depth_m = _project(points, cam_from_grid, pixel_from_cam)
        inside = (depth_m > 0) & np.all((pixel >= 0) & (pixel < size), axis=-1)
        seen |= inside.any(-1)
    return seen


def _project(
    points: Float[np.ndarray, "*axes 3"], cam_from_grid: np.ndarray, pixel_from_cam: np.ndarray
) -> tuple[Float[np.ndarray, "*axes 2"], Float[np.ndarray, "*axes"]]:
    """Pixels and depths of points; the pixels mean nothing behind the camera."""
    camera = transform_points(cam_from_grid, points) @ pixel_from_cam.T
    depth_m = camera[..., 2]
    return camera[..., :2] / np.where(np.abs(depth_m) < 1e-6, 1e-6, depth_m)[..., None], depth_m
