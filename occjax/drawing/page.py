"""Page that turns: one HTML file with voxels in WebGL2, which opens from disk and needs no network.

What is in it, `page_assets/`, is put together here: the template, its style, its script (a file per stage, in the order
of `_SCRIPTS`), and the frames as JSON.
"""

import html
import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

import numpy as np

from occjax.classes import CLASS_COLORS, CLASS_NAMES, FREE
from occjax.drawing.page_frame import PROBABILITY_LEVELS, PackedFrame
from occjax.drawing.sheet import camera_order
from occjax.drawing.style import CAR_COLOR, car_box_m, grid_from_car
from occjax.drawing.top_view import ERROR_COLORS
from occjax.errors import UserError
from occjax.grid import VoxelGrid
from occjax.storage import writing

# Six seconds of driving; more make a page that is slow to send.
MOST_FRAMES = 12
# As they are read: what a file uses stands in one before it.
_SCRIPTS = ("decode.js", "faces.js", "camera.js", "renderer.js", "pick.js", "page.js")


def write_page(
    path: Path, frames: Iterable[PackedFrame], grid: VoxelGrid, *, title: str, camera_names: tuple[str, ...] = ()
) -> Path:
    """Writes the page, whole or not at all.

    Args:
      path: the file.
      frames: in the order of the time slider, all with the same panels.
      grid: of the frames.
      title: heading of the page.
      camera_names: of the frames' images, as they were given to `pack_frame`.

    Returns:
      `path`.

    Raises:
      UserError: there is no frame, or the file cannot be written.
    """
    text = page_of(list(frames), grid, title=title, camera_names=camera_names)
    try:
        with writing(path) as scratch:
            scratch.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); name a file in a folder that you may write to with --output"
        ) from error
    return path


def page_of(frames: list[PackedFrame], grid: VoxelGrid, *, title: str, camera_names: tuple[str, ...] = ()) -> str:
    """The text of the page; arguments as for `write_page`."""
    if not frames:
        raise UserError("a page needs at least one frame; name samples with --tokens or a scene with --scene")
    if any(frame.panels != frames[0].panels for frame in frames):
        raise ValueError("all frames of a page show the same panels")
    scene = {
        "grid": _car_grid(grid),
        "panels": frames[0].panels,
        "levels": PROBABILITY_LEVELS,
        "free": FREE,
        "names": [name.replace("_", " ") for name in CLASS_NAMES],
        "colors": CLASS_COLORS.tolist(),
        "classes": sorted(set().union(*(frame.classes for frame in frames))),
        "errors": [{"name": name, "color": list(color)} for name, color in ERROR_COLORS.items()],
        "car": {"color": list(CAR_COLOR), "box": [corner.tolist() for corner in car_box_m(grid.frame)]},
        "cameras": [camera_names[i] for i in camera_order(camera_names)],
        "frames": [{"title": frame.title, "voxels": frame.voxels, "images": frame.images} for frame in frames],
    }
    # Inside of a script element nothing but "<" can end it; in JSON it may be spelt so.
    data = json.dumps(scene, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "title": html.escape(title),
        "style": _asset("page.css"),
        "script": "\n".join(_asset(name) for name in _SCRIPTS),
        "scene": data,
    }
    # Split, not replaced one after the other: a title may hold what looks like a mark.
    pieces = _asset("page.html").split("{{")
    return pieces[0] + "".join(parts[name] + rest for name, rest in (piece.split("}}", 1) for piece in pieces[1:]))


def _car_grid(grid: VoxelGrid) -> dict:
    """Lower corner and shape along (forward, left, up), as `page_frame.in_car_axes` turns the voxels."""
    car_from_grid = grid_from_car(grid.frame).T
    corners = np.stack([car_from_grid @ grid.lower_m, car_from_grid @ grid.upper_m])
    shape = np.abs(car_from_grid) @ grid.shape
    return {"lower": corners.min(0).tolist(), "size": grid.voxel_size_m, "shape": shape.astype(int).tolist()}


def _asset(name: str) -> str:
    return (files("occjax.drawing") / "page_assets" / name).read_text(encoding="utf-8")
