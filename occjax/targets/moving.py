"""Teacher targets on the model's grid: cropped and augmented without leaving their codes, or written out in full."""

import numpy as np

from occjax.grid import VoxelGrid
from occjax.grid_map import GridMap
from occjax.targets.codec import decode_rows
from occjax.targets.files import TeacherFileError
from occjax.types import TeacherTargets


def pad_rows(
    index: np.ndarray, free: np.ndarray, levels: np.ndarray, capacity: int, fill: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index [m], free codes [m] and levels [m, 9] in arrays of `capacity` rows; the index of a row added is `fill`."""
    count = len(index)
    padded_index = np.full(capacity, fill, np.int32)
    padded_free = np.zeros(capacity, np.uint8)
    padded_levels = np.zeros((capacity, levels.shape[1]), np.uint8)
    padded_index[:count], padded_free[:count], padded_levels[:count] = index, free, levels
    return padded_index, padded_free, padded_levels


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
    index, free, levels, valid = teacher.index, teacher.free, teacher.levels, None
    if index is not None:
        active = index[: np.searchsorted(index, grid.num_voxels)]
        is_active = np.zeros(grid.num_voxels, bool)
        is_active[active] = True
        row_of_voxel = np.empty(grid.num_voxels, np.int32)  # of active voxels, which alone are looked up
        row_of_voxel[active] = np.arange(len(active), dtype=np.int32)
        inside = grid_map.inside
        moved = np.flatnonzero(grid_map.gather(is_active.reshape(grid.shape), False)).astype(np.int32)
        capacity = min(len(index), inside.size)
        if len(moved) > capacity:
            raise TeacherFileError(
                f"{len(moved)} teacher voxels are active after augmentation, but there is room for {capacity}; "
                "raise the teacher's capacity_factor to the largest config.augment.bev_scale squared"
            )
        column, layer = np.divmod(moved, np.int32(len(grid_map.layers)))
        voxel = grid_map.columns.take(column) * np.int32(grid.shape[2]) + grid_map.layers.take(layer)
        rows = row_of_voxel.take(voxel)
        index, free, levels = pad_rows(moved, free.take(rows), levels.take(rows, axis=0), capacity, inside.size)
        if teacher.valid is not None:
            known = np.unpackbits(teacher.valid, count=grid.num_voxels).view(bool)
            inside = grid_map.gather(known.reshape(grid.shape), False)
        valid = np.packbits(inside)
    bev_free, bev_levels, bev_valid = teacher.bev_free, teacher.bev_levels, None
    if bev_free is not None:
        inside = grid_map.columns >= 0
        bev_free = bev_free.reshape(-1)[grid_map.columns]
        bev_levels = bev_levels.reshape(-1, bev_levels.shape[-1])[grid_map.columns]
        if teacher.bev_valid is not None:
            known = np.unpackbits(teacher.bev_valid, count=grid.shape[0] * grid.shape[1]).astype(bool)
            inside = inside & known[grid_map.columns]
        bev_valid = np.packbits(inside.reshape(-1))
    return TeacherTargets(index, free, levels, teacher.background, valid, bev_free, bev_levels, bev_valid)


def dense_log_probs(teacher: TeacherTargets, shape: tuple[int, int, int]) -> np.ndarray:
    """float32 [X, Y, Z, K] log-probabilities of unbatched targets: for pictures and tests, never for training."""
    count = int(np.searchsorted(teacher.index, np.prod(shape)))
    dense = np.tile(teacher.background, (int(np.prod(shape)), 1))
    num_classes = len(teacher.background)
    dense[teacher.index[:count]] = decode_rows(teacher.free[:count], teacher.levels[:count], num_classes)
    return dense.reshape(*shape, num_classes)
