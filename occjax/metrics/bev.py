"""Bird's-eye views: predictions counted by voxel and by column."""

import dataclasses

import jax
import numpy as np

from occjax.classes import DYNAMIC_CLASSES, FREE, STATIC_CLASSES
from occjax.metrics.confusion import ConfusionMatrix, mean_over
from occjax.pooling import highest_occupied


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class VoxelCounts:
    """Voxels, and columns seen from above, by truth and prediction: what both protocols average; a mergeable state.

    Seen from above, voxels that do not count are free; columns without a voxel that counts are left out.
    """

    voxels: ConfusionMatrix
    columns: ConfusionMatrix

    @classmethod
    def empty(cls) -> "VoxelCounts":
        """No samples yet."""
        return cls(ConfusionMatrix.empty(), ConfusionMatrix.empty())

    def update(self, truth: np.ndarray, prediction: np.ndarray, counted: np.ndarray) -> "VoxelCounts":
        """Adds one sample: uint8 [X, Y, Z] classes twice, and the voxels that count, bool [X, Y, Z]."""
        # What does not count must not hide what lies below it, in truth and prediction alike.
        actual, predicted = (
            highest_occupied(np.where(counted, voxels, np.uint8(FREE)))[0] for voxels in (truth, prediction)
        )
        columns = self.columns.update(actual, predicted, np.asarray(counted.any(-1)))
        return VoxelCounts(self.voxels.update(truth, prediction, counted), columns)

    def summary(self, iou: np.ndarray, classes: tuple[int, ...]) -> dict[str, float]:
        """Means by name, shares in 0..1, NaN where undefined.

        Args:
          iou: float64 [K] of each class by the protocol; NaN for one that is skipped.
          classes: that the protocol averages over.
        """
        has_truth = self.voxels.has_truth
        return {
            "miou": mean_over(iou, classes),
            # Without the classes that the truth lacks, by whatever rule the protocol counts those.
            "miou_present": mean_over(np.where(has_truth, iou, np.nan), classes),
            "iou": self.voxels.occupied_iou(),
            "dynamic_miou": mean_over(iou, [c for c in DYNAMIC_CLASSES if c in classes]),
            "static_miou": mean_over(iou, [c for c in STATIC_CLASSES if c in classes]),
            "bev_miou": mean_over(self.columns.iou_per_class(), classes),
            "bev_iou": self.columns.occupied_iou(),
        }
