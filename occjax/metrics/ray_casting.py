"""Ray casting: the first occupied voxel along each LiDAR-like ray, exactly as the published RayIoU kernel finds it."""

import numpy as np

from occjax.classes import FREE
from occjax.grid import VoxelGrid

MAX_STEPS = 1000  # of the published kernel; the longest way through 200×200×16 voxels has some 400
# Marks the shell of one voxel around a grid, by which a ray notices that it has left.
OUTSIDE = 254  # no class, and not IGNORE (255), which the grid itself may hold
# Rays that are done are taken out every so many steps; more often costs more than it saves.
_STEPS_BETWEEN_CLEANINGS = 16


def ray_pitches_rad() -> np.ndarray:
    """The 39 pitches of RayIoU's rays, float64 [39], rising."""
    # Ten that meet flat ground 1 to 10 sensor heights away, then on in the last step, as SparseOcc has it.
    pitches = [-(np.pi / 2 - np.arctan(k + 1)) for k in range(10)]
    step = pitches[-1] - pitches[-2]
    while pitches[-1] < 0.21:
        pitches.append(pitches[-1] + step)
    return np.array(pitches)


def ray_directions() -> np.ndarray:
    """Unit vectors float32 [14040, 3] of one origin: pitch by pitch, 360 azimuths each."""
    pitch, azimuth = np.meshgrid(ray_pitches_rad(), np.deg2rad(np.arange(360)), indexing="ij")
    directions = [np.cos(pitch) * np.cos(azimuth), np.cos(pitch) * np.sin(azimuth), np.sin(pitch)]
    return np.stack(directions, axis=-1).reshape(-1, 3).astype(np.float32)


def rays_in_voxels(origins_m: np.ndarray, grid: VoxelGrid) -> tuple[np.ndarray, np.ndarray]:
    """Start and unit direction, float64 [O*R, 3] in voxel units, of every ray of every origin.

    Both ends of a ray pass through float32, as in the published code.

    Args:
      origins_m: float [O, 3] in the grid's frame, metres.
      grid: that the voxels lie on.
    """
    ends_m = origins_m[:, None] + ray_directions()
    starts_m = np.broadcast_to(origins_m[:, None], ends_m.shape)
    start, end = (
        ((points - np.array(grid.lower_m)) / grid.voxel_size_m).astype(np.float32).astype(np.float64).reshape(-1, 3)
        for points in (starts_m, ends_m)
    )
    direction = end - start
    return start, direction / np.sqrt((direction * direction).sum(-1, keepdims=True))


def padded(volume: np.ndarray) -> np.ndarray:
    """The volume [X, Y, Z] with a shell of OUTSIDE, flattened: [(X+2)*(Y+2)*(Z+2)]."""
    return np.pad(volume, 1, constant_values=OUTSIDE).reshape(-1)


class Traversal:
    """Where each ray starts to be inside the grid, and how it goes on from there (Amanatides and Woo, in double).

    Attributes:
      enters: bool [R]; a ray that does not enter meets nothing.
      index: int64 [R] first voxel inside, flat in the padded volume.
      t_max: float64 [3, R] distance in voxels at which the next border is crossed along x, y, z.
      t_delta: float64 [3, R] distance between borders.
      stride: int64 [3, R] what a step along x, y, z adds to `index`.
    """

    def __init__(self, start: np.ndarray, direction: np.ndarray, shape: tuple[int, int, int]):
        start, direction = start.T, direction.T
        sign = np.where(direction >= 0, 1, -1)
        # Truncated, not floored: up to a voxel below the lower corner counts as inside, in the published kernel too.
        voxel = np.trunc(start).astype(np.int64)
        # A ray along a plane never crosses that axis's borders: infinitely far, without dividing by zero.
        moves = direction != 0
        divisor = np.where(moves, direction, 1.0)
        self.t_max = np.where(moves, (voxel + (sign > 0) - start) / divisor, np.inf)
        self.t_delta = np.where(moves, sign / divisor, np.inf)
        self._approach(voxel, sign, shape)
        _, rows, layers = shape
        unit = np.array([(rows + 2) * (layers + 2), layers + 2, 1])[:, None]
        self.index = ((voxel + 1) * unit).sum(0)
        self.stride = sign * unit

    def _approach(self, voxel: np.ndarray, sign: np.ndarray, shape: tuple[int, int, int]) -> None:
        """Moves rays that start outside up to their first voxel inside; those that never get there are marked.

        `voxel` and `sign` are int64 [3, R]; `voxel` is changed in place.
        """
        size = np.array(shape)[:, None]
        self.enters = np.all((voxel >= 0) & (voxel < size), axis=0)
        rays = np.flatnonzero(~self.enters)
        for _ in range(MAX_STEPS):
            if not len(rays):
                return
            axis = _next_axis(*self.t_max[:, rays])
            voxel[axis, rays] += sign[axis, rays]
            self.t_max[axis, rays] += self.t_delta[axis, rays]
            position, heading = voxel[:, rays], sign[:, rays]
            self.enters[rays] = np.all((position >= 0) & (position < size), axis=0)
            gone = np.any(((position < 0) & (heading < 0)) | ((position >= size) & (heading > 0)), axis=0)
            rays = rays[~gone & ~self.enters[rays]]


