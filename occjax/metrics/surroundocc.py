"""mIoU and IoU by the protocol of SurroundOcc and GaussianFormer."""

import dataclasses

import numpy as np

from occjax.classes import DYNAMIC_CLASSES, FREE, OTHERS, STATIC_CLASSES
from occjax.grid import SURROUNDOCC_GRID, VoxelGrid
from occjax.metrics.bev import BevIou
from occjax.metrics.confusion import ConfusionMatrix, mean_over
from occjax.metrics.occ3d import require_shape
from occjax.metrics.scores import Scores, by_class_name

CLASSES = tuple(range(1, FREE))


@dataclasses.dataclass(frozen=True)
class SurroundOccMiou:
    """SurroundOcc mIoU over classes 1..16 and IoU of occupied voxels; a mergeable state.

    Voxels of truth 0 are left out; predicting 0 counts as occupied. A class without a voxel of truth has IoU 1, as in
    the published code, however often it is predicted.

        state = SurroundOccMiou.empty()
        state = state.update(prediction, semantics)
        state.compute().summary["miou"]
    """

    grid: VoxelGrid
    samples: int
    confusion: ConfusionMatrix
    bev: BevIou

    @classmethod
    def empty(cls, grid: VoxelGrid = SURROUNDOCC_GRID) -> "SurroundOccMiou":
        """No samples yet, on SurroundOcc's grid or an aligned crop of it.

        Raises:
          GridMismatchError: the labels do not lie on such a grid.
        """
        SURROUNDOCC_GRID.crop_slices(grid)
        return cls(grid, 0, ConfusionMatrix.empty(), BevIou.empty())

    def update(self, prediction: np.ndarray, semantics: np.ndarray) -> "SurroundOccMiou":
        """Adds one sample.

        Args:
          prediction: uint8 [X, Y, Z] classes 0..17.
          semantics: uint8 [X, Y, Z] truth; 0 and values above 17 are left out.

        Raises:
          ScoringError: shapes or classes are wrong.
        """
        require_shape(self.grid, prediction=prediction, semantics=semantics)
        kept = (semantics != OTHERS) & (semantics <= FREE)
        return dataclasses.replace(
            self,
            samples=self.samples + 1,
            confusion=self.confusion.update(semantics, prediction, kept),
            bev=self.bev.update(semantics, prediction, kept),
        )

    def merge(self, other: "SurroundOccMiou") -> "SurroundOccMiou":
        """Both sets of samples together.

        Raises:
          GridMismatchError: they lie on different grids.
        """
        self.grid.require_same(other.grid, "merging SurroundOcc scores", "score each grid by itself")
        return SurroundOccMiou(
            self.grid,
            self.samples + other.samples,
            self.confusion.merge(other.confusion),
            self.bev.merge(other.bev),
        )

    def compute(self) -> Scores:
        has_truth = self.confusion.counts.sum(1) > 0
        iou = np.where(has_truth, self.confusion.iou_per_class(), 1.0)
        summary = {
            "miou": mean_over(iou, CLASSES),
            "miou_present": mean_over(np.where(has_truth, iou, np.nan), CLASSES),
            "iou": self.confusion.occupied_iou(),
            "dynamic_miou": mean_over(iou, DYNAMIC_CLASSES),
            "static_miou": mean_over(iou, STATIC_CLASSES),
            **self.bev.compute(CLASSES),
        }
        absent = len(CLASSES) - int(has_truth[list(CLASSES)].sum())
        return Scores(
            protocol="SurroundOcc mIoU/IoU",
            mask="truth 0 left out",
            grid=str(self.grid),
            samples=self.samples,
            summary=summary,
            per_class=by_class_name(iou, CLASSES),
            remark=f"{absent} of 16 classes have no voxel of truth here; the protocol counts them as 100"
            if absent
            else "",
        )
