"""Images of one frame, as people have them, become the network's input, exactly as evaluation's do."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from occjax.data.augment import plain_resize
from occjax.data.image_bytes import declared_size
from occjax.data.images import decode_image, draw_image, draw_pixels
from occjax.errors import DataError, UserError
from occjax.predict.lens import CalibrationError, require_size
from occjax.predict.rig import Rig
from occjax.types import CameraRig

# Pixels uint8 [H, W, 3] RGB, a file, or its bytes; None = this camera is missing.
AnyImage = np.ndarray | str | Path | bytes | None
Images = Mapping[str, AnyImage] | Sequence[AnyImage] | np.ndarray


class ImageError(UserError):
    """Images that are absent, unreadable, or not those that the calibration is of."""


class NetworkInput(NamedTuple):
    """One frame, ready for the network.

    Attributes:
      images: uint8 [1, N, H, W, 3] RGB at network-input size; black where a camera is missing.
      rig: of these images, likewise with a batch axis.
    """

    images: UInt8[np.ndarray, "1 n h w 3"]
    rig: CameraRig


def prepare(images: Images, rig: Rig, input_size: tuple[int, int]) -> NetworkInput:
    """Network input of one frame.

    A file (its path or bytes) is decoded as in evaluation, at a reduced size where the input allows it, so that the
    input is evaluation's bit for bit. An array is decoded already: it is resized from its full size.

    Args:
      images: uint8 RGB arrays [h, w, 3], paths or bytes of image files; by camera name, or in the order of the rig's
        cameras. A camera that is absent or None is missing.
      rig: of the cameras.
      input_size: (width, height) of the network's input.

    Raises:
      ImageError: no image, unknown cameras, or one that is no image or of another size than its calibration.
    """
    by_camera = _by_camera(images, rig)
    width, height = input_size
    drawn = np.zeros((1, len(rig.cameras), height, width, 3), np.uint8)
    # Of a missing camera any size serves where none is known: it puts nothing on the grid.
    unknown = np.tile(np.array(input_size, np.int32), (len(rig.cameras), 1))
    sizes = unknown if rig.sizes is None else rig.sizes.copy()
    is_present = np.zeros(len(rig.cameras), bool)
    for camera, name in enumerate(rig.cameras):
        image = by_camera.get(name)
        if image is None:
            continue
        sizes[camera] = _draw(name, image, rig, camera, drawn[0, camera])
        is_present[camera] = True
    return NetworkInput(drawn, rig.to_input(sizes, is_present, input_size))


def _by_camera(images: Images, rig: Rig) -> dict[str, AnyImage]:
    """Images by camera name."""
    if isinstance(images, Mapping):
        unknown = [str(name) for name in images if name not in rig.cameras]
        if unknown:
            raise ImageError(
                f"images of {', '.join(unknown)}, which the rig lacks; its cameras are {', '.join(rig.cameras)}"
            )
        found = dict(images)
    elif isinstance(images, str | Path | bytes) or (isinstance(images, np.ndarray) and images.ndim != 4):
        raise ImageError(
            "a frame is an image for each camera: a dict by camera name, a list in the order of the rig's cameras, or "
            f"one uint8 array [N, H, W, 3]; found {_described(images)}"
        )
    else:
        if len(images) != len(rig.cameras):
            raise ImageError(
                f"{len(images)} images for the {len(rig.cameras)} cameras of the rig, {', '.join(rig.cameras)}; give "
                "one for each, None for one that is missing, or a dict by camera name"
            )
        found = dict(zip(rig.cameras, images, strict=True))
    if all(image is None for image in found.values()):
        raise ImageError(f"no image: give that of at least one camera of {', '.join(rig.cameras)}")
    return found


def _draw(name: str, image: AnyImage, rig: Rig, camera: int, out: UInt8[np.ndarray, "h w 3"]) -> np.ndarray:
    """Draws one camera's image into `out`; returns the width and height that it was recorded with."""
    where, lens = name, rig.lenses[camera]
    if isinstance(image, str | Path):
        where = f"{name}, {image}"
        try:
            image = Path(image).read_bytes()
        except OSError as error:
            raise ImageError(f"cannot read the image of {where}: {error.strerror}; check the path") from error
    try:
        size = np.array(_size(image), np.int32)
        _require_size(name, size, rig, camera)
        matrix = plain_resize(size, (out.shape[1], out.shape[0]))
        if isinstance(image, bytes) and lens is None:
            draw_image(image, size, matrix, out)
            return size
        pixels = decode_image(image) if isinstance(image, bytes) else np.ascontiguousarray(image)
        draw_pixels(pixels if lens is None else lens.undistort(pixels), size, 1, matrix, out)
        return size
    except DataError as error:
        remedy = "; give a whole JPEG or PNG file" if isinstance(image, bytes) else ""
        raise ImageError(f"image of {where}: {error}{remedy}") from error
    except CalibrationError as error:
        raise ImageError(f"image of {where}: {error}") from error


def _size(image: Any) -> tuple[int, int]:
    """Width and height."""
    if isinstance(image, bytes):
        # As the pixels are stored: what EXIF says of their orientation is not applied.
        return declared_size(image)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"pixels must be a uint8 array [height, width, 3], RGB from 0 to 255, not {_described(image)}")
    return image.shape[1], image.shape[0]


def _require_size(name: str, size: np.ndarray, rig: Rig, camera: int) -> None:
    if rig.sizes is None:
        require_size(name, rig.pixel_from_cam[camera], size)
    elif tuple(size) != tuple(rig.sizes[camera]):
        wanted = "×".join(map(str, rig.sizes[camera]))
        raise CalibrationError(
            f"it is {size[0]}×{size[1]}, but its calibration is of {wanted}; bring the image to that size, or the "
            "calibration to the image's (fx, cx by the width, fy, cy by the height)"
        )


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {list(value.shape)}"
    return type(value).__name__
