"""Augmentation of images and grid, at random: matrices that images, rig, depth, labels and teacher all follow."""

import numpy as np
from jaxtyping import Float

from occjax.config import AugmentConfig


def augments_bev(config: AugmentConfig) -> bool:
    """Whether any BEV augmentation is configured."""
    return bool(
        config.bev_rotate_deg or tuple(config.bev_scale) != (1.0, 1.0) or config.bev_flip_x or config.bev_flip_y
    )


def plain_resize(recorded_size, input_size) -> Float[np.ndarray, "3 3"]:
    """`input_from_pixel` that stretches a whole recorded image (width, height) over the network input."""
    return np.diag([input_size[0] / recorded_size[0], input_size[1] / recorded_size[1], 1.0])


def sample_image_augmentation(
    rng: np.random.Generator, config: AugmentConfig, *, width: int, height: int
) -> Float[np.ndarray, "3 3"]:
    """One camera's augmentation of the resized image, in network-input pixels (centres at half-integers).

    In order: scale; cut a window of the input's size at a random place (inside where the image is larger, around it
    where it is smaller); flip left to right; rotate about the centre.
    """
    scale = _uniform(rng, config.image_scale)
    window = (scale - 1) * np.array([width, height]) * rng.uniform(size=2)
    flip = config.image_flip and rng.uniform() < 0.5
    rotate = _rotation(rng, config.image_rotate_deg)

    cut = np.diag([scale, scale, 1.0])
    cut[:2, 2] = -window
    mirror = np.array([[-1.0, 0, width], [0, 1, 0], [0, 0, 1]]) if flip else np.eye(3)
    # About the centre: about the corner, a rotation would mostly push the image out.
    center = np.array([width, height]) / 2
    rotate[:2, 2] = center - rotate[:2, :2] @ center
    return rotate @ mirror @ cut


def sample_bev_augmentation(rng: np.random.Generator, config: AugmentConfig) -> Float[np.ndarray, "3 3"]:
    """`augmented_from_grid` [3, 3] for points in the grid's frame: rotate about z, scale and flip x and y."""
    # The order of the draws is a contract: a resumed run has to draw what it would have drawn.
    rotate = _rotation(rng, config.bev_rotate_deg)
    scale = _uniform(rng, config.bev_scale)
    flip_x = config.bev_flip_x and rng.uniform() < 0.5
    flip_y = config.bev_flip_y and rng.uniform() < 0.5
    # Heights stay: the lift does not look at them, so that labels moved up or down would part from their features.
    return np.diag([-scale if flip_x else scale, -scale if flip_y else scale, 1.0]) @ rotate


def _uniform(rng: np.random.Generator, limits: tuple[float, ...]) -> float:
    # In a configuration a range is a tuple of any length as far as types go.
    low, high = limits
    return rng.uniform(low, high)


def _rotation(rng: np.random.Generator, limit_deg: float) -> Float[np.ndarray, "3 3"]:
    angle = np.deg2rad(rng.uniform(-1, 1) * limit_deg)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
