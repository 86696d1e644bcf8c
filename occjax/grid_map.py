"""Grid maps: which voxel of a file each voxel of the model's grid is; cropping and BEV augmentation in one."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from occjax.grid import VoxelGrid


class GridMap(NamedTuple):
    """The file's voxel nearest to each of the model's. Augmentation never mixes z with x and y: two small maps do.

    Attributes:
      columns: int32 [X, Y] flat index into the file's BEV grid, -1 outside.
      layers: int32 [Z] index along the file's z, -1 outside.
    """

    columns: np.ndarray
    layers: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        """bool [X, Y, Z] voxels that lie in the file's grid."""
        # A column is inside with all of its layers or with none: a look-up of two stacks.
        in_stack = self.layers >= 0
        return np.stack([np.zeros_like(in_stack), in_stack]).take(self.columns >= 0, axis=0)

    def gather(self, values: np.ndarray, outside) -> np.ndarray:
        """`values` [X', Y', Z'] of the file's grid on the model's grid; `outside` where it does not reach."""
        stacks = values.reshape(-1, values.shape[-1])
        beyond = np.full_like(stacks[:1], outside)
        # Whole columns first, as they lie in memory; -1 wraps to the one appended.
        moved = np.take(np.concatenate([stacks, beyond]), self.columns, axis=0, mode="wrap")[..., self.layers]
        moved[..., self.layers < 0] = outside
        return moved


def make_grid_map(file_grid: VoxelGrid, grid: VoxelGrid, augmented_from_grid: Float[np.ndarray, "3 3"]) -> GridMap:
    """The map from `grid` (the model's) to `file_grid` under a BEV augmentation.

    A model voxel with centre c shows what lay at grid_from_augmented · c, by nearest voxel.

    Args:
      file_grid: grid of labels or teacher; `grid` must be an aligned crop of it.
      grid: the model's grid.
      augmented_from_grid: of points in the grid's frame; x and y mix with each other but not with z.

    Raises:
      GridMismatchError: `grid` is no aligned crop of `file_grid`.
    """
    # Only for its error: a map across frames or voxel sizes would be silently wrong.
    file_grid.crop_slices(grid)
    grid_from_augmented = np.linalg.inv(augmented_from_grid)
    x, y, z = (
        lower + (np.arange(count) + 0.5) * grid.voxel_size_m
        for lower, count in zip(grid.lower_m, grid.shape, strict=True)
    )
    (a, b), (c, d) = grid_from_augmented[:2, :2]
    file_x, inside_x = _index(a * x[:, None] + b * y, file_grid, axis=0)
    file_y, inside_y = _index(c * x[:, None] + d * y, file_grid, axis=1)
    file_z, inside_z = _index(grid_from_augmented[2, 2] * z, file_grid, axis=2)
    # int32, not numpy's int64: gathers are bound by memory.
    columns = file_x * np.int32(file_grid.shape[1]) + file_y
    return GridMap(
        columns=np.where(inside_x & inside_y, columns, np.int32(-1)),
        layers=np.where(inside_z, file_z, np.int32(-1)),
    )


def _index(position_m: np.ndarray, grid: VoxelGrid, *, axis: int) -> tuple[np.ndarray, np.ndarray]:
    index = np.floor((position_m - grid.lower_m[axis]) / grid.voxel_size_m).astype(np.int32)
    return index, (index >= 0) & (index < grid.shape[axis])
