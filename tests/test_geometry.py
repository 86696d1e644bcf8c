"""Rigid transforms against points moved by hand, and grids against voxels counted by hand."""

import numpy as np
import pytest

from occjax.geometry import invert_rigid, rotation_from_quaternion, transform_from_pose, transform_points
from occjax.grid import VoxelGrid, resample_labels

GRID = VoxelGrid("lidar", (-1.0, 0.0, 2.0), 0.5, (4, 2, 3))


def turned_about(axis, angle_rad, points):
    """Rodrigues' formula for points [n, 3] and a unit axis."""
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    along = np.outer(points @ axis, axis)
    return points * cos + np.cross(axis, points) * sin + along * (1 - cos)


@pytest.mark.parametrize("seed", range(4))
def test_quaternions_turn_about_their_axis_by_twice_the_half_angle(seed):
    rng = np.random.default_rng(seed)
    axis, points, angle_rad = rng.normal(size=3), rng.normal(size=(5, 3)), rng.uniform(-3, 3)
    axis /= np.linalg.norm(axis)
    wxyz = np.array([np.cos(angle_rad / 2), *(axis * np.sin(angle_rad / 2))])
    # Of any length: tables round them.
    rotation = rotation_from_quaternion(3 * wxyz)
    np.testing.assert_allclose(points @ rotation.T, turned_about(axis, angle_rad, points), atol=1e-12)


def test_a_pose_takes_points_to_the_parent_and_its_inverse_back():
    # A quarter turn to the left, then 10 m along x: what lies 1 m ahead of the child lies at (10, 1, 0).
    parent_from_child = transform_from_pose((np.sqrt(0.5), 0, 0, np.sqrt(0.5)), (10, 0, 0))
    np.testing.assert_allclose(transform_points(parent_from_child, np.array([[1.0, 0, 0]])), [[10, 1, 0]], atol=1e-12)
    child_from_parent = invert_rigid(parent_from_child)
    np.testing.assert_allclose(transform_points(child_from_parent, np.array([[10.0, 1, 0]])), [[1, 0, 0]], atol=1e-12)
    np.testing.assert_array_equal(invert_rigid(np.stack([parent_from_child] * 2))[1], child_from_parent)


def test_a_quaternion_of_length_zero_is_refused():
    with pytest.raises(ValueError, match="non-zero length"):
        rotation_from_quaternion([0, 0, 0, 0])


def test_a_voxel_owns_its_lower_border_and_not_its_upper_one():
    points = np.array([[-1.0, 0.0, 2.0], [-0.51, 0.49, 2.5], [1.0, 0.5, 2.0], [0.99, 0.99, 3.49], [0.0, -0.01, 3.0]])
    index, inside = GRID.indices_from_points(points)
    assert inside.tolist() == [True, True, False, True, False]
    assert index[inside].tolist() == [[0, 0, 0], [0, 0, 1], [3, 1, 2]]


def test_centres_lie_half_a_voxel_from_the_corner():
    centers = GRID.centers_m()
    np.testing.assert_allclose(centers[0, 0, 0], [-0.75, 0.25, 2.25])
    np.testing.assert_allclose(centers[3, 1, 2], [0.75, 0.75, 3.25])
    assert GRID.upper_m == (1.0, 1.0, 3.5)


def test_a_crop_starts_on_a_voxel_and_ends_inside():
    crop = VoxelGrid("lidar", (-0.5, 0.0, 2.5), 0.5, (3, 2, 2))
    assert GRID.crop_slices(crop) == (slice(1, 4), slice(0, 2), slice(1, 3))
    for lower_x_m, size_x in ((-0.75, 2), (-0.5, 4), (-1.5, 2)):
        assert not GRID.contains(VoxelGrid("lidar", (lower_x_m, 0.0, 2.0), 0.5, (size_x, 2, 2)))


def test_labels_are_resampled_at_the_centres_of_the_other_grid():
    # The other grid's x is this grid's y, its y is minus this grid's x: a quarter turn.
    src = VoxelGrid("ego", (-1.0, -1.0, 0.0), 1.0, (2, 2, 1))
    labels = np.uint8([[[1], [2]], [[3], [4]]])
    src_from_dst = transform_from_pose((np.sqrt(0.5), 0, 0, np.sqrt(0.5)), (0, 0, 0))
    dst = VoxelGrid("lidar", (-1.0, -2.0, 0.0), 1.0, (2, 3, 1))
    found = resample_labels(labels, src, dst, src_from_dst, outside=9)
    # (x, y) of dst lies at (-y, x) of src: (-0.5, -1.5) at (1.5, -0.5), outside; (-0.5, -0.5) at (0.5, -0.5), label 3.
    assert found[..., 0].tolist() == [[9, 3, 1], [9, 4, 2]]
