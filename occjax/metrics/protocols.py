"""Mean IoU over voxels by the published protocols of the label sets: Occ3D-nuScenes and SurroundOcc."""

import dataclasses

import jax
import numpy as np

from occjax.grid import VoxelGrid
from occjax.label_sets import LabelSet
from occjax.metrics.bev import VoxelCounts
from occjax.metrics.confusion import ScoringError, require_shape
from occjax.metrics.scores import Scores, by_class_name
from occjax.pooling import pooling_factor


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What the published protocols do differently.

    Attributes:
      name: as tables and metrics.json say it.
      has_camera_mask: whether voxels that the cameras see are scored by themselves too, first.
      iou_without_truth: IoU of a class without a voxel of truth, however often it is predicted; None = 0 where it is
        predicted, else the class is skipped.
    """

    name: str
    has_camera_mask: bool
    iou_without_truth: float | None


# Every name that `LabelSet.protocol` may say.
PROTOCOLS = {
    # The Occ3D challenge, as FlashOCC computes it: nanmean over classes of one matrix over the whole split.
    "occ3d": Protocol("Occ3D-nuScenes mIoU", has_camera_mask=True, iou_without_truth=None),
    # SurroundOcc's and GaussianFormer's code appends 1 for a class that a split's truth lacks.
    "surroundocc": Protocol("SurroundOcc mIoU/IoU", has_camera_mask=False, iou_without_truth=1.0),
}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class VoxelMiou:
    """mIoU over the classes of a label set and IoU of occupied voxels; a mergeable state.

    One confusion matrix over the whole split, of the voxels that the label set counts. `free` is no class of the mean,
    but confusions with it count against the others.

        state = VoxelMiou.empty(label_set("occ3d"))
        state = state.update(prediction, semantics, camera_mask)
        state.compute()[0].summary["miou"]

    Attributes:
      label_set: of the truth; names the protocol.
      grid: of predictions and truth.
      samples: how many were counted.
      masked: voxels that the cameras see; None where protocol or label set have no camera mask.
      unmasked: voxels, seen or not.
    """

    label_set: LabelSet = dataclasses.field(metadata={"static": True})
    grid: VoxelGrid = dataclasses.field(metadata={"static": True})
    samples: int
    masked: VoxelCounts | None
    unmasked: VoxelCounts

    @classmethod
    def empty(cls, label_set: LabelSet, grid: VoxelGrid | None = None) -> "VoxelMiou":
        """No samples yet, on the label set's grid, an aligned crop of it, or its voxels pooled.

        Raises:
          GridMismatchError: `grid` is none of these.
        """
        grid = grid or label_set.grid
        pooling_factor(label_set.grid, grid)
        has_mask = label_set.has_camera_mask and PROTOCOLS[label_set.protocol].has_camera_mask
        return cls(label_set, grid, 0, VoxelCounts.empty() if has_mask else None, VoxelCounts.empty())

    def update(
        self, prediction: np.ndarray, semantics: np.ndarray, camera_mask: np.ndarray | None = None
    ) -> "VoxelMiou":
        """Adds one sample.

        Args:
          prediction: uint8 [X, Y, Z] classes 0..17.
          semantics: uint8 [X, Y, Z] truth; values above 17 and ignored classes are left out.
          camera_mask: [X, Y, Z], non-zero where the cameras see the voxel; without effect where `masked` is None.

        Raises:
          ScoringError: shapes or classes are wrong, or there is no camera mask.
        """
        require_shape(self.grid, prediction=prediction, semantics=semantics)
        masked = self.masked
        if masked is not None:
            if camera_mask is None:
                raise ScoringError(f"{self.label_set.name} labels need their camera mask; pass what the file holds")
            require_shape(self.grid, camera_mask=camera_mask)
            masked = masked.update(semantics, prediction, self.label_set.counted(semantics, camera_mask))
        unmasked = self.unmasked.update(semantics, prediction, self.label_set.counted(semantics))
        return dataclasses.replace(self, samples=self.samples + 1, masked=masked, unmasked=unmasked)

    def compute(self) -> list[Scores]:
        """With the camera mask (the published number), where there is one; and without."""
        # Occ3D's tables speak of the camera mask alone, SurroundOcc's of the class that is noise.
        ignored = [] if PROTOCOLS[self.label_set.protocol].has_camera_mask else self.label_set.ignored
        mask = f"truth {', '.join(map(str, ignored))} left out" if ignored else "no mask"
        masked = [] if self.masked is None else [self._scores("camera mask", self.masked)]
        return [*masked, self._scores(mask, self.unmasked)]

    def _scores(self, mask: str, counts: VoxelCounts) -> Scores:
        protocol, classes = PROTOCOLS[self.label_set.protocol], self.label_set.classes
        iou = counts.voxels.iou_per_class(without_truth=protocol.iou_without_truth)
        absent = len(classes) - int(counts.voxels.has_truth[list(classes)].sum())
        remark = ""
        # A useless model scores high on a few samples: whoever reads the number has to know.
        if absent and protocol.iou_without_truth is not None:
            remark = (
                f"{absent} of {len(classes)} classes have no voxel of truth here; the protocol counts them as "
                f"{100 * protocol.iou_without_truth:g}"
            )
        summary, per_class = counts.summary(iou, classes), by_class_name(iou, classes)
        return Scores(protocol.name, mask, str(self.grid), self.samples, summary, per_class, remark)
