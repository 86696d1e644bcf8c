"""RayIoU: whether LiDAR-like rays meet the right class at the right distance."""

import dataclasses

import jax
import numpy as np

from occjax.classes import FREE, IGNORE, NUM_CLASSES
from occjax.data.index import SplitIndex
from occjax.geometry import invert_rigid
from occjax.grid import OCC3D_GRID, VoxelGrid
from occjax.metrics.confusion import ScoringError, mean_over, ratio, require_classes, require_shape
from occjax.metrics.ray_casting import cast_rays
from occjax.metrics.scores import Scores, by_class_name

# Of SparseOcc's evaluation, all three; the origins' limit keeps them a metre inside Occ3D's 40 m.
THRESHOLDS_M = (1.0, 2.0, 4.0)
MAX_ORIGINS = 8
_ORIGIN_LIMIT_M = 39.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RayIou:
    """RayIoU at 1, 2 and 4 m on Occ3D's grid (SparseOcc); a mergeable state.

        state = RayIou.empty()
        state = state.update(prediction, semantics, origins_m)
        state.compute()[0].summary["rayiou"]

    Attributes:
      samples: how many were counted.
      hits: int64 [3, 17] rays with the right class within each threshold.
      truth: int64 [17] rays by true class; rays whose truth is free do not count.
      predicted: int64 [17] the same rays by predicted class.
    """

    samples: int
    hits: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray

    @classmethod
    def empty(cls) -> "RayIou":
        """No samples yet."""
        return cls(0, np.zeros((len(THRESHOLDS_M), FREE), np.int64), np.zeros(FREE, np.int64), np.zeros(FREE, np.int64))

    def update(
        self, prediction: np.ndarray, semantics: np.ndarray, origins_m: np.ndarray, *, grid: VoxelGrid = OCC3D_GRID
    ) -> "RayIou":
        """Adds one sample.

        Args:
          prediction: uint8 [X, Y, Z] classes 0..17.
          semantics: uint8 [X, Y, Z] truth, 0..17; rays that meet an unknown voxel (255) first do not count. Occ3D's
            own labels have none: a teacher that knows a part of the grid is scored by it.
          origins_m: float [O, 3] in the sample's ego frame, from `ray_origins_m`.
          grid: that both lie on; anything but Occ3D's is another metric.

        Raises:
          GridMismatchError: another grid.
          ScoringError: shapes or classes are wrong.
        """
        OCC3D_GRID.require_same(grid, "RayIoU is defined on Occ3D's grid", "predict on it or resample the prediction")
        require_shape(grid, prediction=prediction, semantics=semantics)
        require_classes(prediction=prediction, semantics=semantics)
        origins_m = np.asarray(origins_m, np.float64)
        if origins_m.ndim != 2 or origins_m.shape[1] != 3:
            raise ScoringError(f"ray origins must be [O, 3] metres in the ego frame, found {origins_m.shape}")
        for name, voxels in (("prediction", prediction), ("semantics", semantics[semantics != IGNORE])):
            if voxels.size and not 0 <= voxels.min() <= voxels.max() <= FREE:
                raise ScoringError(
                    f"{name} must hold classes 0 to {FREE}, found {voxels.min()} to {voxels.max()}; store the class "
                    "numbers of occjax/classes.py"
                )
        # An unknown voxel is met like any that is not free: then the ray does not count, as if its truth were free.
        labels, depth_m = cast_rays([v.astype(np.uint8) for v in (semantics, prediction)], origins_m, grid)
        counts = labels[0] < FREE
        truth, predicted = labels[:, counts]
        error_m = np.abs(depth_m[1] - depth_m[0])[counts]
        hits = [_by_class(truth[(truth == predicted) & (error_m < limit)]) for limit in THRESHOLDS_M]
        return RayIou(
            self.samples + 1,
            self.hits + np.stack(hits),
            self.truth + _by_class(truth),
            self.predicted + _by_class(predicted),
        )

    def iou(self) -> np.ndarray:
        """float64 [3, 17] by threshold and class; NaN for a class that no ray meets in truth or prediction."""
        return ratio(self.hits, self.truth + self.predicted - self.hits)

    def compute(self) -> list[Scores]:
        """RayIoU at each threshold and their mean; per class the mean over thresholds."""
        iou = self.iou()
        summary = {"rayiou": mean_over(iou.ravel(), range(iou.size))}
        summary |= {f"rayiou@{m:g}": mean_over(row, range(FREE)) for m, row in zip(THRESHOLDS_M, iou, strict=True)}
        per_class = by_class_name(iou.mean(0), range(FREE))
        return [Scores("RayIoU", "no mask", str(OCC3D_GRID), self.samples, summary, per_class)]


def _by_class(labels: np.ndarray) -> np.ndarray:
    """int64 [17] of classes [n]; what is predicted free is a miss of the true class and no class of its own."""
    return np.bincount(labels, minlength=NUM_CLASSES)[:FREE]


def select_origins(positions_m: np.ndarray) -> np.ndarray:
    """At most eight of the positions [n, 3] (ego frame, in time order) that lie within 39 m along x and y."""
    near = positions_m[np.all(np.abs(positions_m[:, :2]) < _ORIGIN_LIMIT_M, axis=1)]
    if len(near) > MAX_ORIGINS:
        # Evenly over the drive, first and last included.
        near = near[np.round(np.linspace(0, len(near) - 1, MAX_ORIGINS)).astype(int)]
    return near


def ray_origins_m(split: SplitIndex, row: int) -> np.ndarray:
    """Ray origins [O, 3] of a sample: LiDAR positions of its scene's keyframes, past and future, in its ego frame."""
    ego_from_global = invert_rigid(split.global_from_ego[row])
    lidar_in_global = split.global_from_lidar[split.scene_rows(row)][:, :3, 3]
    return select_origins(lidar_in_global @ ego_from_global[:3, :3].T + ego_from_global[:3, 3])
