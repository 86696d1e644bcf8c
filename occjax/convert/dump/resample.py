"""A sparse teacher moved to another grid, as SurroundOcc-frame dumps are for training on Occ3D."""

import numpy as np

from occjax.grid import VoxelGrid
from occjax.targets.files import SparseTeacher, prune


def resample_sparse(
    sparse: SparseTeacher, src: VoxelGrid, dst: VoxelGrid, src_from_dst: np.ndarray
) -> tuple[SparseTeacher, np.ndarray]:
    """Trilinear interpolation at the voxel centres of `dst`, of the voxels that have a row alone.

    Only voxels with an active neighbour are mixed; between background voxels there is nothing to mix.

    Args:
      sparse: probabilities on `src`.
      src: grid of the dump.
      dst: grid wanted.
      src_from_dst: [4, 4] transform of points, dst frame to src frame, metres.

    Returns:
      Sparse probabilities on `dst`, and bool [X', Y', Z'], true where the centre lies inside `src`.
    """
    # The row past the last one is the background's.
    row_of_voxel = np.full(src.num_voxels, len(sparse.index), np.int32)
    row_of_voxel[sparse.index] = np.arange(len(sparse.index), dtype=np.int32)
    row_of_voxel = row_of_voxel.reshape(src.shape)
    table = np.concatenate([sparse.rows, sparse.background[None]]).astype(np.float32)

    # Affine per axis: sums of three small terms instead of a product per voxel.
    position = src_from_dst[:3, 3] - np.array(src.lower_m)
    axes = [lo + (np.arange(n) + 0.5) * dst.voxel_size_m for lo, n in zip(dst.lower_m, dst.shape, strict=True)]
    x, y, z = (axis[:, None] * src_from_dst[:3, i] for i, axis in enumerate(axes))
    position = (x[:, None, None] + y[None, :, None] + z[None, None] + position).reshape(-1, 3) / src.voxel_size_m
    valid = np.all((position >= 0) & (position < src.shape), axis=-1)

    inside = np.flatnonzero(valid).astype(np.int32)
    # Voxel centres at half-integers; beyond the outermost ones the edge voxel alone speaks.
    position = np.clip(position[inside] - 0.5, 0, np.array(src.shape) - 1.0)
    low = np.minimum(position.astype(np.int32), np.maximum(np.array(src.shape, np.int32) - 2, 0))
    high = np.minimum(low + 1, np.array(src.shape, np.int32) - 1)
    corners = np.stack(
        [row_of_voxel[tuple(np.where(corner, high, low).T)] for corner in np.ndindex(2, 2, 2)]
    )  # [8, inside]
    # All eight neighbours plainly free: so is the voxel, and it needs no row.
    mixes = np.any(corners < len(sparse.index), axis=0)
    weight = (position[mixes] - low[mixes]).astype(np.float32)
    rows = np.zeros((int(mixes.sum()), table.shape[1]), np.float32)
    for corner, picked in zip(np.ndindex(2, 2, 2), corners[:, mixes], strict=True):
        rows += np.prod(np.where(corner, weight, 1 - weight), axis=-1)[:, None] * table[picked]
    moved = SparseTeacher(inside[mixes], rows, sparse.background)
    return prune(moved, dst.num_voxels), valid.reshape(dst.shape)
