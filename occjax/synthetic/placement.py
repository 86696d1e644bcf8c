"""Placement of things apart from each other: a raster of what is taken, and the list of what has been placed."""

import cv2
import numpy as np

from occjax.synthetic.objects import Thing

# Two outlines, each rounded by half a cell, still keep apart what the usual margin of 0.25 m kept apart.
CELL_M = 0.2
# Values of the raster besides 0, which is free; ordered, so that traffic asks for no more than EGO_PATH.
EGO_PATH, TAKEN = 1, 255


class Site:
    """What stands where between two corners [2], city frame; nothing at first.

    Attributes:
      lower_m: float64 [2], city-frame corner of cell [0, 0] of `taken`.
      taken: uint8 [rows, columns]: TAKEN where something stands, EGO_PATH where the ego drives, else 0.
      things: everything placed so far.
    """

    def __init__(self, lower_m: np.ndarray, upper_m: np.ndarray):
        columns, rows = np.ceil((upper_m - lower_m) / CELL_M).astype(int)
        self.lower_m, self.taken = lower_m, np.zeros((rows, columns), np.uint8)
        self.things: list[Thing] = []

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

    def place(self, thing: Thing, x, y, yaw, *, z, margin_m=0.25) -> None:
        """Places a standing thing unless its footprint, grown by the margin, is taken.

        Args:
          x, y, z: where its origin comes to stand, city frame, metres.
          yaw: radians.
        """
        thing.stand(x, y, z, yaw)
        if self.is_free(thing.swept_m(margin_m=margin_m)):
            self.add(thing, thing.swept_m())

    def add(self, thing: Thing, outline_m: np.ndarray) -> None:
        """Adds a thing that stands already, and blocks an outline [n, 2], city frame, for it."""
        self.block(outline_m)
        self.things.append(thing)
