"""Everything that one pass over a split counts: protocol, calibration, teacher, agreement and rays as one state."""

import dataclasses
from typing import NamedTuple

import numpy as np

from occjax.classes import IGNORE
from occjax.grid import OCC3D_GRID, VoxelGrid
from occjax.metrics.agreement import Agreement
from occjax.metrics.calibration import Calibration
from occjax.metrics.occ3d import Occ3dMiou
from occjax.metrics.ray_casting_jax import cast_rays_jax
from occjax.metrics.rayiou import RayIou
from occjax.metrics.scores import Scores
from occjax.metrics.surroundocc import SurroundOccMiou


class ScoredSample(NamedTuple):
    """One sample on the host.

    Attributes:
      prediction: uint8 [X, Y, Z] classes.
      truth: uint8 [X, Y, Z] classes, 255 unknown.
      camera_mask: bool [X, Y, Z], or None where the label set has none.
      calibration: int [2, bins] of `on_device.occupancy_histogram`, or None.
      teacher: uint8 [X, Y, Z] the teacher's classes, or None without a teacher.
      teacher_known: bool [X, Y, Z] where the teacher knows.
      kl_sum: float [2] of `on_device.compare_with_teacher`.
    """

    prediction: np.ndarray
    truth: np.ndarray
    camera_mask: np.ndarray | None
    calibration: np.ndarray | None
    teacher: np.ndarray | None
    teacher_known: np.ndarray | None
    kl_sum: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class CombinedScores:
    """A mergeable state of mergeable states; `rayiou` is None where it is not asked for or has no meaning."""

    subject: Occ3dMiou | SurroundOccMiou
    teacher: Occ3dMiou | SurroundOccMiou
    calibration: Calibration
    agreement: Agreement
    rayiou: RayIou | None

    @classmethod
    def empty(cls, labels_kind: str, grid: VoxelGrid, *, rayiou: bool) -> "CombinedScores":
        """No samples yet.

        Args:
          labels_kind: "surroundocc" or "occ3d"; decides the protocol.
          grid: of predictions and labels.
          rayiou: whether to count rays, which Occ3D's full grid alone allows.

        Raises:
          GridMismatchError: `grid` is no crop of the label set's grid.
        """
        protocol = Occ3dMiou if labels_kind == "occ3d" else SurroundOccMiou
        casts_rays = rayiou and labels_kind == "occ3d" and grid == OCC3D_GRID
        return cls(
            protocol.empty(grid),
            protocol.empty(grid),
            Calibration.empty(),
            Agreement.empty(),
            RayIou.empty() if casts_rays else None,
        )

    def update(self, sample: ScoredSample, origins_m: np.ndarray | None) -> "CombinedScores":
        """Adds one sample; `origins_m` [O, 3] are its ray origins, needed where rays are counted."""
        changed = {"subject": _score(self.subject, sample.prediction, sample.truth, sample.camera_mask)}
        if sample.calibration is not None:
            changed["calibration"] = self.calibration.update(sample.calibration)
        if sample.teacher is not None:
            # Where the teacher knows nothing, it is neither right nor wrong.
            truth = np.where(sample.teacher_known, sample.truth, np.uint8(IGNORE))
            changed["teacher"] = _score(self.teacher, sample.teacher, truth, sample.camera_mask)
            changed["agreement"] = self.agreement.update(
                sample.teacher, sample.prediction, sample.teacher_known, sample.kl_sum
            )
        if self.rayiou is not None:
            changed["rayiou"] = self.rayiou.update(sample.prediction, sample.truth, origins_m, caster=cast_rays_jax)
        return dataclasses.replace(self, **changed)

    def merge(self, other: "CombinedScores") -> "CombinedScores":
        names = [field.name for field in dataclasses.fields(self) if getattr(self, field.name) is not None]
        return dataclasses.replace(self, **{n: getattr(self, n).merge(getattr(other, n)) for n in names})


def _score(protocol, prediction: np.ndarray, truth: np.ndarray, camera_mask: np.ndarray | None):
    if isinstance(protocol, SurroundOccMiou):
        return protocol.update(prediction, truth)
    return protocol.update(prediction, truth, np.ones(truth.shape, bool) if camera_mask is None else camera_mask)


def protocol_scores(protocol: Occ3dMiou | SurroundOccMiou) -> list[Scores]:
    """One entry for SurroundOcc; masked, then unmasked for Occ3D."""
    return [protocol.compute()] if isinstance(protocol, SurroundOccMiou) else list(protocol.compute())
