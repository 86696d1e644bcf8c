"""Visibility of voxels, or which of them the sensors observe: seen by a camera, or crossed or hit by a LiDAR ray."""

import cv2
import numpy as np

from occjax.geometry import transform_points
from occjax.grid import VoxelGrid
from occjax.synthetic.lidar import RANGE_M, Sweep, lidar_rays


def camera_mask(grid: VoxelGrid, views: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    """uint8 [X, Y, Z]: 1 where the voxel's centre lies in some image, no deeper than half a voxel behind what is seen.

    As in Occ3D only rays that end on something inside the grid observe; those that leave it say nothing.

    Args:
      views: (pixel_from_cam [3, 3], cam_from_grid [4, 4], depth along the optical axis [H, W]) per camera. Depth is
        taken as the largest of the 3 x 3 pixels around, so that ground at a grazing angle leaves no stripes.
    """
    seen = np.zeros(grid.shape, bool)
    centers = [lo + (np.arange(n) + 0.5) * grid.voxel_size_m for lo, n in zip(grid.lower_m, grid.shape, strict=True)]
    # Half a diagonal: a surface may lie anywhere in its voxel, the centre is as much as that behind it.
    slack = np.float32(0.5 * np.sqrt(3) * grid.voxel_size_m)
    for pixel_from_cam, cam_from_grid, depth_image in views:
        height, width = depth_image.shape
        rows = (pixel_from_cam @ cam_from_grid[:3]).astype(np.float32)

        # Projection is affine in x, y and z: three vectors summed by broadcasting, instead of a product for each voxel.
        def affine(row):
            x, y, z = (np.float32(w) * c.astype(np.float32) for w, c in zip(row[:3], centers, strict=True))
            return x[:, None, None] + y[None, :, None] + (z + row[3])[None, None, :]

        depth = affine(rows[2])
        ahead = np.flatnonzero(depth.ravel() > 0.1)
        depth = depth.ravel()[ahead]
        u = affine(rows[0]).ravel()[ahead] / depth
        v = affine(rows[1]).ravel()[ahead] / depth
        inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
        ahead, depth = ahead[inside], depth[inside]
        ends_inside = _ends_inside(grid, pixel_from_cam, cam_from_grid, depth_image)
        widest = cv2.dilate(np.where(ends_inside, depth_image, np.float32(-1)), np.ones((3, 3), np.uint8))
        limit = widest[v[inside].astype(np.int32), u[inside].astype(np.int32)]
        seen.ravel()[ahead[depth <= limit + slack]] = True
    return seen.astype(np.uint8)


def _ends_inside(grid: VoxelGrid, pixel_from_cam, cam_from_grid, depth_image) -> np.ndarray:
    """bool [H, W]: whether the surface that a pixel sees lies in the grid; arguments as in `camera_mask`."""
    height, width = depth_image.shape
    grid_from_pixel = (np.linalg.inv(cam_from_grid)[:3, :3] @ np.linalg.inv(pixel_from_cam)).astype(np.float32)
    position = np.linalg.inv(cam_from_grid)[:3, 3].astype(np.float32)
    u, v = (np.arange(n, dtype=np.float32) + np.float32(0.5) for n in (width, height))
    inside = np.ones(depth_image.shape, bool)
    for a in range(3):
        ray = grid_from_pixel[a, 0] * u[None] + (grid_from_pixel[a, 1] * v + grid_from_pixel[a, 2])[:, None]
        coordinate = position[a] + depth_image * ray
        inside &= (coordinate >= grid.lower_m[a]) & (coordinate < grid.upper_m[a])
    return inside


def lidar_mask(grid: VoxelGrid, grid_from_lidar: np.ndarray, sweep: Sweep) -> np.ndarray:
    """uint8 [X, Y, Z]: 1 where a LiDAR ray that returns passes (probed once per voxel length) or ends.

    Args:
      grid_from_lidar: [4, 4].
    """
    seen = np.zeros(grid.shape, np.uint8)
    origin = grid_from_lidar[:3, 3].astype(np.float32)
    # Every second column halves the work; at the sides of the grid, 40 m away, rays are then 0.46 m apart.
    reach = sweep.range_m[:, ::2].ravel()
    # Sorted by length, the rays that still fly at a distance are the tail of the array: a slice, not a mask.
    order = np.argsort(reach)
    order = order[reach[order] < RANGE_M[1]]
    reach = reach[order]
    rays = (grid_from_lidar[:3, :3].astype(np.float32) @ lidar_rays()[:, :, ::2].reshape(3, -1)[:, order]).T
    # In voxels, so that flooring gives the index.
    rays = rays / np.float32(grid.voxel_size_m)
    origin = (origin - np.array(grid.lower_m, np.float32)) / np.float32(grid.voxel_size_m)
    longest = float(np.linalg.norm(np.array(grid.shape)) * grid.voxel_size_m)
    for distance in np.arange(0.5, min(longest, float(reach.max())), grid.voxel_size_m):
        first = np.searchsorted(reach, distance)
        rays, reach = rays[first:], reach[first:]
        index = (origin + rays * np.float32(distance)).astype(np.int32)
        inside = np.all((index >= 0) & (index < grid.shape), axis=1)
        if not inside.any():
            break
        # A ray that has left a convex grid does not come back, so it is dropped for good.
        rays, reach = rays[inside], reach[inside]
        seen[tuple(index[inside].T)] = 1
    hit, inside = grid.indices_from_points(transform_points(grid_from_lidar, sweep.points[:, :3]))
    seen[tuple(hit[inside].T)] = 1
    return seen
