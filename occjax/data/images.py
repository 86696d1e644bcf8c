"""Camera images as uint8 RGB at network-input size: reduced decoding, then one resize or warp."""

import math

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from occjax.data.augment import plain_resize
from occjax.data.image_bytes import declared_size, require_complete
from occjax.errors import DataError

# JPEG decodes at 1/2, 1/4 or 1/8 of its size for a third of the time. Take the strongest reduction that leaves no more
# than this factor to enlarge again. From 1600×900 to 640×480 (1.07 from half size) the result is at 47.5 dB PSNR to a
# full decode with antialiased resize, and closer to it than a full decode with plain bilinear resize (43.9 dB).
MAX_ENLARGEMENT = 1.2
# The reduced grey flags, since the reduced colour flags mean BGR, which newer OpenCV refuses to combine with RGB.
_REDUCED = {
    1: 0,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


def reduction_for(size: Int[np.ndarray, "2"], input_from_pixel: Float[np.ndarray, "3 3"]) -> int:
    """Factor (1, 2, 4 or 8) by which decoding may shrink an image that `input_from_pixel` maps to the input.

    It divides width and height: a decoder rounds other sizes up, and pixels would no longer lie where the matrix says.
    """
    (a, b), (c, d) = input_from_pixel[:2, :2].tolist()
    scale = max(math.hypot(a, c), math.hypot(b, d))
    width, height = size.tolist()
    return next((r for r in (8, 4, 2) if r * scale <= MAX_ENLARGEMENT and not width % r and not height % r), 1)


def draw_image(
    data: bytes,
    size: Int[np.ndarray, "2"],
    input_from_pixel: Float[np.ndarray, "3 3"],
    out: UInt8[np.ndarray, "h w 3"],
) -> None:
    """Decodes an image and draws it into `out` as RGB through `input_from_pixel`; outside the image is black.

    Pixel centres lie at half-integers in both images. Where `input_from_pixel` only stretches the whole image over
    `out`, it is resized with antialiasing; otherwise it is warped bilinearly from the reduced image.

    Args:
      data: of a JPEG or PNG file.
      size: recorded width and height that the calibration belongs to, pixels.
      input_from_pixel: affine, recorded pixels to pixels of `out`.
      out: filled in place.

    Raises:
      DataError: the image cannot be decoded, is truncated, has a hole, or is of another size.
    """
    # Before it is decoded: a few bytes may declare gigabytes.
    declared = declared_size(data)
    if declared != tuple(size.tolist()):
        raise DataError(
            f"image is {declared[0]}×{declared[1]}, but the tables say {size[0]}×{size[1]}, and the intrinsics belong "
            "to that size"
        )
    reduction = reduction_for(size, input_from_pixel)
    image = decode_image(data, reduction)
    draw_pixels(image, size, reduction, input_from_pixel, out)


def draw_pixels(
    image: UInt8[np.ndarray, "h2 w2 3"],
    size: Int[np.ndarray, "2"],
    reduction: int,
    input_from_pixel: Float[np.ndarray, "3 3"],
    out: UInt8[np.ndarray, "h w 3"],
) -> None:
    """As `draw_image`, of an image that was decoded at 1/`reduction` of the recorded `size`."""
    # `out` is a part of the batch: drawing into it saves a copy of 5 MB per sample.
    height, width = out.shape[:2]
    stretch = plain_resize(size, (width, height))
    if np.abs(input_from_pixel - stretch).max() <= 1e-6:
        shrinks = stretch[:2, :2].max() * reduction <= 1
        # OpenCV's area mode shifts pixels where it has to enlarge.
        cv2.resize(image, (width, height), dst=out, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        return
    # OpenCV puts pixel centres at integers, and its warp has no antialiasing: the reduced decode is the low-pass.
    to_half, from_half = np.eye(3), np.eye(3)
    to_half[:2, 2], from_half[:2, 2] = 0.5, -0.5
    matrix = from_half @ input_from_pixel @ np.diag([reduction, reduction, 1.0]) @ to_half
    cv2.warpAffine(image, matrix[:2], (width, height), dst=out, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def decode_image(data: bytes, reduction: int = 1) -> UInt8[np.ndarray, "h w 3"]:
    """RGB pixels as they are stored, shrunk by `reduction`; raises DataError where there is no whole image."""
    # Orientation in EXIF is ignored: the intrinsics belong to the pixels as they are stored.
    flags = _REDUCED[reduction] | cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise DataError(f"OpenCV cannot decode it: {error.err}") from error
    if image is None:
        raise DataError("not an image that OpenCV can decode")
    require_complete(data, image)
    return image
