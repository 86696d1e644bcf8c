"""mIoU by the Occ3D-nuScenes protocol, with the camera mask and without."""

import dataclasses

import jax
import numpy as np

from occjax.grid import VoxelGrid
from occjax.label_sets import LABEL_SETS, LabelSet
from occjax.metrics.bev import VoxelCounts
from occjax.metrics.confusion import ScoringError, require_shape
from occjax.metrics.scores import Scores, by_class_name


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Occ3dMiou:
    """Occ3D-nuScenes mIoU (FlashOCC, the Occ3D challenge); a mergeable state.

    One confusion matrix over the whole split. `others` counts as a class, `free` does not, and confusions with free
    count against the other classes. A class absent from truth and prediction is skipped.

        state = Occ3dMiou.empty()
        state = state.update(prediction, semantics, camera_mask)
        state.compute()[0].summary["miou"]
    """

    label_set: LabelSet = dataclasses.field(metadata={"static": True})
    grid: VoxelGrid = dataclasses.field(metadata={"static": True})
    samples: int
    masked: VoxelCounts
    unmasked: VoxelCounts

    @classmethod
    def empty(cls, grid: VoxelGrid | None = None, *, label_set: LabelSet = LABEL_SETS["occ3d"]) -> "Occ3dMiou":
        """No samples yet, on the label set's grid or an aligned crop of it.

        Raises:
          GridMismatchError: the labels do not lie on such a grid.
        """
        grid = grid or label_set.grid
        label_set.grid.crop_slices(grid)
        return cls(label_set, grid, 0, VoxelCounts.empty(), VoxelCounts.empty())

    def update(
        self, prediction: np.ndarray, semantics: np.ndarray, camera_mask: np.ndarray | None = None
    ) -> "Occ3dMiou":
        """Adds one sample.

        Args:
          prediction: uint8 [X, Y, Z] classes 0..17.
          semantics: uint8 [X, Y, Z] truth; values above 17 are unknown and left out.
          camera_mask: [X, Y, Z], non-zero where the cameras see the voxel; None where the label set has no mask.

        Raises:
          ScoringError: shapes or classes are wrong, or there is no camera mask.
        """
        require_shape(self.grid, prediction=prediction, semantics=semantics)
        counted = self.label_set.counted(semantics)
        changed = {"unmasked": self.unmasked.update(semantics, prediction, counted)}
        if self.label_set.has_camera_mask:
            if camera_mask is None:
                raise ScoringError(f"{self.label_set.name} labels need their camera mask; pass what the file holds")
            require_shape(self.grid, camera_mask=camera_mask)
            seen = self.label_set.counted(semantics, camera_mask)
            changed["masked"] = self.masked.update(semantics, prediction, seen)
        return dataclasses.replace(self, samples=self.samples + 1, **changed)

    def compute(self) -> list[Scores]:
        """With the camera mask (the published number), where there is one; and without."""
        masked = [self._scores("camera mask", self.masked)] if self.label_set.has_camera_mask else []
        return [*masked, self._scores("no mask", self.unmasked)]

    def _scores(self, mask: str, counts: VoxelCounts) -> Scores:
        classes, iou = self.label_set.classes, counts.voxels.iou_per_class()
        summary, per_class = counts.summary(iou, classes), by_class_name(iou, classes)
        return Scores("Occ3D-nuScenes mIoU", mask, str(self.grid), self.samples, summary, per_class)
