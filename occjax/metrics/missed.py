"""Missed cells: occupied in truth, called free, near the vehicle; what a robot would drive into."""

import dataclasses
import functools

import jax
import numpy as np
from jaxtyping import Bool, UInt8

from occjax.classes import FREE, GROUND_CLASSES
from occjax.grid import VoxelGrid
from occjax.label_sets import LabelSet
from occjax.metrics.confusion import ratio
from occjax.metrics.scores import percent

# Seen from above, from the origin of the grid's frame to a cell's centre.
RANGES_M = (10, 20)
# All occupied cells, and those that are no ground to drive or walk on.
KINDS = ("occupied", "obstacles")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Missed:
    """Share of occupied cells whose most probable class is free, within 10 and 20 m; a mergeable state.

    Attributes:
      label_set: of the truth; says which voxels count.
      grid: of predictions and truth.
      cells: int64 [2, 2] by kind and range: occupied in truth.
      missed: int64 [2, 2] those of them that are called free.
    """

    label_set: LabelSet = dataclasses.field(metadata={"static": True})
    grid: VoxelGrid = dataclasses.field(metadata={"static": True})
    cells: np.ndarray
    missed: np.ndarray

    @classmethod
    def empty(cls, label_set: LabelSet, grid: VoxelGrid) -> "Missed":
        """No samples yet."""
        nothing = np.zeros((len(KINDS), len(RANGES_M)), np.int64)
        return cls(label_set, grid, nothing, nothing)

    def update(
        self,
        prediction: UInt8[np.ndarray, "x y z"],
        truth: UInt8[np.ndarray, "x y z"],
        camera_mask: Bool[np.ndarray, "x y z"] | None,
    ) -> "Missed":
        """Adds one sample: voxels that the label set counts, and where there is a camera mask, what it sees."""
        occupied = self.label_set.counted(truth, camera_mask) & (truth != FREE)
        kinds = (occupied, occupied & ~np.isin(truth, GROUND_CLASSES))
        near = _within(self.grid)
        cells, missed = (
            np.array([[np.count_nonzero(voxels[columns]) for columns in near] for voxels in which])
            for which in (kinds, [voxels & (prediction == FREE) for voxels in kinds])
        )
        return dataclasses.replace(self, cells=self.cells + cells, missed=self.missed + missed)

    def compute(self) -> dict[str, dict[str, float | None]]:
        """Shares in per cent by kind and range, {"occupied": {"10 m": 3.1, ...}, ...}; None where there is no cell."""
        shares = ratio(self.missed, self.cells)
        return {
            kind: {f"{range_m} m": percent(share) for range_m, share in zip(RANGES_M, row, strict=True)}
            for kind, row in zip(KINDS, shares, strict=True)
        }


@functools.lru_cache(maxsize=4)
def _within(grid: VoxelGrid) -> list[np.ndarray]:
    """Columns bool [X, Y] within each range."""
    distance_m = np.linalg.norm(grid.centers_m()[:, :, 0, :2], axis=-1)
    return [distance_m <= range_m for range_m in RANGES_M]
