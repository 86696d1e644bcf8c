"""Voxel labels of a grid, from the same solids and ground that the sensors see."""

import functools

import numpy as np

from occjax.classes import FREE
from occjax.geometry import invert_rigid, transform_points
from occjax.grid import VoxelGrid
from occjax.synthetic.ground import KERB_M, ROAD, Ground
from occjax.synthetic.shapes import ELLIPSOID, Parts, corners_m, face_planes

# Every voxel is probed at 3 x 3 x 3 points, the centres of its sub-cells, in voxels from its centre.
PROBES = np.stack(np.meshgrid(*[np.array([-1, 0, 1]) / 3] * 3, indexing="ij"), axis=-1).reshape(-1, 3)


def voxelize(parts: Parts, ground: Ground, grid: VoxelGrid, city_from_grid: np.ndarray) -> np.ndarray:
    """Class of every voxel of a grid, uint8 [X, Y, Z]; `city_from_grid` is [4, 4].

    A voxel is occupied if a solid touches it, to the precision of its 27 sub-cells: a sub-cell counts if its centre
    lies in the solid or within half a sub-cell of its faces. The solid with most sub-cells gives the class; where none
    has any, the ground does if it passes through the voxel on the column's axis; else the voxel is FREE.
    """
    labels = np.full(grid.shape, FREE, np.uint8)
    probes_inside = np.zeros(grid.shape, np.uint8)
    grid_from_city = invert_rigid(city_from_grid)
    size = grid.voxel_size_m
    # Windows reach 0.4 of a voxel past the part: more than the half sub-cell (1/6) by which it may touch.
    outline = (transform_points(grid_from_city, corners_m(parts)) - grid.lower_m) / size
    start = np.clip(np.floor(outline.min(axis=1) - 0.4), 0, grid.shape).astype(int)
    stop = np.clip(np.ceil(outline.max(axis=1) + 0.4), 0, grid.shape).astype(int)
    normals, offsets = face_planes(parts)
    for i in np.flatnonzero(np.all(start < stop, axis=1)):
        window = tuple(slice(a, b) for a, b in zip(start[i], stop[i], strict=True))
        inside = _probes_inside(parts, i, normals[i], offsets[i], grid, city_from_grid, window)
        wins = inside > probes_inside[window]
        labels[window][wins] = parts.semantic[i]
        probes_inside[window][wins] = inside[wins]
    _lay_ground(labels, ground, grid, city_from_grid)
    return labels


@functools.cache
def _voxel_index(shape: tuple[int, int, int]) -> np.ndarray:
    """float32 [X, Y, Z, 3] index of every voxel; kept, for every part of every keyframe cuts its window out of it."""
    return np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij"), axis=-1)


def _probes_inside(parts, i, normals, offsets, grid, city_from_grid, window) -> np.ndarray:
    """How many of the 27 sub-cells of each voxel in a window part i touches, uint8 [x, y, z] of the window.

    Args:
      normals, offsets: [6, 3] and [6] of the part's faces.
      city_from_grid: [4, 4].
      window: three slices of the grid.
    """
    cos, sin = np.cos(parts.yaw_rad[i]), np.sin(parts.yaw_rad[i])
    part_from_city = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    # Local coordinates are affine in the voxel index: local = matrix @ index + shift.
    matrix = part_from_city @ city_from_grid[:3, :3] * grid.voxel_size_m
    center = np.array(grid.lower_m) + 0.5 * grid.voxel_size_m
    shift = part_from_city @ (transform_points(city_from_grid, center) - parts.center_m[i])
    index, pad = _voxel_index(grid.shape)[window], 0.998 * grid.voxel_size_m / 6  # sharing a face is no touch
    if parts.kind[i] == ELLIPSOID:
        scale = 1 / (parts.half_m[i] + pad)
        rows, constants = matrix * scale[:, None], shift * scale
    else:  # signed distances to the six faces
        rows, constants = normals @ matrix, normals @ shift - offsets - pad
    values = index @ rows.T.astype(np.float32) + constants.astype(np.float32)  # [x, y, z, 3 or 6]
    steps = (PROBES @ rows.T).astype(np.float32)  # [27, 3 or 6]
    if parts.kind[i] == ELLIPSOID:
        depth = np.sqrt(np.sum(values * values, axis=-1)) - 1
        reach = np.linalg.norm(steps, axis=1).max()
    else:
        depth = functools.reduce(np.maximum, np.moveaxis(values, -1, 0))
        reach = np.abs(steps).max()
    # All or nothing where the surface is out of every probe's reach; the 27 are only tried where it is not.
    total, edge = np.where(depth <= -reach, np.uint8(27), np.uint8(0)), np.abs(depth) < reach
    columns = values[edge].T  # [3 or 6, m]: the voxels that a surface may cut
    terms = (column + step[:, None] for column, step in zip(columns, steps.T, strict=True))  # of [27, m]
    if parts.kind[i] == ELLIPSOID:
        total[edge] = (functools.reduce(np.add, (term * term for term in terms)) <= 1).sum(axis=0)
    else:
        total[edge] = (functools.reduce(np.maximum, terms) <= 0).sum(axis=0)
    return total


def _lay_ground(labels: np.ndarray, ground: Ground, grid: VoxelGrid, city_from_grid: np.ndarray) -> None:
    """Gives the voxels through which the ground passes its class, in labels [X, Y, Z], where nothing stands in them.

    Args:
      city_from_grid: [4, 4]; the grid may lean, its columns then meet the ground askew.
    """
    x, y = (grid.lower_m[a] + (np.arange(grid.shape[a]) + 0.5) * grid.voxel_size_m for a in (0, 1))
    x, y = np.meshgrid(x, y, indexing="ij")
    r, t = city_from_grid[:3, :3], city_from_grid[:3, 3]

    def meet(height):
        z = (height - t[2] - r[2, 0] * x - r[2, 1] * y) / r[2, 2]
        points = [r[a, 0] * x + r[a, 1] * y + r[a, 2] * z + t[a] for a in range(2)]
        return z, ground.semantic_at(*points)

    # The class at road height says how high the ground is, and the second meeting which class is there.
    z, semantic = meet(0.0)
    z, semantic = meet(np.where(semantic == ROAD, 0.0, KERB_M))
    height = np.floor((z - grid.lower_m[2]) / grid.voxel_size_m).astype(int)
    x, y = np.nonzero((height >= 0) & (height < grid.shape[2]))
    z = height[x, y]
    free = labels[x, y, z] == FREE
    labels[x[free], y[free], z[free]] = semantic[x[free], y[free]]
