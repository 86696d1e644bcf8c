"""Fills voxel grids from the same solids and ground that the sensors see."""

import numpy as np

from occjax.classes import FREE
from occjax.data.synthetic.ground import KERB_M, ROAD, Ground
from occjax.data.synthetic.shapes import ELLIPSOID, Parts, corners_m, face_planes
from occjax.geometry import invert_rigid, transform_points
from occjax.grid import VoxelGrid

# Every voxel is probed at 3 x 3 x 3 points, the centres of its sub-cells, in voxels from its centre.
PROBES = np.stack(np.meshgrid(*[np.array([-1, 0, 1]) / 3] * 3, indexing="ij"), axis=-1).reshape(-1, 3)


def voxelize(parts: Parts, ground: Ground, grid: VoxelGrid, city_from_grid: np.ndarray) -> np.ndarray:
    """Class of every voxel of a grid, uint8 [X, Y, Z].

    A voxel takes the class of the solid that holds most of its 27 probes; where none holds any, the ground's class if
    the ground passes through the voxel on the column's axis, else FREE. Solids thinner than a sub-cell count as one
    sub-cell thick, so that thin things do not fall between probes.
    """
    labels = np.full(grid.shape, FREE, np.uint8)
    probes_inside = np.zeros(grid.shape, np.uint8)
    grid_from_city = invert_rigid(city_from_grid)
    size = grid.voxel_size_m
    low = (transform_points(grid_from_city, corners_m(parts)) - grid.lower_m) / size
    pad = np.maximum(size / 6 - np.minimum(parts.half_m.min(axis=1), 0.5 * (parts.half_m[:, :2].min(axis=1) + parts.top_half_m.min(axis=1))), 0)
    start = np.clip(np.floor(low.min(axis=1) - 0.4), 0, grid.shape).astype(int)
    stop = np.clip(np.ceil(low.max(axis=1) + 0.4), 0, grid.shape).astype(int)
    normals, offsets = face_planes(parts)
    for i in np.flatnonzero(np.all(start < stop, axis=1)):
        window = tuple(slice(a, b) for a, b in zip(start[i], stop[i], strict=True))
        inside = _probes_inside(parts, i, normals[i], offsets[i] + pad[i], pad[i], grid, city_from_grid, start[i], stop[i])
        wins = inside > probes_inside[window]
        labels[window][wins] = parts.semantic[i]
        probes_inside[window][wins] = inside[wins]
    _lay_ground(labels, ground, grid, city_from_grid)
    return labels


def _probes_inside(parts, i, normals, offsets, pad, grid, city_from_grid, start, stop) -> np.ndarray:
    """How many of the 27 probes of each voxel in a window lie in part i, uint8."""
    cos, sin = np.cos(parts.yaw_rad[i]), np.sin(parts.yaw_rad[i])
    part_from_city = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    # Local coordinates are affine in the voxel index: local = matrix @ index + shift.
    matrix = part_from_city @ city_from_grid[:3, :3] * grid.voxel_size_m
    center = np.array(grid.lower_m) + 0.5 * grid.voxel_size_m
    shift = part_from_city @ (transform_points(city_from_grid, center) - parts.center_m[i])
    axes = [np.arange(a, b, dtype=np.float32) for a, b in zip(start, stop, strict=True)]

    def plane(weights, constant):
        x, y, z = (np.float32(w) * axis for w, axis in zip(weights, axes, strict=True))
        return x[:, None, None] + y[None, :, None] + (z + np.float32(constant))[None, None, :]

    if parts.kind[i] == ELLIPSOID:
        scale = 1 / (parts.half_m[i] + pad)
        squares = [plane(matrix[a] * scale[a], shift[a] * scale[a]) for a in range(3)]
        radius = np.sqrt(squares[0] ** 2 + squares[1] ** 2 + squares[2] ** 2)
        steps = (PROBES @ (matrix * scale[:, None]).T).astype(np.float32)
        reach = np.linalg.norm(steps, axis=1).max()
        total, edge = np.where(radius <= 1 - reach, np.uint8(27), np.uint8(0)), np.abs(radius - 1) < reach
        values = np.stack([s[edge] for s in squares], axis=-1)
        total[edge] = np.sum(np.sum((values[:, None] + steps) ** 2, axis=-1) <= 1, axis=1)
        return total
    rows = normals @ matrix  # [6, 3]
    constants = normals @ shift - offsets
    depth = plane(rows[0], constants[0])
    for f in range(1, 6):
        np.maximum(depth, plane(rows[f], constants[f]), out=depth)  # > 0 = centre outside
    steps = (PROBES @ rows.T).astype(np.float32)  # [27, 6]
    reach = np.abs(steps).max()
    total, edge = np.where(depth <= -reach, np.uint8(27), np.uint8(0)), np.abs(depth) < reach
    values = np.stack([axis[n] for axis, n in zip(axes, np.nonzero(edge), strict=True)], axis=-1) @ rows.T.astype(np.float32) + constants.astype(np.float32)
    # The largest plane value of each probe decides; one plane at a time keeps the arrays small.
    worst = values[:, :1] + steps[:, 0]
    for f in range(1, 6):
        np.maximum(worst, values[:, f : f + 1] + steps[:, f], out=worst)
    total[edge] = np.count_nonzero(worst <= 0, axis=1)
    return total


def ground_height_index(ground: Ground, grid: VoxelGrid, city_from_grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Height index [X, Y] at which each column's axis meets the ground, and the ground's class there."""
    x, y = (lo + (np.arange(n) + 0.5) * grid.voxel_size_m for lo, n in zip(grid.lower_m[:2], grid.shape[:2], strict=True))
    x, y = np.meshgrid(x, y, indexing="ij")
    r, t = city_from_grid[:3, :3], city_from_grid[:3, 3]

    def meet(height):
        z = (height - t[2] - r[2, 0] * x - r[2, 1] * y) / r[2, 2]
        points = [r[a, 0] * x + r[a, 1] * y + r[a, 2] * z + t[a] for a in range(2)]
        return z, ground.semantic_at(*points)

    z, semantic = meet(0.0)
    z, semantic = meet(np.where(semantic == ROAD, 0.0, KERB_M))
    return np.floor((z - grid.lower_m[2]) / grid.voxel_size_m).astype(int), semantic


def _lay_ground(labels: np.ndarray, ground: Ground, grid: VoxelGrid, city_from_grid: np.ndarray) -> None:
    height, semantic = ground_height_index(ground, grid, city_from_grid)
    x, y = np.nonzero((height >= 0) & (height < grid.shape[2]))
    z = height[x, y]
    free = labels[x, y, z] == FREE
    labels[x[free], y[free], z[free]] = semantic[x[free], y[free]]
