"""Agreement of the student with its teacher: what distillation did."""

import dataclasses

import jax
import numpy as np

from occjax.classes import FREE
from occjax.metrics.confusion import ConfusionMatrix, ratio
from occjax.metrics.scores import by_class_name, percent


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Agreement:
    """Teacher against student on the voxels that the teacher knows; a mergeable state.

    Attributes:
      confusion: rows teacher, columns student.
      kl_sum: float64 [2] Σ KL(teacher ‖ student) in nats at temperature 1, over the voxels whose most probable class
        is occupied by the teacher, and over those that are free.
    """

    confusion: ConfusionMatrix
    kl_sum: np.ndarray

    @classmethod
    def empty(cls) -> "Agreement":
        """No samples yet."""
        return cls(ConfusionMatrix.empty(), np.zeros(2))

    def update(self, teacher: np.ndarray, student: np.ndarray, known: np.ndarray, kl_sum: np.ndarray) -> "Agreement":
        """Adds one sample: classes uint8 [X, Y, Z] twice, voxels the teacher knows, and its two sums of KL."""
        # Sums of 640,000 float32 terms come from the device; what is added up here is added in 64 bits.
        return Agreement(self.confusion.update(teacher, student, known), self.kl_sum + np.asarray(kl_sum, np.float64))

    def share_per_class(self) -> dict[str, float]:
        """Share in 0..1 of the voxels of each teacher class, by name, to which the student gives the same class."""
        counts = self.confusion.counts
        return by_class_name(ratio(self.confusion.hits, counts.sum(1)), range(len(counts)))

    def compute(self) -> dict:
        """Shares in per cent, KL in nats per voxel; None where undefined.

        `same_class` is the share of voxels with one answer, `same_class_occupied` that among voxels which the teacher
        calls occupied; `per_class` splits it by the teacher's class.
        """
        counts = self.confusion.counts
        by_teacher = counts.sum(1)
        occupied = np.arange(len(counts)) != FREE
        voxels = np.array([by_teacher[occupied].sum(), by_teacher[FREE]])
        # Apart, because most voxels are free and easy: one mean would hide the others.
        kl_occupied, kl_free = ratio(self.kl_sum, voxels)
        return {
            "same_class": percent(float(ratio(self.confusion.hits.sum(), counts.sum()))),
            "same_class_occupied": percent(float(ratio(self.confusion.hits[occupied].sum(), voxels[0]))),
            "kl_nats": _or_none(float(ratio(self.kl_sum.sum(), voxels.sum()))),
            "kl_nats_occupied": _or_none(float(kl_occupied)),
            "kl_nats_free": _or_none(float(kl_free)),
            "per_class": {name: percent(share) for name, share in self.share_per_class().items()},
        }


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
