"""What augmentation draws: every range is used on both sides, flips by half, and nothing that is switched off."""

import numpy as np

from occjax.config import AugmentConfig
from occjax.data.augment import augments_bev, sample_bev_augmentation, sample_image_augmentation

DRAWS = 200
# Of 200 fair coins, between 70 and 130 fall on one side but for once in 60,000 times.
HALF = range(70, 131)


def draw_images(seed=0, **ranges):
    rng, config = np.random.default_rng(seed), AugmentConfig(**ranges)
    return np.stack([sample_image_augmentation(rng, config, width=64, height=32) for _ in range(DRAWS)])


def draw_bev(seed=0, **ranges):
    rng, config = np.random.default_rng(seed), AugmentConfig(**ranges)
    return np.stack([sample_bev_augmentation(rng, config) for _ in range(DRAWS)])


def test_half_of_the_images_are_mirrored_left_to_right():
    mirror = np.array([[-1.0, 0, 64], [0, 1, 0], [0, 0, 1]])
    matrices = draw_images(image_flip=True)
    is_mirrored = (matrices == mirror).all((1, 2))
    assert is_mirrored.sum() in HALF and (matrices[~is_mirrored] == np.eye(3)).all()


def test_images_are_scaled_turned_and_cut_over_their_whole_ranges():
    matrices = draw_images(image_scale=(0.9, 1.3), image_rotate_deg=10.0)
    scale = np.sqrt(np.linalg.det(matrices[:, :2, :2]))
    angle_deg = np.rad2deg(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert 0.9 <= scale.min() < 0.92 and 1.28 < scale.max() <= 1.3
    assert -10 <= angle_deg.min() < -9 and 9 < angle_deg.max() <= 10
    # Cut at a random place: the centre of a larger image moves by up to half of what is over, either way.
    centers = draw_images(image_scale=(1.5, 1.5)) @ [32, 16, 1]
    moved = (centers[:, :2] - [32, 16]) / [64, 32]
    assert (moved.min(0) < -0.2).all() and (moved.max(0) > 0.2).all() and np.abs(moved).max() <= 0.25


def test_half_of_the_scenes_are_mirrored_along_each_axis():
    matrices = draw_bev(bev_flip_x=True, bev_flip_y=True)
    assert (matrices[:, 0, 0] < 0).sum() in HALF and (matrices[:, 1, 1] < 0).sum() in HALF
    # One does not follow the other.
    assert (matrices[:, 0, 0] * matrices[:, 1, 1] < 0).sum() in HALF
    assert (draw_bev(bev_flip_x=True)[:, 1, 1] > 0).all() and (draw_bev(bev_flip_y=True)[:, 0, 0] > 0).all()


def test_scenes_are_turned_and_scaled_over_their_whole_ranges():
    matrices = draw_bev(bev_rotate_deg=22.5, bev_scale=(0.95, 1.05))
    scale = np.sqrt(np.linalg.det(matrices[:, :2, :2]))
    angle_deg = np.rad2deg(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert 0.95 <= scale.min() < 0.955 and 1.045 < scale.max() <= 1.05
    assert -22.5 <= angle_deg.min() < -20 and 20 < angle_deg.max() <= 22.5
    # Heights stay what they are.
    assert (matrices[:, 2] == [0, 0, 1]).all() and (matrices[:, :2, 2] == 0).all()


def test_any_one_of_the_ranges_switches_the_augmentation_of_the_scene_on():
    assert not augments_bev(AugmentConfig(image_flip=True, image_rotate_deg=5.0, image_scale=(0.9, 1.1)))
    for ranges in ({"bev_rotate_deg": 5.0}, {"bev_scale": (1.0, 1.1)}, {"bev_flip_x": True}, {"bev_flip_y": True}):
        assert augments_bev(AugmentConfig(**ranges))
