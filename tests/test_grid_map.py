"""Labels under crop and BEV augmentation: exact for flips and quarter turns, and consistent with point transforms."""

import numpy as np
import pytest

from occjax.config import AugmentConfig
from occjax.data.augment import sample_bev_augmentation
from occjax.grid import OCC3D_GRID, SURROUNDOCC_GRID, GridMismatchError, VoxelGrid
from occjax.grid_map import make_grid_map

GRID = VoxelGrid("lidar", (-4.0, -4.0, -1.0), 0.5, (16, 16, 6))
VALUES = np.random.default_rng(0).integers(0, 17, GRID.shape, np.uint8)
QUARTER_TURN = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # x to y, y to -x


@pytest.mark.parametrize(
    "matrix, expected",
    [
        (np.eye(3), VALUES),
        (np.diag([-1.0, 1, 1]), VALUES[::-1]),
        (np.diag([1.0, -1, 1]), VALUES[:, ::-1]),
        (np.diag([-1.0, -1, 1]), VALUES[::-1, ::-1]),
        (QUARTER_TURN, np.rot90(VALUES, 1, axes=(0, 1))),
    ],
)
def test_flips_and_quarter_turns_are_exact(matrix, expected):
    grid_map = make_grid_map(GRID, GRID, matrix)
    np.testing.assert_array_equal(grid_map.gather(VALUES, 255), expected)
    # The same columns serve BEV maps.
    np.testing.assert_array_equal(VALUES[:, :, 2].reshape(-1)[grid_map.columns], expected[:, :, 2])


def test_a_point_moves_as_its_voxel_does():
    matrix = sample_bev_augmentation(
        np.random.default_rng(5), AugmentConfig(bev_rotate_deg=40.0, bev_scale=(0.9, 1.1), bev_flip_y=True)
    )
    grid_map = make_grid_map(GRID, GRID, matrix)
    marked = np.zeros(GRID.shape, np.uint8)
    index = (10, 6, 2)
    marked[index] = 1
    where = np.argwhere(grid_map.gather(marked, 0) == 1)
    moved = matrix @ GRID.centers_m()[index]
    centers = GRID.centers_m()[tuple(where.T)]
    assert len(where) and np.abs(centers - moved).max() < GRID.voxel_size_m


def test_crop_is_a_slice_and_combines_with_augmentation():
    inner = VoxelGrid("lidar", (-2.0, -2.0, -1.0), 0.5, (8, 8, 4))
    cropped = VALUES[GRID.crop_slices(inner)]
    np.testing.assert_array_equal(make_grid_map(GRID, inner, np.eye(3)).gather(VALUES, 255), cropped)
    # The crop is symmetric about the origin, so that flipping commutes with cropping.
    flip = np.diag([-1.0, 1, 1])
    np.testing.assert_array_equal(make_grid_map(GRID, inner, flip).gather(VALUES, 255), cropped[::-1])
    # Turned by 45°, the corners of the crop still find voxels of the larger file grid.
    turn = np.array([[1, -1, 0], [1, 1, 0], [0, 0, np.sqrt(2)]]) / np.sqrt(2)
    assert make_grid_map(GRID, inner, turn).inside.all()
    assert not make_grid_map(GRID, GRID, turn).inside.all()


def test_outside_is_marked():
    grid_map = make_grid_map(GRID, GRID, np.diag([0.5, 0.5, 0.5]))
    found = grid_map.gather(VALUES, 255)
    inside = np.all(np.abs(GRID.centers_m()[..., :2]) < 2, axis=-1) & (GRID.centers_m()[..., 2] > -0.5)
    np.testing.assert_array_equal(found != 255, inside & (GRID.centers_m()[..., 2] < 1.0))
    assert grid_map.columns.dtype == grid_map.layers.dtype == np.int32
    assert np.all((grid_map.columns >= 0) == np.all(np.abs(GRID.centers_m()[:, :, 0, :2]) < 2, axis=-1))
    np.testing.assert_array_equal(grid_map.inside, found != 255)
    mask = grid_map.gather(np.ones(GRID.shape, bool), False)
    assert mask.dtype == bool and np.array_equal(mask, found != 255)


def test_grids_of_different_frames_do_not_mix():
    with pytest.raises(GridMismatchError, match="(?s)ego frame.*lidar frame"):
        make_grid_map(SURROUNDOCC_GRID, OCC3D_GRID, np.eye(3))


def test_sampled_matrices_stay_in_range():
    rng = np.random.default_rng(0)
    config = AugmentConfig(bev_rotate_deg=22.5, bev_scale=(0.95, 1.05), bev_flip_x=True, bev_flip_y=True)
    signs = set()
    for _ in range(64):
        matrix = sample_bev_augmentation(rng, config)
        scale = np.sqrt(abs(np.linalg.det(matrix[:2, :2])))
        assert 0.95 <= scale <= 1.05
        # Scenes grow and shrink on the ground alone.
        np.testing.assert_array_equal([*matrix[2], *matrix[:2, 2]], [0, 0, 1, 0, 0])
        flips = tuple(np.sign(np.diag(matrix)[:2]))
        signs.add(flips)
        rotation = np.diag(flips) @ matrix[:2, :2] / scale
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(2), atol=1e-12)
        assert abs(np.rad2deg(np.arctan2(rotation[1, 0], rotation[0, 0]))) <= 22.5
    assert len(signs) == 4
    np.testing.assert_array_equal(sample_bev_augmentation(rng, AugmentConfig()), np.eye(3))


def test_a_scaled_scene_keeps_its_layers():
    matrix = sample_bev_augmentation(np.random.default_rng(1), AugmentConfig(bev_scale=(1.3, 1.3)))
    # A class per layer, so that a voxel says which height it came from.
    layers = np.broadcast_to(np.arange(GRID.shape[2], dtype=np.uint8), GRID.shape)
    np.testing.assert_array_equal(make_grid_map(GRID, GRID, matrix).gather(layers, 255), layers)
