"""Keeps things apart: a raster of what is taken, and the list of what has been placed."""

import dataclasses

import cv2
import numpy as np

from occjax.synthetic.objects import Thing
from occjax.synthetic.shapes import footprint_m

CELL_M = 0.2
# Values of the raster: free, driven over by the ego, taken.
EGO_PATH, TAKEN = 1, 255


@dataclasses.dataclass
class Site:
    """What stands where.

    Attributes:
      lower_m: city-frame corner of cell [0, 0] of `taken`.
      taken: uint8 [rows, columns]: TAKEN where something stands, EGO_PATH where the ego drives, else 0.
      things: everything placed so far.
    """

    lower_m: np.ndarray
    taken: np.ndarray
    things: list[Thing]

    @classmethod
    def empty(cls, lower_m: np.ndarray, upper_m: np.ndarray) -> "Site":
        columns, rows = np.ceil((upper_m - lower_m) / CELL_M).astype(int)
        return cls(lower_m, np.zeros((rows, columns), np.uint8), [])

    def _polygon(self, outline_m: np.ndarray) -> np.ndarray:
        return np.round((outline_m - self.lower_m) / CELL_M - 0.5).astype(np.int32)

    def block(self, outline_m: np.ndarray, value: int = TAKEN) -> None:
        """Takes a convex outline [n, 2]."""
        cv2.fillConvexPoly(self.taken, self._polygon(outline_m), value)

    def is_free(self, outline_m: np.ndarray, *, for_traffic: bool = False) -> bool:
        """Whether a convex outline [n, 2] lies inside the site and touches nothing; traffic may use the ego's path."""
        polygon = self._polygon(outline_m)
        low, high = polygon.min(axis=0), polygon.max(axis=0) + 1
        if np.any(low < 0) or high[0] > self.taken.shape[1] or high[1] > self.taken.shape[0]:
            return False
        window = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        cv2.fillConvexPoly(window, polygon - low, 1)
        found = self.taken[low[1] : high[1], low[0] : high[0]][window > 0]
        return not np.any(found > (EGO_PATH if for_traffic else 0))

    def place(self, thing: Thing, x, y, yaw, *, z, margin_m=0.25) -> bool:
        """Places a standing thing unless its footprint, grown by the margin, is taken."""
        half = thing.half_size[:2]
        if not self.is_free(footprint_m((x, y), half + margin_m, yaw)):
            return False
        thing.x, thing.y, thing.z, thing.yaw = float(x), float(y), z, float(yaw)
        self.block(footprint_m((x, y), half, yaw))
        self.things.append(thing)
        return True
