"""mIoU by the Occ3D-nuScenes protocol, with the camera mask and without."""

import dataclasses

import numpy as np

from occjax.classes import DYNAMIC_CLASSES, FREE, STATIC_CLASSES
from occjax.grid import OCC3D_GRID, VoxelGrid
from occjax.metrics.bev import BevIou
from occjax.metrics.confusion import ConfusionMatrix, ScoringError, mean_over
from occjax.metrics.scores import Scores, by_class_name

CLASSES = tuple(range(FREE))


@dataclasses.dataclass(frozen=True)
class Occ3dMiou:
    """Occ3D-nuScenes mIoU (FlashOCC, the Occ3D challenge); a mergeable state.

    One confusion matrix over the whole split. `others` counts as a class, `free` does not, and confusions with free
    count against the other classes. A class absent from truth and prediction is skipped.

        state = Occ3dMiou.empty()
        state = state.update(prediction, semantics, camera_mask)
        state.compute()[0].summary["miou"]
    """

    grid: VoxelGrid
    samples: int
    masked: ConfusionMatrix
    unmasked: ConfusionMatrix
    masked_bev: BevIou
    unmasked_bev: BevIou

    @classmethod
    def empty(cls, grid: VoxelGrid = OCC3D_GRID) -> "Occ3dMiou":
        """No samples yet, on Occ3D's grid or an aligned crop of it.

        Raises:
          GridMismatchError: the labels do not lie on such a grid.
        """
        OCC3D_GRID.crop_slices(grid)
        return cls(grid, 0, ConfusionMatrix.empty(), ConfusionMatrix.empty(), BevIou.empty(), BevIou.empty())

    def update(self, prediction: np.ndarray, semantics: np.ndarray, camera_mask: np.ndarray) -> "Occ3dMiou":
        """Adds one sample.

        Args:
          prediction: uint8 [X, Y, Z] classes 0..17.
          semantics: uint8 [X, Y, Z] truth; values above 17 are unknown and left out.
          camera_mask: [X, Y, Z], non-zero where the cameras see the voxel.

        Raises:
          ScoringError: shapes or classes are wrong.
        """
        require_shape(self.grid, prediction=prediction, semantics=semantics, camera_mask=camera_mask)
        known = semantics <= FREE
        seen = known & (np.asarray(camera_mask) != 0)
        return dataclasses.replace(
            self,
            samples=self.samples + 1,
            masked=self.masked.update(semantics, prediction, seen),
            unmasked=self.unmasked.update(semantics, prediction, known),
            masked_bev=self.masked_bev.update(semantics, prediction, seen),
            unmasked_bev=self.unmasked_bev.update(semantics, prediction, known),
        )

    def merge(self, other: "Occ3dMiou") -> "Occ3dMiou":
        """Both sets of samples together.

        Raises:
          GridMismatchError: they lie on different grids.
        """
        self.grid.require_same(other.grid, "merging Occ3D scores", "score each grid by itself")
        merged = {
            name: getattr(self, name).merge(getattr(other, name))
            for name in ("masked", "unmasked", "masked_bev", "unmasked_bev")
        }
        return Occ3dMiou(self.grid, self.samples + other.samples, **merged)

    def compute(self) -> tuple[Scores, Scores]:
        """With the camera mask (the published number), and without."""
        return (
            self._scores("camera mask", self.masked, self.masked_bev),
            self._scores("no mask", self.unmasked, self.unmasked_bev),
        )

    def _scores(self, mask: str, confusion: ConfusionMatrix, bev: BevIou) -> Scores:
        iou = confusion.iou_per_class()
        has_truth = confusion.counts.sum(1) > 0
        summary = {
            "miou": mean_over(iou, CLASSES),
            "miou_present": mean_over(np.where(has_truth, iou, np.nan), CLASSES),
            "iou": confusion.occupied_iou(),
            "dynamic_miou": mean_over(iou, DYNAMIC_CLASSES),
            "static_miou": mean_over(iou, STATIC_CLASSES),
            **bev.compute(CLASSES),
        }
        return Scores("Occ3D-nuScenes mIoU", mask, str(self.grid), self.samples, summary, by_class_name(iou, CLASSES))


def require_shape(grid: VoxelGrid, **arrays: np.ndarray) -> None:
    """Raises ScoringError, naming every array that has not the shape of the grid."""
    wrong = [f"{name} {array.shape}" for name, array in arrays.items() if array.shape != grid.shape]
    if wrong:
        raise ScoringError(
            f"expected shape {grid.shape} ({grid}), found {', '.join(wrong)}; store [X, Y, Z] classes on that grid"
        )