def _next_axis(tx: np.ndarray, ty: np.ndarray, tz: np.ndarray) -> np.ndarray:
    """Axis [R] of the nearest border; ties go to the later axis, and `_march` and the published kernel agree."""
    return np.where(tx < ty, np.where(tx < tz, 0, 2), np.where(ty < tz, 1, 2))


def cast_rays(volumes: list[np.ndarray], origins_m: np.ndarray, grid: VoxelGrid) -> tuple[np.ndarray, np.ndarray]:
    """Class and distance of what every ray of every origin meets first, in several volumes at once.

    The way through the grid does not depend on what is in it, so the volumes share one traversal. One origin after the
    other: a thread for each was no faster on two cores, since numpy's short steps wait for the interpreter's lock.

    Args:
      volumes: V arrays uint8 [X, Y, Z] of classes on `grid`.
      origins_m: float [O, 3] metres in the grid's frame.
      grid: that the volumes lie on.

    Returns:
      uint8 [V, O, R] class, free where the ray leaves without meeting anything; float32 [V, O, R] distance in metres
      at which the ray leaves the voxel it met (or the last voxel inside). A ray that never enters has distance -1
      voxel and the class of voxel [0, 0, 0].
    """
    origins_m = np.asarray(origins_m, np.float64)
    flat = [padded(volume) for volume in volumes]
    shape = (len(volumes), len(origins_m), len(ray_directions()))
    labels, distances = np.zeros(shape, np.uint8), np.zeros(shape, np.float64)
    for i in range(len(origins_m)):
        rays = Traversal(*rays_in_voxels(origins_m[i : i + 1], grid), grid.shape)
        labels[:, i], distances[:, i] = _march(volumes, flat, rays)
    return labels, metres(distances, grid)


def metres(distances: np.ndarray, grid: VoxelGrid) -> np.ndarray:
    """Distances [...] in voxels as float32 metres, rounded as in the published code."""
    return distances.astype(np.float32) * np.float32(grid.voxel_size_m)


def _march(volumes: list[np.ndarray], flat: list[np.ndarray], rays: Traversal) -> tuple[np.ndarray, np.ndarray]:
    """All rays step by step together: uint8 [V, R] classes, float64 [V, R] distances in voxels."""
    count = len(rays.index)
    # What the published kernel leaves in its output for rays that never enter.
    labels = np.stack([np.full(count, volume[0, 0, 0]) for volume in volumes])
    distances = np.full((len(volumes), count), -1.0)
    ray = np.flatnonzero(rays.enters)
    index = rays.index[ray]
    (tx, ty, tz), (dx, dy, dz), (sx, sy, sz) = (a[:, ray] for a in (rays.t_max, rays.t_delta, rays.stride))
    pending = np.ones((len(volumes), len(ray)), bool)
    left_at = np.zeros(len(ray))
    for step in range(MAX_STEPS):
        leaves_at = np.minimum(np.minimum(tx, ty), tz)
        here = flat[0][index]
        outside = here == OUTSIDE
        for v in range(len(volumes)):
            met = np.flatnonzero(pending[v] & ((here if v == 0 else flat[v][index]) != FREE))
            if len(met):
                gone = outside[met]
                labels[v, ray[met]] = np.where(gone, FREE, flat[v][index[met]])
                distances[v, ray[met]] = np.where(gone, left_at[met], leaves_at[met])
                pending[v, met] = False
        # A ray that has left stands still, or it would run out of the padded volume before it is cleaned away.
        stopped = np.flatnonzero(outside)
        sx[stopped] = sy[stopped] = sz[stopped] = 0
        along_x = (tx < ty) & (tx < tz)
        along_y = (tx >= ty) & (ty < tz)
        along_z = ~(along_x | along_y)
        index = index + np.where(along_x, sx, np.where(along_y, sy, sz))
        tx = np.where(along_x, tx + dx, tx)
        ty = np.where(along_y, ty + dy, ty)
        tz = np.where(along_z, tz + dz, tz)
        left_at = leaves_at
        if step % _STEPS_BETWEEN_CLEANINGS == 0:
            kept = np.flatnonzero(pending.any(0))
            if not len(kept):
                break
            pending = pending[:, kept]
            ray, index, left_at, tx, ty, tz, dx, dy, dz, sx, sy, sz = (
                a[kept] for a in (ray, index, left_at, tx, ty, tz, dx, dy, dz, sx, sy, sz)
            )
    return labels, distances
