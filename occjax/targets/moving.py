"""Teacher targets on the model's grid: cropped and augmented without leaving their codes, or written out in full."""

import numpy as np

from occjax.grid import VoxelGrid
from occjax.grid_map import GridMap
from occjax.targets.codec import decode_rows
from occjax.targets.files import TeacherFileError
from occjax.types import BevCodes, TeacherTargets, VoxelCodes


def pad_rows(voxels: VoxelCodes, capacity: int, fill: int) -> VoxelCodes:
    """Codes in arrays of `capacity` rows; the index of a row added is `fill`."""
    count = capacity - len(voxels.index)
    return voxels._replace(
        index=np.pad(voxels.index, (0, count), constant_values=fill),
        free=np.pad(voxels.free, (0, count)),
        levels=np.pad(voxels.levels, ((0, count), (0, 0))),
    )


def gather_teacher(teacher: TeacherTargets, grid_map: GridMap, grid: VoxelGrid) -> TeacherTargets:
    """Targets moved to the model's grid: a crop, a BEV augmentation, or both.

    Args:
      teacher: unbatched targets on the files' grid.
      grid_map: from the model's grid to the files'.
      grid: the files' grid.

    Returns:
      Unbatched targets on the model's grid; outside is not valid. M stays, or becomes the number of the model's
      voxels where that is less.

    Raises:
      TeacherFileError: more active voxels than M; rows are never dropped.
    """
    return TeacherTargets(
        voxels=None if teacher.voxels is None else _gather_voxels(teacher.voxels, grid_map, grid),
        bev=None if teacher.bev is None else _gather_bev(teacher.bev, grid_map),
    )


def _gather_voxels(voxels: VoxelCodes, grid_map: GridMap, grid: VoxelGrid) -> VoxelCodes:
    active = voxels.index[: np.searchsorted(voxels.index, grid.num_voxels)]
    is_active = np.zeros(grid.num_voxels, bool)
    is_active[active] = True
    row_of_voxel = np.empty(grid.num_voxels, np.int32)  # of active voxels, which alone are looked up
    row_of_voxel[active] = np.arange(len(active), dtype=np.int32)
    inside = grid_map.inside
    moved = np.flatnonzero(grid_map.gather(is_active.reshape(grid.shape), False)).astype(np.int32)
    capacity = min(len(voxels.index), inside.size)
    if len(moved) > capacity:
        raise TeacherFileError(
            f"{len(moved)} teacher voxels are active after augmentation, but there is room for {capacity}; "
            "raise the teacher's capacity_factor to the largest config.augment.bev_scale squared"
        )
    # Only what is active is looked up: a twentieth of the grid, while a dense map of rows would be all of it.
    column, layer = np.divmod(moved, np.int32(len(grid_map.layers)))
    voxel = grid_map.columns.take(column) * np.int32(grid.shape[2]) + grid_map.layers.take(layer)
    rows = row_of_voxel.take(voxel)
    if voxels.valid is not None:
        known = np.unpackbits(voxels.valid, count=grid.num_voxels).view(bool)
        inside = grid_map.gather(known.reshape(grid.shape), False)
    found = VoxelCodes(
        moved, voxels.free.take(rows), voxels.levels.take(rows, axis=0), voxels.background, np.packbits(inside)
    )
    # Every sample has the same shapes: the step is compiled once.
    return pad_rows(found, capacity, inside.size)


def _gather_bev(bev: BevCodes, grid_map: GridMap) -> BevCodes:
    columns = grid_map.columns  # -1 reads the last cell, which is not valid then
    inside = columns >= 0
    if bev.valid is not None:
        inside &= np.unpackbits(bev.valid, count=bev.free.size).view(bool)[columns]
    levels = bev.levels.reshape(-1, bev.levels.shape[-1])
    return BevCodes(bev.free.reshape(-1)[columns], levels[columns], np.packbits(inside.reshape(-1)))


def dense_log_probs(teacher: TeacherTargets, shape: tuple[int, int, int]) -> np.ndarray:
    """float32 [X, Y, Z, K] log-probabilities of unbatched targets: for pictures and tests, never for training."""
    voxels = teacher.voxels
    assert voxels is not None
    dense = np.tile(voxels.background, (int(np.prod(shape)), 1))
    count, num_classes = int(np.searchsorted(voxels.index, len(dense))), len(voxels.background)
    dense[voxels.index[:count]] = decode_rows(voxels.free[:count], voxels.levels[:count], num_classes)
    return dense.reshape(*shape, num_classes)
