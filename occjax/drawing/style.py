"""Style that all pictures share: colours, text, and how a grid is turned so that forward is up."""

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from occjax.classes import CLASS_COLORS, CLASS_NAMES, FREE, IGNORE
from occjax.grid import VoxelGrid

# Free space is dark, because the usual white hides man-made surfaces, which are nearly white themselves; but lighter
# than sidewalks and others. What is unknown is bluish and lighter than both, unlike any class.
FREE_COLOR = (64, 67, 74)
UNKNOWN_COLOR = (128, 142, 176)
CAR_COLOR = (255, 255, 255)
PAGE_COLOR = (243, 243, 240)  # so far from the car's white that a GIF keeps both
TEXT_COLOR = (30, 32, 38)

# Class to RGB [256, 3]; values that are no class look unknown.
COLOR_TABLE = np.tile(np.array(UNKNOWN_COLOR, np.uint8), (IGNORE + 1, 1))
COLOR_TABLE[:FREE] = CLASS_COLORS[:FREE]
COLOR_TABLE[FREE] = FREE_COLOR

LEGEND = [(CLASS_NAMES[c], tuple(CLASS_COLORS[c].tolist())) for c in range(FREE)]
LEGEND += [("free", FREE_COLOR), ("unknown", UNKNOWN_COLOR), ("recording car", CAR_COLOR)]

# Length, width and height of the recording car (a Renault Zoe), and its rear and floor relative to the frame's origin:
# "ego" lies under the rear axle, the LiDAR 0.94 m ahead of it and 1.84 m above the ground.
_CAR_SIZE_M = (4.1, 1.7, 1.6)
_CAR_REAR_M = {"ego": -1.0, "lidar": -1.94}
_CAR_FLOOR_M = {"ego": 0.0, "lidar": -1.84}


def forward_up(values: np.ndarray, frame: str) -> np.ndarray:
    """A map [X, Y, ...] as an image [rows, columns, ...] with forward up and right to the right."""
    if frame == "lidar":  # x right, y forward
        return np.swapaxes(values, 0, 1)[::-1]
    return values[::-1, ::-1]  # x forward, y left


def grid_from_car(frame: str) -> np.ndarray:
    """[3, 3] from (forward, left, up) to the frame's axes."""
    if frame == "lidar":
        return np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    return np.eye(3)


def car_box_m(frame: str) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corner [3] of the recording car as (forward, left, up), metres from the frame's origin."""
    length, width, height = _CAR_SIZE_M
    rear, floor = _CAR_REAR_M[frame], _CAR_FLOOR_M[frame]
    return np.array([rear, -width / 2, floor]), np.array([rear + length, width / 2, floor + height])


def pixel_from_forward_left(grid: VoxelGrid, forward_m: float, left_m: float, scale: int) -> tuple[float, float]:
    """Pixel (column, row) in `forward_up` of a point of the car's plane, `scale` pixels a voxel."""
    x, y, _ = grid_from_car(grid.frame) @ (forward_m, left_m, 0.0)
    across = (x - grid.lower_m[0]) if grid.frame == "lidar" else (grid.upper_m[1] - y)
    down = (grid.upper_m[1] - y) if grid.frame == "lidar" else (grid.upper_m[0] - x)
    return across / grid.voxel_size_m * scale, down / grid.voxel_size_m * scale


def write(
    draw: ImageDraw.ImageDraw, position: tuple, text: str, *, size: int, color=TEXT_COLOR, outline: bool = False
) -> None:
    """Text with its upper left corner at `position`; outlined in black where the ground may be of any colour."""
    font = ImageFont.load_default(size)
    draw.text(position, text, fill=tuple(color), font=font, stroke_width=int(outline), stroke_fill=(0, 0, 0))


def write_legend(
    draw: ImageDraw.ImageDraw, entries: list[tuple[str, tuple]], *, left: int, top: int, right: int, size: int
) -> None:
    """Names beside patches of their colours, between left and right, in as many rows (1.9 times `size`) as it takes."""
    x, patch, font = left, round(1.2 * size), ImageFont.load_default(size)
    for name, color in entries:
        width = round(1.7 * size) + int(draw.textlength(name, font=font)) + round(1.2 * size)
        if x + width > right:
            x, top = left, top + round(1.9 * size)
        draw.rectangle((x, top, x + patch, top + patch), fill=color, outline=(90, 90, 90))
        write(draw, (x + round(1.7 * size), top), name, size=size)
        x += width


def fitted(image: np.ndarray, width: int, height: int, aspect: float | None = None) -> np.ndarray:
    """A photograph, uint8 RGB [rows, columns, 3], as large as `width` by `height` pixels have room for.

    `aspect` is its width by its height as it was recorded, whatever it was squeezed to since; None = as it is.
    """
    rows, columns = image.shape[:2]
    aspect = aspect or columns / rows
    size = (max(1, round(min(width, height * aspect))), max(1, round(min(height, width / aspect))))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if columns > size[0] else cv2.INTER_LINEAR)


def page(width: int, height: int) -> Image.Image:
    """An empty RGB page of so many pixels."""
    return Image.new("RGB", (width, height), PAGE_COLOR)
