"""Placement of things apart from each other: a raster of what is taken, and the list of what has been placed."""

import dataclasses

import cv2
import numpy as np

from occjax.synthetic.objects import Thing
from occjax.synthetic.shapes import footprint_m

# Two outlines, each rounded by half a cell, still keep apart what the usual margin of 0.25 m kept apart.
CELL_M = 0.2
# Values of the raster besides 0, which is free; ordered, so that traffic asks for no more than EGO_PATH.
EGO_PATH, TAKEN = 1, 255


@dataclasses.dataclass
class Site:
    """What stands where.

    Attributes:
      lower_m: float64 [2], city-frame corner of cell [0, 0] of `taken`.
      taken: uint8 [rows, columns]: TAKEN where something stands, EGO_PATH where the ego drives, else 0.
      things: everything placed so far.
    """

    lower_m: np.ndarray
    taken: np.ndarray
    things: list[Thing]

    @classmethod
    def empty(cls, lower_m: np.ndarray, upper_m: np.ndarray) -> "Site":
        """A site between two corners [2], city frame, on which nothing stands."""
        columns, rows = np.ceil((upper_m - lower_m) / CELL_M).astype(int)
        return cls(lower_m, np.zeros((rows, columns), np.uint8), [])

    def _polygon(self, outline_m: np.ndarray) -> np.ndarray:
        """Cells int32 [n, 2] (column, row) of an outline [n, 2], city frame."""
        # Less 0.5: OpenCV puts the centres of cells at integers.
        return np.round((outline_m - self.lower_m) / CELL_M - 0.5).astype(np.int32)

    def block(self, outline_m: np.ndarray, value: int = TAKEN) -> None:
        """Writes `value` into the cells of a convex outline [n, 2], city frame."""
        cv2.fillConvexPoly(self.taken, self._polygon(outline_m), (value,))

    def is_free(self, outline_m: np.ndarray, *, for_traffic: bool = False) -> bool:
        """Whether a convex outline [n, 2] lies inside the site and touches nothing.

        Args:
          for_traffic: allows the ego's path; whether both are there at the same time is up to `EgoClearance`.
        """
        polygon = self._polygon(outline_m)
        low, high = polygon.min(axis=0), polygon.max(axis=0) + 1
        if np.any(low < 0) or high[0] > self.taken.shape[1] or high[1] > self.taken.shape[0]:
            return False
        # A site spans 150 m and more; only the outline's own window is drawn and compared.
        window = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        cv2.fillConvexPoly(window, polygon - low, (1,))
        found = self.taken[low[1] : high[1], low[0] : high[0]][window > 0]
        return not np.any(found > (EGO_PATH if for_traffic else 0))

    def place(self, thing: Thing, x, y, yaw, *, z, margin_m=0.25) -> bool:
        """Places a standing thing unless its footprint, grown by the margin, is taken; says whether it did.

        Args:
          x, y, z: where its origin comes to stand, city frame, metres.
          yaw: radians.
        """
        half = thing.half_size[:2]
        if not self.is_free(footprint_m((x, y), half + margin_m, yaw)):
            return False
        thing.x, thing.y, thing.z, thing.yaw = float(x), float(y), z, float(yaw)
        self.block(footprint_m((x, y), half, yaw))
        self.things.append(thing)
        return True
