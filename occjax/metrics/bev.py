"""Seen from above: the class of each column, and how well it is predicted."""

import dataclasses

import numpy as np

from occjax.classes import FREE, IGNORE
from occjax.metrics.confusion import ConfusionMatrix, mean_over


def highest_occupied(semantics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The highest voxel of each column that is neither free nor unknown (255).

    Args:
      semantics: uint8 [X, Y, Z].

    Returns:
      its class, uint8 [X, Y], free where there is none; and its z index, int64 [X, Y], -1 where there is none.
    """
    occupied = (semantics != FREE) & (semantics != IGNORE)
    from_top = occupied[..., ::-1].argmax(-1)
    exists = occupied.any(-1)
    height = np.where(exists, semantics.shape[-1] - 1 - from_top, -1)
    classes = np.take_along_axis(semantics, np.maximum(height, 0)[..., None], axis=-1)[..., 0]
    return np.where(exists, classes, np.uint8(FREE)), height


@dataclasses.dataclass(frozen=True)
class BevIou:
    """IoU of top views; a mergeable state.

    Voxels that do not count are free in both views; columns without a voxel that counts are left out.
    """

    confusion: ConfusionMatrix

    @classmethod
    def empty(cls) -> "BevIou":
        return cls(ConfusionMatrix.empty())

    def update(self, truth: np.ndarray, prediction: np.ndarray, kept: np.ndarray) -> "BevIou":
        """Adds one sample; uint8 [X, Y, Z] classes twice and the voxels that count, bool [X, Y, Z]."""
        views = [highest_occupied(np.where(kept, voxels, np.uint8(FREE)))[0] for voxels in (truth, prediction)]
        return BevIou(self.confusion.update(*views, kept.any(-1)))

    def merge(self, other: "BevIou") -> "BevIou":
        return BevIou(self.confusion.merge(other.confusion))

    def compute(self, classes) -> dict[str, float]:
        """bev_miou over `classes` that occur, and bev_iou of occupied columns."""
        return {
            "bev_miou": mean_over(self.confusion.iou_per_class(), classes),
            "bev_iou": self.confusion.occupied_iou(),
        }
