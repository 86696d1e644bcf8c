"""Table from a label set's protocol to the metric that computes it."""

from occjax.grid import VoxelGrid
from occjax.label_sets import LabelSet
from occjax.metrics.occ3d import Occ3dMiou
from occjax.metrics.surroundocc import SurroundOccMiou

# Every name that `LabelSet.protocol` may say. A state has `update(prediction, semantics, camera_mask)` and `compute()`.
PROTOCOLS = {"occ3d": Occ3dMiou, "surroundocc": SurroundOccMiou}


def no_scores(label_set: LabelSet, grid: VoxelGrid | None = None) -> Occ3dMiou | SurroundOccMiou:
    """The empty state of the label set's protocol, on its grid or an aligned crop of it.

    Raises:
      GridMismatchError: `grid` is no such crop.
    """
    return PROTOCOLS[label_set.protocol].empty(grid, label_set=label_set)
