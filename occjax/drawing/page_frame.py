"""Frames of the page: what one sample shows in a browser, packed so that deflate finds little left to do.

The bytes of a frame, deflated (zlib) together; `page_assets/decode.js` reads them. Axes are the car's, (forward, left,
up) whatever the grid's frame, and voxels go column by column with height fastest:

1. truth, prediction, teacher, those that are there: a bit a voxel that says which are occupied (byte b of a column has
   heights 8b to 8b + 7, lowest bit first; all bytes 0, then all bytes 1); then the class of each occupied voxel; then,
   where there are probabilities, the level of each (`PROBABILITY_LEVELS`), a byte each.
2. with a truth: a bit for each voxel that truth or prediction occupies, whether it counts, lowest bit first.
"""

import base64
import io
import itertools
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from occjax.classes import FREE, IGNORE
from occjax.drawing.sheet import camera_order
from occjax.drawing.style import fitted

# Four bits a voxel: an error of 3 % at most, which no eye minds, and half of what eight would take.
PROBABILITY_LEVELS = 16
# Of a camera image: 12 frames of six then add at most 0.7 MB.
_IMAGE_BYTES = 7000
_IMAGE_SIZES = ((320, 240), (200, 150), (120, 90), (60, 45))
_IMAGE_QUALITIES = (75, 60, 45, 30, 15)


class FrameVolume(NamedTuple):
    """Classes of one panel.

    Attributes:
      classes: uint8 [X, Y, Z]; 255 is unknown and not drawn.
      probability: that of its class, float [X, Y, Z] of 0 to 1, or None where nobody knows it.
    """

    classes: np.ndarray
    probability: np.ndarray | None = None


class SceneFrame(NamedTuple):
    """One sample as the page shows it; volumes on the page's grid.

    Attributes:
      title: scene, frame and token.
      images: uint8 RGB [N, H, W, 3].
      prediction: what the model says.
      truth: or None.
      teacher: or None.
      counted: bool [X, Y, Z] voxels that the protocol counts; None = those whose truth is known.
      aspects: width by height of each image as it was recorded; None = as the arrays are.
    """

    title: str
    images: np.ndarray
    prediction: FrameVolume
    truth: FrameVolume | None = None
    teacher: FrameVolume | None = None
    counted: np.ndarray | None = None
    aspects: Sequence[float | None] | None = None


class PackedFrame(NamedTuple):
    """A frame as the page holds it: `voxels` and `images` are base64 of deflated bytes and of WebP files.

    Attributes:
      title: of the frame.
      panels: names of the volumes, in order, and whether each has probabilities.
      voxels: of all of them.
      images: a file per camera, in the order in which they are shown.
      classes: those that occur.
    """

    title: str
    panels: dict[str, bool]
    voxels: str
    images: list[str]
    classes: set[int]


def pack_frame(frame: SceneFrame, camera_names: tuple[str, ...], frame_of_grid: str) -> PackedFrame:
    """Packs a frame.

    Args:
      frame: on a grid in the frame `frame_of_grid`, "lidar" or "ego".
      camera_names: of its images.
      frame_of_grid: tells where forward is.
    """
    volumes = {"truth": frame.truth, "prediction": frame.prediction, "teacher": frame.teacher}
    there = {name: volume for name, volume in volumes.items() if volume is not None}
    parts, classes = [], set()
    for volume in there.values():
        values = in_car_axes(volume.classes, frame_of_grid)
        occupied = is_occupied(values)
        parts += [_column_bits(occupied), values[occupied].tobytes()]
        classes.update(np.unique(values[occupied]).tolist())
        if volume.probability is not None:
            parts.append(_levels(in_car_axes(volume.probability, frame_of_grid)[occupied]).tobytes())
    if frame.truth is not None:
        counted = frame.truth.classes != IGNORE if frame.counted is None else frame.counted
        either = is_occupied(frame.truth.classes) | is_occupied(frame.prediction.classes)
        of_either = in_car_axes(counted, frame_of_grid)[in_car_axes(either, frame_of_grid)]
        parts.append(np.packbits(of_either, bitorder="little").tobytes())
    return PackedFrame(
        title=frame.title,
        panels={name: volume.probability is not None for name, volume in there.items()},
        voxels=_base64(zlib.compress(b"".join(parts), 9)),
        images=[
            _base64(_small_image(frame.images[i], frame.aspects[i] if frame.aspects else None))
            for i in camera_order(camera_names)
        ],
        classes=classes,
    )


def in_car_axes(values: np.ndarray, frame: str) -> np.ndarray:
    """[X, Y, Z] of a grid in `frame` as [forward, left, up]."""
    if frame == "lidar":  # x right, y forward
        return np.swapaxes(values, 0, 1)[:, ::-1]
    return values


def is_occupied(classes: UInt8[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """Voxels that are drawn: neither free nor unknown."""
    return (classes != FREE) & (classes != IGNORE)


def _column_bits(occupied: Bool[np.ndarray, "x y z"]) -> bytes:
    # Plane by plane: the lower half of a street's columns is full, the upper one empty.
    return np.moveaxis(np.packbits(occupied, axis=-1, bitorder="little"), -1, 0).tobytes()


def _levels(probability: Float[np.ndarray, "n"]) -> UInt8[np.ndarray, "n"]:
    return np.round(probability.astype(np.float32) * (PROBABILITY_LEVELS - 1)).astype(np.uint8)


def _small_image(image: UInt8[np.ndarray, "h w 3"], aspect: float | None) -> bytes:
    """A WebP file of at most `_IMAGE_BYTES`."""
    data = b""
    # A street at noon takes twice the bytes of one at night; what is nothing but noise has to be smaller, too.
    for size, quality in itertools.product(_IMAGE_SIZES, _IMAGE_QUALITIES):
        file = io.BytesIO()
        Image.fromarray(fitted(image, *size, aspect)).save(file, "WEBP", quality=quality)
        data = file.getvalue()
        if len(data) <= _IMAGE_BYTES:
            break
    return data


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
