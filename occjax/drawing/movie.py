"""Film of a scene: one frame per keyframe, written as MP4 or GIF."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from occjax.drawing.cubes import render_voxels
from occjax.drawing.sheet import camera_order
from occjax.drawing.style import LEGEND, PAGE_COLOR, fitted, page, write, write_legend
from occjax.drawing.top_view import map_within, top_view
from occjax.errors import UserError
from occjax.grid import VoxelGrid
from occjax.storage import writing

FRAME_SIZE = (1280, 720)
# Pixels: between panels, height of the strip of cameras and of their names, largest map, height of the legend and its
# text.
_GAP = 8
_STRIP, _NAME = 124, 11
_MAP = 420
_LEGEND, _LEGEND_TEXT = 48, 12
SUFFIXES = (".mp4", ".gif")
_FRAMES_PER_S = 2.0  # nuScenes keyframes are half a second apart: a film runs as fast as the car drove
# Of cubes and hills, from where the light falls to the far side.
_SHADES = (0.86, 0.74, 0.6)
# In RGB: Pillow takes colours for one that differ by less than 4 in each channel.
_APART = 12
# A pattern that stands still from frame to frame, unlike an error that is carried on; in steps of the palette.
_BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
_DITHERED = 16.0


def draw_frame(
    images: np.ndarray,
    camera_names: tuple[str, ...],
    truth: np.ndarray | None,
    prediction: np.ndarray,
    grid: VoxelGrid,
    *,
    title: str,
    aspects: Sequence[float | None] | None = None,
) -> np.ndarray:
    """One frame: cameras in a strip, the prediction as cubes, top views of prediction and truth at its side, a legend.

    Args:
      images: uint8 RGB [N, H, W, 3].
      camera_names: channel of each image.
      truth: uint8 [X, Y, Z] classes, or None.
      prediction: uint8 [X, Y, Z] classes.
      grid: of both.
      title: shown in a corner.
      aspects: width by height of each image as it was recorded; None = as the arrays are.

    Returns:
      uint8 RGB [720, 1280, 3].
    """
    frame = page(*FRAME_SIZE)
    draw = ImageDraw.Draw(frame)
    width, height = FRAME_SIZE[0], FRAME_SIZE[1] - _LEGEND
    write_legend(draw, LEGEND, left=_GAP, top=height + 2, right=width - _GAP, size=_LEGEND_TEXT)
    order = camera_order(camera_names)
    cell = (width - _GAP * (len(order) + 1)) // max(len(order), 1)
    left = _GAP
    for i in order:
        picture = fitted(images[i], cell, _STRIP - _GAP, aspects[i] if aspects else None)
        frame.paste(Image.fromarray(picture), (left, _GAP))
        write(draw, (left + 4, _GAP + 2), camera_names[i], size=_NAME, color=(255, 255, 255), outline=True)
        left += picture.shape[1] + _GAP
    top = _STRIP + _GAP if order else _GAP
    maps = [(name, voxels) for name, voxels in (("prediction", prediction), ("truth", truth)) if voxels is not None]
    room = min(_MAP, (height - top) // len(maps) - 18 - _GAP)
    left = width - room - _GAP
    cubes_width = left - 2 * _GAP
    cubes = render_voxels(prediction, grid, width=cubes_width, height=height - top - _GAP)
    frame.paste(Image.fromarray(cubes), (_GAP, top))
    write(draw, (_GAP + 10, top + 8), title, size=16)
    for name, voxels in maps:
        view = map_within(lambda scale, v=voxels: top_view(v, grid, scale=scale), grid, room, room)
        write(draw, (left, top), f"{name} from above", size=13)
        frame.paste(Image.fromarray(view), (left, top + 18))
        top += room + 18 + _GAP
    return np.asarray(frame)


def write_movie(frames: Iterable[np.ndarray], path: Path) -> None:
    """Writes frames of one size, uint8 RGB [rows, columns, 3], through a temporary name.

    Args:
      frames: at least one.
      path: ends in .mp4 or .gif.

    Raises:
      UserError: another suffix, no frame, or OpenCV cannot encode MP4 here.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"a film is written as {' or '.join(SUFFIXES)}, not {path.name!r}")
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise UserError(f"no frame for {path}; a scene has at least one keyframe")
    with writing(path, suffix=path.suffix) as scratch:
        (_write_mp4 if path.suffix == ".mp4" else _write_gif)(first, frames, scratch)


def _write_mp4(first: np.ndarray, others: Iterable[np.ndarray], path: Path) -> None:
    """Frames [rows, columns, 3], one after the other as they are drawn."""
    size = (first.shape[1], first.shape[0])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), _FRAMES_PER_S, size)
    if not writer.isOpened():
        raise UserError("this build of OpenCV cannot encode MP4; write a .gif instead")
    for frame in itertools.chain([first], others):
        writer.write(frame[..., ::-1])  # OpenCV wants BGR
    writer.release()


def _write_gif(first: np.ndarray, others: Iterable[np.ndarray], path: Path) -> None:
    """Frames [rows, columns, 3] of one palette."""
    frames = [first, *others]  # some 40 keyframes a scene, 3 MB each: the palette has to see them all
    palette = _gif_palette(frames)
    start, *rest = (_in_palette(frame, palette) for frame in frames)
    start.save(path, save_all=True, append_images=rest, duration=round(1000 / _FRAMES_PER_S), loop=0)


def _in_palette(frame: np.ndarray, palette: Image.Image) -> Image.Image:
    """A frame [rows, columns, 3] in the palette's colours; what it has not is mixed from those next to it."""
    flat = Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
    rows, columns = frame.shape[:2]
    noise = np.tile(_BAYER, (-(-rows // 4), -(-columns // 4)))[:rows, :columns, None] / 15 - 0.5
    noisy = Image.fromarray((frame + _DITHERED * noise).clip(0, 255).astype(np.uint8))
    mixed = noisy.quantize(palette=palette, dither=Image.Dither.NONE)
    # Legend and flat areas stay as they are: of the haze and of photographs there is more than the palette has.
    is_near = np.abs(np.asarray(flat.convert("RGB")).astype(int) - frame).max(-1) <= 4
    indices = np.where(is_near, np.asarray(flat), np.asarray(mixed))
    picture = Image.fromarray(indices.astype(np.uint8), mode="P")
    picture.putpalette(palette.getpalette() or [])
    return picture


def _gif_palette(frames: list[np.ndarray]) -> Image.Image:
    """One palette for a film: the legend as it is, its shades, and by median cut what else the frames show.

    `frames` are uint8 RGB [rows, columns, 3].
    """
    exact = [PAGE_COLOR, *(color for _, color in LEGEND)]
    shades = np.multiply.outer(_SHADES, exact[1:]).reshape(-1, 3)
    sparse = np.concatenate([frame[::4, ::4].reshape(-1, 3) for frame in frames])
    cut = Image.fromarray(sparse[None]).quantize(256 - len(exact) - len(shades), method=Image.Quantize.MEDIANCUT)
    colors = [np.array(color, float) for color in exact]
    for color in (*shades, *np.reshape(cut.getpalette() or [], (-1, 3))):
        if np.linalg.norm(np.array(colors) - color, axis=1).min() > _APART:
            colors.append(color)
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.round(colors).astype(np.uint8).tobytes())
    return palette
