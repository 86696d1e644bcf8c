"""mIoU and IoU by the protocol of SurroundOcc and GaussianFormer."""

import dataclasses

import jax
import numpy as np

from occjax.grid import VoxelGrid
from occjax.label_sets import LABEL_SETS, LabelSet
from occjax.metrics.bev import VoxelCounts
from occjax.metrics.confusion import ConfusionMatrix, require_shape
from occjax.metrics.scores import Scores, by_class_name


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SurroundOccMiou:
    """SurroundOcc mIoU over classes 1..16 and IoU of occupied voxels; a mergeable state.

    Voxels of truth 0 are left out; predicting 0 counts as occupied. A class without a voxel of truth has IoU 1, as in
    the published code, however often it is predicted.

        state = SurroundOccMiou.empty()
        state = state.update(prediction, semantics)
        state.compute()[0].summary["miou"]
    """

    label_set: LabelSet = dataclasses.field(metadata={"static": True})
    grid: VoxelGrid = dataclasses.field(metadata={"static": True})
    samples: int
    counts: VoxelCounts

    @classmethod
    def empty(
        cls, grid: VoxelGrid | None = None, *, label_set: LabelSet = LABEL_SETS["surroundocc"]
    ) -> "SurroundOccMiou":
        """No samples yet, on the label set's grid or an aligned crop of it.

        Raises:
          GridMismatchError: the labels do not lie on such a grid.
        """
        grid = grid or label_set.grid
        label_set.grid.crop_slices(grid)
        return cls(label_set, grid, 0, VoxelCounts.empty())

    def update(
        self, prediction: np.ndarray, semantics: np.ndarray, camera_mask: np.ndarray | None = None
    ) -> "SurroundOccMiou":
        """Adds one sample.

        Args:
          prediction: uint8 [X, Y, Z] classes 0..17.
          semantics: uint8 [X, Y, Z] truth; 0 and values above 17 are left out.
          camera_mask: has no part in this protocol.

        Raises:
          ScoringError: shapes or classes are wrong.
        """
        require_shape(self.grid, prediction=prediction, semantics=semantics)
        counts = self.counts.update(semantics, prediction, self.label_set.counted(semantics))
        return dataclasses.replace(self, samples=self.samples + 1, counts=counts)

    def compute(self) -> list[Scores]:
        """The one score that the protocol has."""
        classes = self.label_set.classes
        iou = iou_per_class(self.counts.voxels)
        ignored = ", ".join(str(c) for c in self.label_set.ignored)
        absent = len(classes) - int(self.counts.voxels.has_truth[list(classes)].sum())
        remark = f"{absent} of {len(classes)} classes have no voxel of truth here; the protocol counts them as 100"
        return [
            Scores(
                protocol="SurroundOcc mIoU/IoU",
                mask=f"truth {ignored} left out" if ignored else "no mask",
                grid=str(self.grid),
                samples=self.samples,
                summary=self.counts.summary(iou, classes),
                per_class=by_class_name(iou, classes),
                remark=remark if absent else "",
            )
        ]


def iou_per_class(voxels: ConfusionMatrix) -> np.ndarray:
    """float64 [K]; 1 for a class without a voxel of truth."""
    return np.where(voxels.has_truth, voxels.iou_per_class(), 1.0)
