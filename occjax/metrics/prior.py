"""Position prior: the most frequent class of each place, the floor that any model must beat."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from occjax.classes import FREE, NUM_CLASSES


@dataclasses.dataclass(frozen=True)
class PositionPrior:
    """Classes counted by place over training labels.

    Attributes:
      counts: int32 [X, Y, Z, K].
    """

    counts: np.ndarray

    @classmethod
    def of(cls, labels: Iterable[np.ndarray], shape: tuple[int, int, int]) -> "PositionPrior":
        """Counts uint8 [X, Y, Z] label grids; values that are no class are left out.

        Args:
          labels: at least one grid.
          shape: X, Y, Z.
        """
        # 32 bits: no place is counted more often than there are samples, and 64 would take 92 MB.
        counts = np.zeros((*shape, NUM_CLASSES), np.int32)
        places = np.arange(int(np.prod(shape))).reshape(shape)
        flat = counts.reshape(-1)
        for semantics in labels:
            known = semantics <= FREE
            # Each place occurs once per grid, so no index repeats.
            flat[places[known] * NUM_CLASSES + semantics[known]] += 1
        return cls(counts)

    def by_voxel(self) -> np.ndarray:
        """uint8 [X, Y, Z] most frequent class of each voxel; free where nothing was counted."""
        return _most_frequent(self.counts)

    def by_column(self) -> np.ndarray:
        """uint8 [X, Y, Z] most frequent class of each column, in all of its voxels."""
        columns = _most_frequent(self.counts.sum(2, dtype=np.int64))
        return np.repeat(columns[:, :, None], self.counts.shape[2], axis=2)


def _most_frequent(counts: np.ndarray) -> np.ndarray:
    """uint8 [...] of counts [..., K]."""
    # From the back, so that ties and empty counts are free.
    return (NUM_CLASSES - 1 - counts[..., ::-1].argmax(-1)).astype(np.uint8)
