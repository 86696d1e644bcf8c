"""Teacher targets on a coarser grid: distributions of whole blocks of voxels, by the column rule."""

import numpy as np

from occjax.classes import NUM_CLASSES
from occjax.targets.codec import decode_rows, encode_rows, floored_log_probs
from occjax.targets.column_rule import column_log_probs, log_free_from
from occjax.targets.moving import pad_rows
from occjax.types import BevCodes, TeacherTargets, VoxelCodes


def pool_teacher(teacher: TeacherTargets, shape: tuple[int, int, int], factor: int) -> TeacherTargets:
    """Targets of blocks of `factor` voxels along every axis, and of `factor` cells of a BEV map.

    What the column rule does with a stack of voxels is done with a block: it is free if all of its voxels are, and what
    is left is shared among the classes by their mass. A block is valid if all of its voxels are.

    Args:
      teacher: unbatched targets.
      shape: of the coarse grid.
      factor: voxels of the targets to one of them, along every axis.

    Returns:
      Unbatched targets. M stays, or becomes the number of coarse voxels where that is less.
    """
    return TeacherTargets(
        voxels=None if teacher.voxels is None else _pool_voxels(teacher.voxels, shape, factor),
        bev=None if teacher.bev is None else _pool_bev(teacher.bev, shape[:2], factor),
    )


def _pool_voxels(voxels: VoxelCodes, shape: tuple[int, int, int], factor: int) -> VoxelCodes:
    fine = tuple(length * factor for length in shape)
    count = int(np.searchsorted(voxels.index, np.prod(fine)))
    log_probs = decode_rows(voxels.free[:count], voxels.levels[:count], NUM_CLASSES)
    place = np.unravel_index(voxels.index[:count], fine)
    block = np.ravel_multi_index(tuple(axis // factor for axis in place), shape)
    order = np.argsort(block, kind="stable")
    index, first, members = np.unique(block[order], return_index=True, return_counts=True)
    # Of each block the sums over its rows; its other voxels are all the background.
    log_free, mass = (
        np.add.reduceat(values[order], first, axis=0) if count else values
        for values in (log_free_from(log_probs, np), np.exp(log_probs[:, :-1]))
    )
    of_background = log_free_from(voxels.background, np), np.exp(voxels.background[:-1])
    others = factor**3 - members
    rows = column_log_probs(log_free + others * of_background[0], mass + others[:, None] * of_background[1], np)
    free, levels = encode_rows(np.exp(rows))
    whole = column_log_probs(factor**3 * of_background[0], factor**3 * of_background[1], np)
    valid = None
    if voxels.valid is not None:
        known = np.unpackbits(voxels.valid, count=int(np.prod(fine))).reshape(
            shape[0], factor, shape[1], factor, shape[2], factor
        )
        valid = np.packbits(known.all(axis=(1, 3, 5)))
    found = VoxelCodes(index.astype(np.int32), free, levels, floored_log_probs(np.exp(whole)), valid)
    num_voxels = int(np.prod(shape))
    return pad_rows(found, min(len(voxels.index), num_voxels), num_voxels)


def _pool_bev(bev: BevCodes, shape: tuple[int, int], factor: int) -> BevCodes:
    x, y = shape
    log_probs = decode_rows(bev.free, bev.levels, NUM_CLASSES).reshape(x, factor, y, factor, NUM_CLASSES)
    log_free, mass = log_free_from(log_probs, np).sum((1, 3)), np.exp(log_probs[..., :-1]).sum((1, 3))
    free, levels = encode_rows(np.exp(column_log_probs(log_free, mass, np)).reshape(x * y, NUM_CLASSES))
    valid = None
    if bev.valid is not None:
        known = np.unpackbits(bev.valid, count=bev.free.size).reshape(x, factor, y, factor)
        valid = np.packbits(known.all(axis=(1, 3)))
    return BevCodes(free.reshape(x, y), levels.reshape(x, y, -1), valid)
