"""Page of one sample: cameras, truth, prediction, teacher, errors and legend."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from PIL import Image, ImageDraw

from occjax.classes import IGNORE
from occjax.drawing.cubes import render_voxels
from occjax.drawing.style import LEGEND, fitted, page, write, write_legend
from occjax.drawing.top_view import ERROR_COLORS, error_view, map_within, top_view
from occjax.grid import VoxelGrid

_GAP = 16
_WIDTH = 1864  # three maps of 200 cells at three pixels a cell, or four at two
# Pixels: height of a panel's caption, of the legend, and of its text.
_CAPTION = 28
_LEGEND, _LEGEND_TEXT = 96, 16
_TALLEST = 600  # of a map: a tiny crop is not blown up beyond it
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
    aspects: Sequence[float | None] | None = None,
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
      aspects: width by height of each image as it was recorded; None = as the arrays are.

    Returns:
      uint8 RGB [rows, columns, 3].
    """
    maps = [("truth", truth), (caption, prediction), ("teacher", teacher)]
    count = sum(voxels is not None for _, voxels in maps) + 1  # and the error map, or without truth the 3D view
    room = (_WIDTH - (count + 1) * _GAP) // count
    panels = [
        (name, map_within(lambda scale, v=voxels: top_view(v, grid, scale=scale), grid, room, _TALLEST))
        for name, voxels in maps
        if voxels is not None
    ]
    views = [(f"{name}, from behind and above", voxels) for name, voxels in maps[:2] if voxels is not None]
    if truth is None:
        view_width = _WIDTH - 2 * _GAP - sum(panel.shape[1] + _GAP for _, panel in panels)
        view_height = max(panel.shape[0] for _, panel in panels)
    else:
        counted = truth != IGNORE if counted is None else counted
        draw_errors = partial(error_view, truth, prediction, counted, grid)
        errors = map_within(lambda scale: draw_errors(scale=scale), grid, room, _TALLEST)
        panels.append((f"errors of the {caption}", errors))
        view_width = (_WIDTH - (len(views) + 1) * _GAP) // len(views)
        view_height = min(view_width * 9 // 16, 480)
    rendered = [(name, render_voxels(voxels, grid, width=view_width, height=view_height)) for name, voxels in views]
    rows = [
        *_camera_rows(images, camera_names, aspects),
        *([panels + rendered] if truth is None else [panels, rendered]),
    ]
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


def _camera_rows(
    images: np.ndarray, names: tuple[str, ...], aspects: Sequence[float | None] | None
) -> list[list[tuple[str, np.ndarray]]]:
    """Names and pictures, uint8 RGB [rows, columns, 3], of images [N, H, W, 3], row by row of the page."""
    columns = min(3, len(names)) or 1
    width = min((_WIDTH - (columns + 1) * _GAP) // columns, 720)
    cells = [
        # Three quarters of the width for upright ones.
        (names[i], fitted(images[i], width, width * 3 // 4, aspects[i] if aspects else None))
        for i in camera_order(names)
    ]
    return [cells[i : i + columns] for i in range(0, len(cells), columns)]
