"""Ground of a scene as rasters: class, and with it the height, and colour, in the city frame."""

import dataclasses

import cv2
import numpy as np

from occjax.synthetic.objects import CLASS
from occjax.synthetic.shapes import heading_vector

# Lane marks are 0.12 m wide, and a voxel of 0.4 m still holds 16 cells.
TEXEL_M = 0.1
# Everything but the carriageway lies this much higher: the class decides the height, so no raster of heights is needed.
KERB_M = 0.14

ROAD, FLAT, PAVEMENT, TERRAIN = (CLASS[name] for name in ("driveable_surface", "other_flat", "sidewalk", "terrain"))


@dataclasses.dataclass
class Ground:
    """Rasters indexed [row, column] = [y, x] from `lower_m`, TEXEL_M per cell.

    Attributes:
      lower_m: float64 [2], city-frame (x, y) of the corner of cell [0, 0].
      semantic: uint8 [rows, columns] class; cells outside count as terrain.
      color: uint8 [rows, columns, 3] RGB albedo.
    """

    lower_m: np.ndarray
    semantic: np.ndarray
    color: np.ndarray

    def cells(self, points_xy) -> np.ndarray:
        """Continuous raster coordinates (column, row) of city points [..., 2]; cell centres at half-integers."""
        return (np.asarray(points_xy) - self.lower_m) / TEXEL_M

    def semantic_at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """uint8 [...] class at city points x [...], y [...]; terrain outside the raster."""
        column = np.floor((x - self.lower_m[0]) / TEXEL_M).astype(np.int32)
        row = np.floor((y - self.lower_m[1]) / TEXEL_M).astype(np.int32)
        rows, columns = self.semantic.shape
        inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        found = self.semantic[np.where(inside, row, 0), np.where(inside, column, 0)]
        return np.where(inside, found, np.uint8(TERRAIN))

    def _paint(self, raster, outline_cells, value, **options) -> None:
        """Fills an outline [n, 2] of raster coordinates."""
        shift = 4  # binary digits after the point in OpenCV's coordinates: sixteenths of a cell
        # OpenCV puts pixel centres at integers, the raster at half-integers.
        polygon = np.round((outline_cells - 0.5) * 2**shift).astype(np.int32)
        cv2.fillPoly(raster, [polygon], value, shift=shift, **options)

    def fill(self, x0, x1, y0, y1, semantic: int, color, radius_m=0.0) -> None:
        """Paints a rectangle, its corners rounded by `radius_m`, in class and colour (RGB in 0..1)."""
        (c0, r0), (c1, r1) = self.cells((x0, y0)), self.cells((x1, y1))
        radius = max(min(radius_m / TEXEL_M, (c1 - c0) / 2, (r1 - r0) / 2), 0)
        arc = np.linspace(0, np.pi / 2, 8 if radius > 0 else 1)
        left, right, low, high = c0 + radius, c1 - radius, r0 + radius, r1 - radius
        centers = ((right, high), (left, high), (left, low), (right, low))
        corners = [c + radius * heading_vector(arc + k * np.pi / 2) for k, c in enumerate(centers)]
        self._paint(self.semantic, np.concatenate(corners), (int(semantic),))
        self._paint(self.color, np.concatenate(corners), tuple(float(255 * c) for c in color))

    def line(self, start, end, width_m, color, dash_m: tuple | None = None) -> None:
        """Paints a strip of colour between two city points [2], dashed (length, gap) if asked; the class stays."""
        start, end = np.asarray(start, float), np.asarray(end, float)
        length = float(np.linalg.norm(end - start))
        if length < 0.2:  # too short to have a direction
            return
        direction = (end - start) / length
        side = np.array([-direction[1], direction[0]]) * width_m / 2
        step, run = (sum(dash_m), dash_m[0]) if dash_m else (length, length)
        for begin in np.arange(0, length, step):
            a, b = start + direction * begin, start + direction * min(float(begin) + run, length)
            outline = self.cells(np.stack([a + side, b + side, b - side, a - side]))
            # Smooth edges: markings are as wide as a cell, without them they would come and go.
            self._paint(self.color, outline, tuple(float(255 * c) for c in color), lineType=cv2.LINE_AA)


def smooth_noise(rng, shape, cells) -> np.ndarray:
    """float32 [rows, columns] noise of mean 0 and spread about 1 that varies over `cells` raster cells."""
    small = [max(int(n / cells) + 2, 2) for n in shape]
    coarse = rng.standard_normal(small).astype(np.float32)
    # What is about as fine as the raster has nothing to round off, and cubic costs four times the taps.
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC if cells > 2 else cv2.INTER_LINEAR)


def weather(rng, ground: Ground) -> None:
    """Gives each class its grain: asphalt speckle and patches, paving joints, grass; changes the colour in place.

    Comes after all painting, for it darkens and lightens what is there.
    """
    shape = ground.semantic.shape
    noise = np.stack([smooth_noise(rng, shape, cells) for cells in (1.5, 12, 120)], axis=-1)
    # How much each class varies over 0.15, 1.2 and 12 m: asphalt in large patches, grass at every scale.
    amount = np.zeros((256, 3), np.float32)
    amount[ROAD], amount[PAVEMENT] = (0.045, 0.05, 0.10), (0.03, 0.04, 0.07)
    amount[FLAT], amount[TERRAIN] = (0.03, 0.04, 0.08), (0.16, 0.16, 0.12)
    gain = 1 + np.einsum("rcn,rcn->rc", amount[ground.semantic], noise)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    pitch = int(rng.choice((10, 15, 20)))  # slabs of 1, 1.5 or 2 m
    joint = (rows % pitch == 0) | (columns % pitch == 0)
    gain -= 0.16 * joint * (ground.semantic == PAVEMENT)
    # Bricks of 0.4 x 0.8 m, every second course shifted by half of one.
    bricks = (rows % 4 == 0) | ((columns + 4 * ((rows // 4) % 2)) % 8 == 0)
    gain -= 0.14 * bricks * (ground.semantic == FLAT)
    color = ground.color * gain[..., None]
    # Kerb stones: a pale rim around the carriageway.
    road = (ground.semantic == ROAD).astype(np.uint8)
    rim = (cv2.dilate(road, np.ones((5, 5), np.uint8)) > 0) & (road == 0)
    color[rim] = 0.35 * color[rim] + 0.65 * 165
    ground.color = np.clip(color, 0, 255).astype(np.uint8)
