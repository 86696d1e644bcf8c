"""Which voxel of a file's grid fills each voxel of the model's grid: cropping and BEV augmentation in one map."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from occjax.grid import VoxelGrid


class VoxelSource(NamedTuple):
    """Nearest source of each voxel of the model's grid. Augmentation never mixes z with x and y: two small maps do.

    Attributes:
      columns: int32 [X, Y] flat index into the file's BEV grid, -1 outside.
      layers: int32 [Z] index along the file's z, -1 outside.
    """

    columns: np.ndarray
    layers: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        """bool [X, Y, Z] voxels that have a source."""
        in_stack = self.layers >= 0
        return np.stack([np.zeros_like(in_stack), in_stack]).take(self.columns >= 0, axis=0)

    def gather(self, values: np.ndarray, outside) -> np.ndarray:
        """`values` [X', Y', Z'] of the file's grid on the model's grid; `outside` where there is no source."""
        stacks = values.reshape(-1, values.shape[-1])
        beyond = np.full_like(stacks[:1], outside)
        # Whole columns first, as they lie in memory; -1 wraps to the one appended.
        moved = np.take(np.concatenate([stacks, beyond]), self.columns, axis=0, mode="wrap")[..., self.layers]
        moved[..., self.layers < 0] = outside
        return moved


def voxel_source(file_grid: VoxelGrid, grid: VoxelGrid, augmented_from_grid: Float[np.ndarray, "3 3"]) -> VoxelSource:
    """The map from `grid` (the model's) to `file_grid` under a BEV augmentation.

    A model voxel with centre c shows what lay at grid_from_augmented · c, by nearest voxel.

    Args:
      file_grid: grid of labels or teacher; `grid` must be an aligned crop of it.
      grid: the model's grid.
      augmented_from_grid: of points in the grid's frame; x and y mix with each other but not with z.

    Raises:
      GridMismatchError: `grid` is no aligned crop of `file_grid`.
    """
    file_grid.crop_slices(grid)
    grid_from_augmented = np.linalg.inv(augmented_from_grid)
    x, y, z = (
        lower + (np.arange(count) + 0.5) * grid.voxel_size_m
        for lower, count in zip(grid.lower_m, grid.shape, strict=True)
    )
    (a, b), (c, d) = grid_from_augmented[:2, :2]
    source_x, inside_x = _index(a * x[:, None] + b * y, file_grid, axis=0)
    source_y, inside_y = _index(c * x[:, None] + d * y, file_grid, axis=1)
    source_z, inside_z = _index(grid_from_augmented[2, 2] * z, file_grid, axis=2)
    columns = source_x * np.int32(file_grid.shape[1]) + source_y
    return VoxelSource(
        columns=np.where(inside_x & inside_y, columns, np.int32(-1)),
        layers=np.where(inside_z, source_z, np.int32(-1)),
    )


def _index(position_m: np.ndarray, grid: VoxelGrid, *, axis: int) -> tuple[np.ndarray, np.ndarray]:
    index = np.floor((position_m - grid.lower_m[axis]) / grid.voxel_size_m).astype(np.int32)
    return index, (index >= 0) & (index < grid.shape[axis])
