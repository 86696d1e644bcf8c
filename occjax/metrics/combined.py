"""Combined scores: protocol, calibration, teacher, agreement and rays of one pass over a split as one state."""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from occjax.classes import IGNORE
from occjax.grid import OCC3D_GRID, VoxelGrid
from occjax.label_sets import LabelSet
from occjax.metrics.agreement import Agreement
from occjax.metrics.calibration import OWN, Calibration
from occjax.metrics.missed import Missed
from occjax.metrics.protocols import VoxelMiou
from occjax.metrics.rayiou import RayIou


class TeacherAnswer(NamedTuple):
    """What the teacher says about one sample, and how far the student is from it.

    Attributes:
      semantics: uint8 [X, Y, Z] classes.
      known: bool [X, Y, Z] where the teacher knows.
      kl_sum: float [2] of `on_device.compare_with_teacher`.
    """

    semantics: np.ndarray
    known: np.ndarray
    kl_sum: np.ndarray


class ScoredSample(NamedTuple):
    """One sample on the host.

    Attributes:
      prediction: uint8 [X, Y, Z] classes.
      truth: uint8 [X, Y, Z] classes, 255 unknown; None without labels.
      camera_mask: bool [X, Y, Z], or None where the label set has none.
      calibration: int [T, 2, 1000] of `on_device.calibration_counts`, or None.
      teacher: the teacher's answer, or None without a teacher.
    """

    prediction: np.ndarray
    truth: np.ndarray | None
    camera_mask: np.ndarray | None
    calibration: np.ndarray | None
    teacher: TeacherAnswer | None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CombinedScores:
    """A mergeable state of mergeable states; `rayiou` is None where it is not asked for or has no meaning."""

    predictions: VoxelMiou
    teacher: VoxelMiou
    calibration: Calibration
    missed: Missed
    agreement: Agreement
    rayiou: RayIou | None

    @classmethod
    def empty(
        cls, label_set: LabelSet, grid: VoxelGrid, *, rayiou: bool, temperatures: tuple[float, ...] = OWN
    ) -> "CombinedScores":
        """No samples yet.

        Args:
          label_set: its protocol scores, its rule says which voxels count.
          grid: of predictions and labels.
          rayiou: whether to count rays, which the grid they are defined on (Occ3D's, whole) alone allows.
          temperatures: that calibration is counted at.

        Raises:
          GridMismatchError: `grid` is no crop of the label set's grid.
        """
        # Elsewhere there is no published number to compare with.
        rays = RayIou.empty() if rayiou and grid == OCC3D_GRID else None
        scores = VoxelMiou.empty(label_set, grid)
        missed = Missed.empty(label_set, grid)
        return cls(scores, scores, Calibration.empty(temperatures), missed, Agreement.empty(), rays)

    def update(self, sample: ScoredSample, origins_m: np.ndarray | None = None) -> "CombinedScores":
        """Adds one sample; one without truth changes nothing.

        Args:
          sample: on the grid of this state.
          origins_m: [O, 3] its ray origins; without them no rays are counted.
        """
        if sample.truth is None:
            return self
        # Raises on what cannot be scored before anything is counted: a state is replaced whole or not at all.
        scores = self.predictions.update(sample.prediction, sample.truth, sample.camera_mask)
        missed = self.missed.update(sample.prediction, sample.truth, sample.camera_mask)
        changed: dict[str, Any] = {"predictions": scores, "missed": missed}
        if sample.calibration is not None:
            changed["calibration"] = self.calibration.update(sample.calibration)
        if (teacher := sample.teacher) is not None:
            # Where the teacher knows nothing, it is neither right nor wrong.
            truth = np.where(teacher.known, sample.truth, np.uint8(IGNORE))
            changed["teacher"] = self.teacher.update(teacher.semantics, truth, sample.camera_mask)
            changed["agreement"] = self.agreement.update(
                teacher.semantics, sample.prediction, teacher.known, teacher.kl_sum
            )
        if self.rayiou is not None and origins_m is not None:
            changed["rayiou"] = self.rayiou.update(sample.prediction, sample.truth, origins_m)
        return dataclasses.replace(self, **changed)
