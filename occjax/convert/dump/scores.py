"""Scores of a sample as the dump's options say to read them: free last, BEV maps in the grid's own axes."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from occjax.convert.dump.arrays import DumpError, read_dump_array
from occjax.convert.dump.bev_maps import turn_back
from occjax.convert.dump.options import DumpOptions
from occjax.convert.dump.values import bev_probabilities, class_first, voxel_scores
from occjax.targets.files import SparseTeacher


class VoxelScores(NamedTuple):
    """A sample's voxels, decided on.

    Attributes:
      planes: scores [K, N] with free last.
      sparse: the same as probabilities, free space folded.
      kind: what the scores are, probabilities or logits.
    """

    planes: Shaped[np.ndarray, "k n"]
    sparse: SparseTeacher
    kind: str


def read_voxels(path: Path, options: DumpOptions) -> VoxelScores:
    """Voxel scores of a dump file; raises DumpError."""
    return scores_of(read_dump_array(path, options.dump_3d_key), options)


def scores_of(array: Shaped[np.ndarray, "..."], options: DumpOptions) -> VoxelScores:
    """Voxel scores of an array in any layout of a dump, or [X, Y, Z, K] of a model.

    What they are is told from their numbers, or is what the options say. Raises DumpError where they are neither
    probabilities nor logits, NaN or of another shape.
    """
    planes = class_first(array, options.grid.shape, options.num_classes, options.free_id)
    return VoxelScores(planes, *voxel_scores(planes, options.voxel_kind))


def read_bev(path: Path, options: DumpOptions) -> tuple[Float[np.ndarray, "x y k"], str]:
    """BEV probabilities, float32 in the grid's own axes, and their kind; raises DumpError."""
    x, y = options.grid.shape[:2]
    # A quarter turn swaps the sides of a map that is not square.
    turned = (y, x) if options.surface.bev_rotate_k % 2 else (x, y)
    array = read_dump_array(path, options.bev_prob_key)
    probabilities, kind = bev_probabilities(class_first(array, turned, options.num_classes, options.free_id))
    bev = probabilities.reshape(*turned, options.num_classes)
    back = turn_back(
        bev, rotate_k=options.surface.bev_rotate_k, flip_x=options.surface.bev_flip_x, flip_y=options.surface.bev_flip_y
    )
    return np.ascontiguousarray(back), kind


def holds_bev_map(path: Path, options: DumpOptions) -> bool:
    """True if the array in a dump file has the size of a BEV map, scores or hard labels; False if it cannot be read."""
    try:
        size = read_dump_array(path, options.bev_prob_key or options.dump_3d_key).size
    except DumpError:
        return False
    # By its size, because hard labels of a map and of voxels look alike otherwise.
    cells = options.grid.shape[0] * options.grid.shape[1]
    return size in (cells, cells * options.num_classes)
