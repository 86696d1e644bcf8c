"""Preprocessing: six camera images as recorded become the teacher's input, and their matrices follow the crop."""

import numpy as np
from jaxtyping import Array, Float, UInt8

from occjax.models.preprocess import normalize_images

RECORDED_HEIGHT, RECORDED_WIDTH = 900, 1600
# Sky is cut off so that 32 divides the height; nothing is resized.
TOP_ROWS = 36
HEIGHT, WIDTH = RECORDED_HEIGHT - TOP_ROWS, RECORDED_WIDTH


def network_input(images: UInt8[Array, "n 900 1600 3"]) -> Float[Array, "n 864 1600 3"]:
    """Recorded RGB images, cropped and normalised."""
    return normalize_images(images[:, TOP_ROWS:])


def cropped_from_lidar(pixel_from_lidar: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "n 4 4"]:
    """Matrices of the cropped images from those of the recorded ones, float32.

    Args:
      pixel_from_lidar: homogeneous; rows 0 and 1 give pixels times depth, row 2 the depth in metres.
    """
    crop = np.eye(4)
    crop[1, 2] = -TOP_ROWS  # times depth, as are the pixels
    return (crop @ np.asarray(pixel_from_lidar, np.float64)).astype(np.float32)
