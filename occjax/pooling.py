"""Pooling: labels on a coarser grid, whose voxels are blocks of whole voxels of the file's, and seen from above."""

import dataclasses

import numpy as np
from jaxtyping import Bool, UInt8

from occjax.classes import FREE, IGNORE, NUM_CLASSES
from occjax.grid import GridMismatchError, VoxelGrid


def refined(grid: VoxelGrid, factor: int) -> VoxelGrid:
    """The grid whose blocks of `factor` voxels along every axis are the voxels of `grid`."""
    shape = (grid.shape[0] * factor, grid.shape[1] * factor, grid.shape[2] * factor)
    return dataclasses.replace(grid, voxel_size_m=grid.voxel_size_m / factor, shape=shape)


def pooling_factor(file_grid: VoxelGrid, grid: VoxelGrid) -> int:
    """How many voxels of a file, along every axis, one voxel of the model's grid is: 1 for an aligned crop.

    Raises:
      GridMismatchError: the voxels of `grid` are no whole blocks of voxels of `file_grid`, or it reaches outside.
    """
    factor = round(grid.voxel_size_m / file_grid.voxel_size_m)
    if factor < 1 or not file_grid.contains(refined(grid, factor)):
        raise GridMismatchError(
            f"({grid}) is no aligned crop of ({file_grid}), nor one of its voxels pooled by a whole factor: a grid "
            f"keeps the frame, its voxels are 1, 2, 3, ... times {file_grid.voxel_size_m:g} m, and it starts on a "
            "voxel border and ends inside; choose such a grid, or resample the files to the grid you want"
        )
    return factor


def pool_labels(
    semantics: UInt8[np.ndarray, "x y z"], camera_mask: Bool[np.ndarray, "x y z"] | None, factor: int
) -> tuple[UInt8[np.ndarray, "X Y Z"], Bool[np.ndarray, "X Y Z"] | None]:
    """Classes and camera mask of blocks of `factor` voxels along every axis.

    A block is free if all that is known of it is free, and otherwise of the occupied class that most of its voxels
    have, the lower number where two have as many: a thin pole does not vanish, as by the column rule of the teacher it
    does not. The cameras see a block of which they see a voxel, and then the voxels that they see alone speak for it.
    """
    blocks = _blocks(semantics, factor)
    seen = None
    if camera_mask is not None:
        is_seen = _blocks(camera_mask, factor)
        seen = is_seen.any(-1)
        blocks = np.where(is_seen | ~seen[..., None], blocks, IGNORE)
    pooled = np.where((blocks == FREE).any(-1), np.uint8(FREE), np.uint8(IGNORE))
    # Few blocks are occupied: only they are counted.
    occupied = (blocks < FREE).any(-1)
    votes = blocks[occupied].astype(np.int64)
    row = np.arange(len(votes))[:, None] * (IGNORE + 1)
    counts = np.bincount((row + votes).ravel(), minlength=len(votes) * (IGNORE + 1)).reshape(-1, IGNORE + 1)
    pooled[occupied] = counts[:, : NUM_CLASSES - 1].argmax(-1)
    return pooled, seen


def highest_occupied(semantics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The highest voxel of each column that is neither free nor unknown (255).

    Args:
      semantics: uint8 [X, Y, Z].

    Returns:
      its class, uint8 [X, Y], free where there is none; and its z index, int64 [X, Y], -1 where there is none.
    """
    occupied = (semantics != FREE) & (semantics != IGNORE)
    from_top = occupied[..., ::-1].argmax(-1)
    exists = occupied.any(-1)
    # `argmax` says 0 for a column without any, too.
    height = np.where(exists, semantics.shape[-1] - 1 - from_top, -1)
    classes = np.take_along_axis(semantics, np.maximum(height, 0)[..., None], axis=-1)[..., 0]
    return np.where(exists, classes, np.uint8(FREE)), height


def _blocks(values: np.ndarray, factor: int) -> np.ndarray:
    """[X, Y, Z, factor³] of [X factor, Y factor, Z factor]."""
    x, y, z = (length // factor for length in values.shape)
    split = values.reshape(x, factor, y, factor, z, factor).transpose(0, 2, 4, 1, 3, 5)
    return split.reshape(x, y, z, factor**3)
