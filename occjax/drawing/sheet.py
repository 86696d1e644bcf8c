"""Page of one sample: cameras, truth, prediction, teacher, errors and legend."""

import cv2
import numpy as np
from PIL import Image, ImageDraw

from occjax.classes import IGNORE
from occjax.drawing.cubes import render_voxels
from occjax.drawing.style import LEGEND, page, write, write_legend
from occjax.drawing.top_view import ERROR_COLORS, error_view, top_view
from occjax.grid import VoxelGrid

_GAP = 16
_WIDTH = 1864  # three maps of 200 cells at three pixels a cell, or four at two
# Pixels: height of a panel's caption, of the legend, and of its text.
_CAPTION = 28
_LEGEND, _LEGEND_TEXT = 96, 16
# Where people expect the six nuScenes cameras: front row, rear row.
_CAMERA_ORDER = (
    "CAM_FRONT_LEFT",
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_BACK_LEFT",
    "CAM_BACK",
    "CAM_BACK_RIGHT",
)


def draw_sample(
    images: np.ndarray,
    camera_names: tuple[str, ...],
    truth: np.ndarray | None,
    prediction: np.ndarray,
    teacher: np.ndarray | None,
    grid: VoxelGrid,
    *,
    title: str = "",
    caption: str = "prediction",
    counted: np.ndarray | None = None,
) -> np.ndarray:
    """A page with the camera images, top views, error map, 3D views and a legend; forward is up in every map.

    Args:
      images: uint8 RGB [N, H, W, 3], any number; a missing camera is black.
      camera_names: channel of each image.
      truth: uint8 [X, Y, Z] classes, 255 unknown; None = no truth and no error map.
      prediction: uint8 [X, Y, Z] classes.
      teacher: uint8 [X, Y, Z] classes, or None.
      grid: that truth, prediction and teacher lie on.
      title: first line of the page.
      caption: of the prediction.
      counted: bool [X, Y, Z] voxels that the error map looks at; None = those whose truth is known.

    Returns:
      uint8 RGB [rows, columns, 3].
    """
    maps = [("truth", truth), (caption, prediction), ("teacher", teacher)]
    count = sum(voxels is not None for _, voxels in maps) + 1  # and the error map, or without truth the 3D view
    room = (_WIDTH - (count + 1) * _GAP) // count
    # Whole pixels a voxel, as many as fit; a tiny crop is not blown up beyond 600 pixels.
    scale = min(max(1, room // max(grid.shape[:2])), 600 // max(grid.shape[:2]) or 1)
    panels = [(name, _fit(top_view(voxels, grid, scale=scale), room)) for name, voxels in maps if voxels is not None]
    views = [(f"{name}, from behind and above", voxels) for name, voxels in maps[:2] if voxels is not None]
    if truth is None:
        view_width = _WIDTH - 2 * _GAP - sum(panel.shape[1] + _GAP for _, panel in panels)
        view_height = max(panel.shape[0] for _, panel in panels)
    else:
        counted = truth != IGNORE if counted is None else counted
        errors = error_view(truth, prediction, counted, grid, scale=scale)
        panels.append((f"errors of the {caption}", _fit(errors, room)))
        view_width = (_WIDTH - (len(views) + 1) * _GAP) // len(views)
        view_height = min(view_width * 9 // 16, 480)
    rendered = [(name, render_voxels(voxels, grid, width=view_width, height=view_height)) for name, voxels in views]
    rows = [*_camera_rows(images, camera_names), *([panels + rendered] if truth is None else [panels, rendered])]
    heights = [max(picture.shape[0] for _, picture in row) + _CAPTION + _GAP // 2 for row in rows]
    sheet = page(_WIDTH, 60 + sum(heights) + _LEGEND)
    draw = ImageDraw.Draw(sheet)
    write(draw, (_GAP, 8), title or "sample", size=22)
    # Pillow's own font has no multiplication sign.
    write(draw, (_GAP, 34), f"grid: {grid}".replace("×", "x"), size=16)
    top = 64
    for row, height in zip(rows, heights, strict=True):
        left = _GAP
        # Panels that do not fill the row are spread over it.
        spare = _WIDTH - _GAP - sum(picture.shape[1] for _, picture in row)
        for name, picture in row:
            write(draw, (left, top), name, size=18)
            sheet.paste(Image.fromarray(picture), (left, top + _CAPTION - 2))
            left += picture.shape[1] + spare // len(row)
        top += height
    errors_legend = [] if truth is None else [(f"error map: {name}", color) for name, color in ERROR_COLORS.items()]
    write_legend(draw, LEGEND + errors_legend, left=_GAP, top=top, right=_WIDTH - _GAP, size=_LEGEND_TEXT)
    return np.asarray(sheet)


def camera_order(names: tuple[str, ...]) -> list[int]:
    """Positions of the cameras in reading order: nuScenes' six as they look around the car, others as given."""
    if set(names) == set(_CAMERA_ORDER):
        return [names.index(name) for name in _CAMERA_ORDER]
    return list(range(len(names)))


def _camera_rows(images: np.ndarray, names: tuple[str, ...]) -> list[list[tuple[str, np.ndarray]]]:
    """Names and pictures, uint8 RGB [rows, columns, 3], of images [N, H, W, 3], row by row of the page."""
    columns = min(3, len(names)) or 1
    width = min((_WIDTH - (columns + 1) * _GAP) // columns, 720)
    cells = []
    for i in camera_order(names):
        height, full_width = images[i].shape[:2]
        # 16:9, as recorded, whatever the network's input was squeezed to.
        size = (width, width * 9 // 16)
        shrink = cv2.INTER_AREA if full_width > width else cv2.INTER_LINEAR
        cells.append((names[i], cv2.resize(images[i], size, interpolation=shrink)))
    return [cells[i : i + columns] for i in range(0, len(cells), columns)]


def _fit(view: np.ndarray, room: int) -> np.ndarray:
    """The map, uint8 RGB [rows, columns, 3], shrunk to at most `room` pixels."""
    factor = room / max(view.shape[:2])
    return view if factor >= 1 else cv2.resize(view, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
