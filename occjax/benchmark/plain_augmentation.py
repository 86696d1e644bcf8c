"""Geometric augmentation as the plain path does it: images by Pillow, dense voxel arrays by an index per voxel."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from occjax.config import Config
from occjax.data.augment import sample_bev_augmentation, sample_image_augmentation
from occjax.grid import VoxelGrid


class PlainAugmentation(NamedTuple):
    """One sample's draw, the same as ours makes of the same random numbers.

    Attributes:
      images: by camera, float [3, 3] of network-input pixels.
      augmented_from_grid: float [3, 3] of points in the grid's frame.
    """

    images: list[np.ndarray]
    augmented_from_grid: np.ndarray


def draw_augmentation(rng: np.random.Generator, config: Config) -> PlainAugmentation:
    """What our reader draws from the same random numbers."""
    size = {"width": config.data.image_width, "height": config.data.image_height}
    images = [sample_image_augmentation(rng, config.augment, **size) for _ in config.data.cameras]
    return PlainAugmentation(images, sample_bev_augmentation(rng, config.augment))


def warp_image(image: UInt8[np.ndarray, "h w 3"], matrix: Float[np.ndarray, "3 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The image moved by a matrix, bilinearly; black outside."""
    # Pillow asks where an output pixel comes from, not where an input pixel goes.
    inverse = np.linalg.inv(matrix)[:2].reshape(-1).tolist()
    size = (image.shape[1], image.shape[0])
    moved = Image.fromarray(image).transform(size, Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR)
    return np.asarray(moved)


class PlainVoxelIndex:
    """Index of the nearest voxel of `file_grid` for every voxel of `grid` under a BEV augmentation."""

    def __init__(self, file_grid: VoxelGrid, grid: VoxelGrid, augmented_from_grid: np.ndarray):
        # An index per voxel: simple, and several times the work of our two small maps.
        points = grid.centers_m() @ np.linalg.inv(augmented_from_grid).T.astype(np.float32)
        index, self._inside = file_grid.indices_from_points(points)
        self._index = np.moveaxis(np.clip(index, 0, np.array(file_grid.shape) - 1), -1, 0)

    def move(self, values: np.ndarray, outside: int | float) -> np.ndarray:
        """Values [..., X, Y, Z] of the file's grid on the model's grid."""
        x, y, z = self._index
        return np.where(self._inside, values[..., x, y, z], values.dtype.type(outside))
