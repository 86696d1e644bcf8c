"""Top views of the street: the highest occupied voxel of each column, shaded by height, forward up."""

import math
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image, ImageDraw

from occjax.classes import FREE, IGNORE
from occjax.drawing.style import COLOR_TABLE, FREE_COLOR, UNKNOWN_COLOR, car_box_m, forward_up, pixel_from_forward_left
from occjax.drawing.style import write as write_text
from occjax.grid import VoxelGrid
from occjax.pooling import highest_occupied

ERROR_COLORS = {
    "right": (104, 128, 112),
    "wrong class": (255, 170, 0),
    "missed": (235, 60, 60),
    "invented": (70, 140, 255),
    "not counted": UNKNOWN_COLOR,
}
_MARK_COLOR = (255, 255, 255)
_COSTLY, _TOUCHED, _OBSTACLE = (255, 170, 0), (235, 60, 60), (255, 225, 225)


def top_view(semantics: np.ndarray, grid: VoxelGrid, *, scale: int = 2) -> np.ndarray:
    """uint8 RGB [rows, columns, 3] of uint8 [X, Y, Z] classes, `scale` pixels a voxel; 255 is unknown."""
    classes, height = highest_occupied(semantics)
    # A column of which nothing is known is no free column.
    classes = np.where((height < 0) & np.all(semantics == IGNORE, axis=-1), np.uint8(IGNORE), classes)
    shade = _relief(height, semantics.shape[-1])
    color = COLOR_TABLE[classes] * np.where(height[..., None] >= 0, shade[..., None], 1.0)
    return _finish(color.clip(0, 255).astype(np.uint8), grid, scale)


def error_view(
    truth: np.ndarray, prediction: np.ndarray, counted: np.ndarray, grid: VoxelGrid, *, scale: int = 2
) -> np.ndarray:
    """Where the two top views differ, and how; colours in `ERROR_COLORS`.

    Args:
      truth: uint8 [X, Y, Z] classes.
      prediction: uint8 [X, Y, Z] classes.
      counted: bool [X, Y, Z]; other voxels count as free in both. Columns without any, and those where nothing else is
        occupied than voxels that do not count, are drawn as not counted.
      grid: of all three.
      scale: pixels a voxel.
    """
    actual, predicted = (
        highest_occupied(np.where(counted, voxels, np.uint8(FREE)))[0] for voxels in (truth, prediction)
    )
    both_free = (actual == FREE) & (predicted == FREE)
    is_occupied = (highest_occupied(truth)[0] != FREE) | (highest_occupied(prediction)[0] != FREE)
    # The later of two that fit a column is the one that is drawn.
    kinds = {
        "right": actual == predicted,
        "wrong class": actual != predicted,
        "missed": predicted == FREE,
        "invented": actual == FREE,
        "free": both_free,
        "not counted": ~counted.any(-1) | (both_free & is_occupied),
    }
    color = np.zeros((*actual.shape, 3), np.uint8)
    for kind, where in kinds.items():
        color[where] = ERROR_COLORS.get(kind, FREE_COLOR)
    return _finish(color, grid, scale)


def cost_view(values: np.ndarray, grid: VoxelGrid, *, scale: int = 4) -> np.ndarray:
    """uint8 RGB [rows, columns, 3] of a cost map, int8 [X, Y] as `occjax.predict.cost_map` has it."""
    share = (np.clip(values, 0, 98) / 98.0)[..., None]
    color = (1 - share) * FREE_COLOR + share * _COSTLY
    for value, its_color in ((-1, UNKNOWN_COLOR), (99, _TOUCHED), (100, _OBSTACLE)):
        color[values == value] = its_color
    return _finish(color.astype(np.uint8), grid, scale)


def map_within(draw: Callable[[int], np.ndarray], grid: VoxelGrid, width: int, height: int) -> np.ndarray:
    """A map, uint8 RGB [rows, columns, 3], as large as `width` by `height` pixels have room for.

    `draw` makes it with so many pixels a voxel; the next larger whole number is drawn, and shrunk to fit.
    """
    rows, columns = forward_up(np.empty(grid.shape[:2], bool), grid.frame).shape
    factor = min(width / columns, height / rows)
    size = (max(1, int(columns * factor)), max(1, int(rows * factor)))
    return cv2.resize(draw(math.ceil(factor)), size, interpolation=cv2.INTER_AREA)


def _relief(height: np.ndarray, levels: int) -> np.ndarray:
    """Brightness [X, Y]: higher is lighter, and slopes catch a light from one corner."""
    level = np.maximum(height, 0).astype(np.float32)
    padded = np.pad(level, 1, mode="edge")
    slope = padded[2:, 1:-1] - padded[:-2, 1:-1] + padded[1:-1, 2:] - padded[1:-1, :-2]
    return 0.78 + 0.22 * level / max(levels - 1, 1) - 0.04 * np.clip(slope, -5, 5)


def _finish(color: np.ndarray, grid: VoxelGrid, scale: int) -> np.ndarray:
    """Turns the map [X, Y, 3] forward up, enlarges it, and marks the car, the direction and 10 m."""
    image = forward_up(color, grid.frame)
    # Repeated, not interpolated: a voxel stays a square of one colour.
    picture = Image.fromarray(np.ascontiguousarray(image.repeat(scale, axis=0).repeat(scale, axis=1)))
    draw = ImageDraw.Draw(picture)
    (rear, right, _), (front, left, _) = car_box_m(grid.frame)
    nose = (front + rear) / 2 + (front - rear) / 4
    outline = [(rear, right), (nose, right), (front, 0.0), (nose, left), (rear, left)]
    draw.polygon(
        [pixel_from_forward_left(grid, f, side, scale) for f, side in outline], fill=_MARK_COLOR, outline=(0, 0, 0)
    )
    small = max(9, min(13, picture.width // 30))
    ten_m = 10 / grid.voxel_size_m * scale
    # Not on a crop so small that the marks would cover it.
    if picture.width > 2 * ten_m + 60:
        bottom = picture.height - 10
        draw.line([(9, bottom), (11 + ten_m, bottom)], fill=(0, 0, 0), width=4)
        draw.line([(10, bottom), (10 + ten_m, bottom)], fill=_MARK_COLOR, width=2)
        write_text(draw, (10, bottom - small - 6), "10 m", size=small, color=_MARK_COLOR, outline=True)
        draw.line([(14, 29), (14, 8)], fill=(0, 0, 0), width=4)
        draw.line([(14, 28), (14, 8)], fill=_MARK_COLOR, width=2)
        draw.polygon([(9, 14), (19, 14), (14, 5)], fill=_MARK_COLOR, outline=(0, 0, 0))
        write_text(draw, (24, 9), "forward", size=small, color=_MARK_COLOR, outline=True)
    return np.asarray(picture)
